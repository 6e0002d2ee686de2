//! From a call to its queue.
//!
//! Calls that name a lock alike stay together until the lock that they mean is found
//! ([`UnresolvedCalls`]). What they want done before is done first.

use std::hash::Hash;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
#[cfg(target_os = "linux")]
use std::time::Instant;

#[cfg(target_os = "linux")]
use super::cache;
use super::held::{LockGuard, Reservation};
use super::kernel::KernelBackend;
use super::lock_path::{LockPath, LockPlace, LockedPath};
use super::queue::{Backend, CallOf, LockEvent, Queue};
use super::scheduler::WaitingCall;
use super::waiter::{IfMissing, LockReply, LockRequest, Waiter};
use crate::descriptors::{self, Need, Permit, SharedPermit, Waiting, is_shortage};
use crate::error::{Deadlock, ErrorKind, Failure};
#[cfg(target_os = "linux")]
use crate::metrics;
use crate::mutex::guard;
use crate::resolve::unresolved::UnresolvedCalls;
use crate::threads::{Pool, task};
use crate::vocabulary::{FileKey, LockKind};

/// Asks for a lock. The outcome goes to `reply`, on some thread; the waiter can be cancelled.
pub fn acquire(
    pool: &Pool,
    request: LockRequest,
    reply: LockReply<LockGuard>,
) -> Arc<Waiter<LockGuard, IfMissing>> {
    acquire_at(pool, LockPlace::Own, request, reply)
}

/// The same for another lock of the file or directory than its own.
pub fn acquire_at(
    pool: &Pool,
    place: LockPlace,
    request: LockRequest,
    reply: LockReply<LockGuard>,
) -> Arc<Waiter<LockGuard, IfMissing>> {
    let name = LockedPath { path: request.path.clone(), place };
    arrive::<KernelBackend>(pool, name, request, IfMissing::Lock, reply)
}

/// The same for a call that has nothing to do if there is no such file. Then it has `None`, and no
/// lock file is made: if there is none yet, no process holds the lock and is about to make the file.
pub fn acquire_if_there(
    pool: &Pool,
    request: LockRequest,
    reply: LockReply<Option<LockGuard>>,
) -> Arc<Waiter<LockGuard, IfMissing>> {
    let is_missing = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_missing);
    let reply = move |outcome: Result<LockGuard, ErrorKind>| match told.load(Ordering::Relaxed) {
        true => reply(Ok(None)),
        false => reply(outcome.map(Some)),
    };
    let options = IfMissing::Tell(is_missing);
    let name = LockedPath::own(&request.path);
    arrive::<KernelBackend>(pool, name, request, options, Box::new(reply))
}

/// Takes a lock on the calling thread, which may wait. One that the caller holds is borrowed at
/// once: operations that were started before it cannot end while this thread waits.
pub fn acquire_here(pool: &Pool, request: LockRequest) -> Result<LockGuard, ErrorKind> {
    let wait = |request| wait_here(|tell| acquire(pool, request, Box::new(tell)));
    borrow_or(request, std::convert::identity, wait)
}

/// The same, unless there is no such file and no lock of it: then `None`, as [`acquire_if_there`].
pub fn acquire_here_if_there(
    pool: &Pool,
    request: LockRequest,
) -> Result<Option<LockGuard>, ErrorKind> {
    borrow_or(request, Some, |request| {
        wait_here(|tell| acquire_if_there(pool, request, Box::new(tell)))
    })
}

fn borrow_or<T>(
    mut request: LockRequest,
    borrowed: impl FnOnce(LockGuard) -> T,
    wait: impl FnOnce(LockRequest) -> Result<T, ErrorKind>,
) -> Result<T, ErrorKind> {
    if let Some(before) = request.before.take() {
        before()?;
    }
    if !request.held.is_empty() {
        let found = LockPath::find(&LockedPath::own(&request.path))?;
        if let Some(reservation) =
            std::mem::take(&mut request.held)
                .claim(&found.key, &found.path(), |other| found.is_lock(other))?
        {
            return Ok(borrowed(reservation.into()));
        }
    }
    wait(request)
}

