//! Appends to the segments of one collection.
//!
//! A segment is a valid Avro file at every moment. What it has of unused space is spanned by
//! one empty block, whose head is written anew behind each group of batches, in the same write.
//! That space was written beforehand, so a group changes no metadata, and one `fdatasync` makes
//! it durable. A segment that is sealed, or closed, ends with an end mark and is cut there.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::format::{
    self, END, Header, LONGEST_HEAD, LONGEST_HEADER, MARKER, SHORTEST_FILLER, filler_head,
};
use super::segments::{CURRENT, NEXT, SPARE, sealed};
use super::{LARGEST_STEP, Options};
use crate::error::Code;
use crate::error::Failure;
use crate::fs::{FileSystem, uninterrupted};
use crate::threads::blocking;

/// How much is written at once where space is made.
const CHUNK: u64 = 1 << 20;

/// A group that has needed more memory than this gives it back.
const LARGEST_BUFFER: usize = 4 << 20;

/// Why a group was not appended.
#[derive(Debug)]
pub(super) enum AppendError {
    /// Nothing has happened to the log, and the next group may do better: there is no room for
    /// more space, say.
    NotWritten(Failure),
    /// What is on the disk is not known any more.
    Unknown(Failure),
}

/// A failed sync says that something is lost; what else fails while space is made says that
/// there is none.
impl From<Failure> for AppendError {
    fn from(failure: Failure) -> AppendError {
        match failure.syscall {
            "fsync" | "fdatasync" | "sync_file_range" => AppendError::Unknown(failure),
            _ => AppendError::NotWritten(failure),
        }
    }
}

impl AppendError {
    /// What the system said.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            AppendError::NotWritten(failure) | AppendError::Unknown(failure) => failure,
        }
    }
}

/// A segment that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) number: u64,
    /// No entry in it has a higher sequence number.
    pub(super) last: u64,
    pub(super) bytes: u64,
}

/// The end of a collection.
pub(super) struct Writer<F: FileSystem> {
    pub(super) fs: F,
    pub(super) dir: Arc<F::DirHandle>,
    pub(super) header: Header,
    pub(super) file: Arc<F::FileHandle>,
    /// Where the next block goes.
    pub(super) end: u64,
    /// The length of the file. What is between is an empty block, or an end mark.
    pub(super) space: u64,
    /// Whether the segment has blocks.
    pub(super) has_blocks: bool,
    /// Something in the segment cannot be read, and was skipped. Its end mark may be all that
    /// tells the damage from a torn tail, so nothing takes the place of that any more: the next
    /// append begins another segment.
    pub(super) is_damaged: bool,
    /// The last sequence number in the collection.
    pub(super) last: u64,
    /// The last one that is surely on the disk.
    pub(super) durable: u64,
    /// The sealed segments that are still there, the oldest first.
    pub(super) sealed: Vec<Sealed>,
    /// Whether there is space that has served before.
    pub(super) has_spare: bool,
    /// The next segment, where it was made beforehand,
    pub(super) prepared: Option<Begun<F>>,
    /// or whether it is being made by somebody else.
    pub(super) is_preparing: bool,
    /// An append would have sealed the segment, had the next one been there.
    pub(super) is_overdue: bool,
    /// How much space is made next.
    pub(super) step: u64,
    /// The bytes of the group that is being written.
    pub(super) buffer: Vec<u8>,
}

/// A file that becomes the current segment when it is published.
pub(super) struct Begun<F: FileSystem> {
    header: Header,
    file: F::FileHandle,
    end: u64,
    space: u64,
}

impl<F: FileSystem + Clone> Writer<F> {
    /// Makes the first segment of a collection that has none.
    pub(super) fn create(
        fs: F,
        dir: Arc<F::DirHandle>,
        header: Header,
        has_spare: bool,
        step: u64,
    ) -> Result<Writer<F>, AppendError> {
        let begun = begin(&fs, &dir, header, has_spare, step, Pace::Fast)?;
        publish(&fs, &dir, &begun.file).map_err(AppendError::Unknown)?;
        let header = begun.header;
        let last = header.first.saturating_sub(1);
        Ok(Writer {
            fs,
            dir,
            header,
            file: Arc::new(begun.file),
            end: begun.end,
            space: begun.space,
            has_blocks: false,
            is_damaged: false,
            last,
            durable: last,
            sealed: Vec::new(),
            has_spare: false,
            prepared: None,
            is_preparing: false,
            is_overdue: false,
            step: next_step(step),
            buffer: Vec::new(),
        })
    }

