//! Who gets a lock next in this process.
//!
//! There is one [`Queue`] for each lock that somebody in this process holds or wants. It does
//! what [`Turns`] decides: the waiter at its head asks the kernel, first without waiting. When
//! another process has the lock, one thread waits for it in the kernel, on behalf of whoever is
//! at the head when it arrives. Waiters that give up just stop waiting: the thread stands in
//! nobody's way, and a lock that arrives for nobody is given back at once.
//!
//! Each turn asks the kernel anew, also when the lock passes between two calls of this
//! process, so that a process with many calls does not keep others out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::kernel::{self, KernelLock, KernelWait};
use super::turns::{Fit, Next, Turns, Waits};
use super::{Holder, Kind, name, threads};
use crate::error::{Contention, ErrorKind, Failure};
use crate::fs::os::{Folder, Os};
use crate::fs::{FileId, FileSystem, FolderUse, uninterrupted};
use crate::io::Pool;
use crate::metrics::{LockCall, LockHeld};
use crate::target::{self, Target};

/// Which lock is meant: the folder that holds its file, and the file's name in it.
pub type Key = (FileId, OsString);

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

/// Takes the outcome: the lock, or why there is none.
pub type Reply = Box<dyn FnOnce(Result<Hold, ErrorKind>) + Send>;

/// A lock that is held. Dropping it gives the lock back.
pub struct Hold {
    queue: Arc<Queue>,
    /// Readers that came together share one. `None` only while it is being dropped.
    kernel: Option<Arc<KernelLock>>,
    kind: Kind,
    _counted: LockHeld,
}

impl Hold {
    /// Which lock it is.
    pub fn key(&self) -> &Key {
        &self.queue.key
    }

    /// What it was taken for.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let last = self.kernel.take().and_then(Arc::into_inner);
        if Settling::is_under_way() {
            // Given back by the very reply that brought it. What comes next is seen to after
            // that, and not inside it: there may be thousands who do the same.
            drop(last);
            self.queue.lock().turns.released(self.kind);
            return Settling::then_pump(&self.queue);
        }
        let mut state = self.queue.lock();
        if let Some(kernel) = last {
            if state.turns.goes_on_after(self.kind) {
                return self.queue.hand_over(state, kernel, self.kind);
            }
            // The kernel first: whoever comes next asks it.
            drop(state);
            drop(kernel);
            state = self.queue.lock();
        }
        state.turns.released(self.kind);
        drop(state);
        self.queue.pump();
    }
}

/// Somebody who waits for a lock.
pub struct Waiter {
    kind: Kind,
    timeout: Option<Duration>,
    since: Instant,
    /// The order of calls, in which waiters are served.
    number: u64,
    inside: Vec<Key>,
    before: Mutex<Option<Before>>,
    /// Taken by whoever settles the wait, so that this happens once.
    reply: Mutex<Option<Reply>>,
    queue: OnceLock<Weak<Queue>>,
    pool: Pool,
    counted: LockCall,
}

impl Waits for Arc<Waiter> {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn is_waiting(&self) -> bool {
        lock(&self.reply).is_some()
    }

    fn only_tries(&self) -> bool {
        self.timeout.is_some_and(|timeout| timeout.is_zero())
    }

    fn number(&self) -> u64 {
        self.number
    }
}

impl Waiter {
    fn settle(&self, outcome: Result<Hold, ErrorKind>) {
        let reply = lock(&self.reply).take();
        // Otherwise the wait is over already, and a lock that came too late is given back.
        if let Some(reply) = reply {
            self.counted.ended(&outcome);
            reply(outcome);
        }
    }

    /// Ends the wait without a lock, unless it is over already.
    pub fn cancel(self: &Arc<Waiter>) {
        self.settle(Err(ErrorKind::Cancelled));
        self.leave();
    }

    /// Lets those behind move up. Not on this thread: it may be JavaScript's.
    fn leave(self: &Arc<Waiter>) {
        if let Some(queue) = self.queue.get().and_then(Weak::upgrade) {
            let _ = self.pool.submit(Box::new(move || queue.pump()));
        }
    }

    fn time_out(self: &Arc<Waiter>) {
        if !self.is_waiting() {
            return;
        }
        if let Some(queue) = self.queue.get().and_then(Weak::upgrade) {
            self.settle(Err(queue.locked(self)));
            queue.pump();
        }
    }
}

