//! The files whose locks calls have waited for.
//!
//! There may be any number of files, and there is room for [`MOST`]. When another one comes, the
//! file with the fewest waits is forgotten, and the new one starts with its count: it may have been
//! counted as often before and forgotten (the algorithm is known as 'space saving'). So no count is
//! ever too small, each says by how much it may be too large, and a file that has more than one in
//! [`MOST`] of all waits is always listed.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::counter::ReadMode;
use crate::mutex::guard;

/// How many files are remembered.
pub const MOST: usize = 64;

/// Its mutex is taken only by calls that had to wait for their lock, so it costs the others nothing.
pub struct ContentionTable {
    waits: Mutex<BTreeMap<PathBuf, Waits>>,
}

#[derive(Clone, Copy, Default)]
struct Waits {
    count: u64,
    uncertainty: u64,
    waited: Duration,
}

/// One file whose lock calls have waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContendedPath {
    /// As the calls gave it, absolute.
    pub path: PathBuf,
    /// How often a call did not get its lock at once.
    pub count: u64,
    /// How many of these may have been for files that have been forgotten.
    pub uncertainty: u64,
    /// How long calls have waited, since the file was last added.
    pub waited: Duration,
}

impl ContentionTable {
    pub(super) const fn new() -> ContentionTable {
        ContentionTable { waits: Mutex::new(BTreeMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Waits>> {
        guard(&self.waits)
    }

    /// A call has waited this long, with whatever outcome.
    pub fn record(&self, path: &Path, waited: Duration) {
        let mut all = self.lock();
        if !all.contains_key(path) {
            let count = if all.len() < MOST { 0 } else { forget_least(&mut all) };
            let waits = Waits { count, uncertainty: count, waited: Duration::ZERO };
            all.insert(path.to_owned(), waits);
        }
        if let Some(waits) = all.get_mut(path) {
            waits.count += 1;
            waits.waited = waits.waited.saturating_add(waited);
        }
    }

    /// Those with the most waits first.
    pub(super) fn read(&self, mode: ReadMode) -> Vec<ContendedPath> {
        let all = match mode {
            ReadMode::Keep => self.lock().clone(),
            ReadMode::Reset => std::mem::take(&mut *self.lock()),
        };
        let contended = |(path, Waits { count, uncertainty, waited })| ContendedPath {
            path,
            count,
            uncertainty,
            waited,
        };
        let mut paths: Vec<ContendedPath> = all.into_iter().map(contended).collect();
        paths.sort_by_key(|path| Reverse(path.count));
        paths
    }
}

/// Forgets the file with the fewest waits, and returns how many these were.
fn forget_least(all: &mut BTreeMap<PathBuf, Waits>) -> u64 {
    let least = all.iter().min_by_key(|(_, waits)| waits.count);
    let least = least.map(|(path, _)| path.clone());
    least.and_then(|path| all.remove(&path)).map_or(0, |waits| waits.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: usize) -> PathBuf {
        format!("/files/{number}").into()
    }

    #[test]
    fn counts_are_exact_while_there_is_room() {
        let contention = ContentionTable::new();
        for number in 0..MOST {
            for _ in 0..=number {
                contention.record(&path(number), Duration::from_millis(2));
            }
        }
        let paths = contention.read(ReadMode::Reset);
        assert_eq!(paths.len(), MOST);
        for (index, contended) in paths.iter().enumerate() {
            let number = MOST - 1 - index;
            assert_eq!(
                (&contended.path, contended.count, contended.uncertainty),
                (&path(number), number as u64 + 1, 0)
            );
            assert_eq!(contended.waited, Duration::from_millis(2) * (number as u32 + 1));
        }
        assert_eq!(contention.read(ReadMode::Keep), [], "reset");
    }

    #[test]
    fn with_more_files_than_room_no_number_is_too_small_and_the_busy_ones_stay() {
        let contention = ContentionTable::new();
        let mut counts = std::collections::HashMap::new();
        let mut all = 0;
        // Three busy files among thousands that come once.
        for number in 0..5000 {
            let busy = if number % 3 == 0 { vec![1, 2, 2, 3] } else { vec![2] };
            for number in busy.into_iter().chain([1000 + number]) {
                contention.record(&path(number), Duration::from_nanos(1));
                *counts.entry(path(number)).or_insert(0_u64) += 1;
                all += 1;
            }
        }
        let paths = contention.read(ReadMode::Keep);
        assert_eq!(paths.len(), MOST);
        for contended in &paths {
            let exact = counts[&contended.path];
            assert!(contended.count >= exact, "{contended:?} for {exact}");
            assert!(contended.count - contended.uncertainty <= exact, "{contended:?} for {exact}");
        }
        for (path, count) in counts {
            let is_there = paths.iter().any(|contended| contended.path == path);
            assert!(is_there || count <= all / MOST as u64, "{path:?}, {count} of {all}");
        }
        assert_eq!(paths[0].path, path(2), "the busiest first");
    }
}
