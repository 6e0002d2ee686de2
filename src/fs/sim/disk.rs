//! What is on the disk, as processes see it and as the disk itself knows it.
//!
//! Every change of names or attributes is made at once in what processes see and noted
//! in a [`Record`]; the records say how the disk may lag behind. Records that are
//! durable in every model are folded into the `settled` halves of the nodes.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::content::{Bytes, Content};
use crate::errno::Code;
use crate::fs::{FileId, FileKind, Metadata, SyncRules};

/// The number of a file, folder or link.
pub(super) type Inode = u64;

/// The names in one folder.
pub(super) type Names = BTreeMap<OsString, Inode>;

/// The root folder.
pub(super) const ROOT: Inode = 2;

/// The number of a device: each simulated disk has one of its own, so that what the process
/// remembers of one is not taken for known of another.
fn new_device() -> u64 {
    static DEVICES: AtomicU64 = AtomicU64::new(1);
    DEVICES.fetch_add(1, Ordering::Relaxed)
}

/// How many symbolic links a path may lead through, as on Linux.
const LINKS: usize = 40;

/// The longest name, in bytes.
const LONGEST_NAME: usize = 255;

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// Who may do what with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attributes {
    /// The permission bits, set-user-id, set-group-id and sticky included.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// The process whose operations the disk serves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) umask: u32,
}

const READ: u32 = 4;
const WRITE: u32 = 2;
const SEARCH: u32 = 1;

impl Process {
    fn may(self, wanted: u32, attributes: Attributes) -> bool {
        let granted = if self.uid == attributes.uid {
            attributes.mode >> 6
        } else if self.gid == attributes.gid {
            attributes.mode >> 3
        } else {
            attributes.mode
        };
        self.uid == 0 || granted & wanted == wanted
    }
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Body {
    File(Content),
    Folder {
        names: Names,
        /// The names that are there whatever happens to the records.
        settled: Names,
    },
    Link(PathBuf),
}

/// A file, folder or symbolic link.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The folder it is in and its name there; nothing once it has been removed, and for
    /// the root.
    pub(super) place: Option<(Inode, OsString)>,
    pub(super) attributes: Attributes,
    /// The attributes it has whatever happens to the records.
    pub(super) settled: Attributes,
    pub(super) body: Body,
}

/// One change of names or attributes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A name was given to a new file or folder.
    Link { folder: Inode, name: OsString, inode: Inode },
    /// A name was taken away.
    Unlink { folder: Inode, name: OsString, inode: Inode },
    /// A file got another name in the same folder.
    Rename { folder: Inode, from: OsString, to: OsString, inode: Inode, replaced: Option<Inode> },
    /// A file got other attributes.
    Attributes { inode: Inode, attributes: Attributes },
    /// The content of a file is on the disk, and the size that says so is about to be.
    WrittenBack { inode: Inode, bytes: Bytes },
}

impl Change {
    /// The folder whose names changed.
    pub(super) fn folder(&self) -> Option<Inode> {
        match self {
            Change::Link { folder, .. }
            | Change::Unlink { folder, .. }
            | Change::Rename { folder, .. } => Some(*folder),
            Change::Attributes { .. } | Change::WrittenBack { .. } => None,
        }
    }

    fn touches(&self, node: Inode) -> bool {
        let (inode, replaced) = match self {
            Change::Rename { inode, replaced, .. } => (*inode, *replaced),
            Change::Link { inode, .. }
            | Change::Unlink { inode, .. }
            | Change::Attributes { inode, .. }
            | Change::WrittenBack { inode, .. } => (*inode, None),
        };
        inode == node || replaced == Some(node) || self.folder() == Some(node)
    }

    /// Makes the change in the names of its folder. A name is only taken from the node
    /// that the change is about: it may belong to another one when changes are left out.
    pub(super) fn apply(&self, names: &mut Names) {
        let mut take = |name: &OsString, inode: Inode| {
            if names.get(name) == Some(&inode) {
                names.remove(name);
            }
        };
        match self {
            Change::Unlink { name, inode, .. } => take(name, *inode),
            Change::Link { name, inode, .. } => {
                names.insert(name.clone(), *inode);
            }
            Change::Rename { from, to, inode, .. } => {
                take(from, *inode);
                names.insert(to.clone(), *inode);
            }
            Change::Attributes { .. } | Change::WrittenBack { .. } => {}
        }
    }
}

/// A change, and what is known of its way to the disk.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) change: Change,
    /// A sync of what it touched has said so.
    pub(super) durable: bool,
    /// A sync of its folder has failed, so no later one speaks for it.
    doubtful: bool,
}

#[derive(Clone, Debug)]
struct Handle {
    inode: Inode,
    position: usize,
    use_of: HandleUse,
}

