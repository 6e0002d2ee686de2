//! Locks between processes, threads and calls, that nobody ever has to break.
//!
//! A lock is a kernel lock on a small file beside the locked one, so that the kernel frees
//! it when its holder dies, however it dies. The protocol, in [`kernel`], has two locks in
//! a fixed order, so that readers that keep arriving cannot starve a writer. In one process
//! [`queue`] serves waiters in the order of their calls, and lets at most one thread wait
//! in the kernel for each lock. [`holder`] is the note in the lock file that tells people
//! who has it; nothing depends on it.
//!
//! [`lockdir`] is another protocol, for living together with programs that use the package
//! `proper-lockfile`. The two know nothing of each other.

mod brief;
pub mod holder;
mod kernel;
pub mod lockdir;
mod name;
pub mod protocol;
mod queue;
mod threads;
pub mod turns;

pub use brief::{Brief, try_lock};
pub use holder::Holder;
pub use queue::{Before, Hold, Key, Reply, Request, Waiter, acquire, inspect, key_of};

/// What a lock is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Beside other readers, never beside a writer.
    Read,
    /// Alone.
    Write,
}
