//! A lock that the kernel has given to a call.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use super::kernel::KernelLock;
use crate::error::ErrorKind;
use crate::metrics::LockHeld;
use crate::vocabulary::{FileKey, LockKind};

/// What a lock is released to.
pub(super) trait LockOwner: Send + Sync {
    /// Which lock it is.
    fn key(&self) -> &FileKey;

    /// The name of the file that is locked.
    fn guarded(&self) -> &OsStr;

    /// The depth of what is started under it; see [`crate::descriptors`].
    fn depth_inside(&self) -> u32;

    /// Whether the name of the lock file still leads to the file that is locked.
    fn is_in_place(&self, lock: &KernelLock) -> bool;

    /// A call releases the lock; the lock of the kernel comes from the last of the calls that
    /// shared it.
    fn release(self: Arc<Self>, last: Option<KernelLock>, kind: LockKind);

    /// The same without waiting for anything: if no call of this process wants the lock, and its
    /// file system decides about locks in memory. Otherwise it comes back.
    fn release_at_once(
        &self,
        last: Option<KernelLock>,
        kind: LockKind,
    ) -> Result<(), Option<KernelLock>>;

    /// Keeps the lock without its file being open, where the system can do that.
    fn park(&self, lock: &mut KernelLock);

    /// Takes the lock of the kernel again for a call that has given it back, and that holds the lock
    /// as far as this process is concerned.
    fn take_again(self: Arc<Self>, timeout: Option<Duration>, reply: KernelReply) -> EndWait;
}

/// Takes the lock of the kernel, or the reason why there is none.
pub(super) type KernelReply = Box<dyn FnOnce(Result<KernelLock, ErrorKind>) + Send>;

/// Ends the wait for a lock of the kernel, unless it is over already.
pub(super) type EndWait = Arc<dyn Fn() + Send + Sync>;

/// A lock that the kernel has given to a call. Dropping it releases the lock.
pub struct KernelGuard {
    owner: Arc<dyn LockOwner>,
    /// Readers share one.
    lock: Option<Arc<KernelLock>>,
    kind: LockKind,
    is_held: bool,
    /// How long the call has waited for it at most.
    timeout: Option<Duration>,
    /// Other processes may have the lock meanwhile.
    is_given_back: bool,
    /// Ends the wait in which it is taken again.
    end_wait: Option<EndWait>,
    /// It is one of very many, and is to keep no file open.
    is_parked: bool,
    _counted: LockHeld,
}

impl KernelGuard {
    pub(super) fn new(
        owner: Arc<dyn LockOwner>,
        lock: Arc<KernelLock>,
        kind: LockKind,
        timeout: Option<Duration>,
    ) -> KernelGuard {
        KernelGuard {
            owner,
            lock: Some(lock),
            kind,
            is_held: true,
            timeout,
            is_given_back: false,
            end_wait: None,
            is_parked: false,
            _counted: LockHeld::new(kind),
        }
    }

    /// Lets other processes have the lock. For the calls of this process it stays held.
    pub(super) fn give_back(&mut self) -> Option<KernelLock> {
        self.is_given_back = true;
        self.lock.take().and_then(Arc::into_inner)
    }

    /// How long to wait for the lock when it is taken again; `None` if it was not given back.
    pub(super) fn begin_again(&mut self) -> Option<Option<Duration>> {
        std::mem::take(&mut self.is_given_back).then_some(self.timeout)
    }

    /// Is waiting for the lock, unless it has it by now.
    pub(super) fn waits_for_it(&mut self, end_wait: &EndWait) {
        if self.lock.is_none() {
            self.end_wait = Some(Arc::clone(end_wait));
        }
    }

    /// Keeps a write lock without its file being open, where the system can do that.
    pub(super) fn park(&mut self) {
        self.is_parked = true;
        // Of a write lock there is no other holder.
        if let Some(mut lock) = self.lock.take().and_then(Arc::into_inner) {
            self.owner.park(&mut lock);
            self.lock = Some(Arc::new(lock));
        }
    }

    /// Has it again.
    pub(super) fn taken_again(&mut self, mut lock: KernelLock) {
        if self.is_parked {
            self.owner.park(&mut lock);
        }
        self.lock = Some(Arc::new(lock));
        self.end_wait = None;
    }

    /// Whether the name of its lock file still leads to the file that is locked.
    pub(super) fn is_in_place(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| self.owner.is_in_place(lock))
    }

    /// What it is released to.
    pub(super) fn owner(&self) -> &Arc<dyn LockOwner> {
        &self.owner
    }

    /// What it was taken for.
    pub(super) fn kind(&self) -> LockKind {
        self.kind
    }

    /// Releases it, if that can be done without waiting for anything: on a thread that must not
    /// wait. Otherwise it is still held.
    ///
    /// # Errors
    ///
    /// With the guard, to be dropped elsewhere.
    pub(super) fn release_at_once(mut self) -> Result<(), KernelGuard> {
        let last = self.lock.take().and_then(Arc::into_inner);
        match self.owner.release_at_once(last, self.kind) {
            Ok(()) => {
                self.is_held = false;
                Ok(())
            }
            Err(last) => {
                self.lock = last.map(Arc::new);
                Err(self)
            }
        }
    }
}

impl Drop for KernelGuard {
    fn drop(&mut self) {
        if let Some(end_wait) = self.end_wait.take() {
            end_wait();
        }
        if self.is_held {
            let last = self.lock.take().and_then(Arc::into_inner);
            Arc::clone(&self.owner).release(last, self.kind);
        }
    }
}
