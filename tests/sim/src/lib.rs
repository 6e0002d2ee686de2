//! A simulated disk, for tests: its power can be cut at any moment.
//!
//! [`SimFs`] is a [`FileSystem`] in memory. Beside what processes see, it knows what is
//! surely on the disk, and so can list every state in which a power cut might leave it. It
//! numbers and logs every operation, and can make any of them fail.
//!
//! # A tour
//!
//! ```
//! use std::ffi::OsStr;
//! use holdfast_sim::{Model, SimFs};
//! use holdfast::fs::{FileSystem, DirUse};
//! use holdfast::payload::Chunk;
//!
//! // A disk with one file on it, durable.
//! let fs = SimFs::new();
//! fs.put_file("/box/note", b"old")?;
//!
//! // Replace it, but forget to sync.
//! let directory = fs.open_dir("/box".as_ref(), DirUse::NamesAndSync)?;
//! let file = fs.create_new(&directory, OsStr::new("temp"), 0o644)?;
//! fs.write(&file, Chunk::Slice(b"new"))?;
//! fs.rename(&directory, &file, OsStr::new("temp"), OsStr::new("note"))?;
//! assert_eq!(*fs.read_file("/box/note")?, b"new");
//!
//! // Every process reads the new bytes, but a power cut may leave the note empty.
//! let left = fs.crash_states(Model::StrictPosix, 1000);
//! assert!(left.into_iter().any(|state| state.fs.read_file("/box/note").unwrap().is_empty()));
//! # std::io::Result::Ok(())
//! ```
//!
//! # What is durable
//!
//! Three things reach the disk each on its own: the bytes of a file, its attributes
//! (mode, owner), and the names in a directory.
//!
//! - [`sync_file`](holdfast::fs::FileSystem::sync_file) makes the bytes and the attributes of that
//!   file durable; not its name.
//! - [`sync_data`](holdfast::fs::FileSystem::sync_data) makes the bytes and the size durable, and no
//!   attributes.
//! - [`sync_dir`](holdfast::fs::FileSystem::sync_dir) makes the names in that directory durable;
//!   not what is in the files, and not the name of the directory itself in the one above.
//! - Without a sync, bytes may be lost, cut short or replaced by zeros, in full or in
//!   part; bytes that were written over others are replaced or not, sector by sector (512
//!   bytes), and a sector may be torn; attributes may have any value they had since they were last durable; and of
//!   the changes of names any may be missing, whatever came before or after it. One
//!   rename is never done by halves, and takes the file to its new name even if the disk
//!   never heard of the old one.
//! - After a sync that *failed*, what it should have written counts as written: a later
//!   sync succeeds and says nothing about it. Linux does so (Rebello et al., 'Can
//!   Applications Recover from fsync Failures?', ATC 2020). Bytes that are written again
//!   can be synced again. An interruption (`EINTR`) or a refusal (`EACCES`, `EINVAL`…) is
//!   not such a failure: nothing was tried.
//!
//! That is [`Model::StrictPosix`]. [`Model::OrderedMetadata`] is what ext4 and xfs
//! promise in addition, and what may be relied on where the file system is known:
//! names, sizes and attributes change in order, in one log. There
//! [`await_write_back`](holdfast::fs::FileSystem::await_write_back) means something, too.
//!
//! A disk may give the blocks of a file whose name is gone, and that is not open, to other files
//! before that is durable ([`SimFs::set_reuses_freed`]). Then the old name may come back, in
//! either model, and lead to bytes of another file.
//!
//! # What goes wrong
//!
//! [`SimFs::inject`] takes a [`Fault`]: the Nth operation (of a kind, on a path) fails
//! once or for ever, with any error, before or after it took effect, takes only a part
//! of the bytes, is ignored without an error, is preceded by an act of another process, or
//! finds the power gone. [`SimFs::set_free_space`] makes the disk small.
//!
//! # What is not modelled
//!
//! Several devices, hard links, what access control lists allow and deny (they are kept as bytes, and
//! follow the mode bits), lists that directories give to new files, sticky directories,
//! time stamps (everything was changed in 1970, or when a test or a caller said, and a power
//! cut does not undo that), write-back errors that show up without a sync, a
//! [`rename_new`](holdfast::fs::FileSystem::rename_new) that takes two steps, and renames from one
//! directory to another. Symbolic links are made by tests only and are durable at once.
//! [`Chunk::Memory`] is answered with `EFAULT`: there is no kernel here to read foreign
//! memory.
//!
//! [`FileSystem`]: holdfast::fs::FileSystem
//! [`Chunk::Memory`]: holdfast::payload::Chunk::Memory

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use self::disk::{Body, Disk, HandleUse, Names};
use holdfast::error::Code;
use holdfast::fs::{ExtendedAttributes, Metadata};

