//! The Rust core of holdfast: files that are replaced whole or not at all, and that are still there
//! after a power cut.
//!
//! `docs/architecture.md` says which file does what, follows a write, an update, a lock, a
//! transaction and an append from file to file, and states which module may import which. From the
//! top:
//!
//! - `binding` turns JavaScript values into core types and back, and decides nothing.
//! - [`recovery`] puts in order what a crash has left. [`transaction`] changes several files, all or
//!   none. [`backup`] copies files aside and back.
//! - [`engine`] runs many writes: in order, merged, sharing syncs. [`json_update`] is the
//!   read-modify-write of a JSON file, and [`locked_wal`] a log under its lock.
//! - [`write`](mod@write) is one attempt to replace a file. [`lock`] has the locks between processes,
//!   threads and calls. [`wal`] is the write-ahead log. These three do not know each other.
//! - [`resolve`] finds the file that a path means.
//! - [`fs`] is the only access to files: a trait, with the operating system or, in tests, the simulated
//!   disk of `tests/sim` behind it.
//! - [`threads`] are the worker threads and the way back to JavaScript, [`metrics`] the counters.
//! - [`error`] says what failed, on which path, in which system call. [`vocabulary`], [`payload`],
//!   [`temp_name`] and [`short_name`] have the terms that every module uses, the bytes of a write, the
//!   names of temp files and how long names are shortened.

pub mod backup;
pub mod descriptors;
pub mod engine;
pub mod error;
pub mod fs;
pub mod json_check;
pub mod json_update;
pub mod lines;
pub mod lock;
pub mod locked_consumer;
pub mod locked_wal;
pub mod metrics;
mod mutex;
pub mod payload;
pub mod recovery;
pub mod resolve;
pub mod short_name;
pub mod temp_name;
pub mod threads;
pub mod transaction;
pub mod vocabulary;
pub mod wal;
pub mod write;

#[cfg(feature = "node")]
mod binding;
