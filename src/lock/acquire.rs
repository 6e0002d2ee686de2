//! From a call to its queue.
//!
//! Calls that spell a path alike stay together until the lock that it means is found, so that
//! they keep their order. What they want done before is done first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::Duration;
#[cfg(target_os = "linux")]
use std::time::Instant;

#[cfg(target_os = "linux")]
use super::cache;
use super::lock_path::Place;
use super::queue::Queue;
use super::{FileKey, HeldLocks, LockGuard, LockKind, Reply, Waiter};
use crate::error::{Deadlock, ErrorKind, Failure};
#[cfg(target_os = "linux")]
use crate::metrics;
use crate::mutex::guard;
use crate::threads::{Pool, task};

/// What is to happen before the lock is looked for: the directories above it are made, say.
pub type Before = Box<dyn FnOnce() -> Result<(), Failure> + Send>;

/// What is asked for.
pub struct LockRequest {
    /// The file or directory to lock, absolute.
    pub path: PathBuf,
    /// For reading beside others, or alone.
    pub kind: LockKind,
    /// How long to wait; zero to try once, `None` for ever.
    pub timeout: Option<Duration>,
    /// The locks that the caller holds.
    pub held: HeldLocks,
    /// What is to happen first, if anything.
    pub before: Option<Before>,
}

/// Asks for a lock. The outcome goes to `reply`, on some thread; the waiter can be cancelled.
pub fn acquire(pool: &Pool, request: LockRequest, reply: Reply) -> Arc<Waiter> {
    let path = request.path.clone();
    let mut arriving = guard(&ARRIVING);
    let waiter = Waiter::new(pool, request, reply);
    match arriving.entry(path.clone()) {
        Entry::Occupied(mut group) => {
            group.get_mut().push(Arc::clone(&waiter));
            return waiter;
        }
        Entry::Vacant(group) => group.insert(vec![Arc::clone(&waiter)]),
    };
    drop(arriving);
    let submitted = pool.submit(Box::new({
        let path = path.clone();
        move || {
            let entered: Result<(), ErrorKind> = task::catch_panic(|| {
                enter(&path);
                Ok(())
            });
            if let Err(kind) = entered {
                let group = guard(&ARRIVING).remove(&path).unwrap_or_default();
                refuse(group, || kind.duplicate());
            }
        }
    }));
    if let Err(error) = submitted {
        let refused = Failure::new("pthread_create", error);
        let group = guard(&ARRIVING).remove(&path).unwrap_or_default();
        refuse(group, || refused.duplicate().into());
    }
    waiter
}

/// Takes a lock on the calling thread, which may wait. One that the caller holds is borrowed at
/// once: operations that were started before it cannot end while this thread waits.
pub fn acquire_here(pool: &Pool, mut request: LockRequest) -> Result<LockGuard, ErrorKind> {
    if let Some(before) = request.before.take() {
        before()?;
    }
    if !request.held.is_empty() {
        let place = Place::find(&request.path)?;
        if let Some(reservation) =
            std::mem::take(&mut request.held).claim(&place.key, &place.path)?
        {
            return Ok(reservation.into());
        }
    }
    let (give, take) = mpsc::channel();
    let reply = move |outcome| {
        // This thread takes it two lines below.
        let _ = give.send(outcome);
    };
    acquire(pool, request, Box::new(reply));
    take.recv().unwrap_or_else(|_| Err(task::no_thread()))
}

/// Takes a lock, for a caller who is inside these, without waiting for anything: no thread, no disk, nobody
/// else. `None` when that cannot be done, and it is to be asked for by [`acquire`].
#[cfg(target_os = "linux")]
pub fn take_at_once(path: &Path, kind: LockKind, inside: &[FileKey]) -> Option<LockGuard> {
    let begun = Instant::now();
    let queue = cache::find(path)?;
    // Who holds it himself is told so; those who have called before come first.
    if inside.contains(queue.key()) || guard(&ARRIVING).contains_key(path) {
        return None;
    }
    let hold = queue.take_at_once(kind, || cache::leads_to(path, &queue))?;
    cache::found(path, begun);
    metrics::lock_taken_at_once(kind, begun);
    Some(hold)
}

/// Other systems do not say what they can answer without a disk.
#[cfg(not(target_os = "linux"))]
pub fn take_at_once(_: &Path, _: LockKind, _: &[FileKey]) -> Option<LockGuard> {
    None
}

/// Calls that have not found their queue yet, by path as it was spelt. Finding it takes
/// system calls, on whatever thread is free. Those that spell it alike go together, so that
/// they cannot overtake each other on the way: somebody sees to them as long as the path is here.
///
/// JavaScript's threads wait for this mutex, so nothing is done under it that may take long.
static ARRIVING: LazyLock<Mutex<HashMap<PathBuf, Vec<Arc<Waiter>>>>> =
    LazyLock::new(Mutex::default);

/// Brings the callers that arrive for a path to their queue, until no more come.
fn enter(path: &Path) {
    loop {
        prepare(path);
        let place = Place::find(path);
        let mut arriving = guard(&ARRIVING);
        let Some(group) = arriving.get_mut(path) else { return };
        // Somebody may have joined in the meantime, who wants something done first.
        if group.iter().any(|waiter| guard(&waiter.before).is_some()) {
            continue;
        }
        let group = std::mem::take(group);
        drop(arriving);
        match place {
            Ok(place) => join(path, place, group),
            Err(failure) => refuse(group, || failure.duplicate().into()),
        }
        let mut arriving = guard(&ARRIVING);
        if arriving.get(path).is_none_or(Vec::is_empty) {
            arriving.remove(path);
            return;
        }
    }
}

/// Lets the callers into the queue of the lock that their path has led to.
fn join(path: &Path, place: Place, group: Vec<Arc<Waiter>>) {
    let group: Vec<_> = group.into_iter().filter(|waiter| takes_it(waiter, &place)).collect();
    if group.is_empty() {
        return;
    }
    let is_direct = place.is_direct;
    let queue = Queue::join(place, &group);
    if is_direct {
        stay(path, &queue);
    }
    queue.pump();
    for waiter in group {
        waiter.waits_from_here();
    }
}

/// Whether a caller has to take the lock, as it does not hold it already. One that does borrows it
/// in its turn, or is told that it would wait for itself.
fn takes_it(waiter: &Arc<Waiter>, place: &Place) -> bool {
    match waiter.take_held().claim(&place.key, &place.path) {
        Ok(None) => return true,
        Ok(Some(reservation)) => {
            let waiter = Arc::clone(waiter);
            reservation.when_first(move |outcome| waiter.settle_uncounted(outcome));
        }
        // The call was for the lock itself.
        Err(kind @ ErrorKind::Deadlock(Deadlock::Held(_))) => waiter.settle(Err(kind)),
        Err(kind) => waiter.settle_uncounted(Err(kind)),
    }
    false
}

/// Keeps the queue for a while, for those who come back.
fn stay(path: &Path, queue: &Arc<Queue>) {
    #[cfg(target_os = "linux")]
    cache::keep(path, queue);
    #[cfg(not(target_os = "linux"))]
    let _ = (path, queue);
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

fn refuse(group: Vec<Arc<Waiter>>, why: impl Fn() -> ErrorKind) {
    for waiter in group {
        waiter.settle(Err(why()));
    }
}