    /// Appends a group of batches. `number` gives each its first sequence number, which is
    /// higher than all before; the answer has them. With `sync` they are on the disk then.
    pub(super) fn append(
        &mut self,
        batches: &[&Batch],
        options: &Options,
        first_free: u64,
        mut number: impl FnMut(&Batch) -> u64,
        sync: bool,
    ) -> Result<Vec<u64>, AppendError> {
        let most: usize =
            batches.iter().map(|batch| format::most_bytes(batch) + LONGEST_HEAD + MARKER).sum();
        let most = most as u64 + SHORTEST_FILLER;
        let age = (options.clock)().saturating_sub(self.header.created);
        let is_old = options.segment_age.is_some_and(|limit| u128::from(age) >= limit.as_millis());
        let is_full = is_old || self.end + most > options.segment_size;
        if self.is_damaged || self.has_blocks && is_full {
            if self.is_preparing {
                // While the next segment is being made, this one grows.
                self.is_overdue = true;
            } else {
                self.rotate(first_free, options)?;
            }
        }
        let makes_its_own_space = self.end + most > self.space && most >= options.large_group;
        if self.end + most > self.space && !makes_its_own_space {
            self.extend(self.end + most, options)?;
        }

        let before = self.last;
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.clear();
        let firsts: Vec<u64> = batches
            .iter()
            .map(|batch| {
                let first = number(batch);
                format::put_block(&mut bytes, &self.header.marker, batch, first, self.durable);
                self.last = first + (batch.len() as u64 - 1);
                first
            })
            .collect();
        let end = self.end + bytes.len() as u64;
        let space = self.space.max(end + SHORTEST_FILLER);
        bytes.extend_from_slice(&filler_head(space - end));
        if space > self.space {
            bytes.extend_from_slice(&self.header.marker);
        }
        let written = write_all(&self.fs, &self.file, &bytes, self.end);
        if bytes.capacity() <= LARGEST_BUFFER {
            self.buffer = bytes;
        }
        if let Err(failure) = written {
            self.last = before;
            return Err(self.after_failed_write(failure, space));
        }
        self.end = end;
        self.space = space;
        self.has_blocks = true;
        if sync {
            self.sync().map_err(AppendError::Unknown)?;
        }
        Ok(firsts)
    }

    /// A write that fails may have been done in part. Where it was for want of room, and the
    /// space that there was can be made what it was, nothing has happened. That has to be on the
    /// disk before it is told: the system may have written the part, and after a power cut whole
    /// batches of it would show.
    fn after_failed_write(&mut self, failure: Failure, space: u64) -> AppendError {
        let is_full = matches!(failure.code(), Some(Code::ENOSPC | Code::EDQUOT));
        if !is_full || space == self.space || self.space < self.end + SHORTEST_FILLER {
            return AppendError::Unknown(failure);
        }
        let range = (self.end, self.space);
        let undone = fill(&self.fs, &self.file, &self.header, range, Pace::Fast)
            .and_then(|()| set_size(&self.fs, &self.file, self.space))
            .and_then(|()| sync_file(&self.fs, &self.file));
        match undone {
            Ok(()) => AppendError::NotWritten(failure),
            Err(_) => AppendError::Unknown(failure),
        }
    }

    /// The last sequence number in the sealed segments that are still there; 0 if there are none.
    pub(super) fn last_sealed(&self) -> u64 {
        self.sealed.last().map_or(0, |segment| segment.last)
    }

