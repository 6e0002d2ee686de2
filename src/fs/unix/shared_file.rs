//! Files of holdfast's own that other users have to open, too: lock files, the records of
//! transactions, the segments of logs. The user who makes one must not lock the others out,
//! whatever the umask.
//!
//! Such a file has its owner, group and permissions before it has its name, so no process finds
//! it without, and no crash leaves it so. Where the system can, it has no name at all until then.

use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use rustix::fs::XattrFlags;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawMode, Stat, Uid};
use rustix::io::{Errno, retry_on_intr};

use super::access_list::{AccessList, Belongs};
#[cfg(target_os = "linux")]
use super::access_list::{READ, WRITE};
use super::lacks;
use super::patient_open::while_invalid;
use super::rename_new;
use crate::fs::{Limitation, SharedWith};
use crate::temp_name;

/// In the name of a file that has not got its own yet. It is short enough for every file system.
const PROVISIONAL: &str = "holdfast";

/// How many names are tried where a file needs one before it has its own.
const MOST_NAMES: usize = 16;

/// Makes a new file that is shared, and opens it for reading and writing. Fails with `EEXIST` if
/// the name is taken by anything.
pub(crate) fn create(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    with: SharedWith<'_>,
) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    if let Some(file) = nameless(dir, with)? {
        if let Some(mode) = share_new(file.as_fd(), dir, with)? {
            return create_with_mode(dir, name, mode);
        }
        match give_name(file.as_fd(), dir, name) {
            Ok(()) => return Ok(file),
            Err(Errno::EXIST) => return Err(Errno::EXIST.into()),
            // Without /proc, or links.
            Err(_) => {}
        }
    }
    for _ in 0..MOST_NAMES {
        let provisional = temp_name::new_name(OsStr::new(PROVISIONAL));
        let file = match create_new(dir, &provisional, with) {
            Err(Errno::EXIST) => continue,
            file => file?,
        };
        let shared = share_new(file.as_fd(), dir, with);
        if let Ok(Some(mode)) = shared {
            let _ = rustix::fs::unlinkat(dir, &provisional, AtFlags::empty());
            return create_with_mode(dir, name, mode);
        }
        let named = shared.and_then(|_| Ok(give_own_name(dir, &provisional, name)?));
        let error = match named {
            Ok(NamedBy::Rename) => return Ok(file),
            // Where a second name makes another file of it to the system (FUSE), it is opened by that.
            Ok(NamedBy::Link) => return Ok(open_named(dir, name).unwrap_or(file)),
            Err(error) => error,
        };
        // Recovery takes it for an orphan if it stays.
        let removed = rustix::fs::unlinkat(dir, &provisional, AtFlags::empty());
        match Errno::from_io_error(&error) {
            Some(Errno::EXIST) => return Err(error),
            // A recovery has taken it for an orphan.
            Some(Errno::NOENT) if removed == Err(Errno::NOENT) => {}
            // There is no way to give it the name but to make it by that. Where that is so files
            // seldom have owners.
            _ => {
                let file = create_new(dir, name, with)?;
                share_new(file.as_fd(), dir, with)?;
                return Ok(file);
            }
        }
    }
    Err(Errno::BUSY.into())
}

/// Makes a directory that is shared with the writers of the one above it.
pub(crate) fn make_dir(above: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let with = SharedWith::WritersOfDir { mode: 0o777 };
    let provisional = temp_name::new_name(OsStr::new(PROVISIONAL));
    rustix::fs::mkdirat(above, &provisional, raw_mode(0o777))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let named = rustix::fs::openat(above, &provisional, flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|dir| share_new(dir.as_fd(), above, with))
        .and_then(|_| Ok(rename_new_dir(above, &provisional, name)?));
    if named.is_err() {
        // It is empty, and means nothing if it stays.
        let _ = rustix::fs::unlinkat(above, &provisional, AtFlags::REMOVEDIR);
    }
    named
}

/// Gives a directory another name that is not taken.
fn rename_new_dir(above: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
    if rename_new::in_one_step(above, from, to)? {
        return Ok(());
    }
    if rustix::fs::statat(above, to, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Err(Errno::EXIST);
    }
    // One that has come since then is replaced only if it is empty, too.
    rustix::fs::renameat(above, from, above, to)
}

/// How a file has got its name.
enum NamedBy {
    Rename,
    /// A second name, after which the first one was removed.
    Link,
}

/// Gives a file its own name, which is not taken.
fn give_own_name(dir: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> Result<NamedBy, Errno> {
    if rename_new::in_one_step(dir, from, to)? {
        return Ok(NamedBy::Rename);
    }
    rustix::fs::linkat(dir, from, dir, to, AtFlags::empty())?;
    rustix::fs::unlinkat(dir, from, AtFlags::empty())?;
    Ok(NamedBy::Link)
}

fn open_named(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(dir, name, flags, Mode::empty()))
}

