//! From a call to its queue.
//!
//! Calls that spell a path alike stay together until the lock that it means is found, so that
//! they keep their order. What they want done before is done first.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
#[cfg(target_os = "linux")]
use std::time::Instant;

use super::place::Place;
use super::queue::Queue;
#[cfg(target_os = "linux")]
use super::warm;
use super::{Hold, Key, Kind, Reply, Waiter, guard};
use crate::error::{ErrorKind, Failure};
use crate::io::Pool;
#[cfg(target_os = "linux")]
use crate::metrics;

/// What is to happen before the lock is looked for: the folders above it are made, say.
pub type Before = Box<dyn FnOnce() -> Result<(), Failure> + Send>;

/// What is asked for.
pub struct Request {
    /// The file or folder to lock, absolute.
    pub path: PathBuf,
    /// For reading beside others, or alone.
    pub kind: Kind,
    /// How long to wait; zero to try once, `None` for ever.
    pub timeout: Option<Duration>,
    /// The locks that the caller holds: waiting for one of them would never end.
    pub inside: Vec<Key>,
    /// What is to happen first, if anything.
    pub before: Option<Before>,
}

/// Asks for a lock. The outcome goes to `reply`, on some thread; the waiter can be cancelled.
pub fn acquire(pool: &Pool, request: Request, reply: Reply) -> Arc<Waiter> {
    let path = request.path.clone();
    let mut arriving = guard(&ARRIVING);
    let waiter = Waiter::new(pool, request, reply);
    let group = arriving.entry(path.clone()).or_default();
    group.push(Arc::clone(&waiter));
    if group.len() > 1 {
        return waiter;
    }
    drop(arriving);
    let submitted = pool.submit(Box::new({
        let path = path.clone();
        move || enter(&path)
    }));
    if let Err(error) = submitted {
        let refused = Failure::new("pthread_create", error);
        let group = guard(&ARRIVING).remove(&path).unwrap_or_default();
        refuse(group, &refused);
    }
    waiter
}

/// Takes a lock for writing or reading without waiting for anything: no thread, no disk, nobody
/// else. `None` when that cannot be done, and it is to be asked for by [`acquire`].
#[cfg(target_os = "linux")]
pub fn take_at_once(path: &Path, kind: Kind) -> Option<Hold> {
    let begun = Instant::now();
    let queue = warm::find(path, begun)?;
    // Those who have called before come first.
    if guard(&ARRIVING).contains_key(path) {
        return None;
    }
    let hold = queue.take_at_once(kind, || warm::leads_to(path, &queue))?;
    metrics::lock_taken_at_once(kind, begun);
    Some(hold)
}

/// Other systems do not say what they can answer without a disk.
#[cfg(not(target_os = "linux"))]
pub fn take_at_once(_: &Path, _: Kind) -> Option<Hold> {
    None
}

/// Calls that have not found their queue yet, by path as it was spelt. Finding it takes
/// system calls, on whatever thread is free. Those that spell it alike go together, so that
/// they cannot overtake each other on the way.
static ARRIVING: LazyLock<Mutex<HashMap<PathBuf, Vec<Arc<Waiter>>>>> =
    LazyLock::new(Mutex::default);

/// Brings the callers that arrived for a path to their queue.
fn enter(path: &Path) {
    let (place, mut arriving) = loop {
        prepare(path);
        let place = Place::find(path);
        let arriving = guard(&ARRIVING);
        // Somebody may have joined in the meantime, who wants something done first.
        let group = arriving.get(path).map(Vec::as_slice).unwrap_or_default();
        if group.iter().all(|waiter| guard(&waiter.before).is_none()) {
            break (place, arriving);
        }
    };
    let group = arriving.remove(path).unwrap_or_default();
    let place = match place {
        Ok(place) => place,
        Err(failure) => {
            drop(arriving);
            return refuse(group, &failure);
        }
    };
    let (doomed, group): (Vec<_>, Vec<_>) =
        group.into_iter().partition(|waiter| waiter.inside.contains(&place.key));
    let lock_file = place.path.clone();
    #[cfg(target_os = "linux")]
    let is_direct = place.is_direct;
    let queue = Queue::join(place, &group);
    #[cfg(target_os = "linux")]
    if is_direct {
        warm::keep(path, &queue);
    }
    drop(arriving);
    for waiter in doomed {
        waiter.settle(Err(ErrorKind::Deadlock(lock_file.clone())));
    }
    queue.pump();
    for waiter in group {
        waiter.waits_from_here();
    }
}

/// Does what the callers want done first. One that fails has its answer.
fn prepare(path: &Path) {
    let group = guard(&ARRIVING).get(path).cloned().unwrap_or_default();
    for waiter in group {
        let before = guard(&waiter.before).take();
        if let Some(Err(failure)) = before.map(|before| before()) {
            waiter.settle(Err(failure.into()));
        }
    }
}

fn refuse(group: Vec<Arc<Waiter>>, failure: &Failure) {
    for waiter in group {
        waiter.settle(Err(failure.duplicate().into()));
    }
}
