//! Where the other directories of a transaction are, seen from one of them, and what proves that
//! they are the ones.
//!
//! A tree may be a copy, a snapshot or a restored backup by now, or may have been moved; and the one
//! that it was copied from may be where it always was, and alive. So directories are looked for
//! beside each other, by relative paths, and by absolute ones only where they were on several
//! mounts. One counts if the paths of the record lead from it back to where the search began, and
//! if it has a record of the same transaction that says the same. A directory that does not prove
//! this is never changed.

use std::io;
use std::path::{Path, PathBuf};

use super::names::{self, RecordKind, TransactionId};
use super::participant::{Participant, read_record};
use super::record::{Record, RecordDamage, RecordWay};
use super::way::{along, between};
use crate::error::Failure;
use crate::fs::{Dir, DirUse, FileId, FileSystem};

/// The directories of one transaction.
pub(super) struct Tree<'a, F: FileSystem> {
    fs: &'a F,
    id: TransactionId,
    record: &'a Record,
}

/// How a directory is found from the first one, and back.
struct Way {
    from_first: Option<PathBuf>,
    to_first: Option<PathBuf>,
    /// Whether the absolute paths count, too.
    is_apart: bool,
}

/// Whether a record that did not get to the disk as a whole counts as one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Torn {
    /// It does: nothing has been decided.
    Counts,
    /// It does not: when something is decided all records are whole.
    IsNone,
}

/// Why a directory was not found.
pub(super) struct Missing {
    /// Where it should be.
    pub(super) path: PathBuf,
    why: Why,
}

enum Why {
    /// It cannot be reached, or what it has cannot be read.
    Unreachable(Failure),
    /// What is there has no record of this transaction, or another one.
    NotTheOne,
    /// What is there is a part of another tree: a copy, or what this was copied from.
    OfAnotherTree,
}

/// The first directory, found from another one.
pub(super) struct First<F: FileSystem> {
    pub(super) participant: Participant<F>,
    pub(super) has_record: bool,
}

