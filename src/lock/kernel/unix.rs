//! Linux: open-file-description locks. macOS and the BSDs: `flock` on two files.

use std::ffi::OsStr;
use std::io;
#[cfg(not(target_os = "linux"))]
use std::os::fd::AsRawFd;
#[cfg(target_os = "linux")]
use std::os::fd::BorrowedFd;
use std::os::fd::{AsFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

#[cfg(target_os = "linux")]
use super::byte_range::{ByteRange, control, range, range_at};
#[cfg(target_os = "linux")]
use super::offset::{self, TICKETS};
use crate::error::Code;
use crate::fs::SharedWith;
use crate::fs::os::patient_open::while_invalid;
use crate::fs::os::{DirHandle, shared_file};
#[cfg(target_os = "linux")]
use crate::fs::os::{cached_lookup, dir_lock};
use crate::lock::LockKind;
use crate::lock::lock_name::LockName;
use crate::lock::protocol::{Access, Byte};

/// An open lock file.
pub(in crate::lock) struct LockFile {
    main: OwnedFd,
    #[cfg(not(target_os = "linux"))]
    gate: OwnedFd,
    /// Open for reading only: nothing of it can be locked for writing.
    is_read_only: bool,
    #[cfg(target_os = "linux")]
    in_dir: InDir,
}

/// Readers who can make no lock file, and lock a byte of the directory instead.
#[cfg(target_os = "linux")]
struct InDir {
    /// The offset of the byte.
    byte: i64,
    /// This is no lock file, but the directory, open for such a reader.
    is_it: bool,
    /// A look at the directory has found no such reader, when the lock file had its name already.
    /// As long as it has that, none can have come since.
    is_known_free: AtomicBool,
}

/// How often a lock file is looked for that others make and remove meanwhile.
const LOOKS: usize = 100;

impl LockFile {
    /// Opens the lock file, making it if there is none. It must be a file: a symbolic link
    /// in its place could lead anywhere. A reader needs no more than the right to read it.
    pub(super) fn open(dir: &DirHandle, name: &LockName, kind: LockKind) -> io::Result<LockFile> {
        // In this order, so that a file that keeps its name has its gate, too: a process that removes
        // both begins with the gate.
        let (main, is_read_only) = match open_or_make(dir, name, name, kind) {
            #[cfg(target_os = "linux")]
            Err(error) if kind == LockKind::Read && cannot_be_made(&error) => {
                return LockFile::of_dir(dir, name, error);
            }
            opened => opened?,
        };
        Ok(LockFile {
            main,
            #[cfg(not(target_os = "linux"))]
            gate: open_or_make(dir, &gate_of(name), name, kind)?.0,
            is_read_only,
            #[cfg(target_os = "linux")]
            in_dir: InDir::beside(name),
        })
    }

    /// Opens the lock file for looking at it.
    pub(super) fn open_existing(dir: &DirHandle, name: &OsStr) -> io::Result<LockFile> {
        Ok(LockFile {
            #[cfg(not(target_os = "linux"))]
            gate: open_itself(dir, &gate_of(name), OFlags::RDONLY)?,
            main: open_itself(dir, name, OFlags::RDONLY)?,
            is_read_only: true,
            #[cfg(target_os = "linux")]
            in_dir: InDir::beside(name),
        })
    }

    /// Whether it can be locked for this.
    pub(super) fn serves(&self, kind: LockKind) -> bool {
        kind == LockKind::Read || !self.is_read_only
    }

    /// Opens a lock file that is there, for locking it.
    pub(super) fn open_there(dir: &DirHandle, name: &OsStr) -> io::Result<LockFile> {
        let (main, _) = open_existing(dir, name, OFlags::RDWR)?;
        Ok(LockFile {
            main,
            #[cfg(not(target_os = "linux"))]
            gate: open_existing(dir, &gate_of(name), OFlags::RDWR)?.0,
            is_read_only: false,
            #[cfg(target_os = "linux")]
            in_dir: InDir::beside(name),
        })
    }

    /// Removes the lock file, which is locked and called so. Whether it is gone.
    pub(super) fn remove(&self, dir: &DirHandle, name: &OsStr) -> io::Result<bool> {
        #[cfg(not(target_os = "linux"))]
        rustix::fs::unlinkat(dir.descriptor(), gate_of(name), AtFlags::empty())?;
        rustix::fs::unlinkat(dir.descriptor(), name, AtFlags::empty())?;
        Ok(true)
    }

    /// How it can be locked.
    pub(super) fn access(&self) -> Access {
        #[cfg(target_os = "linux")]
        let looks_in_dir = !self.in_dir.is_known_free.load(Ordering::Relaxed);
        #[cfg(not(target_os = "linux"))]
        let looks_in_dir = false;
        Access { is_read_only: self.is_read_only, looks_in_dir }
    }

    /// How long the note in the file is, if `name` still leads to it. The directory in its place is
    /// right as long as the name leads nowhere.
    pub(super) fn size_if_called(&self, dir: &DirHandle, name: &OsStr) -> io::Result<Option<u64>> {
        #[cfg(target_os = "linux")]
        if self.in_dir.is_it {
            return match rustix::fs::statat(dir.descriptor(), name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Ok(None),
                Err(Errno::NOENT) => Ok(Some(0)),
                Err(error) => Err(error.into()),
            };
        }
        let own = rustix::fs::fstat(&self.main)?;
        if own.st_nlink == 0 {
            // A network file system remembers names for a while, but asks its server about a file that
            // has just been locked.
            return Ok(None);
        }
        let size = u64::try_from(own.st_size).unwrap_or(0);
        match rustix::fs::statat(dir.descriptor(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino) => Ok(Some(size)),
            // Some file systems of programs and some servers number a file anew at each look.
            Ok(named) => match rustix::fs::fstat(&self.main)?.st_ino {
                again if again == named.st_ino => Ok(Some(size)),
                again if again == own.st_ino => Ok(None),
                _ => Err(Code::ENOTSUP.error()),
            },
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is empty and `name` leads to it, as far as can be told without a disk.
    #[cfg(target_os = "linux")]
    pub(super) fn is_remembered_empty(&self, dir: &DirHandle, name: &OsStr) -> bool {
        let named = cached_lookup::look(dir.descriptor(), name).flatten();
        let own = cached_lookup::of(self.main.as_fd());
        own.zip(named).is_some_and(|(own, named)| own.id == named.id && own.is_empty)
    }

    /// Replaces the note in the file.
    pub(super) fn write_note(&self, note: &[u8]) -> io::Result<()> {
        // Written first and cut afterwards: in between it is at worst a line with a tail.
        if !note.is_empty() {
            rustix::io::pwrite(&self.main, note, 0)?;
        }
        Ok(rustix::fs::ftruncate(&self.main, note.len() as u64)?)
    }

    /// Reads the note in the file.
    pub(super) fn read_note(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::pread(&self.main, buffer, 0)?)
    }
}

/// Opens a lock file, or makes it. Whether it can only be read.
fn open_or_make(
    dir: &DirHandle,
    file: &OsStr,
    name: &LockName,
    kind: LockKind,
) -> io::Result<(OwnedFd, bool)> {
    let with = SharedWith::UsersOf(&name.guarded);
    for _ in 0..LOOKS {
        // Not with O_CREAT: in a directory that is open to all, the system may refuse to open the
        // file of another user by that (fs.protected_regular).
        match open_existing(dir, file, OFlags::RDWR) {
            Ok((opened, known)) => {
                shared_file::widen(opened.as_fd(), &known, dir.descriptor(), with);
                return Ok((opened, false));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if is_refused(&error) && kind == LockKind::Read => {
                match open_existing(dir, file, OFlags::RDONLY) {
                    Ok((opened, _)) => return Ok((opened, true)),
                    Err(gone) if gone.kind() == io::ErrorKind::NotFound => continue,
                    Err(_) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
        match shared_file::create(dir.descriptor(), file, with) {
            // Another process has been faster. The file's own is opened by its name, so that the
            // system shows it under that (to lsof, say): it may have been made without one.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Err(Code::EBUSY.error())
}

/// Opens a lock file that is there, and says what it is like.
fn open_existing(dir: &DirHandle, name: &OsStr, access: OFlags) -> io::Result<(OwnedFd, Stat)> {
    let opened = open_itself(dir, name, access)?;
    let known = rustix::fs::fstat(&opened)?;
    match FileType::from_raw_mode(known.st_mode as RawMode) {
        FileType::RegularFile => Ok((opened, known)),
        FileType::Directory => Err(Code::EISDIR.error()),
        _ => Err(Code::EEXIST.error()),
    }
}

/// Opens whatever has the name of a lock file.
pub(super) fn open_itself(dir: &DirHandle, name: &OsStr, access: OFlags) -> io::Result<OwnedFd> {
    // Without NONBLOCK a pipe in its place would make this wait for ever.
    let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let open = || {
        rustix::io::retry_on_intr(|| {
            rustix::fs::openat(dir.descriptor(), name, flags, Mode::empty())
        })
    };
    match while_invalid(open) {
        // A socket.
        Err(Errno::NXIO) => Err(Code::EEXIST.error()),
        opened => Ok(opened?),
    }
}

/// Whether the process may not do this, as it is.
fn is_refused(error: &io::Error) -> bool {
    matches!(Code::of(error), Some(Code::EACCES | Code::EPERM | Code::EROFS))
}

/// The name of the file that is the gate.
#[cfg(not(target_os = "linux"))]
fn gate_of(name: &OsStr) -> std::ffi::OsString {
    let mut gate = name.to_owned();
    gate.push(".gate");
    gate
}

/// Whether the process can make no lock file there, as it is.
#[cfg(target_os = "linux")]
fn cannot_be_made(error: &io::Error) -> bool {
    is_refused(error) || matches!(Code::of(error), Some(Code::ENOSPC | Code::EDQUOT))
}

/// Whether a reader who can make no lock file of this name has locked the directory, as far as the
/// process can ask.
#[cfg(target_os = "linux")]
pub(super) fn has_readers_in(dir: &DirHandle, name: &OsStr) -> io::Result<bool> {
    let Some(dir) = dir.lockable() else { return Ok(false) };
    let mut range = range_at(offset::in_dir(name), libc::F_WRLCK);
    control(dir, libc::F_OFD_GETLK, &mut range)?;
    Ok(range.l_type != libc::F_UNLCK as libc::c_short)
}

/// There are none here.
#[cfg(not(target_os = "linux"))]
pub(super) fn has_readers_in(_: &DirHandle, _: &OsStr) -> io::Result<bool> {
    Ok(false)
}

#[cfg(target_os = "linux")]
impl InDir {
    /// For the lock file of this name.
    fn beside(name: &OsStr) -> InDir {
        let (byte, is_known_free) = (offset::in_dir(name), AtomicBool::new(false));
        InDir { byte, is_it: false, is_known_free }
    }
}

#[cfg(target_os = "linux")]
impl LockFile {
    /// The directory in place of a lock file that is not there, and cannot be made for this reason.
    fn of_dir(dir: &DirHandle, name: &OsStr, error: io::Error) -> io::Result<LockFile> {
        match dir_lock::open(dir.descriptor()) {
            Ok(Some(main)) => {
                let in_dir = InDir { is_it: true, ..InDir::beside(name) };
                Ok(LockFile { main, is_read_only: true, in_dir })
            }
            _ => Err(error),
        }
    }

    /// Whether a reader has locked the directory. Those who have looked for the file since then have
    /// found it.
    pub(super) fn has_readers_in(&self, dir: &DirHandle) -> io::Result<bool> {
        let Some(dir) = dir.lockable() else { return Ok(false) };
        let mut range = range_at(self.in_dir.byte, libc::F_WRLCK);
        control(dir, libc::F_OFD_GETLK, &mut range)?;
        let is_free = range.l_type == libc::F_UNLCK as libc::c_short;
        if is_free {
            self.in_dir.is_known_free.store(true, Ordering::Relaxed);
        }
        Ok(!is_free)
    }

    /// Where a byte is; nowhere for the bytes that the directory does not have: no process waits
    /// there.
    fn range(&self, byte: Byte, lock_type: libc::c_int) -> Option<ByteRange> {
        match (self.in_dir.is_it, byte) {
            (false, _) => Some(range(byte, lock_type)),
            (true, Byte::Main) => Some(range_at(self.in_dir.byte, lock_type)),
            (true, _) => None,
        }
    }

    /// Takes a lock if it is free.
    pub(super) fn try_lock(&self, byte: Byte, kind: LockKind) -> io::Result<bool> {
        let Some(mut range) = self.range(byte, lock_type(kind)) else { return Ok(true) };
        match self.control(libc::F_OFD_SETLK, &mut range) {
            Ok(()) => Ok(true),
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a lock, waiting for it.
    pub(super) fn lock(&self, byte: Byte, kind: LockKind) -> io::Result<()> {
        let Some(mut range) = self.range(byte, lock_type(kind)) else { return Ok(()) };
        self.control(libc::F_OFD_SETLKW, &mut range)
    }

    /// Releases a lock.
    pub(super) fn unlock(&self, byte: Byte) -> io::Result<()> {
        let Some(mut range) = self.range(byte, libc::F_UNLCK) else { return Ok(()) };
        self.control(libc::F_OFD_SETLK, &mut range)
    }

    /// Turns an exclusive lock into a shared one in one step.
    pub(super) fn downgrade(&self, byte: Byte) -> io::Result<()> {
        self.control(libc::F_OFD_SETLK, &mut range(byte, libc::F_RDLCK))
    }

    /// Whether another process, or another handle, has a lock that would make this one wait.
    pub(super) fn is_locked(&self, byte: Byte, kind: LockKind) -> io::Result<bool> {
        Ok(self.find(&mut range(byte, lock_type(kind)))?.is_some())
    }

    /// A ticket between these two that another process has. Of a lock that covers many, which
    /// cannot be holdfast's, the last one.
    pub(super) fn find_ticket(&self, first: u64, last: u64) -> io::Result<Option<u64>> {
        if self.in_dir.is_it {
            return Ok(None);
        }
        let mut range = range(Byte::Ticket(first), libc::F_WRLCK);
        range.l_len = offset::of(Byte::Ticket(last)) - range.l_start + 1;
        let Some(start) = self.find(&mut range)? else { return Ok(None) };
        if range.l_len != 1 {
            return Ok(Some(last));
        }
        Ok(Some(start.saturating_sub(TICKETS).cast_unsigned().clamp(first, last)))
    }

    /// The offset of another lock that is in the way of this one.
    fn find(&self, range: &mut ByteRange) -> io::Result<Option<i64>> {
        self.control(libc::F_OFD_GETLK, range)?;
        Ok((range.l_type != libc::F_UNLCK as libc::c_short).then_some(range.l_start))
    }

    /// The file that is locked.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.main.as_fd()
    }

    fn control(&self, command: libc::c_int, range: &mut ByteRange) -> io::Result<()> {
        control(self.main.as_fd(), command, range)
    }
}

#[cfg(target_os = "linux")]
fn lock_type(kind: LockKind) -> libc::c_int {
    match kind {
        LockKind::Read => libc::F_RDLCK,
        LockKind::Write => libc::F_WRLCK,
    }
}

#[cfg(target_os = "linux")]
fn is_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES))
}

#[cfg(not(target_os = "linux"))]
impl LockFile {
    /// No reader locks the directory here.
    pub(super) fn has_readers_in(&self, _: &DirHandle) -> io::Result<bool> {
        Ok(false)
    }

    fn file(&self, byte: Byte) -> &OwnedFd {
        match byte {
            Byte::Main => &self.main,
            // There are no tickets here, and none of the other bytes.
            Byte::Gate | Byte::Ticket(_) | Byte::Removal => &self.gate,
        }
    }

    fn flock(&self, byte: Byte, operation: libc::c_int) -> io::Result<()> {
        loop {
            // SAFETY: the descriptor is open while `self` lives.
            if unsafe { libc::flock(self.file(byte).as_raw_fd(), operation) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Takes a lock if it is free.
    pub(super) fn try_lock(&self, byte: Byte, kind: LockKind) -> io::Result<bool> {
        match self.flock(byte, operation(kind) | libc::LOCK_NB) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a lock, waiting for it.
    pub(super) fn lock(&self, byte: Byte, kind: LockKind) -> io::Result<()> {
        self.flock(byte, operation(kind))
    }

    /// Releases a lock.
    pub(super) fn unlock(&self, byte: Byte) -> io::Result<()> {
        self.flock(byte, libc::LOCK_UN)
    }

    /// Turns an exclusive lock into a shared one. `flock` may let another process in between; a
    /// process that waits holds the gate, so that can only be another reader or one writer, and
    /// this call then waits for it.
    pub(super) fn downgrade(&self, byte: Byte) -> io::Result<()> {
        self.flock(byte, libc::LOCK_SH)
    }

    /// Whether another process, or another handle, has a lock that would make this one wait. There
    /// is no way to ask but to try.
    pub(super) fn is_locked(&self, byte: Byte, kind: LockKind) -> io::Result<bool> {
        let is_free = self.try_lock(byte, kind)?;
        if is_free {
            self.unlock(byte)?;
        }
        Ok(!is_free)
    }

    /// There are no tickets here.
    pub(super) fn find_ticket(&self, _: u64, _: u64) -> io::Result<Option<u64>> {
        Ok(None)
    }
}

#[cfg(not(target_os = "linux"))]
fn operation(kind: LockKind) -> libc::c_int {
    match kind {
        LockKind::Read => libc::LOCK_SH,
        LockKind::Write => libc::LOCK_EX,
    }
}
