//! Keeps the locks that this process holds fresh: on threads of its own, which neither a busy event
//! loop holds up nor what other threads wait for.
//!
//! One thread watches for the next lock that is due. Before it renews that lock, it leaves the watch
//! to another thread, so that a disk that does not answer costs no locks but its own. Where nothing
//! hangs there are no more than two.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::dir::Renewal;
use super::held_dir::HeldDir;
use crate::error::{ErrorKind, Failure, LostLock};
use crate::mutex::guard;

/// Called when a lock has been lost.
pub type OnLoss = Box<dyn FnOnce(LostLock) + Send>;

/// A lock that is kept fresh until it is stopped, lost or dropped.
pub(super) struct Heartbeat {
    stale: Duration,
    update: Duration,
    state: Mutex<HeartbeatState>,
}

struct HeartbeatState {
    /// Nothing once it is lost or released.
    held: Option<HeldDir>,
    lost: Option<LostLock>,
    on_loss: Option<OnLoss>,
    /// Until when it has been extended.
    until: SystemTime,
}

/// How soon a lock that could not be renewed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

impl Heartbeat {
    /// Starts.
    ///
    /// # Errors
    ///
    /// When the system refuses a thread. The lock is released.
    pub(super) fn start(
        held: HeldDir,
        stale: Duration,
        update: Duration,
    ) -> io::Result<Arc<Heartbeat>> {
        let until = SystemTime::UNIX_EPOCH;
        let state = HeartbeatState { held: Some(held), lost: None, on_loss: None, until };
        let heartbeat = Arc::new(Heartbeat { stale, update, state: Mutex::new(state) });
        let mut schedule = schedule();
        schedule.ensure_watch()?;
        schedule.add(&heartbeat, update);
        drop(schedule);
        Ok(heartbeat)
    }

