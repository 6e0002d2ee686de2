//! Opens a collection after whatever has happened to it.
//!
//! What is read is judged first, and nothing is changed if the recovery mode refuses it. Then
//! the end is made clean: a torn tail is copied aside, what no sync is known to have confirmed
//! is written again (the system may have dropped it after a failed sync and still show it),
//! and the current segment gets an end mark and is cut there. Each step may be the last one:
//! whoever opens the collection next does the same again.
//!
//! A sync of the folder may have failed in the process before, and a name that is seen then may
//! never get to the disk, whatever is synced later. So names on which something depends, and of
//! which no later sync has told, are given once more: a segment that was sealed in mid-rotation
//! becomes the current one again, an empty current one is published again, and the note of a
//! checkpoint is written again before segments are removed because of it.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::error::{Damage, DamageKind, WalError};
use super::format::{self, END};
use super::memtable::Memtable;
use super::reader::{Item, SegmentReader};
use super::segments::{self, CHECKPOINT, CURRENT, NEXT, SPARE};
use super::writer::{
    Sealed, Trouble, Writer, rename, set_size, sync_data, sync_file, sync_folder, write_all,
};
use super::{Options, Recovery};
use crate::errno::Code;
use crate::error::{ErrorKind, Failure};
use crate::fs::{FileKind, FileSystem, FolderUse, uninterrupted};
use crate::temp;

const BEHIND_THE_END: &str = "there is something behind the end of the segment";

/// How much is copied at once.
const CHUNK: usize = 256 * 1024;

/// A collection that can be worked with.
pub(super) struct Opened<F: FileSystem> {
    pub(super) folder: Arc<F::Folder>,
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

/// What has been read so far.
struct Scan<'a> {
    collection: &'a str,
    recovery: Recovery,
    /// What a checkpoint has released is not shown.
    released: u64,
    memtable: Option<Memtable>,
    last: u64,
    damage: Vec<Damage>,
}

/// How the current segment ends.
enum Ending {
    /// With an end mark at this offset.
    Marked(u64),
    /// With unused space, from this offset on.
    Space(u64),
    /// With bytes that are no block, from this offset on.
    Torn(u64),
}

/// What was found in a segment beside its entries.
struct Found {
    ending: Ending,
    has_blocks: bool,
    /// Where the blocks start that no sync is known to have confirmed.
    unconfirmed: Option<u64>,
    /// Where the bytes start that are copied aside before they are cut off.
    torn: Option<u64>,
}

