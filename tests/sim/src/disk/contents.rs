//! What is in files, and their attributes.

use std::io;
use std::sync::Arc;

use super::rights::{SET_GROUP_ID, without_privileges};
use super::{AllAttributes, Attributes, Change, Copying, Disk, Handle, HandleUse, Inode, extended};
use holdfast::error::Code;

impl Disk {
    pub(crate) fn write(&mut self, handle: u64, bytes: &[u8]) -> io::Result<usize> {
        let Handle { position, .. } = *self.handle(handle)?;
        let taken = self.write_at(handle, bytes, position as u64)?;
        if let Some(handle) = self.handles.get_mut(&handle) {
            handle.position = position + taken;
        }
        Ok(taken)
    }

    pub(crate) fn set_size(&mut self, handle: u64, size: u64) -> io::Result<()> {
        let Handle { inode, use_of, .. } = *self.handle(handle)?;
        if use_of != HandleUse::File {
            return Err(Code::EBADF.error());
        }
        let size = usize::try_from(size).map_err(|_| Code::EFBIG.error())?;
        self.content_mut(inode)?.set_len(size);
        Ok(())
    }

    pub(crate) fn write_at(&mut self, handle: u64, bytes: &[u8], offset: u64) -> io::Result<usize> {
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
        let changed = self.next_change();
        self.node_mut(inode)?.changed = changed;
        let Attributes { mode, .. } = self.node(inode)?.attributes.basic;
        if self.process.uid != 0 {
            self.change_attributes(inode, |attributes| {
                attributes.mode = without_privileges(mode);
            })?;
        }
        Ok(taken.len())
    }

    pub(crate) fn read(&self, handle: u64, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.handle(handle)?.use_of == HandleUse::Kept {
            return Err(Code::EBADF.error());
        }
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
    pub(crate) fn copy(
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
    pub(crate) fn clone_content(&mut self, source: u64, into: u64) -> io::Result<bool> {
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
        let mut attributes = self.node(inode)?.attributes.clone();
        change(&mut attributes.basic);
        self.change_all_attributes(inode, attributes)
    }

    pub(super) fn change_all_attributes(
        &mut self,
        inode: Inode,
        attributes: AllAttributes,
    ) -> io::Result<()> {
        if attributes == self.node(inode)?.attributes {
            return Ok(());
        }
        let changed = self.next_change();
        let node = self.node_mut(inode)?;
        node.changed = changed;
        node.attributes = attributes.clone();
        self.note(Change::Attributes { inode, attributes });
        Ok(())
    }

    pub(crate) fn set_owner(
        &mut self,
        handle: u64,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> io::Result<()> {
        let inode = self.inode_of(handle)?;
        let now = self.node(inode)?.attributes.basic;
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

    pub(crate) fn set_mode(&mut self, handle: u64, mode: u32) -> io::Result<()> {
        let inode = self.inode_of(handle)?;
        let process = self.process;
        if process.uid != 0 && self.node(inode)?.attributes.basic.uid != process.uid {
            return Err(Code::EPERM.error());
        }
        let mut attributes = self.node(inode)?.attributes.clone();
        attributes.basic.mode = mode & 0o7777;
        if process.uid != 0 && attributes.basic.gid != process.gid {
            attributes.basic.mode &= !SET_GROUP_ID;
        }
        extended::follow_mode(&mut attributes);
        self.change_all_attributes(inode, attributes)
    }
}
