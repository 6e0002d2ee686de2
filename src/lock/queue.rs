//! Who gets a lock next in this process.
//!
//! There is one [`Queue`] for each lock that somebody in this process holds or wants. The
//! waiter at its head asks the kernel, first without waiting. When another process has the
//! lock, one thread waits for it in the kernel, on behalf of whoever is at the head when it
//! arrives. Waiters that give up just stop waiting: the thread leaves the gate open for others,
//! and a lock that arrives for nobody is given back at once.
//!
//! Each turn asks the kernel anew, also when the lock passes between two calls of this
//! process, so that a process with many calls does not keep others out.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::kernel::{self, KernelLock, KernelWait};
use super::{Holder, Kind, name};
use crate::error::{Contention, ErrorKind, Failure};
use crate::fs::os::{Folder, Os};
use crate::fs::{FileId, FileSystem, FolderUse, uninterrupted};
use crate::io::Pool;
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
        // The kernel first: whoever comes next asks it.
        self.kernel = None;
        let mut state = self.queue.lock();
        match self.kind {
            Kind::Write => state.has_writer = false,
            Kind::Read => state.readers -= 1,
        }
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
}

impl Waiter {
    fn is_waiting(&self) -> bool {
        lock(&self.reply).is_some()
    }

    /// Tries once, rather than waits.
    fn only_tries(&self) -> bool {
        self.timeout.is_some_and(|timeout| timeout.is_zero())
    }

