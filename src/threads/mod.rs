//! holdfast's own threads, and the way back from them to JavaScript.
//!
//! Node has four threads for all file work, DNS and crypto of a process. Waiting for a disk there
//! would delay all of that, and four are too few for syncs to be shared, so holdfast has its own.

mod completions;
mod pool;
pub mod task;
pub(crate) mod wait_threads;

pub use completions::{Completions, RunningJob, WaitFor, Waker};
pub use pool::{Job, Pool, blocking, pool};
