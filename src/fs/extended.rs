//! What a file has beside its content and its permission bits.

use std::ffi::{OsStr, OsString};

/// The access control list of a file, in the form that Linux gives it.
pub const ACCESS_LIST: &str = "system.posix_acl_access";

/// One extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtendedAttribute {
    /// Its name, with its class: `user.note`.
    pub name: OsString,
    /// Its value.
    pub value: Vec<u8>,
}

/// Those of a file that stay when it gets another content. Most files have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtendedAttributes(pub Vec<ExtendedAttribute>);

impl ExtendedAttributes {
    /// The value of an attribute.
    pub fn get(&self, name: &OsStr) -> Option<&[u8]> {
        let found = self.0.iter().find(|attribute| attribute.name == name);
        found.map(|attribute| attribute.value.as_slice())
    }

    /// The access control list, if the file has one that says more than its permission bits.
    pub fn access_list(&self) -> Option<&[u8]> {
        self.get(OsStr::new(ACCESS_LIST))
    }
}
