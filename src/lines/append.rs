//! Appends lines to a file, under its lock.

use std::path::{Path, PathBuf};

use super::format::LineKind;
use super::repair::{Repaired, repair};
use super::tail::{Tail, look_at_tail};
use crate::error::{Code, ErrorKind, Failure};
use crate::fs::{Dir, DirUse, File, FileId, FileKind, FileSystem};
use crate::resolve::{self, Target};
use crate::vocabulary::GuardedFile;
use crate::write::{forget_failed_sync, has_failed_sync, record_failed_sync};

/// What is asked of an append besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct LineOptions {
    /// Whether it has to be durable.
    pub is_durable: bool,
    /// The permission bits of a new file, before the umask.
    pub mode: u32,
    /// What a last line without a newline is.
    pub kind: LineKind,
}

/// Why lines were not appended.
#[derive(Debug)]
pub struct AppendError {
    /// Why.
    pub kind: ErrorKind,
    /// Whether the lines are there all the same.
    pub committed: bool,
}

impl AppendError {
    fn failed(path: PathBuf) -> impl Fn(Failure) -> AppendError {
        move |failure| AppendError { kind: failure.on(&path).into(), committed: false }
    }
}

impl<E: Into<ErrorKind>> From<E> for AppendError {
    fn from(kind: E) -> AppendError {
        AppendError { kind: kind.into(), committed: false }
    }
}

/// Lines that are in the file, and may have to be synced.
pub struct Appended<F: FileSystem> {
    dir: Dir<F>,
    file: File<F>,
    id: FileId,
    path: PathBuf,
    is_durable: bool,
    /// Whether the name of the file is to be made durable, too.
    syncs_name: bool,
    /// What was repaired before.
    pub repaired: Option<Repaired>,
}

impl<F: FileSystem> Appended<F> {
    /// Makes the lines durable, if that was asked for. The lock is not needed any more.
    ///
    /// # Errors
    ///
    /// The lines are there, and no later sync will make them durable.
    pub fn sync(&self) -> Result<(), AppendError> {
        if !self.is_durable {
            return Ok(());
        }
        let synced = self.file.sync_data().and_then(|()| match self.syncs_name {
            true => self.dir.sync(Some(&self.file)),
            false => Ok(()),
        });
        synced.map_err(|failure| {
            record_failed_sync(self.id);
            AppendError { kind: failure.on(&self.path).into(), committed: true }
        })
    }
}

/// Appends `bytes`, which are whole lines, to the file at `path`. `only` is the file whose lock is
/// held.
///
/// # Errors
///
/// Unless [`AppendError::committed`], nothing of the lines is there for a reader of the file.
pub fn append<F: FileSystem>(
    fs: &F,
    path: &Path,
    only: Option<&GuardedFile>,
    bytes: &[u8],
    options: LineOptions,
) -> Result<Appended<F>, AppendError> {
    let purpose = if options.is_durable { DirUse::NamesAndSync } else { DirUse::Names };
    let target = resolve::target(fs, path, true, purpose)?;
    only.map_or(Ok(()), |only| target.must_be(only))?;
    let file = open(&target, options.mode)?;
    let shown = AppendError::failed(target.path());
    let found = file.metadata().map_err(&shown)?;
    if options.is_durable && has_failed_sync(found.id) {
        // A sync that succeeds now would say nothing of what is before these lines, and may share
        // a page with.
        return Err(shown(Failure::new("fdatasync", Code::EIO.error())));
    }
    let mut size = found.size;
    let mut repaired = None;
    loop {
        match look_at_tail(&file, size, options.kind).map_err(&shown)? {
            Tail::Whole => break,
            Tail::NoNewline => {
                size = end_last_line(&target, &file, found.id, size)?;
                break;
            }
            Tail::Torn { from } => {
                let dir = synced_dir(fs, &target)?;
                let dir = dir.as_ref().unwrap_or(&target.dir);
                repaired = Some(repair(dir, &target.name, &file, from, size)?);
                size = from;
            }
        }
    }
    for attempt in 1.. {
        let mut pieces = Vec::new();
        let Err(failure) = write(&file, bytes, &mut pieces) else { break };
        let left = Left { target: &target, file: &file, id: found.id, bytes, pieces: &pieces };
        let is_gone = left.take_back(size, options.is_durable);
        if is_tried_again(&failure, &pieces) && is_gone && attempt < ATTEMPTS {
            size = file.metadata().map_err(&shown)?.size;
            continue;
        }
        return Err(AppendError { kind: failure.on(target.path()).into(), committed: !is_gone });
    }
    // The file has grown: a sync of that makes durable what was done before, its name included.
    let keeps_order = options.is_durable && target.dir.sync_rules(found.id.device).keeps_order;
    Ok(Appended {
        path: target.path(),
        dir: target.dir,
        file,
        id: found.id,
        is_durable: options.is_durable,
        syncs_name: !keeps_order,
        repaired,
    })
}

