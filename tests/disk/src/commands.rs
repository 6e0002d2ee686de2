//! What the program that wanted the disk says on standard input, a line at a time.
//!
//! | line | answer |
//! | --- | --- |
//! | `record` | `ok`: from here on everything is recorded |
//! | `mark` | the number of events so far: what is so by now, must be so after a cut at this number |
//! | `cut <events> lost` | `ok`: the disk is as if its power was cut after so many events, and nothing unflushed survived |
//! | `cut <events> kept` | the same, and everything did |
//! | `cut <events> <seed>` | the same, and some pages did |

use std::io::BufRead;

use crate::recorder::{Recorder, Unflushed};

/// Ends the process with its standard input.
pub fn await_end() {
    let _ = std::io::stdin().lock().lines().try_for_each(|line| line.map(drop));
    std::process::exit(1);
}

/// Does as it is told, and ends the process with its standard input.
pub fn follow(recorder: &Recorder) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match answer(recorder, &line) {
            Some(answer) => println!("{answer}"),
            None => println!("not understood: {line}"),
        }
    }
    std::process::exit(1);
}

fn answer(recorder: &Recorder, line: &str) -> Option<String> {
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
