//! Names in open directories: opening, listing, renaming.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::{offset_of, size_of};
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr::{null, null_mut};

use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem::{
    FILE_DIRECTORY_FILE, FILE_INFORMATION_CLASS, FILE_NON_DIRECTORY_FILE, FILE_OPEN,
    FILE_RENAME_IGNORE_READONLY_ATTRIBUTE, FILE_RENAME_POSIX_SEMANTICS,
    FILE_RENAME_REPLACE_IF_EXISTS, FILE_SYNCHRONOUS_IO_NONALERT, FileRenameInformation,
    FileRenameInformationEx, NTCREATEFILE_CREATE_DISPOSITION, NTCREATEFILE_CREATE_OPTIONS,
    NtCreateFile, NtSetInformationFile,
};
use windows_sys::Win32::Foundation::*;
use windows_sys::Win32::Storage::FileSystem::*;
use windows_sys::Win32::System::IO::IO_STATUS_BLOCK;

use super::{check, check_status, error_of, is};
use crate::error::Code;

/// The longest name in UTF-16 units, on every Windows file system.
const LONGEST_NAME: usize = 255;

/// A name in a directory, as the kernel takes it.
pub(in super::super) struct Name {
    units: Vec<u16>,
}

impl Name {
    /// Refuses what would not be a name in the directory: with a separator in it, or a colon,
    /// which leads to a stream of another file.
    pub(in super::super) fn new(name: &OsStr) -> io::Result<Name> {
        let units: Vec<u16> = name.encode_wide().collect();
        let is_foreign =
            |unit: &u16| [0, u16::from(b'/'), u16::from(b'\\'), u16::from(b':')].contains(unit);
        if units.is_empty() || name == "." || name == ".." || units.iter().any(is_foreign) {
            return Err(Code::EINVAL.error());
        }
        if units.len() > LONGEST_NAME {
            return Err(Code::ENAMETOOLONG.error());
        }
        Ok(Name { units })
    }

    fn bytes(&self) -> u16 {
        // At most 2 × 255, as `new` makes sure.
        (self.units.len() * size_of::<u16>()) as u16
    }
}

/// How a name is opened.
pub(in super::super) struct Opening {
    pub(in super::super) access: FILE_ACCESS_RIGHTS,
    pub(in super::super) disposition: NTCREATEFILE_CREATE_DISPOSITION,
    pub(in super::super) options: NTCREATEFILE_CREATE_OPTIONS,
    pub(in super::super) attributes: FILE_FLAGS_AND_ATTRIBUTES,
}

/// Opens or makes a file by its name in a directory. A link is followed unless the options
/// hold `FILE_OPEN_REPARSE_POINT`. Everybody else may do to the file what they like
/// meanwhile.
pub(in super::super) fn open_at(
    dir: BorrowedHandle<'_>,
    name: &Name,
    opening: &Opening,
) -> io::Result<OwnedHandle> {
    let text = UNICODE_STRING {
        Length: name.bytes(),
        MaximumLength: name.bytes(),
        Buffer: name.units.as_ptr().cast_mut(),
    };
    let object = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: dir.as_raw_handle(),
        ObjectName: &text,
        // As all of Win32 opens files; directories that tell upper from lower case still do.
        Attributes: OBJ_CASE_INSENSITIVE,
        SecurityDescriptor: null(),
        SecurityQualityOfService: null(),
    };
    let mut handle = null_mut();
    let mut answer = IO_STATUS_BLOCK::default();
    // SAFETY: `text` and `object` point at memory that outlives the call, which only
    // reads it; `handle` and `answer` are written by it and belong to this frame. The
    // file is opened for synchronous use, so nothing is written after the return.
    let status = unsafe {
        NtCreateFile(
            &mut handle,
            opening.access | SYNCHRONIZE,
            &object,
            &mut answer,
            null(),
            opening.attributes,
            FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
            opening.disposition,
            opening.options | FILE_SYNCHRONOUS_IO_NONALERT,
            null(),
            0,
        )
    };
    check_status(status)?;
    // SAFETY: the call succeeded, so this is an open handle, and no other code has it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// Opens a directory once more, wherever it is now.
pub(in super::super) fn reopen_dir(
    dir: BorrowedHandle<'_>,
    access: FILE_ACCESS_RIGHTS,
) -> io::Result<OwnedHandle> {
    reopen(dir, access, FILE_DIRECTORY_FILE)
}

/// The same for a file.
pub(in super::super) fn reopen_file(
    file: BorrowedHandle<'_>,
    access: FILE_ACCESS_RIGHTS,
) -> io::Result<OwnedHandle> {
    reopen(file, access, FILE_NON_DIRECTORY_FILE)
}

fn reopen(
    open: BorrowedHandle<'_>,
    access: FILE_ACCESS_RIGHTS,
    options: NTCREATEFILE_CREATE_OPTIONS,
) -> io::Result<OwnedHandle> {
    let itself = Name { units: Vec::new() };
    let opening = Opening { access, disposition: FILE_OPEN, options, attributes: 0 };
    open_at(open, &itself, &opening)
}