/// Gives a last line its newline, and makes that durable: if it were lost with what follows, the line
/// would be a part of what a crash has left. Returns the new size.
fn end_last_line<F: FileSystem>(
    target: &Target<F>,
    file: &File<F>,
    id: FileId,
    size: u64,
) -> Result<u64, AppendError> {
    let mut pieces = Vec::new();
    let ended = write(file, b"\n", &mut pieces).and_then(|()| file.sync());
    if let Err(failure) = ended {
        let left = Left { target, file, id, bytes: b"\n", pieces: &pieces };
        left.take_back(size, false);
        return Err(failure.on(target.path()).into());
    }
    Ok(file.metadata().map_err(|failure| failure.on(target.path()))?.size)
}

/// Makes durable what this process has appended to the file at `path` before, and the file's name.
///
/// # Errors
///
/// As a sync of an append. A file that is not there has nothing to be synced.
pub fn sync<F: FileSystem>(fs: &F, path: &Path) -> Result<(), Failure> {
    let target = resolve::target(fs, path, true, DirUse::NamesAndSync)?;
    let Some(file) = target.open()? else { return Ok(()) };
    let id = file.metadata().map_err(|failure| failure.on(target.path()))?.id;
    let synced = match has_failed_sync(id) {
        true => Err(Failure::new("fdatasync", Code::EIO.error())),
        false => file.sync_data().and_then(|()| target.dir.sync(Some(&file))),
    };
    synced.map_err(|failure| {
        record_failed_sync(id);
        failure.on(target.path())
    })
}

/// The directory opened so that it can be synced, if it is not.
fn synced_dir<F: FileSystem>(fs: &F, target: &Target<F>) -> Result<Option<Dir<F>>, Failure> {
    let again = Dir::open(fs, target.dir.path(), DirUse::NamesAndSync)?;
    // Another directory may be there by now.
    Ok((again.metadata()?.id == target.dir.metadata()?.id).then_some(again))
}

/// How often something is tried that other programs may be in the way of.
const ATTEMPTS: u32 = 100;

