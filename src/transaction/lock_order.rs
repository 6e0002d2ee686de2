//! In which order a transaction acquires its locks: the same in every process, however the paths are
//! spelt.
//!
//! That is the order of the directories' numbers, and then of the names. In a directory that takes
//! names for one that differ in case, two transactions may spell the same files differently: there
//! names are compared without regard to case.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;

use crate::lock;
use crate::vocabulary::{FileId, FileKey};

/// The locks in their order.
pub(super) fn in_order(locks: BTreeMap<FileKey, PathBuf>) -> VecDeque<(FileKey, PathBuf)> {
    let locks: Vec<_> = locks.into_iter().collect();
    let mut ignoring_case: HashSet<FileId> = HashSet::new();
    for pair in locks.windows(2) {
        // Only then does it matter whether the directory ignores case.
        if let [(one, path), (other, _)] = pair
            && one.0 == other.0
            && folded(one) > folded(other)
            && !ignoring_case.contains(&one.0)
            && lock::ignores_case(path)
        {
            ignoring_case.insert(one.0);
        }
    }
    let order = |key: &FileKey| {
        let name = if ignoring_case.contains(&key.0) { folded(key) } else { String::new() };
        (key.0, name, key.1.clone())
    };
    let mut locks = locks;
    if !ignoring_case.is_empty() {
        locks.sort_by_cached_key(|(key, _)| order(key));
    }
    locks.into()
}

fn folded(key: &FileKey) -> String {
    key.1.to_string_lossy().to_lowercase()
}
