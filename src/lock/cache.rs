//! Locks that were asked for a moment ago, by the paths that led to them: a call that asks again
//! while no other wants the lock has it without a thread and without a disk.
//!
//! The queue of such a lock stays for a while, and keeps the lock file open. What the path means
//! is looked up anew each time, but only in what the kernel remembers; and the file system has to
//! be one that decides about locks in memory. Everything else is done by a thread.
//!
//! Only Linux says what it can answer without a disk.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::guard::{KernelGuard, LockOwner};
use super::held::LockGuard;
use super::kernel::{KernelBackend, KernelLock};
use super::queue::{Queue, QueueState};
use crate::descriptors;
use crate::fs::os::cached_lookup;
use crate::mutex::guard;
use crate::threads::pool;
use crate::vocabulary::LockKind;

/// How long a lock stays that no call asks for. A file system cannot be unmounted meanwhile.
const RETENTION: Duration = Duration::from_millis(50);

/// How many paths are remembered; the queue of each has two descriptors.
const CAPACITY: usize = 64;

type KernelQueue = Queue<KernelBackend>;

#[derive(Default)]
struct LockCache {
    queues: HashMap<PathBuf, (Arc<KernelQueue>, Instant)>,
    /// A thread will look which of them are to be evicted.
    is_sweep_due: bool,
}

static CACHE: LazyLock<Mutex<LockCache>> = LazyLock::new(Mutex::default);

/// Keeps the queue to which this path leads, for a while. The path is a name in a directory, and
/// no link.
pub(super) fn retain(path: &Path, queue: &Arc<KernelQueue>) {
    // Where operations wait to open files, no lock file stays open that is not needed.
    if !queue.backend.rules().takes_no_disk || descriptors::are_wanted() {
        return;
    }
    let has_room =
        |cache: &LockCache| cache.queues.len() < CAPACITY || cache.queues.contains_key(path);
    if !has_room(&guard(&CACHE)) {
        return;
    }
    // Before a call can find it. Not under the mutex, as that of the queue is waited for.
    queue.lock().is_retained = true;
    descriptors::set_close_unneeded(clear);
    let mut cache = guard(&CACHE);
    let before = cache.queues.insert(path.to_owned(), (Arc::clone(queue), Instant::now()));
    let is_sweep_due = std::mem::replace(&mut cache.is_sweep_due, true);
    drop(cache);
    // The path has led to another directory then.
    if let Some((before, _)) = before
        && !Arc::ptr_eq(&before, queue)
    {
        before.evict();
    }
    if !is_sweep_due {
        sweep_later();
    }
}

/// The queue to which this path has led a moment ago.
pub(super) fn find(path: &Path) -> Option<Arc<KernelQueue>> {
    guard(&CACHE).queues.get(path).map(|(queue, _)| Arc::clone(queue))
}

/// The path still leads there.
pub(super) fn used(path: &Path, now: Instant) {
    if let Some((_, used)) = guard(&CACHE).queues.get_mut(path) {
        *used = now;
    }
}

/// Whether the path still leads there, as far as can be told without a disk.
pub(super) fn leads_to(path: &Path, queue: &KernelQueue) -> bool {
    let named = || {
        let dir = cached_lookup::dir(path.parent()?)?;
        let is_there = cached_lookup::of(dir.as_fd())?.id == queue.key().0;
        is_there.then_some(cached_lookup::look(dir.as_fd(), path.file_name()?)?)
    };
    // A link leads to another file's lock.
    named().is_some_and(|named| named.is_none_or(|named| !named.is_link))
}

/// Evicts all queues.
fn clear() {
    let all = std::mem::take(&mut guard(&CACHE).queues);
    for (queue, _) in all.into_values() {
        queue.evict();
    }
}

/// Evicts the queues that no call has asked for.
fn sweep() {
    let mut cache = guard(&CACHE);
    let is_unused =
        |_: &PathBuf, (_, used): &mut (Arc<KernelQueue>, Instant)| used.elapsed() >= RETENTION;
    let unused: Vec<_> = cache.queues.extract_if(is_unused).collect();
    cache.is_sweep_due = !cache.queues.is_empty();
    let is_sweep_due = cache.is_sweep_due;
    drop(cache);
    for (_, (queue, _)) in unused {
        queue.evict();
    }
    if is_sweep_due {
        sweep_later();
    }
}

fn sweep_later() {
    // Not under the mutex: a job that cannot be run is dropped, and may have something to say.
    if pool().submit_after(RETENTION, Box::new(sweep)).is_err() {
        // The next call that is retained sees to it.
        guard(&CACHE).is_sweep_due = false;
    }
}

impl KernelQueue {
    /// Lets it go as soon as it is not needed.
    fn evict(self: &Arc<KernelQueue>) {
        let mut state = self.lock();
        state.is_retained = false;
        let opened = state.memory.opened.take();
        drop(state);
        drop(opened);
        self.retire();
    }

    /// Takes the lock without waiting for anything, if no call wants it, none holds it (or only
    /// readers, for reading) and it then `is_right`.
    pub(super) fn take_at_once(
        self: &Arc<KernelQueue>,
        kind: LockKind,
        is_right: impl FnOnce() -> bool,
    ) -> Option<LockGuard> {
        let mut state = self.try_lock()?;
        if !state.is_retained || state.is_retired || !state.scheduler.is_unwanted() {
            return None;
        }
        let lock = match state.scheduler.is_held() {
            true if kind == LockKind::Write || state.scheduler.has_writer() => return None,
            true => self.share_at_once(&state, is_right)?,
            false => self.ask_at_once(&mut state, kind, is_right)?,
        };
        state.scheduler.taken_at_once(kind);
        drop(state);
        lock.write_note_soon();
        Some(KernelGuard::new(Arc::clone(self) as Arc<dyn LockOwner>, lock, kind, None).into())
    }

    fn ask_at_once(
        &self,
        state: &mut QueueState<KernelBackend>,
        kind: LockKind,
        is_right: impl FnOnce() -> bool,
    ) -> Option<Arc<KernelLock>> {
        let file = state.memory.opened.take()?;
        let (dir, name) = self.backend.dir_and_name();
        let last = state.memory.time_slice;
        let Some(lock) = KernelLock::try_at_once(&file, dir, name, kind, last, is_right).ok()?
        else {
            state.memory.opened = Some(file);
            return None;
        };
        let lock = Arc::new(lock);
        state.memory.current = Arc::downgrade(&lock);
        state.since = SystemTime::now();
        Some(lock)
    }

    /// Readers of this process have it already.
    fn share_at_once(
        &self,
        state: &QueueState<KernelBackend>,
        is_right: impl FnOnce() -> bool,
    ) -> Option<Arc<KernelLock>> {
        let lock = state.memory.current.upgrade()?;
        let (dir, name) = self.backend.dir_and_name();
        (lock.may_be_shared(dir, name) && is_right()).then_some(lock)
    }
}
