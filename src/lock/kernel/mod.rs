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

/// How often a lock file that is replaced under our hands is opened again.
const FRESH_STARTS: usize = 100;

/// A lock that this process has. Dropping it gives the lock back.
pub(super) struct KernelLock {
    file: LockFile,
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

    /// Takes the lock, waiting for it on this thread for as long as it takes.
    pub(super) fn wait(folder: &Folder, name: &OsStr, kind: Kind) -> Result<KernelLock, Failure> {
        let file = acquire(folder, name, |file| {
            file.lock(Part::Gate, kind)?;
            let waited = file.lock(Part::Main, kind);
            file.unlock(Part::Gate)?;
            waited.map(|()| true)
        })?;
        // Waiting never says 'not now'.
        file.map(|file| KernelLock::new(file, kind))
            .ok_or_else(|| Failure::new(LOCK, Code::EAGAIN.error()))
    }

    fn new(file: LockFile, kind: Kind) -> KernelLock {
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

/// Opens the lock file, locks it by `lock`, and makes sure that the name still leads to
/// it: somebody may have removed it meanwhile, and then others lock another file.
fn acquire(
    folder: &Folder,
    name: &OsStr,
    lock: impl Fn(&LockFile) -> io::Result<bool>,
) -> Result<Option<LockFile>, Failure> {
    for _ in 0..FRESH_STARTS {
        let file = LockFile::open(folder, name).map_err(|error| Failure::new("open", error))?;
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
