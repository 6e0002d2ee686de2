//! An open file whose calls are continued when a signal interrupts them, count as waits where
//! they may wait for a disk, and name themselves when they fail.

use std::ffi::OsStr;

use super::{ExtendedAttributes, FileSystem, Metadata, uninterrupted};
use crate::error::Code;
use crate::error::Failure;
use crate::payload::Chunk;
use crate::threads::blocking;

/// An open file.
///
/// Node gives no path for a call on a descriptor, so neither do these failures;
/// [`Failure::on`] adds one where the caller shows it.
pub struct File<F: FileSystem> {
    fs: F,
    handle: F::FileHandle,
}

impl<F: FileSystem> File<F> {
    pub(super) fn new(fs: F, handle: F::FileHandle) -> File<F> {
        File { fs, handle }
    }

    /// What the file system knows the open file by.
    pub fn handle(&self) -> &F::FileHandle {
        &self.handle
    }

    /// What is known about the file: `fstat`.
    pub fn metadata(&self) -> Result<Metadata, Failure> {
        uninterrupted(|| self.fs.file_metadata(&self.handle))
            .map_err(|error| Failure::new("fstat", error))
    }

    /// Takes the advisory lock that tells a live temp file from an orphan: `flock`. `false` when
    /// another process holds it.
    pub fn try_lock(&self) -> Result<bool, Failure> {
        uninterrupted(|| self.fs.try_lock(&self.handle))
            .map_err(|error| Failure::new("flock", error))
    }

    /// Whether a free lock of it says that no process holds it: [`FileSystem::sees_all_locks`].
    pub fn sees_all_locks(&self) -> bool {
        self.fs.sees_all_locks(&self.handle)
    }

