//! The Rust core of holdfast: files that are replaced whole or not at all, and
//! that are still there after a power cut.
//!
//! The way of one write, from the top:
//!
//! 1. `binding` turns JavaScript values into a [`write::WriteRequest`] and hands it to
//!    [`threads`], which runs it on one of holdfast's own threads.
//! 2. [`write`] resolves the target, stages the bytes in a temp file beside it,
//!    syncs, renames, syncs the directory, and retries what may pass.
//! 3. [`fs`] is the only place that names the operating system's files. Behind its
//!    trait stands either the real system or the simulated disk of `tests/sim`, which tests can
//!    unplug at any moment.
//! 4. The outcome goes back through one completion queue ([`threads::Completions`]) that
//!    wakes JavaScript once for everything that has finished meanwhile.
//!
//! Beside it, and knowing nothing of it or of each other, stand [`lock`], locks between
//! processes, and [`wal`], the write-ahead log.
//!
//! Built on these: [`json_update`] (read-modify-write), [`backup`], [`transaction`] (several files, all or
//! none), [`recovery`] (what a crash has left) and [`locked_wal`] (a log that one process writes).
//!
//! [`error`] say what failed in the terms Node's users know, [`resolve`] finds the
//! file that a path means, [`temp_name`] knows how temp files are named, and [`metrics`] has the
//! numbers of what has been done.

pub mod backup;
pub mod engine;
pub mod error;
pub mod fs;
pub mod json_update;
pub mod lock;
pub mod locked_wal;
pub mod metrics;
mod mutex;
pub mod payload;
pub mod recovery;
pub mod resolve;
pub mod temp_name;
pub mod threads;
pub mod transaction;
pub mod vocabulary;
pub mod wal;
pub mod write;

#[cfg(feature = "node")]
mod binding;
