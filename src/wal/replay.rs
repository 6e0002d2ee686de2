//! Reads the entries of a collection from a sequence number on, a piece at a time, beside the
//! process that writes it or in it.

use std::ffi::OsStr;
use std::path::Path;

use super::batch::pack_with_sequence;
use super::checkpoint::Checkpoint;
use super::reader::{BECOME_END, BECOME_SPACE, Behind, Item, SegmentReader};
use super::segments::{self, CURRENT};
use super::{Recovery, check_name};
use crate::error::Code;
use crate::error::{Damage, DamageKind, WalError};
use crate::error::{ErrorKind, Failure};
use crate::fs::{DirUse, FileSystem, uninterrupted};

/// How often a segment is looked for that goes on under another name meanwhile.
const ATTEMPTS: usize = 100;

/// A walk over the entries of a collection. It holds one block in memory and shows each entry
/// once, in the order of the numbers. Beside a live writer it shows a prefix of what is
/// appended; what a checkpoint has released before it was reached is not shown.
pub struct Replay<F: FileSystem> {
    fs: F,
    /// `None` when there is no such collection.
    dir: Option<F::DirHandle>,
    collection: String,
    /// The lowest number that is still to come.
    next: u64,
    /// The last number that is to be shown, if that is known to be there.
    until: Option<u64>,
    /// The last number that was read.
    read: u64,
    recovery: Recovery,
    at: At<F>,
    damage: Vec<Damage>,
    /// What is behind the end has been looked at, and has become part of the log meanwhile.
    has_looked: bool,
}

/// Where the walk is.
enum At<F: FileSystem> {
    /// Before a segment is found that has `next`, or is the first behind it.
    Start,
    /// In a segment.
    In(Box<Within<F>>),
    /// Before the segment with this number.
    Before(u64),
    Over,
}

/// What a name leads to.
enum Looked<F: FileSystem> {
    Found(Box<Within<F>>),
    /// Something that is not the segment that it should be. It has been reported.
    Unusable,
    Absent,
}

struct Within<F: FileSystem> {
    reader: SegmentReader<F>,
    /// It had the name of the segment that is appended to.
    is_current: bool,
    /// It has got that name only after it had been sealed. Once: somebody may have put it there
    /// under both.
    is_current_again: bool,
    /// What is in memory may be older than what is on the disk.
    may_be_stale: bool,
}

/// What a chunk of a replay ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There may be more.
    More,
    /// That was all.
    Over,
}

impl<F: FileSystem> Replay<F> {
    /// Starts a walk in the log in this directory. `until`, where it is given, is a number that is
    /// known to be there: a walk that does not get so far reports damage.
    ///
    /// # Errors
    ///
    /// The name of the collection cannot be one, or the system refuses.
    pub fn new(
        fs: F,
        log: &Path,
        collection: &str,
        from: u64,
        until: Option<u64>,
        recovery: Recovery,
    ) -> Result<Replay<F>, ErrorKind> {
        check_name(collection)?;
        let path = log.join(collection);
        let open = || fs.open_dir(&path, DirUse::Names);
        let dir = match uninterrupted(open) {
            Ok(dir) => Some(dir),
            Err(error) if Code::of(&error) == Some(Code::ENOENT) => None,
            Err(error) => return Err(Failure::at("open", path, error).into()),
        };
        let at = if dir.is_some() { At::Start } else { At::Over };
        let (collection, next) = (collection.to_owned(), from.max(1));
        Ok(Replay {
            fs,
            dir,
            collection,
            next,
            until,
            read: 0,
            recovery,
            at,
            damage: Vec::new(),
            has_looked: false,
        })
    }

