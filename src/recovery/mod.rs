//! Recovers what a crash has left.
//!
//! A process that dies in the middle of a write leaves a temp file ([`crate::temp_name`]); the
//! JavaScript that holdfast replaces leaves `<file>.tmp` and `<file>.bak` as well. [`recover()`]
//! looks at what is left of one file, or of all files in a directory, and decides:
//!
//! 1. The file is missing and there is a temp file: the newest that is whole becomes the file,
//!    if that is wanted; others are removed.
//! 2. The file is missing and there is a `.bak`: that becomes the file.
//! 3. The file is there and good: what is left beside it is stale, and removed.
//! 4. The file has to be JSON, and is empty or corrupt: it is kept aside, and replaced by what is
//!    good; by its newest good backup where nothing else is, if that is wanted ([`backups`]).
//!
//! What holds at every moment, so that a recovery may be cut off anywhere, run again, and run
//! by several processes at once:
//!
//! - Nothing is touched whose writer may be alive: a temp file is an orphan only when no process
//!   holds its lock and it is old enough. Its lock is held while it is dealt with, and its name
//!   is known to stand for that file.
//! - Nothing is overwritten. What becomes a file gets its name by a rename that fails if
//!   the name is taken, and what was there before has been moved aside.
//! - Nothing good is removed before something as good is durable in its place.
//!
//! [`recover_file`] has the four cases, [`file_state`] says which is one, [`orphan`] says what is an orphan, [`json_check`](crate::json_check) what is
//! whole or like JSON, and [`promote`] makes an orphan the file. [`run`] runs
//! it on holdfast's threads, and [`sweep_on_first_write`] sweeps directories when they are first written to.

mod action;
mod backups;
mod context;
mod file_state;
mod lock_files;
pub mod names;
mod orphan;
mod promote;
mod recover;
mod recover_file;
mod request;
pub mod run;
pub mod sweep_on_first_write;
mod transactions;

pub use action::{ActionKind, RecoveryAction};
pub use recover::recover;
pub use request::{Options, RecoveryLock, RecoveryRequest, TryLockFile};
