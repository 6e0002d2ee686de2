//! How the queues get lock directories: they try again and again, at intervals that grow up to a
//! limit and are never quite the same. No thread is held in between.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, MutexGuard, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime};

use super::dir::{LockDirPath, Renewal, SETTLING, TryLockOutcome, try_lock};
use super::heartbeat::{Heartbeat, OnLoss};
use super::held_dir::HeldDir;
use crate::error::{Code, ErrorKind, Failure, Holder};
use crate::fs::os::Os;
use crate::lock::queue::{Backend, CallOf, LockEvent, PendingWait, Queue, QueueState, Queues};
use crate::metrics::LockHeld;
use crate::threads::{Job, pool};
use crate::vocabulary::{FileKey, LockKind};

/// When a lock counts as abandoned, and how often it is kept from that.
#[derive(Clone, Copy, Debug)]
pub struct StaleRules {
    /// The age at which other processes may take it.
    pub stale: Duration,
    /// Between one renewal and the next.
    pub update: Duration,
}

/// What a call asks for besides the lock.
pub struct LockfileOptions {
    pub(super) rules: StaleRules,
    /// Whether the thread that takes over a lock for this call sleeps while it settles.
    pub(super) settles_here: bool,
    /// The file's real path, where it was asked for.
    pub(super) file: OnceLock<PathBuf>,
}

/// Locks that are directories.
pub(in crate::lock) struct LockDirBackend {
    at: Arc<LockDirPath<Os>>,
}

/// How often it has been tried in vain since a call last had the lock.
#[derive(Default)]
pub(in crate::lock) struct VainAttempts(u32);

/// The pause between two attempts.
pub(in crate::lock) struct Pause(Duration);

/// Between the first two attempts, and between later ones.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

impl LockDirBackend {
    pub(super) fn new(at: LockDirPath<Os>) -> LockDirBackend {
        LockDirBackend { at: Arc::new(at) }
    }
}

impl Backend for LockDirBackend {
    type Lock = HeldDir;
    type Wait = Pause;
    type Guard = LockfileGuard;
    type Options = LockfileOptions;
    type Memory = VainAttempts;

    fn queues() -> &'static Queues<LockDirBackend> {
        static QUEUES: LazyLock<Queues<LockDirBackend>> = LazyLock::new(Queues::default);
        &QUEUES
    }

    fn path(&self) -> PathBuf {
        self.at.path()
    }

    fn error(&self, failure: Failure) -> ErrorKind {
        failure.into()
    }

    /// A lock directory does not say who holds it.
    fn holder(&self, _: Option<SystemTime>, _: bool) -> Option<Holder> {
        None
    }

    fn ask(
        queue: &Arc<Queue<LockDirBackend>>,
        mut state: MutexGuard<'_, QueueState<LockDirBackend>>,
        kind: LockKind,
        _: Option<HeldDir>,
    ) -> Option<LockEvent<LockDirBackend>> {
        let head = state.scheduler.head().cloned();
        drop(state);
        // It has given up meanwhile.
        let Some(head) = head else { return Some(LockEvent::Busy(None)) };
        let at = &queue.backend.at;
        let LockfileOptions { rules: StaleRules { stale, .. }, settles_here, .. } = head.options;
        let taken_over = match try_lock(at, stale, SystemTime::now()) {
            Ok(TryLockOutcome::Acquired(owned)) => {
                return Some(LockEvent::Acquired(HeldDir::new(owned, at), kind));
            }
            Ok(TryLockOutcome::TakenOver(owned)) => HeldDir::new(owned, at),
            Ok(TryLockOutcome::Held) => return Some(LockEvent::Busy(None)),
            Err(failure) => return Some(LockEvent::Failed(failure)),
        };
        if settles_here {
            thread::sleep(SETTLING);
            return Some(settled(taken_over, stale));
        }
        let queue = Arc::clone(queue);
        run_after(SETTLING, Box::new(move || queue.handle(settled(taken_over, stale))))
            .map_or_else(|failure| Some(LockEvent::Failed(failure)), |()| None)
    }

    /// There are no readers.
    fn downgrade(_: &mut HeldDir) -> Result<(), Failure> {
        Ok(())
    }

    fn hand_out(
        queue: &Arc<Queue<LockDirBackend>>,
        mut state: MutexGuard<'_, QueueState<LockDirBackend>>,
        lock: HeldDir,
        served: &[Arc<CallOf<LockDirBackend>>],
    ) -> Vec<Result<LockfileGuard, ErrorKind>> {
        state.memory = VainAttempts::default();
        drop(state);
        let Some(head) = served.first() else { return Vec::new() };
        let LockfileOptions { rules: StaleRules { stale, update }, file, .. } = &head.options;
        vec![match Heartbeat::start(lock, *stale, *update) {
            Ok(heartbeat) => Ok(LockfileGuard {
                queue: Arc::clone(queue),
                heartbeat,
                file: file.get().cloned(),
                is_held: true,
                _counted: LockHeld::new(LockKind::Write),
            }),
            Err(error) => {
                queue.lock().scheduler.released(LockKind::Write);
                Err(Failure::new("pthread_create", error).into())
            }
        }]
    }

    /// Processes that wait together shall not try together.
    fn begin_wait(&self, memory: &mut VainAttempts, _: LockKind) -> Result<Pause, Failure> {
        let longest = SHORTEST_PAUSE.saturating_mul(1 << memory.0.min(10)).min(LONGEST_PAUSE);
        memory.0 = memory.0.saturating_add(1);
        Ok(Pause(longest.mul_f64(rand::random_range(0.5..1.0))))
    }

    fn run_wait(
        queue: &Arc<Queue<LockDirBackend>>,
        wait: Arc<Pause>,
        number: u64,
    ) -> Result<(), Failure> {
        let queue = Arc::clone(queue);
        let again = move || queue.wait_ended(number, LockEvent::AskAgain(LockKind::Write));
        run_after(wait.0, Box::new(again))
    }
}

