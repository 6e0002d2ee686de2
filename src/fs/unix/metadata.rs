//! The metadata of a file, from what the system reports.

#[cfg(target_os = "linux")]
use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Mode, Stat, Timespec};
#[cfg(target_os = "linux")]
use rustix::{
    fs::{AtFlags, StatxFlags, makedev},
    io::Errno,
};

use crate::error::Code;
use crate::fs::{FileId, FileKind, Metadata, SpecialFile};

/// When something was last changed.
// The fields' types differ between the Unixes.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
pub(super) fn modified(stat: &Stat) -> io::Result<SystemTime> {
    let seconds = Duration::from_secs((stat.st_mtime as i64).unsigned_abs());
    let fraction = Duration::from_nanos(u64::try_from(stat.st_mtime_nsec).unwrap_or(0));
    // Before 1970 the seconds count backwards, and the fraction still forwards.
    let time = match stat.st_mtime as i64 {
        0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
        _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
    };
    let time = time.and_then(|time| time.checked_add(fraction));
    time.ok_or_else(|| Code::EOVERFLOW.error())
}

/// A time as the system takes it.
pub(super) fn timespec(time: SystemTime) -> io::Result<Timespec> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.map_err(|_| Code::EINVAL.error())?;
    Ok(Timespec {
        tv_sec: since.as_secs().try_into().map_err(|_| Code::EOVERFLOW.error())?,
        tv_nsec: since.subsec_nanos().into(),
    })
}

#[cfg(target_os = "linux")]
pub(super) fn raw_mode(mode: u32) -> Mode {
    Mode::from_raw_mode(mode)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn raw_mode(mode: u32) -> Mode {
    // The permission bits always fit; the type has 16 bits on macOS.
    Mode::from_raw_mode((mode & 0o7777) as rustix::fs::RawMode)
}

/// Which file a name in a directory stands for, by a call that asks for none of its times.
#[cfg(target_os = "linux")]
pub(super) fn identity_of(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<FileId> {
    match rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO) {
        Ok(found) => Ok(FileId {
            device: makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino.into(),
        }),
        // Kernels before 4.11 have no such call, and sandboxes may refuse it.
        Err(Errno::NOSYS | Errno::PERM) => {
            Ok(metadata_of(&rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?).id)
        }
        Err(error) => Err(error.into()),
    }
}

// The fields' types differ between the Unixes; the casts keep every bit.
#[allow(clippy::unnecessary_cast)]
pub(super) fn metadata_of(stat: &Stat) -> Metadata {
    let kind = match FileType::from_raw_mode(stat.st_mode as rustix::fs::RawMode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Dir,
        FileType::Symlink => FileKind::Link,
        FileType::Fifo => FileKind::Other(SpecialFile::Fifo),
        FileType::Socket => FileKind::Other(SpecialFile::Socket),
        FileType::CharacterDevice => FileKind::Other(SpecialFile::CharacterDevice),
        FileType::BlockDevice => FileKind::Other(SpecialFile::BlockDevice),
        _ => FileKind::Other(SpecialFile::Unknown),
    };
    Metadata {
        id: FileId { device: stat.st_dev as u64, inode: stat.st_ino as u128 },
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode as u32 & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        changed: i128::from(stat.st_ctime as i64) * 1_000_000_000 + stat.st_ctime_nsec as i128,
    }
}
