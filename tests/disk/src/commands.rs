//! The commands of the parent process on standard input, a line each.
//!
//! | line | answer |
//! | --- | --- |
//! | `record` | `ok`: the recording starts |
//! | `mark` | the number of events so far: what is durable now must survive a cut at this number |
//! | `cut <events> lost` | `ok`: the disk is as after a power cut at this number, with all unflushed pages lost |
//! | `cut <events> kept` | the same, with all unflushed pages kept |
//! | `cut <events> <seed>` | the same, with some of them kept |

use std::io::BufRead;

use crate::recorder::{Recorder, Unflushed};

/// Ends the process with its standard input.
pub fn await_end() {
    let _ = std::io::stdin().lock().lines().try_for_each(|line| line.map(drop));
    std::process::exit(1);
}

/// Carries out the commands, and ends the process with its standard input.
pub fn serve(recorder: &Recorder) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match run(recorder, &line) {
            Some(answer) => println!("{answer}"),
            None => println!("not understood: {line}"),
        }
    }
    std::process::exit(1);
}

fn run(recorder: &Recorder, line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["record"] => recorder.record(),
        ["mark"] => return Some(recorder.mark().to_string()),
        ["cut", events, unflushed] => {
            let unflushed = match unflushed {
                "lost" => Unflushed::Lost,
                "kept" => Unflushed::Kept,
                seed => Unflushed::Some(seed.parse().ok()?),
            };
            recorder.cut(events.parse().ok()?, unflushed);
        }
        _ => return None,
    }
    Some("ok".into())
}
