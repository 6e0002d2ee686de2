//! Atomic writes one after the other: open temp, (lock,) write, (sync,) rename,
//! (sync the directory,) close.

use std::io;
use std::time::Instant;

use crate::arguments::Arguments;
use crate::payload::payload;
use crate::{Outcome, replace};

/// `dir=`, `count=`, `size=`, `round=`, `lock=0|1`, and `sync=none|file|full`.
pub fn run(arguments: &Arguments) -> Outcome {
    let dir = replace::open_dir(arguments.text("dir")?)?;
    let (count, size) = (arguments.number("count")?, arguments.number("size")?);
    let round = arguments.number("round")?;
    let lock = arguments.number::<u8>("lock")? != 0;
    let (sync_file, sync_dir) = match arguments.text("sync")? {
        "none" => (false, false),
        "file" => (true, false),
        "full" => (true, true),
        other => return Err(format!("sync={other} is not none, file or full").into()),
    };
    let work: Vec<_> =
        (0..count).map(|index| (replace::names(index), payload(round, index, size))).collect();

    let write = |((temp, target), bytes): &((String, String), Vec<u8>)| -> io::Result<()> {
        let file = replace::stage(&dir, temp, bytes, lock)?;
        if sync_file {
            rustix::fs::fsync(&file)?;
        }
        replace::rename(&dir, temp, target)?;
        if sync_dir {
            rustix::fs::fsync(&dir)?;
        }
        Ok(())
    };

    // This process is new; those of the other implementations are warm.
    work.iter().take(work.len() / 10).try_for_each(write)?;
    let start = Instant::now();
    work.iter().try_for_each(write)?;
    Ok(format!("{{\"milliseconds\":{}}}", start.elapsed().as_secs_f64() * 1e3))
}
