//! What transactions have left in a directory, and whether somebody is at it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use super::moves::is_named;
use super::names::{self, Id, Name, RecordKind};
use super::record::{Damage, LARGEST, Record};
use crate::error::Failure;
use crate::fs::{DirUse, FileKind, FileSystem, Metadata, uninterrupted};
use crate::threads::blocking;

/// What a transaction that is not finished has left in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Which one.
    pub id: Id,
    /// The path of its record here.
    pub path: PathBuf,
    /// Whether it is decided.
    pub kind: RecordKind,
    /// The record.
    pub record: Result<Record, Damage>,
}

impl Unfinished {
    /// Whether a file of this name, in the directory of the record, is one of its files; also when
    /// nobody can tell, because a later version has made the record.
    pub fn names(&self, name: &OsStr) -> bool {
        match &self.record {
            Ok(record) => {
                record.members.iter().any(|member| member.dir == record.here && member.name == name)
            }
            Err(Damage::Version(_)) => true,
            Err(_) => false,
        }
    }
}

/// The transactions that have a record in a directory; those that are under way are among them.
pub fn unfinished<F: FileSystem>(fs: &F, dir: &Path) -> Result<Vec<Unfinished>, Failure> {
    let place = Place::open(fs, dir)?;
    let mut found = Vec::new();
    for name in place.names(fs)? {
        let Some(Name::Record(id, kind)) = names::parse(&name) else { continue };
        let path = place.path.join(&name);
        let metadata = uninterrupted(|| fs.metadata(&place.dir, &name));
        if metadata.is_ok_and(|found| !is_trusted(fs, &place.metadata, &found)) {
            // Or anybody could keep everybody from their transactions in `/tmp`.
            continue;
        }
        let read = uninterrupted(|| fs.open(&place.dir, &name))
            .and_then(|file| read_record(fs, &file, id));
        match read {
            Ok(record) => found.push(Unfinished { id, path, kind, record }),
            // It has been finished since it was listed, or decided: then it has another name.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let intent = names::record(id, RecordKind::Intent);
                if kind == RecordKind::Prepared
                    && let Ok(file) = uninterrupted(|| fs.open(&place.dir, &intent))
                {
                    let record = read_record(fs, &file, id)
                        .map_err(|error| Failure::at("read", &path, error))?;
                    let path = place.path.join(&intent);
                    found.push(Unfinished { id, path, kind: RecordKind::Intent, record });
                }
            }
            Err(error) => return Err(Failure::at("open", path, error)),
        }
    }
    Ok(found)
}

/// A directory.
pub(super) struct Place<F: FileSystem> {
    pub(super) dir: F::DirHandle,
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
}

impl<F: FileSystem> Place<F> {
    pub(super) fn open(fs: &F, path: &Path) -> Result<Place<F>, Failure> {
        let failed = |error| Failure::at("open", path, error);
        let dir = uninterrupted(|| fs.open_dir(path, DirUse::NamesAndSync));
        let dir = dir.map_err(failed)?;
        let metadata = uninterrupted(|| fs.dir_metadata(&dir)).map_err(failed)?;
        Ok(Place { dir, path: path.to_owned(), metadata })
    }

    pub(super) fn names(&self, fs: &F) -> Result<Vec<OsString>, Failure> {
        uninterrupted(|| fs.names(&self.dir))
            .map_err(|error| Failure::at("scandir", &self.path, error))
    }

    pub(super) fn sync(&self, fs: &F, file: Option<&F::FileHandle>) -> Result<(), Failure> {
        uninterrupted(|| blocking(|| fs.sync_dir(&self.dir, file)))
            .map_err(|error| Failure::at("fsync", &self.path, error))
    }

    /// Removes a name, which may be gone already.
    pub(super) fn remove(&self, fs: &F, name: &OsStr) -> Result<(), Failure> {
        match uninterrupted(|| fs.remove(&self.dir, name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::at("unlink", self.path.join(name), error))
            }
            _ => Ok(()),
        }
    }
}

/// A record in a directory, and who has it.
pub(super) enum Claim<F: FileSystem> {
    /// There is none.
    Nothing,
    /// A process is at it.
    InUse(PathBuf),
    /// It is no file; or somebody has put it into a directory that everybody may write to, who has no
    /// say there.
    Foreign(PathBuf),
    /// It is locked by us.
    Ours(Claimed<F>),
}

pub(super) struct Claimed<F: FileSystem> {
    pub(super) file: F::FileHandle,
    pub(super) kind: RecordKind,
    pub(super) path: PathBuf,
}

/// Takes hold of the record in a directory, if it has no live owner.
pub(super) fn claim<F: FileSystem>(fs: &F, place: &Place<F>, id: Id) -> Result<Claim<F>, Failure> {
    // It may get its other name meanwhile.
    for _ in 0..8 {
        let mut has_moved = false;
        for kind in [RecordKind::Intent, RecordKind::Prepared] {
            let name = names::record(id, kind);
            let path = place.path.join(&name);
            let failed = |syscall, error| Failure::at(syscall, &path, error);
            match uninterrupted(|| fs.metadata(&place.dir, &name)) {
                Ok(found) if !is_trusted(fs, &place.metadata, &found) => {
                    return Ok(Claim::Foreign(path));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("lstat", error)),
            }
            let file = match uninterrupted(|| fs.open_to_change(&place.dir, &name)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed("open", error)),
            };
            // It may have been exchanged since it was looked at.
            let own = uninterrupted(|| fs.file_metadata(&file))
                .map_err(|error| failed("fstat", error))?;
            if !is_trusted(fs, &place.metadata, &own) {
                return Ok(Claim::Foreign(path));
            }
            if !uninterrupted(|| fs.try_lock(&file)).map_err(|error| failed("flock", error))? {
                return Ok(Claim::InUse(path));
            }
            if is_named(fs, &place.dir, &file, &name) {
                return Ok(Claim::Ours(Claimed { file, kind, path }));
            }
            has_moved = true;
        }
        if !has_moved {
            return Ok(Claim::Nothing);
        }
    }
    Ok(Claim::InUse(place.path.clone()))
}

/// Whether something that has the name of a record may be one: a file, and in a directory where
/// everybody may put one (`/tmp`) that of the process's user or of the directory's owner. The same care
/// as for symbolic links.
pub(super) fn is_trusted<F: FileSystem>(fs: &F, dir: &Metadata, found: &Metadata) -> bool {
    const SHARED: u32 = 0o1002;
    let is_foreign = dir.mode & SHARED == SHARED
        && fs.effective_user().is_some_and(|user| found.uid != user && found.uid != dir.uid);
    found.kind == FileKind::File && !is_foreign
}

pub(super) fn read_record<F: FileSystem>(
    fs: &F,
    file: &F::FileHandle,
    id: Id,
) -> io::Result<Result<Record, Damage>> {
    let size = uninterrupted(|| fs.file_metadata(file))?.size;
    let Some(size) = usize::try_from(size).ok().filter(|size| *size <= LARGEST) else {
        return Ok(Err(Damage::Nonsense));
    };
    let mut bytes = vec![0; size];
    let mut done = 0;
    while let Some(room) = bytes.get_mut(done..).filter(|room| !room.is_empty()) {
        match uninterrupted(|| fs.read(file, room, done as u64))? {
            0 => break,
            count => done += count,
        }
    }
    bytes.truncate(done);
    Ok(Record::decode(&bytes).and_then(|record| match record.id == id {
        true => Ok(record),
        false => Err(Damage::Nonsense),
    }))
}
