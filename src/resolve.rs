//! Which file a path means: the directory that holds it, its name there, and what is there
//! now. Writes and locks find their files here, so that they always mean the same one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Code;
use crate::error::Failure;
use crate::fs::{DirUse, FileKind, FileSystem, Metadata, uninterrupted};

/// How many symbolic links are followed before they are taken for a loop, as in Linux.
const LINKS: usize = 40;

/// The file that is to be replaced. Its directory is held open, so that everything that
/// follows happens in this directory whatever becomes of the path that led to it.
pub struct Target<F: FileSystem> {
    /// The directory.
    pub dir: F::DirHandle,
    /// Where it was found.
    pub dir_path: PathBuf,
    /// The file's name in it.
    pub name: OsString,
    /// What is there now. A symbolic link only where links are not followed.
    pub existing: Option<Metadata>,
}

impl<F: FileSystem> Target<F> {
    /// The path of a name in the target's directory, for messages.
    pub fn shown(&self, name: &std::ffi::OsStr) -> PathBuf {
        self.dir_path.join(name)
    }

    /// Opens the file for reading. `None` when there is none; an error when it is anything
    /// but a regular file.
    pub fn open(&self, fs: &F) -> Result<Option<F::FileHandle>, Failure> {
        let failed = |error| Failure::at("open", self.shown(&self.name), error);
        match self.existing.map(|existing| existing.kind) {
            None => return Ok(None),
            Some(FileKind::File) => {}
            Some(FileKind::Dir) => return Err(failed(Code::EISDIR.error())),
            Some(FileKind::Link) => return Err(failed(Code::ELOOP.error())),
            Some(FileKind::Other) => return Err(failed(Code::EINVAL.error())),
        }
        match uninterrupted(|| fs.open(&self.dir, &self.name)) {
            Ok(file) => Ok(Some(file)),
            // Removed since it was looked at.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
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
        let dir = uninterrupted(|| fs.open_dir(&dir_path, purpose))
            .map_err(|error| Failure::at("open", &dir_path, error))?;
        let existing = match uninterrupted(|| fs.metadata(&dir, &name)) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::at("lstat", &path, error)),
        };
        match existing {
            Some(link) if follow_symlinks && link.kind == FileKind::Link => {
                path = follow(fs, &dir, dir_path, &name, &link)?;
            }
            existing => return Ok(Target { dir, dir_path, name, existing }),
        }
    }
    Err(Failure::at("open", &path, Code::ELOOP.error()))
}

/// Where a symbolic link leads.
fn follow<F: FileSystem>(
    fs: &F,
    dir: &F::DirHandle,
    dir_path: PathBuf,
    name: &OsString,
    link: &Metadata,
) -> Result<PathBuf, Failure> {
    let path = dir_path.join(name);
    let denied = |error| Failure::at("readlink", &path, error);
    // In a shared directory like /tmp anybody may plant a link. The kernel follows only
    // those of the process's own user and of the directory's owner there
    // (fs.protected_symlinks); links that are read by hand need the same care.
    const SHARED: u32 = 0o1002;
    if let Some(user) = fs.effective_user()
        && link.uid != user
    {
        let around = uninterrupted(|| fs.dir_metadata(dir)).map_err(denied)?;
        if around.mode & SHARED == SHARED && link.uid != around.uid {
            return Err(denied(Code::EACCES.error()));
        }
    }
    let leads_to = uninterrupted(|| fs.read_link(dir, name)).map_err(denied)?;
    Ok(dir_path.join(leads_to))
}

/// The directory and the name of a path. A path that ends in a separator, `.` or `..` names
/// a directory, and no file can take its place.
fn split(path: &Path) -> Result<(PathBuf, OsString), Failure> {
    let is_separator = |byte: &u8| std::path::is_separator(char::from(*byte));
    let bytes = path.as_os_str().as_encoded_bytes();
    let last = bytes.rsplit(is_separator).next().unwrap_or_default();
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) if !matches!(last, b"" | b"." | b"..") => {
            Ok((dir.to_owned(), name.to_owned()))
        }
        _ => Err(Failure::at("open", path, Code::EISDIR.error())),
    }
}
