//! Makes a folder large.

use rustix::fs::{Mode, OFlags};

use crate::arguments::Arguments;
use crate::{Outcome, replace};

/// `dir=` and `count=`: empty files `bystander-<n>`.
pub fn run(arguments: &Arguments) -> Outcome {
    let folder = replace::open_folder(arguments.text("dir")?)?;
    for index in 0..arguments.number::<usize>("count")? {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        rustix::fs::openat(&folder, format!("bystander-{index}"), flags, mode)?;
    }
    Ok("{}".into())
}
