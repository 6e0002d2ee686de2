//! The bare system calls, one measurement per run, the result as one line of JSON:
//!
//! | command | measures |
//! | --- | --- |
//! | `one-by-one` | atomic writes one after the other on this thread |
//! | `batch` | all files at once with as few syncs as can be |
//! | `wal` | batches appended one after the other, each synced, to space written before |
//! | `trip` | an empty trip to a thread and back |
//! | `hand-over` | a lock that two processes pass to each other |
//! | `sync` | nothing: syncs the file system, so that no measurement pays for another's dirty pages |
//! | `fill` | nothing: creates empty files |
//!
//! Arguments are `name=value`, see [`arguments`]. Each measurement is a module and a line
//! in `run`.

mod arguments;
mod batch;
mod fill;
mod hand_over;
mod one_by_one;
mod payload;
mod replace;
mod sync;
mod trip;
mod wal;

use std::process::ExitCode;

use arguments::Arguments;

/// The result of a command: its line of JSON, or what went wrong.
type Outcome = Result<String, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let arguments = Arguments::parse(words)?;
    match command.as_str() {
        "one-by-one" => one_by_one::run(&arguments),
        "batch" => batch::run(&arguments),
        "wal" => wal::run(&arguments),
        "trip" => trip::run(&arguments),
        "hand-over" => hand_over::run(&arguments),
        "sync" => sync::run(&arguments),
        "fill" => fill::run(&arguments),
        other => Err(format!("there is no command {other:?}").into()),
    }
}
