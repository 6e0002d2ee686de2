//! The locks of the operating system, on which the [`protocol`](super::protocol) is carried out:
//! one-byte locks in the lock file, far beyond any content.

#[cfg(unix)]
mod at_exit;
mod backend;
#[cfg(target_os = "linux")]
mod byte_range;
mod inspect;
mod lock;
#[cfg(target_os = "linux")]
mod mapped;
mod note_writer;
#[cfg(not(any(target_os = "macos", target_os = "ios")))]
mod offset;
mod removal;
mod run_wait;
mod steps;
mod take_again;
#[cfg(unix)]
mod unix;
mod wait;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use at_exit::remove_unused as remove_unused_at_exit;
pub(super) use backend::KernelBackend;
pub(super) use inspect::{Patience, inspect};
pub(super) use lock::KernelLock;
pub(super) use removal::{Removed, remove_unused};
#[cfg(unix)]
use unix::{LockFile, has_readers_in};
#[cfg(windows)]
use windows::{LockFile, has_readers_in};
