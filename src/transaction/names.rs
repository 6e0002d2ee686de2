//! The names that a transaction leaves in a directory while it is under way.
//!
//! All carry its id, 64 random bits as 16 lower-case hexadecimal digits:
//!
//! - `.<basename>.<id>.<number>.txn`: the new content of a file, or the old one of a file that
//!   is removed. `<number>` is that of the member, from 0. A name that would be too long for the
//!   file system is shortened in its basename part; the id and the number tell which one it is.
//! - `.holdfast.<id>.prepared`: the record, in each directory that the transaction touches.
//! - `.holdfast.<id>.intent`: the record in the first path's directory, once the transaction is
//!   decided.
//!
//! One name stays when another program has changed a file before the transaction was complete:
//! `<basename>.conflict-<id>`, with the content that the transaction had for the file.

use std::ffi::{OsStr, OsString};

use crate::short_name::{LONGEST_NAME, fit};

const TEMP_SUFFIX: &str = ".txn";
const RECORD_PREFIX: &str = ".holdfast.";
const PREPARED_SUFFIX: &str = ".prepared";
const INTENT_SUFFIX: &str = ".intent";

/// Which transaction it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(pub u64);

impl TransactionId {
    /// A new one.
    pub fn new() -> TransactionId {
        TransactionId(rand::random())
    }
}

impl Default for TransactionId {
    fn default() -> TransactionId {
        TransactionId::new()
    }
}

impl std::fmt::Display for TransactionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Which kind of record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// What would be done if the transaction were decided.
    Prepared,
    /// What is to be done.
    Intent,
}

/// What a name of a transaction stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionName {
    /// A staged file, or one that is put aside, and the number of its member.
    Temp(TransactionId, u32),
    /// A record.
    Record(TransactionId, RecordKind),
}

/// The name beside the file called `basename` under which the content of a member is kept.
pub fn temp(basename: &OsStr, id: TransactionId, number: usize) -> OsString {
    temp_within(basename, id, number, LONGEST_NAME)
}

/// The same, on a file system whose names have at most `limit` bytes.
pub fn temp_within(basename: &OsStr, id: TransactionId, number: usize, limit: usize) -> OsString {
    let tail = format!(".{id}.{number}{TEMP_SUFFIX}");
    let mut name = OsString::from(".");
    name.push(fit(basename, limit.saturating_sub(1 + tail.len())));
    name.push(tail);
    name
}

/// The name of a record.
pub fn record(id: TransactionId, kind: RecordKind) -> OsString {
    let suffix = match kind {
        RecordKind::Prepared => PREPARED_SUFFIX,
        RecordKind::Intent => INTENT_SUFFIX,
    };
    format!("{RECORD_PREFIX}{id}{suffix}").into()
}

/// The name under which the new content of the file called `basename` is kept in a conflict.
pub fn conflict(basename: &OsStr, id: TransactionId) -> OsString {
    conflict_within(basename, id, LONGEST_NAME)
}

/// The same, on a file system whose names have at most `limit` bytes.
pub fn conflict_within(basename: &OsStr, id: TransactionId, limit: usize) -> OsString {
    let tail = format!(".conflict-{id}");
    let mut name = fit(basename, limit.saturating_sub(tail.len()));
    name.push(tail);
    name
}

/// What a name stands for, if it is one that only transactions give.
pub fn parse(name: &OsStr) -> Option<TransactionName> {
    let bytes = name.as_encoded_bytes();
    if let Some(front) = bytes.strip_prefix(b".").and_then(|rest| strip(rest, TEMP_SUFFIX)) {
        let dot = front.iter().rposition(|byte| *byte == b'.')?;
        let number = front.get(dot + 1..)?;
        let is_number = (1..=9).contains(&number.len())
            && number.iter().all(u8::is_ascii_digit)
            && (number.len() == 1 || !number.starts_with(b"0"));
        let front = front.get(..dot)?;
        let (basename, digits) = front.split_at_checked(front.len().checked_sub(16)?)?;
        // A basename has one byte at least, and then there is a dot.
        let is_named = basename.len() >= 2 && basename.ends_with(b".");
        let number = std::str::from_utf8(number).ok().filter(|_| is_number && is_named)?;
        return Some(TransactionName::Temp(id(digits)?, number.parse().ok()?));
    }
    let rest = bytes.strip_prefix(RECORD_PREFIX.as_bytes())?;
    for (suffix, kind) in
        [(PREPARED_SUFFIX, RecordKind::Prepared), (INTENT_SUFFIX, RecordKind::Intent)]
    {
        if let Some(digits) = strip(rest, suffix) {
            return id(digits).map(|id| TransactionName::Record(id, kind));
        }
    }
    None
}

/// Whether a file of this name belongs to a transaction, by the look of it. Only
/// [`super::commit()`] and [`super::roll()`] may touch it.
pub fn is_transaction_name(name: &OsStr) -> bool {
    parse(name).is_some()
}

fn strip<'a>(bytes: &'a [u8], suffix: &str) -> Option<&'a [u8]> {
    bytes.strip_suffix(suffix.as_bytes())
}

fn id(digits: &[u8]) -> Option<TransactionId> {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 16 || !digits.iter().all(is_hex) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().map(TransactionId)
}
