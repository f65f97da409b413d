//! `loadgen`: measure a WebSocket server and print the result as JSON.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use ferrows_loadgen::arguments::{Arguments, HELP};
use ferrows_loadgen::error::Error;
use ferrows_loadgen::scenario;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match Arguments::parse(arguments).and_then(|arguments| scenario::run(&arguments)) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::from(if matches!(error, Error::Usage(_)) { 2 } else { 1 })
        }
    }
}
