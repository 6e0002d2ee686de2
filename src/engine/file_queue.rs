//! The order in which the calls for each file run.
//!
//! Calls are numbered as they are made. To one file they take effect in this order, however
//! the path was spelt; to different files they run side by side. Which file a path means is
//! found by system calls on whatever thread is free, so a call goes through two states:
//!
//! - *unresolved*: its file is not known yet. Calls that spell the path alike are resolved
//!   together ([`UnresolvedCalls`]).
//! - *queued*: it waits in the queue of its file, sorted by number. A queue has one write under
//!   way at a time; those behind it can be merged.
//!
//! A queued call may start once no call with a smaller number is still unresolved, because that
//! one may turn out to be for the same file; until then its queue is *blocked*. A directory that
//! does not respond (a dead network file system) would block every queue, so a call whose file has
//! been looked for longer than [`RESOLVE_TIMEOUT`] no longer blocks others.
//!
//! This file only decides; it starts nothing and makes no system calls.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::fs::FileId;
use crate::resolve::unresolved::UnresolvedCalls;
use crate::vocabulary::FileKey;

/// How long an unresolved call blocks those behind it once a thread looks for its file.
pub(super) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The same while no thread does, because all have other work: no directory is the cause of that,
/// and under load it may take a while.
const THREAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Which queue a call waits in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum QueueKey {
    /// That of a file. Where file systems ignore case, so does the key.
    File(FileKey),
    /// That of a path whose directory cannot be found; the write will report why.
    Unresolved(PathBuf),
}

impl QueueKey {
    /// The queue of a name in a directory.
    pub(super) fn of(dir: FileId, name: &OsStr) -> QueueKey {
        // Where the platform's file systems ignore case, names that differ in it may be one
        // file. Sharing a queue costs little if they are not.
        let name = match cfg!(any(windows, target_os = "macos", target_os = "ios")) {
            true => name.to_string_lossy().to_lowercase().into(),
            false => name.to_owned(),
        };
        QueueKey::File((dir, name))
    }
}

/// A call that waits.
struct QueuedCall<T> {
    number: u64,
    item: T,
}

/// Whether one write can stand for another.
pub(super) trait Mergeable {
    /// Whether `newer`, which comes right after this one, can be written in place of it.
    fn merges_into(&self, newer: &Self) -> bool;

    /// Whether it is a write at all, and not an exclusive job.
    fn is_write(&self) -> bool;

    /// Whether any other write can stand for this one, if it is one.
    fn is_replaceable(&self) -> bool;
}

/// The queues of all files, and the calls that are in none yet.
pub(super) struct FileQueues<T> {
    /// How many calls there have been.
    calls: u64,
    unresolved: UnresolvedCalls<PathBuf, QueuedCall<T>>,
    /// The number of the first call of each unresolved group, and until when it blocks others.
    deadlines: BTreeMap<u64, Instant>,
    /// Which queue a path leads to, for the queues that exist.
    keys: HashMap<PathBuf, QueueKey>,
    queues: HashMap<QueueKey, FileQueue<T>>,
    /// The blocked queues, by the number of their first call.
    blocked: BTreeMap<u64, QueueKey>,
}

struct FileQueue<T> {
    is_busy: bool,
    waiting: VecDeque<QueuedCall<T>>,
    /// The paths that lead here.
    paths: Vec<PathBuf>,
}

impl<T> Default for FileQueues<T> {
    fn default() -> FileQueues<T> {
        FileQueues {
            calls: 0,
            unresolved: UnresolvedCalls::default(),
            deadlines: BTreeMap::new(),
            keys: HashMap::new(),
            queues: HashMap::new(),
            blocked: BTreeMap::new(),
        }
    }
}

impl<T> Default for FileQueue<T> {
    fn default() -> FileQueue<T> {
        FileQueue { is_busy: false, waiting: VecDeque::new(), paths: Vec::new() }
    }
}

