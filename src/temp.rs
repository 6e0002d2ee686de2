//! Names of temp files: `.<basename>.<16 lower-case hex digits>.tmp`.

use std::ffi::{OsStr, OsString};

/// The longest name that file systems take, in bytes (on Windows: UTF-16 units, which
/// are never more than the bytes).
const LONGEST_NAME: usize = 255;

/// What stands behind the basename.
const SUFFIX: &str = ".tmp";

/// A new name for a temp file of the file called `basename`, from 64 random bits. A
/// name that would be too long is shortened in its basename part.
pub fn new_name(basename: &OsStr) -> OsString {
    name_with(basename, rand::random())
}

/// The temp name with these random bits in it.
pub fn name_with(basename: &OsStr, random: u64) -> OsString {
    let tail = format!(".{random:016x}{SUFFIX}");
    let mut name = OsString::from(".");
    name.push(shorten(basename, LONGEST_NAME - 1 - tail.len()));
    name.push(tail);
    name
}

/// Whether a file of this name is a temp file, by the look of it.
pub fn is_temp_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let Some((front, random)) = name
        .strip_prefix(b".")
        .and_then(|name| name.strip_suffix(SUFFIX.as_bytes()))
        .and_then(|name| name.split_at_checked(name.len().checked_sub(16)?))
    else {
        return false;
    };
    front.ends_with(b".") && random.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The longest beginning of `name` that has at most `limit` bytes and ends between
/// characters.
#[cfg(unix)]
pub(crate) fn shorten(name: &OsStr, limit: usize) -> &OsStr {
    use std::os::unix::ffi::OsStrExt;
    let bytes = name.as_bytes();
    if bytes.len() <= limit {
        return name;
    }
    let is_inside_character = |byte: &u8| *byte & 0xC0 == 0x80;
    let mut end = limit;
    // A character has at most four bytes; a name in no encoding is cut at the limit.
    while limit - end < 4 && bytes.get(end).is_some_and(is_inside_character) {
        end -= 1;
    }
    if bytes.get(end).is_some_and(is_inside_character) {
        end = limit;
    }
    OsStr::from_bytes(bytes.get(..end).unwrap_or_default())
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