/// What somebody has a file or folder open for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandleUse {
    File,
    /// A file that was there and was opened for reading.
    ReadOnly,
    Folder {
        sync: bool,
    },
    /// Another process, which is not counted among the open handles.
    Elsewhere,
}

/// How a disk can copy by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Copying {
    /// Not at all.
    #[default]
    No,
    /// Bytes from one file to another.
    Bytes,
    /// Whole files, by sharing their place.
    Sharing,
}

/// The disk.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    device: u64,
    pub(super) nodes: BTreeMap<Inode, Node>,
    next_inode: Inode,
    pub(super) records: VecDeque<Record>,
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
    /// Whether it can let two names change places.
    pub(super) can_exchange: bool,
    /// Whether folders can be locked, and are gone at once when they are removed.
    pub(super) minds_open_folders: bool,
    /// When what is new was made.
    pub(super) clock: SystemTime,
    /// In what steps it counts time.
    pub(super) step: Duration,
    /// When files and folders were last changed, where it was not in 1970.
    times: BTreeMap<Inode, SystemTime>,
    handles: BTreeMap<u64, Handle>,
    next_handle: u64,
    /// Which handle holds the lock of which file.
    locks: BTreeMap<Inode, u64>,
}

enum Step {
    Root,
    Up,
    Name(OsString),
}

/// The steps of a path, the first one last.
fn steps(path: &Path) -> io::Result<Vec<Step>> {
    let mut steps = Vec::new();
    for component in path.components() {
        match component {
            Component::Prefix(_) => return Err(Code::EINVAL.error()),
            Component::RootDir => steps.push(Step::Root),
            Component::CurDir => {}
            Component::ParentDir => steps.push(Step::Up),
            Component::Normal(name) => steps.push(Step::Name(name.to_owned())),
        }
    }
    steps.reverse();
    Ok(steps)
}

fn check_name(name: &OsStr) -> io::Result<()> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name => {}
        _ => return Err(Code::EINVAL.error()),
    }
    if name.as_encoded_bytes().len() > LONGEST_NAME {
        return Err(Code::ENAMETOOLONG.error());
    }
    Ok(())
}

impl Disk {
    pub(super) fn new() -> Disk {
        let process = Process { uid: 1000, gid: 1000, umask: 0o022 };
        let attributes = Attributes { mode: 0o755, uid: process.uid, gid: process.gid };
        let root = Node {
            place: None,
            attributes,
            settled: attributes,
            body: Body::Folder { names: Names::new(), settled: Names::new() },
        };
        Disk {
            device: new_device(),
            nodes: BTreeMap::from([(ROOT, root)]),
            next_inode: ROOT + 1,
            records: VecDeque::new(),
            committed: 0,
            process,
            limit: None,
            copying: Copying::No,
            skips_nameless: false,
            sync_rules: SyncRules::default(),
            can_exchange: true,
            minds_open_folders: true,
            clock: SystemTime::UNIX_EPOCH,
            step: Duration::from_nanos(1),
            times: BTreeMap::new(),
            handles: BTreeMap::new(),
            next_handle: 1,
            locks: BTreeMap::new(),
        }
    }

    /// The same disk, of which only these nodes are left, all of it durable, and nobody
    /// at work on it.
    pub(super) fn with_nodes(&self, nodes: BTreeMap<Inode, Node>) -> Disk {
        Disk {
            device: self.device,
            nodes,
            next_inode: self.next_inode,
            records: VecDeque::new(),
            committed: 0,
            process: self.process,
            limit: self.limit,
            copying: self.copying,
            skips_nameless: self.skips_nameless,
            sync_rules: self.sync_rules,
            can_exchange: self.can_exchange,
            minds_open_folders: self.minds_open_folders,
            clock: self.clock,
            step: self.step,
            times: self.times.clone(),
            handles: BTreeMap::new(),
            next_handle: self.next_handle,
            locks: BTreeMap::new(),
        }
    }

    /// The same disk after every process has died.
    pub(super) fn without_processes(&self) -> Disk {
        Disk { handles: BTreeMap::new(), locks: BTreeMap::new(), ..self.clone() }
    }

    // ── Looking around ────────────────────────────────────────────────────────────────

    fn node(&self, inode: Inode) -> io::Result<&Node> {
        self.nodes.get(&inode).ok_or_else(|| Code::ESTALE.error())
    }

    fn node_mut(&mut self, inode: Inode) -> io::Result<&mut Node> {
        self.nodes.get_mut(&inode).ok_or_else(|| Code::ESTALE.error())
    }

    pub(super) fn names(&self, folder: Inode) -> io::Result<&Names> {
        match &self.node(folder)?.body {
            Body::Folder { names, .. } => Ok(names),
            Body::File(_) | Body::Link(_) => Err(Code::ENOTDIR.error()),
        }
    }