    /// Makes everything that was appended durable.
    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        if self.durable < self.last {
            sync_data(&self.fs, &self.file)?;
            self.durable = self.last;
        }
        Ok(())
    }

    /// Ends the segment: everything in it is on the disk, and the file holds nothing else.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let end = self.end + END as u64;
        if self.space == end {
            return Ok(());
        }
        // What the mark says has to be true before it is there.
        self.sync()?;
        write_all(&self.fs, &self.file, &format::end_mark(&self.header.marker), self.end)?;
        // If the file were cut first, a power cut could leave one that ends with nothing.
        sync_data(&self.fs, &self.file)?;
        set_size(&self.fs, &self.file, end)?;
        sync_file(&self.fs, &self.file)?;
        self.space = end;
        Ok(())
    }

    /// Seals the segment and goes on in a new one.
    pub(super) fn rotate(&mut self, first_free: u64, options: &Options) -> Result<(), AppendError> {
        let header = Header {
            collection: self.header.collection.clone(),
            number: self.header.number + 1,
            first: first_free,
            created: (options.clock)(),
            marker: rand::random(),
        };
        // More than a segment has would never be used, and a disk that is nearly full may not have it.
        let step = self.step.min(options.segment_size);
        let begun = match self.prepared.take() {
            Some(begun) => self.fill_in(begun, header, step)?,
            None => {
                let has_spare = std::mem::take(&mut self.has_spare);
                begin(&self.fs, &self.dir, header, has_spare, step, Pace::Fast)?
            }
        };
        self.seal(begun).map_err(AppendError::Unknown)?;
        self.step = next_step(self.step);
        Ok(())
    }

    /// Writes into the header of a segment that was made beforehand what was not known then.
    fn fill_in(&self, begun: Begun<F>, header: Header, step: u64) -> Result<Begun<F>, AppendError> {
        let header = Header { marker: begun.header.marker, ..header };
        let bytes = header.encode();
        if bytes.len() as u64 != begun.end {
            // The clock has got another digit.
            drop(begun);
            return Ok(begin(&self.fs, &self.dir, header, false, step, Pace::Fast)?);
        }
        write_all(&self.fs, &begun.file, &bytes, 0)?;
        sync_data(&self.fs, &begun.file)?;
        Ok(Begun { header, ..begun })
    }

    fn seal(&mut self, begun: Begun<F>) -> Result<(), Failure> {
        self.finish()?;
        let number = self.header.number;
        let name = sealed(number);
        rename(&self.fs, &self.dir, &self.file, CURRENT, &name)?;
        // The new segment must not take the name before the old one is known by another.
        sync_dir(&self.fs, &self.dir, &self.file)?;
        publish(&self.fs, &self.dir, &begun.file)?;
        self.sealed.push(Sealed { number, last: self.last, bytes: self.space });
        self.file = Arc::new(begun.file);
        (self.end, self.space) = (begun.end, begun.space);
        self.header = begun.header;
        self.has_blocks = false;
        self.is_damaged = false;
        self.is_overdue = false;
        Ok(())
    }

    /// Makes space up to `needed` and beyond.
    fn extend(&mut self, needed: u64, options: &Options) -> Result<(), AppendError> {
        let room = options.segment_size.saturating_sub(self.space);
        let least = needed.saturating_sub(self.space) + SHORTEST_FILLER;
        let space = self.space + self.step.min(room).max(least);
        // It is an empty block of its own until the head before it spans it, too.
        let made = fill(&self.fs, &self.file, &self.header, (self.space, space), Pace::Fast);
        if let Err(failure) = made {
            // If it stays longer, the next attempt starts at the same place.
            let _ = self.fs.set_size(&self.file, self.space);
            return Err(failure.into());
        }
        sync_file(&self.fs, &self.file).map_err(AppendError::Unknown)?;
        self.durable = self.last;
        self.space = space;
        self.step = next_step(self.step);
        Ok(())
    }
}

fn next_step(step: u64) -> u64 {
    step.saturating_mul(2).min(LARGEST_STEP).max(step)
}

/// How space is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace<'a> {
    /// At once, because somebody waits for it.
    Fast,
    /// Piece by piece, with a pause behind each that is longer than it has taken, so that the
    /// disk is free for the appends most of the time. No more pauses once it is urgent.
    Gentle {
        /// Set when it is.
        is_urgent: &'a AtomicBool,
    },
}

