//! Locks between processes, threads and calls, that nobody ever has to break.
//!
//! A lock is a kernel lock on a small file beside the locked one, so that the kernel frees
//! it when its holder dies, however it dies. The protocol, in [`kernel`], has two locks in
//! a fixed order, so that readers that keep arriving cannot starve a writer. In one process
//! [`queue`] serves waiters in the order of their calls, and lets at most one thread wait
//! in the kernel for each lock; [`acquire`] brings each call to the queue of the lock that its
//! path means ([`lock_path`]), unless nobody wants it and it was used a moment ago ([`cache`]): then
//! it takes neither a thread nor a disk. [`note`] is the note in the lock file that tells people who has
//! it; nothing depends on it.
//!
//! JavaScript's threads wait for the mutexes of [`acquire`] and [`cache`]: nothing is done under
//! them that may wait for a disk. The mutex of a queue they only try, and nobody waits for one
//! while he has another.
//!
//! [`lockfile`] is another protocol, for living together with programs that use the package
//! `proper-lockfile`. The two know nothing of each other.

mod acquire;
#[cfg(target_os = "linux")]
mod cache;
mod deferred_wake_ups;
mod guard;
mod held;
mod kernel;
mod lock_path;
pub mod lockfile;
mod name;
pub mod note;
pub mod protocol;
mod queue;
pub mod scheduler;
mod time_slice;
mod try_lock;
mod waiter;

pub use crate::vocabulary::{FileKey, LockKind};
pub use acquire::{Before, LockRequest, acquire, acquire_here, take_at_once};
pub use held::{HeldLock, HeldLocks, LockGuard, Reservation};
pub use lock_path::{inspect, key_of};
pub use try_lock::{TriedLock, try_lock};
pub use waiter::{Reply, Waiter};