    /// What was skipped so far.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Appends the next entries, packed as [`pack_with_sequence`] does, until `out` has `most`
    /// bytes or there are no more.
    ///
    /// # Errors
    ///
    /// The system refuses, or something is damaged and the mode does not allow to skip it.
    pub fn chunk(&mut self, out: &mut Vec<u8>, most: usize) -> Result<Progress, ErrorKind> {
        while out.len() < most {
            match std::mem::replace(&mut self.at, At::Over) {
                At::Start => self.at = self.start()?,
                At::Before(number) => self.at = self.segment(number)?,
                At::In(mut within) => {
                    self.at = match self.step(&mut within, out)? {
                        None => At::In(within),
                        Some(at) => at,
                    };
                }
                At::Over => {
                    self.check_the_end()?;
                    return Ok(Progress::Over);
                }
            }
        }
        Ok(Progress::More)
    }

    /// Reads what comes next in a segment. The answer is where to go on, if not there.
    fn step(
        &mut self,
        within: &mut Within<F>,
        out: &mut Vec<u8>,
    ) -> Result<Option<At<F>>, ErrorKind> {
        let number = within.reader.header.number;
        let offset = within.reader.offset;
        // With the end of a segment: where that is.
        let (reason, regular) = match within.reader.next(&self.fs)? {
            Item::Block(block, length) => {
                within.may_be_stale = true;
                if self.until.is_some_and(|until| block.first > until) {
                    return Ok(Some(At::Over));
                }
                if block.first <= self.read {
                    let reason = "the entries of a block have come before";
                    let name = name_of(number, within.is_current);
                    self.damaged(DamageKind::Misplaced, name, (offset, length), reason)?;
                    return Ok(None);
                }
                self.read = block.last();
                if block.last() >= self.next {
                    let shown = |sequence: u64| {
                        sequence >= self.next && self.until.is_none_or(|until| sequence <= until)
                    };
                    for (sequence, entry) in block.entries().filter(|(number, _)| shown(*number)) {
                        pack_with_sequence(out, sequence, entry);
                    }
                    self.next = block.last() + 1;
                }
                return Ok(None);
            }
            Item::End(end) if within.is_current => {
                // That of a log which has just been opened. More may have been appended in its
                // place since it was read, and then the next segment been begun.
                let is_sealed = self.numbers()?.contains(&number);
                if is_sealed || self.checkpoint()?.first_segment > number {
                    within.is_current = false;
                    within.reader.forget();
                    return Ok(None);
                }
                (BECOME_END, Some(end))
            }
            Item::End(end) => (BECOME_END, Some(end)),
            Item::Filler(end) if within.is_current => (BECOME_SPACE, Some(end)),
            Item::Filler(_) => ("a sealed segment ends with unused space", None),
            Item::Damaged(reason) => (reason, None),
        };
        if within.may_be_stale && regular.is_none() {
            // It may have been read while it was being written.
            within.may_be_stale = false;
            within.reader.forget();
            return Ok(None);
        }
        self.behind(within, reason, regular)
    }

    /// Looks for what there is behind the end of a segment, which should be nothing, or behind a
    /// damage. The answer is as that of [`Replay::step`].
    fn behind(
        &mut self,
        within: &mut Within<F>,
        reason: &'static str,
        regular: Option<u64>,
    ) -> Result<Option<At<F>>, ErrorKind> {
        let (number, offset) = (within.reader.header.number, within.reader.offset);
        let length = within.reader.length(&self.fs)?;
        let after = if within.is_current { At::Over } else { At::Before(number + 1) };
        let ends_current = regular.is_some() && within.is_current;
        if let Some(end) = regular
            && match (within.is_current, self.until) {
                (false, _) => length <= end,
                // As far as it is known it ends here.
                (true, Some(until)) => self.read >= until,
                (true, None) => self.recovery == Recovery::TolerateTail || self.has_looked,
            }
        {
            return Ok(Some(after));
        }
        let read = within.is_current.then_some(self.read);
        let behind = within.reader.behind(&self.fs, read, regular.is_some())?;
        // What is behind was written when this was whole, and this may have been read before.
        within.reader.forget();
        within.reader.offset = offset;
        let is_whole = matches!(within.reader.next(&self.fs)?, Item::Block(..));
        within.reader.offset = offset;
        if !within.reader.is_same(&self.fs)? {
            // A checkpoint has released the segment, and its space serves again.
            return Ok(Some(At::Start));
        }
        if is_whole {
            // There may be more each time, beside a writer that does not rest.
            self.has_looked |= ends_current;
            return Ok(None);
        }
        if !within.is_current
            && !within.is_current_again
            && let Looked::Found(current) = self.open(None)?
            && current.reader.header == within.reader.header
        {
            // It was sealed in a rotation that a crash has ended, and is appended to again.
            (within.is_current, within.is_current_again) = (true, true);
            within.reader.forget();
            return Ok(None);
        }
        let name = name_of(number, within.is_current);
        match behind {
            Behind::GoesOn { next, unread } => {
                self.damaged(DamageKind::Unreadable, name, (offset, next - offset), reason)?;
                if within.is_current {
                    self.read = self.read.saturating_add(unread);
                }
                within.reader.offset = next;
                Ok(None)
            }
            // It ends here, or what is being written is not there yet.
            _ if within.is_current || regular.is_some() => Ok(Some(after)),
            _ => {
                let range = (offset, length.saturating_sub(offset));
                self.damaged(DamageKind::Unreadable, name, range, reason)?;
                Ok(Some(after))
            }
        }
    }