/// The pieces that space is first made in where there is time: so many bytes hold up the sync
/// of an append hardly longer than another append does.
const GENTLE_PIECE: u64 = 256 << 10;

/// A piece that takes longer may not be slow because of its bytes: the next one is larger, and
/// shows.
const SLOW_PIECE: Duration = Duration::from_millis(2);

/// No piece is larger.
const LARGEST_PIECE: u64 = 4 << 20;

/// How many times as long as a piece has taken the pause behind it is.
const PAUSES: u32 = 3;

/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Makes a new segment, under its provisional name, and makes both durable.
pub(super) fn begin<F: FileSystem>(
    fs: &F,
    dir: &F::DirHandle,
    header: Header,
    has_spare: bool,
    step: u64,
    pace: Pace<'_>,
) -> Result<Begun<F>, Failure> {
    let file = if has_spare {
        let open = || fs.open_to_write(dir, OsStr::new(SPARE));
        let file = uninterrupted(open).map_err(|error| Failure::at("open", SPARE, error))?;
        rename(fs, dir, &file, SPARE, NEXT)?;
        file
    } else {
        let create = || fs.create_new(dir, OsStr::new(NEXT), 0o666);
        let created = uninterrupted(create).or_else(|error| match Code::of(&error) {
            // An attempt has failed, or a power cut has ended it. The name stays all the time:
            // between two segments it tells that nothing is missing.
            Some(Code::EEXIST) => uninterrupted(|| fs.open_to_write(dir, OsStr::new(NEXT))),
            _ => Err(error),
        });
        created.map_err(|error| Failure::at("open", NEXT, error))?
    };
    let outcome = (|| {
        let bytes = header.encode();
        let end = bytes.len() as u64;
        let known = uninterrupted(|| fs.file_metadata(&file));
        let old = known.map_err(|error| Failure::new("fstat", error))?.size;
        write_all(fs, &file, &bytes, 0)?;
        let space = if old >= end + SHORTEST_FILLER {
            // What was written before need not be written again, but for what frames it.
            write_all(fs, &file, &filler_head(old - end), end)?;
            write_all(fs, &file, &header.marker, old - MARKER as u64)?;
            old
        } else {
            let space = end + step.max(SHORTEST_FILLER);
            fill(fs, &file, &header, (end, space), pace)?;
            space
        };
        sync_file(fs, &file)?;
        Ok((end, space))
    })();
    if outcome.is_err() {
        // So that an attempt on a full disk leaves the room to others.
        let _ = fs.set_size(&file, 0);
    }
    let (end, space) = outcome?;
    if let Err(failure) = sync_dir(fs, dir, &file) {
        // No later sync speaks for this name: the next attempt has to give it anew.
        let _ = fs.remove(dir, OsStr::new(NEXT));
        return Err(failure);
    }
    Ok(Begun { header, file, end, space })
}

/// Gives the new segment its name.
fn publish<F: FileSystem>(fs: &F, dir: &F::DirHandle, file: &F::FileHandle) -> Result<(), Failure> {
    rename(fs, dir, file, NEXT, CURRENT)?;
    sync_dir(fs, dir, file)
}