/// Lets everybody use an existing file who should, as far as the process may: its owner may, and
/// the superuser.
pub(crate) fn widen(file: BorrowedFd<'_>, known: &Stat, dir: BorrowedFd<'_>, with: SharedWith<'_>) {
    // By far most are as they should be.
    if with.is_satisfied_by(mode_of(known)) {
        return;
    }
    let user = rustix::process::geteuid();
    if user.is_root() || user.as_raw() == known.st_uid {
        // The process has the file open, which is what it needs. A user who cannot open it is told so.
        let _ = share(file, known, dir, with, true);
    }
}

#[cfg(target_os = "linux")]
fn nameless(dir: BorrowedFd<'_>, with: SharedWith<'_>) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let opened = || rustix::fs::openat(dir, c".", flags, raw_mode(initial_mode(with)));
    match retry_on_intr(opened) {
        Ok(file) => Ok(Some(file)),
        // The kernel or the file system does not support it. Old kernels take it for something
        // else.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::ISDIR | Errno::NOENT) => {
            Ok(None)
        }
        // So ext4 says that the directory has been removed. The other ways find no directory.
        Err(Errno::PERM) if rustix::fs::fstat(dir)?.st_nlink == 0 => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_os = "linux")]
fn give_name(file: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let (cwd, flags) = (rustix::fs::CWD, AtFlags::SYMLINK_FOLLOW);
    retry_on_intr(|| rustix::fs::linkat(cwd, path_of(file), dir, name, flags))
}

/// A path to an open file or directory, also where it is open for nothing but being named.
#[cfg(target_os = "linux")]
fn path_of(file: BorrowedFd<'_>) -> PathBuf {
    Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
}

fn create_new(dir: BorrowedFd<'_>, name: &OsStr, with: SharedWith<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = raw_mode(initial_mode(with));
    while_invalid(|| retry_on_intr(|| rustix::fs::openat(dir, name, flags, mode)))
}

/// Makes a file with the permission bits that it is to have, where the file system lets none be changed
/// afterwards. The umask may take some.
fn create_with_mode(dir: BorrowedFd<'_>, name: &OsStr, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = retry_on_intr(|| rustix::fs::openat(dir, name, flags, raw_mode(mode)))?;
    if mode_of(&rustix::fs::fstat(&file)?) != mode {
        lacks::lacks(dir, Limitation::SetMode);
    }
    Ok(file)
}

/// What the file is made with, less the umask.
fn initial_mode(with: SharedWith<'_>) -> u32 {
    match with {
        SharedWith::UsersOf(_) => 0o600,
        SharedWith::WritersOfDir { mode } => mode,
    }
}

/// Gives a new file its owner, its group and its permissions. The permission bits come back that the
/// file system does not let it have.
fn share_new(
    file: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    with: SharedWith<'_>,
) -> io::Result<Option<u32>> {
    // What the umask and the directory let others do with the segments of a log stays; of a lock
    // file they say nothing.
    let keeps = matches!(with, SharedWith::WritersOfDir { .. });
    share(file, &rustix::fs::fstat(file)?, dir, with, keeps)
}

/// Gives a file its owner, its group and its permissions; `keeps` those that it has. Those that the file
/// system does not let it have come back.
fn share(
    file: BorrowedFd<'_>,
    known: &Stat,
    dir: BorrowedFd<'_>,
    with: SharedWith<'_>,
    keeps: bool,
) -> io::Result<Option<u32>> {
    let (model, allowed) = match with {
        SharedWith::UsersOf(guarded) => model(dir, Some(guarded))?,
        SharedWith::WritersOfDir { .. } => model(dir, None)?,
    };
    let own = give_away(file, belongs(known), belongs(&model));
    let grant = |may: u32| with.grants(may, mode_of(&model));
    let wanted = allowed.carried(belongs(&model), own, with.owners(), grant);
    let plain = AccessList::of_mode(mode_of(known));
    // With nothing in the middle a list would give no user anything.
    if wanted == plain && plain.group == 0 {
        return Ok(None);
    }
    let existing = list_of(file, known);
    let list = if keeps { wanted.with(&existing) } else { wanted };
    if list == existing {
        return Ok(None);
    }
    let names = !list.named.is_empty() || !existing.named.is_empty();
    if names && set_list(file, &list) {
        return Ok(None);
    }
    // There are no names, or the file system has no lists.
    let special = mode_of(known) & !0o777;
    let list = list.without_names(matches!(with, SharedWith::UsersOf(_)));
    // The first two by a sandbox, the others by the file system.
    const REFUSALS: [Errno; 6] =
        [Errno::PERM, Errno::ACCESS, Errno::OPNOTSUPP, Errno::NOTSUP, Errno::INVAL, Errno::NOSYS];
    let mode = special | list.mode();
    match rustix::fs::fchmod(file, raw_mode(mode)) {
        Ok(()) => Ok(None),
        Err(error) if REFUSALS.contains(&error) => {
            Ok((mode_of(&rustix::fs::fstat(file)?) != mode).then_some(mode))
        }
        Err(error) => Err(error.into()),
    }
}

