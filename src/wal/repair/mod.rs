//! Opens a collection after whatever has happened to it.
//!
//! What is read is judged first, and nothing is changed if the recovery mode refuses it. Then
//! the end is made clean: a torn tail is copied aside, what no sync is known to have confirmed
//! is written again (the system may have dropped it after a failed sync and still show it),
//! and the current segment gets an end mark and is cut there. A crash may come after any step:
//! the next process that opens the collection does the same again. On a full disk there may be no
//! room for the copy of a torn tail: then that stays where it is until the next append.
//!
//! A sync of the directory may have failed in the process before, and a name that is seen then may
//! never get to the disk, whatever is synced later. So names on which something depends, and
//! which no later sync covers, are given once more: a segment that was sealed in mid-rotation
//! becomes the current one again, an empty current one is published again, and the note of a
//! checkpoint is written again before segments are removed because of it.

mod assess;
mod run;
mod scan;
mod truncate;

pub(super) use run::{RepairedCollection, repair};
