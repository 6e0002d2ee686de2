//! Syncs a file system, so that the next measurement starts without dirty pages.

use crate::arguments::Arguments;
use crate::{Outcome, replace};

/// `dir=`
pub fn run(arguments: &Arguments) -> Outcome {
    rustix::fs::syncfs(replace::open_dir(arguments.text("dir")?)?)?;
    Ok("{}".into())
}
