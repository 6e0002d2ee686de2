//! Who gets a lock next in this process.
//!
//! There is one [`Queue`] for each lock that somebody in this process holds or wants. On behalf
//! of the waiter at its head it is tried again and again to take the lock, at intervals that
//! grow up to a limit and are never quite the same; no thread is held in between.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::dir::{self, Heartbeat, LockDirPath, SETTLING, TryLockOutcome};
use super::heartbeat::{Beating, OnLoss};
use super::remove_at_exit::Guarded;
use super::{LockfileKey, Naming, Rules};
use crate::error::Code;
use crate::error::{Contention, Deadlock, ErrorKind, Failure};
use crate::fs::DirUse;
use crate::fs::os::Os;
use crate::lock::Before;
use crate::lock::lock_path::target_of;
use crate::metrics::{LockCall, LockHeld};
use crate::mutex::guard;
use crate::resolve;
use crate::threads::Pool;
use crate::threads::task::no_thread;
use crate::vocabulary::LockKind;

/// What is asked for.
pub struct LockfileRequest {
    /// Which lock.
    pub naming: Naming,
    /// When it counts as abandoned, and how often it is kept from that.
    pub rules: Rules,
    /// How long to wait; zero to try once, `None` for ever.
    pub timeout: Option<Duration>,
    /// The locks that the caller holds: waiting for one of them would never end.
    pub inside: Vec<LockfileKey>,
    /// What is to happen first, if anything.
    pub before: Option<Before>,
}

/// Takes the outcome: the lock, or why there is none.
pub type Reply = Box<dyn FnOnce(Result<LockfileGuard, ErrorKind>) + Send>;

/// A lock that is held. Dropping it gives the lock back.
pub struct LockfileGuard {
    queue: Arc<Queue>,
    beating: Arc<Beating>,
    file: Option<PathBuf>,
    is_released: bool,
    _counted: LockHeld,
}

impl LockfileGuard {
    /// Which lock it is.
    pub fn key(&self) -> &LockfileKey {
        &self.queue.key
    }

    /// The file's real path, where it was asked for.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Has somebody told should the lock be lost.
    pub fn on_loss(&self, on_loss: OnLoss) {
        self.beating.on_loss(on_loss);
    }

    /// Makes others take the lock for held for so much longer, whatever becomes of this process.
    pub fn extend(&self, by: Duration) -> Result<(), ErrorKind> {
        self.beating.extend(by)
    }

    /// Gives the lock back.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Lost`] when it had been lost, and what the system refuses. The lock is not
    /// held any more in either case.
    pub fn release(mut self) -> Result<(), ErrorKind> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), ErrorKind> {
        if std::mem::replace(&mut self.is_released, true) {
            return Ok(());
        }
        let outcome = self.beating.stop();
        self.queue.lock().is_held = false;
        self.queue.pump();
        outcome
    }
}

impl Drop for LockfileGuard {
    fn drop(&mut self) {
        // Nobody is there to be told.
        let _ = self.finish();
    }
}

/// Somebody who waits for a lock.
pub struct Waiter {
    rules: Rules,
    timeout: Option<Duration>,
    since: Instant,
    /// The order of calls, in which waiters are served.
    number: u64,
    file: OnceLock<PathBuf>,
    /// Taken by whoever settles the wait, so that this happens once.
    reply: Mutex<Option<Reply>>,
    queue: OnceLock<Weak<Queue>>,
    counted: LockCall,
}

impl Waiter {
    fn new(request: &LockfileRequest, reply: Reply) -> Arc<Waiter> {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        Arc::new(Waiter {
            rules: request.rules,
            timeout: request.timeout,
            since: Instant::now(),
            number: CALLS.fetch_add(1, Ordering::Relaxed),
            file: OnceLock::new(),
            reply: Mutex::new(Some(reply)),
            queue: OnceLock::new(),
            counted: LockCall::new(request.naming.path.clone(), LockKind::Write),
        })
    }

    fn is_waiting(&self) -> bool {
        guard(&self.reply).is_some()
    }

    fn only_tries(&self) -> bool {
        self.timeout.is_some_and(|timeout| timeout.is_zero())
    }

    fn settle(&self, outcome: Result<LockfileGuard, ErrorKind>) {
        let reply = guard(&self.reply).take();
        // Otherwise the wait is over already, and a lock that came too late is given back.
        if let Some(reply) = reply {
            self.counted.ended(&outcome);
            reply(outcome);
        }
    }

