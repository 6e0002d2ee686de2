//! A wait for a lock in the kernel. It cannot be ended from outside, but it can be withdrawn, so
//! that it is in the way of no other process.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::LockFile;
use super::lock::KernelLock;
use super::steps::{
    FRESH_STARTS, HAS_TICKETS, LOCK, acquire_from, carry_out, is_gone, is_lent, open,
    open_patiently, size_if_called, take,
};
use crate::error::{Code, Failure};
use crate::fs::os::DirHandle;
use crate::lock::lock_name::LockName;
use crate::lock::protocol::{Byte, LockStep, StepResult, Wait};
use crate::lock::queue::PendingWait;
use crate::mutex::guard;
use crate::threads::blocking;
use crate::vocabulary::LockKind;

/// Whether one thread can unlock a byte of a file while another waits for one. On Windows the
/// calls on one handle follow each other.
const CAN_UNLOCK_WHILE_WAITING: bool = cfg!(unix);

/// What has come of going on with a wait.
pub(super) enum Polled {
    /// It has to wait. Whether it has come nearer to the lock.
    Waits { has_moved: bool },
    /// It has the lock, or was not wanted any more.
    Ended(Option<KernelLock>),
}

/// How long a writer waits for readers that have locked the directory before it looks again.
const PAUSE: Duration = Duration::from_millis(5);

/// A wait for a lock in the kernel.
pub(in crate::lock) struct KernelWait {
    kind: LockKind,
    state: Mutex<KernelWaitState>,
}

struct KernelWaitState {
    wait: Wait,
    /// The lock file at which it waits.
    file: Option<Arc<LockFile>>,
    /// What it has asked for and not got yet.
    wants: Option<(Byte, LockKind)>,
}