/// Opens the file, or makes it.
fn open<F: FileSystem>(target: &Target<F>, mode: u32) -> Result<File<F>, Failure> {
    let refused = |code: Code| Err(Failure::at("open", target.path(), code.error()));
    match target.existing.map(|existing| existing.kind) {
        None | Some(FileKind::File) => {}
        Some(FileKind::Dir) => return refused(Code::EISDIR),
        Some(FileKind::Link) => return refused(Code::ELOOP),
        Some(FileKind::Other(special)) => {
            return Err(Failure::special("open", target.path(), special.name()));
        }
    }
    let mut attempt = 0;
    loop {
        attempt += 1;
        match target.dir.open_to_append(&target.name) {
            Err(failure) if failure.is_not_found() && attempt < ATTEMPTS => {}
            opened => return opened,
        }
        match target.dir.create_new(&target.name, mode) {
            // A number that a file with a failed sync had may be that of a new one.
            Ok(made) => forget_failed_sync(made.metadata()?.id),
            Err(failure) if matches!(failure.code(), Some(Code::EEXIST | Code::EINTR)) => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// What one call of the system has written: where, and how many bytes.
type Piece = (u64, usize);

/// Writes all at the end of the file. Whatever comes of it, `pieces` are what the system says that it
/// has written.
///
/// # Errors
///
/// `EAGAIN` where another program has appended between two pieces.
fn write<F: FileSystem>(
    file: &File<F>,
    bytes: &[u8],
    pieces: &mut Vec<Piece>,
) -> Result<(), Failure> {
    let mut left = bytes;
    let mut end = None;
    while !left.is_empty() {
        let (start, count) = file.append(left)?;
        pieces.push((start, count));
        if end.is_some_and(|end| end != start) {
            return Err(Failure::new("write", Code::EAGAIN.error()));
        }
        end = Some(start + count as u64);
        left = left.get(count..).unwrap_or_default();
    }
    Ok(())
}

/// Whether a write that was taken back may succeed now: a signal has interrupted it, or another program
/// has appended between two pieces.
fn is_tried_again(failure: &Failure, pieces: &[Piece]) -> bool {
    match failure.code() {
        Some(Code::EINTR) => failure.syscall == "write",
        Some(Code::EAGAIN) => !pieces.is_empty(),
        _ => false,
    }
}

/// What a write that has failed may have left.
struct Left<'a, F: FileSystem> {
    target: &'a Target<F>,
    file: &'a File<F>,
    id: FileId,
    bytes: &'a [u8],
    pieces: &'a [Piece],
}

impl<F: FileSystem> Left<'_, F> {
    /// Takes it back, and touches nothing that is not ours. Returns whether no reader will find the
    /// lines.
    fn take_back(&self, old_end: u64, is_durable: bool) -> bool {
        let Ok(found) = self.file.metadata() else { return false };
        let Some(length) = found.size.checked_sub(old_end).filter(|length| *length > 0) else {
            return true;
        };
        let is_gone = match self.is_at(old_end, length) {
            // A call that has failed may have written more than it says.
            Ok(true) => self.cut(old_end) || length < self.bytes.len() as u64,
            Ok(false) => self.pieces.iter().rev().all(|piece| self.remove(*piece)),
            Err(_) => false,
        };
        if is_gone && is_durable && self.file.sync_data().is_err() {
            record_failed_sync(self.id);
        }
        is_gone
    }

    /// Whether the file has the first so many of our bytes there.
    fn is_at(&self, offset: u64, length: u64) -> Result<bool, Failure> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(ours) = self.bytes.get(..length) else { return Ok(false) };
        let mut there = vec![0; length];
        let count = self.file.read_up_to(&mut there, offset)?;
        Ok(count == length && there == ours)
    }

    fn cut(&self, size: u64) -> bool {
        // What a failed call says may not be so.
        self.file.set_size(size).is_ok()
            || self.file.metadata().is_ok_and(|found| found.size == size)
    }

    /// Removes a piece behind which another program has appended, or may have: it is cut off if it is
    /// the last of the file, and becomes blanks and a newline otherwise, which is a line to no reader.
    fn remove(&self, (start, count): Piece) -> bool {
        let end = start + count as u64;
        if self.file.metadata().is_ok_and(|found| found.size == end) && self.cut(start) {
            return true;
        }
        let Ok(file) = self.target.dir.open_to_write(&self.target.name) else { return false };
        if !file.metadata().is_ok_and(|found| found.id == self.id) {
            return false;
        }
        let mut blanks = vec![b' '; count];
        if let Some(last) = blanks.last_mut() {
            *last = b'\n';
        }
        file.write_all_at(&blanks, start).is_ok()
    }
}
