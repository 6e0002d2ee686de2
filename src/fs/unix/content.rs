//! Bytes of files: from memory that may be gone, in holes, and from file to file in the kernel.

use std::io;
use std::os::fd::AsRawFd;

#[cfg(target_os = "linux")]
use rustix::io::Errno;

use super::FileHandle;
use crate::payload::Chunk;

/// Writes once, where the last write has ended. The memory may be gone.
pub(super) fn write(file: &FileHandle, chunk: Chunk<'_>) -> io::Result<usize> {
    let (address, length) = match chunk {
        Chunk::Slice(bytes) => (bytes.as_ptr(), bytes.len()),
        Chunk::Memory { address, length } => {
            (std::ptr::with_exposed_provenance::<u8>(address), length)
        }
    };
    // SAFETY: the descriptor is open for as long as `file` is borrowed. `write` only
    // reads the memory, in the kernel, which answers EFAULT for addresses that are
    // not mapped; no reference to memory that may be gone is ever made.
    let written = unsafe { libc::write(file.descriptor.as_raw_fd(), address.cast(), length) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Where bytes are at or behind an offset that are not a hole.
#[cfg(target_os = "linux")]
pub(super) fn next_data(file: &FileHandle, offset: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(&file.descriptor, rustix::fs::SeekFrom::Data(offset)) {
        Ok(found) => Ok(Some(found.max(offset))),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Some(offset)),
        Err(error) => Err(error.into()),
    }
}

/// Has one file share the blocks of another. `false` where it cannot.
pub(super) fn clone_content(source: &FileHandle, into: &FileHandle) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    match rustix::fs::ioctl_ficlone(&into.descriptor, &source.descriptor) {
        Ok(()) => return Ok(true),
        Err(error @ Errno::INTR) => return Err(error.into()),
        // A reflink is optional. Whatever the error is, an ordinary copy meets it, too, or is
        // not concerned.
        Err(_) => {}
    }
    let _ = (source, into);
    Ok(false)
}

/// Copies bytes in the kernel. `None` where it cannot.
pub(super) fn copy(
    source: &FileHandle,
    offset: u64,
    into: &FileHandle,
    most: usize,
) -> io::Result<Option<usize>> {
    #[cfg(target_os = "linux")]
    {
        let (from, to) = (&source.descriptor, &into.descriptor);
        let mut offset = offset;
        match rustix::fs::copy_file_range(from, Some(&mut offset), to, None, most) {
            Ok(count) => Ok(Some(count)),
            // An old kernel, a file system or a sandbox that does not support the call, or not
            // for these two files.
            Err(
                Errno::NOSYS
                | Errno::OPNOTSUPP
                | Errno::INVAL
                | Errno::XDEV
                | Errno::PERM
                | Errno::BADF,
            ) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (source, offset, into, most);
        Ok(None)
    }
}
