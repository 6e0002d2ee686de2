//! Several files that change together, or not at all, through any crash.
//!
//! [`commit()`] stages all that is new beside the files that it will replace, brings everything
//! to the disk, and then decides: one rename turns the record in the first directory into an intent.
//! From there on the transaction is done, whatever happens. The temp files are renamed to the files,
//! and the intent is dropped.
//!
//! What a process leaves that died on the way is found by its names ([`names`]), in any of the
//! directories: each has the record ([`record`]). [`roll()`] rolls it forward if there is an
//! intent, and back if there is none. A file that another program has changed in between is left
//! as it is, and reported.
//!
//! [`begin`] leads into a transaction: it takes the locks of all files, in one order that is the
//! same in every process, and completes what dead processes have left unfinished there. [`run`]
//! commits on holdfast's threads.

pub mod begin;
pub mod change;
pub mod commit;
mod complete;
pub mod fingerprint;
mod held_files;
mod lock_in_order;
mod lock_order;
pub mod names;
mod open_files;
mod participant;
mod pending_change;
pub mod record;
mod record_lock;
pub mod roll;
pub mod run;
mod tree;
mod unfinished;
mod verdict;
mod way;

pub use change::{Change, FileChange};
pub use commit::{CommitError, commit, commit_as};
pub use lock_in_order::BeginWaiter;
pub use roll::{
    Completion, RollLocks, RollOptions, RollResult, RolledFile, TryLockAll, roll, roll_dir,
};
pub use unfinished::{Unfinished, unfinished};