mod content;
mod crash;
mod disk;
mod faults;
mod operations;

pub use self::crash::{CrashState, CrashStates, Description, Model};
pub use self::disk::{Attributes, Copying};
pub use self::faults::{Fault, OperationKind, Performed};

/// A simulated disk. Clones are handles of the same disk.
#[derive(Clone)]
pub struct SimFs {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    disk: Disk,
    faults: Vec<Fault>,
    log: Vec<Performed>,
    count: u64,
    is_off: bool,
}

/// An open handle, closed when it is dropped.
struct Handle {
    fs: SimFs,
    number: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut shared = self.fs.lock();
        let frees = !shared.is_off;
        shared.disk.close(self.number, frees);
    }
}

/// An open file of a [`SimFs`]; dropping it closes the file and frees its lock.
pub struct SimFile(Handle);

/// An open directory of a [`SimFs`].
pub struct SimDir(Handle);

/// The lock of a file, held by another process until this is dropped.
#[must_use = "dropping it frees the lock"]
pub struct ForeignLock(#[allow(dead_code, reason = "dropping it closes the file")] Handle);

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.0.number)
    }
}

impl fmt::Debug for SimDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDir({})", self.0.number)
    }
}

impl fmt::Debug for ForeignLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForeignLock")
    }
}

impl Default for SimFs {
    fn default() -> SimFs {
        SimFs::new()
    }
}

/// The disk: setting it up, looking at it, cutting its power. Nothing here is counted as an
/// operation, and nothing here is refused for lack of permission.
impl SimFs {
    /// An empty disk. Its one process has uid and gid 1000 and umask 022, and owns the
    /// root directory.
    pub fn new() -> SimFs {
        SimFs::from_disk(Disk::new())
    }

    fn from_disk(disk: Disk) -> SimFs {
        let shared = Shared { disk, faults: Vec::new(), log: Vec::new(), count: 0, is_off: false };
        SimFs { shared: Arc::new(Mutex::new(shared)) }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        guard(&self.shared)
    }

    /// The user of the process from now on. 0 is root, which may do anything.
    pub fn set_user(&self, uid: u32, gid: u32) {
        let process = &mut self.lock().disk.process;
        process.uid = uid;
        process.gid = gid;
    }

    /// The permission bits that new files and directories do not get.
    pub fn set_umask(&self, umask: u32) {
        self.lock().disk.process.umask = umask & 0o777;
    }

    /// How many more bytes the files on the disk may have, from now on; `None` for any
    /// number. A write that does not fit is short, and the next one fails with `ENOSPC`.
    /// A file frees its bytes when its name is gone and no process has it open.
    pub fn set_free_space(&self, bytes: Option<u64>) {
        self.lock().disk.set_free_space(bytes);
    }

    /// Whether a file can be renamed without replacing another. At first it can.
    pub fn set_can_rename_new(&self, can_rename_new: bool) {
        self.lock().disk.can_rename_new = can_rename_new;
    }

    /// Whether a file has another number at each look. At first it has not.
    pub fn set_has_unstable_ids(&self, has_unstable_ids: bool) {
        self.lock().disk.has_unstable_ids = has_unstable_ids;
    }

