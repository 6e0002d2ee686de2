//! Several files that change together, or not at all, through any crash.

pub mod names;
