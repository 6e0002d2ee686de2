//! A write-ahead log under its lock: one process writes it, any number read.
//!
//! The lock is a lock file in the log's own directory, so all who can reach the directory find it
//! there, by whatever path: at the root of a volume that several containers have, through two mounts,
//! or after a rename. It is that of a file of the name [`INSIDE`], which there is none of.
//!
//! Other versions take the lock of the directory, beside it. That is taken first, too, so that all
//! versions exclude each other where the process may use it; for reading, where it may do no more than
//! that. Where it may not do that either, below a root that is read-only or another user's, the one
//! inside has to do.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::{Code, ErrorKind, Failure, WalError};
use crate::fs::os::Os;
use crate::fs::{Dir, DirUse};
use crate::lock::{self, HeldLocks, LockGuard, LockKind, LockPlace, Waiter};
use crate::mutex::guard;
use crate::threads::{Pool, task};
use crate::wal::{AppendQueue, Log, LogOptions, make_log_dir};

/// How long [`open`] waits for the lock where the caller says nothing.
pub const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The file whose lock is that of the log in whose directory it would be.
const INSIDE: &str = "holdfast.wal";

/// How often the directory is made anew and locked that others remove meanwhile.
const ATTEMPTS: u32 = 20;

type OnOpened = Box<dyn FnOnce(Result<AppendQueue<Os>, ErrorKind>) + Send>;

/// Takes the lock of the log in the directory at `path`, which is absolute, opens and repairs it.
/// `timeout` limits the wait for the lock; `None` waits for ever. The lock is kept until the log is
/// closed, or dropped and no longer written to.
pub fn open(
    pool: &Pool,
    path: PathBuf,
    options: LogOptions,
    timeout: Option<Duration>,
    on_opened: impl FnOnce(Result<AppendQueue<Os>, ErrorKind>) + Send + 'static,
) -> Arc<WalOpening> {
    let opening = Arc::new(WalOpening {
        pool: pool.clone(),
        path,
        options,
        timeout,
        since: Instant::now(),
        on_opened: Mutex::new(Some(Box::new(on_opened))),
        wait: Mutex::default(),
    });
    opening.lock_beside(LockKind::Write);
    opening
}

/// A call that opens a log, and waits for its locks.
pub struct WalOpening {
    pool: Pool,
    path: PathBuf,
    options: LogOptions,
    timeout: Option<Duration>,
    since: Instant,
    /// Taken by what ends it.
    on_opened: Mutex<Option<OnOpened>>,
    wait: Mutex<OpeningWait>,
}

/// What the call waits for.
#[derive(Default)]
struct OpeningWait {
    waiter: Option<Arc<Waiter>>,
    /// How many locks have been asked for.
    number: u32,
    is_cancelled: bool,
}

impl WalOpening {
    /// Ends the wait for the locks, unless it is over already. The outcome tells.
    pub fn cancel(&self) {
        let mut wait = guard(&self.wait);
        wait.is_cancelled = true;
        let waiter = wait.waiter.take();
        drop(wait);
        if let Some(waiter) = waiter {
            waiter.cancel();
        }
    }

    /// Takes the lock beside the directory, for writing if that is possible.
    fn lock_beside(self: &Arc<WalOpening>, kind: LockKind) {
        // There is nothing beside a root directory.
        if self.path.file_name().is_none() {
            return self.lock_inside(None, 1);
        }
        let opening = Arc::clone(self);
        let on_locked = move |taken: Result<LockGuard, ErrorKind>| match taken {
            Ok(beside) => opening.lock_inside(Some(beside), 1),
            Err(ErrorKind::System(failure)) if is_not_for_us(&failure) => match kind {
                LockKind::Write => opening.lock_beside(LockKind::Read),
                LockKind::Read => opening.lock_inside(None, 1),
            },
            Err(kind) => opening.end(Err(kind)),
        };
        let request = lock::LockRequest {
            path: self.path.clone(),
            kind,
            timeout: self.time_left(),
            held: HeldLocks::default(),
            before: None,
        };
        self.acquire(LockPlace::Beside, request, on_locked);
    }

    /// Takes the lock in the directory, which is made if there is none.
    fn lock_inside(self: &Arc<WalOpening>, beside: Option<LockGuard>, attempt: u32) {
        let opening = Arc::clone(self);
        let made = self.path.clone();
        let request = lock::LockRequest {
            path: self.path.join(INSIDE),
            kind: LockKind::Write,
            timeout: self.time_left(),
            held: beside.iter().map(LockGuard::held).collect(),
            before: Some(Box::new(move || make_log_dir(&Os, &made))),
        };
        let on_locked = move |taken: Result<LockGuard, ErrorKind>| match taken {
            Ok(inside) => opening.open_locked(OpeningLocks { inside, beside }, attempt),
            // The directory was removed between the two steps.
            Err(ErrorKind::System(failure)) if failure.is_not_found() && attempt < ATTEMPTS => {
                opening.lock_inside(beside, attempt + 1);
            }
            Err(kind) => opening.end(Err(kind)),
        };
        self.acquire(LockPlace::Own, request, on_locked);
    }

