//! Where each lock is in the lock file, on Linux and Windows. On macOS the gate is a file of its
//! own.

#[cfg(target_os = "linux")]
use std::ffi::OsStr;

use crate::lock::protocol::Byte;
#[cfg(target_os = "linux")]
use crate::short_name::fnv1a;

/// The offset of ticket 0.
pub(super) const TICKETS: i64 = (1 << 62) + (1 << 32);

/// The offset of the byte in the directory for the lock file of this name. Of two names that have
/// the same one, a reader of one file makes a writer of the other wait, and no more.
#[cfg(target_os = "linux")]
pub(super) fn in_dir(name: &OsStr) -> i64 {
    const LOW_BITS: u64 = (1 << 62) - 1;
    let low = fnv1a(name.as_encoded_bytes()) & LOW_BITS;
    (1 << 62) | low.cast_signed()
}

/// The offset of a byte that the holder of a lock locks for a moment, to see how locks end there. No
/// process waits for it.
#[cfg(target_os = "linux")]
pub(super) const TRIED: i64 = (1 << 62) + 3;

/// The offset of a byte. Versions of holdfast exclude each other by it, so it never changes.
pub(super) fn of(byte: Byte) -> i64 {
    match byte {
        Byte::Gate => 1 << 62,
        Byte::Main => (1 << 62) + 1,
        Byte::Removal => (1 << 62) + 2,
        Byte::Ticket(ticket) => TICKETS.saturating_add_unsigned(ticket),
    }
}
