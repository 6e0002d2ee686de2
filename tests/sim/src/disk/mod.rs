//! What is on the disk, as processes see it and as the disk itself knows it.
//!
//! Every change of names or attributes is made at once in what processes see and noted
//! in a [`Record`]; the records say how the disk may lag behind. Records that are
//! durable in every model are folded into the `durable` halves of the nodes.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use self::rights::{Process, SEARCH};
use super::content::Content;
use holdfast::error::Code;
use holdfast::fs::{FileId, FileKind, Metadata, SyncRules};

mod change;
mod contents;
mod extended;
mod names;
mod paths;
mod rights;
mod setup;
mod sync;

pub(super) use self::change::{Change, Record};
pub(super) use self::rights::AllAttributes;
pub use self::rights::Attributes;

/// The number of a file, directory or link.
pub(super) type Inode = u64;

/// The names in one directory.
pub(super) type Names = BTreeMap<OsString, Inode>;

/// The root directory.
pub(super) const ROOT: Inode = 2;

/// The number of a device: each simulated disk has one of its own, so that what the process
/// remembers of one is not applied to another.
fn new_device() -> u64 {
    static DEVICES: AtomicU64 = AtomicU64::new(1);
    DEVICES.fetch_add(1, Ordering::Relaxed)
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Body {
    File(Content),
    Dir {
        names: Names,
        /// The names that are there whatever happens to the records.
        durable: Names,
    },
    Link(PathBuf),
}

/// A file, directory or symbolic link.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The directory it is in and its name there; nothing once the node has been removed, and for
    /// the root.
    pub(super) entry: Option<(Inode, OsString)>,
    pub(super) attributes: AllAttributes,
    /// The attributes that it has whatever happens to the records.
    pub(super) durable_attributes: AllAttributes,
    /// The number of its last change, among all changes.
    pub(super) changed: i128,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
struct Handle {
    inode: Inode,
    position: usize,
    use_of: HandleUse,
}

/// What a process has a file or directory open for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandleUse {
    File,
    /// A file that was there and was opened for reading.
    ReadOnly,
    /// A file that was opened only to keep its blocks.
    Kept,
    Dir {
        sync: bool,
    },
    /// Another process, which is not counted among the open handles.
    OtherProcess,
}

/// How a disk can copy by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Copying {
    /// Not at all.
    #[default]
    No,
    /// Bytes from one file to another.
    Bytes,
    /// Whole files, by sharing their blocks.
    Sharing,
}

/// The disk.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    device: u64,
    pub(super) nodes: BTreeMap<Inode, Node>,
    next_inode: Inode,
    pub(super) records: VecDeque<Record>,
    /// How many changes there have been.
    changes: i128,
    /// How many of the records a file system that keeps them in order has committed.
    pub(super) committed: usize,
    pub(super) process: Process,
    /// How many bytes the files may have in all.
    limit: Option<u64>,
    pub(super) copying: Copying,
    /// Whether a sync of a file whose name is gone does nothing, as on btrfs.
    pub(super) skips_nameless: bool,
    /// What it says of itself.
    pub(super) sync_rules: SyncRules,
    /// Whether it can sync directories.
    pub(super) syncs_dirs: bool,
    /// Whether it can rename a file without replacing another.
    pub(super) can_rename_new: bool,
    /// Whether a file has another number at each look, and how many looks there have been.
    pub(super) has_unstable_ids: bool,
    looks: Cell<u64>,
    /// How many bytes a name may have.
    pub(super) longest_name: usize,
    /// Whether a free lock says that no process holds it.
    pub(super) sees_all_locks: bool,
    /// Whether it gives the blocks of a file that no name leads to, and that is not open, to others.
    pub(super) reuses_freed: bool,
    /// The files whose blocks may be others' by now.
    pub(super) freed: BTreeSet<Inode>,
    /// Whether it can let two names change places.
    pub(super) can_exchange: bool,
    /// Whether directories can be locked, and are gone at once when they are removed.
    pub(super) has_unix_dirs: bool,
    /// When what is new was made.
    pub(super) clock: SystemTime,
    /// In what steps it counts time.
    pub(super) step: Duration,
    /// When files and directories were last changed, where it was not in 1970.
    times: BTreeMap<Inode, SystemTime>,
    handles: BTreeMap<u64, Handle>,
    /// How many a process may have.
    pub(super) most_open: usize,
    next_handle: u64,
    /// Which handle holds the lock of which file.
    locks: BTreeMap<Inode, u64>,
}