    /// Ends the wait without a lock, unless it is over already. Whoever tries to take the lock
    /// finds out.
    pub fn cancel(&self) {
        self.settle(Err(ErrorKind::Cancelled));
    }

    fn time_out(&self) {
        if let Some(queue) = self.queue.get().and_then(Weak::upgrade) {
            self.settle(Err(queue.locked(self.timeout)));
        }
    }
}

/// Asks for a lock. The outcome goes to `reply`, on some thread; the waiter can be cancelled.
pub fn acquire(pool: &Pool, request: LockfileRequest, reply: Reply) -> Arc<Waiter> {
    let waiter = Waiter::new(&request, reply);
    let (own, own_pool) = (Arc::clone(&waiter), pool.clone());
    if pool.submit(Box::new(move || enter(&own_pool, &own, request))).is_err() {
        waiter.settle(Err(no_thread()));
    }
    waiter
}

/// Takes a lock if it is free now, on this thread.
pub fn acquire_here(pool: &Pool, request: LockfileRequest) -> Result<LockfileGuard, ErrorKind> {
    let outcome = Arc::new(Mutex::new(None));
    let place = Arc::clone(&outcome);
    let request = LockfileRequest { timeout: Some(Duration::ZERO), ..request };
    let waiter = Waiter::new(&request, Box::new(move |given| *guard(&place) = Some(given)));
    let Some(queue) = arrive(pool, &waiter, request) else {
        return guard(&outcome).take().unwrap_or_else(|| Err(no_thread()));
    };
    queue.pump_here();
    // Still under way when it is being taken over for somebody else.
    waiter.time_out();
    guard(&outcome).take().unwrap_or_else(|| Err(no_thread()))
}

/// Whether somebody holds a lock.
pub fn inspect(naming: &Naming, stale: Duration) -> Result<bool, Failure> {
    match Found::of(naming) {
        Ok(found) => dir::is_held(&Os, &found.place, stale, SystemTime::now()),
        // There is nothing where the lock is said to be. That the file is missing is an error.
        Err(failure) if naming.dir.is_some() && failure.syscall == "open" => match failure.code() {
            Some(Code::ENOENT) => Ok(false),
            _ => Err(failure),
        },
        Err(failure) => Err(failure),
    }
}

/// Which lock it is, and the file's real path, where that is asked for.
pub fn locate(naming: &Naming) -> Result<(LockfileKey, Option<PathBuf>), Failure> {
    Found::of(naming).map(|found| (found.key, found.file))
}

static QUEUES: LazyLock<Mutex<HashMap<LockfileKey, Arc<Queue>>>> = LazyLock::new(Mutex::default);

struct Found {
    place: LockDirPath<Os>,
    key: LockfileKey,
    file: Option<PathBuf>,
}

impl Found {
    fn of(naming: &Naming) -> Result<Found, Failure> {
        let Naming { path, dir, follow_symlinks, must_exist } = naming;
        let mut file = None;
        let target = if *must_exist {
            let real = std::fs::canonicalize(path)
                .map_err(|error| Failure::at("realpath", path, error))?;
            file = Some(real.clone());
            resolve::target(&Os, &real, false, DirUse::Names)
        } else if *follow_symlinks {
            target_of(path)
        } else {
            resolve::target(&Os, path, false, DirUse::Names)
        };
        // Where the lock is said to be elsewhere, it does not matter what the file is.
        let (parent, name) = match dir {
            None => {
                let target = target?;
                let mut name = target.name;
                name.push(".lock");
                (target.dir, name)
            }
            Some(dir) => {
                let target = resolve::target(&Os, dir, false, DirUse::Names)?;
                (target.dir, target.name)
            }
        };
        let id = parent.metadata()?.id;
        let (parent, parent_path) = parent.into_parts();
        Ok(Found {
            key: LockfileKey(id, name.clone()),
            place: LockDirPath { parent, parent_path, name },
            file,
        })
    }
}

/// Brings a caller to his queue.
fn enter(pool: &Pool, waiter: &Arc<Waiter>, request: LockfileRequest) {
    let Some(queue) = arrive(pool, waiter, request) else { return };
    queue.pump();
    if waiter.is_waiting() {
        waiter.counted.waits();
    }
    // A timer is needed only by those who have not got it at once.
    if let Some(timeout) = waiter.timeout
        && !timeout.is_zero()
        && waiter.is_waiting()
    {
        let left = timeout.saturating_sub(waiter.since.elapsed());
        let own = Arc::clone(waiter);
        let _ = pool.submit_after(left, Box::new(move || own.time_out()));
    }
}