impl<'a, F: FileSystem> Tree<'a, F> {
    pub(super) fn new(fs: &'a F, id: TransactionId, record: &'a Record) -> Tree<'a, F> {
        Tree { fs, id, record }
    }

    /// The directory of this number, seen from the first one. It has proved that it belongs to it.
    pub(super) fn other(
        &self,
        first: &Participant<F>,
        number: usize,
        torn: Torn,
    ) -> Result<Participant<F>, Missing> {
        let (way, dirs) = (self.way(number), &self.record.dirs);
        let named = dirs.get(number).map(PathBuf::as_path).unwrap_or(Path::new(""));
        self.search(&first.dir, way.from_first.as_deref(), named, way.is_apart, |other| {
            let prepared = names::record(self.id, RecordKind::Prepared);
            let look = other.dir.look(&prepared).map_err(Why::Unreachable)?;
            if !look.is_some_and(|found| other.trusts(&found)) {
                return Err(Why::NotTheOne);
            }
            let file = other.dir.open_file(&prepared).map_err(Why::Unreachable)?;
            match read_record(&file, self.id).map_err(Why::Unreachable)? {
                Ok(own) if own.here == number && own.agrees_with(self.record) => {}
                Err(RecordDamage::Torn) if torn == Torn::Counts => {}
                _ => return Err(Why::NotTheOne),
            }
            match self.leads_to_first(other, &way, first.metadata.id) {
                true => Ok(()),
                false => Err(Why::OfAnotherTree),
            }
        })
        .map(|(other, ())| other)
    }

    /// The directory that has the place of this number beside the first one, whatever it is.
    pub(super) fn in_place_of(
        &self,
        first: &Participant<F>,
        number: usize,
    ) -> Result<Participant<F>, Missing> {
        let way = self.way(number);
        let named = self.record.dirs.get(number).map(PathBuf::as_path).unwrap_or(Path::new(""));
        self.search(&first.dir, way.from_first.as_deref(), named, false, |_| Ok(()))
            .map(|(other, ())| other)
    }

    /// The first directory, seen from the one that the record is in. The way leads back here, and
    /// if there is a record, it says the same.
    pub(super) fn first(&self, here: &Participant<F>) -> Result<First<F>, Missing> {
        let number = self.record.here;
        let (way, dirs) = (self.way(number), &self.record.dirs);
        let named = dirs.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
        self.search(&here.dir, way.to_first.as_deref(), named, way.is_apart, |first| {
            let has_record = self.has_record(first)?;
            match self.leads_to_other(first, &way, here.metadata.id) {
                true => Ok(has_record),
                false => Err(Why::OfAnotherTree),
            }
        })
        .map(|(participant, has_record)| First { participant, has_record })
    }

    /// Whether the directory that the record is in and the first one are where they were, or have
    /// been moved together: not copied.
    pub(super) fn is_the_original(&self, here: &Participant<F>, first: &Participant<F>) -> bool {
        let number = self.record.here;
        let is_here = match self.record.ways.get(number) {
            Some(way) => way.inode == here.metadata.id.inode,
            // An earlier version has noted the number of the first one only.
            None => self
                .record
                .dirs
                .get(number)
                .is_some_and(|path| self.id_of(path).is_ok_and(|id| id == here.metadata.id)),
        };
        is_here && self.record.home == first.metadata.id.inode
    }

    /// Whether all directories were on one mount, so that none of them is missing only because a
    /// file system is not mounted.
    pub(super) fn is_on_one_mount(&self) -> bool {
        !self.record.ways.is_empty() && self.record.ways.iter().all(|way| !way.is_apart)
    }

    /// Whether the first directory has a record of this transaction. It counts if it says the same;
    /// one that is torn says nothing, and one of a later version cannot be compared.
    fn has_record(&self, first: &Participant<F>) -> Result<bool, Why> {
        // In this order: it may get its other name meanwhile.
        for kind in [RecordKind::Prepared, RecordKind::Intent] {
            let name = names::record(self.id, kind);
            let Some(found) = first.dir.look(&name).map_err(Why::Unreachable)? else { continue };
            if !first.trusts(&found) {
                return Err(Why::NotTheOne);
            }
            let read = first.dir.open_file(&name).and_then(|file| read_record(&file, self.id));
            return match read {
                Ok(Ok(own)) if own.here == 0 && own.agrees_with(self.record) => Ok(true),
                Ok(Err(RecordDamage::Torn | RecordDamage::Version(_))) => Ok(true),
                Ok(_) => Err(Why::NotTheOne),
                // It has got its other name, or is gone.
                Err(failure) if failure.is_not_found() => continue,
                Err(failure) => Err(Why::Unreachable(failure)),
            };
        }
        Ok(false)
    }

    fn leads_to_first(&self, other: &Participant<F>, way: &Way, first: FileId) -> bool {
        let named = self.record.dirs.first().map(PathBuf::as_path);
        self.leads_to(&other.dir, way.to_first.as_deref(), named.filter(|_| way.is_apart), first)
    }

    fn leads_to_other(&self, first: &Participant<F>, way: &Way, other: FileId) -> bool {
        let named = self.record.dirs.get(self.record.here).map(PathBuf::as_path);
        self.leads_to(&first.dir, way.from_first.as_deref(), named.filter(|_| way.is_apart), other)
    }

    /// Whether one of these paths leads from a directory to the one with this number.
    fn leads_to(
        &self,
        from: &Dir<F>,
        way: Option<&Path>,
        named: Option<&Path>,
        wanted: FileId,
    ) -> bool {
        let leads = |path: PathBuf| self.id_of(&path).ok().filter(|id| *id == wanted);
        places(from, way, named).find_map(leads).is_some()
    }

    fn id_of(&self, path: &Path) -> Result<FileId, Failure> {
        Ok(Dir::open(self.fs, path, DirUse::Names)?.metadata()?.id)
    }

    /// The directory at the first of the places that is the right one.
    fn search<T>(
        &self,
        from: &Dir<F>,
        way: Option<&Path>,
        named: &Path,
        is_apart: bool,
        is_it: impl Fn(&Participant<F>) -> Result<T, Why>,
    ) -> Result<(Participant<F>, T), Missing> {
        let mut missing = None;
        for path in places(from, way, Some(named).filter(|_| is_apart)) {
            let found = Participant::open(self.fs, &path).map_err(Why::Unreachable);
            match found.and_then(|found| is_it(&found).map(|proof| (found, proof))) {
                Ok(found) => return Ok(found),
                Err(why) => missing = missing.or(Some(Missing { path, why })),
            }
        }
        Err(missing.unwrap_or_else(|| {
            let nowhere = io::Error::from(io::ErrorKind::NotFound);
            let why = Why::Unreachable(Failure::at("open", named, nowhere));
            Missing { path: named.to_owned(), why }
        }))
    }

    fn way(&self, number: usize) -> Way {
        let Record { dirs, ways, .. } = self.record;
        if let Some(way) = ways.get(number) {
            let (from_first, to_first) = (way.from_first.clone(), way.to_first.clone());
            return Way { from_first, to_first, is_apart: way.is_apart };
        }
        let (Some(first), Some(other)) = (dirs.first(), dirs.get(number)) else {
            return Way { from_first: None, to_first: None, is_apart: false };
        };
        Way { from_first: between(first, other), to_first: between(other, first), is_apart: true }
    }
}