    /// Reads bytes from `offset` and says how many there were; 0 at the end.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Failure> {
        uninterrupted(|| self.fs.read(&self.handle, buffer, offset))
            .map_err(|error| Failure::new("read", error))
    }

    /// Reads from `offset` until the buffer is full or the file ends, and says how many bytes
    /// there were.
    pub fn read_up_to(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Failure> {
        let mut done = 0;
        while let Some(room) = buffer.get_mut(done..).filter(|room| !room.is_empty()) {
            match self.read(room, offset + done as u64)? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }

    /// Where the next bytes are that may be something else than zeros: [`FileSystem::next_data`].
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>, Failure> {
        uninterrupted(|| self.fs.next_data(&self.handle, offset))
            .map_err(|error| Failure::new("lseek", error))
    }

    /// Appends bytes, and says how many the system took: at least one.
    ///
    /// # Errors
    ///
    /// `EIO` where the system takes none and reports no error: trying on would never end.
    pub fn write(&self, chunk: Chunk<'_>) -> Result<usize, Failure> {
        let written = uninterrupted(|| self.fs.write(&self.handle, chunk));
        some(written)
    }

    /// Appends all these bytes.
    pub fn write_all(&self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let written = self.write(Chunk::Slice(bytes))?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes all these bytes at `offset`, over what is there.
    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let written = some(uninterrupted(|| self.fs.write_at(&self.handle, bytes, offset)))?;
            bytes = bytes.get(written..).unwrap_or_default();
            offset += written as u64;
        }
        Ok(())
    }

    /// Writes bytes at the end, and says where they begin and how many the system took: at least one.
    ///
    /// An interrupted call is not continued: a network file system may have appended them all the
    /// same. The caller looks.
    pub fn append(&self, bytes: &[u8]) -> Result<(u64, usize), Failure> {
        let written = self.fs.append(&self.handle, bytes);
        let (start, count) = written.map_err(|error| Failure::new("write", error))?;
        Ok((start, some(Ok(count))?))
    }

    /// Makes the file this long: `ftruncate`.
    pub fn set_size(&self, size: u64) -> Result<(), Failure> {
        uninterrupted(|| self.fs.set_size(&self.handle, size))
            .map_err(|error| Failure::new("ftruncate", error))
    }

    /// Sets owner and group; `None` leaves one as it is: `fchown`.
    pub fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Failure> {
        uninterrupted(|| self.fs.set_owner(&self.handle, uid, gid))
            .map_err(|error| Failure::new("fchown", error))
    }

    /// Sets the permission bits exactly: `fchmod`.
    pub fn set_mode(&self, mode: u32) -> Result<(), Failure> {
        uninterrupted(|| self.fs.set_mode(&self.handle, mode))
            .map_err(|error| Failure::new("fchmod", error))
    }

    /// What else the file has: [`FileSystem::file_extended`].
    pub fn extended(&self) -> Result<Option<ExtendedAttributes>, Failure> {
        uninterrupted(|| self.fs.file_extended(&self.handle))
            .map_err(|error| Failure::new("fgetxattr", error))
    }

    /// Sets an extended attribute, or removes it: [`FileSystem::set_extended`].
    pub fn set_extended(&self, name: &OsStr, value: Option<&[u8]>) -> Result<(), Failure> {
        let syscall = if value.is_some() { "fsetxattr" } else { "fremovexattr" };
        uninterrupted(|| self.fs.set_extended(&self.handle, name, value))
            .map_err(|error| Failure::new(syscall, error))
    }

    /// Shares the content of `source`: [`FileSystem::clone_content`].
    pub fn clone_content(&self, source: &File<F>) -> Result<bool, Failure> {
        uninterrupted(|| blocking(|| self.fs.clone_content(&source.handle, &self.handle)))
            .map_err(|error| Failure::new("copyfile", error))
    }

    /// Appends bytes of `source` in the kernel: [`FileSystem::copy`].
    pub fn copy(
        &self,
        source: &File<F>,
        offset: u64,
        most: usize,
    ) -> Result<Option<usize>, Failure> {
        uninterrupted(|| blocking(|| self.fs.copy(&source.handle, offset, &self.handle, most)))
            .map_err(|error| Failure::new("copyfile", error))
    }

    /// Learns of write errors that the system would report only when the file is closed.
    pub fn report_write_errors(&self) -> Result<(), Failure> {
        uninterrupted(|| self.fs.report_write_errors(&self.handle))
            .map_err(|error| Failure::new("close", error))
    }

    /// Waits until the bytes, the size and the attributes are on the disk: `fsync`. Never called
    /// again after a failure; see [`FileSystem::sync_file`].
    pub fn sync(&self) -> Result<(), Failure> {
        uninterrupted(|| blocking(|| self.fs.sync_file(&self.handle)))
            .map_err(|error| Failure::new("fsync", error))
    }

    /// Waits until the bytes and the size are on the disk: `fdatasync`. After a failure as
    /// [`File::sync`].
    pub fn sync_data(&self) -> Result<(), Failure> {
        uninterrupted(|| blocking(|| self.fs.sync_data(&self.handle)))
            .map_err(|error| Failure::new("fdatasync", error))
    }

    /// Starts to bring the bytes to the device, and does not wait for them.
    pub fn begin_write_back(&self) -> Result<(), Failure> {
        uninterrupted(|| self.fs.begin_write_back(&self.handle))
            .map_err(|error| Failure::new("sync_file_range", error))
    }

    /// Waits until the bytes are on the device; see [`FileSystem::await_write_back`].
    pub fn await_write_back(&self) -> Result<(), Failure> {
        uninterrupted(|| blocking(|| self.fs.await_write_back(&self.handle)))
            .map_err(|error| Failure::new("sync_file_range", error))
    }

    /// The same within a wait that the caller has marked with [`blocking`] for several files.
    pub fn await_write_back_within(&self) -> Result<(), Failure> {
        uninterrupted(|| self.fs.await_write_back(&self.handle))
            .map_err(|error| Failure::new("sync_file_range", error))
    }

    /// Waits until the whole file system that holds the file is on the disk: `syncfs`.
    pub fn sync_file_system(&self) -> Result<(), Failure> {
        uninterrupted(|| blocking(|| self.fs.sync_file_system_of(&self.handle)))
            .map_err(|error| Failure::new("syncfs", error))
    }
}

/// How many bytes a write took, where none without an error is one.
fn some(written: std::io::Result<usize>) -> Result<usize, Failure> {
    match written {
        Ok(0) => Err(Failure::new("write", Code::EIO.error())),
        Ok(count) => Ok(count),
        Err(error) => Err(Failure::new("write", error)),
    }
}
