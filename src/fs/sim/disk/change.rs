//! What has changed in names and attributes, and what is known of its way to the disk.

use std::ffi::OsString;

use super::{Attributes, Inode, Names};
use crate::fs::sim::content::Bytes;

/// One change of names or attributes.
#[derive(Clone, Debug)]
pub(in crate::fs::sim) enum Change {
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
    pub(in crate::fs::sim) fn folder(&self) -> Option<Inode> {
        match self {
            Change::Link { folder, .. }
            | Change::Unlink { folder, .. }
            | Change::Rename { folder, .. } => Some(*folder),
            Change::Attributes { .. } | Change::WrittenBack { .. } => None,
        }
    }

    pub(super) fn touches(&self, node: Inode) -> bool {
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
    pub(in crate::fs::sim) fn apply(&self, names: &mut Names) {
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
pub(in crate::fs::sim) struct Record {
    pub(in crate::fs::sim) change: Change,
    /// A sync of what it touched has said so.
    pub(in crate::fs::sim) durable: bool,
    /// A sync of its folder has failed, so no later one speaks for it.
    pub(super) doubtful: bool,
}
