//! Several files that change together, or not at all, through any crash.
//!
//! [`commit()`] stages all that is new beside the files that it will replace, brings everything
//! to the disk, and then decides: one rename turns the record in the first folder into an intent.
//! From there on the transaction is done, whatever happens. The files are renamed into their
//! places, and the intent is dropped.
//!
//! What a process leaves that died on the way is found by its names ([`names`]), in any of the
//! folders: each has the record ([`record`]). [`settle()`] rolls it forward if there is an
//! intent, and back if there is none. A file that somebody else has changed in between is left
//! as it is, and reported.
//!
//! [`begin()`] is the way there in a process: the locks of all the files, in one order that is
//! the same for everybody, and what others have left unfinished. [`submit`] is the way back.

pub mod begin;
mod claim;
pub mod commit;
mod content;
mod moves;
pub mod names;
mod place;
pub mod record;
pub mod settle;
pub mod submit;

pub use begin::{Begin, Begun, Waiting, begin};
pub use claim::{Unfinished, unfinished};
pub use commit::{Change, CommitError, Part, commit, commit_as};
pub use settle::{Decision, Guard, Locks, Options, Outcome, Verdict, settle, settle_folder};