    pub(super) fn content(&self, file: Inode) -> io::Result<&Content> {
        match &self.node(file)?.body {
            Body::File(content) => Ok(content),
            Body::Folder { .. } => Err(Code::EISDIR.error()),
            Body::Link(_) => Err(Code::EINVAL.error()),
        }
    }

    fn content_mut(&mut self, file: Inode) -> io::Result<&mut Content> {
        match &mut self.node_mut(file)?.body {
            Body::File(content) => Ok(content),
            Body::Folder { .. } => Err(Code::EISDIR.error()),
            Body::Link(_) => Err(Code::EINVAL.error()),
        }
    }

    fn check(&self, who: Option<Process>, folder: Inode, wanted: u32) -> io::Result<()> {
        let attributes = self.node(folder)?.attributes;
        match who {
            Some(process) if !process.may(wanted, attributes) => Err(Code::EACCES.error()),
            _ => Ok(()),
        }
    }

    fn child(&self, who: Option<Process>, folder: Inode, name: &OsStr) -> io::Result<Inode> {
        let names = self.names(folder)?;
        self.check(who, folder, SEARCH)?;
        names.get(name).copied().ok_or_else(|| Code::ENOENT.error())
    }

    fn is_linked(&self, inode: Inode) -> bool {
        inode == ROOT || self.nodes.get(&inode).is_some_and(|node| node.place.is_some())
    }

    /// Follows a path. Nobody in particular (`None`) may go anywhere.
    pub(super) fn walk(
        &self,
        who: Option<Process>,
        path: &Path,
        follow_last: bool,
    ) -> io::Result<Inode> {
        if !path.has_root() {
            return Err(Code::EINVAL.error());
        }
        let mut links = 0;
        let mut at = ROOT;
        let mut ahead = steps(path)?;
        while let Some(step) = ahead.pop() {
            match step {
                Step::Root => at = ROOT,
                Step::Up => {
                    at = self.node(at)?.place.as_ref().map_or(ROOT, |(folder, _)| *folder);
                }
                Step::Name(name) => {
                    let child = self.child(who, at, &name)?;
                    match &self.node(child)?.body {
                        Body::Link(target) if follow_last || !ahead.is_empty() => {
                            links += 1;
                            if links > LINKS {
                                return Err(Code::ELOOP.error());
                            }
                            ahead.append(&mut steps(target)?);
                        }
                        _ => at = child,
                    }
                }
            }
        }
        Ok(at)
    }

