//! Several files that change together, or not at all, through any crash.
//!
//! [`commit()`] stages all that is new beside the files that it will replace, brings everything
//! to the disk, and then decides: one rename turns the record in the first directory into an intent.
//! From there on the transaction is done, whatever happens. The files are renamed into their
//! places, and the intent is dropped.
//!
//! What a process leaves that died on the way is found by its names ([`names`]), in any of the
//! directories: each has the record ([`record`]). [`settle()`] rolls it forward if there is an
//! intent, and back if there is none. A file that somebody else has changed in between is left
//! as it is, and reported.
//!
//! [`begin()`] is the way there in a process: the locks of all the files, in one order that is
//! the same for everybody, and what others have left unfinished. [`submit`] is the way back.

pub mod begin;
pub mod commit;
mod fingerprint;
mod moves;
pub mod names;
mod participant;
pub mod record;
mod record_lock;
pub mod roll;
pub mod run;

pub use begin::{Begin, Begun, Waiting, begin};
pub use commit::{Change, CommitError, Part, commit, commit_as};
pub use record_lock::{Unfinished, unfinished};
pub use roll::{Decision, Guard, Locks, Options, Outcome, Verdict, settle, settle_dir};
