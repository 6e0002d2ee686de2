//! The boundary between holdfast and the operating system's files.
//!
//! Everything that holdfast does to a disk goes through [`FileSystem`]. It is a type parameter, so
//! the real one ([`os::Os`]) costs nothing, and tests use `SimFs` (`tests/sim`) instead: a disk
//! that numbers every operation, can fail any of them, and lists what a power cut may leave.
//!
//! Wherever the system can do that, files are named by an open directory and a name in it, so that
//! nothing that happens to the path above the directory meanwhile (a rename, a planted symbolic
//! link) can lead an operation elsewhere.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::Code;
use crate::payload::Chunk;
use crate::short_name::LONGEST_NAME;
pub use crate::vocabulary::FileId;

mod dir;
mod extended;
mod file;
mod free_name;
mod limitation;
mod metadata;
mod removals;
mod rules;
mod shared_with;

pub use dir::{Dir, NamedFile, if_there, is_too_long};
pub use extended::{ACCESS_LIST, ExtendedAttribute, ExtendedAttributes};
pub use file::File;
pub use free_name::is_placeholder;
#[cfg(unix)]
pub(crate) use limitation::found as found_limitation;
pub use limitation::{
    FoundLimitation, Limitation, LimitationHook, found_limitations, set_limitation_hook,
};
pub use metadata::{FileKind, Metadata, SpecialFile};
/// Has a temp file removed if a signal ends the process, for as long as it lives.
pub use os::TempAtExit;
pub use removals::Removals;
pub use rules::{LockRules, SyncRules};
pub use shared_with::SharedWith;

#[cfg(unix)]
pub mod unix;
#[cfg(windows)]
pub mod windows;

/// The file system of this platform. Each platform's module has the same names.
#[cfg(unix)]
pub use unix as os;
#[cfg(windows)]
pub use windows as os;

/// What a directory is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirUse {
    /// To name files in it.
    Names,
    /// To name files in it and to sync it. A directory that the process may not list is still
    /// opened; [`FileSystem::sync_dir`] then syncs more than the directory.
    NamesAndSync,
}

impl Metadata {
    /// Whether in this directory the process may rely on something that `owner` has put there. In
    /// a directory that is open to all (`/tmp`) anyone may leave a file or a link under any name;
    /// there only what is the process's own or belongs to the directory's owner counts.
    pub fn trusts<F: FileSystem>(&self, fs: &F, owner: u32) -> bool {
        const OPEN_TO_ALL: u32 = 0o1002;
        self.mode & OPEN_TO_ALL != OPEN_TO_ALL
            || owner == self.uid
            || fs.effective_user().is_none_or(|user| user == owner)
    }
}

/// Is told of a change in a directory.
pub type OnChange = Box<dyn Fn(&OsStr) + Send + Sync>;

/// Ends when it is dropped: [`FileSystem::watch_dir`].
pub type DirWatch = Box<dyn Send + Sync>;

