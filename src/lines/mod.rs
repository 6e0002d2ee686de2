//! Files of lines that people read: JSON lines, and lines of text.
//!
//! The file is a plain one. Other programs read it while it grows, and may append whole lines to it
//! themselves. What holds:
//!
//! - The lines of one append are there together or not at all. Where there are several, each begins
//!   with a mark of blanks ([`format::Mark`]), which JSON allows there: it says whether it is the first,
//!   the last, or between them. An append of which a crash has left a part is known by that, to the
//!   next append ([`repair`]) and to every reader. Lines of text have no mark: there a crash may leave
//!   the first lines of one append.
//! - A write that fails is taken back, as far as what is there is known to be ours ([`append()`]).
//! - What a crash has left at the end is moved to a file of its own before it is cut off ([`repair`]),
//!   and nothing else of the file is ever changed.
//!
//! A crash can leave: no file, or one without a durable name; any part of what was written since the
//! last sync, with zeros in place of the rest; a copy of a tail that has not been cut off yet, whole
//! or in part.
//!
//! Everything here is done under the lock of the file, which [`locked`] takes, but the last sync
//! ([`Appended::sync`]): while one process waits for the disk the next may append.

mod append;
pub mod format;
pub mod locked;
mod reader;
mod repair;
mod tail;

pub use append::{AppendError, Appended, LineOptions, append, sync};
pub use reader::LineReader;
pub use repair::{Repaired, repair};
pub use tail::{Tail, look_at_tail};
