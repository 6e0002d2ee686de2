//! The order in which writes take effect.
//!
//! Calls are numbered as they are made. To one file they take effect in this order, however
//! the path was spelt; to different files they go side by side. Which file a path means is
//! found by system calls on whatever thread is free, so a call goes through two states:
//!
//! - *arriving*: its file is not known yet. Calls that spell the path alike arrive together.
//! - *placed*: it waits in the lane of its file, sorted by number. A lane has one write under
//!   way at a time; those behind it can be merged.
//!
//! A placed call may start once no call with a smaller number is still arriving, because that
//! one may turn out to be for the same file. A directory that does not answer (a dead network
//! file system) would hold up everything, so a call whose file has been looked for longer than
//! [`PATIENCE`] is no longer waited for.
//!
//! This file only keeps the books; it starts nothing and makes no system calls.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::fs::FileId;

/// How long an arriving call holds up those behind it once somebody looks for its file.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The same while nobody does, because all threads have other work: that is the fault of no
/// directory, and where there is much to do it may take a while.
const LONGEST_QUEUE: Duration = Duration::from_secs(30);

/// Which file it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A name in a directory. Where file systems ignore case, so does the key.
    Name(FileId, OsString),
    /// The directory cannot be found; the write will say why.
    Unknown(PathBuf),
}

/// The lane of a name in a directory.
pub(super) fn key(dir: FileId, name: &OsStr) -> Key {
    // Where the platform's file systems ignore case, names that differ in it may be one
    // file. Sharing a lane costs little if they are not.
    let name = match cfg!(any(windows, target_os = "macos", target_os = "ios")) {
        true => name.to_string_lossy().to_lowercase().into(),
        false => name.to_owned(),
    };
    Key::Name(dir, name)
}

/// A call that waits.
struct Entry<T> {
    number: u64,
    item: T,
}

/// Whether one write can stand for another.
pub(super) trait Merge {
    /// Whether `newer`, which comes right after this one, can be written in place of it.
    fn merges_into(&self, newer: &Self) -> bool;

    /// Whether it is a write at all, and not something else that takes its turn.
    fn is_write(&self) -> bool;
}

/// The books.
pub(super) struct Order<T> {
    calls: u64,
    arriving: HashMap<PathBuf, Vec<Entry<T>>>,
    /// The first call of each arriving group, and how long it is waited for.
    unplaced: BTreeMap<u64, Instant>,
    /// Where the paths lead whose lanes exist.
    places: HashMap<PathBuf, Key>,
    lanes: HashMap<Key, Lane<T>>,
    /// Lanes that could go on but for an arriving call, by the number of their first.
    held_up: BTreeMap<u64, Key>,
}

struct Lane<T> {
    is_busy: bool,
    waiting: VecDeque<Entry<T>>,
    /// The spellings that lead here.
    paths: Vec<PathBuf>,
}

impl<T> Default for Order<T> {
    fn default() -> Order<T> {
        Order {
            calls: 0,
            arriving: HashMap::new(),
            unplaced: BTreeMap::new(),
            places: HashMap::new(),
            lanes: HashMap::new(),
            held_up: BTreeMap::new(),
        }
    }
}

impl<T> Default for Lane<T> {
    fn default() -> Lane<T> {
        Lane { is_busy: false, waiting: VecDeque::new(), paths: Vec::new() }
    }
}

impl<T: Merge> Order<T> {
    fn number(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Takes a call in. `true` when somebody has to find its file and then call
    /// [`Order::place`]; otherwise it goes along with others.
    pub(super) fn arrive(&mut self, path: &Path, item: T) -> bool {
        let number = self.number();
        let entry = Entry { number, item };
        if let Some(lane) = self.places.get(path).and_then(|key| self.lanes.get_mut(key)) {
            lane.waiting.push_back(entry);
            return false;
        }
        if let Some(group) = self.arriving.get_mut(path) {
            group.push(entry);
            return false;
        }
        self.arriving.insert(path.to_owned(), vec![entry]);
        self.unplaced.insert(number, Instant::now() + LONGEST_QUEUE);
        true
    }

    /// From now on somebody looks for the file that the calls for `path` are for.
    pub(super) fn look_for(&mut self, path: &Path) {
        let first = self.arriving.get(path).and_then(|group| group.first());
        if let Some(until) = first.and_then(|first| self.unplaced.get_mut(&first.number)) {
            *until = Instant::now() + PATIENCE;
        }
    }

    /// Puts the calls that arrived for `path` into the lane of their file.
    pub(super) fn place(&mut self, path: &Path, key: &Key) {
        let (group, _) = self.take_group(path);
        let lane = self.lanes.entry(key.clone()).or_default();
        if !lane.paths.iter().any(|known| known == path) {
            lane.paths.push(path.to_owned());
            self.places.insert(path.to_owned(), key.clone());
        }
        for entry in group {
            lane.insert(entry);
        }
    }

    /// Puts a call whose file is known at the end of its lane, and takes the writes out that
    /// wait there, or are arriving by the same path: it will stand for them.
    pub(super) fn supersede(&mut self, path: &Path, key: &Key, item: T) -> Vec<T> {
        let number = self.number();
        let lane = self.lanes.entry(key.clone()).or_default();
        let mut superseded = lane.take_if(|entry| entry.item.is_write());
        lane.waiting.push_back(Entry { number, item });
        let (group, until) = self.take_group(path);
        let (writes, others): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|entry| entry.item.is_write());
        superseded.extend(writes.into_iter().map(|entry| entry.item));
        if let (Some(first), Some(until)) = (others.first(), until) {
            self.unplaced.insert(first.number, until);
            self.arriving.insert(path.to_owned(), others);
        }
        superseded
    }