/// What a file is to be like that is shared with the users of this one, or of the directory if
/// there is none.
fn model(dir: BorrowedFd<'_>, guarded: Option<&OsStr>) -> io::Result<(Stat, AccessList)> {
    let is_model = |stat: &Stat| {
        let kind = FileType::from_raw_mode(stat.st_mode as RawMode);
        matches!(kind, FileType::RegularFile | FileType::Directory)
    };
    if let Some(name) = guarded
        && let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        && is_model(&stat)
    {
        let list = named_list(dir, name, &stat);
        return Ok((stat, list));
    }
    let stat = rustix::fs::fstat(dir)?;
    let list = named_list(dir, OsStr::new("."), &stat);
    Ok((stat, list))
}

/// Gives the file to whom the other belongs, as far as the process may. To whom it belongs then.
fn give_away(file: BorrowedFd<'_>, own: Belongs, wanted: Belongs) -> Belongs {
    let gid = Some(Gid::from_raw(wanted.gid));
    // Only the superuser may give a file away, and not on every file system; an owner may give it
    // to another of his groups.
    if own.uid != wanted.uid
        && rustix::process::geteuid().is_root()
        && rustix::fs::fchown(file, Some(Uid::from_raw(wanted.uid)), gid).is_ok()
    {
        return wanted;
    }
    if own.gid != wanted.gid && rustix::fs::fchown(file, None, gid).is_ok() {
        return Belongs { gid: wanted.gid, ..own };
    }
    own
}

#[cfg(target_os = "linux")]
const LIST: &std::ffi::CStr = c"system.posix_acl_access";

/// The largest list that is read. One with more names is taken for permission bits.
#[cfg(target_os = "linux")]
const LARGEST_LIST: usize = 4096;

/// What an open file allows.
#[cfg(target_os = "linux")]
fn list_of(file: BorrowedFd<'_>, known: &Stat) -> AccessList {
    let mut bytes = [0; LARGEST_LIST];
    let length = rustix::fs::fgetxattr(file, LIST, &mut bytes[..]).ok();
    let list = length.and_then(|length| AccessList::decode(bytes.get(..length)?));
    list.unwrap_or_else(|| AccessList::of_mode(mode_of(known)))
}

/// What the file of this name allows, which the process may not be allowed to open.
#[cfg(target_os = "linux")]
fn named_list(dir: BorrowedFd<'_>, name: &OsStr, known: &Stat) -> AccessList {
    let plain = AccessList::of_mode(mode_of(known));
    // The middle bits of a file with a list are its mask: no user is named who may do anything.
    if plain.group & (READ | WRITE) == 0 {
        return plain;
    }
    let path = path_of(dir).join(name);
    let mut bytes = [0; LARGEST_LIST];
    let length = rustix::fs::lgetxattr(path, LIST, &mut bytes[..]).ok();
    length.and_then(|length| AccessList::decode(bytes.get(..length)?)).unwrap_or(plain)
}

/// Sets what a file allows, if its file system has lists.
#[cfg(target_os = "linux")]
fn set_list(file: BorrowedFd<'_>, list: &AccessList) -> bool {
    rustix::fs::fsetxattr(file, LIST, &list.encode(), XattrFlags::empty()).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn list_of(_: BorrowedFd<'_>, known: &Stat) -> AccessList {
    AccessList::of_mode(mode_of(known))
}

#[cfg(not(target_os = "linux"))]
fn named_list(_: BorrowedFd<'_>, _: &OsStr, known: &Stat) -> AccessList {
    AccessList::of_mode(mode_of(known))
}

#[cfg(not(target_os = "linux"))]
fn set_list(_: BorrowedFd<'_>, _: &AccessList) -> bool {
    false
}

// The type has 16 bits on macOS, in which permission bits fit.
#[allow(clippy::unnecessary_cast)]
fn raw_mode(mode: u32) -> Mode {
    Mode::from_raw_mode((mode & 0o7777) as RawMode)
}

// The fields' types differ between the Unixes; the casts keep every bit.
#[allow(clippy::unnecessary_cast)]
fn mode_of(stat: &Stat) -> u32 {
    stat.st_mode as u32 & 0o7777
}

fn belongs(stat: &Stat) -> Belongs {
    Belongs { uid: stat.st_uid, gid: stat.st_gid }
}
