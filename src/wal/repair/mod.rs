//! Opens a collection after whatever has happened to it.
//!
//! What is read is judged first, and nothing is changed if the recovery mode refuses it. Then
//! the end is made clean: a torn tail is copied aside, what no sync is known to have confirmed
//! is written again (the system may have dropped it after a failed sync and still show it),
//! and the current segment gets an end mark and is cut there. Each step may be the last one:
//! whoever opens the collection next does the same again.
//!
//! A sync of the directory may have failed in the process before, and a name that is seen then may
//! never get to the disk, whatever is synced later. So names on which something depends, and of
//! which no later sync has told, are given once more: a segment that was sealed in mid-rotation
//! becomes the current one again, an empty current one is published again, and the note of a
//! checkpoint is written again before segments are removed because of it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use crate::error::Code;
use crate::error::{Damage, DamageKind};
use crate::error::{ErrorKind, Failure};
use crate::fs::{DirUse, FileKind, FileSystem, uninterrupted};
use crate::temp_name;
use crate::wal::Options;
use crate::wal::checkpoint::Checkpoint;
use crate::wal::format::{self, END};
use crate::wal::memtable::Memtable;
use crate::wal::reader::SegmentReader;
use crate::wal::segments::{self, CHECKPOINT, CURRENT, NEXT, SPARE};
use crate::wal::writer::{AppendError, Sealed, Writer, rename, sync_dir};

mod scan;
mod truncate;

use scan::{Current, Scan};

/// A collection that can be worked with.
pub(super) struct Opened<F: FileSystem> {
    pub(super) dir: Arc<F::DirHandle>,
    /// `None` if it has no segment yet.
    pub(super) writer: Option<Writer<F>>,
    /// Whether there is space that has served before.
    pub(super) has_spare: bool,
    pub(super) memtable: Option<Memtable>,
    pub(super) checkpoint: Checkpoint,
    /// The number that its next segment has if there is none.
    pub(super) next_segment: u64,
    /// The last sequence number that is known of.
    pub(super) last: u64,
    pub(super) damage: Vec<Damage>,
}