impl<T: Mergeable> FileQueues<T> {
    fn number(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Takes a call in. `true` when the caller of this has to find its file and then call
    /// [`FileQueues::resolved`]; otherwise its file is known, or being looked for already.
    pub(super) fn enqueue(&mut self, path: &Path, item: T) -> bool {
        let number = self.number();
        let call = QueuedCall { number, item };
        if let Some(queue) = self.keys.get(path).and_then(|key| self.queues.get_mut(key)) {
            queue.waiting.push_back(call);
            return false;
        }
        let is_first = self.unresolved.join(path.to_owned(), call);
        if is_first {
            self.deadlines.insert(number, Instant::now() + THREAD_TIMEOUT);
        }
        is_first
    }

    /// From now on a thread looks for the file that the calls for `path` are for.
    pub(super) fn begin_resolving(&mut self, path: &Path) {
        let first = self.unresolved.get(path).and_then(<[_]>::first);
        if let Some(until) = first.and_then(|first| self.deadlines.get_mut(&first.number)) {
            *until = Instant::now() + RESOLVE_TIMEOUT;
        }
    }

    /// Puts the unresolved calls for `path` into the queue of their file.
    pub(super) fn resolved(&mut self, path: &Path, key: &QueueKey) {
        let (group, _) = self.take_group(path);
        let queue = self.queues.entry(key.clone()).or_default();
        if !queue.paths.iter().any(|known| known == path) {
            queue.paths.push(path.to_owned());
            self.keys.insert(path.to_owned(), key.clone());
        }
        for call in group {
            queue.insert(call);
        }
    }

    /// Puts a call whose file is known at the end of its queue, and takes the writes out that
    /// wait there, or are unresolved for the same path: it will stand for them. `None` where it
    /// cannot, because the outcome of one of them depends on those before it.
    pub(super) fn supersede(&mut self, path: &Path, key: &QueueKey, item: T) -> Option<Vec<T>> {
        let number = self.number();
        let queue = self.queues.entry(key.clone()).or_default();
        let unresolved = self.unresolved.get(path).into_iter().flatten();
        if !queue.waiting.iter().chain(unresolved).all(|call| call.item.is_replaceable()) {
            queue.waiting.push_back(QueuedCall { number, item });
            return None;
        }
        let mut superseded = queue.take_if(|call| call.item.is_write());
        queue.waiting.push_back(QueuedCall { number, item });
        let (group, until) = self.take_group(path);
        let (writes, others): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|call| call.item.is_write());
        superseded.extend(writes.into_iter().map(|call| call.item));
        if let (Some(first), Some(until)) = (others.first(), until) {
            self.deadlines.insert(first.number, until);
            for call in others {
                self.unresolved.join(path.to_owned(), call);
            }
        }
        Some(superseded)
    }

    /// Puts a call whose file is known at the end of its queue.
    pub(super) fn enqueue_last(&mut self, key: &QueueKey, item: T) {
        let number = self.number();
        let queue = self.queues.entry(key.clone()).or_default();
        queue.waiting.push_back(QueuedCall { number, item });
    }

    /// Takes the unresolved calls for `path` out, because its file cannot be found.
    pub(super) fn take_unresolved(&mut self, path: &Path) -> Vec<T> {
        self.take_group(path).0.into_iter().map(|call| call.item).collect()
    }

    /// Takes the unresolved calls for `path` out, with the deadline that they had.
    fn take_group(&mut self, path: &Path) -> (Vec<QueuedCall<T>>, Option<Instant>) {
        let group = self.unresolved.take(path);
        let until = group.first().and_then(|first| self.deadlines.remove(&first.number));
        (group, until)
    }

