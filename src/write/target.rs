//! Which file is meant: the folder that holds it, its name there, and what is there now.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Options;
use crate::errno::Code;
use crate::error::Failure;
use crate::fs::{FileKind, FileSystem, FolderUse, Metadata, uninterrupted};

/// How many symbolic links are followed before they are taken for a loop, as in Linux.
const LINKS: usize = 40;

/// The file that is to be replaced. Its folder is held open, so that everything that
/// follows happens in this folder whatever becomes of the path that led to it.
pub(super) struct Target<F: FileSystem> {
    pub(super) folder: F::Folder,
    pub(super) folder_path: PathBuf,
    pub(super) name: OsString,
    /// The regular file that is there now.
    pub(super) existing: Option<Metadata>,
}

impl<F: FileSystem> Target<F> {
    /// The path of a name in the target's folder, for messages.
    pub(super) fn shown(&self, name: &std::ffi::OsStr) -> PathBuf {
        self.folder_path.join(name)
    }
}

/// Finds the target of `path`, following symbolic links if that is asked for. A link
/// whose file does not exist leads to the place where the file will be.
pub(super) fn resolve<F: FileSystem>(
    fs: &F,
    path: &Path,
    options: &Options,
) -> Result<Target<F>, Failure> {
    let purpose = match options.durability.syncs_folder() {
        true => FolderUse::NamesAndSync,
        false => FolderUse::Names,
    };
    let mut path = path.to_owned();
    for _ in 0..=LINKS {
        let (folder_path, name) = split(&path)?;
        let folder = uninterrupted(|| fs.open_folder(&folder_path, purpose))
            .map_err(|error| Failure::at("open", &folder_path, error))?;
        let found = match uninterrupted(|| fs.metadata(&folder, &name)) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::at("lstat", &path, error)),
        };
        let existing = match found {
            Some(link) if link.kind == FileKind::Link => {
                if options.follow_symlinks {
                    path = follow(fs, &folder, folder_path, &name, &link)?;
                    continue;
                }
                None
            }
            Some(other) if other.kind == FileKind::Other => {
                // Renaming a file over a device or a pipe would take it out of the
                // system. Nobody means that.
                return Err(Failure::at("rename", &path, Code::EINVAL.error()));
            }
            // A folder is left to the rename, which refuses it.
            Some(folder) if folder.kind == FileKind::Folder => None,
            file => file,
        };
        return Ok(Target { folder, folder_path, name, existing });
    }
    Err(Failure::at("open", &path, Code::ELOOP.error()))
}

/// Where a symbolic link leads.
fn follow<F: FileSystem>(
    fs: &F,
    folder: &F::Folder,
    folder_path: PathBuf,
    name: &OsString,
    link: &Metadata,
) -> Result<PathBuf, Failure> {
    let path = folder_path.join(name);
    let denied = |error| Failure::at("readlink", &path, error);
    // In a shared folder like /tmp anybody may plant a link. The kernel follows only
    // those of the process's own user and of the folder's owner there
    // (fs.protected_symlinks); links that are read by hand need the same care.
    const SHARED: u32 = 0o1002;
    if let Some(user) = fs.effective_user()
        && link.uid != user
    {
        let around = uninterrupted(|| fs.folder_metadata(folder)).map_err(denied)?;
        if around.mode & SHARED == SHARED && link.uid != around.uid {
            return Err(denied(Code::EACCES.error()));
        }
    }
    let leads_to = uninterrupted(|| fs.read_link(folder, name)).map_err(denied)?;
    Ok(folder_path.join(leads_to))
}

/// The folder and the name of a path. A path that ends in a separator, `.` or `..` names
/// a folder, and no file can take its place.
fn split(path: &Path) -> Result<(PathBuf, OsString), Failure> {
    let is_separator = |byte: &u8| std::path::is_separator(char::from(*byte));
    let bytes = path.as_os_str().as_encoded_bytes();
    let last = bytes.rsplit(is_separator).next().unwrap_or_default();
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) if !matches!(last, b"" | b"." | b"..") => {
            Ok((folder.to_owned(), name.to_owned()))
        }
        _ => Err(Failure::at("open", path, Code::EISDIR.error())),
    }
}