pub(super) fn open<F: FileSystem + Clone>(
    fs: &F,
    path: &Path,
    collection: &str,
    options: &Options,
) -> Result<Opened<F>, ErrorKind> {
    let open = || fs.open_dir(path, DirUse::NamesAndSync);
    let dir = Arc::new(uninterrupted(open).map_err(|error| Failure::at("open", path, error))?);
    let listed = uninterrupted(|| fs.names(&dir));
    let listed = listed.map_err(|error| Failure::at("scandir", path, error))?;
    let names: BTreeSet<&str> = listed.iter().filter_map(|name| name.to_str()).collect();
    let numbers: BTreeSet<u64> =
        names.iter().filter_map(|name| segments::number_of(name)).collect();

    let mut scan = Scan {
        collection,
        recovery: options.recovery,
        released: 0,
        memtable: options.memtable.then(Memtable::default),
        last: 0,
        damage: Vec::new(),
    };
    let checkpoint = match Checkpoint::read(fs, &dir)? {
        Some(note) => note,
        None => {
            scan.damaged(DamageKind::Checkpoint, CHECKPOINT, (0, 0), "the note cannot be read")?;
            let first_segment = numbers.first().copied().unwrap_or(1);
            Checkpoint { up_to: 0, first_segment }
        }
    };
    scan.released = checkpoint.up_to;

    // Between two segments there is none that is current, but the next one has been begun. What
    // has just been sealed goes on then. (One that was made beforehand follows another that is
    // not sealed yet: if that is not there, it is missing.)
    let begun = match names.contains(NEXT) && !names.contains(CURRENT) {
        true => number_of_next(fs, &dir, collection)?,
        false => None,
    };
    let mut numbers = numbers;
    let last = numbers.last().copied();
    let follows = |last: u64| begun.is_some_and(|begun| begun == last.saturating_add(1));
    let unsealed = last.filter(|last| *last >= checkpoint.first_segment && follows(*last));
    if let Some(number) = unsealed {
        numbers.remove(&number);
    }
    let current_name = unsealed.map_or_else(|| CURRENT.to_owned(), segments::sealed);

    let mut expected = checkpoint.first_segment;
    let mut sealed = Vec::new();
    let mut trailing = Vec::new();
    for number in numbers.range(checkpoint.first_segment..) {
        scan.note_missing(expected, *number)?;
        expected = number.saturating_add(1);
        if let Some((segment, tail)) = scan.sealed(fs, &dir, *number)? {
            sealed.push(segment);
            trailing.extend(tail);
        }
    }
    let mut current = None;
    if names.contains(current_name.as_str()) {
        current = Some(scan.current(fs, &dir, &current_name, unsealed.is_none(), expected)?);
    } else if begun != Some(expected)
        && (expected > 1 || names.contains(CHECKPOINT) || begun.is_some())
    {
        let reason = "there is no current segment";
        scan.damaged(DamageKind::Missing, CURRENT, (0, 0), reason)?;
    }
    // What a checkpoint tells of has been there, though its segments may be gone.
    scan.last = scan.last.max(checkpoint.up_to);

    // Nothing has been changed so far, and nothing is refused from here on.
    if let Some(number) = unsealed
        && matches!(current, Some(Current::Usable { .. }))
    {
        let name = segments::sealed(number);
        let file = open_to_write(fs, &dir, &name)?;
        rename(fs, &dir, &file, &name, CURRENT)?;
        sync_dir(fs, &dir, &file)?;
    }
    let is_released = |name: &str| {
        segments::number_of(name).is_some_and(|number| number < checkpoint.first_segment)
    };
    if names.iter().any(|name| is_released(name)) {
        checkpoint.write(fs, &dir).map_err(AppendError::into_failure)?;
    }
    let is_new = current.is_none() && expected == 1 && !names.contains(CHECKPOINT);
    let drops_next = is_new || matches!(current, Some(Current::Usable { .. }));
    let is_leftover = |name: &&&str| {
        **name == NEXT && drops_next
            || temp_name::is_temp_name(OsStr::new(name)) && name.contains(CHECKPOINT)
            || is_released(name)
    };
    for name in names.iter().filter(is_leftover) {
        uninterrupted(|| fs.remove(&dir, OsStr::new(name)))
            .map_err(|error| Failure::at("unlink", name, error))?;
    }
    for tail in trailing {
        scan.cut_sealed(fs, &dir, &tail)?;
    }
    let has_spare = names.contains(SPARE) && is_file(fs, &dir, SPARE)?;
    let mut writer = None;
    let mut next_segment = expected;
    match current {
        Some(Current::Usable { reader, found, length }) => {
            next_segment = reader.header.number + 1;
            let header = reader.header.clone();
            let (file, end) = scan.clean(fs, &dir, reader, &found, length)?;
            if !found.has_blocks {
                rename(fs, &dir, &file, CURRENT, NEXT)?;
                sync_dir(fs, &dir, &file)?;
                rename(fs, &dir, &file, NEXT, CURRENT)?;
                sync_dir(fs, &dir, &file)?;
            }
            writer = Some(Writer {
                fs: fs.clone(),
                dir: Arc::clone(&dir),
                header,
                file: Arc::new(file),
                end,
                space: end + END as u64,
                has_blocks: found.has_blocks,
                is_damaged: found.is_damaged,
                last: scan.last,
                durable: scan.last,
                sealed,
                has_spare,
                prepared: None,
                is_preparing: false,
                is_overdue: false,
                step: options.step,
                buffer: Vec::new(),
            });
        }
        Some(Current::Unusable) => {
            let file = open_to_write(fs, &dir, &current_name)?;
            let aside = segments::damaged(CURRENT, rand::random());
            rename(fs, &dir, &file, &current_name, &aside)?;
            for damage in scan.damage.iter_mut().filter(|damage| damage.file == current_name) {
                damage.copy = Some(aside.clone());
            }
            writer = Some(scan.begin_anew(fs, &dir, next_segment, sealed, has_spare, options)?);
        }
        None if next_segment > 1 => {
            writer = Some(scan.begin_anew(fs, &dir, next_segment, sealed, has_spare, options)?);
        }
        None => {}
    }
    // The names that were found may be there in memory only.
    match uninterrupted(|| fs.sync_dir(&dir, None)) {
        Err(error) if Code::of(&error) == Some(Code::EACCES) => {}
        outcome => outcome.map_err(|error| Failure::at("fsync", path, error))?,
    }
    let Scan { memtable, last, damage, .. } = scan;
    Ok(Opened { dir, writer, has_spare, memtable, checkpoint, next_segment, last, damage })
}

impl Scan<'_> {
    fn begin_anew<F: FileSystem + Clone>(
        &self,
        fs: &F,
        dir: &Arc<F::DirHandle>,
        number: u64,
        sealed: Vec<Sealed>,
        has_spare: bool,
        options: &Options,
    ) -> Result<Writer<F>, ErrorKind> {
        let header = format::Header {
            collection: self.collection.to_owned(),
            number,
            first: self.last + 1,
            created: (options.clock)(),
            marker: rand::random(),
        };
        let step = options.step;
        let dir = Arc::clone(dir);
        let mut writer = Writer::create(fs.clone(), dir, header, has_spare, step)
            .map_err(AppendError::into_failure)?;
        writer.sealed = sealed;
        Ok(writer)
    }
}

/// The number of the segment in the making. `None` if its header cannot be read.
fn number_of_next<F: FileSystem>(
    fs: &F,
    dir: &F::DirHandle,
    collection: &str,
) -> Result<Option<u64>, Failure> {
    if !is_file(fs, dir, NEXT)? {
        return Ok(None);
    }
    let header = SegmentReader::open(fs, dir, NEXT)?.map(|reader| reader.header);
    Ok(header.ok().filter(|header| header.collection == collection).map(|header| header.number))
}

fn is_file<F: FileSystem>(fs: &F, dir: &F::DirHandle, name: &str) -> Result<bool, Failure> {
    let known = uninterrupted(|| fs.metadata(dir, OsStr::new(name)));
    Ok(known.map_err(|error| Failure::at("stat", name, error))?.kind == FileKind::File)
}

fn open_to_write<F: FileSystem>(
    fs: &F,
    dir: &F::DirHandle,
    name: &str,
) -> Result<F::FileHandle, Failure> {
    uninterrupted(|| fs.open_to_write(dir, OsStr::new(name)))
        .map_err(|error| Failure::at("open", name, error))
}
