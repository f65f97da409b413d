//! Write seeds: `seeds DIRECTORY` all of them, a directory for each target; `seeds DIRECTORY committed` the few that are
//! committed in `rust/fuzz/seeds`.

use ferrows_fuzz::{TARGETS, seeds};
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (directory, chosen) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [directory] => (directory, seeds::all as fn(&str) -> _),
        [directory, "committed"] => (directory, seeds::committed as fn(&str) -> _),
        _ => panic!("usage: seeds DIRECTORY [committed]"),
    };
    for (target, _) in TARGETS {
        let directory = Path::new(directory).join(target);
        fs::create_dir_all(&directory)?;
        for (name, bytes) in chosen(target) {
            fs::write(directory.join(name), bytes)?;
        }
    }
    Ok(())
}
