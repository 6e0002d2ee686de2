//! Locks that were asked for a moment ago, by the paths that led to them: whoever asks again, and
//! finds that nobody else wants the lock, has it without a thread and without a disk.
//!
//! The queue of such a lock stays for a while, and keeps the lock file open. What the path means
//! is looked up anew each time, but in what the kernel remembers only; and the file system has to
//! be one that decides about locks in memory. Whatever else there is to do is done by a thread.
//!
//! Only Linux says what it can answer without a disk.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use super::queue::Queue;
use crate::fs::os::cached_lookup;
use crate::mutex::guard;
use crate::threads::pool;

/// How long a lock stays that nobody asks for. A file system cannot be unmounted meanwhile.
const WHILE: Duration = Duration::from_millis(50);

/// As many paths are remembered; the queue of each has two descriptors.
const MOST: usize = 64;

#[derive(Default)]
struct Warm {
    queues: HashMap<PathBuf, (Arc<Queue>, Instant)>,
    /// A thread will look which of them have been forgotten.
    is_seen_to: bool,
}

static WARM: LazyLock<Mutex<Warm>> = LazyLock::new(Mutex::default);

/// Keeps the queue to which this path leads, for a while. The path is a name in a directory, and
/// no link.
pub(super) fn keep(path: &Path, queue: &Arc<Queue>) {
    if !queue.is_decided_in_memory() {
        return;
    }
    let has_room = |warm: &Warm| warm.queues.len() < MOST || warm.queues.contains_key(path);
    if !has_room(&guard(&WARM)) {
        return;
    }
    // Before anybody can find it. Not under the mutex, as that of the queue is waited for.
    queue.warm_up();
    let mut warm = guard(&WARM);
    let before = warm.queues.insert(path.to_owned(), (Arc::clone(queue), Instant::now()));
    let is_seen_to = std::mem::replace(&mut warm.is_seen_to, true);
    drop(warm);
    // The path has led to another directory then.
    if let Some((before, _)) = before
        && !Arc::ptr_eq(&before, queue)
    {
        before.cool_down();
    }
    if !is_seen_to {
        look_in_a_while();
    }
}

/// The queue to which this path has led a moment ago.
pub(super) fn find(path: &Path) -> Option<Arc<Queue>> {
    guard(&WARM).queues.get(path).map(|(queue, _)| Arc::clone(queue))
}

/// The path still leads there.
pub(super) fn found(path: &Path, now: Instant) {
    if let Some((_, used)) = guard(&WARM).queues.get_mut(path) {
        *used = now;
    }
}

/// Whether the path still leads there, as far as can be told without a disk.
pub(super) fn leads_to(path: &Path, queue: &Queue) -> bool {
    let named = || {
        let dir = cached_lookup::dir(path.parent()?)?;
        let is_there = cached_lookup::of(dir.as_fd())?.id == queue.key().0;
        is_there.then_some(cached_lookup::look(dir.as_fd(), path.file_name()?)?)
    };
    // A link leads to another file's lock.
    named().is_some_and(|named| named.is_none_or(|named| !named.is_link))
}

/// Lets go of those that nobody has asked for.
fn look() {
    let mut warm = guard(&WARM);
    let is_forgotten = |_: &PathBuf, (_, used): &mut (Arc<Queue>, Instant)| used.elapsed() >= WHILE;
    let forgotten: Vec<_> = warm.queues.extract_if(is_forgotten).collect();
    warm.is_seen_to = !warm.queues.is_empty();
    let is_seen_to = warm.is_seen_to;
    drop(warm);
    for (_, (queue, _)) in forgotten {
        queue.cool_down();
    }
    if is_seen_to {
        look_in_a_while();
    }
}

fn look_in_a_while() {
    // Not under the mutex: jobs that cannot be run are dropped, and may have something to say.
    if pool().submit_after(WHILE, Box::new(look)).is_err() {
        // Whoever comes next sees to it.
        guard(&WARM).is_seen_to = false;
    }
}
