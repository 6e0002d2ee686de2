//! Copies the files of a log: what a copy has is on the disk when it is done.

use std::ffi::OsStr;

use super::append_error::AppendError;
use super::checkpoint::Checkpoint;
use super::consumer::{ConsumerPosition, write_positions};
use super::dirs::{SHARED, make_collection_dir, sync_names};
use super::format::{self, Header, LONGEST_HEADER};
use super::read_window::ReadWindow;
use super::segments::{CURRENT, sealed};
use crate::error::{Code, ErrorKind, Failure};
use crate::fs::{Dir, DirUse, File, FileKind, FileSystem, if_there};

/// How much is copied at once.
const CHUNK: usize = 1 << 20;

/// How often a segment is looked for that has got another name meanwhile.
const ATTEMPTS: usize = 100;

/// What a collection has at one moment.
pub(super) struct CollectionCut {
    pub(super) name: String,
    pub(super) note: Checkpoint,
    /// The numbers of its sealed segments,
    pub(super) sealed: Vec<u64>,
    /// and that of the one that is appended to,
    pub(super) current: u64,
    /// where the next block would go.
    pub(super) end: u64,
}

/// Copies a collection to another log, whose directory is empty. Its segments are not released
/// meanwhile.
pub(super) fn copy_collection<F: FileSystem>(
    log: &Dir<F>,
    copy: &Dir<F>,
    cut: &CollectionCut,
) -> Result<(), ErrorKind> {
    let name: &OsStr = cut.name.as_ref();
    let from = log.open_dir(name, DirUse::Names)?;
    make_collection_dir(copy, name)?;
    let to = copy.open_dir(name, DirUse::NamesAndSync)?;
    for number in &cut.sealed {
        let name = sealed(*number);
        let source = from.open_file(name.as_ref())?;
        copy_segment(&source, &to, &name, None)?;
    }
    let (source, header) = find_current(&from, cut.current)?;
    copy_segment(&source, &to, CURRENT, Some((&header, cut.end)))?;
    if cut.note != Checkpoint::default() {
        cut.note.write(&to).map_err(AppendError::into_failure)?;
    }
    Ok(to.sync(None)?)
}

/// Gives a copy the positions of the consumers.
pub(super) fn copy_consumers<F: FileSystem>(
    copy: &Dir<F>,
    consumers: &[ConsumerPosition],
) -> Result<(), ErrorKind> {
    match consumers {
        [] => Ok(()),
        consumers => write_positions(copy, consumers),
    }
}

/// Opens the segment with this number, which was the current one. It may be sealed just now.
fn find_current<F: FileSystem>(dir: &Dir<F>, number: u64) -> Result<(File<F>, Header), ErrorKind> {
    for _ in 0..ATTEMPTS {
        for name in [CURRENT.to_owned(), sealed(number)] {
            let Some(file) = if_there(dir.open_file(name.as_ref()))? else { continue };
            let mut window = ReadWindow::new(file);
            let header = Header::decode(window.get(0, LONGEST_HEADER)?);
            if let Ok((header, _)) = header
                && header.number == number
            {
                return Ok((window.into_file(), header));
            }
        }
    }
    Err(Failure::at("open", dir.shown(CURRENT.as_ref()), Code::EAGAIN.error()).into())
}

/// Copies a segment, and makes the copy durable. One that is appended to is copied up to the end of its
/// blocks, and gets an end mark there: as if its log had been closed.
fn copy_segment<F: FileSystem>(
    source: &File<F>,
    to: &Dir<F>,
    name: &str,
    current: Option<(&Header, u64)>,
) -> Result<(), Failure> {
    let name: &OsStr = name.as_ref();
    let of_copy = |failure: Failure| failure.on(to.shown(name));
    let into = to.create_shared(name, SHARED)?;
    let end = match current {
        Some((_, end)) => end,
        None => source.metadata()?.size,
    };
    copy_content(source, &into, end).map_err(of_copy)?;
    if let Some((header, end)) = current {
        into.write_all_at(&format::end_mark(&header.marker), end).map_err(of_copy)?;
    }
    into.sync().map_err(of_copy)
}

/// Copies the first `end` bytes of a file to one that is new: by sharing its blocks, in the kernel, or
/// by reading and writing.
fn copy_content<F: FileSystem>(source: &File<F>, into: &File<F>, end: u64) -> Result<(), Failure> {
    if into.clone_content(source)? {
        return into.set_size(end);
    }
    let mut done = 0;
    while done < end {
        match into.copy(source, done, (end - done).min(CHUNK as u64) as usize)? {
            Some(count) if count > 0 => done += count as u64,
            // The kernel cannot, or takes this for the end: reading tells.
            _ => break,
        }
    }
    let mut buffer = vec![0; if done < end { CHUNK } else { 0 }];
    while done < end {
        let most = (end - done).min(buffer.len() as u64) as usize;
        let room = buffer.get_mut(..most).unwrap_or_default();
        let count = source.read(room, done)?;
        if count == 0 {
            // Something has cut the segment off.
            return Err(Failure::new("read", Code::EIO.error()));
        }
        into.write_all(buffer.get(..count).unwrap_or_default())?;
        done += count as u64;
    }
    Ok(())
}

/// Removes a copy: files in directories in a directory.
pub(super) fn remove_tree<F: FileSystem>(parent: &Dir<F>, name: &OsStr) -> Result<(), Failure> {
    let top = parent.open_dir(name, DirUse::Names)?;
    for name in top.names()? {
        if top.look(&name)?.is_some_and(|found| found.kind == FileKind::Dir) {
            let dir = top.open_dir(&name, DirUse::Names)?;
            for file in dir.names()? {
                dir.remove_if_there(&file)?;
            }
            drop(dir);
            top.remove_empty_dir(&name)?;
        } else {
            top.remove_if_there(&name)?;
        }
    }
    drop(top);
    parent.remove_empty_dir(name)?;
    sync_names(parent)
}