/// How the directories of a transaction are found from the first one, and back, for its record.
/// Nothing where there is no other.
pub(super) fn ways<F: FileSystem>(participants: &[Participant<F>]) -> Vec<RecordWay> {
    let Some((first, others)) = participants.split_first().filter(|(_, rest)| !rest.is_empty())
    else {
        return Vec::new();
    };
    let mount = |it: &Participant<F>| (it.device(), it.dir.mount_number());
    let (path, mounted) = (first.dir.real_path(), mount(first));
    let inode = first.metadata.id.inode;
    let own = RecordWay { inode, is_apart: false, from_first: None, to_first: None };
    let way = |other: &Participant<F>| {
        let real = other.dir.real_path();
        RecordWay {
            inode: other.metadata.id.inode,
            is_apart: mount(other) != mounted,
            from_first: between(&path, &real),
            to_first: between(&real, &path),
        }
    };
    std::iter::once(own).chain(others.iter().map(way)).collect()
}

/// Where a directory may be, seen from another one. Its path as it was found comes first, because it
/// is what the caller knows.
fn places<F: FileSystem>(
    from: &Dir<F>,
    way: Option<&Path>,
    named: Option<&Path>,
) -> impl Iterator<Item = PathBuf> {
    let found = way.and_then(|way| along(from.path(), way));
    let known = found.clone();
    let real = move || {
        let real = along(&from.real_path(), way?);
        real.filter(|path| known.as_ref() != Some(path))
    };
    let named = named.map(Path::to_owned);
    found.into_iter().chain(std::iter::once_with(real).flatten()).chain(named)
}

impl Missing {
    /// Why nothing can be done, and what a person can do.
    pub(super) fn reason(&self) -> String {
        const GONE: &str =
            "if it is gone for good, look at what the files hold and remove this record";
        let path = self.path.display();
        match &self.why {
            Why::Unreachable(failure) => format!(
                "'{path}' cannot be reached ({failure}): mount its file system, or bring it there \
                 from where this folder was copied or moved; {GONE}"
            ),
            Why::NotTheOne => format!(
                "'{path}' is not the folder that it was: mount its file system, or bring it there \
                 from where this folder was copied or moved; {GONE}"
            ),
            Why::OfAnotherTree => format!(
                "'{path}' belongs to another copy of this folder, or to the one that it was copied \
                 from: bring its own there, or this folder back to where it was; {GONE}"
            ),
        }
    }
}
