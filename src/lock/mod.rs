//! Locks between processes, threads and calls, that never have to be broken.
//!
//! A lock is a kernel lock on a small file beside the locked one, so that the kernel frees
//! it when its holder dies, however it dies. The protocol, in [`kernel`], has two locks in
//! a fixed order, so that readers that keep arriving cannot starve a writer. In one process a
//! [`queue`] serves calls in their order, and lets at most one thread wait in the kernel for each
//! lock; [`acquire`] brings each call to the queue of the lock that its path means ([`lock_path`]),
//! unless no other call wants it and it was used a moment ago ([`cache`]): then it takes neither a
//! thread nor a disk. [`note`] is the note in the lock file that tells people who holds it; nothing
//! depends on it. A lock file that no process uses is removed ([`unused`]).
//!
//! JavaScript's threads wait for the mutexes of [`acquire`] and [`cache`]: nothing is done under
//! them that may wait for a disk. The mutex of a queue they only try, and no thread waits for one
//! while it has another.
//!
//! [`lockfile`] is another protocol, for living together with programs that use the package
//! `proper-lockfile`: another [`Backend`](queue::Backend) of the same queues.

mod acquire;
#[cfg(target_os = "linux")]
mod cache;
mod guard;
mod held;
mod kernel;
mod lock_name;
mod lock_path;
pub mod lockfile;
pub mod note;
pub mod protocol;
mod queue;
pub mod scheduler;
mod time_slice;
mod try_lock;
mod unused;
mod waiter;

pub use crate::vocabulary::{FileKey, LockKind};
pub use acquire::{
    acquire, acquire_at, acquire_here, acquire_here_if_there, acquire_if_there, take_at_once,
};
pub use held::{HeldLock, HeldLocks, LockGuard, Reservation};
pub use lock_path::{
    LockPlace, LockedPath, can_be_parked, ignores_case, inspect, inspect_at, key_of, may_be_same,
};
pub use try_lock::{TriedLock, try_lock};
#[cfg(not(unix))]
pub use unused::remove_unused_files;
pub use unused::{remove_unused_lock, remove_unused_locks};
pub use waiter::{Before, IfMissing, LockReply, LockRequest};

/// A call that waits for a lock.
pub type Waiter = waiter::Waiter<LockGuard, IfMissing>;
