//! Bytes of an open file: reading, writing, flushing, locking.

use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle};

use windows_sys::Win32::Foundation::*;
use windows_sys::Win32::Storage::FileSystem::*;
use windows_sys::Win32::System::IO::{OVERLAPPED, OVERLAPPED_0, OVERLAPPED_0_0};

use super::{check, is};

/// The most that one call reads or writes: network redirectors refuse very large ones.
const LARGEST_TRANSFER: usize = 16 << 20;

/// Takes a lock on one byte for this handle alone, without waiting.
pub(in super::super) fn lock(file: BorrowedHandle<'_>, offset: u64) -> io::Result<()> {
    let mut place = overlapped(offset);
    let flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    // SAFETY: the file is opened for synchronous use, so the call is over when it
    // returns, and `place` with it.
    check(unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &mut place) })
}

/// Writes at `offset`, from memory that need not be there: see the safety remark.
pub(in super::super) fn write(
    file: BorrowedHandle<'_>,
    address: *const u8,
    length: usize,
    offset: u64,
) -> io::Result<usize> {
    let mut place = overlapped(offset);
    let mut written = 0;
    // SAFETY: only the kernel reads the memory, and it answers with an error for
    // addresses that are not mapped; no reference to memory that may be gone is ever
    // made. The file is opened for synchronous use, so the call is over when it returns.
    check(unsafe {
        WriteFile(file.as_raw_handle(), address, transfer(length), &mut written, &mut place)
    })?;
    Ok(written as usize)
}

/// Reads from `offset`.
pub(in super::super) fn read(
    file: BorrowedHandle<'_>,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut place = overlapped(offset);
    let mut count = 0;
    let room = transfer(buffer.len());
    // SAFETY: `buffer` has at least that much room, and the call is over when it returns,
    // because the file is opened for synchronous use.
    let outcome = check(unsafe {
        ReadFile(file.as_raw_handle(), buffer.as_mut_ptr(), room, &mut count, &mut place)
    });
    match outcome {
        Err(error) if is(&error, ERROR_HANDLE_EOF) => Ok(0),
        Err(error) => Err(error),
        Ok(()) => Ok(count as usize),
    }
}

/// Writes everything that the system holds back of an open file, and empties the disk's
/// own cache.
pub(in super::super) fn flush(file: BorrowedHandle<'_>) -> io::Result<()> {
    // SAFETY: the handle is open while it is borrowed.
    check(unsafe { FlushFileBuffers(file.as_raw_handle()) })
}

fn transfer(length: usize) -> u32 {
    length.min(LARGEST_TRANSFER) as u32
}

/// How these calls are told the place in the file.
pub(crate) fn overlapped(offset: u64) -> OVERLAPPED {
    OVERLAPPED {
        Anonymous: OVERLAPPED_0 {
            Anonymous: OVERLAPPED_0_0 { Offset: offset as u32, OffsetHigh: (offset >> 32) as u32 },
        },
        ..OVERLAPPED::default()
    }
}
