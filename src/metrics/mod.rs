//! What holdfast has done in this process: counters and histograms, shared by all its threads.
//!
//! There is one [`METRICS`]. Each thing is counted where it happens, by one line: calls that write
//! in the engine, attempts where a temp file is made, syncs where the system is called, locks where
//! a waiter gets its outcome. Counting is an addition to an atomic number that waits for no other
//! thread, whether or not the numbers are ever read; only a call that has waited for a lock, or
//! failed, does more. What is derived (means, quantiles) is computed by the reader.
//!
//! Each section is a struct with a `collect` that adds its numbers to a [`Snapshot`], under the
//! names that users see. Nothing here knows how files are written, so any capability can have a
//! section.
//!
//! All numbers start at zero, so they take no room in the program's file, and those that are never
//! touched take none in memory.

pub mod contention;
mod counter;
pub mod histogram;
mod lock_call;
mod sections;
mod snapshot;

pub use counter::{Counter, Failures, ReadMode};
pub use lock_call::{LockCall, LockHeld, lock_taken_at_once};
pub use sections::{Backups, Locks, METRICS, Metrics, Syncs, Transactions, Updates, Wal, Writes};
pub use snapshot::Snapshot;
