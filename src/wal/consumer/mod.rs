//! Consumers: readers that have a name, and a position in a collection that is kept for them. What is
//! behind the position of one is not released.

mod open;
mod position;

pub use open::{Consumer, make_consumers_dir};
pub use position::{ConsumerPosition, check_consumer_name, consumers_dir, position_file};
pub(super) use position::{positions, write_positions};
