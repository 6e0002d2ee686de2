//! Batches appended to a log, one after the other: `write` and `fdatasync`, on space that was
//! written beforehand, so that no metadata changes.

use std::time::Instant;

use rustix::fs::{Mode, OFlags};

use crate::arguments::Arguments;
use crate::{Outcome, replace};

/// `dir=`, `count=` (batches), `size=` (bytes of each), `warm=` (batches before).
pub fn run(arguments: &Arguments) -> Outcome {
    let folder = replace::open_folder(arguments.text("dir")?)?;
    let count: usize = arguments.number("count")?;
    let size: usize = arguments.number("size")?;
    let warm: usize = arguments.number("warm")?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, "log", flags, Mode::from_raw_mode(0o644))?;
    let space = vec![0_u8; 1 << 20];
    let total = ((count + warm) * size) as u64;
    for at in (0..total).step_by(space.len()) {
        rustix::io::pwrite(&file, &space, at)?;
    }
    rustix::fs::fsync(&file)?;

    let batch = vec![b'b'; size];
    let append = |index: usize| -> rustix::io::Result<()> {
        let mut written = 0;
        while written < size {
            written += rustix::io::pwrite(&file, &batch[written..], (index * size + written) as u64)?;
        }
        rustix::fs::fdatasync(&file)
    };
    (0..warm).try_for_each(append)?;
    let mut waits = Vec::with_capacity(count);
    let start = Instant::now();
    for index in warm..warm + count {
        let asked = Instant::now();
        append(index)?;
        waits.push(asked.elapsed());
    }
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    waits.sort_unstable();
    let p99 = waits.get(count * 99 / 100).map_or(0.0, |wait| wait.as_secs_f64() * 1e3);
    rustix::fs::unlinkat(&folder, "log", rustix::fs::AtFlags::empty())?;
    Ok(format!("{{\"milliseconds\":{milliseconds},\"p99\":{p99}}}"))
}
