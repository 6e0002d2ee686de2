//! What has changed in names and attributes, and what is known of its way to the disk.

use std::ffi::OsString;

use super::{AllAttributes, Inode, Names};
use crate::content::Bytes;

/// One change of names or attributes.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A name was given to a new file or directory.
    Link { dir: Inode, name: OsString, inode: Inode },
    /// A name was taken away.
    Unlink { dir: Inode, name: OsString, inode: Inode },
    /// A file got another name in the same directory.
    Rename { dir: Inode, from: OsString, to: OsString, inode: Inode, replaced: Option<Inode> },
    /// A file got other attributes.
    Attributes { inode: Inode, attributes: AllAttributes },
    /// The content of a file is on the disk, and the size that says so is about to be.
    WrittenBack { inode: Inode, bytes: Bytes },
}

impl Change {
    /// The directory whose names changed.
    pub(crate) fn dir(&self) -> Option<Inode> {
        match self {
            Change::Link { dir, .. } | Change::Unlink { dir, .. } | Change::Rename { dir, .. } => {
                Some(*dir)
            }
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
        inode == node || replaced == Some(node) || self.dir() == Some(node)
    }

    /// Makes the change in the names of its directory. A name is only taken from the node
    /// that the change is about: it may belong to another one when changes are left out.
    pub(crate) fn apply(&self, names: &mut Names) {
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
pub(crate) struct Record {
    pub(crate) change: Change,
    /// A sync of what it touched has said so.
    pub(crate) durable: bool,
    /// A sync of its directory has failed, so no later one speaks for it.
    pub(super) sync_failed: bool,
}
