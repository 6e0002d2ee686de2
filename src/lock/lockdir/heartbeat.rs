//! What keeps the locks that this process holds fresh: one thread of its own for all of them,
//! which a busy event loop or a slow disk elsewhere does not hold up.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::folder::{Beat, Owned, Place};
use crate::error::{ErrorKind, Failure, LostLock};
use crate::fs::os::Os;

/// Is told that a lock has been lost.
pub type OnLoss = Box<dyn FnOnce(LostLock) + Send>;

/// A lock that is kept fresh until it is stopped, lost or dropped.
pub(super) struct Beating {
    place: Arc<Place<Os>>,
    stale: Duration,
    update: Duration,
    state: Mutex<State>,
}

struct State {
    /// Nothing once it is lost or given back.
    owned: Option<Owned<Os>>,
    lost: Option<LostLock>,
    on_loss: Option<OnLoss>,
    /// Until when it has been extended.
    until: SystemTime,
}

/// How soon it is tried again to see to a lock.
const AGAIN: Duration = Duration::from_secs(1);

/// How long the thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

impl Beating {
    /// Starts.
    ///
    /// # Errors
    ///
    /// When the system refuses a thread. The lock comes back.
    pub(super) fn start(
        place: Arc<Place<Os>>,
        owned: Owned<Os>,
        stale: Duration,
        update: Duration,
    ) -> Result<Arc<Beating>, (io::Error, Option<Owned<Os>>)> {
        let state =
            State { owned: Some(owned), lost: None, on_loss: None, until: SystemTime::UNIX_EPOCH };
        let beating = Arc::new(Beating { place, stale, update, state: Mutex::new(state) });
        match schedule(&beating, update) {
            Ok(()) => Ok(beating),
            Err(error) => {
                let owned = beating.lock().owned.take();
                Err((error, owned))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under this lock can panic and leave the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let owned = state.owned.as_mut()?;
        match owned.beat(&Os, &self.place, self.stale, SystemTime::now(), until) {
            Beat::Kept => Some(self.update),
            Beat::Failing => Some(self.update.min(AGAIN)),
            Beat::Lost(lost) => {
                self.lose(state, lost);
                None
            }
        }
    }

    fn lose(&self, mut state: MutexGuard<'_, State>, lost: LostLock) {
        state.lost = Some(lost.duplicate());
        let gone = (state.owned.take(), state.on_loss.take());
        drop(state);
        if let (_, Some(on_loss)) = gone {
            on_loss(lost);
        }
    }

    /// Lets others take the lock for held until this time and as long as it takes to be stale.
    pub(super) fn extend(&self, by: Duration) -> Result<(), ErrorKind> {
        let mut state = self.lock();
        let now = SystemTime::now();
        let until = now.checked_add(by).unwrap_or(now).max(state.until);
        if let Some(lost) = &state.lost {
            return Err(lost.duplicate().into());
        }
        let Some(owned) = state.owned.as_mut() else { return Ok(()) };
        let outcome = owned.beat(&Os, &self.place, self.stale, now, until);
        state.until = until;
        match outcome {
            // If it could not be done now, it will be at the next time.
            Beat::Kept | Beat::Failing => Ok(()),
            Beat::Lost(lost) => {
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
        let Some(owned) = state.owned.take() else { return Ok(()) };
        drop(state);
        match owned.release(&Os, &self.place) {
            Ok(None) => Ok(()),
            Ok(Some(lost)) => Err(lost.into()),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// What the thread has to do.
struct Heart {
    due: BTreeMap<(Instant, u64), Weak<Beating>>,
    last: u64,
    is_running: bool,
}

static HEART: Mutex<Heart> = Mutex::new(Heart { due: BTreeMap::new(), last: 0, is_running: false });
static CHANGED: Condvar = Condvar::new();

fn heart() -> MutexGuard<'static, Heart> {
    // Nothing that runs under this lock can panic and leave the state half changed.
    HEART.lock().unwrap_or_else(PoisonError::into_inner)
}

fn schedule(beating: &Arc<Beating>, after: Duration) -> io::Result<()> {
    let mut heart = heart();
    if !heart.is_running {
        // It keeps no process alive: when the main thread ends, so does this one.
        std::thread::Builder::new()
            .name("holdfast-heartbeat".to_owned())
            .stack_size(256 * 1024)
            .spawn(work)?;
        heart.is_running = true;
    }
    heart.last += 1;
    let key = (Instant::now() + after, heart.last);
    heart.due.insert(key, Arc::downgrade(beating));
    if heart.due.first_key_value().is_some_and(|(first, _)| *first == key) {
        CHANGED.notify_one();
    }
    Ok(())
}

fn work() {
    let mut at = heart();
    let mut tired = Instant::now() + IDLE;
    loop {
        let now = Instant::now();
        let wait = match at.due.first_entry() {
            Some(first) if first.key().0 <= now => {
                let beating = first.remove().upgrade();
                drop(at);
                if let Some(beating) = beating
                    && let Some(after) = beating.beat()
                {
                    // The thread is running, so nothing can go wrong.
                    let _ = schedule(&beating, after);
                }
                at = heart();
                tired = Instant::now() + IDLE;
                continue;
            }
            Some(first) => first.key().0 - now,
            None if now >= tired => break,
            None => tired - now,
        };
        (at, _) = CHANGED.wait_timeout(at, wait).unwrap_or_else(PoisonError::into_inner);
    }
    at.is_running = false;
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
