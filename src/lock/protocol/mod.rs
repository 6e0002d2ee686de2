//! How the kernel's locks are combined: in which order they are asked for, and what each result
//! leads to.
//!
//! There are two locks, the *gate* and the *main* lock. To acquire, shared for readers and
//! exclusive for writers: lock the gate, lock main, unlock the gate. To release: unlock main.
//! A writer that waits holds the gate meanwhile, so that those who come later queue up behind
//! it. This never changes: versions of holdfast exclude each other by it.
//!
//! It is as fair as the kernel is. Linux wakes the processes that wait for a lock, and gives it to
//! whichever asks first: a process that has just released it is faster than one that has to wake
//! up. So a process that has to wait takes a *ticket* there: it locks the byte behind the last one
//! taken, waits until the ticket before its own is released, and only then asks for the gate. A
//! reader releases its ticket when it has main, a writer when it releases main. A process that
//! does not have to wait asks only while no ticket is taken. A ticket is a lock like the others, so
//! the kernel frees it when the process dies. Tickets are for fairness alone; only main excludes.
//!
//! A process that has had its turn may go on for a short time, and take main again for writing
//! whenever it is free: waking up the next process takes longer than most critical sections.
//!
//! A lock file is removed by a process that has gate and main for writing, while no process has a
//! ticket, and after one more look whether the name still leads to the file. So no process holds
//! the lock meanwhile. A process that has opened the file before, and locks it afterwards, finds
//! that its name leads nowhere, or to another file, and starts over there: it looks for that after
//! it has locked main, whichever version of holdfast it is. For a process that does not wait a
//! removal looks like a holder, though the lock is free; so the process that removes the file holds
//! a byte of its own first, the *removal*, by which others can tell.
//!
//! A reader that may not write to the lock file locks what it can: gate and main for reading. It
//! has no ticket. One that finds no lock file, and may make none, locks a byte of the *directory*
//! for reading, and then looks again whether there is a lock file: if so, it unlocks the byte and
//! goes the usual way. A writer that has main, on a file that has the name since before, asks
//! whether a process has that byte, and waits until none has. Of a reader and a writer at least one
//! sees the other: the reader looks for the file after it has locked the byte, and the writer looks
//! for the byte after it has made the file.
//!
//! No code here makes a system call: these are state machines that say what to do next, so that
//! a test can run them, as they are, through every order of events.

mod attempt;
mod removal;
mod steps;
mod wait;

pub use attempt::Attempt;
pub use removal::Removal;
pub use steps::{Access, Byte, FIRST_TICKET, LAST_TICKET, LockStep, StepResult};
pub use wait::{Reentry, Wait};