    fn settle(&self, outcome: Result<Hold, ErrorKind>) {
        let reply = lock(&self.reply).take();
        // Otherwise the wait is over already, and a lock that came too late is given back.
        if let Some(reply) = reply {
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

/// Who has the lock of a file; the outer `None` when nobody has it.
pub fn inspect(path: &Path) -> Result<Option<Option<Holder>>, Failure> {
    let place = Place::find(path)?;
    kernel::inspect(&place.folder, &place.name, Kind::Write)
        .map_err(|failure| failure.on(&place.path))
}

/// Whether somebody has the lock of a file for writing.
pub fn is_write_locked(path: &Path) -> Result<bool, Failure> {
    let place = Place::find(path)?;
    // What would keep a reader out.
    kernel::inspect(&place.folder, &place.name, Kind::Read)
        .map(|holder| holder.is_some())
        .map_err(|failure| failure.on(&place.path))
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
        state.insert(Arc::clone(waiter));
    }
    drop(state);
    drop(queues);
    drop(arriving);
    for waiter in doomed {
        waiter.settle(Err(ErrorKind::Deadlock(path.clone())));
    }
    queue.pump();
    for waiter in group {
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

struct Queue {
    key: Key,
    folder: Folder,
    name: OsString,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Waiter>>,
    /// What this process has of the lock.
    has_writer: bool,
    readers: usize,
    /// Whether somebody is asking the kernel.
    asking: Asking,
    /// Threads that wait in the kernel, one at most for either kind. Those that nobody is
    /// waiting for any more stay until they have the lock, and give it back.
    waits: Vec<Arc<KernelWait>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Asking {
    #[default]
    Nobody,
    /// Somebody asks, and will have an answer in a moment.
    Once,
    /// A thread waits until the lock is free for this kind.
    Waiting(Kind),
}

impl State {
    /// Puts a waiter in its place in the order of calls.
    fn insert(&mut self, waiter: Arc<Waiter>) {
        let behind = self.waiting.iter().rposition(|other| other.number < waiter.number);
        self.waiting.insert(behind.map_or(0, |index| index + 1), waiter);
    }

    /// The first that still waits.
    fn head(&mut self) -> Option<&Arc<Waiter>> {
        while self.waiting.front().is_some_and(|first| !first.is_waiting()) {
            self.waiting.pop_front();
        }
        self.waiting.front()
    }

    /// Takes those out that do not wait: for them 'not now' is the answer.
    fn take_triers(&mut self) -> Vec<Arc<Waiter>> {
        let (triers, others) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiter| waiter.only_tries());
        self.waiting = others;
        Vec::from(triers)
    }

    fn wait_for(&self, kind: Kind) -> Option<&Arc<KernelWait>> {
        self.waits.iter().find(|wait| wait.kind() == kind)
    }

    fn remove(&mut self, waiter: &Arc<Waiter>) {
        self.waiting.retain(|other| !Arc::ptr_eq(other, waiter));
    }
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
        loop {
            let mut state = self.lock();
            match state.asking {
                Asking::Once => return,
                Asking::Waiting(kind) => {
                    let triers = state.take_triers();
                    // Those whom it was for may have given up.
                    let is_for_nobody = state.head().is_none_or(|head| head.kind != kind);
                    if is_for_nobody {
                        state.asking = Asking::Nobody;
                        state.wait_for(kind).iter().for_each(|wait| wait.stand_aside());
                    }
                    drop(state);
                    self.refuse_triers(triers);
                    if is_for_nobody {
                        continue;
                    }
                    return;
                }
                Asking::Nobody => {}
            }
            let Some(head) = state.head().cloned() else {
                drop(state);
                return self.retire();
            };
            if state.has_writer || (head.kind == Kind::Write && state.readers > 0) {
                // Held in this process: the release comes back here.
                let triers = state.take_triers();
                drop(state);
                return self.refuse_triers(triers);
            }
            state.asking = Asking::Once;
            drop(state);
            match KernelLock::try_acquire(&self.folder, &self.name, head.kind) {
                Ok(Some(lock)) => self.arrived(lock, head.kind),
                Ok(None) => {
                    // Another process has it.
                    let mut state = self.lock();
                    state.asking = Asking::Nobody;
                    let triers = state.take_triers();
                    if let Some(next) = state.head().cloned() {
                        match self.wait_in_kernel(&mut state, next.kind) {
                            Ok(()) => state.asking = Asking::Waiting(next.kind),
                            Err(error) => {
                                state.remove(&next);
                                drop(state);
                                self.refuse_triers(triers);
                                next.settle(Err(Failure::new("pthread_create", error).into()));
                                continue;
                            }
                        }
                    }
                    drop(state);
                    self.refuse_triers(triers);
                }
                Err(failure) => self.failed(&head, failure),
            }
        }
    }

    /// Waits for the lock on a thread of its own, or on one that is waiting for it already.
    fn wait_in_kernel(self: &Arc<Queue>, state: &mut State, kind: Kind) -> std::io::Result<()> {
        if let Some(wait) = state.wait_for(kind) {
            wait.step_back_in();
            return Ok(());
        }
        let wait = Arc::new(KernelWait::new(kind));
        let (queue, own) = (Arc::clone(self), Arc::clone(&wait));
        std::thread::Builder::new().name("holdfast-lock".to_owned()).stack_size(256 * 1024).spawn(
            move || {
                let outcome = own.wait(&queue.folder, &queue.name);
                queue.waited(&own, outcome);
                queue.pump();
            },
        )?;
        state.waits.push(wait);
        Ok(())
    }

    /// Takes what a wait in the kernel has come to.
    fn waited(self: &Arc<Queue>, wait: &Arc<KernelWait>, outcome: Result<KernelLock, Failure>) {
        let mut state = self.lock();
        state.waits.retain(|other| !Arc::ptr_eq(other, wait));
        let is_wanted = state.asking == Asking::Waiting(wait.kind());
        let head = state.head().cloned();
        if is_wanted && (outcome.is_err() || head.is_none()) {
            state.asking = Asking::Nobody;
        }
        drop(state);
        match (outcome, head) {
            (Ok(lock), _) if is_wanted => self.arrived(lock, wait.kind()),
            (Err(failure), Some(head)) if is_wanted => self.failed(&head, failure),
            // For nobody: a lock is given back.
            (outcome, _) => drop(outcome),
        }
    }

    /// Hands out a lock that the kernel has given.
    fn arrived(self: &Arc<Queue>, mut kernel: KernelLock, kind: Kind) {
        let mut state = self.lock();
        state.asking = Asking::Nobody;
        let Some(head) = state.head().cloned() else {
            // Everybody has given up. The state is unlocked first: giving a lock back
            // takes system calls.
            drop(state);
            return drop(kernel);
        };
        if kind == Kind::Read && head.kind == Kind::Write {
            // Those who wanted to read have given up. `pump` asks again.
            drop(state);
            return drop(kernel);
        }
        if kind == Kind::Write
            && head.kind == Kind::Read
            && let Err(failure) = kernel.downgrade()
        {
            drop(state);
            drop(kernel);
            return self.failed(&head, failure);
        }
        let mut served = Vec::new();
        if head.kind == Kind::Write {
            state.has_writer = true;
            served.extend(state.waiting.pop_front());
        } else {
            // The readers at the head go together.
            while state.head().is_some_and(|next| next.kind == Kind::Read) {
                served.extend(state.waiting.pop_front());
            }
            state.readers += served.len();
        }
        drop(state);
        let kernel = Arc::new(kernel);
        let hold = |kernel| Hold { queue: Arc::clone(self), kernel: Some(kernel), kind: head.kind };
        let holds: Vec<Hold> = served.iter().map(|_| hold(Arc::clone(&kernel))).collect();
        // From here on the lock is theirs alone: it is free when they have dropped it.
        drop(kernel);
        for (waiter, hold) in served.into_iter().zip(holds) {
            waiter.settle(Ok(hold));
        }
    }

    fn failed(&self, head: &Arc<Waiter>, failure: Failure) {
        let mut state = self.lock();
        state.asking = Asking::Nobody;
        state.remove(head);
        drop(state);
        head.settle(Err(failure.on(&self.path).into()));
    }

    fn refuse_triers(&self, triers: Vec<Arc<Waiter>>) {
        for trier in triers {
            trier.settle(Err(self.locked(&trier)));
        }
    }

    /// The error for somebody who has not got the lock in time.
    fn locked(&self, waiter: &Waiter) -> ErrorKind {
        let state = self.lock();
        let in_this_process = state.has_writer || state.readers > 0;
        drop(state);
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
        let mut state = self.lock();
        let is_idle = state.asking == Asking::Nobody
            && state.waits.is_empty()
            && !state.has_writer
            && state.readers == 0
            && state.head().is_none();
        if is_idle && queues.get(&self.key).is_some_and(|known| Arc::ptr_eq(known, self)) {
            queues.remove(&self.key);
        }
    }
}
