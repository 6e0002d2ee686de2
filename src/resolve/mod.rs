//! Which file a path means: the directory that holds it, its name there, and what is there
//! now. Writes and locks find their files here, so that they always mean the same one, and their
//! calls wait here, in the order in which they were made, until it is found.

pub(crate) mod unresolved;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::error::Code;
use crate::error::Failure;
use crate::fs::{Dir, DirUse, File, FileKind, FileSystem, Metadata};
use crate::vocabulary::GuardedFile;

/// How many symbolic links are followed before they are taken for a loop, as in Linux.
const LINKS: usize = 40;

/// The file that is to be replaced. Its directory is held open, so that everything that
/// follows happens in this directory whatever becomes of the path that led to it.
pub struct Target<F: FileSystem> {
    /// The directory.
    pub dir: Dir<F>,
    /// The file's name in it.
    pub name: OsString,
    /// What is there now. A symbolic link only where links are not followed.
    pub existing: Option<Metadata>,
}

impl<F: FileSystem> Target<F> {
    /// The path of the file, for messages.
    pub fn path(&self) -> PathBuf {
        self.dir.shown(&self.name)
    }

    /// Makes sure that this is the file whose lock is held: a link on the way may have been changed
    /// since. Fails with `ESTALE`.
    pub fn must_be(&self, guarded: &GuardedFile) -> Result<(), Failure> {
        let dir = self.dir.metadata()?.id;
        // Where a directory has another number at each look it cannot be told.
        if guarded.is(dir, &self.name) || self.dir.metadata()?.id != dir {
            return Ok(());
        }
        Err(Failure::at("open", self.path(), Code::ESTALE.error()))
    }

    /// Opens the file for reading. `None` when there is none; an error when it is anything
    /// but a regular file.
    pub fn open(&self) -> Result<Option<File<F>>, Failure> {
        let refused = |code: Code| Err(Failure::at("open", self.path(), code.error()));
        match self.existing.map(|existing| existing.kind) {
            None => return Ok(None),
            Some(FileKind::File) => {}
            Some(FileKind::Dir) => return refused(Code::EISDIR),
            Some(FileKind::Link) => return refused(Code::ELOOP),
            Some(FileKind::Other(special)) => {
                return Err(Failure::special("open", self.path(), special.name()));
            }
        }
        match self.dir.open_file(&self.name) {
            // It was removed after it was looked at.
            Err(failure) if failure.is_not_found() => Ok(None),
            opened => opened.map(Some),
        }
    }
}

/// Finds the target of `path`, following symbolic links if that is asked for. A link
/// whose file does not exist leads to the place where the file will be.
pub fn target<F: FileSystem>(
    fs: &F,
    path: &Path,
    follow_symlinks: bool,
    purpose: DirUse,
) -> Result<Target<F>, Failure> {
    let mut path = path.to_owned();
    for _ in 0..=LINKS {
        let (dir_path, name) = split(&path)?;
        let dir = Dir::open(fs, dir_path, purpose)?;
        // The path as it was given, which may be spelt differently from the directory's.
        let existing = dir.look(name).map_err(|failure| failure.on(&path))?;
        match existing {
            Some(link) if follow_symlinks && link.kind == FileKind::Link => {
                path = follow(&dir, name, &link)?;
            }
            existing => return Ok(Target { dir, name: name.to_owned(), existing }),
        }
    }
    Err(Failure::at("open", &path, Code::ELOOP.error()))
}

/// Where a symbolic link leads.
fn follow<F: FileSystem>(dir: &Dir<F>, name: &OsStr, link: &Metadata) -> Result<PathBuf, Failure> {
    // In a shared directory like /tmp any user may plant a link. The kernel follows only
    // those of the process's own user and of the directory's owner there
    // (fs.protected_symlinks); links that are read by hand need the same care.
    const SHARED: u32 = 0o1002;
    if let Some(user) = dir.fs().effective_user()
        && link.uid != user
    {
        // To the caller, looking at the directory is a part of reading the link.
        let around = dir
            .metadata()
            .map_err(|failure| Failure::at("readlink", dir.shown(name), failure.source))?;
        if around.mode & SHARED == SHARED && link.uid != around.uid {
            return Err(Failure::at("readlink", dir.shown(name), Code::EACCES.error()));
        }
    }
    // Such a link leads to what a process has open. Its text is no path, or that of a file which the
    // process goes on using when another one has its name.
    if dir.fs().is_process_dir(dir.handle(), link) {
        return Err(Failure::at("open", dir.shown(name), Code::EINVAL.error()));
    }
    Ok(dir.path().join(dir.read_link(name)?))
}

/// The directory and the name of a path. A path that ends in a separator, `.` or `..` names
/// a directory, and no file can take its place.
fn split(path: &Path) -> Result<(&Path, &OsStr), Failure> {
    let is_separator = |byte: &u8| std::path::is_separator(char::from(*byte));
    let bytes = path.as_os_str().as_encoded_bytes();
    let last = bytes.rsplit(is_separator).next().unwrap_or_default();
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) if !matches!(last, b"" | b"." | b"..") => Ok((dir, name)),
        _ => Err(Failure::at("open", path, Code::EISDIR.error())),
    }
}
