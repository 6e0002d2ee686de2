//! The collections of a log that have their files open, and how many may.

use std::collections::VecDeque;
use std::sync::Arc;

use super::collection::Collection;
use crate::fs::FileSystem;

/// What share of the files that a process may have open the collections of one log have.
const SHARE: u64 = 32;

/// So many collections have their files open in any case.
const FEWEST: usize = 4;

/// The collections that have their files open, in the order in which they were opened.
pub(super) type OpenCollections<F> = VecDeque<Arc<Collection<F>>>;

/// How many collections may have their files open.
pub(super) fn most_open<F: FileSystem>(fs: &F, most: usize) -> usize {
    let share = usize::try_from(fs.most_open_files() / SHARE).unwrap_or(usize::MAX);
    most.min(share.max(FEWEST))
}