    /// Finds the last segment that starts at or before the wanted number.
    fn start(&mut self) -> Result<At<F>, ErrorKind> {
        for _ in 0..ATTEMPTS {
            let checkpoint = self.checkpoint()?;
            self.next = self.next.max(checkpoint.up_to.saturating_add(1));
            let numbers = self.numbers()?;
            let is_needed = |number: &u64| *number >= checkpoint.first_segment;
            let mut names: Vec<Option<u64>> =
                numbers.iter().copied().filter(is_needed).map(Some).collect();
            // The current one, whatever its number is, comes last.
            names.push(None);
            let mut lowest = None;
            while let Some(number) = names.pop() {
                let within = match self.open(number)? {
                    Looked::Found(within) => within,
                    Looked::Unusable | Looked::Absent => continue,
                };
                let first = within.reader.header.first;
                if first <= self.next {
                    self.read = self.read.max(first.saturating_sub(1));
                    return Ok(At::In(within));
                }
                lowest = Some(within.reader.header.number);
            }
            // A segment may have got another name, or have been released, meanwhile: also the
            // current one, which then was under neither name when it was looked for.
            if self.numbers()? != numbers || self.checkpoint()? != checkpoint {
                continue;
            }
            return match lowest {
                None => Ok(At::Over),
                Some(number) if number > checkpoint.first_segment => {
                    let name = segments::sealed(checkpoint.first_segment);
                    let reason = "the segment is not there";
                    self.damaged(DamageKind::Missing, name, (0, 0), reason)?;
                    Ok(At::Before(number))
                }
                Some(number) => Ok(At::Before(number)),
            };
        }
        Err(self.restless())
    }

    /// Opens the segment with this number, under whatever name.
    fn segment(&mut self, number: u64) -> Result<At<F>, ErrorKind> {
        for _ in 0..ATTEMPTS {
            let mut current = None;
            for name in [Some(number), None] {
                match self.open(name)? {
                    Looked::Found(within) if within.reader.header.number == number => {
                        let first = within.reader.header.first;
                        self.read = self.read.max(first.saturating_sub(1));
                        return Ok(At::In(within));
                    }
                    Looked::Found(within) => current = Some(within.reader.header.number),
                    Looked::Unusable if name.is_some() => return Ok(At::Before(number + 1)),
                    Looked::Unusable | Looked::Absent => {}
                }
            }
            let numbers = self.numbers()?;
            // Released, and the note of it was there before: so it is read after the names.
            if self.checkpoint()?.first_segment > number {
                return Ok(At::Start);
            }
            if numbers.contains(&number) {
                // It has got its other name between the two looks.
                continue;
            }
            let later = numbers.into_iter().find(|later| *later > number);
            match later.or(current.filter(|current| *current > number)) {
                // It has not been begun, or is just being.
                None => return Ok(At::Over),
                Some(later) => {
                    let reason = "the segment is not there";
                    let name = segments::sealed(number);
                    self.damaged(DamageKind::Missing, name, (0, 0), reason)?;
                    return Ok(At::Before(later));
                }
            }
        }
        Err(self.restless())
    }