/// Writes the empty block that goes from `from` to `to`, every byte of it.
fn fill<F: FileSystem>(
    fs: &F,
    file: &F::FileHandle,
    header: &Header,
    (from, to): (u64, u64),
    pace: Pace<'_>,
) -> Result<(), Failure> {
    let mut bytes = Vec::with_capacity((to - from).min(CHUNK) as usize);
    let mut piece = GENTLE_PIECE;
    // What a piece of half the size took.
    let mut smaller: Option<Duration> = None;
    let (mut at, mut unsynced, mut begun) = (from, 0, Instant::now());
    while at < to {
        let mut length = (to - at).min(CHUNK);
        if let Pace::Gentle { .. } = pace {
            length = length.min(piece - unsynced);
        }
        bytes.clear();
        bytes.resize(length as usize, 0);
        if at == from {
            bytes.iter_mut().zip(filler_head(to - from)).for_each(|(place, byte)| *place = byte);
        }
        // The marker may lie across the border of two pieces.
        let marker = to - MARKER as u64;
        for (place, byte) in (marker..).zip(header.marker) {
            if let Some(index) = place.checked_sub(at)
                && let Some(place) = bytes.get_mut(index as usize)
            {
                *place = byte;
            }
        }
        write_all(fs, file, &bytes, at)?;
        at += length;
        unsynced += length;
        if let Pace::Gentle { is_urgent } = pace
            && unsynced == piece
        {
            write_back(fs, file)?;
            let took = begun.elapsed();
            if took > SLOW_PIECE && smaller.is_none_or(|smaller| took < smaller + smaller / 2) {
                // It is not the bytes that take so long. The fewer pieces the better.
                smaller = Some(took);
                piece = LARGEST_PIECE.min(2 * piece);
            }
            if !is_urgent.load(Ordering::Relaxed) {
                blocking(|| std::thread::sleep((PAUSES * took).min(LONGEST_PAUSE)));
            }
            (unsynced, begun) = (0, Instant::now());
        }
    }
    Ok(())
}

pub(super) fn write_all<F: FileSystem>(
    fs: &F,
    file: &F::FileHandle,
    bytes: &[u8],
    offset: u64,
) -> Result<(), Failure> {
    let (mut rest, mut offset) = (bytes, offset);
    while !rest.is_empty() {
        let count = uninterrupted(|| fs.write_at(file, rest, offset))
            .map_err(|error| Failure::new("write", error))?;
        if count == 0 {
            return Err(Failure::new("write", std::io::ErrorKind::WriteZero.into()));
        }
        rest = rest.get(count..).unwrap_or_default();
        offset += count as u64;
    }
    Ok(())
}

pub(super) fn sync_data<F: FileSystem>(fs: &F, file: &F::FileHandle) -> Result<(), Failure> {
    uninterrupted(|| blocking(|| fs.sync_data(file)))
        .map_err(|error| Failure::new("fdatasync", error))
}

/// Has the disk take what was written, so that nobody's sync has to wait for all of it. Where the
/// system can, this is no sync: that would have the disk empty its own memory each time, and the
/// file system commit the growth of the file, and appends would wait for both.
fn write_back<F: FileSystem>(fs: &F, file: &F::FileHandle) -> Result<(), Failure> {
    match uninterrupted(|| blocking(|| fs.await_write_back(file))) {
        // A system that does not know it, or a sandbox that keeps us from it.
        Err(error)
            if matches!(Code::of(&error), Some(Code::ENOSYS | Code::EPERM | Code::EINVAL)) =>
        {
            sync_data(fs, file)
        }
        outcome => outcome.map_err(|error| Failure::new("sync_file_range", error)),
    }
}

pub(super) fn sync_file<F: FileSystem>(fs: &F, file: &F::FileHandle) -> Result<(), Failure> {
    uninterrupted(|| blocking(|| fs.sync_file(file))).map_err(|error| Failure::new("fsync", error))
}

pub(super) fn set_size<F: FileSystem>(
    fs: &F,
    file: &F::FileHandle,
    size: u64,
) -> Result<(), Failure> {
    uninterrupted(|| fs.set_size(file, size)).map_err(|error| Failure::new("ftruncate", error))
}

pub(super) fn rename<F: FileSystem>(
    fs: &F,
    dir: &F::DirHandle,
    file: &F::FileHandle,
    from: &str,
    to: &str,
) -> Result<(), Failure> {
    uninterrupted(|| fs.rename(dir, file, OsStr::new(from), OsStr::new(to)))
        .map_err(|error| Failure { dest: Some(to.into()), ..Failure::at("rename", from, error) })
}

pub(super) fn sync_dir<F: FileSystem>(
    fs: &F,
    dir: &F::DirHandle,
    file: &F::FileHandle,
) -> Result<(), Failure> {
    uninterrupted(|| blocking(|| fs.sync_dir(dir, Some(file))))
        .map_err(|error| Failure::new("fsync", error))
}

// The header is read in one piece.
const _: () = assert!(LONGEST_HEADER > 100 * 4 + format::SCHEMA.len() + 400);
