//! Fills a directory.

use rustix::fs::{Mode, OFlags};

use crate::arguments::Arguments;
use crate::{Outcome, replace};

/// `dir=` and `count=`: empty files `other-<n>`.
pub fn run(arguments: &Arguments) -> Outcome {
    let dir = replace::open_dir(arguments.text("dir")?)?;
    for index in 0..arguments.number::<usize>("count")? {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        rustix::fs::openat(&dir, format!("other-{index}"), flags, mode)?;
    }
    Ok("{}".into())
}