    fn open_locked(self: &Arc<WalOpening>, locks: OpeningLocks, attempt: u32) {
        let opening = Arc::clone(self);
        let work = move || {
            let dir = match Dir::open(&Os, &opening.path, DirUse::NamesAndSync) {
                Err(failure) if failure.is_not_found() => None,
                dir => Some(dir?),
            };
            let Some(dir) = dir else { return Ok(Err(locks)) };
            // The lock may be in a directory that has been replaced meanwhile. Where a directory has
            // another number at each look it cannot be told.
            let id = dir.metadata()?.id;
            if id != locks.inside.key().0 && dir.metadata()?.id == id {
                return Ok::<_, ErrorKind>(Err(locks));
            }
            let lock_file = locks.inside.key().1.clone();
            let log = Log::open_in(dir, opening.options, Some(&lock_file))?;
            match locks.inside.is_in_place() {
                true => Ok(Ok(AppendQueue::new(log, opening.pool.clone(), Box::new(locks)))),
                false => Err(opening.lost(&lock_file)),
            }
        };
        let opening = Arc::clone(self);
        task::run(&self.pool, work, move |opened| match opened {
            Ok(Ok(queue)) => opening.end(Ok(queue)),
            Ok(Err(OpeningLocks { inside, beside })) if attempt < ATTEMPTS => {
                drop(inside);
                opening.lock_inside(beside, attempt + 1);
            }
            Ok(Err(_)) => opening.end(Err(opening.replaced())),
            Err(kind) => opening.end(Err(kind)),
        });
    }

    /// The lock file was removed while the log was being opened.
    fn lost(&self, lock_file: &OsString) -> ErrorKind {
        let path = self.path.join(lock_file);
        let what = format!("its lock file '{}' was removed or replaced", path.display());
        WalError::Moved(what).into()
    }

    /// The directory was replaced again and again.
    fn replaced(&self) -> ErrorKind {
        Failure::at("open", &self.path, Code::ESTALE.error()).into()
    }

    /// Asks for a lock, unless the call has been cancelled.
    fn acquire(
        self: &Arc<WalOpening>,
        place: LockPlace,
        request: lock::LockRequest,
        on_locked: impl FnOnce(Result<LockGuard, ErrorKind>) + Send + 'static,
    ) {
        let mut wait = guard(&self.wait);
        if wait.is_cancelled {
            drop(wait);
            return self.end(Err(ErrorKind::Cancelled));
        }
        wait.number += 1;
        let number = wait.number;
        // Not under the mutex: where there is no thread the outcome comes at once, on this one.
        drop(wait);
        let waiter = lock::acquire_at(&self.pool, place, request, Box::new(on_locked));
        let mut wait = guard(&self.wait);
        // It may have got the lock meanwhile, and be waiting for the next one.
        if wait.number == number {
            wait.waiter = Some(Arc::clone(&waiter));
        }
        let is_cancelled = wait.is_cancelled;
        drop(wait);
        if is_cancelled {
            waiter.cancel();
        }
    }

    fn time_left(&self) -> Option<Duration> {
        self.timeout.map(|timeout| timeout.saturating_sub(self.since.elapsed()))
    }

    fn end(&self, mut outcome: Result<AppendQueue<Os>, ErrorKind>) {
        if let Err(ErrorKind::Locked(contention)) = &mut outcome {
            // For both locks together.
            contention.waited = contention.waited.and(self.timeout);
        }
        let on_opened = guard(&self.on_opened).take();
        if let Some(on_opened) = on_opened {
            on_opened(outcome);
        }
    }
}

/// The locks of a log. They are released in this order.
struct OpeningLocks {
    inside: LockGuard,
    beside: Option<LockGuard>,
}

/// Whether a lock file beside the directory cannot be used, as things are: by this process, or by
/// any.
fn is_not_for_us(failure: &Failure) -> bool {
    let code = failure.code();
    let is_refused = matches!(
        code,
        Some(Code::EACCES | Code::EPERM | Code::EROFS | Code::ENOSPC | Code::EDQUOT)
    );
    let has_no_locks = matches!(failure.syscall, "fcntl" | "LockFileEx")
        && matches!(code, Some(Code::ENOLCK | Code::ENOSYS | Code::ENOTSUP | Code::EINVAL));
    is_refused || has_no_locks
}
