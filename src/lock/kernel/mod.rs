//! The locks of the operating system, and the protocol that makes of two of them one that
//! is fair.
//!
//! A lock file has two one-byte locks far beyond any content: the *gate* and the *main*
//! lock. To acquire, shared for readers and exclusive for writers: lock the gate, lock main,
//! unlock the gate. To release: unlock main. A writer that waits holds the gate meanwhile,
//! so that readers that come later queue up behind it, and it behind those before it.
//!
//! This never changes: versions of holdfast exclude each other by it.

use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Kind;
use super::holder::{Holder, LONGEST_LINE};
use crate::errno::Code;
use crate::error::Failure;
use crate::fs::os::Folder;

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix::LockFile;

#[cfg(windows)]
mod windows;
#[cfg(windows)]
use windows::LockFile;

/// Which of the two locks. On Linux and Windows they are bytes of the lock file at these
/// offsets; on macOS the gate is a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Gate,
    Main,
}

impl Part {
    #[cfg(not(any(target_os = "macos", target_os = "ios")))]
    fn offset(self) -> i64 {
        match self {
            Part::Gate => 1 << 62,
            Part::Main => (1 << 62) + 1,
        }
    }
}

/// What the system call is named in errors.
const LOCK: &str = if cfg!(windows) { "LockFileEx" } else { "fcntl" };

/// Whether one thread can unlock a part of a file while another waits for a part of it. On
/// Windows calls on one handle follow each other.
const CAN_UNLOCK_WHILE_WAITING: bool = cfg!(unix);

/// How often a lock file that is replaced under our hands is opened again.
const FRESH_STARTS: usize = 100;

/// A lock that this process has. Dropping it gives the lock back.
pub(super) struct KernelLock {
    file: Arc<LockFile>,
    has_note: bool,
}

impl KernelLock {
    /// Takes the lock if it is free. `None` when it is not.
    pub(super) fn try_acquire(
        folder: &Folder,
        name: &OsStr,
        kind: Kind,
    ) -> Result<Option<KernelLock>, Failure> {
        acquire(folder, name, |file| {
            if !file.try_lock(Part::Gate, kind)? {
                return Ok(false);
            }
            let is_ours = file.try_lock(Part::Main, kind);
            file.unlock(Part::Gate)?;
            is_ours
        })
        .map(|file| file.map(|file| KernelLock::new(file, kind)))
    }

    fn new(file: Arc<LockFile>, kind: Kind) -> KernelLock {
        let mut lock = KernelLock { file, has_note: false };
        if kind == Kind::Write {
            lock.leave_note();
        }
        lock
    }

    /// Turns a write lock into a read lock, without a moment in between.
    pub(super) fn downgrade(&mut self) -> Result<(), Failure> {
        self.remove_note();
        self.file.downgrade(Part::Main).map_err(|error| Failure::new(LOCK, error))
    }

    /// Says who has it. That this fails (on a full disk, say) is no reason not to have it.
    fn leave_note(&mut self) {
        self.has_note = self.file.write_note(Holder::this_process().to_line().as_bytes()).is_ok();
    }

    fn remove_note(&mut self) {
        if std::mem::take(&mut self.has_note) {
            // What is left there otherwise means nothing while nobody has the lock.
            let _ = self.file.write_note(b"");
        }
    }
}

impl Drop for KernelLock {
    fn drop(&mut self) {
        self.remove_note();
        // Closing the file frees the lock as well, should this fail.
        let _ = self.file.unlock(Part::Main);
    }
}

/// A wait for the lock in the kernel. It cannot be ended from outside, but it can be made to
/// stand in nobody's way.
pub(super) struct KernelWait {
    kind: Kind,
    /// Whether the lock is still wanted. While it is not, the gate is left open.
    is_wanted: AtomicBool,
    /// The lock file at which it waits.
    file: Mutex<Option<Arc<LockFile>>>,
}

impl KernelWait {
    pub(super) fn new(kind: Kind) -> KernelWait {
        KernelWait { kind, is_wanted: AtomicBool::new(true), file: Mutex::new(None) }
    }

    /// What it waits for.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Waits on this thread for as long as it takes.
    pub(super) fn wait(&self, folder: &Folder, name: &OsStr) -> Result<KernelLock, Failure> {
        let file = acquire(folder, name, |file| {
            *self.file() = Some(Arc::clone(file));
            file.lock(Part::Gate, self.kind)?;
            // Whoever gave up the wait meanwhile opens the gate after saying so. If that was
            // before it was taken here, it is opened here.
            if !self.is_wanted.load(Ordering::SeqCst) {
                file.unlock(Part::Gate)?;
            }
            let waited = file.lock(Part::Main, self.kind);
            file.unlock(Part::Gate)?;
            waited.map(|()| true)
        });
        *self.file() = None;
        // Waiting never says 'not now'.
        file?
            .map(|file| KernelLock::new(file, self.kind))
            .ok_or_else(|| Failure::new(LOCK, Code::EAGAIN.error()))
    }

    /// Nobody wants the lock for the time being: those of other processes who come later must
    /// not queue up behind nobody.
    pub(super) fn stand_aside(&self) {
        self.is_wanted.store(false, Ordering::SeqCst);
        if CAN_UNLOCK_WHILE_WAITING && let Some(file) = &*self.file() {
            // Should it fail, they wait a little longer.
            let _ = file.unlock(Part::Gate);
        }
    }

    /// The lock is wanted after all.
    pub(super) fn step_back_in(&self) {
        self.is_wanted.store(true, Ordering::SeqCst);
        if CAN_UNLOCK_WHILE_WAITING && let Some(file) = &*self.file() {
            // Without the gate the wait is as safe, and only less sure of its turn.
            let _ = file.try_lock(Part::Gate, self.kind);
        }
    }

    fn file(&self) -> MutexGuard<'_, Option<Arc<LockFile>>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the lock file, locks it by `lock`, and makes sure that the name still leads to
/// it: somebody may have removed it meanwhile, and then others lock another file.
fn acquire(
    folder: &Folder,
    name: &OsStr,
    lock: impl Fn(&Arc<LockFile>) -> io::Result<bool>,
) -> Result<Option<Arc<LockFile>>, Failure> {
    for _ in 0..FRESH_STARTS {
        let file = LockFile::open(folder, name).map_err(|error| Failure::new("open", error))?;
        let file = Arc::new(file);
        if !lock(&file).map_err(|error| Failure::new(LOCK, error))? {
            return Ok(None);
        }
        if file.is_still_called(folder, name).map_err(|error| Failure::new("lstat", error))? {
            return Ok(Some(file));
        }
    }
    Err(Failure::new(LOCK, Code::EBUSY.error()))
}

/// Who has the lock, as far as can be told; the outer `None` when nobody has it.
pub(super) fn inspect(
    folder: &Folder,
    name: &OsStr,
    kind: Kind,
) -> Result<Option<Option<Holder>>, Failure> {
    let file = match LockFile::open_existing(folder, name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::new("open", error)),
    };
    if !file.is_locked(Part::Main, kind).map_err(|error| Failure::new(LOCK, error))? {
        return Ok(None);
    }
    let mut line = vec![0; LONGEST_LINE];
    let length = file.read_note(&mut line).map_err(|error| Failure::new("read", error))?;
    Ok(Some(line.get(..length).and_then(Holder::from_line)))
}