    /// Whether directories can be synced. At first they can.
    pub fn set_syncs_dirs(&self, syncs_dirs: bool) {
        self.lock().disk.syncs_dirs = syncs_dirs;
    }

    /// How many bytes a name may have; at first 255.
    pub fn set_longest_name(&self, bytes: usize) {
        self.lock().disk.longest_name = bytes;
    }

    /// Whether two names can be exchanged. At first they can.
    pub fn set_can_exchange(&self, can_exchange: bool) {
        self.lock().disk.can_exchange = can_exchange;
    }

    /// Whether directories can be locked, and are gone at once when they are removed while they are
    /// open. At first it is so; on Windows it is not.
    pub fn set_has_unix_dirs(&self, minds: bool) {
        self.lock().disk.has_unix_dirs = minds;
    }

    /// The time that new directories have, from now on; at first that of 1970.
    pub fn set_clock(&self, now: SystemTime) {
        self.lock().disk.clock = now;
    }

    /// In what steps the disk counts time, rounding down; at first nanoseconds.
    pub fn set_time_step(&self, step: Duration) {
        self.lock().disk.step = step;
    }

    /// Says whether the disk claims to keep metadata in order. Whether that is true is a matter
    /// of the [`Model`] that its crash states are taken from.
    pub fn set_keeps_order(&self, keeps_order: bool) {
        self.lock().disk.sync_rules.keeps_order = keeps_order;
    }

    /// Says whether the locks of files are seen by every process, as at first. They are not on
    /// some network file systems.
    pub fn set_sees_all_locks(&self, sees_all_locks: bool) {
        self.lock().disk.sees_all_locks = sees_all_locks;
    }

    /// Makes the disk give the blocks of a file to other files as soon as no name leads to it and
    /// no process has it open, and say so. Until that is durable a power cut may bring the name
    /// back, with bytes of another file, which any process may have written.
    pub fn set_reuses_freed(&self, reuses_freed: bool) {
        let disk = &mut self.lock().disk;
        disk.reuses_freed = reuses_freed;
        disk.sync_rules.reuses_freed = reuses_freed;
    }

    /// The same, but the disk does not say so.
    pub fn set_reuses_freed_silently(&self) {
        self.lock().disk.reuses_freed = true;
    }

    /// Makes a sync of a file whose name is gone, or leads to another file, do nothing.
    pub fn set_skips_nameless(&self, skips_nameless: bool) {
        self.lock().disk.skips_nameless = skips_nameless;
    }

    /// Says how many files and directories a process may have open at once.
    pub fn set_most_open(&self, most: usize) {
        self.lock().disk.most_open = most;
    }

    /// Says whether the disk claims that a sync of all of it tells of every failure.
    pub fn set_syncs_whole(&self, syncs_whole: bool) {
        self.lock().disk.sync_rules.syncs_whole = syncs_whole;
    }

    /// Says when a file or a directory was last changed. Without that it was in 1970; what happens
    /// to it later does not change that.
    ///
    /// # Errors
    ///
    /// `ENOENT`, and what may be in the way.
    pub fn set_modified(&self, path: impl AsRef<Path>, time: SystemTime) -> io::Result<()> {
        let disk = &mut self.lock().disk;
        let inode = disk.walk(None, path.as_ref(), false)?;
        disk.set_modified(inode, time);
        Ok(())
    }

    /// How the disk can copy by itself, from now on. At first it cannot.
    pub fn set_copying(&self, copying: Copying) {
        self.lock().disk.copying = copying;
    }

    /// Puts a file there, durable, with the directories above it. An existing file gets this
    /// content and keeps its attributes; new ones belong to the process and have mode
    /// 0644.
    ///
    /// # Errors
    ///
    /// As the system would: something else has the name (`EEXIST`), or is in the way.
    pub fn put_file(&self, path: impl AsRef<Path>, content: &[u8]) -> io::Result<()> {
        self.lock().disk.put(path.as_ref(), None, Disk::file(content))
    }

