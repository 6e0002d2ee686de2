//! For which files calls have had to wait for each other.
//!
//! There may be any number of files, and there is room for [`MOST`]. When another one comes, the
//! one with the fewest waits makes room, and leaves its number behind: the newcomer may have
//! waited as often before and been forgotten (the algorithm is known as 'space saving'). So no
//! number is ever too small, each says by how much it may be too large, and a file that has more
//! than one in [`MOST`] of all waits is always there.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::ReadMode;
use crate::mutex::guard;

/// How many files are remembered.
pub const MOST: usize = 64;

/// Taken only by whoever has had to wait for a lock, so that nobody pays who has not.
pub struct Contention {
    places: Mutex<BTreeMap<PathBuf, Waits>>,
}

#[derive(Clone, Copy, Default)]
struct Waits {
    count: u64,
    uncertainty: u64,
    waited: Duration,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As the calls gave it, absolute.
    pub path: PathBuf,
    /// How often a call did not get its lock at once.
    pub count: u64,
    /// How many of these may have been for files that have been forgotten.
    pub uncertainty: u64,
    /// How long calls have waited, since it is remembered.
    pub waited: Duration,
}

impl Contention {
    pub(super) const fn new() -> Contention {
        Contention { places: Mutex::new(BTreeMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Waits>> {
        guard(&self.places)
    }

    /// A call has waited for so long, whatever came of it.
    pub fn record(&self, path: &Path, waited: Duration) {
        let mut places = self.lock();
        if !places.contains_key(path) {
            let count = if places.len() < MOST { 0 } else { forget_least(&mut places) };
            let waits = Waits { count, uncertainty: count, waited: Duration::ZERO };
            places.insert(path.to_owned(), waits);
        }
        if let Some(waits) = places.get_mut(path) {
            waits.count += 1;
            waits.waited = waits.waited.saturating_add(waited);
        }
    }

    /// Those with the most waits first.
    pub(super) fn read(&self, reading: ReadMode) -> Vec<Place> {
        let places = match reading {
            ReadMode::Keep => self.lock().clone(),
            ReadMode::Reset => std::mem::take(&mut *self.lock()),
        };
        let place = |(path, Waits { count, uncertainty, waited })| Place {
            path,
            count,
            uncertainty,
            waited,
        };
        let mut places: Vec<Place> = places.into_iter().map(place).collect();
        places.sort_by_key(|place| Reverse(place.count));
        places
    }
}

/// Makes room, and says how many waits are forgotten.
fn forget_least(places: &mut BTreeMap<PathBuf, Waits>) -> u64 {
    let least = places.iter().min_by_key(|(_, waits)| waits.count);
    let least = least.map(|(path, _)| path.clone());
    least.and_then(|path| places.remove(&path)).map_or(0, |waits| waits.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: usize) -> PathBuf {
        format!("/files/{number}").into()
    }

    #[test]
    fn counts_are_exact_while_there_is_room() {
        let contention = Contention::new();
        for number in 0..MOST {
            for _ in 0..=number {
                contention.record(&path(number), Duration::from_millis(2));
            }
        }
        let places = contention.read(ReadMode::Reset);
        assert_eq!(places.len(), MOST);
        for (index, place) in places.iter().enumerate() {
            let number = MOST - 1 - index;
            assert_eq!(
                (&place.path, place.count, place.uncertainty),
                (&path(number), number as u64 + 1, 0)
            );
            assert_eq!(place.waited, Duration::from_millis(2) * (number as u32 + 1));
        }
        assert_eq!(contention.read(ReadMode::Keep), [], "reset");
    }

    #[test]
    fn with_more_files_than_room_no_number_is_too_small_and_the_busy_ones_stay() {
        let contention = Contention::new();
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
        let places = contention.read(ReadMode::Keep);
        assert_eq!(places.len(), MOST);
        for place in &places {
            let exact = counts[&place.path];
            assert!(place.count >= exact, "{place:?} for {exact}");
            assert!(place.count - place.uncertainty <= exact, "{place:?} for {exact}");
        }
        for (path, count) in counts {
            let is_there = places.iter().any(|place| place.path == path);
            assert!(is_there || count <= all / MOST as u64, "{path:?}, {count} of {all}");
        }
        assert_eq!(places[0].path, path(2), "the busiest first");
    }
}