    /// Opens a sealed segment, or the current one.
    fn open(&mut self, number: Option<u64>) -> Result<Looked<F>, ErrorKind> {
        let Some(dir) = &self.dir else { return Ok(Looked::Absent) };
        let name = number.map_or_else(|| CURRENT.to_owned(), segments::sealed);
        let mut is_second_look = false;
        loop {
            let (kind, reason) = match SegmentReader::open(&self.fs, dir, &name) {
                Ok(Ok(reader)) => {
                    let header = &reader.header;
                    if header.collection == self.collection
                        && number.is_none_or(|number| header.number == number)
                    {
                        let is_current = number.is_none();
                        let within = Within {
                            reader,
                            is_current,
                            is_current_again: false,
                            may_be_stale: false,
                        };
                        return Ok(Looked::Found(Box::new(within)));
                    }
                    (DamageKind::Misplaced, "the segment is not the one that its name says")
                }
                Ok(Err(reason)) => (DamageKind::Unreadable, reason),
                Err(failure) if failure.code() == Some(Code::ENOENT) => return Ok(Looked::Absent),
                Err(failure) => return Err(failure.into()),
            };
            // A segment that was released after its name had been looked up may have got another
            // header before it was read. The name does not lead there any more.
            if std::mem::replace(&mut is_second_look, true) {
                self.damaged(kind, name, (0, 0), reason)?;
                return Ok(Looked::Unusable);
            }
        }
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, ErrorKind> {
        let Some(dir) = &self.dir else { return Ok(Checkpoint::default()) };
        match Checkpoint::read(&self.fs, dir)? {
            Some(checkpoint) => Ok(checkpoint),
            None => {
                let name = segments::CHECKPOINT.to_owned();
                let reason = "the note cannot be read";
                self.damaged(DamageKind::Checkpoint, name, (0, 0), reason)?;
                let first_segment = self.numbers()?.first().copied().unwrap_or(1);
                Ok(Checkpoint { up_to: 0, first_segment })
            }
        }
    }

    /// The numbers of the sealed segments, the lowest first.
    fn numbers(&self) -> Result<Vec<u64>, ErrorKind> {
        let Some(dir) = &self.dir else { return Ok(Vec::new()) };
        let names = uninterrupted(|| self.fs.names(dir));
        let names = names.map_err(|error| Failure::new("scandir", error))?;
        let number = |name: &OsStr| name.to_str().and_then(segments::number_of);
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A walk that knows how far it goes has to get there.
    fn check_the_end(&mut self) -> Result<(), ErrorKind> {
        if self.until.is_some_and(|until| until >= self.next && self.read < until) {
            self.until = None;
            let reason = "the log ends before its last entry";
            self.damaged(DamageKind::Unreadable, CURRENT.to_owned(), (0, 0), reason)?;
        }
        Ok(())
    }

    fn damaged(
        &mut self,
        kind: DamageKind,
        file: String,
        (offset, length): (u64, u64),
        reason: &'static str,
    ) -> Result<(), ErrorKind> {
        let damage = Damage {
            collection: self.collection.clone(),
            file,
            kind,
            offset,
            length,
            reason,
            after: self.read,
            before: None,
            copy: None,
        };
        if self.recovery != Recovery::SkipCorrupt {
            return Err(WalError::Damaged(Box::new(damage)).into());
        }
        if !self.damage.contains(&damage) {
            self.damage.push(damage);
        }
        Ok(())
    }

    fn restless(&self) -> ErrorKind {
        Failure::at("open", &self.collection, Code::EAGAIN.error()).into()
    }
}

fn name_of(number: u64, is_current: bool) -> String {
    if is_current { CURRENT.to_owned() } else { segments::sealed(number) }
}