/// The operations that holdfast needs of a file system.
///
/// Every method is one operation of the underlying system, or the nearest to it, and
/// fails with that operation's error. `EINTR` is returned to the caller; [`uninterrupted`]
/// repeats the operation.
pub trait FileSystem: Clone + Send + Sync + 'static {
    /// An open directory.
    type DirHandle: Send + Sync;
    /// An open regular file.
    type FileHandle: Send + Sync;

    /// The user on whose behalf the process acts; `None` where the system has no numbers for
    /// users.
    fn effective_user(&self) -> Option<u32> {
        None
    }

    /// How many files the process may have open at once.
    fn most_open_files(&self) -> u64 {
        u64::MAX
    }

    /// A number of the mount that holds a directory, which no later mount has; 0 where the system
    /// does not say.
    fn mount_number(&self, _dir: &Self::DirHandle) -> u64 {
        0
    }

    /// How many files the process has open, where the system tells.
    fn open_files(&self) -> Option<u64> {
        None
    }

    /// How long a name in a directory may be, in bytes, as far as its file system says so.
    fn longest_name(&self, _dir: &Self::DirHandle) -> usize {
        LONGEST_NAME
    }

    /// Opens the directory at `path`, symbolic links followed.
    fn open_dir(&self, path: &Path, purpose: DirUse) -> io::Result<Self::DirHandle>;

    /// Has `changed` called, on a thread of holdfast's, after each change of a name in a directory or
    /// of the bytes of a file in it, with the name if there is one, until what this returns is dropped.
    /// `None` where the system may not tell of every change (of those of other machines, say): then the
    /// caller has to look again and again.
    fn watch_dir(&self, _dir: &Self::DirHandle, _changed: OnChange) -> Option<DirWatch> {
        None
    }

    /// Where an open directory is now, by a path without symbolic links. `path` has led to it.
    fn real_path(&self, dir: &Self::DirHandle, path: &Path) -> io::Result<PathBuf>;

    /// What is known about an open directory.
    fn dir_metadata(&self, dir: &Self::DirHandle) -> io::Result<Metadata>;

    /// Makes the directory at `path`. Its parent must exist, and it must not.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes the directory at `path`, which must be empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Opens the directory of this name in another one. A symbolic link is followed.
    fn open_dir_in(
        &self,
        dir: &Self::DirHandle,
        name: &OsStr,
        purpose: DirUse,
    ) -> io::Result<Self::DirHandle>;

    /// Makes a directory of holdfast's own in which everybody makes files who may write to the one
    /// above it, as [`SharedWith::WritersOfDir`]. It has its permissions before it has its name.
    /// Fails with `EEXIST` if the name is taken by anything.
    fn make_shared_dir(&self, above: &Self::DirHandle, name: &OsStr) -> io::Result<()>;

    /// Removes the directory of this name, which must be empty.
    fn remove_dir_in(&self, dir: &Self::DirHandle, name: &OsStr) -> io::Result<()>;

    /// The names in a directory, in no particular order, without those for itself and its
    /// parent.
    fn names(&self, dir: &Self::DirHandle) -> io::Result<Vec<OsString>>;

    /// What `name` stands for. A symbolic link is not followed.
    fn metadata(&self, dir: &Self::DirHandle, name: &OsStr) -> io::Result<Metadata>;

    /// Which file `name` stands for. A symbolic link is not followed. Nothing is asked about the
    /// file's times: Linux 6.13 gives a file whose times were asked for a new time at the next write,
    /// and a sync then has that to write, too.
    fn identity(&self, dir: &Self::DirHandle, name: &OsStr) -> io::Result<FileId> {
        Ok(self.metadata(dir, name)?.id)
    }

    /// When the content of what `name` stands for was last changed. A symbolic link is not
    /// followed.
    fn modified(&self, dir: &Self::DirHandle, name: &OsStr) -> io::Result<SystemTime>;

    /// Whether a directory in which there is this link belongs to a process, and its links lead to
    /// what the process has open (`/proc/self/fd`, which `/dev/stdout` leads to).
    fn is_process_dir(&self, _dir: &Self::DirHandle, _link: &Metadata) -> bool {
        false
    }

    /// Where the symbolic link `name` points, as it is written there.
    fn read_link(&self, dir: &Self::DirHandle, name: &OsStr) -> io::Result<PathBuf>;

    /// Makes a new file and opens it for writing and reading. Fails with `EEXIST` if
    /// the name is taken by anything, a dangling symbolic link included. The umask
    /// and the directory's default ACL apply to `mode`.
    fn create_new(
        &self,
        dir: &Self::DirHandle,
        name: &OsStr,
        mode: u32,
    ) -> io::Result<Self::FileHandle>;

    /// The same for a file of holdfast's own that others have to open, too. It has its owner, its
    /// group and its permissions before it has its name.
    fn create_shared(
        &self,
        dir: &Self::DirHandle,
        name: &OsStr,
        with: SharedWith<'_>,
    ) -> io::Result<Self::FileHandle>;

    /// Has the file removed that is about to be made under this name, if a signal ends the process;
    /// until what this returns is dropped. `None` where the system has no signals.
    fn remove_at_exit(&self, _dir: &Self::DirHandle, _name: &OsStr) -> Option<TempAtExit> {
        None
    }

    /// Opens an existing regular file for reading. A symbolic link is not followed.
    fn open(&self, dir: &Self::DirHandle, name: &OsStr) -> io::Result<Self::FileHandle>;

    /// Opens an existing regular file to lock, rename and sync it, and to write to it from its
    /// beginning where the process may; where it may not, a write fails with `EBADF` or
    /// `EACCES`. A symbolic link is not followed.
    fn open_to_change(&self, dir: &Self::DirHandle, name: &OsStr) -> io::Result<Self::FileHandle>;

    /// Opens an existing regular file for reading and for [`FileSystem::write_at`]. A
    /// symbolic link is not followed.
    fn open_to_write(&self, dir: &Self::DirHandle, name: &OsStr) -> io::Result<Self::FileHandle>;

    /// Opens an existing regular file for reading, for [`FileSystem::append`] and for
    /// [`FileSystem::set_size`]. A symbolic link is not followed.
    fn open_to_append(&self, dir: &Self::DirHandle, name: &OsStr) -> io::Result<Self::FileHandle> {
        self.open_to_write(dir, name)
    }

    /// Opens a file only so that its blocks stay its own until it is closed; nothing else can be
    /// done with it. Where that is needed ([`SyncRules::reuses_freed`]) the process need not be
    /// allowed to read the file. A symbolic link is not followed.
    fn open_to_keep(&self, dir: &Self::DirHandle, name: &OsStr) -> io::Result<Self::FileHandle> {
        self.open(dir, name)
    }

    /// Takes the advisory lock that tells a live temp file from an orphan, without waiting.
    /// `Ok(false)` when another process holds it. It is released when the file is closed or the
    /// process dies. A file system without such locks returns `Ok(true)`: there only the age of a
    /// temp file decides.
    fn try_lock(&self, file: &Self::FileHandle) -> io::Result<bool>;

    /// Whether every process that may have the file open sees the locks of the others, on whichever
    /// machine it runs. Then a free lock says that no process holds it; otherwise it says nothing.
    fn sees_all_locks(&self, _file: &Self::FileHandle) -> bool {
        false
    }

    /// What is known about an open file.
    fn file_metadata(&self, file: &Self::FileHandle) -> io::Result<Metadata>;

    /// Writes bytes at the file's position and returns how many were written.
    fn write(&self, file: &Self::FileHandle, chunk: Chunk<'_>) -> io::Result<usize>;

    /// Writes bytes at `offset`, over what is there, and returns how many were written. The file's
    /// position does not change.
    fn write_at(&self, file: &Self::FileHandle, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Writes bytes at the end of a file that was opened for that, wherever the end is by then: where
    /// the system can do it in one step, what another program appends at the same moment is before
    /// or behind them. Returns where they begin, and how many were written.
    fn append(&self, file: &Self::FileHandle, bytes: &[u8]) -> io::Result<(u64, usize)> {
        let end = self.file_metadata(file)?.size;
        Ok((end, self.write_at(file, bytes, end)?))
    }

    /// Sets the size of the file: what is beyond is dropped, what is missing reads as zeros.
    fn set_size(&self, file: &Self::FileHandle, size: u64) -> io::Result<()>;

    /// Reads bytes from `offset` and returns how many there were; 0 at the end.
    fn read(&self, file: &Self::FileHandle, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Where the next bytes are, from `offset` on, that may be something else than zeros; `None`
    /// where there are none. A system that does not know says `offset`. The file's position may
    /// change.
    fn next_data(&self, _file: &Self::FileHandle, offset: u64) -> io::Result<Option<u64>> {
        Ok(Some(offset))
    }

    /// Gives `into`, which is new and empty, the whole content of `source` in one step, by sharing
    /// its blocks on the disk (a reflink). `Ok(false)`, with nothing done, where the file system
    /// cannot do that.
    fn clone_content(&self, source: &Self::FileHandle, into: &Self::FileHandle)
    -> io::Result<bool>;

    /// Copies at most `most` bytes of `source`, from `offset` on, to the position of `into` in the
    /// kernel, and returns how many they were. `Ok(None)`, with nothing done, where the system
    /// cannot do that. `Some(0)` does not mean that the end is reached: some file systems cannot
    /// copy what they can read.
    fn copy(
        &self,
        source: &Self::FileHandle,
        offset: u64,
        into: &Self::FileHandle,
        most: usize,
    ) -> io::Result<Option<usize>>;

    /// Sets owner and group; `None` leaves one as it is.
    fn set_owner(
        &self,
        file: &Self::FileHandle,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> io::Result<()>;

    /// Sets the permission bits exactly.
    fn set_mode(&self, file: &Self::FileHandle, mode: u32) -> io::Result<()>;

    /// The extended attributes of what `name` stands for, as far as a file keeps them when it gets
    /// another content: its access control list, its label, and what users have set. A symbolic
    /// link is not followed. `None` where that cannot be told. A platform on which none are kept has
    /// nothing to tell.
    fn extended(
        &self,
        _dir: &Self::DirHandle,
        _name: &OsStr,
    ) -> io::Result<Option<ExtendedAttributes>> {
        Ok(Some(ExtendedAttributes::default()))
    }

    /// The same for an open file.
    fn file_extended(&self, _file: &Self::FileHandle) -> io::Result<Option<ExtendedAttributes>> {
        Ok(Some(ExtendedAttributes::default()))
    }

    /// Sets an extended attribute, or removes it. An access control list sets the permission bits,
    /// too.
    fn set_extended(
        &self,
        _file: &Self::FileHandle,
        _name: &OsStr,
        _value: Option<&[u8]>,
    ) -> io::Result<()> {
        Err(Code::ENOTSUP.error())
    }

    /// Makes the system report the write errors that it would otherwise report only
    /// when the file is closed (network file systems, quotas), without syncing.
    fn report_write_errors(&self, file: &Self::FileHandle) -> io::Result<()>;

    /// Waits until the file's bytes and size are on the disk. After a failure the file must not be
    /// synced again: the system may have dropped what it could not write, and a second call that
    /// succeeds proves nothing.
    fn sync_file(&self, file: &Self::FileHandle) -> io::Result<()>;

    /// Waits until the file's bytes are on the disk, with the metadata that is needed to find them
    /// (its size), but not its times and attributes: where the bytes replaced others that were on
    /// the disk already, no metadata has to be written. After a failure as
    /// [`FileSystem::sync_file`].
    fn sync_data(&self, file: &Self::FileHandle) -> io::Result<()>;

    /// How the file system syncs that holds a file on `device`. Where nothing is known nothing is
    /// assumed.
    fn sync_rules(&self, _file: &Self::FileHandle, _device: u64) -> SyncRules {
        SyncRules::default()
    }

    /// The same for the file system that holds an open directory.
    fn dir_sync_rules(&self, _dir: &Self::DirHandle, _device: u64) -> SyncRules {
        SyncRules::default()
    }

    /// Starts the write-back of the file's bytes to the device, and does not wait for it. Where the
    /// system cannot do that, nothing is done.
    fn begin_write_back(&self, file: &Self::FileHandle) -> io::Result<()>;

    /// Waits until the file's bytes are on the device; where the system can only sync the file, it
    /// does that. They are found there after a power cut only
    /// if the file's size is durable too, which takes a sync of the file or, where
    /// [`SyncRules::keeps_order`], one of a later change.
    fn await_write_back(&self, file: &Self::FileHandle) -> io::Result<()>;

    /// Renames `file` from `from` to `to` in the same directory, in one step, and replaces what was
    /// called `to`.
    fn rename(
        &self,
        dir: &Self::DirHandle,
        file: &Self::FileHandle,
        from: &OsStr,
        to: &OsStr,
    ) -> io::Result<()>;

    /// Renames the directory `from` to `to` in the same directory, where nothing has that name.
    fn rename_dir(&self, dir: &Self::DirHandle, from: &OsStr, to: &OsStr) -> io::Result<()>;

    /// Renames `file` from `from` to `to` in the same directory, and fails with `EEXIST` if `to` is
    /// taken. Where the system cannot do it in one step, the file has both names for a moment, and
    /// keeps both if the process or the system dies in that moment, or if the old name cannot be
    /// removed. `Ok(false)`, with nothing done, where it cannot do that either.
    fn rename_new(
        &self,
        dir: &Self::DirHandle,
        file: &Self::FileHandle,
        from: &OsStr,
        to: &OsStr,
    ) -> io::Result<bool>;

    /// Waits until the names in the directory are on the disk. `file`, any open file of that
    /// directory, is used where the directory itself cannot be synced because the process may not
    /// list it. `Ok(false)`, with nothing done, where the file system cannot sync directories.
    fn sync_dir(&self, dir: &Self::DirHandle, file: Option<&Self::FileHandle>) -> io::Result<bool>;

    /// Waits until all of the file system that holds the directory is on the disk. This makes names
    /// durable in a directory that the process may not list, through another directory there.
    fn sync_file_system(&self, dir: &Self::DirHandle) -> io::Result<()>;

    /// The same for the file system that holds an open file. Where
    /// [`SyncRules::syncs_whole`], a failure to write anything that was changed since the
    /// file was opened is reported.
    fn sync_file_system_of(&self, file: &Self::FileHandle) -> io::Result<()>;

    /// Removes a file's name.
    fn remove(&self, dir: &Self::DirHandle, name: &OsStr) -> io::Result<()>;

    // ── Directories that serve as locks ───────────────────────────────────────────────────

    /// Whether a directory is gone at once when it is removed while a process has it open. On
    /// Windows it may stay until it is closed.
    fn removes_open_dirs(&self) -> bool {
        cfg!(unix)
    }

    /// When an open directory was last changed, or was set to have been.
    fn dir_modified(&self, dir: &Self::DirHandle) -> io::Result<SystemTime>;

    /// Sets when an open directory was last changed, as exactly as the file system counts time.
    fn set_dir_modified(&self, dir: &Self::DirHandle, time: SystemTime) -> io::Result<()>;

    /// Takes the advisory lock of an open directory, without waiting. `Ok(false)` when another
    /// process holds it. It is released when the directory is closed or the process dies. Where
    /// there are no such locks, or none for a directory opened to name files only, it returns
    /// `Ok(true)`.
    fn try_lock_dir(&self, dir: &Self::DirHandle) -> io::Result<bool>;

    /// Exchanges two names in a directory, in one step. `Ok(false)`, with nothing done, where the
    /// system cannot do that.
    fn exchange(&self, dir: &Self::DirHandle, one: &OsStr, other: &OsStr) -> io::Result<bool>;
}

/// How often an operation that fails with `EINTR` is repeated before the error is returned. A
/// signal interrupts once; a system that fails so for ever must not hang a thread.
const INTERRUPTIONS: usize = 1000;

/// Runs an operation, and repeats it at once when a signal interrupts it.
pub fn uninterrupted<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..INTERRUPTIONS {
        match operation() {
            Err(error) if is_interruption(&error) => continue,
            outcome => return outcome,
        }
    }
    operation()
}

/// In one place, not in each of the callers: errors are rare.
#[cold]
#[inline(never)]
fn is_interruption(error: &io::Error) -> bool {
    Code::of(error) == Some(Code::EINTR)
}
