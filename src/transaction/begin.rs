//! The way into a transaction: the locks of all its files, and the completion of what dead
//! processes have left unfinished there.
//!
//! The locks are taken one after the other in an order that is the same in every process, that
//! of the directories' numbers and then of the names ([`in_order`]). So of two transactions that want the same
//! files, in whatever order they name them, one has the first lock that both want, and the other
//! waits without holding any that comes later.
//!
//! A transaction that died and changes one of these files is completed before anything else. It
//! may change other files, too, whose locks are not held. Then all locks are released and taken
//! again together with those, in the same order.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lock_in_order::{BeginWaiter, LockSequence, LockedFiles, borrow_all, left};
use super::lock_order::in_order;
use super::roll::{Completion, RollLocks, RollOptions, RollResult, RolledFile, roll};
use super::unfinished::{Unfinished, unfinished};
use crate::descriptors::{self, Need, Permit, SharedPermit, is_short, patience};
use crate::error::{Deadlock, ErrorKind, Failure, Unsettled};
use crate::fs::os::Os;
use crate::fs::{DirUse, FileId};
use crate::lock::{self, FileKey, HeldLocks, LockGuard, LockKind, Reservation};
use crate::resolve;
use crate::threads::Pool;
use crate::threads::task::OnceCallback;
use crate::write::{Durability, make_parents};

/// How long to wait before looking again at a transaction that another process is completing.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// How long to wait after the system has refused to open another file.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(20);

/// A transaction that is to begin.
pub struct BeginRequest {
    /// The files, absolute.
    pub paths: Vec<PathBuf>,
    /// Whether to make the directories that they are in, and how durably.
    pub make_dirs: Option<Durability>,
    /// How long to wait for all locks together; zero to try once, `None` for ever.
    pub timeout: Option<Duration>,
    /// The locks that the caller holds already.
    pub held: HeldLocks,
    /// Declares that files may be changed from now on.
    pub start: StartChanges,
}

/// Declares that files may be changed until what this gives is dropped; `None` when the caller is
/// gone, and with it the locks that it holds.
pub type StartChanges = Box<dyn Fn() -> Option<Box<dyn Any + Send>> + Send>;

/// A transaction that has begun.
pub struct BegunTransaction {
    /// The locks that were borrowed or taken.
    pub locks: Vec<LockGuard>,
    /// For each path the number of the first path that leads to the same file.
    pub first_paths: Vec<usize>,
    /// For each path the number of its lock among `locks`.
    pub lock_of: Vec<Option<usize>>,
    /// What became of transactions that had not been completed.
    pub rolled: Vec<RolledFile>,
}

/// Why a transaction could not begin, and at which of its paths, if it was one.
pub struct BeginError {
    /// Why.
    pub kind: ErrorKind,
    /// The path.
    pub path: Option<PathBuf>,
}

impl BeginError {
    fn at(path: &Path, kind: impl Into<ErrorKind>) -> BeginError {
        BeginError { kind: kind.into(), path: Some(path.to_owned()) }
    }
}

impl<K: Into<ErrorKind>> From<K> for BeginError {
    fn from(kind: K) -> BeginError {
        BeginError { kind: kind.into(), path: None }
    }
}

type BeginResult = Result<BegunTransaction, BeginError>;

/// Takes the locks, and completes what has to be completed. The outcome goes to `answer`, on one
/// of the pool's threads; the waiter can be cancelled.
pub fn begin(
    pool: &Pool,
    request: BeginRequest,
    answer: impl FnOnce(BeginResult) + Send + 'static,
) -> Arc<BeginWaiter> {
    let waiter = Arc::new(BeginWaiter::default());
    let reply: BeginReply =
        Box::new(|outcome| answer(outcome.unwrap_or_else(|refused| Err(refused.into()))));
    let begin = Begin {
        pool: pool.clone(),
        paths: request.paths,
        make_dirs: request.make_dirs,
        start: request.start,
        timeout: request.timeout,
        deadline: deadline_after(request.timeout),
        inside: request.held.kinds().collect(),
        depth: request.held.depth(),
        short_since: None,
        held: Some(request.held),
        borrowed: Vec::new(),
        others: Vec::new(),
        rolled: Vec::new(),
        waiter: Arc::clone(&waiter),
        answer: OnceCallback::new(reply),
    };
    let _ = pool.submit(Box::new(move || begin.attempt()));
    waiter
}

