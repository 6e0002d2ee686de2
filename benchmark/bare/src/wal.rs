//! The system calls of a log: a write and an fdatasync for each batch, in space that was
//! written before.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::payload::payload;

/// How much of the space is written at once beforehand.
const CHUNK: usize = 1 << 20;

/// `file=` (created, and not removed), `count=` batches of `size=` bytes, `round=`. Prints the
/// time of all and, in microseconds, the median and the 99th percentile.
pub fn run(arguments: &Arguments) -> Outcome {
    let path = Path::new(arguments.text("file")?);
    let (count, size): (usize, usize) = (arguments.number("count")?, arguments.number("size")?);
    let batch = payload(arguments.number("round")?, 0, size);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?;
    let warm = count / 10;
    let length = (count + warm) * size;
    let zeros = vec![0; CHUNK];
    let mut offset = 0;
    while offset < length {
        let part = &zeros[..CHUNK.min(length - offset)];
        offset += rustix::io::pwrite(&file, part, offset as u64)?;
    }
    rustix::fs::fsync(&file)?;

    for index in 0..warm {
        append(&file, &batch, index * size)?;
    }
    let mut times = Vec::with_capacity(count);
    let start = Instant::now();
    for index in warm..warm + count {
        let begun = Instant::now();
        append(&file, &batch, index * size)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    Ok(format!("{{\"milliseconds\":{milliseconds},\"median\":{},\"p99\":{}}}", at(50), at(99)))
}

fn append(file: &OwnedFd, batch: &[u8], offset: usize) -> rustix::io::Result<()> {
    let (mut rest, mut offset) = (batch, offset as u64);
    while !rest.is_empty() {
        let count = rustix::io::pwrite(file, rest, offset)?;
        rest = &rest[count..];
        offset += count as u64;
    }
    rustix::fs::fdatasync(file)
}
