//! The way into a transaction: the locks of all its files, and what others have left unfinished
//! there.
//!
//! The locks are taken one after the other in an order that is the same in every process, that
//! of the directories' numbers and then of the names: so of two that want the same files, in
//! whatever order they name them, one has the first lock that both want, and the other waits
//! without holding any that comes later.
//!
//! A transaction that died and names one of these files is settled before anything else. It may
//! name others, too, whose locks are not held. Then all are given back and taken anew with
//! those, in the same order.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::record_lock::unfinished;
use super::roll::{self, Decision, Guard, Outcome, Verdict, settle};
use crate::error::{Deadlock, ErrorKind, Failure, Unsettled};
use crate::fs::DirUse;
use crate::fs::os::Os;
use crate::lock::{self, FileKey, HeldLocks, LockGuard, LockKind, Reservation, Waiter};
use crate::mutex::guard;
use crate::resolve;
use crate::threads::Pool;
use crate::threads::task::OnceCallback;
use crate::write::{Durability, make_parents};

/// How long it takes until somebody who settles a transaction is asked again.
const PAUSE: Duration = Duration::from_millis(5);

/// What is asked for.
pub struct Begin {
    /// The files, absolute.
    pub paths: Vec<PathBuf>,
    /// Whether to make the directories that they are in, and how durably.
    pub make_dirs: Option<Durability>,
    /// How long to wait for all locks together; zero to try once, `None` for ever.
    pub timeout: Option<Duration>,
    /// The locks that the caller holds already.
    pub held: HeldLocks,
    /// Declares that files may be changed from now on.
    pub start: Start,
}

/// Declares that something begins, which lasts until what this gives is dropped; `None` when
/// nobody is left to wait for it, and with them the locks that they hold.
pub type Start = Box<dyn Fn() -> Option<Box<dyn Any + Send>> + Send>;

/// What comes of it.
pub struct Begun {
    /// The locks that were taken or borrowed.
    pub holds: Vec<LockGuard>,
    /// For each path the number of the first path that leads to the same file.
    pub places: Vec<usize>,
    /// What became of transactions that had not been finished.
    pub settled: Vec<Decision>,
}

/// Why it did not come to that, and at which of the paths, if it was one.
pub type Refusal = (ErrorKind, Option<PathBuf>);

/// Takes the outcome; the error is that of a thread that could not be started.
pub type Outcomes = Result<Result<Begun, Refusal>, ErrorKind>;

type Reply = Box<dyn FnOnce(Outcomes) + Send>;

/// Somebody who waits for a transaction to begin.
#[derive(Default)]
pub struct Waiting {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_cancelled: bool,
    /// The lock that is waited for, and the how manieth it is.
    waiter: Option<(u64, Arc<Waiter>)>,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, State> {
        guard(&self.state)
    }

    /// Ends the wait, unless it is over already.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.is_cancelled = true;
        let waiter = state.waiter.take();
        drop(state);
        if let Some((_, waiter)) = waiter {
            waiter.cancel();
        }
    }

    fn is_cancelled(&self) -> bool {
        self.lock().is_cancelled
    }

    fn waits_for(&self, step: u64, waiter: Arc<Waiter>) {
        let mut state = self.lock();
        if state.is_cancelled {
            drop(state);
            return waiter.cancel();
        }
        // The lock may have come already, and the next one be asked for.
        if state.waiter.as_ref().is_none_or(|(other, _)| *other < step) {
            state.waiter = Some((step, waiter));
        }
    }
}

/// Takes the locks, and settles what has to be settled. The outcome goes to `answer`.
pub fn begin(
    pool: &Pool,
    begin: Begin,
    answer: impl FnOnce(Outcomes) + Send + 'static,
) -> Arc<Waiting> {
    let waiting = Arc::new(Waiting::default());
    let reply: Reply = Box::new(answer);
    let round = Round {
        pool: pool.clone(),
        paths: begin.paths,
        make_dirs: begin.make_dirs,
        others: Vec::new(),
        inside: begin.held.kinds().collect(),
        held: Some(begin.held),
        borrowed: Vec::new(),
        changes: begin.start,
        timeout: begin.timeout,
        deadline: begin.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        waiting: Arc::clone(&waiting),
        step: 0,
        wanted: VecDeque::new(),
        holds: Vec::new(),
        places: Vec::new(),
        settled: Vec::new(),
        answer: OnceCallback::new(reply),
    };
    round.on_a_thread(Round::start);
    waiting
}

