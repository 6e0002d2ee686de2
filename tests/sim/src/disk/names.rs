//! Names: made, listed, changed and taken away.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};
use std::time::{Duration, SystemTime};

use super::rights::{READ, SEARCH, SET_GROUP_ID, WRITE};
use super::{AllAttributes, Attributes, Body, Change, Disk, HandleUse, Inode, Names, Node, Record};
use crate::content::Content;
use holdfast::error::Code;
use holdfast::fs::SharedWith;

impl Disk {
    pub(super) fn check_name(&self, name: &OsStr) -> io::Result<()> {
        let mut components = Path::new(name).components();
        match (components.next(), components.next()) {
            (Some(Component::Normal(only)), None) if only == name => {}
            _ => return Err(Code::EINVAL.error()),
        }
        if name.as_encoded_bytes().len() > self.longest_name {
            return Err(Code::ENAMETOOLONG.error());
        }
        Ok(())
    }

    pub(super) fn note(&mut self, change: Change) {
        self.records.push_back(Record { change, durable: false, sync_failed: false });
    }

    /// The number of a change that is being made.
    pub(super) fn next_change(&mut self) -> i128 {
        self.changes += 1;
        self.changes
    }

    fn names_mut(&mut self, dir: Inode) -> io::Result<&mut Names> {
        match &mut self.node_mut(dir)?.body {
            Body::Dir { names, .. } => Ok(names),
            Body::File(_) | Body::Link(_) => Err(Code::ENOTDIR.error()),
        }
    }

    /// Makes a change of names, in what processes see and in the records.
    pub(super) fn change_names(&mut self, change: Change) -> io::Result<()> {
        if let Some(dir) = change.dir() {
            change.apply(self.names_mut(dir)?);
        }
        let set_entry = |disk: &mut Disk, inode: Inode, entry: Option<(Inode, OsString)>| {
            disk.node_mut(inode).map(|node| node.entry = entry)
        };
        match &change {
            Change::Link { dir, name, inode } => {
                set_entry(self, *inode, Some((*dir, name.clone())))?;
            }
            Change::Unlink { inode, .. } => set_entry(self, *inode, None)?,
            Change::Rename { dir, to, inode, replaced, .. } => {
                let changed = self.next_change();
                self.node_mut(*inode)?.changed = changed;
                if let Some(replaced) = replaced {
                    set_entry(self, *replaced, None)?;
                }
                set_entry(self, *inode, Some((*dir, to.clone())))?;
            }
            Change::Attributes { .. } | Change::WrittenBack { .. } => {}
        }
        self.note(change);
        Ok(())
    }

