//! Making it last: what each kind of sync brings to the disk, and what a failed one leaves.

use std::io;

use super::rights::READ;
use super::{Body, Change, Content, Disk, Handle, HandleUse, Inode, Node, Record};
use holdfast::error::Code;

impl Disk {
    fn make_durable(&mut self, is_so: impl Fn(&Record) -> bool) {
        self.records
            .iter_mut()
            .filter(|record| is_so(record))
            .for_each(|record| record.durable = true);
    }

    fn for_each_content(&mut self, act: impl Fn(&mut Content)) {
        for node in self.nodes.values_mut() {
            if let Body::File(content) = &mut node.body {
                act(content);
            }
        }
    }

    /// Commits what touches a node, and with it everything before.
    fn commit_what_touches(&mut self, inode: Inode) {
        let last = self.records.iter().rposition(|record| record.change.touches(inode));
        self.committed = self.committed.max(last.map_or(0, |last| last + 1));
    }

    pub(crate) fn sync_file(&mut self, handle: u64) -> io::Result<()> {
        let Handle { inode, use_of, .. } = *self.handle(handle)?;
        if use_of == HandleUse::Kept {
            return Err(Code::EBADF.error());
        }
        let has_name = self.nodes.get(&inode).is_some_and(|node| node.entry.is_some());
        if self.skips_nameless && !has_name {
            return Ok(());
        }
        if self.content_mut(inode)?.sync() {
            // The new size came last, so that everything is before it.
            self.committed = self.records.len();
        }
        self.make_durable(|Record { change, .. }| match change {
            Change::Attributes { inode: of, .. } | Change::WrittenBack { inode: of, .. } => {
                *of == inode
            }
            _ => false,
        });
        self.commit_what_touches(inode);
        self.fold();
        Ok(())
    }

    /// As `sync_file`, without the attributes.
    pub(crate) fn sync_data(&mut self, handle: u64) -> io::Result<()> {
        let inode = self.inode_of(handle)?;
        let length = self.content(inode)?.durable().len();
        let content = self.content_mut(inode)?;
        if content.sync() && content.durable().len() != length {
            // The new size came last, so that everything is before it.
            self.committed = self.records.len();
        }
        self.make_durable(
            |record| matches!(record.change, Change::WrittenBack { inode: of, .. } if of == inode),
        );
        self.fold();
        Ok(())
    }

    pub(crate) fn sync_file_failed(&mut self, handle: u64) {
        let inode = self.inode_of(handle);
        if let Ok(content) = inode.and_then(|inode| self.content_mut(inode)) {
            content.sync_failed();
        }
    }

    pub(crate) fn await_write_back(&mut self, handle: u64) -> io::Result<()> {
        let inode = self.inode_of(handle)?;
        let content = self.content(inode)?;
        let bytes = content.written_back();
        if &bytes != content.durable() {
            self.note(Change::WrittenBack { inode, bytes });
        }
        Ok(())
    }

    /// `helper` says that a file of the directory is there to be synced in its place.
    pub(crate) fn sync_dir(&mut self, handle: u64, helper: bool) -> io::Result<()> {
        let Handle { inode, use_of, .. } = *self.handle(handle)?;
        if use_of != (HandleUse::Dir { sync: true }) {
            return Err(Code::EBADF.error());
        }
        if !helper {
            self.check(Some(self.process), inode, READ)?;
        }
        self.make_durable(|record| record.change.dir() == Some(inode) && !record.sync_failed);
        self.commit_what_touches(inode);
        self.fold();
        Ok(())
    }

    pub(crate) fn sync_dir_failed(&mut self, handle: u64) {
        let Ok(inode) = self.inode_of(handle) else { return };
        for record in &mut self.records {
            if record.change.dir() == Some(inode) && !record.durable {
                record.sync_failed = true;
            }
        }
    }

    pub(crate) fn sync_filesystem(&mut self) {
        self.for_each_content(|content| {
            content.sync();
        });
        self.make_durable(|record| !record.sync_failed);
        self.committed = self.records.len();
        self.fold();
    }

    pub(crate) fn sync_filesystem_failed(&mut self) {
        self.for_each_content(Content::sync_failed);
        for record in &mut self.records {
            record.sync_failed |= !record.durable;
        }
    }

    /// Everything becomes durable, by decree.
    pub(crate) fn make_all_durable(&mut self) {
        self.for_each_content(Content::make_durable);
        self.make_durable(|_| true);
        self.committed = self.records.len();
        self.fold();
    }

    /// Folds the oldest records into what is durable, as far as no model doubts them.
    fn fold(&mut self) {
        while self.committed > 0 && self.records.front().is_some_and(|record| record.durable) {
            let Some(Record { change, .. }) = self.records.pop_front() else { return };
            self.committed -= 1;
            if let Change::Attributes { inode, attributes } = &change {
                if let Some(node) = self.nodes.get_mut(inode) {
                    node.durable_attributes = attributes.clone();
                }
            } else if let Some(Node { body: Body::Dir { durable, .. }, .. }) =
                change.dir().and_then(|dir| self.nodes.get_mut(&dir))
            {
                change.apply(durable);
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
}