/// The names in a directory, from where its handle has been listed to before.
pub(in super::super) fn names(dir: BorrowedHandle<'_>) -> io::Result<Vec<OsString>> {
    // Aligned as the structures in it are. Network redirectors take no larger one.
    let mut room = vec![0_u64; (64 << 10) / size_of::<u64>()];
    let bytes = room.len() * size_of::<u64>();
    let mut names = Vec::new();
    loop {
        // SAFETY: `room` has as many bytes as the call is told.
        let outcome = check(unsafe {
            GetFileInformationByHandleEx(
                dir.as_raw_handle(),
                FileFullDirectoryInfo,
                room.as_mut_ptr().cast(),
                bytes as u32,
            )
        });
        match outcome {
            // The second is what an empty directory without '.' and '..' answers.
            Err(error) if is(&error, ERROR_NO_MORE_FILES) || is(&error, ERROR_FILE_NOT_FOUND) => {
                return Ok(names);
            }
            outcome => outcome?,
        }
        // SAFETY: these are the bytes of `room`, which are numbers of any value.
        let entries = unsafe { std::slice::from_raw_parts(room.as_ptr().cast::<u8>(), bytes) };
        let listed = names_in(entries).ok_or_else(|| error_of(ERROR_INVALID_DATA))?;
        names.extend(listed.into_iter().filter(|name| name != "." && name != ".."));
    }
}

/// The names in a chain of `FILE_FULL_DIR_INFO`. `None` if it leads out of the buffer.
pub(super) fn names_in(mut entries: &[u8]) -> Option<Vec<OsString>> {
    let number = |entry: &[u8], at: usize| {
        let bytes = entry.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_ne_bytes(*bytes)).ok()
    };
    let mut names = Vec::new();
    loop {
        let length = number(entries, offset_of!(FILE_FULL_DIR_INFO, FileNameLength))?;
        let name = entries.get(offset_of!(FILE_FULL_DIR_INFO, FileName)..)?.get(..length)?;
        let units = name.chunks_exact(size_of::<u16>());
        let units: Vec<u16> =
            units.filter_map(|unit| Some(u16::from_ne_bytes(*unit.first_chunk()?))).collect();
        names.push(OsString::from_wide(&units));
        match number(entries, offset_of!(FILE_FULL_DIR_INFO, NextEntryOffset))? {
            0 => return Some(names),
            next => entries = entries.get(next..)?,
        }
    }
}

/// How a rename treats what has the name already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Replacing {
    /// As POSIX does, read-only or not (Windows 10 1809 and later, NTFS).
    Any,
    /// As POSIX does, but not if it is read-only (Windows 10 1607 and later, NTFS).
    Writable,
    /// Only if no process has it open (every Windows and file system).
    Closed,
    /// Not at all (every Windows and file system).
    Nothing,
}

/// Gives an open file a name in a directory.
pub(in super::super) fn rename_at(
    file: BorrowedHandle<'_>,
    dir: BorrowedHandle<'_>,
    name: &Name,
    replacing: Replacing,
) -> io::Result<()> {
    /// `FILE_RENAME_INFORMATION` with room for the longest name.
    #[repr(C)]
    struct Rename {
        flags: u32,
        dir: HANDLE,
        name_bytes: u32,
        name: [u16; LONGEST_NAME],
    }
    let posix = FILE_RENAME_REPLACE_IF_EXISTS | FILE_RENAME_POSIX_SEMANTICS;
    let (class, flags): (FILE_INFORMATION_CLASS, u32) = match replacing {
        Replacing::Any => (FileRenameInformationEx, posix | FILE_RENAME_IGNORE_READONLY_ATTRIBUTE),
        Replacing::Writable => (FileRenameInformationEx, posix),
        // A BOOLEAN here, in the first byte.
        Replacing::Closed => (FileRenameInformation, 1),
        Replacing::Nothing => (FileRenameInformation, 0),
    };
    let mut rename = Rename {
        flags,
        dir: dir.as_raw_handle(),
        name_bytes: name.bytes().into(),
        name: [0; LONGEST_NAME],
    };
    for (to, from) in rename.name.iter_mut().zip(&name.units) {
        *to = *from;
    }
    let mut answer = IO_STATUS_BLOCK::default();
    // SAFETY: `rename` has the layout that both classes ask for, with the name's length
    // in bytes within its room; the handles are open while they are borrowed.
    let status = unsafe {
        NtSetInformationFile(
            file.as_raw_handle(),
            &mut answer,
            (&raw const rename).cast(),
            size_of::<Rename>() as u32,
            class,
        )
    };
    check_status(status)
}

/// Renames by paths, in one step.
pub(in super::super) fn move_file(from: &Path, to: &Path, replaces: bool) -> io::Result<()> {
    let (from, to) = (terminated(from), terminated(to));
    let replacing = if replaces { MOVEFILE_REPLACE_EXISTING } else { 0 };
    let flags = replacing | MOVEFILE_WRITE_THROUGH;
    // SAFETY: both strings end with a zero and outlive the call.
    check(unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), flags) })
}

fn terminated(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}