    /// Takes out every call for which a thread would have to be found: the unresolved ones, and
    /// those that wait in queues that are free.
    pub(super) fn take_idle(&mut self) -> Vec<T> {
        self.deadlines.clear();
        self.blocked.clear();
        let unresolved = self.unresolved.take_all().into_iter();
        let mut idle: Vec<T> = unresolved.map(|call| call.item).collect();
        let free = self.queues.iter_mut().filter(|(_, queue)| !queue.is_busy);
        let free = free.map(|(key, queue)| {
            idle.extend(queue.take_if(|_| true));
            key.clone()
        });
        for key in free.collect::<Vec<_>>() {
            self.forget_if_empty(&key);
        }
        idle
    }

    /// Takes the calls out of the queue of `path` for which this is so.
    pub(super) fn take_if(&mut self, path: &Path, mut is_so: impl FnMut(&T) -> bool) -> Vec<T> {
        if let Some(queue) = self.keys.get(path).and_then(|key| self.queues.get_mut(key)) {
            return queue.take_if(|call| is_so(&call.item));
        }
        // An unresolved call stays until it is in a queue: its group is known by its first call.
        Vec::new()
    }

    /// Takes what is next in a queue, if it may start now: one call, or several of which the last
    /// can stand for all. The queue is busy until [`FileQueues::finish`].
    pub(super) fn start_next(&mut self, key: &QueueKey) -> Option<Vec<T>> {
        let limit = self.first_unresolved();
        let queue = self.queues.get_mut(key).filter(|queue| !queue.is_busy)?;
        let Some(first) = queue.waiting.front() else {
            self.forget_if_empty(key);
            return None;
        };
        if first.number > limit {
            self.blocked.insert(first.number, key.clone());
            return None;
        }
        let mut group: Vec<T> =
            queue.waiting.pop_front().map(|call| call.item).into_iter().collect();
        while let (Some(last), Some(next)) = (group.last(), queue.waiting.front())
            && next.number < limit
            && last.merges_into(&next.item)
        {
            group.extend(queue.waiting.pop_front().map(|call| call.item));
        }
        queue.is_busy = true;
        Some(group)
    }

    /// Frees a queue.
    pub(super) fn finish(&mut self, key: &QueueKey) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.is_busy = false;
        }
        self.forget_if_empty(key);
    }

    fn forget_if_empty(&mut self, key: &QueueKey) {
        let is_empty = |queue: &FileQueue<T>| !queue.is_busy && queue.waiting.is_empty();
        if self.queues.get(key).is_some_and(is_empty)
            && let Some(queue) = self.queues.remove(key)
        {
            for path in queue.paths {
                self.keys.remove(&path);
            }
        }
    }

    /// Takes the queues that were blocked by an unresolved call and no longer are.
    pub(super) fn take_unblocked(&mut self) -> Vec<QueueKey> {
        let limit = self.first_unresolved();
        let still_blocked = self.blocked.split_off(&limit);
        std::mem::replace(&mut self.blocked, still_blocked).into_values().collect()
    }

    /// Whether any queue is blocked.
    pub(super) fn has_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// The smallest number of an unresolved call that blocks others.
    fn first_unresolved(&self) -> u64 {
        let has_time = |deadline: &Instant| Instant::now() < *deadline;
        // Nearly always this looks at no more than one.
        let mut deadlines = self.deadlines.iter().filter(|(_, deadline)| has_time(deadline));
        deadlines.next().map_or(u64::MAX, |(number, _)| *number)
    }
}

impl<T> FileQueue<T> {
    fn take_if(&mut self, mut is_so: impl FnMut(&QueuedCall<T>) -> bool) -> Vec<T> {
        let all = std::mem::take(&mut self.waiting);
        let (taken, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|call| is_so(call));
        self.waiting = left.into();
        taken.into_iter().map(|call| call.item).collect()
    }

    fn insert(&mut self, call: QueuedCall<T>) {
        let behind = self.waiting.iter().rposition(|other| other.number < call.number);
        self.waiting.insert(behind.map_or(0, |index| index + 1), call);
    }
}
