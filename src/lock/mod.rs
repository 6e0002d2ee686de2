//! Locks between processes, threads and calls, that nobody ever has to break.
//!
//! A lock is a kernel lock on a small file beside the locked one, so that the kernel frees
//! it when its holder dies, however it dies. The protocol, in [`kernel`], has two locks in
//! a fixed order, so that readers that keep arriving cannot starve a writer. In one process
//! [`queue`] serves waiters in the order of their calls, and lets at most one thread wait
//! in the kernel for each lock; [`arrival`] brings each call to the queue of the lock that its
//! path means ([`place`]), unless nobody wants it and it was used a moment ago ([`warm`]): then
//! it takes neither a thread nor a disk. [`holder`] is the note in the lock file that tells people who has
//! it; nothing depends on it.
//!
//! JavaScript's threads wait for the mutexes of [`arrival`] and [`warm`]: nothing is done under
//! them that may wait for a disk. The mutex of a queue they only try, and nobody waits for one
//! while he has another.
//!
//! [`lockdir`] is another protocol, for living together with programs that use the package
//! `proper-lockfile`. The two know nothing of each other.

mod arrival;
mod brief;
mod hold;
pub mod holder;
mod kernel;
pub mod lockdir;
mod name;
mod place;
pub mod protocol;
mod queue;
mod settling;
mod stint;
mod threads;
pub mod turns;
mod waiter;
#[cfg(target_os = "linux")]
mod warm;

pub use arrival::{Before, Request, acquire, take_at_once};
pub use brief::{Brief, try_lock};
pub use hold::Hold;
pub use holder::Holder;
pub use place::{Key, inspect, key_of};
pub use waiter::{Reply, Waiter};

/// What a lock is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Beside other readers, never beside a writer.
    Read,
    /// Alone.
    Write,
}