/// Asks for a lock. The outcome goes to `reply`, on some thread; the waiter can be cancelled.
pub fn acquire(pool: &Pool, request: Request, reply: Reply) -> Arc<Waiter> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let Request { path, kind, timeout, inside, before } = request;
    let mut arriving = lock(&ARRIVING);
    let waiter = Arc::new(Waiter {
        kind,
        timeout,
        since: Instant::now(),
        number: CALLS.fetch_add(1, Ordering::Relaxed),
        inside,
        before: Mutex::new(before),
        reply: Mutex::new(Some(reply)),
        queue: OnceLock::new(),
        pool: pool.clone(),
        counted: LockCall::new(path.clone(), kind),
    });
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
        let group = lock(&ARRIVING).remove(&path).unwrap_or_default();
        refuse(group, &refused);
    }
    waiter
}

/// Who has the lock of a file so that somebody who asked for this kind would have to wait; the
/// outer `None` when nobody has. Only writers are known by name.
pub fn inspect(path: &Path, kind: Kind) -> Result<Option<Option<Holder>>, Failure> {
    let place = Place::find(path)?;
    kernel::inspect(&place.folder, &place.name, kind).map_err(|failure| failure.on(&place.path))
}

/// Which lock is that of a file.
pub fn key_of(path: &Path) -> Result<Key, Failure> {
    Place::find(path).map(|place| place.key)
}

/// Calls that have not found their queue yet, by path as it was spelt. Finding it takes
/// system calls, on whatever thread is free. Those that spell it alike go together, so that
/// they cannot overtake each other on the way.
static ARRIVING: LazyLock<Mutex<HashMap<PathBuf, Vec<Arc<Waiter>>>>> =
    LazyLock::new(Mutex::default);

/// The locks that somebody in this process holds or wants.
static QUEUES: LazyLock<Mutex<HashMap<Key, Arc<Queue>>>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under these locks can panic and leave a state half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a lock file is.
struct Place {
    folder: Folder,
    key: Key,
    name: OsString,
    path: PathBuf,
}

impl Place {
    fn find(path: &Path) -> Result<Place, Failure> {
        let target = target_of(path)?;
        let folder = uninterrupted(|| Os.folder_metadata(&target.folder))
            .map_err(|error| Failure::at("fstat", &target.folder_path, error))?;
        let name = name::of(&target.name);
        Ok(Place {
            key: (folder.id, name.clone()),
            path: target.folder_path.join(&name),
            folder: target.folder,
            name,
        })
    }
}

/// What a path to be locked means.
pub(super) fn target_of(path: &Path) -> Result<Target<Os>, Failure> {
    // A folder may be named with a separator at the end; it is locked as a whole, through a
    // file beside it like any other.
    let path = match path.components().next_back() {
        // Only the system knows what it is called.
        Some(Component::ParentDir) => {
            &std::fs::canonicalize(path).map_err(|error| Failure::at("realpath", path, error))?
        }
        _ => without_end(path),
    };
    target::resolve(&Os, path, true, FolderUse::Names)
}

/// The path without separators at its end.
fn without_end(path: &Path) -> &Path {
    match (path.parent(), path.file_name()) {
        // `components` ignores separators, and `.`, at the end.
        (Some(_), Some(_)) => path.components().as_path(),
        _ => path,
    }
}