impl PendingWait for Pause {
    fn kind(&self) -> LockKind {
        LockKind::Write
    }

    /// A pause is in no process's way.
    fn withdraw(&self) {}

    fn rejoin(&self) -> Result<bool, Failure> {
        Ok(true)
    }
}

/// Whether a lock that was taken over is still this process's, after it has had time to show.
fn settled(mut lock: HeldDir, stale: Duration) -> LockEvent<LockDirBackend> {
    match lock.renew(stale, SystemTime::UNIX_EPOCH) {
        Renewal::Kept => LockEvent::Acquired(lock, LockKind::Write),
        Renewal::Lost(_) | Renewal::Failing(_) => LockEvent::Busy(None),
    }
}

fn run_after(pause: Duration, job: Job) -> Result<(), Failure> {
    // The error of a system that starts no thread, whatever it says about it.
    let refused = |_| Failure::new("pthread_create", Code::EAGAIN.error());
    pool().submit_after(pause, job).map_err(refused)
}

/// A lock that is held. Dropping it releases the lock.
pub struct LockfileGuard {
    queue: Arc<Queue<LockDirBackend>>,
    heartbeat: Arc<Heartbeat>,
    file: Option<PathBuf>,
    is_held: bool,
    _counted: LockHeld,
}

impl LockfileGuard {
    /// Which lock it is.
    pub fn key(&self) -> &FileKey {
        self.queue.key()
    }

    /// The file's real path, where it was asked for.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Has `on_loss` called should the lock be lost.
    pub fn on_loss(&self, on_loss: OnLoss) {
        self.heartbeat.on_loss(on_loss);
    }

    /// Makes other processes take the lock for held for so much longer, whatever becomes of this
    /// one.
    pub fn extend(&self, by: Duration) -> Result<(), ErrorKind> {
        self.heartbeat.extend(by)
    }

    /// Releases the lock.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Lost`] when it had been lost, and what the system refuses. The lock is not
    /// held any more in either case.
    pub fn release(mut self) -> Result<(), ErrorKind> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), ErrorKind> {
        if !std::mem::take(&mut self.is_held) {
            return Ok(());
        }
        let outcome = self.heartbeat.stop();
        self.queue.released(LockKind::Write);
        outcome
    }
}

impl Drop for LockfileGuard {
    fn drop(&mut self) {
        // There is no caller to be told.
        let _ = self.finish();
    }
}