type BeginReply = Box<dyn FnOnce(Result<BeginResult, ErrorKind>) + Send>;

/// A transaction on its way to its beginning.
struct Begin {
    pool: Pool,
    paths: Vec<PathBuf>,
    make_dirs: Option<Durability>,
    start: StartChanges,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    inside: HashMap<FileKey, LockKind>,
    /// See [`crate::descriptors`].
    depth: u32,
    /// Since when the system has refused to open another file.
    short_since: Option<Instant>,
    /// The caller's locks, until those of the files are borrowed.
    held: Option<HeldLocks>,
    borrowed: Vec<LockGuard>,
    /// Files of an unfinished transaction whose locks are needed to complete it.
    others: Vec<(FileKey, PathBuf)>,
    rolled: Vec<RolledFile>,
    waiter: Arc<BeginWaiter>,
    answer: OnceCallback<BeginReply, BeginResult>,
}

/// The files that the paths lead to.
struct ResolvedPaths {
    /// The keys and the paths, in the order of the paths.
    own: Vec<(FileKey, PathBuf)>,
    /// For each path the number of the first path with the same key.
    first_paths: Vec<usize>,
}

/// What came of one attempt.
enum BeginAttempt {
    Begun(BegunTransaction),
    /// All locks that were taken are released again, and the next attempt follows after this time.
    Again(Duration),
}

impl Begin {
    /// One attempt, on one of the pool's threads. Nothing here waits for a lock: what follows on
    /// locks is called when they are held.
    fn attempt(mut self) {
        let files = match self.resolve() {
            Ok(files) => files,
            Err(error) => return self.fail_or_retry(error),
        };
        let reservations = match self.claim(&files) {
            Ok(reservations) => reservations,
            Err(kind) => return self.fail(kind.into()),
        };
        borrow_all(reservations, Vec::new(), move |borrowed| match borrowed {
            Ok(borrowed) => {
                if !borrowed.is_empty() {
                    self.deadline = deadline_after(self.timeout);
                    self.borrowed = borrowed;
                }
                self.lock_and_complete(files);
            }
            Err(kind) => self.fail(kind.into()),
        });
    }

    /// The rest of an attempt: takes the locks that the caller does not hold, completes what dead
    /// processes have left, and answers.
    fn lock_and_complete(self, files: ResolvedPaths) {
        let missing = match self.missing_locks(&files) {
            Ok(missing) => missing,
            Err(error) => return self.fail(error),
        };
        if missing.is_empty() {
            return self.take_locks(files, missing, None, None);
        }
        let dirs: HashSet<FileId> = missing.keys().map(|(dir, _)| *dir).collect();
        let parks_from = parks_from(&missing);
        let open = parks_from.map_or(missing.len(), |most| most.min(missing.len()));
        let need = Need::new(open + dirs.len(), self.depth);
        if need.files > descriptors::most() {
            let error = self.too_many_files();
            return self.fail(error);
        }
        let (waiter, timeout) = (Arc::clone(&self.waiter), self.timeout);
        let has_given_up = move |stall| waiter.is_cancelled() || stall >= patience(timeout);
        let begun = Instant::now();
        let mut waiting = Some((self, files, missing));
        let take_locks = move |permit: Option<Permit>| {
            let (mut own, files, missing) = waiting.take()?;
            // The time for the locks begins when they can be asked for.
            own.deadline = own.deadline.and_then(|deadline| deadline.checked_add(begun.elapsed()));
            match permit {
                Some(permit) => {
                    own.take_locks(files, missing, parks_from, Some(Arc::new(permit)));
                }
                None => {
                    let error = own.too_many_files();
                    own.fail(error);
                }
            }
            None
        };
        descriptors::run(need, has_given_up, Box::new(take_locks));
    }

    /// Why the locks cannot be opened.
    fn too_many_files(&self) -> BeginError {
        let path = self.paths.first().map_or(Path::new(""), PathBuf::as_path);
        match self.waiter.is_cancelled() {
            true => ErrorKind::Cancelled.into(),
            false => BeginError::at(path, Failure::at("open", path, descriptors::too_many())),
        }
    }

