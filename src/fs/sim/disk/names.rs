//! Names: made, listed, changed and taken away.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};
use std::time::{Duration, SystemTime};

use super::rights::{READ, SEARCH, SET_GROUP_ID, WRITE};
use super::{Attributes, Body, Change, Disk, HandleUse, Inode, Names, Node, Record};
use crate::errno::Code;
use crate::fs::sim::content::Content;

/// The longest name, in bytes.
const LONGEST_NAME: usize = 255;

pub(super) fn check_name(name: &OsStr) -> io::Result<()> {
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
    pub(super) fn note(&mut self, change: Change) {
        self.records.push_back(Record { change, durable: false, doubtful: false });
    }

    fn names_mut(&mut self, folder: Inode) -> io::Result<&mut Names> {
        match &mut self.node_mut(folder)?.body {
            Body::Folder { names, .. } => Ok(names),
            Body::File(_) | Body::Link(_) => Err(Code::ENOTDIR.error()),
        }
    }

    /// Makes a change of names, in what processes see and in the records.
    pub(super) fn change_names(&mut self, change: Change) -> io::Result<()> {
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

    pub(in crate::fs::sim) fn create_new(
        &mut self,
        folder: Inode,
        name: &OsStr,
        mode: u32,
    ) -> io::Result<u64> {
        let inode = self.add_node(folder, name, mode, Body::File(Content::default()))?;
        Ok(self.open(inode, HandleUse::File))
    }

    /// A file that the process may read.
    fn readable(&self, folder: Inode, name: &OsStr) -> io::Result<Inode> {
        let inode = self.child(Some(self.process), folder, name)?;
        match self.node(inode)?.body {
            Body::File(_) => {}
            Body::Folder { .. } => return Err(Code::EISDIR.error()),
            Body::Link(_) => return Err(Code::ELOOP.error()),
        }
        self.check(Some(self.process), inode, READ)?;
        Ok(inode)
    }

    pub(in crate::fs::sim) fn open_file(&mut self, folder: Inode, name: &OsStr) -> io::Result<u64> {
        let inode = self.readable(folder, name)?;
        Ok(self.open(inode, HandleUse::ReadOnly))
    }

    pub(in crate::fs::sim) fn open_to_write(
        &mut self,
        folder: Inode,
        name: &OsStr,
    ) -> io::Result<u64> {
        let inode = self.readable(folder, name)?;
        self.check(Some(self.process), inode, WRITE)?;
        Ok(self.open(inode, HandleUse::File))
    }

    pub(in crate::fs::sim) fn open_to_change(
        &mut self,
        folder: Inode,
        name: &OsStr,
    ) -> io::Result<u64> {
        match self.open_to_write(folder, name) {
            Err(error) if Code::of(&error) == Some(Code::EACCES) => self.open_file(folder, name),
            outcome => outcome,
        }
    }

    pub(in crate::fs::sim) fn list(&self, folder: Inode) -> io::Result<Vec<OsString>> {
        self.check(Some(self.process), folder, READ)?;
        Ok(self.names(folder)?.keys().cloned().collect())
    }

    pub(in crate::fs::sim) fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.walk_to_parent(Some(self.process), path)?;
        let body = Body::Folder { names: Names::new(), settled: Names::new() };
        let inode = self.add_node(folder, &name, 0o777, body)?;
        self.set_modified(inode, self.clock);
        Ok(())
    }

    pub(in crate::fs::sim) fn modified(&self, inode: Inode) -> SystemTime {
        self.times.get(&inode).copied().unwrap_or(SystemTime::UNIX_EPOCH)
    }

    pub(in crate::fs::sim) fn modified_of_name(
        &self,
        folder: Inode,
        name: &OsStr,
    ) -> io::Result<SystemTime> {
        Ok(self.modified(self.child(Some(self.process), folder, name)?))
    }

    pub(in crate::fs::sim) fn set_modified(&mut self, inode: Inode, time: SystemTime) {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let beyond = since.as_nanos() % self.step.as_nanos().max(1);
        let beyond = Duration::from_nanos(u64::try_from(beyond).unwrap_or(0));
        self.times.insert(inode, time - beyond);
    }

    /// Lets two names in a folder change places.
    pub(in crate::fs::sim) fn exchange(
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

    pub(in crate::fs::sim) fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
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

    pub(in crate::fs::sim) fn rename(
        &mut self,
        folder: Inode,
        from: &OsStr,
        to: &OsStr,
    ) -> io::Result<()> {
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
    pub(in crate::fs::sim) fn rename_new(
        &mut self,
        folder: Inode,
        from: &OsStr,
        to: &OsStr,
    ) -> io::Result<()> {
        check_name(to)?;
        self.child(Some(self.process), folder, from)?;
        if self.names(folder)?.contains_key(to) {
            return Err(Code::EEXIST.error());
        }
        self.rename(folder, from, to)
    }

    pub(in crate::fs::sim) fn remove(&mut self, folder: Inode, name: &OsStr) -> io::Result<()> {
        let who = Some(self.process);
        let inode = self.child(who, folder, name)?;
        self.check(who, folder, WRITE | SEARCH)?;
        if matches!(self.node(inode)?.body, Body::Folder { .. }) {
            return Err(Code::EISDIR.error());
        }
        self.change_names(Change::Unlink { folder, name: name.to_owned(), inode })
    }
}
