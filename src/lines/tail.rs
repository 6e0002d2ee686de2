//! What a crash may have left at the end of a file of lines.

use std::io::{self, Read};

use serde::de::IgnoredAny;

use super::format::{LineKind, MARK_LENGTH, Mark, is_comment, may_be_cut_number};
use crate::error::Failure;
use crate::fs::{File, FileSystem};

/// How the end of a file is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The next line may follow.
    Whole,
    /// The last line is whole, and has no newline yet.
    NoNewline,
    /// From here on it is what a crash has left.
    Torn {
        /// Where it begins.
        from: u64,
    },
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How much is read at a time.
const PIECE: usize = 16 * 1024;

/// Looks at the end of a file of this size.
///
/// It reads the last append, however long that is, and holds a piece of it in memory.
pub fn look_at_tail<F: FileSystem>(
    file: &File<F>,
    size: u64,
    kind: LineKind,
) -> Result<Tail, Failure> {
    if size == 0 {
        return Ok(Tail::Whole);
    }
    let has_newline = byte_at(file, size - 1)? == Some(b'\n');
    let last = line_before(file, if has_newline { size - 1 } else { size })?;
    let last_text = Line { end: last.text_end, ..last };
    let is_cut = !has_newline && kind == LineKind::Json && !is_whole(file, &last_text)?;
    let marks_others = matches!(last.mark, Some(Mark::Begin | Mark::Middle));
    // Zeros at the end may stand for a newline that was to follow, and for what was to come behind it.
    let is_before_zeros = !has_newline && !last.has_nul && last.start < last.text_end;
    let ends_in_zeros = last.text_end < last.end;
    let is_broken = is_cut || last.has_nul || marks_others || ends_in_zeros && !is_before_zeros;
    if is_broken || last.mark.is_some() {
        let before = lines_of_same_append(file, &last)?;
        if is_broken || !before.is_whole {
            return Ok(Tail::Torn { from: before.start });
        }
    }
    Ok(match has_newline {
        true => Tail::Whole,
        false if ends_in_zeros => Tail::Torn { from: last.text_end },
        false => Tail::NoNewline,
    })
}

/// A line, less its newline.
#[derive(Clone, Copy)]
struct Line {
    start: u64,
    end: u64,
    /// Where the zeros begin with which it ends, if it does.
    text_end: u64,
    /// Whether there are zeros before that.
    has_nul: bool,
    mark: Option<Mark>,
}

impl Line {
    fn has_zeros(&self) -> bool {
        self.has_nul || self.text_end < self.end
    }
}

/// The lines before the last one that belong to its append.
struct Before {
    start: u64,
    /// Whether all are there that there should be.
    is_whole: bool,
}

/// A line with zeros before others of an append has taken the beginning of it.
fn lines_of_same_append<F: FileSystem>(file: &File<F>, last: &Line) -> Result<Before, Failure> {
    let mut start = last.start;
    while start > 0 && last.mark != Some(Mark::Begin) {
        let line = line_before(file, start - 1)?;
        match line.mark {
            Some(Mark::Begin) => {
                return Ok(Before { start: line.start, is_whole: !line.has_zeros() });
            }
            Some(Mark::Middle) if !line.has_zeros() => start = line.start,
            _ if line.has_zeros() => return Ok(Before { start: line.start, is_whole: false }),
            _ => break,
        }
    }
    Ok(Before { start, is_whole: false })
}

/// Where the append begins to which the line at `offset` belongs, as far as it is there.
pub(super) fn start_of_append<F: FileSystem>(file: &File<F>, offset: u64) -> Result<u64, Failure> {
    let mut beginning = [0; MARK_LENGTH];
    let count = file.read_up_to(&mut beginning, offset)?;
    let mut mark = Mark::of(beginning.get(..count).unwrap_or_default());
    let mut start = offset;
    while start > 0 && matches!(mark, Some(Mark::Middle | Mark::End)) {
        let line = line_before(file, start - 1)?;
        if !matches!(line.mark, Some(Mark::Begin | Mark::Middle)) {
            break;
        }
        (start, mark) = (line.start, line.mark);
    }
    Ok(start)
}

/// The line that ends at `end`, where its newline is, or the end of the file.
fn line_before<F: FileSystem>(file: &File<F>, end: u64) -> Result<Line, Failure> {
    let mut buffer = [0; PIECE];
    let (mut start, mut has_nul, mut text_end) = (end, false, None);
    let mut piece: &[u8] = &[];
    let mut has_begun = false;
    while start > 0 && !has_begun {
        let from = start.saturating_sub(PIECE as u64);
        let wanted = usize::try_from(start - from).unwrap_or(PIECE);
        let count = file.read_up_to(buffer.get_mut(..wanted).unwrap_or_default(), from)?;
        piece = buffer.get(..count).unwrap_or_default();
        start = from;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            piece = piece.get(at + 1..).unwrap_or_default();
            start = from + at as u64 + 1;
            has_begun = true;
        }
        let text = match text_end {
            Some(_) => piece,
            None => {
                let length = piece.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
                text_end = (length > 0).then_some(start + length as u64);
                piece.get(..length).unwrap_or_default()
            }
        };
        has_nul |= text.contains(&0);
    }
    let text_end = text_end.unwrap_or(start);
    let is_long = end - start >= MARK_LENGTH as u64;
    let mark = match is_long && piece.len() < MARK_LENGTH {
        // It begins at the end of a piece.
        true => {
            let mut beginning = [0; MARK_LENGTH];
            file.read_up_to(&mut beginning, start)?;
            Mark::of(&beginning)
        }
        false => Mark::of(piece),
    };
    Ok(Line { start, end, text_end, has_nul, mark })
}

fn byte_at<F: FileSystem>(file: &File<F>, offset: u64) -> Result<Option<u8>, Failure> {
    let mut byte = [0];
    Ok((file.read_up_to(&mut byte, offset)? == 1).then_some(byte[0]))
}

/// Whether a last line without newline is all that its writer has meant.
fn is_whole<F: FileSystem>(file: &File<F>, line: &Line) -> Result<bool, Failure> {
    let mut beginning = [0; 512];
    let count = file.read_up_to(&mut beginning, line.start)?;
    let beginning = beginning.get(..count).unwrap_or_default();
    if may_be_cut_number(beginning) {
        return Ok(false);
    }
    if is_comment(beginning) {
        return Ok(true);
    }
    let starts_file = line.start == 0 && beginning.starts_with(BYTE_ORDER_MARK);
    let from = line.start + if starts_file { BYTE_ORDER_MARK.len() as u64 } else { 0 };
    let mut reader = Part { file, at: from, end: line.end, failure: None };
    let parsed = serde_json::from_reader::<_, IgnoredAny>(io::BufReader::new(&mut reader));
    match reader.failure {
        Some(failure) => Err(failure),
        None => Ok(parsed.is_ok()),
    }
}

/// Reads a part of a file.
struct Part<'a, F: FileSystem> {
    file: &'a File<F>,
    at: u64,
    end: u64,
    /// Why it could not be read on, which is not to be taken for bad JSON.
    failure: Option<Failure>,
}

impl<F: FileSystem> Read for Part<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        match self.file.read(buffer.get_mut(..wanted).unwrap_or_default(), self.at) {
            Ok(count) => {
                self.at += count as u64;
                Ok(count)
            }
            Err(failure) => {
                let kind = failure.source.kind();
                self.failure = Some(failure);
                Err(kind.into())
            }
        }
    }
}