    /// The folder that a path names something in, and that name.
    fn walk_to_parent(&self, who: Option<Process>, path: &Path) -> io::Result<(Inode, OsString)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Code::EEXIST.error());
        };
        Ok((self.walk(who, parent, true)?, name.to_owned()))
    }

    /// What a node is called at the moment.
    pub(super) fn path_of(&self, inode: Inode) -> PathBuf {
        let mut names = Vec::new();
        let mut at = inode;
        while at != ROOT {
            match self.nodes.get(&at).and_then(|node| node.place.as_ref()) {
                Some((folder, name)) => {
                    names.push(name.clone());
                    at = *folder;
                }
                None => {
                    names.push(format!("(nameless {at})").into());
                    break;
                }
            }
        }
        let mut path = PathBuf::from("/");
        path.extend(names.iter().rev());
        path
    }

    /// A change, for people.
    pub(super) fn describe(&self, change: &Change) -> String {
        let path = |folder: Inode, name: &OsStr| self.path_of(folder).join(name);
        match change {
            Change::Link { folder, name, inode } => {
                format!("new {} = {inode}", path(*folder, name).display())
            }
            Change::Unlink { folder, name, .. } => {
                format!("remove {}", path(*folder, name).display())
            }
            Change::Rename { folder, from, to, inode, .. } => {
                let (from, to) = (path(*folder, from), to.display());
                format!("rename {} = {inode} -> {to}", from.display())
            }
            Change::Attributes { inode, attributes } => {
                let Attributes { mode, uid, gid } = attributes;
                format!("{inode} gets mode {mode:o}, owner {uid}:{gid}")
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
            Body::Folder { .. } => (FileKind::Folder, 4096),
            Body::Link(target) => {
                (FileKind::Link, target.as_os_str().as_encoded_bytes().len() as u64)
            }
        };
        Ok(Metadata {
            id: FileId { device: self.device, inode: u128::from(inode) },
            kind,
            size,
            mode: node.attributes.mode,
            uid: node.attributes.uid,
            gid: node.attributes.gid,
        })
    }

    pub(super) fn metadata_of_name(&self, folder: Inode, name: &OsStr) -> io::Result<Metadata> {
        self.metadata(self.child(Some(self.process), folder, name)?)
    }

    pub(super) fn read_link(&self, folder: Inode, name: &OsStr) -> io::Result<PathBuf> {
        match &self.node(self.child(Some(self.process), folder, name)?)?.body {
            Body::Link(target) => Ok(target.clone()),
            Body::File(_) | Body::Folder { .. } => Err(Code::EINVAL.error()),
        }
    }

    /// How many bytes the files have that somebody can still reach.
    fn used(&self) -> u64 {
        let is_open = |inode: Inode| self.handles.values().any(|handle| handle.inode == inode);
        self.nodes
            .iter()
            .map(|(inode, node)| match &node.body {
                Body::File(content) if node.place.is_some() || is_open(*inode) => {
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

    pub(super) fn close(&mut self, handle: u64) {
        self.handles.remove(&handle);
        self.locks.retain(|_, holder| *holder != handle);
    }

    /// The open files and folders.
    pub(super) fn open_handles(&self) -> (usize, usize) {
        let count = |wanted: fn(HandleUse) -> bool| {
            self.handles.values().filter(|handle| wanted(handle.use_of)).count()
        };
        (
            count(|use_of| matches!(use_of, HandleUse::File | HandleUse::ReadOnly)),
            count(|use_of| matches!(use_of, HandleUse::Folder { .. })),
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

    pub(super) fn try_lock_folder(&mut self, handle: u64) -> io::Result<bool> {
        if self.minds_open_folders { self.try_lock(handle) } else { Ok(true) }
    }

    pub(super) fn is_locked(&self, inode: Inode) -> bool {
        self.locks.contains_key(&inode)
    }

    pub(super) fn open_folder(&mut self, path: &Path, sync: bool) -> io::Result<u64> {
        let inode = self.walk(Some(self.process), path, true)?;
        self.names(inode)?;
        Ok(self.open(inode, HandleUse::Folder { sync }))
    }

    // ── Names ─────────────────────────────────────────────────────────────────────────

    fn note(&mut self, change: Change) {
        self.records.push_back(Record { change, durable: false, doubtful: false });
    }

    fn names_mut(&mut self, folder: Inode) -> io::Result<&mut Names> {
        match &mut self.node_mut(folder)?.body {
            Body::Folder { names, .. } => Ok(names),
            Body::File(_) | Body::Link(_) => Err(Code::ENOTDIR.error()),
        }
    }

    /// Makes a change of names, in what processes see and in the records.
    fn change_names(&mut self, change: Change) -> io::Result<()> {
        if let Some(folder) = change.folder() {
            change.apply(self.names_mut(folder)?);
        }
        let place = |disk: &mut Disk, inode: Inode, place: Option<(Inode, OsString)>| {
            disk.node_mut(inode).map(|node| node.place = place)
        };
        match &change {
            Change::Link { folder, name, inode } => {
                place(self, *inode, Some((*folder, name.clone())))?;
            }
            Change::Unlink { inode, .. } => place(self, *inode, None)?,
            Change::Rename { folder, to, inode, replaced, .. } => {
                if let Some(replaced) = replaced {
                    place(self, *replaced, None)?;
                }
                place(self, *inode, Some((*folder, to.clone())))?;
            }
            Change::Attributes { .. } | Change::WrittenBack { .. } => {}
        }
        self.note(change);
        Ok(())
    }

    fn add_node(
        &mut self,
        folder: Inode,
        name: &OsStr,
        mode: u32,
        body: Body,
    ) -> io::Result<Inode> {
        check_name(name)?;
        let who = Some(self.process);
        match self.child(who, folder, name) {
            Ok(_) => return Err(Code::EEXIST.error()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if !self.is_linked(folder) {
            return Err(Code::ENOENT.error());
        }
        self.check(who, folder, WRITE | SEARCH)?;
        let above = self.node(folder)?.attributes;
        let inherits = above.mode & SET_GROUP_ID != 0;
        let mut attributes = Attributes {
            mode: mode & 0o7777 & !self.process.umask,
            uid: self.process.uid,
            gid: if inherits { above.gid } else { self.process.gid },
        };
        if inherits && matches!(body, Body::Folder { .. }) {
            attributes.mode |= SET_GROUP_ID;
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(inode, Node { place: None, attributes, settled: attributes, body });
        self.change_names(Change::Link { folder, name: name.to_owned(), inode })?;
        Ok(inode)
    }

    pub(super) fn create_new(&mut self, folder: Inode, name: &OsStr, mode: u32) -> io::Result<u64> {
        let inode = self.add_node(folder, name, mode, Body::File(Content::default()))?;
        Ok(self.open(inode, HandleUse::File))
    }

    pub(super) fn open_file(&mut self, folder: Inode, name: &OsStr) -> io::Result<u64> {
        let inode = self.child(Some(self.process), folder, name)?;
        match self.node(inode)?.body {
            Body::File(_) => {}
            Body::Folder { .. } => return Err(Code::EISDIR.error()),
            Body::Link(_) => return Err(Code::ELOOP.error()),
        }
        self.check(Some(self.process), inode, READ)?;
        Ok(self.open(inode, HandleUse::ReadOnly))
    }

    pub(super) fn open_to_change(&mut self, folder: Inode, name: &OsStr) -> io::Result<u64> {
        let handle = self.open_file(folder, name)?;
        let inode = self.inode_of(handle)?;
        if self.check(Some(self.process), inode, WRITE).is_ok()
            && let Some(open) = self.handles.get_mut(&handle)
        {
            open.use_of = HandleUse::File;
        }
        Ok(handle)
    }

    pub(super) fn open_file_to_write(&mut self, folder: Inode, name: &OsStr) -> io::Result<u64> {
        let handle = self.open_file(folder, name)?;
        let inode = self.inode_of(handle)?;
        if let Err(error) = self.check(Some(self.process), inode, READ | WRITE) {
            self.close(handle);
            return Err(error);
        }
        if let Some(handle) = self.handles.get_mut(&handle) {
            handle.use_of = HandleUse::File;
        }
        Ok(handle)
    }

    pub(super) fn list(&self, folder: Inode) -> io::Result<Vec<OsString>> {
        self.check(Some(self.process), folder, READ)?;
        Ok(self.names(folder)?.keys().cloned().collect())
    }

    pub(super) fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.walk_to_parent(Some(self.process), path)?;
        let body = Body::Folder { names: Names::new(), settled: Names::new() };
        let inode = self.add_node(folder, &name, 0o777, body)?;
        self.set_modified(inode, self.clock);
        Ok(())
    }

    pub(super) fn modified(&self, inode: Inode) -> SystemTime {
        self.times.get(&inode).copied().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(super) fn modified_of_name(&self, folder: Inode, name: &OsStr) -> io::Result<SystemTime> {
        Ok(self.modified(self.child(Some(self.process), folder, name)?))
    }

    pub(super) fn set_modified(&mut self, inode: Inode, time: SystemTime) {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let beyond = since.as_nanos() % self.step.as_nanos().max(1);
        let beyond = Duration::from_nanos(u64::try_from(beyond).unwrap_or(0));
        self.times.insert(inode, time - beyond);
    }

    /// Lets two names in a folder change places.
    pub(super) fn exchange(
        &mut self,
        folder: Inode,
        one: &OsStr,
        other: &OsStr,
    ) -> io::Result<bool> {
        let who = Some(self.process);
        let (first, second) = (self.child(who, folder, one)?, self.child(who, folder, other)?);
        self.check(who, folder, WRITE | SEARCH)?;
        if !self.can_exchange {
            return Ok(false);
        }
        for (name, inode) in [(one, first), (other, second)] {
            self.change_names(Change::Unlink { folder, name: name.to_owned(), inode })?;
        }
        for (name, inode) in [(other, first), (one, second)] {
            self.change_names(Change::Link { folder, name: name.to_owned(), inode })?;
        }
        Ok(true)
    }

    pub(super) fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        let who = Some(self.process);
        if path.file_name().is_none() {
            return Err(Code::EBUSY.error());
        }
        let (folder, name) = self.walk_to_parent(who, path)?;
        let inode = self.child(who, folder, &name)?;
        self.check(who, folder, WRITE | SEARCH)?;
        if !self.names(inode)?.is_empty() {
            return Err(Code::ENOTEMPTY.error());
        }
        self.change_names(Change::Unlink { folder, name, inode })
    }

    pub(super) fn rename(&mut self, folder: Inode, from: &OsStr, to: &OsStr) -> io::Result<()> {
        check_name(to)?;
        let who = Some(self.process);
        let inode = self.child(who, folder, from)?;
        self.check(who, folder, WRITE | SEARCH)?;
        let replaced = self.names(folder)?.get(to).copied();
        if replaced == Some(inode) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            let is_folder = |node: &Node| matches!(node.body, Body::Folder { .. });
            match (is_folder(self.node(inode)?), is_folder(self.node(replaced)?)) {
                (false, false) => {}
                (false, true) => return Err(Code::EISDIR.error()),
                (true, false) => return Err(Code::ENOTDIR.error()),
                (true, true) => {
                    if !self.names(replaced)?.is_empty() {
                        return Err(Code::ENOTEMPTY.error());
                    }
                }
            }
        }
        self.change_names(Change::Rename {
            folder,
            from: from.to_owned(),
            to: to.to_owned(),
            inode,
            replaced,
        })
    }

    /// As `rename`, where nothing has the name `to`.
    pub(super) fn rename_new(&mut self, folder: Inode, from: &OsStr, to: &OsStr) -> io::Result<()> {
        check_name(to)?;
        self.child(Some(self.process), folder, from)?;
        if self.names(folder)?.contains_key(to) {
            return Err(Code::EEXIST.error());
        }
        self.rename(folder, from, to)
    }

    pub(super) fn remove(&mut self, folder: Inode, name: &OsStr) -> io::Result<()> {
        let who = Some(self.process);
        let inode = self.child(who, folder, name)?;
        self.check(who, folder, WRITE | SEARCH)?;
        if matches!(self.node(inode)?.body, Body::Folder { .. }) {
            return Err(Code::EISDIR.error());
        }
        self.change_names(Change::Unlink { folder, name: name.to_owned(), inode })
    }

    // ── Contents and attributes ───────────────────────────────────────────────────────

    pub(super) fn write(&mut self, handle: u64, bytes: &[u8]) -> io::Result<usize> {
        let Handle { position, .. } = *self.handle(handle)?;
        let taken = self.write_at(handle, bytes, position as u64)?;
        if let Some(handle) = self.handles.get_mut(&handle) {
            handle.position = position + taken;
        }
        Ok(taken)
    }

    pub(super) fn set_size(&mut self, handle: u64, size: u64) -> io::Result<()> {
        let Handle { inode, use_of, .. } = *self.handle(handle)?;
        if use_of != HandleUse::File {
            return Err(Code::EBADF.error());
        }
        let size = usize::try_from(size).map_err(|_| Code::EFBIG.error())?;
        self.content_mut(inode)?.set_len(size);
        Ok(())
    }

    pub(super) fn write_at(&mut self, handle: u64, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let Handle { inode, use_of, .. } = *self.handle(handle)?;
        let position = usize::try_from(offset).map_err(|_| Code::EFBIG.error())?;
        if use_of != HandleUse::File {
            return Err(Code::EBADF.error());
        }
        let size = self.content(inode)?.len();
        let free = usize::try_from(self.free_space()).unwrap_or(usize::MAX);
        let room = size.saturating_add(free).saturating_sub(position);
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        if taken.is_empty() {
            return if bytes.is_empty() { Ok(0) } else { Err(Code::ENOSPC.error()) };
        }
        self.content_mut(inode)?.write(position, taken);
        let Attributes { mode, .. } = self.node(inode)?.attributes;
        if self.process.uid != 0 {
            self.change_attributes(inode, |attributes| {
                attributes.mode = without_privileges(mode);
            })?;
        }
        Ok(taken.len())
    }

    pub(super) fn read(&self, handle: u64, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.content(self.inode_of(handle)?)?.cached();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let rest = bytes.get(from..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(place), Some(part)) = (buffer.get_mut(..count), rest.get(..count)) {
            place.copy_from_slice(part);
        }
        Ok(count)
    }

    /// Copies bytes from one file to the position of another, as a write would.
    pub(super) fn copy(
        &mut self,
        source: u64,
        offset: u64,
        into: u64,
        most: usize,
    ) -> io::Result<Option<usize>> {
        if self.copying != Copying::Bytes {
            return Ok(None);
        }
        let bytes = Arc::clone(self.content(self.inode_of(source)?)?.cached());
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = from.saturating_add(most).min(bytes.len());
        self.write(into, bytes.get(from..end).unwrap_or_default()).map(Some)
    }

    /// Copies a whole file, if there is room for it: what is shared takes none on a real
    /// disk, but this one does not know that two files are in one place.
    pub(super) fn clone_content(&mut self, source: u64, into: u64) -> io::Result<bool> {
        if self.copying != Copying::Sharing {
            return Ok(false);
        }
        let bytes = Arc::clone(self.content(self.inode_of(source)?)?.cached());
        if bytes.len() as u64 > self.free_space() {
            return Ok(false);
        }
        // From the beginning, wherever the file's position is; it stays there.
        let into = self.inode_of(into)?;
        self.content_mut(into)?.write(0, &bytes);
        Ok(true)
    }

    fn change_attributes(
        &mut self,
        inode: Inode,
        change: impl FnOnce(&mut Attributes),
    ) -> io::Result<()> {
        let node = self.node_mut(inode)?;
        let before = node.attributes;
        change(&mut node.attributes);
        let attributes = node.attributes;
        if attributes != before {
            self.note(Change::Attributes { inode, attributes });
        }
        Ok(())
    }

    pub(super) fn set_owner(
        &mut self,
        handle: u64,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> io::Result<()> {
        let inode = self.inode_of(handle)?;
        let now = self.node(inode)?.attributes;
        let process = self.process;
        let may_give = uid.is_none_or(|uid| uid == now.uid);
        let may_group = gid.is_none_or(|gid| gid == now.gid || gid == process.gid);
        if process.uid != 0 && !(now.uid == process.uid && may_give && may_group) {
            return Err(Code::EPERM.error());
        }
        self.change_attributes(inode, |attributes| {
            attributes.uid = uid.unwrap_or(attributes.uid);
            attributes.gid = gid.unwrap_or(attributes.gid);
            attributes.mode = without_privileges(attributes.mode);
        })
    }

    pub(super) fn set_mode(&mut self, handle: u64, mode: u32) -> io::Result<()> {
        let inode = self.inode_of(handle)?;
        let process = self.process;
        if process.uid != 0 && self.node(inode)?.attributes.uid != process.uid {
            return Err(Code::EPERM.error());
        }
        self.change_attributes(inode, |attributes| {
            attributes.mode = mode & 0o7777;
            if process.uid != 0 && attributes.gid != process.gid {
                attributes.mode &= !SET_GROUP_ID;
            }
        })
    }

    // ── Making it last ────────────────────────────────────────────────────────────────

    /// Commits what touches a node, and with it everything before.
    fn commit_what_touches(&mut self, inode: Inode) {
        let last = self.records.iter().rposition(|record| record.change.touches(inode));
        self.committed = self.committed.max(last.map_or(0, |last| last + 1));
    }

    pub(super) fn sync_file(&mut self, handle: u64) -> io::Result<()> {
        let inode = self.inode_of(handle)?;
        let has_name = self.nodes.get(&inode).is_some_and(|node| node.place.is_some());
        if self.skips_nameless && !has_name {
            return Ok(());
        }
        if self.content_mut(inode)?.sync() {
            // The new size came last, so that everything is before it.
            self.committed = self.records.len();
        }
        for record in &mut self.records {
            match record.change {
                Change::Attributes { inode: of, .. } | Change::WrittenBack { inode: of, .. }
                    if of == inode =>
                {
                    record.durable = true;
                }
                _ => {}
            }
        }
        self.commit_what_touches(inode);
        self.fold();
        Ok(())
    }

    /// As `sync_file`, without the attributes.
    pub(super) fn sync_data(&mut self, handle: u64) -> io::Result<()> {
        let inode = self.inode_of(handle)?;
        let length = self.content(inode)?.durable().len();
        let content = self.content_mut(inode)?;
        if content.sync() && content.durable().len() != length {
            // The new size came last, so that everything is before it.
            self.committed = self.records.len();
        }
        for record in &mut self.records {
            if matches!(record.change, Change::WrittenBack { inode: of, .. } if of == inode) {
                record.durable = true;
            }
        }
        self.fold();
        Ok(())
    }

    pub(super) fn sync_file_failed(&mut self, handle: u64) {
        let inode = self.inode_of(handle);
        if let Ok(content) = inode.and_then(|inode| self.content_mut(inode)) {
            content.sync_failed();
        }
    }

    pub(super) fn await_write_back(&mut self, handle: u64) -> io::Result<()> {
        let inode = self.inode_of(handle)?;
        let content = self.content(inode)?;
        let bytes = content.written_back();
        if &bytes != content.durable() {
            self.note(Change::WrittenBack { inode, bytes });
        }
        Ok(())
    }

    /// `helper` says that a file of the folder is there to be synced in its place.
    pub(super) fn sync_folder(&mut self, handle: u64, helper: bool) -> io::Result<()> {
        let Handle { inode, use_of, .. } = *self.handle(handle)?;
        if use_of != (HandleUse::Folder { sync: true }) {
            return Err(Code::EBADF.error());
        }
        if !helper {
            self.check(Some(self.process), inode, READ)?;
        }
        for record in &mut self.records {
            if record.change.folder() == Some(inode) && !record.doubtful {
                record.durable = true;
            }
        }
        self.commit_what_touches(inode);
        self.fold();
        Ok(())
    }

    pub(super) fn sync_folder_failed(&mut self, handle: u64) {
        let Ok(inode) = self.inode_of(handle) else { return };
        for record in &mut self.records {
            if record.change.folder() == Some(inode) && !record.durable {
                record.doubtful = true;
            }
        }
    }

    pub(super) fn sync_filesystem(&mut self) {
        for node in self.nodes.values_mut() {
            if let Body::File(content) = &mut node.body {
                content.sync();
            }
        }
        for record in &mut self.records {
            record.durable |= !record.doubtful;
        }
        self.committed = self.records.len();
        self.fold();
    }

    pub(super) fn sync_filesystem_failed(&mut self) {
        for node in self.nodes.values_mut() {
            if let Body::File(content) = &mut node.body {
                content.sync_failed();
            }
        }
        for record in &mut self.records {
            record.doubtful |= !record.durable;
        }
    }

    /// Everything becomes durable, by decree.
    pub(super) fn settle(&mut self) {
        for node in self.nodes.values_mut() {
            if let Body::File(content) = &mut node.body {
                content.settle();
            }
        }
        for record in &mut self.records {
            record.durable = true;
        }
        self.committed = self.records.len();
        self.fold();
    }

    /// Folds the oldest records into what is settled, as far as no model doubts them.
    fn fold(&mut self) {
        while self.committed > 0 && self.records.front().is_some_and(|record| record.durable) {
            let Some(Record { change, .. }) = self.records.pop_front() else { return };
            self.committed -= 1;
            if let Change::Attributes { inode, attributes } = change {
                if let Some(node) = self.nodes.get_mut(&inode) {
                    node.settled = attributes;
                }
            } else if let Some(Node { body: Body::Folder { settled, .. }, .. }) =
                change.folder().and_then(|folder| self.nodes.get_mut(&folder))
            {
                change.apply(settled);
            }
            match change {
                Change::Unlink { inode, .. } | Change::Rename { replaced: Some(inode), .. } => {
                    self.forget(inode);
                }
                _ => {}
            }
        }
    }

    /// Drops a node that no name, handle or record leads to.
    fn forget(&mut self, inode: Inode) {
        let is_open = self.handles.values().any(|handle| handle.inode == inode);
        let is_recorded = self.records.iter().any(|record| record.change.touches(inode));
        if !self.is_linked(inode) && !is_open && !is_recorded {
            self.nodes.remove(&inode);
        }
    }

    // ── Setting a scene ───────────────────────────────────────────────────────────────

    /// Puts a node at a path by decree, durable, with the folders above it.
    pub(super) fn put(
        &mut self,
        path: &Path,
        attributes: Option<Attributes>,
        body: Body,
    ) -> io::Result<()> {
        if self.walk(None, path, false).is_ok_and(|inode| inode == ROOT) {
            return self.decree(ROOT, attributes, body);
        }
        if let Some(parent) = path.parent()
            && let Err(error) = self.walk(None, parent, true)
        {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            let body = Body::Folder { names: Names::new(), settled: Names::new() };
            self.put(parent, None, body)?;
        }
        let (folder, name) = self.walk_to_parent(None, path)?;
        check_name(&name)?;
        if let Ok(inode) = self.child(None, folder, &name) {
            return self.decree(inode, attributes, body);
        }
        let mode = match body {
            Body::File(_) => 0o644,
            Body::Folder { .. } => 0o755,
            Body::Link(_) => 0o777,
        };
        let Process { uid, gid, .. } = self.process;
        let attributes = attributes.unwrap_or(Attributes { mode, uid, gid });
        let inode = self.next_inode;
        self.next_inode += 1;
        let place = Some((folder, name.clone()));
        self.nodes.insert(inode, Node { place, attributes, settled: attributes, body });
        if let Body::Folder { names, settled } = &mut self.node_mut(folder)?.body {
            names.insert(name.clone(), inode);
            settled.insert(name, inode);
        }
        Ok(())
    }

    /// Gives an existing node another content and other attributes.
    fn decree(
        &mut self,
        inode: Inode,
        attributes: Option<Attributes>,
        body: Body,
    ) -> io::Result<()> {
        let node = self.node_mut(inode)?;
        match (&mut node.body, body) {
            (Body::File(content), Body::File(new)) => *content = new,
            (Body::Link(target), Body::Link(new)) => *target = new,
            (Body::Folder { .. }, Body::Folder { .. }) => {}
            _ => return Err(Code::EEXIST.error()),
        }
        if let Some(attributes) = attributes {
            node.attributes = attributes;
            node.settled = attributes;
        }
        Ok(())
    }

    /// Removes a name, as another process would.
    pub(super) fn take_away(&mut self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.walk_to_parent(None, path)?;
        let inode = self.child(None, folder, &name)?;
        if self.names(inode).is_ok_and(|names| !names.is_empty()) {
            return Err(Code::ENOTEMPTY.error());
        }
        self.change_names(Change::Unlink { folder, name, inode })
    }

    /// The path of everything there is, folders before what is in them.
    pub(super) fn tree(&self) -> Vec<(PathBuf, Inode)> {
        let mut found = Vec::new();
        let mut ahead = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, inode)) = ahead.pop() {
            if let Ok(names) = self.names(inode) {
                ahead.extend(names.iter().rev().map(|(name, inode)| (path.join(name), *inode)));
            }
            found.push((path, inode));
        }
        found
    }

    pub(super) fn file(bytes: &[u8]) -> Body {
        Body::File(Content::settled(Arc::new(bytes.to_vec())))
    }
}

/// The mode after somebody else than root wrote to the file, or anybody gave it away.
fn without_privileges(mode: u32) -> u32 {
    let cleared = if mode & GROUP_EXECUTE != 0 { SET_USER_ID | SET_GROUP_ID } else { SET_USER_ID };
    mode & !cleared
}