impl Disk {
    pub(super) fn new() -> Disk {
        let process = Process { uid: 1000, gid: 1000, umask: 0o022 };
        let attributes = Attributes { mode: 0o755, uid: process.uid, gid: process.gid };
        let root = Node {
            entry: None,
            attributes: attributes.into(),
            durable_attributes: attributes.into(),
            changed: 0,
            body: Body::Dir { names: Names::new(), durable: Names::new() },
        };
        Disk {
            device: new_device(),
            nodes: BTreeMap::from([(ROOT, root)]),
            next_inode: ROOT + 1,
            records: VecDeque::new(),
            changes: 0,
            committed: 0,
            process,
            limit: None,
            copying: Copying::No,
            skips_nameless: false,
            sync_rules: SyncRules::default(),
            syncs_dirs: true,
            can_rename_new: true,
            has_unstable_ids: false,
            looks: Cell::new(0),
            longest_name: 255,
            sees_all_locks: true,
            reuses_freed: false,
            freed: BTreeSet::new(),
            can_exchange: true,
            has_unix_dirs: true,
            clock: SystemTime::UNIX_EPOCH,
            step: Duration::from_nanos(1),
            times: BTreeMap::new(),
            handles: BTreeMap::new(),
            most_open: usize::MAX,
            next_handle: 1,
            locks: BTreeMap::new(),
        }
    }

    /// The same disk, of which only these nodes are left, all of them durable, and without
    /// processes.
    pub(super) fn with_nodes(&self, nodes: BTreeMap<Inode, Node>) -> Disk {
        Disk {
            device: self.device,
            nodes,
            next_inode: self.next_inode,
            records: VecDeque::new(),
            changes: self.changes,
            committed: 0,
            process: self.process,
            limit: self.limit,
            copying: self.copying,
            skips_nameless: self.skips_nameless,
            sync_rules: self.sync_rules,
            syncs_dirs: self.syncs_dirs,
            can_rename_new: self.can_rename_new,
            has_unstable_ids: self.has_unstable_ids,
            looks: self.looks.clone(),
            longest_name: self.longest_name,
            sees_all_locks: self.sees_all_locks,
            reuses_freed: self.reuses_freed,
            freed: BTreeSet::new(),
            can_exchange: self.can_exchange,
            has_unix_dirs: self.has_unix_dirs,
            clock: self.clock,
            step: self.step,
            times: self.times.clone(),
            handles: BTreeMap::new(),
            most_open: self.most_open,
            next_handle: self.next_handle,
            locks: BTreeMap::new(),
        }
    }

    /// The same disk after every process has died.
    pub(super) fn without_processes(&self) -> Disk {
        let mut disk = Disk { handles: BTreeMap::new(), locks: BTreeMap::new(), ..self.clone() };
        let nodes: Vec<Inode> = disk.nodes.keys().copied().collect();
        nodes.into_iter().for_each(|inode| disk.note_freed(inode));
        disk
    }

    // ── Looking around ────────────────────────────────────────────────────────────────

    fn node(&self, inode: Inode) -> io::Result<&Node> {
        self.nodes.get(&inode).ok_or_else(|| Code::ESTALE.error())
    }

    fn node_mut(&mut self, inode: Inode) -> io::Result<&mut Node> {
        self.nodes.get_mut(&inode).ok_or_else(|| Code::ESTALE.error())
    }

