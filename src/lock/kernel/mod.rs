//! The locks of the operating system, on which the [`protocol`](super::protocol) is carried out:
//! one-byte locks in the lock file, far beyond any content.

mod backend;
mod inspect;
mod lock;
mod note_writer;
#[cfg(not(any(target_os = "macos", target_os = "ios")))]
mod offset;
mod steps;
mod take_again;
#[cfg(unix)]
mod unix;
mod wait;
#[cfg(windows)]
mod windows;

pub(super) use backend::KernelBackend;
pub(super) use inspect::{Patience, inspect};
pub(super) use lock::KernelLock;
#[cfg(unix)]
use unix::LockFile;
#[cfg(windows)]
use windows::LockFile;
