//! Names of temp files: `.<basename>.<16 lower-case hex digits>.tmp`, and with a UUID in place
//! of the digits those of the JavaScript that holdfast replaces.

use std::ffi::{OsStr, OsString};

/// The longest name that file systems take, in bytes (on Windows: UTF-16 units, which
/// are never more than the bytes).
const LONGEST_NAME: usize = 255;

/// The end of the name.
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
    parse(name).is_some()
}

/// What the name of a temp file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TempName<'a> {
    /// The name of the file that it was to become, or the beginning of it.
    pub basename: &'a OsStr,
    /// Whether that name may have been longer, and be cut short here.
    pub may_be_cut: bool,
}

/// Reads the name of a temp file. `None` for any other name.
pub fn parse(name: &OsStr) -> Option<TempName<'_>> {
    let middle = name.as_encoded_bytes().strip_prefix(b".")?.strip_suffix(SUFFIX.as_bytes())?;
    let split = |length: usize| {
        let (front, random) = middle.split_at_checked(middle.len().checked_sub(length)?)?;
        let front = front.strip_suffix(b".").filter(|front| !front.is_empty())?;
        Some((front, random))
    };
    if let Some((front, _)) = split(DIGITS).filter(|(_, random)| random.iter().all(is_digit)) {
        let room = LONGEST_NAME - 1 - DIGITS - 1 - SUFFIX.len();
        // A name that is cut ends between characters, of which none has more than 4 bytes.
        return Some(TempName { basename: os_str(front)?, may_be_cut: front.len() + 4 > room });
    }
    let (front, _) = split(UUID).filter(|(_, random)| is_uuid(random))?;
    Some(TempName { basename: os_str(front)?, may_be_cut: false })
}

/// How many hexadecimal digits a name has.
const DIGITS: usize = 16;

/// How long a UUID is: `8-4-4-4-12` digits.
const UUID: usize = 36;

fn is_digit(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_uuid(text: &[u8]) -> bool {
    text.iter().enumerate().all(|(index, byte)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => is_digit(byte),
    })
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