    /// Takes the locks with the permit to open them all.
    fn take_locks(
        mut self,
        files: ResolvedPaths,
        missing: BTreeMap<FileKey, PathBuf>,
        parks_from: Option<usize>,
        permit: Option<SharedPermit>,
    ) {
        let sequence = LockSequence {
            pool: self.pool.clone(),
            permit,
            parks_from,
            missing: in_order(missing),
            timeout: self.timeout,
            deadline: self.deadline,
            inside: self.inside.clone(),
            waiter: Arc::clone(&self.waiter),
            taken: Vec::new(),
            reply: Box::new(move |locked: LockedFiles| {
                let locked = locked.map_err(|(kind, path)| BeginError { kind, path });
                match locked.and_then(|locks| self.complete_all(files, locks)) {
                    Ok(BeginAttempt::Begun(begun)) => self.answer.call(Ok(Ok(begun))),
                    Ok(BeginAttempt::Again(Duration::ZERO)) => self.attempt(),
                    Ok(BeginAttempt::Again(pause)) => {
                        let pool = self.pool.clone();
                        let _ = pool.submit_after(pause, Box::new(move || self.attempt()));
                    }
                    Err(error) => self.fail_or_retry(error),
                }
            }),
        };
        sequence.take_next();
    }

    /// Begins anew in a moment where the system has refused a file: others are closed meanwhile.
    fn fail_or_retry(mut self, error: BeginError) {
        let since = *self.short_since.get_or_insert_with(Instant::now);
        if !is_short(&error.kind) || since.elapsed() >= patience(self.timeout) {
            return self.fail(error);
        }
        let pool = self.pool.clone();
        let _ = pool.submit_after(SHORTAGE_PAUSE, Box::new(move || self.attempt()));
    }

    fn fail(self, error: BeginError) {
        let Begin { held, borrowed, answer, .. } = self;
        // The caller that gets the answer finds its locks free.
        drop((held, borrowed));
        answer.call(Ok(Err(error)));
    }

    /// Makes missing directories, and finds out which files the paths lead to.
    fn resolve(&mut self) -> Result<ResolvedPaths, BeginError> {
        if let Some(durability) = self.make_dirs.take() {
            for path in &self.paths {
                make_parents(&Os, path, durability)
                    .map_err(|failure| BeginError::at(path, failure))?;
            }
        }
        let (mut own, mut first_paths, mut first_with) = (Vec::new(), Vec::new(), HashMap::new());
        for (number, path) in self.paths.iter().enumerate() {
            let key = lock::key_of(path).map_err(|failure| BeginError::at(path, failure))?;
            first_paths.push(*first_with.entry(key.clone()).or_insert(number));
            own.push((key, path.clone()));
        }
        Ok(ResolvedPaths { own, first_paths })
    }

    /// The reservations with those of the caller's locks that are locks of these files. The
    /// caller's other locks are free for what it starts next.
    fn claim(&mut self, files: &ResolvedPaths) -> Result<VecDeque<Reservation>, ErrorKind> {
        let mut held = self.held.take().unwrap_or_default();
        let mut reservations = VecDeque::new();
        for (key, path) in &files.own {
            reservations.extend(held.claim(key, path, |_| false)?);
        }
        Ok(reservations)
    }

    /// The locks that have to be taken, in their order.
    fn missing_locks(
        &self,
        files: &ResolvedPaths,
    ) -> Result<BTreeMap<FileKey, PathBuf>, BeginError> {
        let mut missing = BTreeMap::new();
        for (key, path) in files.own.iter().chain(&self.others) {
            match self.inside.get(key) {
                Some(LockKind::Write) => {}
                // The caller would have to release it first.
                Some(LockKind::Read) => {
                    return Err(BeginError::at(path, Deadlock::Held(path.clone())));
                }
                None => {
                    missing.entry(key.clone()).or_insert_with(|| path.clone());
                }
            }
        }
        Ok(missing)
    }

