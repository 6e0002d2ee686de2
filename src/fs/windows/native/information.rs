//! What is known of an open file, and what of it can be set.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::mem::size_of;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{AsRawHandle, BorrowedHandle};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

use windows_sys::Win32::Storage::FileSystem::*;

use super::{check, is_unknown};
use crate::fs::FileId;

/// A structure that the system fills or takes, by its class.
///
/// # Safety
///
/// The class must be the one whose structure this is, and every bit pattern a value of it.
pub(in super::super) unsafe trait Information: Default {
    /// The class.
    const CLASS: FILE_INFO_BY_HANDLE_CLASS;
}

// SAFETY: the structure of FileBasicInfo; integers only.
unsafe impl Information for FILE_BASIC_INFO {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileBasicInfo;
}

// SAFETY: the structure of FileAttributeTagInfo; integers only.
unsafe impl Information for FILE_ATTRIBUTE_TAG_INFO {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileAttributeTagInfo;
}

// SAFETY: the structure of FileIdInfo; integers only.
unsafe impl Information for FILE_ID_INFO {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileIdInfo;
}

// SAFETY: the structure of FileDispositionInfoEx; an integer.
unsafe impl Information for FILE_DISPOSITION_INFO_EX {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileDispositionInfoEx;
}

/// Removes a name at once, even if a process has the file open, read-only or not.
pub(in super::super) const GONE_AT_ONCE: FILE_DISPOSITION_INFO_EX = FILE_DISPOSITION_INFO_EX {
    Flags: FILE_DISPOSITION_FLAG_DELETE
        | FILE_DISPOSITION_FLAG_POSIX_SEMANTICS
        | FILE_DISPOSITION_FLAG_IGNORE_READONLY_ATTRIBUTE,
};

// SAFETY: the structure of FileEndOfFileInfo; an integer.
unsafe impl Information for FILE_END_OF_FILE_INFO {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileEndOfFileInfo;
}

/// `FILE_DISPOSITION_INFO`, whose flag is a byte to the system.
#[repr(C)]
#[derive(Default)]
pub(in super::super) struct Disposition {
    /// 1 to delete.
    pub(in super::super) delete: u8,
}

// SAFETY: the structure of FileDispositionInfo; a byte.
unsafe impl Information for Disposition {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileDispositionInfo;
}

/// Asks for one kind of information about an open file.
pub(in super::super) fn get<T: Information>(file: BorrowedHandle<'_>) -> io::Result<T> {
    let mut information = T::default();
    let bytes = size_of::<T>() as u32;
    // SAFETY: `information` is the class's own structure with its size, and whatever the
    // system puts into it is a value of its type, as `Information` demands.
    check(unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            T::CLASS,
            (&raw mut information).cast(),
            bytes,
        )
    })?;
    Ok(information)
}

/// Sets one kind of information of an open file.
pub(in super::super) fn set<T: Information>(
    file: BorrowedHandle<'_>,
    information: &T,
) -> io::Result<()> {
    let bytes = size_of::<T>() as u32;
    // SAFETY: `information` is the class's own structure with its size, and is only read.
    check(unsafe {
        SetFileInformationByHandle(
            file.as_raw_handle(),
            T::CLASS,
            std::ptr::from_ref(information).cast(),
            bytes,
        )
    })
}

/// The general information about an open file.
pub(in super::super) fn general(
    file: BorrowedHandle<'_>,
) -> io::Result<BY_HANDLE_FILE_INFORMATION> {
    let mut information = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: `information` is the structure that the call fills.
    check(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &mut information) })?;
    Ok(information)
}

/// Which file this is.
pub(in super::super) fn id_of(file: BorrowedHandle<'_>) -> io::Result<FileId> {
    let id = match get::<FILE_ID_INFO>(file) {
        Ok(id) => FileId {
            device: id.VolumeSerialNumber,
            inode: u128::from_le_bytes(id.FileId.Identifier),
        },
        Err(error) if is_unknown(&error) => {
            let general = general(file)?;
            FileId {
                device: general.dwVolumeSerialNumber.into(),
                inode: wide(general.nFileIndexHigh, general.nFileIndexLow).into(),
            }
        }
        Err(error) => return Err(error),
    };
    // These stand for 'no number'. Taken at their word, all files would be one, and a
    // failed rename would look as if it had happened. There the name tells them apart.
    if [0, u128::from(u64::MAX), u128::MAX].contains(&id.inode) {
        let path = final_path(file)?;
        return Ok(FileId { inode: hash_of(&path), ..id });
    }
    Ok(id)
}

pub(super) fn hash_of(path: &Path) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, path).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// A number that comes in two halves.
pub(in super::super) fn wide(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Where an open file is now, without links, in the form that has no length limit.
pub(in super::super) fn final_path(file: BorrowedHandle<'_>) -> io::Result<PathBuf> {
    let mut units: Vec<u16> = vec![0; 512];
    loop {
        let room = u32::try_from(units.len()).unwrap_or(u32::MAX);
        // SAFETY: the buffer has room for as many units as the call is told.
        let length = unsafe {
            GetFinalPathNameByHandleW(
                file.as_raw_handle(),
                units.as_mut_ptr(),
                room,
                FILE_NAME_OPENED | VOLUME_NAME_DOS,
            )
        };
        if length == 0 {
            return Err(io::Error::last_os_error());
        }
        let length = length as usize;
        if let Some(path) = units.get(..length)
            && length < units.len()
        {
            return Ok(OsString::from_wide(path).into());
        }
        // Too small: the length that is needed, its terminating zero included.
        units.resize(length.max(units.len() * 2), 0);
    }
}

/// Whether the file system keeps a journal of what happens to names (NTFS, ReFS).
pub(in super::super) fn has_journal(file: BorrowedHandle<'_>) -> bool {
    let mut name = [0_u16; 32];
    // SAFETY: the buffer has room for as many units as the call is told, and null is
    // allowed for everything that is not asked for.
    let known = unsafe {
        GetVolumeInformationByHandleW(
            file.as_raw_handle(),
            null_mut(),
            0,
            null_mut(),
            null_mut(),
            null_mut(),
            name.as_mut_ptr(),
            name.len() as u32,
        )
    };
    let is = |journalled: &str| {
        journalled.encode_utf16().chain([0]).eq(name.iter().copied().take(journalled.len() + 1))
    };
    known != 0 && (is("NTFS") || is("ReFS"))
}