    /// Takes the calls out that arrived for `path`, whose file nobody will find.
    pub(super) fn take_arriving(&mut self, path: &Path) -> Vec<T> {
        self.take_group(path).0.into_iter().map(|entry| entry.item).collect()
    }

    /// The calls that are arriving for `path`, and how long they would have been waited for.
    fn take_group(&mut self, path: &Path) -> (Vec<Entry<T>>, Option<Instant>) {
        let group = self.arriving.remove(path).unwrap_or_default();
        let until = group.first().and_then(|first| self.unplaced.remove(&first.number));
        (group, until)
    }

    /// Takes out everything that nobody has begun: what is arriving, and what waits in lanes
    /// that are free.
    pub(super) fn take_idle(&mut self) -> Vec<T> {
        self.unplaced.clear();
        self.held_up.clear();
        let groups = std::mem::take(&mut self.arriving).into_values().flatten();
        let mut idle: Vec<T> = groups.map(|entry| entry.item).collect();
        let free = self.lanes.iter_mut().filter(|(_, lane)| !lane.is_busy);
        let free = free.map(|(key, lane)| {
            idle.extend(lane.take_if(|_| true));
            key.clone()
        });
        for key in free.collect::<Vec<_>>() {
            self.forget_if_empty(&key);
        }
        idle
    }

    /// Takes those out of all that wait for which this is so.
    pub(super) fn take_if(&mut self, path: &Path, mut is_so: impl FnMut(&T) -> bool) -> Vec<T> {
        if let Some(lane) = self.places.get(path).and_then(|key| self.lanes.get_mut(key)) {
            return lane.take_if(|entry| is_so(&entry.item));
        }
        // What is arriving stays until it has its place: the group is known by its first.
        Vec::new()
    }

    /// Starts what comes next in a lane, if that may start now: one call, or several of which
    /// the last can stand for all. The lane is busy until [`Order::finish`].
    pub(super) fn start(&mut self, key: &Key) -> Option<Vec<T>> {
        let limit = self.first_unplaced();
        let lane = self.lanes.get_mut(key).filter(|lane| !lane.is_busy)?;
        let Some(first) = lane.waiting.front() else {
            self.forget_if_empty(key);
            return None;
        };
        if first.number > limit {
            self.held_up.insert(first.number, key.clone());
            return None;
        }
        let mut group: Vec<T> =
            lane.waiting.pop_front().map(|entry| entry.item).into_iter().collect();
        while let (Some(last), Some(next)) = (group.last(), lane.waiting.front())
            && next.number < limit
            && last.merges_into(&next.item)
        {
            group.extend(lane.waiting.pop_front().map(|entry| entry.item));
        }
        lane.is_busy = true;
        Some(group)
    }

    /// Frees a lane.
    pub(super) fn finish(&mut self, key: &Key) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.is_busy = false;
        }
        self.forget_if_empty(key);
    }

    fn forget_if_empty(&mut self, key: &Key) {
        let is_empty = |lane: &Lane<T>| !lane.is_busy && lane.waiting.is_empty();
        if self.lanes.get(key).is_some_and(is_empty)
            && let Some(lane) = self.lanes.remove(key)
        {
            for path in lane.paths {
                self.places.remove(&path);
            }
        }
    }

    /// Lanes that were held up by an arriving call and are no more.
    pub(super) fn released(&mut self) -> Vec<Key> {
        let limit = self.first_unplaced();
        let still_held_up = self.held_up.split_off(&limit);
        std::mem::replace(&mut self.held_up, still_held_up).into_values().collect()
    }

    /// Whether any lane is held up.
    pub(super) fn is_anything_held_up(&self) -> bool {
        !self.held_up.is_empty()
    }

    /// The smallest number that is still arriving and waited for.
    fn first_unplaced(&self) -> u64 {
        let is_waited_for = |until: &Instant| Instant::now() < *until;
        // Nearly always this looks at no more than one.
        let mut waited_for = self.unplaced.iter().filter(|(_, until)| is_waited_for(until));
        waited_for.next().map_or(u64::MAX, |(number, _)| *number)
    }
}

impl<T> Lane<T> {
    fn take_if(&mut self, mut is_so: impl FnMut(&Entry<T>) -> bool) -> Vec<T> {
        let all = std::mem::take(&mut self.waiting);
        let (taken, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|entry| is_so(entry));
        self.waiting = left.into();
        taken.into_iter().map(|entry| entry.item).collect()
    }

    fn insert(&mut self, entry: Entry<T>) {
        let behind = self.waiting.iter().rposition(|other| other.number < entry.number);
        self.waiting.insert(behind.map_or(0, |index| index + 1), entry);
    }
}