    pub(super) fn names(&self, dir: Inode) -> io::Result<&Names> {
        match &self.node(dir)?.body {
            Body::Dir { names, .. } => Ok(names),
            Body::File(_) | Body::Link(_) => Err(Code::ENOTDIR.error()),
        }
    }

    pub(super) fn content(&self, file: Inode) -> io::Result<&Content> {
        match &self.node(file)?.body {
            Body::File(content) => Ok(content),
            Body::Dir { .. } => Err(Code::EISDIR.error()),
            Body::Link(_) => Err(Code::EINVAL.error()),
        }
    }

    fn content_mut(&mut self, file: Inode) -> io::Result<&mut Content> {
        match &mut self.node_mut(file)?.body {
            Body::File(content) => Ok(content),
            Body::Dir { .. } => Err(Code::EISDIR.error()),
            Body::Link(_) => Err(Code::EINVAL.error()),
        }
    }

    fn check(&self, who: Option<Process>, dir: Inode, wanted: u32) -> io::Result<()> {
        let attributes = self.node(dir)?.attributes.basic;
        match who {
            Some(process) if !process.may(wanted, attributes) => Err(Code::EACCES.error()),
            _ => Ok(()),
        }
    }

    fn child(&self, who: Option<Process>, dir: Inode, name: &OsStr) -> io::Result<Inode> {
        let names = self.names(dir)?;
        self.check(who, dir, SEARCH)?;
        if name.len() > self.longest_name {
            return Err(Code::ENAMETOOLONG.error());
        }
        names.get(name).copied().ok_or_else(|| Code::ENOENT.error())
    }

    fn is_linked(&self, inode: Inode) -> bool {
        inode == ROOT || self.nodes.get(&inode).is_some_and(|node| node.entry.is_some())
    }

    /// A change, for people.
    pub(super) fn describe(&self, change: &Change) -> String {
        let path = |dir: Inode, name: &OsStr| self.path_of(dir).join(name);
        match change {
            Change::Link { dir, name, inode } => {
                format!("new {} = {inode}", path(*dir, name).display())
            }
            Change::Unlink { dir, name, .. } => {
                format!("remove {}", path(*dir, name).display())
            }
            Change::Rename { dir, from, to, inode, .. } => {
                let (from, to) = (path(*dir, from), to.display());
                format!("rename {} = {inode} -> {to}", from.display())
            }
            Change::Attributes { inode, attributes } => {
                let Attributes { mode, uid, gid } = attributes.basic;
                let more = attributes.extended.0.len();
                format!("{inode} gets mode {mode:o}, owner {uid}:{gid}, {more} extended")
            }
            Change::WrittenBack { inode, bytes } => {
                format!("{inode} written back, {} bytes", bytes.len())
            }
        }
    }

    pub(super) fn metadata(&self, inode: Inode) -> io::Result<Metadata> {
        let node = self.node(inode)?;
        let (kind, size) = match &node.body {
            Body::File(content) => (FileKind::File, content.len() as u64),
            Body::Dir { .. } => (FileKind::Dir, 4096),
            Body::Link(target) => {
                (FileKind::Link, target.as_os_str().as_encoded_bytes().len() as u64)
            }
        };
        let number = match self.has_unstable_ids && kind == FileKind::File {
            true => {
                self.looks.set(self.looks.get() + 1);
                u128::from(inode) << 64 | u128::from(self.looks.get())
            }
            false => u128::from(inode),
        };
        Ok(Metadata {
            id: FileId { device: self.device, inode: number },
            kind,
            size,
            mode: node.attributes.basic.mode,
            uid: node.attributes.basic.uid,
            gid: node.attributes.basic.gid,
            changed: node.changed,
        })
    }

    pub(super) fn metadata_of_name(&self, dir: Inode, name: &OsStr) -> io::Result<Metadata> {
        self.metadata(self.child(Some(self.process), dir, name)?)
    }

    pub(super) fn read_link(&self, dir: Inode, name: &OsStr) -> io::Result<PathBuf> {
        match &self.node(self.child(Some(self.process), dir, name)?)?.body {
            Body::Link(target) => Ok(target.clone()),
            Body::File(_) | Body::Dir { .. } => Err(Code::EINVAL.error()),
        }
    }