    /// Completes what dead processes have left unfinished in these files, with all locks held.
    fn complete_all(
        &mut self,
        files: ResolvedPaths,
        locks: Vec<(FileKey, LockGuard)>,
    ) -> Result<BeginAttempt, BeginError> {
        let Some(_started) = (self.start)() else {
            return Err(ErrorKind::Cancelled.into());
        };
        let mut names_in: BTreeMap<PathBuf, HashSet<OsString>> = BTreeMap::new();
        for path in &self.paths {
            // Now that it is locked: before, the path could come to lead to another directory.
            let target = resolve::target(&Os, path, true, DirUse::Names)
                .map_err(|failure| BeginError::at(path, failure))?;
            names_in.entry(target.dir.path().to_owned()).or_default().insert(target.name);
        }
        for (dir, names) in &names_in {
            for transaction in unfinished(&Os, dir)? {
                if names.iter().any(|name| transaction.changes(name))
                    && let Some(pause) = self.complete(dir, &transaction, &locks)?
                {
                    return Ok(BeginAttempt::Again(pause));
                }
            }
        }
        // Those of the files of other transactions are released.
        let own: HashSet<&FileKey> = files.own.iter().map(|(key, _)| key).collect();
        let taken = locks.into_iter().filter(|(key, _)| own.contains(key)).map(|(_, lock)| lock);
        let mut locks = std::mem::take(&mut self.borrowed);
        locks.extend(taken);
        let lock_of =
            files.own.iter().map(|(key, _)| locks.iter().position(|lock| lock.key() == key));
        let lock_of = lock_of.collect();
        let (first_paths, rolled) = (files.first_paths, std::mem::take(&mut self.rolled));
        Ok(BeginAttempt::Begun(BegunTransaction { locks, first_paths, lock_of, rolled }))
    }

    /// Completes one transaction; or says after which time, without any lock, to try again.
    fn complete(
        &mut self,
        dir: &Path,
        transaction: &Unfinished,
        locks: &[(FileKey, LockGuard)],
    ) -> Result<Option<Duration>, BeginError> {
        let held: HashSet<&FileKey> = locks.iter().map(|(_, lock)| lock.key()).collect();
        let is_held = |key: &FileKey| {
            held.contains(key) || matches!(self.inside.get(key), Some(LockKind::Write))
        };
        let others = RefCell::new(Vec::new());
        let try_lock = |paths: &[PathBuf]| -> Result<Option<RollLocks>, Failure> {
            let mut others = others.borrow_mut();
            for path in paths {
                let key = lock::key_of(path)?;
                if !is_held(&key) {
                    others.push((key, path.clone()));
                }
            }
            Ok(others.is_empty().then(|| -> RollLocks { Box::new(()) }))
        };
        let options = RollOptions { dry_run: false, try_lock: &try_lock };
        let mut report = Vec::new();
        let completion = roll(&Os, dir, transaction.id, options, &mut report)?;
        let others = others.into_inner();
        let unsettled = |reason| {
            Err(ErrorKind::from(Unsettled { path: transaction.path.clone(), reason }).into())
        };
        let (left_alone, rolled): (Vec<_>, Vec<_>) =
            report.into_iter().partition(|file| file.result == RollResult::Left);
        self.rolled.extend(rolled);
        match completion {
            Completion::Complete => Ok(None),
            Completion::InUse if !others.is_empty() => {
                self.others = others;
                Ok(Some(Duration::ZERO))
            }
            // The process that is completing it may want these locks for it.
            Completion::InUse if left(self.deadline).is_none_or(|left| !left.is_zero()) => {
                Ok(Some(RETRY_PAUSE))
            }
            Completion::InUse => unsettled("somebody else is finishing it".to_owned()),
            Completion::Blocked => {
                let last = left_alone.into_iter().last();
                unsettled(last.map_or_else(String::new, |file| file.reason))
            }
        }
    }
}

/// From which number on the locks are held without their files being open: there are more than the
/// process may have open. `None` where all are, because they are few or there is no other way.
fn parks_from(missing: &BTreeMap<FileKey, PathBuf>) -> Option<usize> {
    /// So many are open on every system.
    const ALWAYS_OPEN: usize = 4;
    if missing.len() <= ALWAYS_OPEN {
        return None;
    }
    let most = ALWAYS_OPEN.max(2 * descriptors::few());
    if missing.len() <= most {
        return None;
    }
    let mut dirs = HashSet::new();
    let mut of_each_dir = missing.iter().filter(|((dir, _), _)| dirs.insert(*dir));
    of_each_dir.all(|(_, path)| lock::can_be_parked(path)).then_some(most)
}

fn deadline_after(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
