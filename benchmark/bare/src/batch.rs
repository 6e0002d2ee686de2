//! Many files at once on one thread, with as few syncs as possible.
//!
//! - `form=textbook`: write all, one `syncfs`, rename all, one sync of the directory.
//!   Durable on every POSIX file system.
//! - `form=ordered`: write all, start the write-back of all and wait for it, rename
//!   all, one `syncfs`. Durable where metadata operations reach the disk in order.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use crate::arguments::Arguments;
use crate::payload::payload;
use crate::{Outcome, replace};

/// `dir=`, `count=`, `size=`, `round=`, and `form=textbook|ordered`.
pub fn run(arguments: &Arguments) -> Outcome {
    let dir = replace::open_dir(arguments.text("dir")?)?;
    let (count, size) = (arguments.number("count")?, arguments.number("size")?);
    let round = arguments.number("round")?;
    let ordered = match arguments.text("form")? {
        "textbook" => false,
        "ordered" => true,
        other => return Err(format!("form={other} is not textbook or ordered").into()),
    };
    let work: Vec<_> =
        (0..count).map(|index| (replace::names(index), payload(round, index, size))).collect();

    let start = Instant::now();
    let mut files = Vec::with_capacity(work.len());
    for ((temp, _), bytes) in &work {
        files.push(replace::stage(&dir, temp, bytes, false)?);
    }
    if ordered {
        let (begin, wait) = (libc::SYNC_FILE_RANGE_WRITE, libc::SYNC_FILE_RANGE_WAIT_BEFORE);
        files.iter().try_for_each(|file| write_back(file, begin))?;
        files.iter().try_for_each(|file| {
            write_back(file, wait | begin | libc::SYNC_FILE_RANGE_WAIT_AFTER)
        })?;
    } else {
        rustix::fs::syncfs(&dir)?;
    }
    for ((temp, target), _) in &work {
        replace::rename(&dir, temp, target)?;
    }
    if ordered {
        rustix::fs::syncfs(&dir)?;
    } else {
        rustix::fs::fsync(&dir)?;
    }
    drop(files);
    Ok(format!("{{\"milliseconds\":{}}}", start.elapsed().as_secs_f64() * 1e3))
}

fn write_back(file: &OwnedFd, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the call takes no pointers, and the descriptor is open while borrowed.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
