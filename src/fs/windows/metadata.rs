//! The metadata of a file, from what Windows reports.

use std::io;
use std::os::windows::io::BorrowedHandle;
use std::time::{Duration, SystemTime};

use windows_sys::Wdk::Storage::FileSystem::{
    IO_REPARSE_TAG_LX_BLK, IO_REPARSE_TAG_LX_CHR, IO_REPARSE_TAG_LX_FIFO, IO_REPARSE_TAG_LX_SYMLINK,
};
use windows_sys::Win32::Storage::FileSystem::*;
use windows_sys::Win32::System::SystemServices::{
    IO_REPARSE_TAG_AF_UNIX, IO_REPARSE_TAG_MOUNT_POINT, IO_REPARSE_TAG_SYMLINK,
};

use super::native;
use crate::fs::{FileKind, Metadata, SpecialFile};

/// The permission bit that Windows has an equivalent for: without it a file is read-only.
pub(super) const OWNER_MAY_WRITE: u32 = 0o200;

/// File attributes with the read-only one as these permission bits want it.
pub(super) fn with_mode(
    attributes: FILE_FLAGS_AND_ATTRIBUTES,
    mode: u32,
) -> FILE_FLAGS_AND_ATTRIBUTES {
    // 'Normal' says that there are no others; it is dropped when there are.
    let others = attributes & !(FILE_ATTRIBUTE_READONLY | FILE_ATTRIBUTE_NORMAL);
    match (mode & OWNER_MAY_WRITE == 0, others) {
        (true, others) => others | FILE_ATTRIBUTE_READONLY,
        (false, 0) => FILE_ATTRIBUTE_NORMAL,
        (false, others) => others,
    }
}

pub(super) fn set_attributes(file: BorrowedHandle<'_>, attributes: u32) -> io::Result<()> {
    // A time of zero is left as it is.
    native::set(file, &FILE_BASIC_INFO { FileAttributes: attributes, ..FILE_BASIC_INFO::default() })
}

pub(super) fn metadata_of(file: BorrowedHandle<'_>) -> io::Result<Metadata> {
    let general = native::general(file)?;
    let attributes = general.dwFileAttributes;
    let is_read_only = attributes & FILE_ATTRIBUTE_READONLY != 0;
    Ok(Metadata {
        id: native::id_of(file)?,
        kind: kind_of(file, attributes)?,
        size: native::wide(general.nFileSizeHigh, general.nFileSizeLow),
        mode: if is_read_only { 0o444 } else { 0o666 },
        uid: 0,
        gid: 0,
        changed: 0,
    })
}

/// What kind of file this is. Its attributes are known already.
pub(super) fn kind_of(
    file: BorrowedHandle<'_>,
    attributes: FILE_FLAGS_AND_ATTRIBUTES,
) -> io::Result<FileKind> {
    let has = |attribute: u32| attributes & attribute != 0;
    let tag = match has(FILE_ATTRIBUTE_REPARSE_POINT) {
        true => native::get::<FILE_ATTRIBUTE_TAG_INFO>(file)?.ReparseTag,
        false => 0,
    };
    Ok(match tag {
        IO_REPARSE_TAG_SYMLINK | IO_REPARSE_TAG_MOUNT_POINT => FileKind::Link,
        tag if is_special(tag) => FileKind::Other(SpecialFile::Unknown),
        // All other tags (cloud files, deduplication, packaged programs…) matter only to the file
        // system, and their files are files.
        _ if has(FILE_ATTRIBUTE_DIRECTORY) => FileKind::Dir,
        _ => FileKind::File,
    })
}

/// A time that Windows counts in tenths of microseconds since 1601.
pub(super) fn time_of(ticks: u64) -> Option<SystemTime> {
    const TICKS_A_SECOND: u64 = 10_000_000;
    const FROM_1601_TO_1970: Duration = Duration::from_secs(11_644_473_600);
    let fraction = u32::try_from(ticks % TICKS_A_SECOND).ok()? * 100;
    SystemTime::UNIX_EPOCH
        .checked_sub(FROM_1601_TO_1970)?
        .checked_add(Duration::new(ticks / TICKS_A_SECOND, fraction))
}

/// Whether a reparse tag marks a socket, or something that only the Windows Subsystem for
/// Linux can open: its symbolic links, pipes and devices.
fn is_special(tag: u32) -> bool {
    let linux = [
        IO_REPARSE_TAG_LX_SYMLINK,
        IO_REPARSE_TAG_LX_FIFO,
        IO_REPARSE_TAG_LX_CHR,
        IO_REPARSE_TAG_LX_BLK,
    ];
    tag == IO_REPARSE_TAG_AF_UNIX || linux.contains(&tag.cast_signed())
}
