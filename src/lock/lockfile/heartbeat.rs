//! What keeps the locks that this process holds fresh: threads of its own, which a busy event
//! loop does not hold up, nor all that other threads wait for.
//!
//! One thread waits until the next lock is due. Before it sees to it, it leaves the watch to
//! another, so that a disk that does not answer costs no locks but its own. Where nothing hangs
//! there are no more than two.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::dir::{Heartbeat, LockDirPath};
use super::remove_at_exit::Guarded;
use crate::error::{ErrorKind, Failure, LostLock};
use crate::fs::os::Os;
use crate::mutex::guard;

/// Is told that a lock has been lost.
pub type OnLoss = Box<dyn FnOnce(LostLock) + Send>;

/// A lock that is kept fresh until it is stopped, lost or dropped.
pub(super) struct Beating {
    place: Arc<LockDirPath<Os>>,
    stale: Duration,
    update: Duration,
    state: Mutex<State>,
}

struct State {
    /// Nothing once it is lost or given back.
    own: Option<Guarded>,
    lost: Option<LostLock>,
    on_loss: Option<OnLoss>,
    /// Until when it has been extended.
    until: SystemTime,
}

/// How soon it is tried again to see to a lock.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

impl Beating {
    /// Starts.
    ///
    /// # Errors
    ///
    /// When the system refuses a thread. The lock comes back.
    pub(super) fn start(
        place: Arc<LockDirPath<Os>>,
        own: Guarded,
        stale: Duration,
        update: Duration,
    ) -> Result<Arc<Beating>, (io::Error, Option<Guarded>)> {
        let state =
            State { own: Some(own), lost: None, on_loss: None, until: SystemTime::UNIX_EPOCH };
        let beating = Arc::new(Beating { place, stale, update, state: Mutex::new(state) });
        match schedule(&beating, update) {
            Ok(()) => Ok(beating),
            Err(error) => {
                let own = beating.lock().own.take();
                Err((error, own))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock can panic and leave the state half changed.
        guard(&self.state)
    }

    /// Whom to tell of a loss: at once if it has happened already.
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

    /// Sees to the lock. The time until the next time; `None` when there is none.
    fn beat(&self) -> Option<Duration> {
        let mut state = self.lock();
        let until = state.until;
        let own = state.own.as_mut()?;
        match own.owned.beat(&Os, &self.place, self.stale, SystemTime::now(), until) {
            Heartbeat::Kept => Some(self.update),
            Heartbeat::Failing(_) => Some(self.update.min(AGAIN)),
            Heartbeat::Lost(lost) => {
                self.lose(state, lost);
                None
            }
        }
    }

    fn lose(&self, mut state: MutexGuard<'_, State>, lost: LostLock) {
        state.lost = Some(lost.duplicate());
        let (own, on_loss) = (state.own.take(), state.on_loss.take());
        drop(state);
        drop(own);
        if let Some(on_loss) = on_loss {
            on_loss(lost);
        }
    }

    /// Lets others take the lock for held until this time and as long as it takes to be stale.
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
        let Some(own) = state.own.as_mut() else { return Ok(()) };
        let outcome = own.owned.beat(&Os, &self.place, self.stale, now, until);
        match outcome {
            Heartbeat::Kept => {
                state.until = until;
                Ok(())
            }
            Heartbeat::Failing(failure) => Err(failure.into()),
            Heartbeat::Lost(lost) => {
                let error = lost.duplicate();
                self.lose(state, lost);
                Err(error.into())
            }
        }
    }

    /// Stops, and gives the lock back.
    pub(super) fn stop(&self) -> Result<(), ErrorKind> {
        let mut state = self.lock();
        state.on_loss = None;
        if let Some(lost) = &state.lost {
            return Err(lost.duplicate().into());
        }
        let Some(own) = state.own.take() else { return Ok(()) };
        drop(state);
        match own.owned.release(&Os, &self.place) {
            Ok(None) => Ok(()),
            Ok(Some(lost)) => Err(lost.into()),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// What the threads have to do.
struct Heart {
    due: BTreeMap<(Instant, u64), Weak<Beating>>,
    last: u64,
    /// Whether one of the threads waits for what is due next, or is about to.
    is_watched: bool,
    /// Threads that wait for the watch.
    standing_by: usize,
}

static HEART: Mutex<Heart> =
    Mutex::new(Heart { due: BTreeMap::new(), last: 0, is_watched: false, standing_by: 0 });
/// Something is due sooner than what was.
static SOONER: Condvar = Condvar::new();
/// Nobody watches.
static UNWATCHED: Condvar = Condvar::new();

fn heart() -> MutexGuard<'static, Heart> {
    // Nothing that runs under this lock can panic and leave the state half changed.
    guard(&HEART)
}

fn schedule(beating: &Arc<Beating>, after: Duration) -> io::Result<()> {
    let mut heart = heart();
    heart.have_it_watched()?;
    heart.add(beating, after);
    Ok(())
}

impl Heart {
    fn add(&mut self, beating: &Arc<Beating>, after: Duration) {
        self.last += 1;
        let key = (Instant::now() + after, self.last);
        self.due.insert(key, Arc::downgrade(beating));
        if self.due.first_key_value().is_some_and(|(first, _)| *first == key) {
            SOONER.notify_one();
        }
    }

    fn have_it_watched(&mut self) -> io::Result<()> {
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
    let mut at = heart();
    loop {
        let beating;
        (at, beating) = watch(at);
        at.is_watched = false;
        let Some(beating) = beating else { return };
        if !at.due.is_empty() {
            // If the system refuses another thread, they wait for this one.
            let _ = at.have_it_watched();
        }
        drop(at);
        let again = beating.upgrade().and_then(|beating| Some((beating.beat()?, beating)));
        at = heart();
        if let Some((after, beating)) = &again {
            at.add(beating, *after);
        }
        drop(again);
        match stand_by(at) {
            Some(unwatched) => at = unwatched,
            None => return,
        }
        at.is_watched = true;
    }
}

/// Waits for what is due next. `None` when there has been nothing for a while.
fn watch(
    mut at: MutexGuard<'static, Heart>,
) -> (MutexGuard<'static, Heart>, Option<Weak<Beating>>) {
    let tired = Instant::now() + IDLE;
    loop {
        let now = Instant::now();
        let wait = match at.due.first_entry() {
            Some(first) if first.key().0 <= now => {
                let beating = first.remove();
                return (at, Some(beating));
            }
            Some(first) => first.key().0 - now,
            None if now >= tired => return (at, None),
            None => tired - now,
        };
        (at, _) = SOONER.wait_timeout(at, wait).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Waits until nobody watches. `None` when somebody has for a while.
fn stand_by(mut at: MutexGuard<'static, Heart>) -> Option<MutexGuard<'static, Heart>> {
    let tired = Instant::now() + IDLE;
    at.standing_by += 1;
    while at.is_watched {
        let left = tired.saturating_duration_since(Instant::now());
        if left.is_zero() {
            at.standing_by -= 1;
            return None;
        }
        (at, _) = UNWATCHED.wait_timeout(at, left).unwrap_or_else(PoisonError::into_inner);
    }
    at.standing_by -= 1;
    Some(at)
}

impl From<LostLock> for ErrorKind {
    fn from(lost: LostLock) -> ErrorKind {
        ErrorKind::Lost(Box::new(lost))
    }
}

impl LostLock {
    /// The same, for another who is to be told.
    pub fn duplicate(&self) -> LostLock {
        let failure = self.failure.as_ref().map(Failure::duplicate);
        LostLock { path: self.path.clone(), failure }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread;

    use super::super::dir::{TryLockOutcome, try_lock};
    use super::*;
    use crate::fs::{DirUse, FileSystem};

    const STALE: Duration = Duration::from_secs(60);
    const UPDATE: Duration = Duration::from_millis(20);

    fn start(dir: &Path, name: &str) -> Arc<Beating> {
        let parent = Os.open_dir(dir, DirUse::Names).unwrap();
        let place = LockDirPath { parent, parent_path: dir.to_owned(), name: name.into() };
        let TryLockOutcome::Acquired(owned) =
            try_lock(&Os, &place, STALE, SystemTime::now()).unwrap()
        else {
            panic!("it is free");
        };
        let own = Guarded::new(owned, &place);
        Beating::start(Arc::new(place), own, STALE, UPDATE).ok().unwrap()
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
            // Whoever sees to these two does not come back.
            let hanging = [all[0].lock(), all[1].lock()];
            let old = time("three");
            let patience = Instant::now() + Duration::from_secs(60);
            while time("three") == old {
                assert!(Instant::now() < patience, "round {round}: nobody sees to the third");
                thread::sleep(UPDATE);
            }
            drop(hanging);
        }
        for beating in &all {
            beating.stop().unwrap();
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }
}