/// One that is on its way.
struct Round {
    pool: Pool,
    paths: Vec<PathBuf>,
    make_dirs: Option<Durability>,
    /// Files of a transaction that has to be settled first.
    others: Vec<PathBuf>,
    inside: HashMap<FileKey, LockKind>,
    /// The caller's locks, until those of the files are borrowed.
    held: Option<HeldLocks>,
    borrowed: Vec<LockGuard>,
    changes: Start,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    waiting: Arc<Waiting>,
    step: u64,
    /// The locks that are still to be taken, in order.
    wanted: VecDeque<PathBuf>,
    holds: Vec<LockGuard>,
    places: Vec<usize>,
    settled: Vec<Decision>,
    answer: OnceCallback<Reply, Result<Begun, Refusal>>,
}

impl Round {
    /// Goes on on one of holdfast's threads: wherever this is called, nothing there may wait for
    /// a disk. If there is no thread, everything is given back, and the answer says so.
    fn on_a_thread(self, go_on: fn(Round)) {
        let pool = self.pool.clone();
        let _ = pool.submit(Box::new(move || go_on(self)));
    }

    fn fail(self, mut kind: ErrorKind, path: Option<PathBuf>) {
        let Round { holds, borrowed, answer, timeout, .. } = self;
        drop((holds, borrowed));
        if let ErrorKind::Locked(contention) = &mut kind {
            // For all of them together, not for the last one alone.
            contention.waited = timeout.filter(|timeout| !timeout.is_zero());
        }
        answer.call(Ok(Err((kind, path))));
    }

    /// Finds out which locks there are to take.
    fn start(mut self) {
        if let Some(durability) = self.make_dirs.take() {
            for path in &self.paths {
                if let Err(failure) = make_parents(&Os, path, durability) {
                    let path = path.clone();
                    return self.fail(failure.into(), Some(path));
                }
            }
        }
        let mut first_with = HashMap::new();
        let mut keys = Vec::new();
        self.places.clear();
        for (number, path) in self.paths.iter().enumerate() {
            let key = match lock::key_of(path) {
                Ok(key) => key,
                Err(failure) => {
                    let path = path.clone();
                    return self.fail(failure.into(), Some(path));
                }
            };
            self.places.push(*first_with.entry(key.clone()).or_insert(number));
            keys.push((key, path.clone()));
        }
        if let Some(held) = self.held.take() {
            return match claim(held, &keys) {
                Ok(reservations) => self.borrow(reservations, keys),
                Err(kind) => self.fail(kind, None),
            };
        }
        self.choose(keys);
    }

    /// Waits until the operations are over that the caller has started before under its locks.
    fn borrow(mut self, mut reservations: VecDeque<Reservation>, keys: Vec<(FileKey, PathBuf)>) {
        let Some(reservation) = reservations.pop_front() else {
            if !self.borrowed.is_empty() {
                self.deadline =
                    self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            }
            return self.choose(keys);
        };
        reservation.when_first(move |outcome| match outcome {
            Ok(guard) => {
                self.borrowed.push(guard);
                self.borrow(reservations, keys);
            }
            Err(kind) => self.fail(kind, None),
        });
    }

    /// Says which locks are to be taken, and in which order.
    fn choose(mut self, mut keys: Vec<(FileKey, PathBuf)>) {
        // What of the others cannot be found will be reported by whoever settles it.
        let found = |path: &PathBuf| Some((lock::key_of(path).ok()?, path.clone()));
        keys.extend(self.others.iter().filter_map(found));
        let mut wanted = BTreeMap::new();
        for (key, path) in keys {
            match self.inside.get(&key) {
                Some(LockKind::Write) => {}
                // It would have to be given back first.
                Some(LockKind::Read) => {
                    return self.fail(Deadlock::Held(path.clone()).into(), Some(path));
                }
                None => {
                    wanted.entry(key).or_insert(path);
                }
            }
        }
        self.wanted = wanted.into_values().collect();
        self.next();
    }

    /// Takes the next lock.
    fn next(mut self) {
        if self.waiting.is_cancelled() {
            return self.fail(ErrorKind::Cancelled, None);
        }
        let Some(path) = self.wanted.pop_front() else { return self.on_a_thread(Round::settle) };
        self.step += 1;
        let (waiting, step) = (Arc::clone(&self.waiting), self.step);
        let (pool, own_pool) = (self.pool.clone(), self.pool.clone());
        let request = lock::LockRequest {
            path: path.clone(),
            kind: LockKind::Write,
            timeout: self.left(),
            held: self.inside.clone().into_iter().collect(),
            before: None,
        };
        let reply = move |granted: Result<LockGuard, ErrorKind>| match granted {
            Ok(hold) => {
                self.holds.push(hold);
                self.next();
            }
            Err(kind) => {
                // This may be JavaScript's thread, and giving locks back takes system calls.
                let _ = own_pool.submit(Box::new(move || self.fail(kind, Some(path))));
            }
        };
        let waiter = lock::acquire(&pool, request, Box::new(reply));
        waiting.waits_for(step, waiter);
    }

    fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Settles what others have left, with all locks held.
    fn settle(mut self) {
        let Some(_started) = (self.changes)() else { return self.fail(ErrorKind::Cancelled, None) };
        let mut wanted: BTreeMap<PathBuf, HashSet<OsString>> = BTreeMap::new();
        for path in &self.paths {
            match resolve::target(&Os, path, true, DirUse::Names) {
                Ok(target) => {
                    wanted.entry(target.dir.path().to_owned()).or_default().insert(target.name);
                }
                Err(failure) => {
                    let path = path.clone();
                    return self.fail(failure.into(), Some(path));
                }
            }
        }
        for (dir, names) in &wanted {
            let found = match unfinished(&Os, dir) {
                Ok(found) => found,
                Err(failure) => return self.fail(failure.into(), None),
            };
            for transaction in found {
                if !names.iter().any(|name| transaction.names(name)) {
                    continue;
                }
                match self.settle_one(dir, transaction.id) {
                    Ok(Settled::Yes) => {}
                    Ok(Settled::NeedsLocks(others)) => {
                        self.others = others;
                        self.holds.clear();
                        return self.start();
                    }
                    Ok(Settled::InUse) if self.left().is_none_or(|left| !left.is_zero()) => {
                        // Somebody is settling it at this moment, and may want our locks for it.
                        self.holds.clear();
                        let pool = self.pool.clone();
                        let _ = pool.submit_after(PAUSE, Box::new(move || self.start()));
                        return;
                    }
                    Ok(Settled::InUse) => {
                        let reason = "somebody else is finishing it".to_owned();
                        let kind = Unsettled { path: transaction.path, reason }.into();
                        return self.fail(kind, None);
                    }
                    Ok(Settled::No(reason)) => {
                        let kind = Unsettled { path: transaction.path, reason }.into();
                        return self.fail(kind, None);
                    }
                    Err(failure) => return self.fail(failure.into(), None),
                }
            }
        }
        let Round { holds, mut borrowed, places, settled, answer, paths, .. } = self;
        // Those of the files of others are not needed any more.
        let own: HashSet<FileKey> =
            paths.iter().filter_map(|path| lock::key_of(path).ok()).collect();
        borrowed.extend(holds.into_iter().filter(|hold| own.contains(hold.key())));
        answer.call(Ok(Ok(Begun { holds: borrowed, places, settled })));
    }

    fn settle_one(&mut self, dir: &Path, id: super::names::Id) -> Result<Settled, Failure> {
        let held: HashSet<&FileKey> = self.holds.iter().map(LockGuard::key).collect();
        let is_held = |key: &FileKey| {
            held.contains(key) || matches!(self.inside.get(key), Some(LockKind::Write))
        };
        let others = RefCell::new(Vec::new());
        let locks = |paths: &[PathBuf]| -> Result<Option<Guard>, Failure> {
            let mut others = others.borrow_mut();
            for path in paths {
                if !is_held(&lock::key_of(path)?) {
                    others.push(path.clone());
                }
            }
            Ok(others.is_empty().then(|| -> Guard { Box::new(()) }))
        };
        let options = roll::Options { dry_run: false, locks: &locks };
        let mut report = Vec::new();
        let outcome = settle(&Os, dir, id, options, &mut report)?;
        let settled = match outcome {
            Outcome::Settled => Settled::Yes,
            Outcome::InUse => match others.take() {
                others if others.is_empty() => Settled::InUse,
                others => Settled::NeedsLocks(others),
            },
            Outcome::Stuck => {
                let reason = report.iter().rev().find(|said| said.verdict == Verdict::Left);
                Settled::No(reason.map_or_else(String::new, |said| said.reason.clone()))
            }
        };
        let done = report.into_iter().filter(|said| said.verdict != Verdict::Left);
        self.settled.extend(done);
        Ok(settled)
    }
}

/// The turns of the transaction under those of the caller's locks that are locks of its files. The
/// others are free for what the caller starts next.
fn claim(
    mut held: HeldLocks,
    keys: &[(FileKey, PathBuf)],
) -> Result<VecDeque<Reservation>, ErrorKind> {
    let mut reservations = VecDeque::new();
    for (key, path) in keys {
        reservations.extend(held.claim(key, path)?);
    }
    Ok(reservations)
}

/// What came of a transaction that concerns these files.
enum Settled {
    Yes,
    /// These are files of it, and have to be locked for it.
    NeedsLocks(Vec<PathBuf>),
    InUse,
    No(String),
}
