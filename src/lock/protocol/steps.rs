//! What the state machines of the protocol ask for, and what they are told.

use crate::vocabulary::LockKind;

/// What can be locked: one byte of the lock file each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Byte {
    /// Held by a writer that waits for main.
    Gate,
    /// Held by the processes that have the lock.
    Main,
    /// A ticket of a process that waits.
    Ticket(u64),
    /// Held by a process that removes the lock file, if no process uses it.
    Removal,
}

/// The first ticket.
pub const FIRST_TICKET: u64 = 1;

/// The last ticket. They start again from the first whenever none is taken, so this is how many
/// turns there can be without a pause: enough for centuries.
pub const LAST_TICKET: u64 = 1 << 48;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockStep {
    /// Lock this if it is free. The result says whether it was.
    Try(Byte, LockKind),
    /// Lock this, however long it takes.
    Lock(Byte, LockKind),
    /// Unlock this.
    Unlock(Byte),
    /// Look for a ticket between these two, both included, that another process has. The result
    /// is any one of them.
    Look(u64, u64),
    /// Look whether a process has locked the directory for reading. The result says that.
    LookInDir,
    /// Wait for a moment, with the locks that are held: nothing can be waited for.
    Pause,
    /// Nothing any more; says whether main is locked. A writer still has its ticket, if it had one.
    Done(bool),
}

/// What a step has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepResult {
    /// There was no step yet, or one that has no result.
    Nothing,
    /// Of [`LockStep::Try`].
    Locked(bool),
    /// Of [`LockStep::Look`].
    Found(Option<u64>),
    /// Of [`LockStep::LookInDir`].
    InDir(bool),
}

/// How the lock file is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Access {
    /// For reading only, so that nothing of it can be locked for writing.
    pub is_read_only: bool,
    /// There may be readers that have locked the directory instead.
    pub looks_in_dir: bool,
}
