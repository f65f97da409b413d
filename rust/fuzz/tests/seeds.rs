//! The targets on a stable compiler: over their seeds, and over mutations that a fixed number draws.
//!
//! `FUZZ_MUTATIONS` says how many for each target, `FUZZ_SEED` which.

use ferrows_fuzz::mutate::{Draw, mutated};
use ferrows_fuzz::{TARGETS, seeds};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::{env, fs};

fn directory(of: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of).join(target)
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(directory) else { return BTreeMap::new() };
    let paths = entries.map(|entry| entry.expect("readable").path());
    let name = |path: &Path| path.file_name().expect("a file").to_string_lossy().into_owned();
    paths.map(|path| (name(&path), fs::read(&path).expect("readable"))).collect()
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn run(name: &str, target: fn(&[u8]), what: &str, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        eprintln!("{name}, {what}: {bytes:02x?}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn the_committed_seeds_are_what_the_generator_makes() {
    for (name, _) in TARGETS {
        let made = seeds::committed(name);
        assert!(made.len() > 20, "{} seeds of {name}", made.len());
        assert!(files(&directory("seeds", name)) == made, "{name}: run `make fuzz-seeds` and commit what it changes");
    }
}

#[test]
fn every_seed_keeps_the_invariants() {
    for (name, target) in TARGETS {
        for (seed, bytes) in seeds::all(name) {
            run(name, target, &seed, &bytes);
        }
    }
}

/// What once broke an invariant is kept in `rust/fuzz/regressions`.
#[test]
fn what_once_was_found_stays_mended() {
    for (name, target) in TARGETS {
        for (file, bytes) in files(&directory("regressions", name)) {
            run(name, target, &file, &bytes);
        }
    }
}

#[test]
fn mutations_of_the_seeds_keep_the_invariants() {
    let (count, seed) = (number("FUZZ_MUTATIONS", 20_000), number("FUZZ_SEED", 20_261_121));
    for (name, target) in TARGETS {
        let seeds: Vec<_> = seeds::all(name).into_values().collect();
        let mut draw = Draw::new(seed);
        for round in 0..count {
            let bytes = mutated(&mut draw, &seeds);
            run(name, target, &format!("mutation {round} of FUZZ_SEED={seed}"), &bytes);
        }
    }
}
