//! The names of backups, and the times in them.

use std::ffi::{OsStr, OsString};

use crate::fs::{FileKind, Metadata, is_placeholder};
use crate::short_name::{LONGEST_NAME, fit, os_str, stands_for};

/// The end of the name of a backup.
pub(super) const SUFFIX: &str = ".backup";

/// The latest time, in milliseconds since 1970, that JavaScript has dates for.
pub(super) const LATEST: u64 = 8_640_000_000_000_000;

/// The name of a backup of the file called `basename`, made at a time in milliseconds since
/// 1970.
pub fn name_at(basename: &OsStr, time: u64) -> OsString {
    name_within(basename, time, LONGEST_NAME)
}

/// The same, on a file system whose names have at most `limit` bytes.
pub(super) fn name_within(basename: &OsStr, time: u64, limit: usize) -> OsString {
    let tail = format!(".{time}{SUFFIX}");
    let mut name = fit(basename, limit.saturating_sub(tail.len()));
    name.push(tail);
    name
}

/// When the backup with this name was made, in milliseconds since 1970. `None` if it is no
/// name of a backup.
pub fn time_of(name: &OsStr) -> Option<u64> {
    let front = name.as_encoded_bytes().strip_suffix(SUFFIX.as_bytes())?;
    let dot = front.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0)?;
    digits(front.get(dot + 1..)?)
}

/// The same, for a backup of the file called `basename` only.
pub(super) fn time_of_backup(name: &OsStr, basename: &OsStr) -> Option<u64> {
    let time = time_of(name)?;
    let length = name.len() - SUFFIX.len();
    let front = name.as_encoded_bytes().get(..length)?;
    let dot = front.iter().rposition(|byte| *byte == b'.')?;
    stands_for(os_str(front.get(..dot)?)?, basename).then_some(time)
}

fn digits(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    // `parse` would take a sign.
    let time = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())??;
    (time <= LATEST).then_some(time)
}

/// The bytes of the name of the file whose backup has this name, as they are in it.
pub(super) fn file_part(name: &OsStr) -> &[u8] {
    let bytes = name.as_encoded_bytes();
    let front = bytes.strip_suffix(SUFFIX.as_bytes()).unwrap_or_default();
    let dot = front.iter().rposition(|byte| *byte == b'.').unwrap_or_default();
    front.get(..dot).unwrap_or_default()
}

/// Whether a file with the name of a backup is one, among the `names` in its directory. Where a
/// backup gets its name in two steps, a crash may leave an empty file under that name.
pub(super) fn is_backup(name: &OsStr, found: &Metadata, names: &[OsString]) -> bool {
    found.kind == FileKind::File && !(found.is_empty_file() && is_placeholder(name, names))
}
