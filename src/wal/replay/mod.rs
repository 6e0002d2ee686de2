//! Reads the entries of a collection from a sequence number on, a piece at a time, beside the
//! process that writes it or in it.

mod follow;
mod locate;
mod walk;

pub use walk::{Replay, ReplayProgress};