/// Waits on the calling thread for what is given to the function that it passes on.
fn wait_here<T: Send + 'static, W>(
    start: impl FnOnce(Box<dyn FnOnce(Result<T, ErrorKind>) + Send>) -> W,
) -> Result<T, ErrorKind> {
    let (tell, outcome) = mpsc::channel();
    // Whoever drops the waiter does not cancel it.
    let _waiter = start(Box::new(move |given| drop(tell.send(given))));
    outcome.recv().unwrap_or_else(|_| Err(task::no_thread()))
}

/// Takes a lock, for a caller that holds these, without waiting for anything: no thread, no disk, no
/// other call. `None` when that cannot be done, and it is to be asked for by [`acquire`].
#[cfg(target_os = "linux")]
pub fn take_at_once(path: &Path, kind: LockKind, inside: &[FileKey]) -> Option<LockGuard> {
    let begun = Instant::now();
    let queue = cache::find(path)?;
    // A caller that holds it already is told so; calls that have come before are served first.
    if inside.contains(queue.key()) || is_arriving(path) {
        return None;
    }
    let held = queue.take_at_once(kind, || cache::leads_to(path, &queue))?;
    cache::used(path, begun);
    metrics::lock_taken_at_once(kind, begun);
    Some(held)
}

/// Whether calls for the lock of this file are on the way to their queue.
#[cfg(target_os = "linux")]
fn is_arriving(path: &Path) -> bool {
    let arriving = guard(KernelBackend::arrivals());
    !arriving.is_empty() && arriving.get(&LockedPath::own(path)).is_some()
}

/// Other systems do not say what they can answer without a disk.
#[cfg(not(target_os = "linux"))]
pub fn take_at_once(_: &Path, _: LockKind, _: &[FileKey]) -> Option<LockGuard> {
    None
}

/// Calls whose lock has not been found yet, by what they name. A thread sees to them as long as the
/// name is here.
///
/// JavaScript's threads wait for this mutex, so nothing is done under it that may take long.
pub(super) type Arrivals<B> = Mutex<UnresolvedCalls<<B as Locate>::Name, Arc<CallOf<B>>>>;

/// How a lock of a backend is found.
pub(super) trait Locate: Backend {
    /// What calls name it by.
    type Name: Clone + Eq + Hash + Send + 'static;
    /// What is found besides.
    type Details;

    /// The calls whose lock has not been found yet.
    fn arrivals() -> &'static Arrivals<Self>;

    /// The error of calls that have waited in vain to open their lock.
    fn too_many_files(_: &Self::Name) -> ErrorKind {
        Failure::new("open", descriptors::too_many()).into()
    }

    /// Finds the lock.
    fn find(name: &Self::Name) -> Result<Located<Self>, Failure>;

    /// Notes for a call what has been found besides.
    fn note(&self, _: &Self::Details, _: &CallOf<Self>) {}

    /// Whether a lock with this key, which is held, is the same lock.
    fn is_lock(&self, _: &FileKey) -> bool {
        false
    }

    /// Lets a call borrow the lock from its caller, who holds it.
    fn lend(_: Reservation, _: Arc<CallOf<Self>>) {}

    /// Calls have come to this queue by this name.
    fn joined(_: &Self::Name, _: &Self::Details, _: &Arc<Queue<Self>>) {}
}

/// A lock that has been found.
pub(super) struct Located<B: Locate> {
    pub(super) key: FileKey,
    pub(super) backend: B,
    pub(super) details: B::Details,
}

/// Takes a call in, and sees to it that it gets to its queue.
pub(super) fn arrive<B: Locate>(
    pool: &Pool,
    name: B::Name,
    request: LockRequest,
    options: B::Options,
    reply: LockReply<B::Guard>,
) -> Arc<CallOf<B>> {
    let mut arriving = guard(B::arrivals());
    let waiter = Waiter::new(pool, request, options, reply);
    let is_first = arriving.join(name.clone(), Arc::clone(&waiter));
    drop(arriving);
    if !is_first {
        return waiter;
    }
    let calls = EnteringCalls::<B> { name, is_done: false };
    // If there is no thread for it, the job is dropped, and says so.
    let _ = pool.submit(Box::new(move || calls.enter(None)));
    waiter
}