    /// The same, with these attributes.
    ///
    /// # Errors
    ///
    /// See [`SimFs::put_file`].
    pub fn put_file_with(
        &self,
        path: impl AsRef<Path>,
        content: &[u8],
        attributes: Attributes,
    ) -> io::Result<()> {
        self.lock().disk.put(path.as_ref(), Some(attributes), Disk::file(content))
    }

    /// Gives what is at a path an extended attribute, or takes it away, durably, as another process
    /// would.
    ///
    /// # Errors
    ///
    /// `ENOENT`, and what may be in the way.
    pub fn put_extended(
        &self,
        path: impl AsRef<Path>,
        name: &str,
        value: Option<&[u8]>,
    ) -> io::Result<()> {
        self.lock().disk.put_extended(path.as_ref(), OsStr::new(name), value)
    }

    /// The extended attributes of a file. Symbolic links are followed.
    ///
    /// # Errors
    ///
    /// `ENOENT`, and what may be in the way.
    pub fn extended(&self, path: impl AsRef<Path>) -> io::Result<ExtendedAttributes> {
        let disk = &self.lock().disk;
        let found = disk.extended(disk.walk(None, path.as_ref(), true)?)?;
        Ok(found.unwrap_or_default())
    }

    /// Puts a directory there, durable, with the directories above it, mode 0755 if it is new.
    ///
    /// # Errors
    ///
    /// See [`SimFs::put_file`].
    pub fn put_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let body = Body::Dir { names: Names::new(), durable: Names::new() };
        self.lock().disk.put(path.as_ref(), None, body)
    }

    /// The same, with these attributes.
    ///
    /// # Errors
    ///
    /// See [`SimFs::put_file`].
    pub fn put_dir_with(&self, path: impl AsRef<Path>, attributes: Attributes) -> io::Result<()> {
        let body = Body::Dir { names: Names::new(), durable: Names::new() };
        self.lock().disk.put(path.as_ref(), Some(attributes), body)
    }

    /// Puts a symbolic link there, durable, with the directories above it.
    ///
    /// # Errors
    ///
    /// See [`SimFs::put_file`].
    pub fn put_link(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> io::Result<()> {
        let body = Body::Link(target.as_ref().to_owned());
        self.lock().disk.put(path.as_ref(), None, body)
    }

    /// Removes a file, a link or an empty directory, as another process would: what this
    /// leaves on the disk is as uncertain as after [`FileSystem::remove`].
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTEMPTY`, and what may stop one on the way there.
    pub fn take_away(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.lock().disk.take_away(path.as_ref())
    }

    /// Everything is durable from now on, as if the machine had been idle for long.
    pub fn make_all_durable(&self) {
        self.lock().disk.make_all_durable();
    }

    /// Holds the lock of a file as another process would, a sweeper for example. It does
    /// not count among the open handles.
    ///
    /// # Errors
    ///
    /// `EAGAIN` when a process holds it already, `ENOENT`.
    pub fn hold_lock(&self, path: impl AsRef<Path>) -> io::Result<ForeignLock> {
        let mut shared = self.lock();
        let disk = &mut shared.disk;
        let inode = disk.walk(None, path.as_ref(), true)?;
        disk.content(inode)?;
        if disk.is_locked(inode) {
            return Err(Code::EAGAIN.error());
        }
        let number = disk.open(inode, HandleUse::OtherProcess);
        disk.try_lock(number)?;
        drop(shared);
        Ok(ForeignLock(Handle { fs: self.clone(), number }))
    }

    /// Whether a process holds the lock of a file.
    ///
    /// # Errors
    ///
    /// `ENOENT`, and what may be in the way.
    pub fn is_locked(&self, path: impl AsRef<Path>) -> io::Result<bool> {
        let disk = &self.lock().disk;
        Ok(disk.is_locked(disk.walk(None, path.as_ref(), true)?))
    }

    /// The content of a file, as processes see it. Symbolic links are followed.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `EISDIR`, and what may stop one on the way there.
    pub fn read_file(&self, path: impl AsRef<Path>) -> io::Result<Arc<Vec<u8>>> {
        let disk = &self.lock().disk;
        let inode = disk.walk(None, path.as_ref(), true)?;
        Ok(Arc::clone(disk.content(inode)?.cached()))
    }

    /// The names in a directory, in order.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTDIR`, and what may stop one on the way there.
    pub fn list(&self, path: impl AsRef<Path>) -> io::Result<Vec<OsString>> {
        let disk = &self.lock().disk;
        let inode = disk.walk(None, path.as_ref(), true)?;
        Ok(disk.names(inode)?.keys().cloned().collect())
    }

    /// What is known about a file or directory. Symbolic links are followed.
    ///
    /// # Errors
    ///
    /// `ENOENT`, and what may be in the way.
    pub fn inspect(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        let disk = &self.lock().disk;
        disk.metadata(disk.walk(None, path.as_ref(), true)?)
    }

    /// The same; a symbolic link at the end of the path is not followed.
    ///
    /// # Errors
    ///
    /// See [`SimFs::inspect`].
    pub fn inspect_name(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        let disk = &self.lock().disk;
        disk.metadata(disk.walk(None, path.as_ref(), false)?)
    }

    /// The path of everything on the disk, the root included, directories before what is in
    /// them.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock().disk.tree().into_iter().map(|(path, _)| path).collect()
    }

    /// Everything on the disk, one line each, for people.
    pub fn describe(&self) -> String {
        let disk = &self.lock().disk;
        let mut text = String::new();
        for (path, inode) in disk.tree() {
            let Some(node) = disk.nodes.get(&inode) else { continue };
            let Attributes { mode, uid, gid } = node.attributes.basic;
            text += &format!("{inode:>4} {mode:04o} {uid}:{gid} {}", path.display());
            match &node.body {
                Body::File(content) => {
                    let bytes = content.cached();
                    let start = bytes.get(..bytes.len().min(32)).unwrap_or_default();
                    text += &format!(" {} bytes \"{}\"", bytes.len(), start.escape_ascii());
                }
                Body::Dir { .. } => text += " directory",
                Body::Link(target) => text += &format!(" -> {}", target.display()),
            }
            text.push('\n');
        }
        text
    }

    /// How many files and directories the process has open.
    pub fn open_handles(&self) -> (usize, usize) {
        self.lock().disk.open_handles()
    }

    /// Adds a fault, from now on.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Removes all faults; if the power was off, it is on again, with everything that was still in
    /// memory.
    pub fn repair(&self) {
        let mut shared = self.lock();
        shared.faults.clear();
        shared.is_off = false;
    }

    /// How many operations there were.
    pub fn count(&self) -> u64 {
        self.lock().count
    }

    /// The operations there were. One that was interrupted by another thread's comes
    /// after it.
    pub fn log(&self) -> Vec<Performed> {
        self.lock().log.clone()
    }

    /// The same, one line each, for people.
    pub fn log_text(&self) -> String {
        self.lock().log.iter().map(|performed| format!("{performed}\n")).collect()
    }

    /// The disk after the process was killed, with the power on: everything is as
    /// processes see it now, and as uncertain as it is now, but nothing is open or locked. It
    /// has no faults, and its count of operations starts anew. The original is not affected, so
    /// this serves to copy a disk, too.
    pub fn after_kill(&self) -> SimFs {
        SimFs::from_disk(self.lock().disk.without_processes())
    }

    /// The states that a power cut at this moment may leave, each once; if there are many
    /// more than `most`, a selection of about so many, the same one every time.
    ///
    /// The selection has the states with few deviations from 'nothing unsynced has reached
    /// the disk' and from 'everything has', and random ones.
    pub fn crash_states(&self, model: Model, most: usize) -> CrashStates {
        self.crash_states_seeded(model, most, 0)
    }

    /// The same, with another random selection for each `seed`.
    pub fn crash_states_seeded(&self, model: Model, most: usize, seed: u64) -> CrashStates {
        let disk = self.lock().disk.clone();
        crash::states(&disk, model, most, seed)
    }
}

/// Locks a mutex. What a panicking test has left behind can still be looked at.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
