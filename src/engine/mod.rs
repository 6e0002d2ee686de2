//! Many writes at once, on holdfast's threads.
//!
//! An attempt is one job; between attempts no thread is held. Writes to one file follow each
//! other in the order of the calls ([`file_queue`]); of those that wait together only the
//! newest is written, and answers for all. Writes to different files that are staged while
//! another one is synced are synced together ([`group_commit`]); while they wait they hold no
//! thread either.
//!
//! Three files decide and make no system calls: [`file_queue`] which call for a file runs next,
//! [`admission`] how many temp files a device has, [`batcher`] which writes share a sync and which
//! of them leads. [`sync_costs`] knows when sharing is cheaper. `dispatch` starts what the queues
//! let go, `running_write` takes a write through its attempts.

mod admission;
mod attempts;
mod batcher;
mod dispatch;
#[allow(clippy::module_inception, reason = "it is the engine, beside its parts")]
mod engine;
mod file_queue;
mod group_commit;
mod kept_lock;
mod queued_write;
mod running_write;
mod sync_costs;

pub use attempts::AttemptCaller;
pub use dispatch::FileQueueGuard;
pub use engine::{Engine, engine};
pub use group_commit::run_together;
pub use queued_write::WriteCaller;

pub(crate) use attempts::{HeldBetweenAttempts, attempts};