/// The queue that a caller has been put into; `None` when he has had his answer.
fn arrive(pool: &Pool, waiter: &Arc<Waiter>, request: LockfileRequest) -> Option<Arc<Queue>> {
    let found = match request.before.map_or(Ok(()), |before| before()) {
        Ok(()) => Found::of(&request.naming),
        Err(failure) => Err(failure),
    };
    let Found { place, key, file } = match found {
        Ok(found) => found,
        Err(failure) => {
            waiter.settle(Err(failure.into()));
            return None;
        }
    };
    if request.inside.contains(&key) {
        waiter.settle(Err(Deadlock::Held(place.path()).into()));
        return None;
    }
    if let Some(file) = file {
        let _ = waiter.file.set(file);
    }
    let mut queues = guard(&QUEUES);
    let queue = queues.entry(key.clone()).or_insert_with(|| {
        let (place, pool) = (Arc::new(place), pool.clone());
        Arc::new(Queue { key, place, pool, state: Mutex::default() })
    });
    let queue = Arc::clone(queue);
    let _ = waiter.queue.set(Arc::downgrade(&queue));
    let mut state = queue.lock();
    let index = state.waiting.partition_point(|other| other.number < waiter.number);
    state.waiting.insert(index, Arc::clone(waiter));
    drop(state);
    drop(queues);
    Some(queue)
}

struct Queue {
    key: LockfileKey,
    place: Arc<LockDirPath<Os>>,
    pool: Pool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Waiter>>,
    is_held: bool,
    /// Whether it is being tried to take the lock, or will be in a moment.
    is_asking: bool,
    /// How often it was in vain since somebody last had it.
    attempts: u32,
}

/// Between the first two attempts, and between later ones.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(16);

impl State {
    /// Who is next; those who have given up are left out.
    fn head(&mut self) -> Option<Arc<Waiter>> {
        self.waiting.retain(|waiter| waiter.is_waiting());
        self.waiting.front().cloned()
    }

    fn take_triers(&mut self) -> Vec<Arc<Waiter>> {
        let all = std::mem::take(&mut self.waiting);
        let (triers, others) = all.into_iter().partition(|waiter| waiter.only_tries());
        self.waiting = others;
        Vec::from(triers)
    }

    /// How long to wait before the next attempt. Those who wait together shall not try together.
    fn pause(&mut self) -> Duration {
        let longest = SHORTEST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        longest.mul_f64(rand::random_range(0.5..1.0))
    }
}

