//! Tells files that are no JSON text and mean to be none from those that are damaged: JSON lines,
//! and JSON with comments and trailing commas, which programs keep under names that end in `.json`.

use crate::error::ErrorKind;
use crate::fs::{File, FileSystem};
use crate::write::{Control, Format, validate_bytes};

/// What a file that is no JSON text may be instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// JSON lines, or JSON with comments or trailing commas, from the beginning to the end.
    Whole,
    /// It begins as one of them.
    Begun,
    /// Neither.
    None,
}

/// The most bytes of a line, or of a file with comments, that are looked at.
const LARGEST: usize = 16 << 20;

/// How much is read at a time.
const READ_AT_ONCE: usize = 1 << 18;

impl Dialect {
    /// Reads a file that is no JSON text.
    pub fn of<F: FileSystem>(file: &File<F>, control: &Control) -> Result<Dialect, ErrorKind> {
        match lines_in(file, control)? {
            Dialect::None => {}
            found => return Ok(found),
        }
        let mut text = Vec::new();
        while text.len() <= LARGEST {
            if read_more(file, &mut text, 0, control)? == 0 {
                let (plain, has_comments) = without_extras(&text);
                return Ok(match (is_json(&plain), has_comments) {
                    (true, _) => Dialect::Whole,
                    (false, true) => Dialect::Begun,
                    (false, false) => Dialect::None,
                });
            }
        }
        Ok(Dialect::None)
    }
}

fn is_json(text: &[u8]) -> bool {
    validate_bytes(text, Format::Json).is_ok()
}

/// Appends what follows in the file, of which `before` bytes are no longer in `text`.
fn read_more<F: FileSystem>(
    file: &File<F>,
    text: &mut Vec<u8>,
    before: u64,
    control: &Control,
) -> Result<usize, ErrorKind> {
    control.check()?;
    let length = text.len();
    text.resize(length + READ_AT_ONCE, 0);
    let read = file.read(text.get_mut(length..).unwrap_or_default(), before + length as u64);
    text.truncate(length + *read.as_ref().unwrap_or(&0));
    Ok(read?)
}

/// Whether it is JSON lines: several lines, each of them one JSON text.
fn lines_in<F: FileSystem>(file: &File<F>, control: &Control) -> Result<Dialect, ErrorKind> {
    let (mut text, mut before, mut lines) = (Vec::new(), 0, 0_u64);
    loop {
        let is_end = read_more(file, &mut text, before, control)? == 0;
        let mut done = 0;
        while let Some(rest) = text.get(done..).filter(|rest| !rest.is_empty()) {
            let end = rest.iter().position(|byte| *byte == b'\n');
            if end.is_none() && !is_end {
                break;
            }
            let length = end.map_or(rest.len(), |end| end + 1);
            let line = rest.get(..length).unwrap_or_default();
            if !line.trim_ascii().is_empty() {
                if !is_json(line) {
                    return Ok(if lines > 0 { Dialect::Begun } else { Dialect::None });
                }
                lines += 1;
            }
            done += length;
        }
        if is_end || text.len() - done > LARGEST {
            return Ok(if lines > 1 { Dialect::Whole } else { Dialect::None });
        }
        text.drain(..done);
        before += done as u64;
    }
}

/// The text without comments and trailing commas, and whether there were comments.
fn without_extras(text: &[u8]) -> (Vec<u8>, bool) {
    let mut plain: Vec<u8> = Vec::with_capacity(text.len());
    let (mut has_comments, mut in_string) = (false, false);
    // Where a comma is that nothing has followed so far.
    let mut comma = None;
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if in_string {
            plain.push(byte);
            match byte {
                b'\\' => plain.extend(bytes.next()),
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match (byte, bytes.peek()) {
            (b'/', Some(b'/')) => {
                has_comments = true;
                while bytes.peek().is_some_and(|next| *next != b'\n') {
                    bytes.next();
                }
            }
            (b'/', Some(b'*')) => {
                has_comments = true;
                // The asterisk that begins it does not end it.
                bytes.next();
                let mut last = None;
                for next in bytes.by_ref() {
                    if (last, next) == (Some(b'*'), b'/') {
                        break;
                    }
                    last = Some(next);
                }
                plain.push(b' ');
            }
            _ => {
                if let (b'}' | b']', Some(at)) = (byte, comma)
                    && let Some(place) = plain.get_mut(at)
                {
                    *place = b' ';
                }
                if !byte.is_ascii_whitespace() {
                    comma = (byte == b',').then_some(plain.len());
                }
                in_string = byte == b'"';
                plain.push(byte);
            }
        }
    }
    (plain, has_comments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_trailing_commas_are_left_out_and_nothing_in_strings_is() {
        for (text, is_json_then) in [
            ("// a\n{\"a\": 1, /* b */ \"c\": [1, 2,],}\n", true),
            ("{\"a\": \"// no, /* no */ ,}\" , }", true),
            ("{\"a\": \"\\\"// no\", }", true),
            ("{\"a\": 1 /* never ends", false),
            ("{\"a\": 1,, }", false),
            ("{,}", true),
            ("{\"a\": /**/ 1}", true),
            ("{\"a\": /*/ 1 */ 2}", true),
        ] {
            let (plain, _) = without_extras(text.as_bytes());
            assert_eq!(is_json(&plain), is_json_then, "{text}: {}", plain.escape_ascii());
        }
    }
}
