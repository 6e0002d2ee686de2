//! How lines are written, so that a crash can be told from what was meant.

/// The blanks at the beginning of each line of an append that has several: no program writes them by
/// chance, and JSON allows them there.
const BEGIN: &[u8] = b" \t \t";
const MIDDLE: &[u8] = b" \t\t ";
const END: &[u8] = b" \t\t\t";

/// How long a mark is.
pub(super) const MARK_LENGTH: usize = BEGIN.len();

/// Before a number that is an append of its own. The beginning of a number is a number: a last line
/// that begins so, and has no end, is not whole.
pub const NUMBER_MARK: u8 = b' ';

/// What a last line without a newline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// Lines of JSON: one that is no whole JSON text is torn.
    Json,
    /// Lines of text: every one is whole.
    Text,
}

/// Where in an append a line stands that has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It is the first one.
    Begin,
    /// Others come before and behind it.
    Middle,
    /// It is the last one.
    End,
}

impl Mark {
    /// The mark of a line, if it has one.
    pub fn of(line: &[u8]) -> Option<Mark> {
        match line.get(..MARK_LENGTH)? {
            BEGIN => Some(Mark::Begin),
            MIDDLE => Some(Mark::Middle),
            END => Some(Mark::End),
            _ => None,
        }
    }

    /// The blanks.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Mark::Begin => BEGIN,
            Mark::Middle => MIDDLE,
            Mark::End => END,
        }
    }
}

/// Whether a line that may be cut short is a number of ours as far as it goes.
pub(super) fn may_be_cut_number(line: &[u8]) -> bool {
    let text = match Mark::of(line) {
        Some(_) => line.get(MARK_LENGTH..),
        None => line.strip_prefix(&[NUMBER_MARK]),
    };
    matches!(text, Some([first, ..]) if *first == b'-' || first.is_ascii_digit())
}

/// Whether a line is a comment, which no line of ours is.
pub(super) fn is_comment(line: &[u8]) -> bool {
    let text = line.trim_ascii_start();
    text.starts_with(b"#") || text.starts_with(b"//")
}
