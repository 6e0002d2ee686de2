//! A wait for a lock in the kernel. It cannot be ended from outside, but it can be withdrawn, so
//! that it is in the way of no other process.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::LockFile;
use super::lock::KernelLock;
use super::steps::{HAS_TICKETS, LOCK, acquire_from, carry_out, open, size_if_called, take};
use crate::error::Failure;
use crate::fs::os::DirHandle;
use crate::lock::lock_name::LockName;
use crate::lock::protocol::{Byte, LockStep, StepResult, Wait};
use crate::lock::queue::PendingWait;
use crate::mutex::guard;
use crate::vocabulary::LockKind;

/// Whether one thread can unlock a byte of a file while another waits for one. On Windows the
/// calls on one handle follow each other.
const CAN_UNLOCK_WHILE_WAITING: bool = cfg!(unix);

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
        let file = Some(open(dir, name, kind)?);
        let state = KernelWaitState { wait: Wait::new(kind, HAS_TICKETS), file, wants: None };
        let wait = KernelWait { kind, state: Mutex::new(state) };
        wait.rejoin()?;
        Ok(wait)
    }

    /// Waits on this thread for as long as it takes. `None` when the lock was not wanted any
    /// more.
    pub(super) fn wait(
        &self,
        dir: &DirHandle,
        name: &LockName,
    ) -> Result<Option<KernelLock>, Failure> {
        let mut begun = self.state().file.clone();
        let outcome = acquire_from(&mut begun, dir, name, self.kind, |file| {
            let mut state = self.state();
            if !state.file.as_ref().is_some_and(|known| Arc::ptr_eq(known, file)) {
                state.wait.restart();
                state.wants = None;
                state.file = Some(Arc::clone(file));
            }
            drop(state);
            self.go_through(file)
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
        let mut result = StepResult::Nothing;
        let has_main = loop {
            result = match state.wait.next(result) {
                LockStep::Done(has_main) => break has_main,
                LockStep::Lock(byte, kind) => match take(&file, LockStep::Try(byte, kind)) {
                    Ok(StepResult::Locked(false)) => {
                        state.wants = Some((byte, kind));
                        return Ok(None);
                    }
                    outcome => outcome.map(|_| StepResult::Nothing),
                },
                step => take(&file, step),
            }
            .map_err(|error| Failure::new(LOCK, error))?;
        };
        // A file that has lost its name is no lock. The thread sees to another.
        state.file = None;
        let size = size_if_called(&file, dir, name)?;
        let ticket = state.wait.ticket();
        let taken = size.filter(|_| has_main);
        Ok(taken.map(|size| KernelLock::after_wait(file, size > 0, self.kind, ticket)))
    }

    fn go_through(&self, file: &LockFile) -> io::Result<bool> {
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
                step => take(file, step)?,
            };
        }
    }

    fn state(&self) -> MutexGuard<'_, KernelWaitState> {
        guard(&self.state)
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
        carry_out(file, |result| entering.next(wait, result))
            .map_err(|error| Failure::new(LOCK, error))
    }
}
