//! The system calls, each behind a function that is safe to call.

use std::io;

use windows_sys::Win32::Foundation::*;

mod information;
mod names;
mod transfer;

#[cfg(test)]
mod tests;

pub(super) use information::{
    Disposition, GONE_AT_ONCE, final_path, general, get, has_journal, id_of, set, wide,
};
pub(super) use names::{
    Name, Opening, Replacing, move_file, names, open_at, rename_at, reopen_dir, reopen_file,
};
pub(crate) use transfer::overlapped;
pub(super) use transfer::{flush, lock, read, write};

/// The error of a call that has not succeeded.
pub(crate) fn check(succeeded: windows_sys::core::BOOL) -> io::Result<()> {
    if succeeded == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Win32's number for what the kernel answered. The usual translation calls three things
/// 'access denied' that have better names.
fn check_status(status: NTSTATUS) -> io::Result<()> {
    if status >= 0 {
        return Ok(());
    }
    let error = match status {
        STATUS_DELETE_PENDING => ERROR_DELETE_PENDING,
        STATUS_FILE_IS_A_DIRECTORY => ERROR_DIRECTORY_NOT_SUPPORTED,
        // SAFETY: the function only looks the number up.
        status => unsafe { RtlNtStatusToDosError(status) },
    };
    Err(error_of(error))
}

/// An error with one of Win32's numbers.
pub(super) fn error_of(number: WIN32_ERROR) -> io::Error {
    io::Error::from_raw_os_error(number.cast_signed())
}

/// Whether an error has this number.
pub(super) fn is(error: &io::Error, number: WIN32_ERROR) -> bool {
    error.raw_os_error() == Some(number.cast_signed())
}

/// Whether the system or the file system does not know the operation, so that an older
/// way of doing it may work.
pub(super) fn is_unknown(error: &io::Error) -> bool {
    const UNKNOWN: [WIN32_ERROR; 5] = [
        ERROR_INVALID_FUNCTION,
        ERROR_NOT_SUPPORTED,
        ERROR_INVALID_PARAMETER,
        ERROR_CALL_NOT_IMPLEMENTED,
        ERROR_INVALID_LEVEL,
    ];
    UNKNOWN.iter().any(|number| is(error, *number))
}