    fn lock(&self) -> MutexGuard<'_, HeartbeatState> {
        // No code that runs under this lock can panic and leave the state half changed.
        guard(&self.state)
    }

    /// What to call after a loss: at once if it has happened already.
    pub(super) fn on_loss(&self, on_loss: OnLoss) {
        let mut state = self.lock();
        match state.lost.as_ref().map(LostLock::duplicate) {
            None => state.on_loss = Some(on_loss),
            Some(lost) => {
                drop(state);
                on_loss(lost);
            }
        }
    }

    /// Renews the lock. The time until the next renewal; `None` when there is none.
    fn beat(&self) -> Option<Duration> {
        let mut state = self.lock();
        let until = state.until;
        match state.held.as_mut()?.renew(self.stale, until) {
            Renewal::Kept => Some(self.update),
            Renewal::Failing(_) => Some(self.update.min(RETRY)),
            Renewal::Lost(lost) => {
                self.lose(state, lost);
                None
            }
        }
    }

    fn lose(&self, mut state: MutexGuard<'_, HeartbeatState>, lost: LostLock) {
        state.lost = Some(lost.duplicate());
        let (held, on_loss) = (state.held.take(), state.on_loss.take());
        drop(state);
        drop(held);
        if let Some(on_loss) = on_loss {
            on_loss(lost);
        }
    }

    /// Makes other processes take the lock for held until this time and as long as it takes to be
    /// stale.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Lost`] when it has been lost. What the system refuses: then it is held as
    /// before.
    pub(super) fn extend(&self, by: Duration) -> Result<(), ErrorKind> {
        let mut state = self.lock();
        let now = SystemTime::now();
        let until = now.checked_add(by).unwrap_or(now).max(state.until);
        if let Some(lost) = &state.lost {
            return Err(lost.duplicate().into());
        }
        let Some(held) = state.held.as_mut() else { return Ok(()) };
        match held.renew(self.stale, until) {
            Renewal::Kept => {
                state.until = until;
                Ok(())
            }
            Renewal::Failing(failure) => Err(failure.into()),
            Renewal::Lost(lost) => {
                let error = lost.duplicate();
                self.lose(state, lost);
                Err(error.into())
            }
        }
    }

    /// Stops, and releases the lock.
    pub(super) fn stop(&self) -> Result<(), ErrorKind> {
        let mut state = self.lock();
        state.on_loss = None;
        if let Some(lost) = &state.lost {
            return Err(lost.duplicate().into());
        }
        let Some(held) = state.held.take() else { return Ok(()) };
        drop(state);
        match held.release() {
            Ok(None) => Ok(()),
            Ok(Some(lost)) => Err(lost.into()),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// What the threads have to do.
struct Schedule {
    due: BTreeMap<(Instant, u64), Weak<Heartbeat>>,
    last: u64,
    /// Whether one of the threads watches for what is due next, or is about to.
    is_watched: bool,
    /// Threads that wait for the watch.
    standing_by: usize,
}

static SCHEDULE: Mutex<Schedule> =
    Mutex::new(Schedule { due: BTreeMap::new(), last: 0, is_watched: false, standing_by: 0 });
/// A lock is due sooner than the one that was watched for.
static SOONER: Condvar = Condvar::new();
/// No thread watches.
static UNWATCHED: Condvar = Condvar::new();

fn schedule() -> MutexGuard<'static, Schedule> {
    // No code that runs under this lock can panic and leave the state half changed.
    guard(&SCHEDULE)
}

impl Schedule {
    fn add(&mut self, heartbeat: &Arc<Heartbeat>, after: Duration) {
        self.last += 1;
        let key = (Instant::now() + after, self.last);
        self.due.insert(key, Arc::downgrade(heartbeat));
        if self.due.first_key_value().is_some_and(|(first, _)| *first == key) {
            SOONER.notify_one();
        }
    }

    fn ensure_watch(&mut self) -> io::Result<()> {
        if self.is_watched {
            return Ok(());
        }
        if self.standing_by > 0 {
            UNWATCHED.notify_one();
            return Ok(());
        }
        // It keeps no process alive: when the main thread ends, so does this one.
        std::thread::Builder::new()
            .name("holdfast-heartbeat".to_owned())
            .stack_size(256 * 1024)
            .spawn(work)?;
        self.is_watched = true;
        Ok(())
    }
}

/// What a thread does. It has the watch from the beginning.
fn work() {
    let mut schedule = schedule();
    loop {
        let due;
        (schedule, due) = watch(schedule);
        schedule.is_watched = false;
        let Some(due) = due else { return };
        if !schedule.due.is_empty() {
            // If the system refuses another thread, the other locks wait for this one.
            let _ = schedule.ensure_watch();
        }
        drop(schedule);
        let again = due.upgrade().and_then(|heartbeat| Some((heartbeat.beat()?, heartbeat)));
        schedule = self::schedule();
        if let Some((after, heartbeat)) = &again {
            schedule.add(heartbeat, *after);
        }
        drop(again);
        match stand_by(schedule) {
            Some(unwatched) => schedule = unwatched,
            None => return,
        }
        schedule.is_watched = true;
    }
}

/// Waits for the lock that is due next. `None` when there has been none for a while.
fn watch(
    mut schedule: MutexGuard<'static, Schedule>,
) -> (MutexGuard<'static, Schedule>, Option<Weak<Heartbeat>>) {
    let idle_deadline = Instant::now() + IDLE;
    loop {
        let now = Instant::now();
        let wait = match schedule.due.first_entry() {
            Some(first) if first.key().0 <= now => {
                let heartbeat = first.remove();
                return (schedule, Some(heartbeat));
            }
            Some(first) => first.key().0 - now,
            None if now >= idle_deadline => return (schedule, None),
            None => idle_deadline - now,
        };
        (schedule, _) = SOONER.wait_timeout(schedule, wait).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Waits until no thread watches. `None` when one has for a while.
fn stand_by(mut schedule: MutexGuard<'static, Schedule>) -> Option<MutexGuard<'static, Schedule>> {
    let idle_deadline = Instant::now() + IDLE;
    schedule.standing_by += 1;
    while schedule.is_watched {
        let left = idle_deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            schedule.standing_by -= 1;
            return None;
        }
        (schedule, _) =
            UNWATCHED.wait_timeout(schedule, left).unwrap_or_else(PoisonError::into_inner);
    }
    schedule.standing_by -= 1;
    Some(schedule)
}

impl From<LostLock> for ErrorKind {
    fn from(lost: LostLock) -> ErrorKind {
        ErrorKind::Lost(Box::new(lost))
    }
}

impl LostLock {
    /// The same, for another caller that is to be told.
    pub fn duplicate(&self) -> LostLock {
        let failure = self.failure.as_ref().map(Failure::duplicate);
        LostLock { path: self.path.clone(), failure }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread;

    use super::super::dir::{LockDirPath, TryLockOutcome, try_lock};
    use super::*;
    use crate::fs::os::Os;
    use crate::fs::{Dir, DirUse};

    const STALE: Duration = Duration::from_secs(60);
    const UPDATE: Duration = Duration::from_millis(20);

    fn start(dir: &Path, name: &str) -> Arc<Heartbeat> {
        let parent = Dir::open(&Os, dir, DirUse::Names).unwrap();
        let at = LockDirPath { parent, name: name.into() };
        let TryLockOutcome::Acquired(owned) = try_lock(&at, STALE, SystemTime::now()).unwrap()
        else {
            panic!("it is free");
        };
        Heartbeat::start(HeldDir::new(owned, &Arc::new(at)), STALE, UPDATE).unwrap()
    }

    #[test]
    fn a_disk_that_does_not_answer_holds_up_no_locks_on_others() {
        let dir = tempfile::tempdir().unwrap();
        let all = ["one", "two", "three"].map(|name| start(dir.path(), name));
        let time = |name: &str| {
            let found = dir.path().join(name).metadata().unwrap();
            found.modified().unwrap()
        };
        for round in 0..3 {
            // The thread that renews these two does not come back.
            let hanging = [all[0].lock(), all[1].lock()];
            let old = time("three");
            let deadline = Instant::now() + Duration::from_secs(60);
            while time("three") == old {
                assert!(Instant::now() < deadline, "round {round}: no thread renews the third");
                thread::sleep(UPDATE);
            }
            drop(hanging);
        }
        for heartbeat in &all {
            heartbeat.stop().unwrap();
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }
}
