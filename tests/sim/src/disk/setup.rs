//! Setting up a disk: files, directories and links that are there without an operation.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::rights::Process;
use super::{AllAttributes, Attributes, Body, Change, Disk, Inode, Names, Node, ROOT};
use crate::content::Content;
use holdfast::error::Code;

impl Disk {
    /// Puts a node at a path, durable, with the directories above it.
    pub(crate) fn put(
        &mut self,
        path: &Path,
        attributes: Option<Attributes>,
        body: Body,
    ) -> io::Result<()> {
        if self.walk(None, path, false).is_ok_and(|inode| inode == ROOT) {
            return self.overwrite(ROOT, attributes, body);
        }
        if let Some(parent) = path.parent()
            && let Err(error) = self.walk(None, parent, true)
        {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            let body = Body::Dir { names: Names::new(), durable: Names::new() };
            self.put(parent, None, body)?;
        }
        let (dir, name) = self.walk_to_parent(None, path)?;
        self.check_name(&name)?;
        if let Ok(inode) = self.child(None, dir, &name) {
            return self.overwrite(inode, attributes, body);
        }
        let mode = match body {
            Body::File(_) => 0o644,
            Body::Dir { .. } => 0o755,
            Body::Link(_) => 0o777,
        };
        let Process { uid, gid, .. } = self.process;
        let attributes = attributes.unwrap_or(Attributes { mode, uid, gid });
        let inode = self.next_inode;
        self.next_inode += 1;
        let entry = Some((dir, name.clone()));
        let changed = self.next_change();
        let attributes = AllAttributes::from(attributes);
        let durable_attributes = attributes.clone();
        self.nodes.insert(inode, Node { entry, attributes, durable_attributes, changed, body });
        if let Body::Dir { names, durable } = &mut self.node_mut(dir)?.body {
            names.insert(name.clone(), inode);
            durable.insert(name, inode);
        }
        Ok(())
    }

    /// Gives an existing node another content and other attributes.
    fn overwrite(
        &mut self,
        inode: Inode,
        attributes: Option<Attributes>,
        body: Body,
    ) -> io::Result<()> {
        let changed = self.next_change();
        let node = self.node_mut(inode)?;
        node.changed = changed;
        match (&mut node.body, body) {
            (Body::File(content), Body::File(new)) => *content = new,
            (Body::Link(target), Body::Link(new)) => *target = new,
            (Body::Dir { .. }, Body::Dir { .. }) => {}
            _ => return Err(Code::EEXIST.error()),
        }
        if let Some(attributes) = attributes {
            node.attributes.basic = attributes;
            node.durable_attributes = node.attributes.clone();
        }
        Ok(())
    }

    /// Removes a name, as another process would.
    pub(crate) fn take_away(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.walk_to_parent(None, path)?;
        let inode = self.child(None, dir, &name)?;
        if self.names(inode).is_ok_and(|names| !names.is_empty()) {
            return Err(Code::ENOTEMPTY.error());
        }
        self.change_names(Change::Unlink { dir, name, inode })?;
        self.note_freed(inode);
        Ok(())
    }

    pub(crate) fn file(bytes: &[u8]) -> Body {
        Body::File(Content::all_durable(Arc::new(bytes.to_vec())))
    }
}