    fn add_node(&mut self, dir: Inode, name: &OsStr, mode: u32, body: Body) -> io::Result<Inode> {
        self.check_name(name)?;
        let who = Some(self.process);
        match self.child(who, dir, name) {
            Ok(_) => return Err(Code::EEXIST.error()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if !self.is_linked(dir) {
            return Err(Code::ENOENT.error());
        }
        self.check(who, dir, WRITE | SEARCH)?;
        let above = self.node(dir)?.attributes.basic;
        let inherits = above.mode & SET_GROUP_ID != 0;
        let mut attributes = Attributes {
            mode: mode & 0o7777 & !self.process.umask,
            uid: self.process.uid,
            gid: if inherits { above.gid } else { self.process.gid },
        };
        if inherits && matches!(body, Body::Dir { .. }) {
            attributes.mode |= SET_GROUP_ID;
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        let changed = self.next_change();
        let attributes = AllAttributes::from(attributes);
        let durable_attributes = attributes.clone();
        let node = Node { entry: None, attributes, durable_attributes, changed, body };
        self.nodes.insert(inode, node);
        self.change_names(Change::Link { dir, name: name.to_owned(), inode })?;
        Ok(inode)
    }

    pub(crate) fn create_new(&mut self, dir: Inode, name: &OsStr, mode: u32) -> io::Result<u64> {
        let inode = self.add_node(dir, name, mode, Body::File(Content::default()))?;
        Ok(self.open(inode, HandleUse::File))
    }

    /// The file is never there with other attributes, also after a power cut.
    pub(crate) fn create_shared(
        &mut self,
        dir: Inode,
        name: &OsStr,
        with: SharedWith<'_>,
    ) -> io::Result<u64> {
        let (mode, model) = match with {
            SharedWith::UsersOf(guarded) => (0o600, self.child(None, dir, guarded).ok()),
            SharedWith::WritersOfDir { mode } => (mode, None),
        };
        let inode = self.add_node(dir, name, mode, Body::File(Content::default()))?;
        self.share(inode, model.unwrap_or(dir), with)?;
        Ok(self.open(inode, HandleUse::File))
    }

    /// A file that the process may read.
    fn readable(&self, dir: Inode, name: &OsStr) -> io::Result<Inode> {
        let inode = self.child(Some(self.process), dir, name)?;
        match self.node(inode)?.body {
            Body::File(_) => {}
            Body::Dir { .. } => return Err(Code::EISDIR.error()),
            Body::Link(_) => return Err(Code::ELOOP.error()),
        }
        self.check(Some(self.process), inode, READ)?;
        Ok(inode)
    }

    pub(crate) fn open_file(&mut self, dir: Inode, name: &OsStr) -> io::Result<u64> {
        let inode = self.readable(dir, name)?;
        Ok(self.open(inode, HandleUse::ReadOnly))
    }

    pub(crate) fn open_to_write(&mut self, dir: Inode, name: &OsStr) -> io::Result<u64> {
        let inode = self.readable(dir, name)?;
        self.check(Some(self.process), inode, WRITE)?;
        Ok(self.open(inode, HandleUse::File))
    }

    pub(crate) fn open_to_change(&mut self, dir: Inode, name: &OsStr) -> io::Result<u64> {
        match self.open_to_write(dir, name) {
            Err(error) if Code::of(&error) == Some(Code::EACCES) => self.open_file(dir, name),
            outcome => outcome,
        }
    }

    pub(crate) fn open_to_keep(&mut self, dir: Inode, name: &OsStr) -> io::Result<u64> {
        let inode = self.child(Some(self.process), dir, name)?;
        Ok(self.open(inode, HandleUse::Kept))
    }

    pub(crate) fn list(&self, dir: Inode) -> io::Result<Vec<OsString>> {
        self.check(Some(self.process), dir, READ)?;
        Ok(self.names(dir)?.keys().cloned().collect())
    }

    pub(crate) fn make_dir(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.walk_to_parent(Some(self.process), path)?;
        self.make_dir_in(dir, &name).map(drop)
    }

    fn make_dir_in(&mut self, dir: Inode, name: &OsStr) -> io::Result<Inode> {
        let body = Body::Dir { names: Names::new(), durable: Names::new() };
        let inode = self.add_node(dir, name, 0o777, body)?;
        self.set_modified(inode, self.clock);
        Ok(inode)
    }

    pub(crate) fn make_shared_dir(&mut self, above: Inode, name: &OsStr) -> io::Result<()> {
        let inode = self.make_dir_in(above, name)?;
        self.share(inode, above, SharedWith::WritersOfDir { mode: 0o777 })
    }

    /// Makes a new file or directory what it would be from its beginning if it were shared.
    fn share(&mut self, inode: Inode, model: Inode, with: SharedWith<'_>) -> io::Result<()> {
        let model = self.node(model)?.attributes.basic;
        let process = self.process;
        let Some(node) = self.nodes.get_mut(&inode) else { return Err(Code::EIO.error()) };
        node.attributes.basic = process.sharing(node.attributes.basic, model, with);
        node.durable_attributes = node.attributes.clone();
        Ok(())
    }

    pub(crate) fn modified(&self, inode: Inode) -> SystemTime {
        self.times.get(&inode).copied().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(crate) fn modified_of_name(&self, dir: Inode, name: &OsStr) -> io::Result<SystemTime> {
        Ok(self.modified(self.child(Some(self.process), dir, name)?))
    }

    pub(crate) fn set_modified(&mut self, inode: Inode, time: SystemTime) {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let beyond = since.as_nanos() % self.step.as_nanos().max(1);
        let beyond = Duration::from_nanos(u64::try_from(beyond).unwrap_or(0));
        self.times.insert(inode, time - beyond);
    }

    /// Lets two names in a directory change places.
    pub(crate) fn exchange(&mut self, dir: Inode, one: &OsStr, other: &OsStr) -> io::Result<bool> {
        let who = Some(self.process);
        let (first, second) = (self.child(who, dir, one)?, self.child(who, dir, other)?);
        self.check(who, dir, WRITE | SEARCH)?;
        if !self.can_exchange {
            return Ok(false);
        }
        for (name, inode) in [(one, first), (other, second)] {
            self.change_names(Change::Unlink { dir, name: name.to_owned(), inode })?;
        }
        for (name, inode) in [(other, first), (one, second)] {
            self.change_names(Change::Link { dir, name: name.to_owned(), inode })?;
        }
        Ok(true)
    }

    pub(crate) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let who = Some(self.process);
        if path.file_name().is_none() {
            return Err(Code::EBUSY.error());
        }
        let (dir, name) = self.walk_to_parent(who, path)?;
        self.remove_dir_in(dir, &name)
    }

    pub(crate) fn remove_dir_in(&mut self, dir: Inode, name: &OsStr) -> io::Result<()> {
        let who = Some(self.process);
        let inode = self.child(who, dir, name)?;
        self.check(who, dir, WRITE | SEARCH)?;
        if !self.names(inode)?.is_empty() {
            return Err(Code::ENOTEMPTY.error());
        }
        self.change_names(Change::Unlink { dir, name: name.to_owned(), inode })
    }

    pub(crate) fn rename(&mut self, dir: Inode, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.check_name(to)?;
        let who = Some(self.process);
        let inode = self.child(who, dir, from)?;
        self.check(who, dir, WRITE | SEARCH)?;
        let replaced = self.names(dir)?.get(to).copied();
        if replaced == Some(inode) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            let is_dir = |node: &Node| matches!(node.body, Body::Dir { .. });
            match (is_dir(self.node(inode)?), is_dir(self.node(replaced)?)) {
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
            dir,
            from: from.to_owned(),
            to: to.to_owned(),
            inode,
            replaced,
        })?;
        replaced.into_iter().for_each(|replaced| self.note_freed(replaced));
        Ok(())
    }

    /// As `rename`, where nothing has the name `to`.
    pub(crate) fn rename_new(&mut self, dir: Inode, from: &OsStr, to: &OsStr) -> io::Result<bool> {
        if !self.can_rename_new {
            return Ok(false);
        }
        self.check_name(to)?;
        self.child(Some(self.process), dir, from)?;
        if self.names(dir)?.contains_key(to) {
            return Err(Code::EEXIST.error());
        }
        self.rename(dir, from, to).map(|()| true)
    }

    pub(crate) fn remove(&mut self, dir: Inode, name: &OsStr) -> io::Result<()> {
        let who = Some(self.process);
        let inode = self.child(who, dir, name)?;
        self.check(who, dir, WRITE | SEARCH)?;
        if matches!(self.node(inode)?.body, Body::Dir { .. }) {
            return Err(Code::EISDIR.error());
        }
        self.change_names(Change::Unlink { dir, name: name.to_owned(), inode })?;
        self.note_freed(inode);
        Ok(())
    }
}
