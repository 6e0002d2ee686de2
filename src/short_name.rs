//! Names that are made of a file's name and something else, and that a file system may find too
//! long. Then the file's name in them is shortened: `<beginning>.<16 hex digits>`, where the digits
//! are a hash of all of it.
//!
//! The limit is the file system's: 255 bytes on most, less where names are encrypted. The process that
//! makes such a name asks [`crate::fs::Dir::name_limit`]; one that reads it needs no limit, because
//! [`stands_for`] recognises every shortened form of a name.

use std::ffi::{OsStr, OsString};

/// The longest name that file systems take, in bytes (on Windows: UTF-16 units, which
/// are never more than the bytes).
pub const LONGEST_NAME: usize = 255;

/// Every file system takes names of this many bytes. Names that are no longer are never shortened,
/// and no file system is asked for its limit because of them.
pub const ALWAYS_FITS: usize = 44;

/// How many hexadecimal digits a hash has.
const DIGITS: usize = 16;

/// The name, in at most `room` bytes: as it is where it fits, and otherwise shortened. Versions of
/// holdfast exclude each other by names that are made of it, so it can never change.
pub fn fit(name: &OsStr, room: usize) -> OsString {
    if name.len() <= room {
        return name.to_owned();
    }
    let mut short = OsString::from(&shorten(name, room.saturating_sub(1 + DIGITS)));
    short.push(format!(".{:016x}", fnv1a(name.as_encoded_bytes())));
    short
}

/// Whether `short` is the name, or one of its shortened forms.
pub fn stands_for(short: &OsStr, name: &OsStr) -> bool {
    short == name || is_short_form(short.as_encoded_bytes(), name.as_encoded_bytes())
}

/// Whether this may be the shortened form of a name that is not known.
pub fn may_be_short(name: &OsStr) -> bool {
    split(name.as_encoded_bytes()).is_some()
}

fn is_short_form(short: &[u8], name: &[u8]) -> bool {
    short.len() < name.len()
        && split(short).is_some_and(|(beginning, digits)| {
            name.starts_with(beginning) && digits == format!("{:016x}", fnv1a(name)).as_bytes()
        })
}

/// The beginning and the digits of a shortened form.
fn split(short: &[u8]) -> Option<(&[u8], &[u8])> {
    let (front, digits) = short.split_at_checked(short.len().checked_sub(DIGITS)?)?;
    let is_hash = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    Some((front.strip_suffix(b".").filter(|_| is_hash)?, digits))
}

/// FNV-1a, 64 bits: small, and the same in every version and on every platform.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The longest beginning of `name` that has at most `limit` bytes and ends between
/// characters.
#[cfg(unix)]
pub(crate) fn shorten(name: &OsStr, limit: usize) -> &OsStr {
    let bytes = name.as_encoded_bytes();
    if bytes.len() <= limit {
        return name;
    }
    let is_inside_character = |byte: &u8| *byte & 0xC0 == 0x80;
    let mut end = limit;
    // A character has at most four bytes; a name in no encoding is cut at the limit.
    while limit - end < 4 && bytes.get(end).is_some_and(is_inside_character) {
        end = end.saturating_sub(1);
    }
    if bytes.get(end).is_some_and(is_inside_character) {
        end = limit;
    }
    os_str(bytes.get(..end).unwrap_or_default()).unwrap_or_default()
}

/// The longest beginning of `name` that has at most `limit` bytes and ends between
/// characters.
#[cfg(not(unix))]
pub(crate) fn shorten(name: &OsStr, limit: usize) -> std::borrow::Cow<'_, OsStr> {
    if name.len() <= limit {
        return name.into();
    }
    let text = name.to_string_lossy();
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    OsString::from(text.get(..end).unwrap_or_default()).into()
}

/// A part of a name as a name.
#[cfg(unix)]
pub(crate) fn os_str(bytes: &[u8]) -> Option<&OsStr> {
    use std::os::unix::ffi::OsStrExt;
    Some(OsStr::from_bytes(bytes))
}

/// A part of a name as a name; `None` if it is not UTF-8.
#[cfg(not(unix))]
pub(crate) fn os_str(bytes: &[u8]) -> Option<&OsStr> {
    std::str::from_utf8(bytes).ok().map(OsStr::new)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_fits_is_kept_and_a_longer_one_is_recognised_at_every_limit() {
        for name in ["a", "state.json", &"long".repeat(60), &"€".repeat(80)] {
            let name = OsStr::new(name);
            for room in 20..260 {
                let short = fit(name, room);
                assert!(short.len() <= room.max(name.len()));
                assert_eq!(short == name, name.len() <= room);
                assert!(stands_for(&short, name));
                assert!(short == name || may_be_short(&short));
                assert!(!stands_for(&short, OsStr::new("another")));
            }
        }
    }

    #[test]
    fn names_with_one_beginning_have_different_forms() {
        let names = ["x", "y"].map(|end| OsString::from("n".repeat(200) + end));
        let [one, other] = [0, 1].map(|index: usize| fit(names.get(index).unwrap(), 100));
        assert_ne!(one, other);
        assert!(!stands_for(&one, names.get(1).unwrap()));
    }

    /// Other versions look for exactly these names.
    #[test]
    fn the_form_never_changes() {
        let name = OsString::from("a".repeat(250));
        let expected = format!("{}.{:016x}", "a".repeat(232), fnv1a(name.as_encoded_bytes()));
        assert_eq!(fit(&name, 249), OsString::from(&expected));
        assert_eq!(format!("{:016x}", fnv1a(b"a")), "af63dc4c8601ec8c");
    }
}
