//! The log of one directory: its collections, the numbers of its entries, and whether it can
//! still be trusted.

mod append;
mod backup;
mod checkpoints;
mod close;
mod collection;
mod followers;
mod identity;
mod look;
mod open;
mod open_collections;
mod read;
mod resting;
mod rotation;
mod stats;

pub use collection::CollectionStats;
pub use open::Log;
pub use rotation::SegmentPreparation;
pub use stats::LogStats;
