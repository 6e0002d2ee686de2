//! Writes the space of a segment beforehand, so that appends into it change no metadata.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::format::{Header, MARKER, filler_head};
use super::options::{BUSY_STEP, LARGEST_STEP, PAGE};
use crate::error::{Code, Failure};
use crate::fs::{File, FileSystem};
use crate::threads::blocking;

/// How much is written at once.
const CHUNK: u64 = 1 << 20;

/// How space is allocated.
#[derive(Clone, Copy, Debug)]
pub(super) enum AllocationMode<'a> {
    /// At once, because an append waits for it.
    Foreground,
    /// Piece by piece. The pause behind each piece is longer than the piece has taken, so that
    /// the disk is free for appends most of the time. Once it is urgent there are no more pauses.
    Background {
        /// Set when it is.
        is_urgent: &'a AtomicBool,
    },
}

/// The size of the first pieces in the background: few enough bytes that the sync of an append
/// hardly takes longer for them than for those of another append.
const FIRST_PIECE: u64 = 256 << 10;

/// A piece that takes longer than this may not be slow because of its bytes: the next one is
/// larger, and tells.
const SLOW_PIECE: Duration = Duration::from_millis(2);

/// No piece is larger.
const LARGEST_PIECE: u64 = 4 << 20;

/// How many times as long as a piece has taken the pause behind it is.
const PAUSE_FACTOR: u32 = 3;

/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Where space ends that begins at `from`: `step` behind that or, where that is too little, `least`;
/// on a border between pages, so that what is allocated on the disk is used.
pub(super) fn end_of_space(from: u64, least: u64, step: u64) -> u64 {
    let end = from + step.max(least);
    if step < PAGE {
        return end;
    }
    let lower = end - end % PAGE;
    if lower >= from + least { lower } else { lower + PAGE }
}

/// Where there was less room than this, it is not the measure of what is allocated next.
const SHORTEST_STEP: u64 = 256;

/// How much space is allocated next, after this much.
pub(super) fn next_step(step: u64) -> u64 {
    let factor = if (PAGE..BUSY_STEP).contains(&step) { 4 } else { 2 };
    step.max(SHORTEST_STEP).saturating_mul(factor).min(LARGEST_STEP).max(step)
}

/// Writes the empty block that goes from `from` to `to`, every byte of it.
pub(super) fn allocate<F: FileSystem>(
    file: &File<F>,
    header: &Header,
    (from, to): (u64, u64),
    mode: AllocationMode<'_>,
) -> Result<(), Failure> {
    let mut bytes = Vec::with_capacity((to - from).min(CHUNK) as usize);
    let mut throttle = match mode {
        AllocationMode::Foreground => None,
        AllocationMode::Background { is_urgent } => Some(Throttle::new(is_urgent)),
    };
    let mut at = from;
    while at < to {
        let left = (to - at).min(CHUNK);
        let length = throttle.as_ref().map_or(left, |throttle| left.min(throttle.left()));
        put_filler(&mut bytes, header, (from, to), at, length);
        file.write_all_at(&bytes, at)?;
        at += length;
        if let Some(throttle) = &mut throttle {
            throttle.written(file, length)?;
        }
    }
    Ok(())
}

/// Makes the beginning of the empty block that goes from `from` to `to` what it was, up to
/// `until`: something has been written over it.
pub(super) fn refill<F: FileSystem>(
    file: &File<F>,
    header: &Header,
    (from, to): (u64, u64),
    until: u64,
) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    let mut at = from;
    while at < until {
        let length = (until - at).min(CHUNK);
        put_filler(&mut bytes, header, (from, to), at, length);
        file.write_all_at(&bytes, at)?;
        at += length;
    }
    Ok(())
}

/// Makes `bytes` the stretch of the empty block from `from` to `to` that starts at `at`.
fn put_filler(bytes: &mut Vec<u8>, header: &Header, (from, to): (u64, u64), at: u64, length: u64) {
    bytes.clear();
    bytes.resize(length as usize, 0);
    if at == from {
        bytes.iter_mut().zip(filler_head(to - from)).for_each(|(byte, head)| *byte = head);
    }
    // The marker may lie across the border of two stretches.
    for (offset, marker) in (to - MARKER as u64..).zip(header.marker) {
        if let Some(index) = offset.checked_sub(at)
            && let Some(byte) = bytes.get_mut(index as usize)
        {
            *byte = marker;
        }
    }
}

/// Divides what is allocated in the background into pieces, and pauses behind each.
struct Throttle<'a> {
    is_urgent: &'a AtomicBool,
    /// The size of a piece.
    piece: u64,
    /// How much of the piece is written.
    written: u64,
    started: Instant,
    /// How long a slow piece of half the size took.
    half: Option<Duration>,
}

impl Throttle<'_> {
    fn new(is_urgent: &AtomicBool) -> Throttle<'_> {
        Throttle { is_urgent, piece: FIRST_PIECE, written: 0, started: Instant::now(), half: None }
    }

    /// How much of the piece is still to be written.
    fn left(&self) -> u64 {
        self.piece - self.written
    }

    /// Takes account of what was written. A piece that is complete is brought to the device.
    fn written<F: FileSystem>(&mut self, file: &File<F>, length: u64) -> Result<(), Failure> {
        self.written += length;
        if self.left() > 0 {
            return Ok(());
        }
        write_back(file)?;
        let took = self.started.elapsed();
        if took > SLOW_PIECE && self.half.is_none_or(|half| took < half + half / 2) {
            // It is not the bytes that take so long. The fewer pieces the better.
            self.half = Some(took);
            self.piece = LARGEST_PIECE.min(2 * self.piece);
        }
        if !self.is_urgent.load(Ordering::Relaxed) {
            blocking(|| std::thread::sleep((PAUSE_FACTOR * took).min(LONGEST_PAUSE)));
        }
        (self.written, self.started) = (0, Instant::now());
        Ok(())
    }
}

/// Brings what was written to the device, so that no sync has to wait for all of it. Where the
/// system can, this is no sync: a sync would have the device flush its cache each time and the
/// file system commit the growth of the file, and appends would wait for both.
fn write_back<F: FileSystem>(file: &File<F>) -> Result<(), Failure> {
    match file.await_write_back() {
        // The system does not know the call, or a sandbox forbids it.
        Err(failure)
            if matches!(failure.code(), Some(Code::ENOSYS | Code::EPERM | Code::EINVAL)) =>
        {
            file.sync_data()
        }
        outcome => outcome,
    }
}
