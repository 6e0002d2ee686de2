//! One atomic write: resolve the target, stage a temp file beside it, make it durable, publish
//! it by a rename, make the rename durable.
//!
//! What holds at every moment, so that a crash between any two system calls leaves
//! the old file or the new one:
//!
//! - Nothing is ever written to the target itself. Its name goes from the old file to
//!   the new one in one rename.
//! - The rename comes after the last byte, the size check, the final owner and mode and,
//!   unless `durability` is `None`, the sync of all these, or what stands for it where the
//!   file system is known ([`durability`]).
//! - Success is reported after the last sync that it stands for, and an attempt that fails
//!   before the rename removes its temp file.
//!
//! A [`StagedWrite`] is one write on its way. [`run()`] makes all attempts of a write on the
//! calling thread; a [`Stream`] makes one as its bytes come; [`crate::backup`] makes one with the
//! bytes of another file; [`crate::engine`] makes many at once on holdfast's threads. This room
//! starts no threads and knows nothing of other writes.

mod access_list;
mod attempt;
mod attributes;
mod control;
mod dir_hook;
pub(crate) mod durability;
mod events;
mod failed_syncs;
mod fill;
mod options;
mod parent_dirs;
mod publish;
mod remove;
mod retry;
mod run;
mod staged_write;
mod stream;
mod temp_file;
mod validate;

pub use crate::vocabulary::Durability;
pub use attempt::AttemptError;
pub use control::{Control, Kept};
pub use dir_hook::{DirHook, set_dir_hook};
pub use events::{Observer, WriteEvent};
pub use failed_syncs::{forget_failed_sync, has_failed_sync, record_failed_sync, sync_failed};
pub use options::{Options, Owner, WriteRequest};
pub use parent_dirs::make_parents;
pub use remove::remove_file;
pub use retry::{RetryDecision, delay_before, is_retried};
pub use run::run;
pub use stream::Stream;
pub use validate::{Format, validate, validate_bytes};

pub(crate) use attempt::{ContentSource, CopySource, Destination, WriteAttempt};
pub(crate) use attributes::WantedAttributes;
pub(crate) use retry::decide_retry;
pub(crate) use run::{make_attempt, run_on};
pub(crate) use staged_write::StagedWrite;
pub(crate) use temp_file::{ClosedTempFile, TempFile};
pub(crate) use validate::check_json;
