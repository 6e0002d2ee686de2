//! Where each lock is in the lock file, on Linux and Windows. On macOS the gate is a file of its
//! own.

use crate::lock::protocol::Byte;

/// The offset of ticket 0.
pub(super) const TICKETS: i64 = (1 << 62) + (1 << 32);

/// The offset of a byte. Versions of holdfast exclude each other by it, so it never changes.
pub(super) fn of(byte: Byte) -> i64 {
    match byte {
        Byte::Gate => 1 << 62,
        Byte::Main => (1 << 62) + 1,
        Byte::Removal => (1 << 62) + 2,
        Byte::Ticket(ticket) => TICKETS.saturating_add_unsigned(ticket),
    }
}
