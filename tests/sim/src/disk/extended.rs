//! Extended attributes. An access control list and the permission bits of its file follow each
//! other, as in Linux.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{AllAttributes, Disk, Inode};
use holdfast::error::Code;
use holdfast::fs::{ACCESS_LIST, ExtendedAttribute, ExtendedAttributes};

/// Where the rights of an entry are, behind the version: eight bytes each.
const ENTRY: usize = 8;

/// For whom an entry is: the owner, the mask, others. What others there are, are named.
const OWNER: u8 = 0x01;
const MASK: u8 = 0x10;
const OTHERS: u8 = 0x20;

/// The entries of a list.
fn entries(list: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    list.get_mut(4..).unwrap_or_default().chunks_exact_mut(ENTRY)
}

fn shift_of(tag: u8) -> Option<u32> {
    match tag {
        OWNER => Some(6),
        MASK => Some(3),
        OTHERS => Some(0),
        _ => None,
    }
}

/// Makes a list say what the permission bits say.
pub(super) fn follow_mode(attributes: &mut AllAttributes) {
    let mode = attributes.basic.mode;
    if attributes.extended.access_list().is_none() {
        return;
    }
    let mut extended = ExtendedAttributes::clone(&attributes.extended);
    for attribute in extended.0.iter_mut().filter(|attribute| attribute.name == ACCESS_LIST) {
        for entry in entries(&mut attribute.value) {
            if let [tag, _, rights, ..] = entry
                && let Some(shift) = shift_of(*tag)
            {
                *rights = u8::try_from((mode >> shift) & 7).unwrap_or_default();
            }
        }
    }
    attributes.extended = Arc::new(extended);
}

/// Gives a file the permission bits that its list says.
fn follow_list(attributes: &mut AllAttributes, list: &[u8]) {
    for entry in entries(&mut list.to_owned()) {
        if let [tag, _, rights, ..] = entry
            && let Some(shift) = shift_of(*tag)
        {
            let mode = &mut attributes.basic.mode;
            *mode = (*mode & !(7 << shift)) | (u32::from(*rights & 7) << shift);
        }
    }
}

impl Disk {
    pub(crate) fn extended_of_name(
        &self,
        dir: Inode,
        name: &OsStr,
    ) -> io::Result<Option<ExtendedAttributes>> {
        match self.child(Some(self.process), dir, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Some(ExtendedAttributes::default()))
            }
            found => self.extended(found?),
        }
    }

    pub(crate) fn extended(&self, inode: Inode) -> io::Result<Option<ExtendedAttributes>> {
        Ok(Some(ExtendedAttributes::clone(&self.node(inode)?.attributes.extended)))
    }

    /// As `set_extended`, durable and by no process.
    pub(crate) fn put_extended(
        &mut self,
        path: &Path,
        name: &OsStr,
        value: Option<&[u8]>,
    ) -> io::Result<()> {
        let inode = self.walk(None, path, true)?;
        let process = std::mem::replace(&mut self.process.uid, 0);
        let records = self.records.len();
        let outcome = self.set_extended(inode, name, value);
        self.records.truncate(records);
        self.process.uid = process;
        let node = self.node_mut(inode)?;
        node.durable_attributes = node.attributes.clone();
        outcome
    }

    pub(crate) fn set_extended(
        &mut self,
        inode: Inode,
        name: &OsStr,
        value: Option<&[u8]>,
    ) -> io::Result<()> {
        let mut attributes = self.node(inode)?.attributes.clone();
        if self.process.uid != 0 && attributes.basic.uid != self.process.uid {
            return Err(Code::EPERM.error());
        }
        let mut extended = ExtendedAttributes::clone(&attributes.extended);
        extended.0.retain(|attribute| attribute.name != name);
        if let Some(value) = value {
            extended.0.push(ExtendedAttribute { name: name.to_owned(), value: value.to_owned() });
            extended.0.sort_unstable();
        }
        attributes.extended = Arc::new(extended);
        if let Some(list) = value.filter(|_| name == ACCESS_LIST) {
            follow_list(&mut attributes, list);
        }
        self.change_all_attributes(inode, attributes)
    }
}
