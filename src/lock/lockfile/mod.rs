//! The protocol of the package `proper-lockfile`: a lock is a directory, which whoever has the lock
//! has made, and keeps fresh by setting its time. One that is older than a limit is abandoned,
//! and may be taken over.
//!
//! It is for living together with programs that still use that package: each side keeps out
//! the other. Taking over is where the package can end up with two owners: two who find
//! a directory stale remove it one after the other, and the second removes what the first has just
//! made. Here
//!
//! - a lock directory is held open and locked (`flock`) by its holder, so that no holdfast takes
//!   it over while its holder lives, and no two take it over at once,
//! - it is taken over by letting it change names with a new one in a single step, and what comes
//!   out is looked at: if it is not what was found stale, it goes back,
//! - nobody is told that he has a lock that was taken over until it has settled, because one who
//!   runs the package may be about to remove it,
//! - nothing is touched, and nothing removed, that is not the very directory that was made.
//!
//! So there are never two owners among those that run holdfast on one machine, on a file system
//! with locks. What remains beside one who runs the package is said in `docs/formats.md`.
//!
//! [`dir`] is what is done to the directory, [`heartbeat`] the thread that keeps locks fresh,
//! [`queue`] says who is next in this process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::fs::FileId;

pub mod dir;
mod heartbeat;
mod queue;
mod remove_at_exit;

pub use heartbeat::OnLoss;
pub use queue::{
    LockfileGuard, LockfileRequest, Reply, Waiter, acquire, acquire_here, inspect, locate,
};

/// Which lock is meant: the directory that holds the lock directory, and its name there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockfileKey(FileId, OsString);

impl LockfileKey {
    /// The key as a text, the same for the same lock in this process.
    pub fn text(&self) -> String {
        let LockfileKey(FileId { device, inode }, name) = self;
        format!("{device}:{inode}:{}", name.to_string_lossy())
    }
}

/// Which lock is meant.
#[derive(Clone, Debug)]
pub struct Naming {
    /// The file, absolute.
    pub path: PathBuf,
    /// The lock directory, absolute, where it is not `<path>.lock`.
    pub dir: Option<PathBuf>,
    /// Whether a symbolic link means the file that it leads to.
    pub follow_symlinks: bool,
    /// Whether the file must exist.
    pub must_exist: bool,
}

/// When a lock counts as abandoned, and how often it is kept from that.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The age at which others may take it.
    pub stale: Duration,
    /// Between one refreshment and the next.
    pub update: Duration,
}