/// Brings the callers that arrived for a path to their queue.
fn enter(path: &Path) {
    let (place, mut arriving) = loop {
        prepare(path);
        let place = Place::find(path);
        let arriving = lock(&ARRIVING);
        // Somebody may have joined in the meantime, who wants something done first.
        let group = arriving.get(path).map(Vec::as_slice).unwrap_or_default();
        if group.iter().all(|waiter| lock(&waiter.before).is_none()) {
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
    let path = place.path.clone();
    let mut queues = lock(&QUEUES);
    let queue = Arc::clone(queues.entry(place.key.clone()).or_insert_with(|| Queue::new(place)));
    let mut state = queue.lock();
    for waiter in &group {
        let _ = waiter.queue.set(Arc::downgrade(&queue));
        state.turns.insert(Arc::clone(waiter));
    }
    drop(state);
    drop(queues);
    drop(arriving);
    for waiter in doomed {
        waiter.settle(Err(ErrorKind::Deadlock(path.clone())));
    }
    queue.pump();
    for waiter in group {
        if waiter.is_waiting() {
            waiter.counted.waits();
        }
        // A timer is needed only by those who have not got it at once.
        if let Some(timeout) = waiter.timeout
            && waiter.is_waiting()
        {
            let left = timeout.saturating_sub(waiter.since.elapsed());
            let pool = waiter.pool.clone();
            let _ = pool.submit_after(left, Box::new(move || waiter.time_out()));
        }
    }
}

/// Does what the callers want done first. One that fails has its answer.
fn prepare(path: &Path) {
    let group = lock(&ARRIVING).get(path).cloned().unwrap_or_default();
    for waiter in group {
        let before = lock(&waiter.before).take();
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

thread_local! {
    /// While this thread hands out locks: the queues to look after when it has done so.
    static TO_PUMP: RefCell<Option<Vec<Arc<Queue>>>> = const { RefCell::new(None) };
}

/// A thread that hands out locks. Dropping the outermost one looks after what has come of it.
struct Settling {
    is_outermost: bool,
}

impl Settling {
    fn begin() -> Settling {
        let is_outermost = !Settling::is_under_way();
        if is_outermost {
            let _ = TO_PUMP.try_with(|queues| queues.replace(Some(Vec::new())));
        }
        Settling { is_outermost }
    }

    fn is_under_way() -> bool {
        TO_PUMP.try_with(|queues| queues.borrow().is_some()).unwrap_or(false)
    }

    fn then_pump(queue: &Arc<Queue>) {
        let _ = TO_PUMP.try_with(|queues| {
            if let Some(queues) = &mut *queues.borrow_mut() {
                queues.push(Arc::clone(queue));
            }
        });
    }

    fn next() -> Option<Arc<Queue>> {
        TO_PUMP.try_with(|queues| queues.borrow_mut().as_mut().and_then(Vec::pop)).ok().flatten()
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        if self.is_outermost {
            while let Some(queue) = Settling::next() {
                queue.pump();
            }
            let _ = TO_PUMP.try_with(|queues| queues.replace(None));
        }
    }
}

struct Queue {
    key: Key,
    folder: Folder,
    name: OsString,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    turns: Turns<Arc<Waiter>>,
    /// The waits in the kernel, by their numbers.
    waits: Vec<(u64, Arc<KernelWait>)>,
    last_wait: u64,
}

impl Queue {
    fn new(place: Place) -> Arc<Queue> {
        let Place { folder, key, name, path } = place;
        Arc::new(Queue { key, folder, name, path, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Gives the lock to whoever may have it now. Called whenever something has changed.
    fn pump(self: &Arc<Queue>) {
        let mut refused = Vec::new();
        loop {
            let mut state = self.lock();
            let next = state.turns.next(&mut refused);
            if let Next::StandAside(number) = next {
                state.wait(number).iter().for_each(|wait| wait.stand_aside());
            }
            drop(state);
            self.refuse(&mut refused);
            match next {
                Next::Nothing => return,
                Next::Retire => return self.retire(),
                Next::StandAside(_) => {}
                Next::Ask(kind) => match KernelLock::try_acquire(&self.folder, &self.name, kind) {
                    Ok(Some(lock)) => self.arrived(self.lock(), lock, kind),
                    Ok(None) => self.not_now(self.lock(), None),
                    Err(failure) => self.failed(self.lock(), failure),
                },
            }
        }
    }

    /// Gives a lock back, on behalf of whoever comes next in this process. He has his place
    /// in the line first, so that other processes and this one take turns.
    fn hand_over(
        self: &Arc<Queue>,
        mut state: MutexGuard<'_, State>,
        kernel: KernelLock,
        released: Kind,
    ) {
        state.turns.released(released);
        let mut refused = Vec::new();
        let Next::Ask(kind) = state.turns.next(&mut refused) else {
            drop(state);
            drop(kernel);
            self.refuse(&mut refused);
            return self.pump();
        };
        if state.waits.iter().any(|(_, wait)| wait.kind() == kind) {
            // Somebody is there already, and only has to be told.
            self.not_now(state, None);
            drop(kernel);
            return self.pump();
        }
        drop(state);
        let begun = KernelWait::begin(&self.folder, &self.name, kind);
        drop(kernel);
        let passed = begun.and_then(|wait| Ok((wait.pass(&self.folder, &self.name)?, wait)));
        match passed {
            Ok((Some(lock), _)) => self.arrived(self.lock(), lock, kind),
            Ok((None, wait)) => self.not_now(self.lock(), Some(wait)),
            Err(failure) => self.failed(self.lock(), failure),
        }
        self.pump();
    }

    /// Another process has the lock, or comes first. Waits in the kernel for whoever is at the
    /// head, with a wait that has begun if there is one.
    fn not_now(self: &Arc<Queue>, mut state: MutexGuard<'_, State>, begun: Option<KernelWait>) {
        let mut refused = Vec::new();
        if let Some(kind) = state.turns.not_now(&mut refused) {
            match self.wait_in_kernel(&mut state, kind, begun) {
                Ok(number) => {
                    state.turns.wait(number, kind);
                    drop(state);
                }
                Err(failure) => self.failed(state, failure),
            }
        } else {
            drop(state);
        }
        self.refuse(&mut refused);
    }

    /// Waits for the lock on a thread of its own, or on one that is waiting for it already.
    /// Says which wait it is.
    fn wait_in_kernel(
        self: &Arc<Queue>,
        state: &mut State,
        kind: Kind,
        begun: Option<KernelWait>,
    ) -> Result<u64, Failure> {
        let wait = match begun {
            Some(wait) if wait.kind() == kind => wait,
            _ => {
                for (number, wait) in &state.waits {
                    if wait.kind() == kind && wait.step_in()? {
                        return Ok(*number);
                    }
                }
                // It has its place in the line before its thread is awake.
                KernelWait::begin(&self.folder, &self.name, kind)?
            }
        };
        let wait = Arc::new(wait);
        state.last_wait += 1;
        let number = state.last_wait;
        let (queue, own) = (Arc::clone(self), Arc::clone(&wait));
        threads::run(Box::new(move || {
            let outcome = own.wait(&queue.folder, &queue.name);
            queue.waited(number, outcome, own.kind());
            queue.pump();
        }))
        .map_err(|error| Failure::new("pthread_create", error))?;
        state.waits.push((number, wait));
        Ok(number)
    }

    /// Takes what a wait in the kernel has come to.
    fn waited(
        self: &Arc<Queue>,
        number: u64,
        outcome: Result<Option<KernelLock>, Failure>,
        kind: Kind,
    ) {
        let mut state = self.lock();
        state.waits.retain(|(other, _)| *other != number);
        let is_wanted = state.turns.waited(number);
        match outcome {
            Ok(Some(lock)) if is_wanted => self.arrived(state, lock, kind),
            Err(failure) if is_wanted => self.failed(state, failure),
            Ok(None) if is_wanted => self.not_now(state, None),
            outcome => {
                // Giving a lock back takes system calls.
                drop(state);
                drop(outcome);
            }
        }
    }

    /// Hands out a lock that the kernel has given.
    fn arrived(
        self: &Arc<Queue>,
        mut state: MutexGuard<'_, State>,
        mut kernel: KernelLock,
        kind: Kind,
    ) {
        let fit = state.turns.fits(kind);
        if fit == Fit::Nobody {
            drop(state);
            return drop(kernel);
        }
        if fit == Fit::Readers
            && let Err(failure) = kernel.downgrade()
        {
            self.failed(state, failure);
            return drop(kernel);
        }
        let served = state.turns.grant();
        drop(state);
        let kernel = Arc::new(kernel);
        let hold = |kind, kernel| {
            let (queue, _counted) = (Arc::clone(self), LockHeld::new(kind));
            Hold { queue, kernel: Some(kernel), kind, _counted }
        };
        let holds: Vec<Hold> =
            served.iter().map(|waiter| hold(waiter.kind, Arc::clone(&kernel))).collect();
        // From here on the lock is theirs alone: it is free when they have dropped it.
        drop(kernel);
        let settling = Settling::begin();
        for (waiter, hold) in served.into_iter().zip(holds) {
            waiter.settle(Ok(hold));
        }
        drop(settling);
    }

    fn failed(&self, mut state: MutexGuard<'_, State>, failure: Failure) {
        let head = state.turns.failed();
        drop(state);
        if let Some(head) = head {
            head.settle(Err(failure.on(&self.path).into()));
        }
    }

    fn refuse(&self, triers: &mut Vec<Arc<Waiter>>) {
        for trier in triers.drain(..) {
            trier.settle(Err(self.locked(&trier)));
        }
    }

    /// The error for somebody who has not got the lock in time.
    fn locked(&self, waiter: &Waiter) -> ErrorKind {
        let in_this_process = self.lock().turns.is_held();
        // For the message only: if it cannot be told, it is not told.
        let holder = kernel::inspect(&self.folder, &self.name, Kind::Write);
        ErrorKind::Locked(Box::new(Contention {
            path: self.path.clone(),
            waited: waiter.timeout.filter(|timeout| !timeout.is_zero()),
            holder: holder.ok().flatten().flatten(),
            in_this_process,
        }))
    }

    /// Forgets the queue when nobody holds or wants the lock any more.
    fn retire(self: &Arc<Queue>) {
        let mut queues = lock(&QUEUES);
        let is_idle = self.lock().turns.is_idle();
        if is_idle && queues.get(&self.key).is_some_and(|known| Arc::ptr_eq(known, self)) {
            queues.remove(&self.key);
        }
    }
}

impl State {
    fn wait(&self, number: u64) -> Option<&Arc<KernelWait>> {
        self.waits.iter().find(|(other, _)| *other == number).map(|(_, wait)| wait)
    }
}