/// The calls that arrive for a name, on the way to their queue. When this is dropped before they are
/// there, they are told that there is no thread.
struct EnteringCalls<B: Locate> {
    name: B::Name,
    is_done: bool,
}

impl<B: Locate> Drop for EnteringCalls<B> {
    fn drop(&mut self) {
        if !self.is_done {
            self.refuse(task::no_thread);
        }
    }
}

impl<B: Locate> EnteringCalls<B> {
    fn refuse(&self, why: impl Fn() -> ErrorKind) {
        // Not under the mutex: their callers are told.
        let calls = guard(B::arrivals()).take(&self.name);
        refuse(calls, why);
    }

    /// Brings the calls to their queue. A new one needs a permit to keep its files open; while they
    /// wait for that, later calls of the name wait behind them.
    fn enter(mut self, permit: Option<Permit>) {
        let entered = task::catch_panic(|| Ok(enter::<B>(&self.name, permit)));
        self.is_done = true;
        match entered {
            Ok(None) => {}
            Ok(Some(need)) => self.wait(need),
            Err(kind) => self.refuse(|| ErrorKind::duplicate(&kind)),
        }
    }

    fn wait(&self, need: Need) {
        let watched = self.name.clone();
        let calls = EnteringCalls::<B> { name: self.name.clone(), is_done: false };
        let waiting = Waiting {
            go: Box::new(move |permit| match permit {
                Some(permit) => calls.enter(Some(permit)),
                None => calls.give_up(),
            }),
            has_given_up: Box::new(move |stall| {
                let arriving = guard(B::arrivals());
                let calls = arriving.get(&watched).unwrap_or_default();
                let gives_up = |call: &Arc<CallOf<B>>| {
                    !call.is_waiting() || stall >= descriptors::patience(call.timeout())
                };
                calls.iter().all(gives_up)
            }),
        };
        descriptors::wait(need, waiting);
    }

    fn give_up(mut self) {
        self.is_done = true;
        self.refuse(|| B::too_many_files(&self.name));
    }
}

/// Brings the calls that arrive for a name to their queue, until no more come, or until a permit is
/// needed for which they have to wait.
fn enter<B: Locate>(name: &B::Name, permit: Option<Permit>) -> Option<Need> {
    let had_to_wait = permit.is_some();
    let mut permit = permit.map(Arc::new);
    loop {
        let group = guard(B::arrivals()).get(name).unwrap_or_default().to_vec();
        group.iter().for_each(|waiter| waiter.prepare());
        let found = B::find(name);
        let need = ask_for_permit(&found, &group, &mut permit);
        if need.is_some() {
            return need;
        }
        let mut arriving = guard(B::arrivals());
        let group = arriving.get(name)?;
        // A call may have come meanwhile that wants something done first.
        if group.iter().any(|waiter| waiter.has_to_prepare()) {
            continue;
        }
        let group = arriving.take_some(name);
        drop(arriving);
        if had_to_wait {
            group.iter().for_each(|waiter| waiter.begin_time());
        }
        match found {
            Ok(found) => {
                join(name, found, permit.take(), group).into_iter().for_each(Waiter::start_timer);
            }
            Err(failure) => refuse(group, || failure.duplicate().into()),
        }
        if guard(B::arrivals()).end_if_empty(name) {
            return None;
        }
    }
}

/// Sees to the permit that a new queue needs. What the calls have to wait for, if for anything.
fn ask_for_permit<B: Locate>(
    found: &Result<Located<B>, Failure>,
    group: &[Arc<CallOf<B>>],
    permit: &mut Option<SharedPermit>,
) -> Option<Need> {
    let depth = group.iter().map(|waiter| waiter.depth()).max().unwrap_or(0);
    let given = group.iter().find_map(|waiter| waiter.permit());
    match found {
        Ok(found) => {
            let files = found.backend.files_to_open(&found.key)?;
            *permit = permit.take().or(given);
            if permit.is_some() {
                return None;
            }
            let need = Need::new(files, depth);
            *permit = descriptors::try_enter(need).map(Arc::new);
            permit.is_none().then_some(need)
        }
        // To find the lock takes a file, too.
        Err(failure) if is_shortage(failure) => Some(match permit.take() {
            Some(permit) => permit.need_again(),
            // They have their permit. What they lack for the moment comes deeper.
            None => Need::new(1, depth + u32::from(given.is_some())).again(),
        }),
        Err(_) => None,
    }
}

