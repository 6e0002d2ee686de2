//! Syncs a file system, so that the next measurement begins with nothing to write back.

use crate::arguments::Arguments;
use crate::{Outcome, replace};

/// `dir=`
pub fn run(arguments: &Arguments) -> Outcome {
    rustix::fs::syncfs(replace::open_folder(arguments.text("dir")?)?)?;
    Ok("{}".into())
}
