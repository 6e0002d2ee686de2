//! A lock of the kernel that a call has given back to other processes for a while, and takes again.
//!
//! To the calls of its own process the call holds the lock all the time: its queue serves no other.
//! So it asks the kernel by itself, and waits with a ticket among the processes like any other.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::lock::KernelLock;
use super::run_wait::{LockSite, run_wait};
use super::wait::KernelWait;
use crate::descriptors::{is_shortage, patience};
use crate::error::{ErrorKind, Failure};
use crate::lock::guard::{EndWait, KernelReply};
use crate::lock::queue::PendingWait;
use crate::mutex::guard;
use crate::threads::pool;
use crate::vocabulary::LockKind;

/// Takes a write lock again, and waits for it if another process has it. The outcome goes to `reply`,
/// on this thread or another.
pub(super) fn take_again<S: LockSite>(
    site: Arc<S>,
    timeout: Option<Duration>,
    reply: KernelReply,
) -> EndWait {
    let taking = Arc::new(TakingAgain {
        reply: Mutex::new(Some(reply)),
        wait: OnceLock::new(),
        site: Arc::clone(&site),
    });
    taking.ask(timeout, Instant::now());
    // What ends the wait may be kept for longer than the wait, and must not keep the lock file's
    // directory open.
    let waiting = Arc::downgrade(&taking);
    Arc::new(move || {
        if let Some(taking) = waiting.upgrade() {
            taking.end();
        }
    })
}

/// How long to wait after the system has refused to open another file.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(20);

/// A call that takes the lock again.
struct TakingAgain<S: LockSite> {
    /// Taken by the thread that ends it, so that this happens once.
    reply: Mutex<Option<KernelReply>>,
    wait: OnceLock<Arc<KernelWait>>,
    site: Arc<S>,
}

impl<S: LockSite> TakingAgain<S> {
    fn ask(self: &Arc<TakingAgain<S>>, timeout: Option<Duration>, since: Instant) {
        let (dir, name) = self.site.dir_and_name();
        let only_tries = timeout.is_some_and(|timeout| timeout.is_zero());
        let taken =
            KernelLock::try_acquire(dir, name, LockKind::Write, None, only_tries, &mut None);
        let failed = match taken {
            Ok(Some(lock)) => return self.settle(Ok(lock)),
            Ok(None) if only_tries => return self.time_out(None),
            Ok(None) => self.wait(timeout).err(),
            Err(failure) => Some(failure),
        };
        let Some(failure) = failed else { return };
        // Others are closed meanwhile.
        if is_shortage(&failure) && since.elapsed() < patience(timeout) && self.wait.get().is_none()
        {
            let taking = Arc::clone(self);
            let ask = move || taking.ask(timeout, since);
            let _ = pool().submit_after(SHORTAGE_PAUSE, Box::new(ask));
            return;
        }
        self.settle(Err(self.site.error(failure)));
    }

    fn wait(self: &Arc<TakingAgain<S>>, timeout: Option<Duration>) -> Result<(), Failure> {
        let (dir, name) = self.site.dir_and_name();
        let wait = Arc::new(KernelWait::begin(dir, name, LockKind::Write)?);
        let _ = self.wait.set(Arc::clone(&wait));
        let taking = Arc::clone(self);
        run_wait(Arc::clone(&self.site), wait, move |outcome| match outcome {
            Ok(Some(lock)) => taking.settle(Ok(lock)),
            // It was withdrawn, and the call has its answer.
            Ok(None) => {}
            Err(failure) => {
                taking.withdraw();
                taking.settle(Err(taking.site.error(failure)));
            }
        });
        if let Some(timeout) = timeout {
            let taking = Arc::clone(self);
            let _ = pool().submit_after(timeout, Box::new(move || taking.time_out(Some(timeout))));
        }
        Ok(())
    }

    fn time_out(&self, waited: Option<Duration>) {
        if guard(&self.reply).is_none() {
            return;
        }
        self.settle(Err(ErrorKind::Locked(Box::new(self.site.contention(waited)))));
        self.withdraw();
    }

    fn end(&self) {
        self.settle(Err(ErrorKind::Cancelled));
        self.withdraw();
    }

    /// Gives the outcome, unless there was one: then a lock that came too late is released.
    fn settle(&self, outcome: Result<KernelLock, ErrorKind>) {
        if outcome.is_ok() {
            self.site.look_anew();
        }
        let reply = guard(&self.reply).take();
        if let Some(reply) = reply {
            reply(outcome);
        }
    }

    /// Is in the way of no other process any more.
    fn withdraw(&self) {
        if let Some(wait) = self.wait.get() {
            wait.withdraw();
        }
    }
}