/// Lets calls into the queue of the lock that they mean, apart from those whose caller holds it.
pub(super) fn join<B: Locate>(
    name: &B::Name,
    found: Located<B>,
    permit: Option<SharedPermit>,
    group: Vec<Arc<CallOf<B>>>,
) -> Vec<Arc<CallOf<B>>> {
    let Located { key, backend, details } = found;
    let takes_it = |waiter: &Arc<CallOf<B>>| takes_it::<B>(waiter, &key, &backend);
    let group: Vec<_> = group.into_iter().filter(takes_it).collect();
    if !group.is_empty() {
        group.iter().for_each(|waiter| backend.note(&details, waiter));
        let queue = Queue::join(key, backend, permit, &group);
        B::joined(name, &details, &queue);
        queue.handle(LockEvent::Changed);
    }
    group
}

/// Whether a call has to take the lock, as its caller does not hold it. Otherwise it borrows the
/// lock in its turn, or is told that it would wait for its caller.
fn takes_it<B: Locate>(waiter: &Arc<CallOf<B>>, key: &FileKey, backend: &B) -> bool {
    match waiter.take_held().claim(key, &backend.path(), |other| backend.is_lock(other)) {
        Ok(None) => return true,
        Ok(Some(reservation)) => B::lend(reservation, Arc::clone(waiter)),
        // The call was for the lock itself.
        Err(kind @ ErrorKind::Deadlock(Deadlock::Held(_))) => waiter.settle(Err(kind)),
        Err(kind) => waiter.settle_uncounted(Err(kind)),
    }
    false
}

fn refuse<G: 'static, O: Send + Sync + 'static>(
    group: Vec<Arc<Waiter<G, O>>>,
    why: impl Fn() -> ErrorKind,
) {
    for waiter in group {
        waiter.settle(Err(why()));
    }
}

/// What a path to be locked leads to.
pub(super) struct FoundFile {
    /// The path is a name in a directory, and no link. The cache of Linux needs it.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "there is no cache"))]
    is_direct: bool,
    /// There is no such file.
    is_missing: bool,
}

impl Locate for KernelBackend {
    type Name = LockedPath;
    type Details = FoundFile;

    fn arrivals() -> &'static Arrivals<KernelBackend> {
        static ARRIVALS: LazyLock<Arrivals<KernelBackend>> =
            LazyLock::new(Arrivals::<KernelBackend>::default);
        &ARRIVALS
    }

    fn too_many_files(name: &LockedPath) -> ErrorKind {
        Failure::at("open", &name.path, descriptors::too_many()).into()
    }

    fn find(name: &LockedPath) -> Result<Located<KernelBackend>, Failure> {
        let lock_file = LockPath::find(name)?;
        let LockPath { is_direct, is_missing, .. } = lock_file;
        let (key, details) = (lock_file.key.clone(), FoundFile { is_direct, is_missing });
        Ok(Located { key, backend: KernelBackend::new(lock_file), details })
    }

    fn is_lock(&self, other: &FileKey) -> bool {
        self.is_lock_file(other)
    }

    fn lend(reservation: Reservation, waiter: Arc<CallOf<KernelBackend>>) {
        reservation.when_first(move |outcome| waiter.settle_uncounted(outcome));
    }

    fn note(&self, found: &FoundFile, waiter: &CallOf<KernelBackend>) {
        if let IfMissing::Tell(is_missing) = &waiter.options
            && found.is_missing
            && self.is_unused()
        {
            is_missing.store(true, Ordering::Relaxed);
            waiter.settle_uncounted(Err(ErrorKind::Cancelled));
        }
    }

    /// Keeps the queue for a while, for callers that come back.
    #[cfg(target_os = "linux")]
    fn joined(name: &LockedPath, found: &FoundFile, queue: &Arc<Queue<KernelBackend>>) {
        if found.is_direct {
            cache::retain(&name.path, queue);
        }
    }
}
