//! Directories: opened by a path or by a name in another one, made and removed there.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::path::Path;

use windows_sys::Wdk::Storage::FileSystem::{
    FILE_CREATE, FILE_DIRECTORY_FILE, FILE_OPEN, FILE_OPEN_REPARSE_POINT,
};
use windows_sys::Win32::Storage::FileSystem::*;

use super::native::{self, Disposition, GONE_AT_ONCE, Name, Opening, Replacing, is_unknown};
use crate::error::Code;
use crate::fs::DirUse;

/// Opens the directory at `path`, links followed. Also says whether it can be flushed.
pub(super) fn open(path: &Path, purpose: DirUse) -> io::Result<(OwnedHandle, bool)> {
    let open = |access: FILE_ACCESS_RIGHTS| {
        let opened = OpenOptions::new()
            .access_mode(access)
            .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
            .open(path);
        opened.map(OwnedHandle::from)
    };
    open_by(open, purpose)
}

/// Opens the directory of this name in another one, a link followed.
pub(super) fn open_in(
    dir: BorrowedHandle<'_>,
    name: &OsStr,
    purpose: DirUse,
) -> io::Result<(OwnedHandle, bool)> {
    let own_name = Name::new(name)?;
    let open = |access: FILE_ACCESS_RIGHTS| {
        let access = access | FILE_READ_ATTRIBUTES;
        let opening = Opening { access, disposition: FILE_OPEN, options: 0, attributes: 0 };
        native::open_at(dir, &own_name, &opening)
    };
    open_by(open, purpose)
}

/// Opens a directory with the rights that its use takes.
fn open_by(
    open: impl Fn(FILE_ACCESS_RIGHTS) -> io::Result<OwnedHandle>,
    purpose: DirUse,
) -> io::Result<(OwnedHandle, bool)> {
    // A directory can be flushed with either of these (MS-SMB2, 3.3.5.11). The second is
    // all that a user has in the root directory of the system's disk.
    let rights: &[FILE_ACCESS_RIGHTS] = match purpose {
        DirUse::Names => &[],
        DirUse::NamesAndSync => &[FILE_ADD_FILE, FILE_ADD_SUBDIRECTORY],
    };
    let flushable = rights.iter().find_map(|access| open(*access).ok());
    let (handle, flushable) = match flushable {
        Some(handle) => (handle, true),
        None => (open(0)?, false),
    };
    let is_dir =
        native::general(handle.as_handle())?.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY != 0;
    if !is_dir {
        return Err(Code::ENOTDIR.error());
    }
    Ok((handle, flushable))
}

/// Makes a directory in another one.
pub(super) fn make_in(above: BorrowedHandle<'_>, name: &OsStr) -> io::Result<()> {
    let opening = Opening {
        access: FILE_READ_ATTRIBUTES,
        disposition: FILE_CREATE,
        options: FILE_DIRECTORY_FILE,
        attributes: FILE_ATTRIBUTE_NORMAL,
    };
    native::open_at(above, &Name::new(name)?, &opening).map(drop)
}

/// Gives a directory in another one another name, which nothing has.
pub(super) fn rename_in(dir: BorrowedHandle<'_>, from: &OsStr, to: &OsStr) -> io::Result<()> {
    let opening = Opening {
        access: DELETE,
        disposition: FILE_OPEN,
        options: FILE_DIRECTORY_FILE | FILE_OPEN_REPARSE_POINT,
        attributes: 0,
    };
    let found = native::open_at(dir, &Name::new(from)?, &opening)?;
    native::rename_at(found.as_handle(), dir, &Name::new(to)?, Replacing::Nothing)
}

/// Removes an empty directory in another one.
pub(super) fn remove_in(dir: BorrowedHandle<'_>, name: &OsStr) -> io::Result<()> {
    let opening = Opening {
        access: DELETE,
        disposition: FILE_OPEN,
        options: FILE_DIRECTORY_FILE | FILE_OPEN_REPARSE_POINT,
        attributes: 0,
    };
    let found = native::open_at(dir, &Name::new(name)?, &opening)?;
    match native::set(found.as_handle(), &GONE_AT_ONCE) {
        // Before Windows 10: the name goes when the last handle is closed.
        Err(error) if is_unknown(&error) => {
            native::set(found.as_handle(), &Disposition { delete: 1 })
        }
        outcome => outcome,
    }
}
