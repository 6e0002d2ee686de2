//! Open-file-description locks of Linux on ranges of bytes, with offsets of 64 bits on every system.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::offset;
use crate::lock::protocol::Byte;

/// A range of bytes, as the kernel takes it.
#[cfg(not(all(target_pointer_width = "32", target_env = "gnu")))]
pub(super) type ByteRange = libc::flock;
/// The same where the C library has two, and means the one with small offsets by the common name.
#[cfg(all(target_pointer_width = "32", target_env = "gnu"))]
pub(super) type ByteRange = libc::flock64;

pub(super) fn range(byte: Byte, lock_type: c_int) -> ByteRange {
    range_at(offset::of(byte), lock_type)
}

pub(super) fn range_at(offset: i64, lock_type: c_int) -> ByteRange {
    // SAFETY: all its fields are numbers, for which zero is a value. `l_pid` must be zero
    // for these commands.
    let mut range: ByteRange = unsafe { std::mem::zeroed() };
    range.l_type = lock_type as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = offset;
    range.l_len = 1;
    range
}

/// One of the commands for these locks, again after an interruption.
pub(super) fn control(
    file: BorrowedFd<'_>,
    command: c_int,
    range: &mut ByteRange,
) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is open while it is borrowed.
        if unsafe { control_once(file.as_raw_fd(), command, range) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The system call alone, for signal handlers too: 0 if it succeeds.
///
/// # Safety
///
/// `file` is open, and `command` one of those for open-file-description locks.
pub(super) unsafe fn control_once(file: c_int, command: c_int, range: &mut ByteRange) -> c_int {
    // SAFETY: these commands take such a range, and may write to it.
    #[cfg(not(all(target_pointer_width = "32", target_env = "gnu")))]
    return unsafe { libc::fcntl(file, command, &raw mut *range) };
    // The function of the C library would take the range for one with small offsets.
    // SAFETY: as above.
    #[cfg(all(target_pointer_width = "32", target_env = "gnu"))]
    return unsafe { libc::syscall(libc::SYS_fcntl64, file, command, &raw mut *range) };
}