impl KernelWait {
    /// A wait that has its ticket already. The rest of it is done by [`KernelWait::wait`].
    pub(super) fn begin(
        dir: &DirHandle,
        name: &LockName,
        kind: LockKind,
    ) -> Result<KernelWait, Failure> {
        for _ in 0..FRESH_STARTS {
            let mut wait = Wait::new(kind, HAS_TICKETS);
            let file = match open(dir, name, kind) {
                // A process has lent it: the thread that waits opens it.
                Err(failure) if is_lent(&failure) => None,
                opened => Some(opened?),
            };
            if let Some(file) = &file {
                wait = wait.with(file.access());
            }
            let state = KernelWaitState { wait, file, wants: None };
            let wait = KernelWait { kind, state: Mutex::new(state) };
            match wait.rejoin() {
                Ok(_) => return Ok(wait),
                Err(failure) if is_gone(&failure.source) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::new(LOCK, Code::EBUSY.error()))
    }

    /// Waits on this thread for as long as it takes. `None` when the lock was not wanted any
    /// more.
    pub(super) fn wait(
        &self,
        dir: &DirHandle,
        name: &LockName,
    ) -> Result<Option<KernelLock>, Failure> {
        let mut begun = self.state().file.clone();
        if begun.is_none() {
            begun = Some(open_patiently(dir, name, self.kind)?);
        }
        let outcome = acquire_from(&mut begun, dir, name, self.kind, |file| {
            let mut state = self.state();
            if !state.file.as_ref().is_some_and(|known| Arc::ptr_eq(known, file)) {
                state.wait.restart_with(file.access());
                state.wants = None;
                state.file = Some(Arc::clone(file));
            }
            drop(state);
            self.go_through(file, dir)
        });
        let mut state = self.state();
        state.file = None;
        let ticket = state.wait.ticket();
        drop(state);
        let lock =
            |(file, has_content)| KernelLock::after_wait(file, has_content, self.kind, ticket);
        Ok(outcome?.map(lock))
    }

    /// Goes as far as it can without waiting: all the way, if the lock is free and no process comes
    /// first.
    pub(super) fn pass(
        &self,
        dir: &DirHandle,
        name: &LockName,
    ) -> Result<Option<KernelLock>, Failure> {
        let mut state = self.state();
        let Some(file) = state.file.clone() else { return Ok(None) };
        let Some(has_main) = state.advance(&file, dir)? else { return Ok(None) };
        // A file that has lost its name is no lock. The thread sees to another.
        state.file = None;
        let size = size_if_called(&file, dir, name)?;
        let ticket = state.wait.ticket();
        let taken = size.filter(|_| has_main);
        Ok(taken.map(|size| KernelLock::after_wait(file, size > 0, self.kind, ticket)))
    }

    /// Goes on as far as it can without waiting, for a caller that calls again after a pause.
    pub(super) fn poll(&self, dir: &DirHandle, name: &LockName) -> Result<Polled, Failure> {
        for _ in 0..FRESH_STARTS {
            let mut state = self.state();
            let file = match state.file.clone() {
                Some(file) => file,
                None => {
                    let file = match open(dir, name, self.kind) {
                        Err(failure) if is_lent(&failure) => {
                            return Ok(Polled::Waits { has_moved: false });
                        }
                        opened => opened?,
                    };
                    state.wait.restart_with(file.access());
                    state.wants = None;
                    state.file = Some(Arc::clone(&file));
                    file
                }
            };
            let wanted = state.wants;
            let has_main = match state.advance(&file, dir) {
                Ok(Some(has_main)) => has_main,
                Ok(None) => return Ok(Polled::Waits { has_moved: state.wants != wanted }),
                Err(failure) if is_gone(&failure.source) => {
                    state.file = None;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            state.file = None;
            let ticket = state.wait.ticket();
            drop(state);
            if !has_main {
                return Ok(Polled::Ended(None));
            }
            match size_if_called(&file, dir, name) {
                Ok(Some(size)) => {
                    let lock = KernelLock::after_wait(file, size > 0, self.kind, ticket);
                    return Ok(Polled::Ended(Some(lock)));
                }
                Ok(None) => {}
                Err(failure) if is_gone(&failure.source) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::new(LOCK, Code::EBUSY.error()))
    }

    fn go_through(&self, file: &LockFile, dir: &DirHandle) -> io::Result<bool> {
        let mut result = StepResult::Nothing;
        let mut state = self.state();
        let mut wants = state.wants.take();
        loop {
            let step = match wants.take() {
                Some((byte, kind)) => LockStep::Lock(byte, kind),
                None => state.wait.next(result),
            };
            result = match step {
                LockStep::Done(has_main) => return Ok(has_main),
                LockStep::Lock(byte, kind) => {
                    // Only now may other threads withdraw it.
                    drop(state);
                    let locked = file.lock(byte, kind);
                    state = self.state();
                    locked?;
                    StepResult::Nothing
                }
                LockStep::Pause => {
                    drop(state);
                    blocking(|| thread::sleep(PAUSE));
                    state = self.state();
                    StepResult::Nothing
                }
                step => take(file, Some(dir), step)?,
            };
        }
    }

    fn state(&self) -> MutexGuard<'_, KernelWaitState> {
        guard(&self.state)
    }
}

impl KernelWaitState {
    /// Goes on until the wait is over, and has main or not, or until it would have to wait (`None`).
    /// A wait that is not wanted any more does not wait.
    fn advance(&mut self, file: &LockFile, dir: &DirHandle) -> Result<Option<bool>, Failure> {
        let mut result = StepResult::Nothing;
        loop {
            let step = match self.wants.take() {
                Some((byte, kind)) => LockStep::Lock(byte, kind),
                None => self.wait.next(result),
            };
            result = match step {
                LockStep::Done(has_main) => return Ok(Some(has_main)),
                // It goes on from there.
                LockStep::Pause if self.wait.is_wanted() => return Ok(None),
                LockStep::Lock(byte, kind) => {
                    match take(file, Some(dir), LockStep::Try(byte, kind)) {
                        Ok(StepResult::Locked(false)) if self.wait.is_wanted() => {
                            self.wants = Some((byte, kind));
                            return Ok(None);
                        }
                        Ok(StepResult::Locked(false)) => {
                            self.wait.give_up();
                            Ok(StepResult::Nothing)
                        }
                        outcome => outcome.map(|_| StepResult::Nothing),
                    }
                }
                step => take(file, Some(dir), step),
            }
            .map_err(|error| Failure::new(LOCK, error))?;
        }
    }
}

impl PendingWait for KernelWait {
    fn kind(&self) -> LockKind {
        self.kind
    }

    fn withdraw(&self) {
        let mut state = self.state();
        let bytes = state.wait.withdraw(CAN_UNLOCK_WHILE_WAITING);
        if let Some(file) = &state.file {
            for byte in bytes {
                // Should it fail, other processes wait a little longer.
                let _ = file.unlock(byte);
            }
        }
    }

    fn rejoin(&self) -> Result<bool, Failure> {
        let mut state = self.state();
        let KernelWaitState { wait, file: Some(file), .. } = &mut *state else { return Ok(false) };
        let Some(mut entering) = wait.rejoin() else { return Ok(false) };
        carry_out(file, None, |result| entering.next(wait, result))
            .map_err(|error| Failure::new(LOCK, error))
    }
}