    /// How many bytes the files have that a process can still reach.
    fn used(&self) -> u64 {
        let is_open = |inode: Inode| self.handles.values().any(|handle| handle.inode == inode);
        self.nodes
            .iter()
            .map(|(inode, node)| match &node.body {
                Body::File(content) if node.entry.is_some() || is_open(*inode) => {
                    content.len() as u64
                }
                _ => 0,
            })
            .sum()
    }

    pub(super) fn set_free_space(&mut self, bytes: Option<u64>) {
        self.limit = bytes.map(|bytes| self.used().saturating_add(bytes));
    }

    fn free_space(&self) -> u64 {
        self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.used()))
    }

    // ── Handles and locks ─────────────────────────────────────────────────────────────

    pub(super) fn open(&mut self, inode: Inode, use_of: HandleUse) -> u64 {
        let handle = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(handle, Handle { inode, position: 0, use_of });
        handle
    }

    /// `frees` says whether the disk learns of it: not when its power is off.
    pub(super) fn close(&mut self, handle: u64, frees: bool) {
        let closed = self.handles.remove(&handle);
        self.locks.retain(|_, holder| *holder != handle);
        if let Some(Handle { inode, .. }) = closed.filter(|_| frees) {
            self.note_freed(inode);
        }
    }

    /// Gives the blocks of a file to others, if no name leads to it and no process has it open.
    fn note_freed(&mut self, inode: Inode) {
        let is_open = self.handles.values().any(|handle| handle.inode == inode);
        if self.reuses_freed && !is_open && !self.is_linked(inode) && self.content(inode).is_ok() {
            self.freed.insert(inode);
        }
    }

    /// Whether the process may open one more.
    pub(super) fn may_open(&self) -> bool {
        self.handles.len() < self.most_open
    }

    /// The open files and directories.
    pub(super) fn open_handles(&self) -> (usize, usize) {
        let count = |wanted: fn(HandleUse) -> bool| {
            self.handles.values().filter(|handle| wanted(handle.use_of)).count()
        };
        (
            count(|use_of| {
                matches!(use_of, HandleUse::File | HandleUse::ReadOnly | HandleUse::Kept)
            }),
            count(|use_of| matches!(use_of, HandleUse::Dir { .. })),
        )
    }

    fn handle(&self, handle: u64) -> io::Result<&Handle> {
        self.handles.get(&handle).ok_or_else(|| Code::EBADF.error())
    }

    pub(super) fn inode_of(&self, handle: u64) -> io::Result<Inode> {
        Ok(self.handle(handle)?.inode)
    }

    pub(super) fn try_lock(&mut self, handle: u64) -> io::Result<bool> {
        let inode = self.inode_of(handle)?;
        Ok(*self.locks.entry(inode).or_insert(handle) == handle)
    }

    pub(super) fn try_lock_dir(&mut self, handle: u64) -> io::Result<bool> {
        if self.has_unix_dirs { self.try_lock(handle) } else { Ok(true) }
    }

    pub(super) fn is_locked(&self, inode: Inode) -> bool {
        self.locks.contains_key(&inode)
    }

    pub(super) fn open_dir_in(&mut self, dir: Inode, name: &OsStr, sync: bool) -> io::Result<u64> {
        // A directory that has been removed has no path, and no names.
        let inode = self.child(Some(self.process), dir, name)?;
        if matches!(self.node(inode)?.body, Body::Link(_)) {
            return self.open_dir(&self.path_of(dir).join(name), sync);
        }
        self.names(inode)?;
        Ok(self.open(inode, HandleUse::Dir { sync }))
    }

    pub(super) fn open_dir(&mut self, path: &Path, sync: bool) -> io::Result<u64> {
        let inode = self.walk(Some(self.process), path, true)?;
        self.names(inode)?;
        Ok(self.open(inode, HandleUse::Dir { sync }))
    }
}
