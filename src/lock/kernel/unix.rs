//! Linux: open-file-description locks. macOS and the BSDs: `flock` on two files.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

#[cfg(target_os = "linux")]
use super::offset::{self, TICKETS};
use crate::error::Code;
use crate::fs::SharedWith;
#[cfg(target_os = "linux")]
use crate::fs::os::cached_lookup;
use crate::fs::os::{DirHandle, shared_file};
use crate::lock::LockKind;
use crate::lock::lock_name::LockName;
use crate::lock::protocol::Byte;

/// An open lock file.
pub(in crate::lock) struct LockFile {
    main: OwnedFd,
    #[cfg(not(target_os = "linux"))]
    gate: OwnedFd,
    /// Open for reading only: nothing of it can be locked for writing.
    is_read_only: bool,
}

/// How often a lock file is looked for that others make and remove meanwhile.
const LOOKS: usize = 100;

impl LockFile {
    /// Opens the lock file, making it if there is none. It must be a file: a symbolic link
    /// in its place could lead anywhere. A reader needs no more than the right to read it.
    pub(super) fn open(dir: &DirHandle, name: &LockName, kind: LockKind) -> io::Result<LockFile> {
        // In this order, so that a file that keeps its name has its gate, too: a process that removes
        // both begins with the gate.
        let (main, is_read_only) = open_or_make(dir, name, name, kind)?;
        Ok(LockFile {
            main,
            #[cfg(not(target_os = "linux"))]
            gate: open_or_make(dir, &gate_of(name), name, kind)?.0,
            is_read_only,
        })
    }

    /// Opens the lock file for looking at it.
    pub(super) fn open_existing(dir: &DirHandle, name: &OsStr) -> io::Result<LockFile> {
        Ok(LockFile {
            #[cfg(not(target_os = "linux"))]
            gate: open_itself(dir, &gate_of(name), OFlags::RDONLY)?,
            main: open_itself(dir, name, OFlags::RDONLY)?,
            is_read_only: true,
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
        })
    }

    /// Removes the lock file, which is locked and called so. Whether it is gone.
    pub(super) fn remove(&self, dir: &DirHandle, name: &OsStr) -> io::Result<bool> {
        #[cfg(not(target_os = "linux"))]
        rustix::fs::unlinkat(dir.descriptor(), gate_of(name), AtFlags::empty())?;
        rustix::fs::unlinkat(dir.descriptor(), name, AtFlags::empty())?;
        Ok(true)
    }

    /// How long the note in the file is, if `name` still leads to it.
    pub(super) fn size_if_called(&self, dir: &DirHandle, name: &OsStr) -> io::Result<Option<u64>> {
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
fn open_itself(dir: &DirHandle, name: &OsStr, access: OFlags) -> io::Result<OwnedFd> {
    // Without NONBLOCK a pipe in its place would make this wait for ever.
    let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::io::retry_on_intr(|| {
        rustix::fs::openat(dir.descriptor(), name, flags, Mode::empty())
    });
    match opened {
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

#[cfg(target_os = "linux")]
impl LockFile {
    /// Takes a lock if it is free.
    pub(super) fn try_lock(&self, byte: Byte, kind: LockKind) -> io::Result<bool> {
        match self.control(libc::F_OFD_SETLK, &mut range(byte, lock_type(kind))) {
            Ok(()) => Ok(true),
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a lock, waiting for it.
    pub(super) fn lock(&self, byte: Byte, kind: LockKind) -> io::Result<()> {
        self.control(libc::F_OFD_SETLKW, &mut range(byte, lock_type(kind)))
    }

    /// Releases a lock.
    pub(super) fn unlock(&self, byte: Byte) -> io::Result<()> {
        self.control(libc::F_OFD_SETLK, &mut range(byte, libc::F_UNLCK))
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
        let mut range = range(Byte::Ticket(first), libc::F_WRLCK);
        range.l_len = offset::of(Byte::Ticket(last)) - range.l_start + 1;
        let Some(start) = self.find(&mut range)? else { return Ok(None) };
        if range.l_len != 1 {
            return Ok(Some(last));
        }
        Ok(Some(start.saturating_sub(TICKETS).cast_unsigned().clamp(first, last)))
    }

    /// The offset of another lock that is in the way of this one.
    fn find(&self, range: &mut libc::flock) -> io::Result<Option<i64>> {
        self.control(libc::F_OFD_GETLK, range)?;
        Ok((range.l_type != libc::F_UNLCK as libc::c_short).then_some(range.l_start))
    }

    fn control(&self, command: libc::c_int, range: &mut libc::flock) -> io::Result<()> {
        loop {
            // SAFETY: the descriptor is open while `self` lives, and these commands take a
            // `flock` that they may write to.
            if unsafe { libc::fcntl(self.main.as_raw_fd(), command, range as *mut libc::flock) }
                == 0
            {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
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
pub(super) fn range(byte: Byte, lock_type: libc::c_int) -> libc::flock {
    // SAFETY: all its fields are numbers, for which zero is a value. `l_pid` must be zero
    // for these commands.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = lock_type as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = offset::of(byte);
    range.l_len = 1;
    range
}

#[cfg(target_os = "linux")]
fn is_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES))
}

#[cfg(not(target_os = "linux"))]
impl LockFile {
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
