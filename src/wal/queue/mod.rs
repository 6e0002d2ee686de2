//! Batches from many callers, committed together.
//!
//! Each collection has a queue. The first batch in an idle queue starts a job; while it writes
//! and syncs, others gather behind, and are its next group. So batches share a sync exactly as
//! far as the disk is slower than the callers, and no batch waits for company.
//!
//! All queues together have a limit. A batch for which there is no room waits in the order of
//! the calls, and joins the queue of its collection when others have been written.

mod append_queue;
mod job;
mod prepare;
mod shared;
mod state;

pub use append_queue::AppendQueue;
pub use state::{Appended, OnAppended};
