//! The Rust core of holdfast: files that are replaced whole or not at all, and
//! that are still there after a power cut.
//!
//! The way of one write, from the top:
//!
//! 1. `binding` turns JavaScript values into a [`write::Request`] and hands it to
//!    [`io`], which runs it on one of holdfast's own threads.
//! 2. [`write`] resolves the target, stages the bytes in a temp file beside it,
//!    syncs, renames, syncs the folder, and retries what may pass.
//! 3. [`fs`] is the only place that names the operating system's files. Behind its
//!    trait stands either the real system or [`fs::sim`], a disk that tests can
//!    unplug at any moment.
//! 4. The outcome goes back through one completion queue ([`io::Completions`]) that
//!    wakes JavaScript once for everything that has finished meanwhile.
//!
//! Beside it, and knowing nothing of it or of each other, stand [`lock`], locks between
//! processes, and [`wal`], the write-ahead log.
//!
//! Built on these: [`json`] (read-modify-write), [`backup`], [`transaction`] (several files, all or
//! none), [`recovery`] (what a crash has left) and [`held_wal`] (a log that one process writes).
//!
//! [`errno`] and [`error`] say what failed in the terms Node's users know, [`target`] finds the
//! file that a path means, [`temp`] knows how temp files are named, and [`metrics`] has the
//! numbers of what has been done.

pub mod backup;
pub mod errno;
pub mod error;
pub mod fs;
pub mod held_wal;
pub mod io;
pub mod json;
pub mod lock;
pub mod metrics;
mod mutex;
pub mod payload;
pub mod recovery;
pub mod target;
pub mod temp;
pub mod transaction;
pub mod wal;
pub mod write;

#[cfg(feature = "node")]
mod binding;
