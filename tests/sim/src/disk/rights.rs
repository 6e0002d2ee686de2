//! Permissions, and the process whose operations the disk serves.

use std::sync::Arc;

use holdfast::fs::{ExtendedAttributes, SharedWith};

const SET_USER_ID: u32 = 0o4000;
pub(super) const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// The owner, the group and the permissions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attributes {
    /// The permission bits, set-user-id, set-group-id and sticky included.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// All that a file has beside its content and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AllAttributes {
    pub(crate) basic: Attributes,
    /// States of the disk share them.
    pub(crate) extended: Arc<ExtendedAttributes>,
}

impl From<Attributes> for AllAttributes {
    fn from(basic: Attributes) -> AllAttributes {
        AllAttributes { basic, extended: Arc::default() }
    }
}

/// The process whose operations the disk serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) umask: u32,
}

pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const SEARCH: u32 = 1;

impl Process {
    pub(super) fn may(self, wanted: u32, attributes: Attributes) -> bool {
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

impl Process {
    /// What a file is like that the process makes for the users of another one, or of a directory,
    /// which is like `model`.
    pub(super) fn sharing(
        self,
        made: Attributes,
        model: Attributes,
        with: SharedWith<'_>,
    ) -> Attributes {
        let mut shared = made;
        if self.uid == 0 {
            (shared.uid, shared.gid) = (model.uid, model.gid);
        } else if self.gid == model.gid {
            shared.gid = model.gid;
        }
        let granted = |shift: u32| with.grants(model.mode >> shift & 7, model.mode) << shift;
        shared.mode |= with.owners() << 6 | granted(0);
        if shared.gid == model.gid {
            shared.mode |= granted(3);
        }
        shared
    }
}

/// The mode after a user other than root wrote to the file, or its owner was changed.
pub(super) fn without_privileges(mode: u32) -> u32 {
    let cleared = if mode & GROUP_EXECUTE != 0 { SET_USER_ID | SET_GROUP_ID } else { SET_USER_ID };
    mode & !cleared
}