/// What is to be done next.
enum Next {
    Nothing,
    /// Ask who is next.
    Again,
    /// See whether what was taken over is still ours, after a while.
    Settle(Arc<Waiter>, Guarded),
    /// Try once more, after a while.
    Pause(Duration),
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        guard(&self.state)
    }

    /// Sees to it that whoever is next gets the lock. Called whenever something has changed.
    fn pump(self: &Arc<Queue>) {
        self.go_on(Next::Again);
    }

    fn go_on(self: &Arc<Queue>, mut next: Next) {
        loop {
            let (after, job): (Duration, crate::threads::Job) = match next {
                Next::Nothing => return,
                Next::Again => {
                    next = self.step();
                    continue;
                }
                Next::Pause(pause) => {
                    let queue = Arc::clone(self);
                    (pause, Box::new(move || queue.resume()))
                }
                Next::Settle(head, own) => {
                    let queue = Arc::clone(self);
                    let job = move || {
                        let next = queue.settled(&head, own);
                        queue.go_on(next);
                    };
                    (SETTLING, Box::new(job))
                }
            };
            if self.pool.submit_after(after, job).is_ok() {
                return;
            }
            let mut state = self.lock();
            state.is_asking = false;
            let all = std::mem::take(&mut state.waiting);
            drop(state);
            all.into_iter().for_each(|waiter| waiter.settle(Err(no_thread())));
            next = Next::Again;
        }
    }

    /// The same on this thread, which sleeps while what was taken over settles.
    fn pump_here(self: &Arc<Queue>) {
        match self.step() {
            Next::Settle(head, own) => {
                std::thread::sleep(SETTLING);
                let next = self.settled(&head, own);
                self.go_on(next);
            }
            next => self.go_on(next),
        }
    }

    fn resume(self: &Arc<Queue>) {
        self.lock().is_asking = false;
        self.pump();
    }

    fn step(self: &Arc<Queue>) -> Next {
        let mut state = self.lock();
        if state.is_held || state.is_asking {
            let triers = state.take_triers();
            drop(state);
            self.refuse(triers);
            return Next::Nothing;
        }
        let Some(head) = state.head() else {
            drop(state);
            self.retire();
            return Next::Nothing;
        };
        state.is_asking = true;
        drop(state);
        match dir::try_lock(&Os, &self.place, head.rules.stale, SystemTime::now()) {
            Ok(TryLockOutcome::Acquired(owned)) => self.arrived(Guarded::new(owned, &self.place)),
            Ok(TryLockOutcome::TakenOver(owned)) => {
                Next::Settle(head, Guarded::new(owned, &self.place))
            }
            Ok(TryLockOutcome::Held) => self.in_vain(),
            Err(failure) => {
                let mut state = self.lock();
                state.is_asking = false;
                state.waiting.retain(|waiter| !Arc::ptr_eq(waiter, &head));
                drop(state);
                head.settle(Err(failure.into()));
                Next::Again
            }
        }
    }

    /// Somebody else has it.
    fn in_vain(self: &Arc<Queue>) -> Next {
        let mut state = self.lock();
        let triers = state.take_triers();
        let next = match state.head() {
            Some(_) => Next::Pause(state.pause()),
            None => {
                state.is_asking = false;
                Next::Again
            }
        };
        drop(state);
        self.refuse(triers);
        next
    }

    /// What was taken over has had time to show whether it is ours.
    fn settled(self: &Arc<Queue>, head: &Waiter, mut own: Guarded) -> Next {
        let now = SystemTime::now();
        match own.owned.beat(&Os, &self.place, head.rules.stale, now, now) {
            Heartbeat::Kept => self.arrived(own),
            Heartbeat::Lost(_) => self.in_vain(),
            Heartbeat::Failing(_) => {
                let _ = own.owned.release(&Os, &self.place);
                self.in_vain()
            }
        }
    }

    /// Hands out a lock that has been taken.
    fn arrived(self: &Arc<Queue>, own: Guarded) -> Next {
        let mut state = self.lock();
        state.is_asking = false;
        state.attempts = 0;
        let Some(head) = state.head() else {
            drop(state);
            // Everybody has given up.
            let _ = own.owned.release(&Os, &self.place);
            return Next::Again;
        };
        state.waiting.pop_front();
        state.is_held = true;
        drop(state);
        let Rules { stale, update } = head.rules;
        match Beating::start(Arc::clone(&self.place), own, stale, update) {
            Ok(beating) => head.settle(Ok(LockfileGuard {
                queue: Arc::clone(self),
                beating,
                file: head.file.get().cloned(),
                is_released: false,
                _counted: LockHeld::new(LockKind::Write),
            })),
            Err((error, own)) => {
                let _ = own.map(|own| own.owned.release(&Os, &self.place));
                self.lock().is_held = false;
                head.settle(Err(Failure::new("pthread_create", error).into()));
                return Next::Again;
            }
        }
        // Those that only try, and came behind him.
        Next::Again
    }

    fn refuse(&self, triers: Vec<Arc<Waiter>>) {
        for trier in triers {
            trier.settle(Err(self.locked(None)));
        }
    }

    /// The error for somebody who has not got the lock in time.
    fn locked(&self, timeout: Option<Duration>) -> ErrorKind {
        ErrorKind::Locked(Box::new(Contention {
            path: self.place.path(),
            waited: timeout.filter(|timeout| !timeout.is_zero()),
            holder: None,
            in_this_process: self.lock().is_held,
        }))
    }

    /// Forgets the queue when nobody holds or wants the lock any more.
    fn retire(self: &Arc<Queue>) {
        let mut queues = guard(&QUEUES);
        let mut state = self.lock();
        let is_idle = !state.is_held && !state.is_asking && state.head().is_none();
        if is_idle && queues.get(&self.key).is_some_and(|known| Arc::ptr_eq(known, self)) {
            queues.remove(&self.key);
        }
    }
}