pub(super) fn open<F: FileSystem + Clone>(
    fs: &F,
    path: &Path,
    collection: &str,
    options: &Options,
) -> Result<Opened<F>, ErrorKind> {
    let open = || fs.open_folder(path, FolderUse::NamesAndSync);
    let folder = Arc::new(uninterrupted(open).map_err(|error| Failure::at("open", path, error))?);
    let listed = uninterrupted(|| fs.names(&folder));
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
    let checkpoint = match Checkpoint::read(fs, &folder)? {
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
        true => number_of_next(fs, &folder, collection)?,
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
        if let Some((segment, tail)) = scan.sealed(fs, &folder, *number)? {
            sealed.push(segment);
            trailing.extend(tail);
        }
    }
    let mut current = None;
    if names.contains(current_name.as_str()) {
        current = Some(scan.current(fs, &folder, &current_name, unsealed.is_none(), expected)?);
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
        let file = open_to_write(fs, &folder, &name)?;
        rename(fs, &folder, &file, &name, CURRENT)?;
        sync_folder(fs, &folder, &file)?;
    }
    let is_released = |name: &str| {
        segments::number_of(name).is_some_and(|number| number < checkpoint.first_segment)
    };
    if names.iter().any(|name| is_released(name)) {
        checkpoint.write(fs, &folder).map_err(Trouble::into_failure)?;
    }
    let is_new = current.is_none() && expected == 1 && !names.contains(CHECKPOINT);
    let drops_next = is_new || matches!(current, Some(Current::Usable { .. }));
    let is_leftover = |name: &&&str| {
        **name == NEXT && drops_next
            || temp::is_temp_name(OsStr::new(name)) && name.contains(CHECKPOINT)
            || is_released(name)
    };
    for name in names.iter().filter(is_leftover) {
        uninterrupted(|| fs.remove(&folder, OsStr::new(name)))
            .map_err(|error| Failure::at("unlink", name, error))?;
    }
    for tail in trailing {
        scan.cut_sealed(fs, &folder, &tail)?;
    }
    let has_spare = names.contains(SPARE) && is_file(fs, &folder, SPARE)?;
    let mut writer = None;
    let mut next_segment = expected;
    match current {
        Some(Current::Usable { reader, found, length }) => {
            next_segment = reader.header.number + 1;
            let header = reader.header.clone();
            let (file, end) = scan.clean(fs, &folder, reader, &found, length)?;
            if !found.has_blocks {
                rename(fs, &folder, &file, CURRENT, NEXT)?;
                sync_folder(fs, &folder, &file)?;
                rename(fs, &folder, &file, NEXT, CURRENT)?;
                sync_folder(fs, &folder, &file)?;
            }
            writer = Some(Writer {
                fs: fs.clone(),
                folder: Arc::clone(&folder),
                header,
                file: Arc::new(file),
                end,
                space: end + END as u64,
                has_blocks: found.has_blocks,
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
            let file = open_to_write(fs, &folder, &current_name)?;
            let aside = segments::damaged(CURRENT, rand::random());
            rename(fs, &folder, &file, &current_name, &aside)?;
            for damage in scan.damage.iter_mut().filter(|damage| damage.file == current_name) {
                damage.copy = Some(aside.clone());
            }
            writer =
                Some(scan.begin_anew(fs, &folder, next_segment, sealed, has_spare, options)?);
        }
        None if next_segment > 1 => {
            writer =
                Some(scan.begin_anew(fs, &folder, next_segment, sealed, has_spare, options)?);
        }
        None => {}
    }
    // The names that were found may be there in memory only.
    match uninterrupted(|| fs.sync_folder(&folder, None)) {
        Err(error) if Code::of(&error) == Some(Code::EACCES) => {}
        outcome => outcome.map_err(|error| Failure::at("fsync", path, error))?,
    }
    let Scan { memtable, last, damage, .. } = scan;
    Ok(Opened { folder, writer, has_spare, memtable, checkpoint, next_segment, last, damage })
}

enum Current<F: FileSystem> {
    Usable {
        reader: SegmentReader<F>,
        found: Found,
        length: u64,
    },
    /// Its header cannot be read.
    Unusable,
}

/// Bytes behind the end of a sealed segment.
struct Trailing {
    file: String,
    end: u64,
    length: u64,
    /// Its place in the list of damage.
    index: usize,
}

impl Scan<'_> {
    /// Notes a damage, or refuses to go on.
    fn damaged(
        &mut self,
        kind: DamageKind,
        file: &str,
        (offset, length): (u64, u64),
        reason: &'static str,
    ) -> Result<(), ErrorKind> {
        let damage = Damage {
            collection: self.collection.to_owned(),
            file: file.to_owned(),
            kind,
            offset,
            length,
            reason,
            after: self.last,
            before: None,
            copy: None,
        };
        let is_refused = match self.recovery {
            Recovery::Strict => true,
            Recovery::TolerateTail => kind != DamageKind::TornTail,
            Recovery::SkipCorrupt => false,
        };
        if is_refused {
            return Err(WalError::Damaged(Box::new(damage)).into());
        }
        self.damage.push(damage);
        Ok(())
    }

    /// Notes the segments that are missing before this one.
    fn note_missing(&mut self, expected: u64, number: u64) -> Result<(), ErrorKind> {
        if number > expected {
            let file = segments::sealed(expected);
            self.damaged(DamageKind::Missing, &file, (0, 0), "the segment is not there")?;
        }
        Ok(())
    }

    /// Reads a sealed segment. `None` if it cannot be used at all.
    fn sealed<F: FileSystem>(
        &mut self,
        fs: &F,
        folder: &F::Folder,
        number: u64,
    ) -> Result<Option<(Sealed, Option<Trailing>)>, ErrorKind> {
        let name = segments::sealed(number);
        let Some(mut reader) = self.segment(fs, folder, &name, Some(number))? else {
            return Ok(None);
        };
        let found = self.scan(fs, &mut reader, &name, false)?;
        let bytes = reader.length(fs)?;
        let last = self.last;
        let sealed = Sealed { number, last, bytes };
        let Ending::Marked(offset) = found.ending else { return Ok(Some((sealed, None))) };
        let end = offset + END as u64;
        if bytes <= end {
            return Ok(Some((sealed, None)));
        }
        self.damaged(DamageKind::TornTail, &name, (end, bytes - end), BEHIND_THE_END)?;
        let index = self.damage.len() - 1;
        let trailing = Trailing { file: name, end, length: bytes - end, index };
        Ok(Some((Sealed { bytes: end, ..sealed }, Some(trailing))))
    }

    /// Reads the current segment, which may just have been sealed.
    fn current<F: FileSystem>(
        &mut self,
        fs: &F,
        folder: &F::Folder,
        name: &str,
        is_current: bool,
        expected: u64,
    ) -> Result<Current<F>, ErrorKind> {
        let Some(mut reader) = self.segment(fs, folder, name, None)? else {
            return Ok(Current::Unusable);
        };
        let number = reader.header.number;
        if number < expected {
            let length = reader.length(fs)?;
            let reason = "the current segment has a number that another has had";
            self.damaged(DamageKind::Misplaced, name, (0, length), reason)?;
            return Ok(Current::Unusable);
        }
        self.note_missing(expected, number)?;
        let found = self.scan(fs, &mut reader, name, is_current)?;
        let length = reader.length(fs)?;
        Ok(Current::Usable { reader, found, length })
    }

    /// Opens a segment. `None` if its header is not what it has to be.
    fn segment<F: FileSystem>(
        &mut self,
        fs: &F,
        folder: &F::Folder,
        name: &str,
        number: Option<u64>,
    ) -> Result<Option<SegmentReader<F>>, ErrorKind> {
        let (kind, reason) = if !is_file(fs, folder, name)? {
            (DamageKind::Unreadable, "it is no file")
        } else {
            match SegmentReader::open(fs, folder, name)? {
                Err(reason) => (DamageKind::Unreadable, reason),
                Ok(reader) => {
                    let header = &reader.header;
                    if header.collection == self.collection
                        && number.is_none_or(|number| header.number == number)
                    {
                        // Nothing in it, nor behind it, comes before this.
                        self.last = self.last.max(header.first.saturating_sub(1));
                        return Ok(Some(reader));
                    }
                    (DamageKind::Misplaced, "the segment is not the one that its name says")
                }
            }
        };
        let known = uninterrupted(|| fs.metadata(folder, OsStr::new(name)));
        let known = known.map_err(|error| Failure::at("stat", name, error))?;
        self.damaged(kind, name, (0, known.size), reason)?;
        Ok(None)
    }

    /// Reads the blocks of a segment.
    fn scan<F: FileSystem>(
        &mut self,
        fs: &F,
        reader: &mut SegmentReader<F>,
        name: &str,
        is_current: bool,
    ) -> Result<Found, ErrorKind> {
        let mut has_blocks = false;
        // The blocks that no later one has called durable: where they start and end.
        let mut open: VecDeque<(u64, u64)> = VecDeque::new();
        loop {
            let offset = reader.offset;
            // With unused space, or an end mark: which of them, and where that ends.
            let (reason, regular) = match reader.next(fs)? {
                Item::Block(block, length) => {
                    has_blocks = true;
                    if block.first <= self.last {
                        let reason = "the entries of a block have come before";
                        self.damaged(DamageKind::Misplaced, name, (offset, length), reason)?;
                        continue;
                    }
                    while open.front().is_some_and(|(_, last)| *last <= block.durable) {
                        open.pop_front();
                    }
                    open.push_back((offset, block.last()));
                    self.take(&block);
                    continue;
                }
                Item::End(end) if is_current => {
                    ("a block has become an end mark", Some((true, end)))
                }
                Item::End(_) => {
                    let ending = Ending::Marked(offset);
                    return Ok(Found { ending, has_blocks, unconfirmed: None, torn: None });
                }
                Item::Filler(end) if is_current => {
                    ("a block has become unused space", Some((false, end)))
                }
                Item::Filler(_) => ("a sealed segment ends with unused space", None),
                Item::Damaged(reason) => (reason, None),
            };
            let length = reader.length(fs)?;
            let mut behind = reader.resume(fs, is_current.then_some(self.last))?;
            if behind.is_none() && is_current && regular.is_none() {
                behind = reader.end_behind(fs, offset, length)?;
            }
            match behind {
                // Entries that had been confirmed are missing before the next ones, or the end.
                Some(next) => {
                    let range = (offset, next - offset);
                    self.damaged(DamageKind::Unreadable, name, range, reason)?;
                    reader.offset = next;
                }
                None => {
                    let unconfirmed = open.front().map(|(start, _)| *start);
                    let mut found =
                        Found { ending: Ending::Torn(offset), has_blocks, unconfirmed, torn: None };
                    let (kind, from, reason) = match regular {
                        Some((is_marked, end)) => {
                            found.ending = match is_marked {
                                true => Ending::Marked(offset),
                                false => Ending::Space(offset),
                            };
                            if is_marked {
                                found.unconfirmed = None;
                            }
                            if length <= end || reader.is_space(fs, end, length)? {
                                return Ok(found);
                            }
                            (DamageKind::TornTail, end, BEHIND_THE_END)
                        }
                        None if is_current => (DamageKind::TornTail, offset, reason),
                        None => (DamageKind::Unreadable, offset, reason),
                    };
                    self.damaged(kind, name, (from, length - from), reason)?;
                    found.torn = Some(from);
                    return Ok(found);
                }
            }
        }
    }

    fn take(&mut self, block: &format::Block<'_>) {
        for damage in self.damage.iter_mut().rev() {
            if damage.before.is_some() {
                break;
            }
            damage.before = Some(block.first);
        }
        self.last = block.last();
        if let Some(memtable) = &mut self.memtable {
            for (sequence, entry) in block.entries() {
                if sequence > self.released {
                    memtable.insert(sequence, entry);
                }
            }
        }
    }

    /// Cuts what is behind the end of a sealed segment, after copying it aside.
    fn cut_sealed<F: FileSystem>(
        &mut self,
        fs: &F,
        folder: &F::Folder,
        tail: &Trailing,
    ) -> Result<(), ErrorKind> {
        let file = open_to_write(fs, folder, &tail.file)?;
        let copy = set_aside(fs, folder, &file, &tail.file, tail.end, tail.length)?;
        if let Some(damage) = self.damage.get_mut(tail.index) {
            damage.copy = copy;
        }
        set_size(fs, &file, tail.end)?;
        sync_file(fs, &file)?;
        Ok(())
    }

    /// Makes the current segment end with an end mark, and with nothing behind it.
    fn clean<F: FileSystem>(
        &mut self,
        fs: &F,
        folder: &F::Folder,
        reader: SegmentReader<F>,
        found: &Found,
        length: u64,
    ) -> Result<(F::File, u64), ErrorKind> {
        let header = reader.header.clone();
        // Windows: nobody has it open for reading any more.
        drop(reader);
        let file = open_to_write(fs, folder, CURRENT)?;
        let (Ending::Marked(offset) | Ending::Space(offset) | Ending::Torn(offset)) = found.ending;
        if let Some(torn) = found.torn {
            let copy = set_aside(fs, folder, &file, CURRENT, torn, length.saturating_sub(torn))?;
            // What was found in the current segment was found last.
            if let Some(damage) = self.damage.last_mut() {
                damage.copy = copy;
            }
        }
        if !matches!(found.ending, Ending::Marked(_)) {
            if let Some(from) = found.unconfirmed {
                write_again(fs, &file, from, offset)?;
            }
            // The entries first, then the mark that says that they are there.
            sync_data(fs, &file)?;
        }
        write_all(fs, &file, &format::end_mark(&header.marker), offset)?;
        sync_data(fs, &file)?;
        let end = offset + END as u64;
        if length != end {
            set_size(fs, &file, end)?;
        }
        // Also if nothing was to be cut: the one who did it may have died before its sync.
        sync_file(fs, &file)?;
        Ok((file, offset))
    }

    fn begin_anew<F: FileSystem + Clone>(
        &self,
        fs: &F,
        folder: &Arc<F::Folder>,
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
        let folder = Arc::clone(folder);
        let mut writer = Writer::create(fs.clone(), folder, header, has_spare, step)
            .map_err(Trouble::into_failure)?;
        writer.sealed = sealed;
        Ok(writer)
    }
}

/// The number of the segment in the making. `None` if its header cannot be read.
fn number_of_next<F: FileSystem>(
    fs: &F,
    folder: &F::Folder,
    collection: &str,
) -> Result<Option<u64>, Failure> {
    if !is_file(fs, folder, NEXT)? {
        return Ok(None);
    }
    let header = SegmentReader::open(fs, folder, NEXT)?.map(|reader| reader.header);
    Ok(header.ok().filter(|header| header.collection == collection).map(|header| header.number))
}

fn is_file<F: FileSystem>(fs: &F, folder: &F::Folder, name: &str) -> Result<bool, Failure> {
    let known = uninterrupted(|| fs.metadata(folder, OsStr::new(name)));
    Ok(known.map_err(|error| Failure::at("stat", name, error))?.kind == FileKind::File)
}

fn open_to_write<F: FileSystem>(
    fs: &F,
    folder: &F::Folder,
    name: &str,
) -> Result<F::File, Failure> {
    uninterrupted(|| fs.open_to_write(folder, OsStr::new(name)))
        .map_err(|error| Failure::at("open", name, error))
}

/// Copies a stretch of a file to a new one beside it, without the zeros at its end, and makes
/// the copy durable. `None` if there is nothing but zeros.
fn set_aside<F: FileSystem>(
    fs: &F,
    folder: &F::Folder,
    file: &F::File,
    name: &str,
    offset: u64,
    length: u64,
) -> Result<Option<String>, Failure> {
    let mut buffer = vec![0; CHUNK];
    let mut content = 0;
    in_chunks(fs, file, offset, offset + length, &mut buffer, |at, bytes| {
        if let Some(place) = bytes.iter().rposition(|byte| *byte != 0) {
            content = at + place as u64 + 1 - offset;
        }
        Ok(())
    })?;
    if content == 0 {
        return Ok(None);
    }
    let name = segments::torn(name, offset, rand::random());
    let create = || fs.create_new(folder, OsStr::new(&name), 0o666);
    let copy = uninterrupted(create).map_err(|error| Failure::at("open", &name, error))?;
    let outcome = in_chunks(fs, file, offset, offset + content, &mut buffer, |at, bytes| {
        write_all(fs, &copy, bytes, at - offset)
    })
    .and_then(|()| sync_file(fs, &copy))
    .and_then(|()| sync_folder(fs, folder, &copy));
    match outcome {
        Ok(()) => Ok(Some(name)),
        Err(failure) => {
            // Half a copy is none. The next attempt makes another.
            let _ = fs.remove(folder, OsStr::new(&name));
            Err(failure.on(&name))
        }
    }
}

/// Writes a stretch of a file over itself, so that a sync has to deal with it again.
fn write_again<F: FileSystem>(fs: &F, file: &F::File, from: u64, to: u64) -> Result<(), Failure> {
    let mut buffer = vec![0; CHUNK];
    in_chunks(fs, file, from, to, &mut buffer, |at, bytes| write_all(fs, file, bytes, at))
}

/// Hands a stretch of a file over piece by piece, as far as the file goes.
fn in_chunks<F: FileSystem>(
    fs: &F,
    file: &F::File,
    from: u64,
    to: u64,
    buffer: &mut [u8],
    mut each: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut at = from;
    while at < to {
        let most = (to - at).min(buffer.len() as u64) as usize;
        let room = buffer.get_mut(..most).unwrap_or_default();
        let count = uninterrupted(|| fs.read(file, room, at))
            .map_err(|error: io::Error| Failure::new("read", error))?;
        let bytes = room.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        each(at, bytes)?;
        at += bytes.len() as u64;
    }
    Ok(())
}
