//! Removes an unused lock file at the end of the process, in a signal handler perhaps: only with
//! system calls, and without memory of its own.
//!
//! It is [`remove_unused`](super::removal::remove_unused) for an empty file, by its path. A file that
//! this process holds the lock of, or waits for, stays: its threads go on until the process is gone,
//! and may be writing under that lock.

use std::ffi::{CStr, c_int};
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, RawMode};

#[cfg(target_os = "linux")]
use super::byte_range::{control_once, range};
#[cfg(target_os = "linux")]
use super::steps::HAS_TICKETS;
#[cfg(target_os = "linux")]
use crate::lock::protocol::{Byte, LockStep, Removal, StepResult};

/// Removes the lock file, if no process uses it.
#[cfg(target_os = "linux")]
pub(in crate::lock) fn remove_unused(path: &CStr) {
    let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: the path ends with a zero byte.
    let file = unsafe { libc::open(path.as_ptr(), flags) };
    if file < 0 {
        return;
    }
    if is_unused(file) && is_empty_and_called(file, path) {
        // SAFETY: as above.
        unsafe { libc::unlink(path.as_ptr()) };
    }
    // SAFETY: it is open, and known to this function only. Closing it unlocks what is locked.
    unsafe { libc::close(file) };
}

#[cfg(target_os = "linux")]
fn is_unused(file: c_int) -> bool {
    let mut removal = Removal::new(HAS_TICKETS, true);
    let mut result = StepResult::Nothing;
    loop {
        result = match removal.next(result) {
            LockStep::Done(is_unused) => return is_unused,
            LockStep::Try(byte, _) => {
                let mut range = range(byte, libc::F_WRLCK);
                // SAFETY: the file is open, and this is such a command.
                let locked = unsafe { control_once(file, libc::F_OFD_SETLK, &mut range) } == 0;
                StepResult::Locked(locked)
            }
            LockStep::Look(first, last) => {
                let mut range = range(Byte::Ticket(first), libc::F_WRLCK);
                range.l_len = super::offset::of(Byte::Ticket(last)) - range.l_start + 1;
                // SAFETY: as above.
                let is_told = unsafe { control_once(file, libc::F_OFD_GETLK, &mut range) } == 0;
                let is_free = is_told && range.l_type == libc::F_UNLCK as libc::c_short;
                StepResult::Found((!is_free).then_some(first))
            }
            // It asks for none of these.
            LockStep::Lock(..) | LockStep::Unlock(_) | LockStep::LookInDir | LockStep::Pause => {
                return false;
            }
        };
    }
}

/// `flock` on both files, as [`LockFile`](super::LockFile) does it.
#[cfg(not(target_os = "linux"))]
pub(in crate::lock) fn remove_unused(path: &CStr) {
    const SUFFIX: &[u8] = b".gate\0";
    let mut gate = [0_u8; libc::PATH_MAX as usize];
    let bytes = path.to_bytes();
    let Some(room) = gate.get_mut(..bytes.len() + SUFFIX.len()) else { return };
    let (beginning, end) = room.split_at_mut(bytes.len());
    beginning.copy_from_slice(bytes);
    end.copy_from_slice(SUFFIX);
    let Ok(gate) = CStr::from_bytes_until_nul(&gate) else { return };
    let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: both paths end with a zero byte.
    let files = unsafe { [gate, path].map(|path| libc::open(path.as_ptr(), flags)) };
    // SAFETY: a file that is not open is refused.
    let is_locked = |file| unsafe { libc::flock(file, libc::LOCK_EX | libc::LOCK_NB) } == 0;
    if files.into_iter().all(is_locked) && is_empty_and_called(files[1], path) {
        // SAFETY: as above.
        unsafe {
            libc::unlink(gate.as_ptr());
            libc::unlink(path.as_ptr());
        }
    }
    for file in files {
        // SAFETY: those that are open are known to this function only.
        unsafe { libc::close(file) };
    }
}

fn is_empty_and_called(file: c_int, path: &CStr) -> bool {
    // SAFETY: the caller has opened it.
    let file = unsafe { BorrowedFd::borrow_raw(file) };
    // They are system calls and no more. Those of the C library have small numbers for files on some
    // systems of 32 bits, and fail where the number of a file is large.
    let (Ok(own), Ok(named)) = (rustix::fs::fstat(file), rustix::fs::lstat(path)) else {
        return false;
    };
    FileType::from_raw_mode(own.st_mode as RawMode) == FileType::RegularFile
        && own.st_size == 0
        && (own.st_dev, own.st_ino) == (named.st_dev, named.st_ino)
}
