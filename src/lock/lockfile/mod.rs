//! The protocol of the package `proper-lockfile`: a lock is a directory, which the process that
//! holds the lock has made, and keeps fresh by setting its time. One that is older than a limit is
//! abandoned, and may be taken over.
//!
//! It is for living together with programs that still use that package: each side keeps out
//! the other. Taking over is where the package can end up with two owners: two processes that find
//! a directory stale remove it one after the other, and the second removes what the first has just
//! made. Here
//!
//! - a lock directory is held open and locked (`flock`) by its holder, so that no holdfast takes
//!   it over while its holder lives, and no two take it over at once,
//! - it is taken over by letting it change names with a new one in a single step, and what comes
//!   out is looked at: if it is not what was found stale, it goes back,
//! - no call is told that it has a lock that was taken over until it has settled, because a process
//!   that runs the package may be about to remove it,
//! - nothing is touched, and nothing removed, that is not the very directory that was made.
//!
//! So there are never two owners among the processes that run holdfast on one machine, on a file
//! system with locks. What remains beside a process that runs the package is said in
//! `docs/formats.md`.
//!
//! [`acquire`] finds the directory, [`backend`] gets it for the calls of this process, [`dir`] is
//! what is done to it, and [`heartbeat`] keeps it fresh.

mod acquire;
mod backend;
pub mod dir;
mod heartbeat;
mod held_dir;

pub use acquire::{
    LockfileCall, LockfileName, LockfileRequest, acquire, acquire_here, inspect, key_text, locate,
};
pub use backend::{LockfileGuard, StaleRules};
pub use heartbeat::OnLoss;
