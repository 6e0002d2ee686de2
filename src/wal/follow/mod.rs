//! Goes on with what is appended to a collection, by this process or by others.

mod follower;
mod signal;

pub use follower::{Follow, FollowOptions};
pub use signal::Signal;
