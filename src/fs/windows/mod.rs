//! Windows.
//!
//! Names are resolved relative to an open directory, as on the other systems: the kernel's
//! own calls (`NtCreateFile`, `NtSetInformationFile`) take a directory's handle that a name is
//! relative to. So nothing that happens to the path above the directory can lead an operation
//! elsewhere, no path is too long, and no name is taken for a device.
//!
//! How a directory's handle affects other processes: it is opened with every sharing right, so they
//! may list, rename and remove the directory meanwhile (before POSIX removals, in Windows
//! 10, the name goes when the handle is closed). What is above it cannot be renamed while
//! something below is open; that is so with every open file on Windows.
//!
//! A file's handle has the right to delete, because a rename needs it. A program that
//! opens the file without sharing deletion and writing gets a sharing violation until
//! the handle is closed, so a [`FileHandle`] should be closed soon after its rename.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use windows_sys::Wdk::Storage::FileSystem::{
    FILE_CREATE, FILE_DELETE_ON_CLOSE, FILE_NON_DIRECTORY_FILE, FILE_OPEN, FILE_OPEN_IF,
    FILE_OPEN_REPARSE_POINT, NTCREATEFILE_CREATE_DISPOSITION, NTCREATEFILE_CREATE_OPTIONS,
};
use windows_sys::Win32::Foundation::*;
use windows_sys::Win32::Storage::FileSystem::*;

use crate::error::Code;
use crate::fs::{DirUse, FileKind, FileSystem, Metadata, SharedWith};
use crate::metrics::METRICS;
use crate::payload::Chunk;
use crate::temp_name;

mod dirs;
mod lock_rules;
mod metadata;
mod native;
mod process;

use metadata::{OWNER_MAY_WRITE, kind_of, metadata_of, set_attributes, time_of, with_mode};
use native::{Disposition, GONE_AT_ONCE, Name, Opening, Replacing, is, is_unknown};
pub(crate) use native::{check, overlapped};
pub use process::{TempAtExit, working_dir};

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Os;

/// An open directory.
#[derive(Debug)]
pub struct DirHandle {
    handle: OwnedHandle,
    /// Opened with a right to change the directory, without which it cannot be flushed.
    flushable: bool,
    /// The path that it was opened by.
    path: PathBuf,
}

/// An open file.
#[derive(Debug)]
pub struct FileHandle {
    handle: OwnedHandle,
    /// How much has been written. The position that Windows keeps is of no use: a read
    /// from a given offset moves it.
    position: AtomicU64,
}

/// The offset of the byte that the lock of a temp file covers: far behind any content, because a
/// lock on Windows keeps other processes from reading and writing what it covers.
const LOCKED_BYTE: u64 = 1 << 62;

/// Opens a file to see what its name stands for. It asks for so little that no other open handle
/// is in the way.
const LOOK: Opening = Opening {
    access: FILE_READ_ATTRIBUTES,
    disposition: FILE_OPEN,
    options: FILE_OPEN_REPARSE_POINT,
    attributes: 0,
};

/// The file of that name itself is opened: no link is followed, and no directory is taken for a
/// file.
const FILE_ITSELF: NTCREATEFILE_CREATE_OPTIONS = FILE_NON_DIRECTORY_FILE | FILE_OPEN_REPARSE_POINT;

impl DirHandle {
    /// Where the directory is now.
    fn path(&self) -> PathBuf {
        // Some drivers for virtual disks cannot say.
        native::final_path(self.handle.as_handle()).unwrap_or_else(|_| self.path.clone())
    }

    /// Opens a lock file, making it if there is none, for `src/lock`. It is refused if
    /// there is a link, a directory or anything else but a file.
    pub(crate) fn open_lock_file(&self, name: &OsStr) -> io::Result<std::fs::File> {
        self.open_itself(name, FILE_OPEN_IF, GENERIC_READ | GENERIC_WRITE)
    }

    fn open_itself(
        &self,
        name: &OsStr,
        disposition: NTCREATEFILE_CREATE_DISPOSITION,
        access: FILE_ACCESS_RIGHTS,
    ) -> io::Result<std::fs::File> {
        let opening = Opening {
            access,
            disposition,
            options: FILE_ITSELF,
            attributes: FILE_ATTRIBUTE_NORMAL,
        };
        let dir = self.handle.as_handle();
        let handle = native::open_at(dir, &Name::new(name)?, &opening).map_err(|error| {
            // A link to a directory is itself a directory to Windows.
            let is_link = || Os.metadata(self, name).is_ok_and(|it| it.kind == FileKind::Link);
            let is_dir = Code::of(&error) == Some(Code::EISDIR);
            if is_dir && is_link() { Code::ELOOP.error() } else { error }
        })?;
        let attributes = native::get::<FILE_BASIC_INFO>(handle.as_handle())?.FileAttributes;
        match kind_of(handle.as_handle(), attributes)? {
            FileKind::File => Ok(handle.into()),
            FileKind::Dir => Err(Code::EISDIR.error()),
            FileKind::Link | FileKind::Other(_) => Err(Code::ELOOP.error()),
        }
    }

    /// Whether something is mounted under a name in it. A volume in a directory is a link there.
    #[allow(clippy::unused_self, reason = "the other systems look")]
    pub(crate) fn is_mount_point(&self, _name: &OsStr) -> bool {
        false
    }

    /// Whether a name in the directory leads to this open file.
    pub(crate) fn leads_to(&self, name: &OsStr, file: BorrowedHandle<'_>) -> io::Result<bool> {
        match native::open_at(self.handle.as_handle(), &Name::new(name)?, &LOOK) {
            Ok(named) => Ok(native::id_of(named.as_handle())? == native::id_of(file)?),
            // In the second case the name goes when the last handle is closed.
            Err(error) if is(&error, ERROR_FILE_NOT_FOUND) || is(&error, ERROR_DELETE_PENDING) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl FileSystem for Os {
    type DirHandle = DirHandle;
    type FileHandle = FileHandle;

    fn open_dir(&self, path: &Path, purpose: DirUse) -> io::Result<DirHandle> {
        let (handle, flushable) = dirs::open(path, purpose)?;
        Ok(DirHandle { handle, flushable, path: path.to_owned() })
    }

    fn open_dir_in(&self, dir: &DirHandle, name: &OsStr, purpose: DirUse) -> io::Result<DirHandle> {
        let (handle, flushable) = dirs::open_in(dir.handle.as_handle(), name, purpose)?;
        Ok(DirHandle { handle, flushable, path: dir.path().join(name) })
    }

    fn real_path(&self, dir: &DirHandle, _path: &Path) -> io::Result<PathBuf> {
        native::final_path(dir.handle.as_handle())
    }

    fn dir_metadata(&self, dir: &DirHandle) -> io::Result<Metadata> {
        metadata_of(dir.handle.as_handle())
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(path) {
            // The root of a drive fails so, and any directory of a network drive.
            Err(error) if is(&error, ERROR_ACCESS_DENIED) && path.is_dir() => {
                Err(Code::EEXIST.error())
            }
            outcome => outcome,
        }
    }

    /// A directory gets the access control list that the one above it has for new ones.
    fn make_shared_dir(&self, above: &DirHandle, name: &OsStr) -> io::Result<()> {
        dirs::make_in(above.handle.as_handle(), name)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn remove_dir_in(&self, dir: &DirHandle, name: &OsStr) -> io::Result<()> {
        dirs::remove_in(dir.handle.as_handle(), name)
    }

    fn names(&self, dir: &DirHandle) -> io::Result<Vec<OsString>> {
        let handle = dir.handle.as_handle();
        // A handle remembers how far it has been listed, so each listing has its own.
        match native::reopen_dir(handle, FILE_LIST_DIRECTORY)
            .and_then(|own| native::names(own.as_handle()))
        {
            Err(error) if is_unknown(&error) => {}
            outcome => return outcome,
        }
        // Some network and virtual file systems open nothing without a name, or know only
        // the oldest way to list.
        std::fs::read_dir(dir.path())?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn metadata(&self, dir: &DirHandle, name: &OsStr) -> io::Result<Metadata> {
        let file = native::open_at(dir.handle.as_handle(), &Name::new(name)?, &LOOK)?;
        metadata_of(file.as_handle())
    }

    fn modified(&self, dir: &DirHandle, name: &OsStr) -> io::Result<SystemTime> {
        let file = native::open_at(dir.handle.as_handle(), &Name::new(name)?, &LOOK)?;
        let written = native::general(file.as_handle())?.ftLastWriteTime;
        time_of(native::wide(written.dwHighDateTime, written.dwLowDateTime))
            .ok_or_else(|| Code::EOVERFLOW.error())
    }

    fn read_link(&self, dir: &DirHandle, name: &OsStr) -> io::Result<PathBuf> {
        Name::new(name)?;
        std::fs::read_link(dir.path().join(name))
    }

    fn create_new(&self, dir: &DirHandle, name: &OsStr, mode: u32) -> io::Result<FileHandle> {
        let opening = Opening {
            access: GENERIC_READ | GENERIC_WRITE | DELETE,
            disposition: FILE_CREATE,
            options: FILE_ITSELF,
            // This handle may write all the same.
            attributes: with_mode(FILE_ATTRIBUTE_NORMAL, mode),
        };
        let handle = native::open_at(dir.handle.as_handle(), &Name::new(name)?, &opening)?;
        Ok(FileHandle { handle, position: AtomicU64::new(0) })
    }

    /// A file gets the access control list that its directory has for new files.
    fn create_shared(
        &self,
        dir: &DirHandle,
        name: &OsStr,
        _with: SharedWith<'_>,
    ) -> io::Result<FileHandle> {
        const WRITABLE: u32 = 0o666;
        self.create_new(dir, name, WRITABLE)
    }

    fn open(&self, dir: &DirHandle, name: &OsStr) -> io::Result<FileHandle> {
        open_existing(dir, name, GENERIC_READ)
    }

    /// With the right to delete, because a rename needs it.
    fn open_to_write(&self, dir: &DirHandle, name: &OsStr) -> io::Result<FileHandle> {
        open_existing(dir, name, GENERIC_READ | GENERIC_WRITE | DELETE)
    }

    fn open_to_change(&self, dir: &DirHandle, name: &OsStr) -> io::Result<FileHandle> {
        match self.open_to_write(dir, name) {
            // The file is read-only, or may not be written to.
            Err(error) if is(&error, ERROR_ACCESS_DENIED) => {
                open_existing(dir, name, GENERIC_READ | FILE_WRITE_ATTRIBUTES | DELETE)
            }
            outcome => outcome,
        }
    }

    fn try_lock(&self, file: &FileHandle) -> io::Result<bool> {
        match native::lock(file.handle.as_handle(), LOCKED_BYTE) {
            Ok(()) => Ok(true),
            Err(error) if is(&error, ERROR_LOCK_VIOLATION) => Ok(false),
            // Some network and virtual file systems have no locks, or none so far out. No process
            // can take one there, so a lock would say nothing.
            Err(error) if is_unknown(&error) || is(&error, ERROR_INVALID_LOCK_RANGE) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn file_metadata(&self, file: &FileHandle) -> io::Result<Metadata> {
        metadata_of(file.handle.as_handle())
    }

    fn write(&self, file: &FileHandle, chunk: Chunk<'_>) -> io::Result<usize> {
        let (address, length) = match chunk {
            Chunk::Slice(bytes) => (bytes.as_ptr(), bytes.len()),
            Chunk::Memory { address, length } => {
                (std::ptr::with_exposed_provenance::<u8>(address), length)
            }
        };
        let position = file.position.load(Ordering::Relaxed);
        let written = native::write(file.handle.as_handle(), address, length, position)?;
        file.position.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn write_at(&self, file: &FileHandle, bytes: &[u8], offset: u64) -> io::Result<usize> {
        native::write(file.handle.as_handle(), bytes.as_ptr(), bytes.len(), offset)
    }

    fn set_size(&self, file: &FileHandle, size: u64) -> io::Result<()> {
        let size = i64::try_from(size).map_err(|_| Code::EFBIG.error())?;
        native::set(file.handle.as_handle(), &FILE_END_OF_FILE_INFO { EndOfFile: size })
    }

    fn read(&self, file: &FileHandle, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        native::read(file.handle.as_handle(), buffer, offset)
    }

    /// Not supported: NTFS cannot do it. ReFS can, for ranges that fit its clusters and files with
    /// the same settings; an ordinary copy does there, too.
    fn clone_content(&self, _source: &FileHandle, _into: &FileHandle) -> io::Result<bool> {
        Ok(false)
    }

    /// Not supported: Windows copies whole files by their paths, not parts of open ones.
    fn copy(
        &self,
        _source: &FileHandle,
        _offset: u64,
        _into: &FileHandle,
        _most: usize,
    ) -> io::Result<Option<usize>> {
        Ok(None)
    }

    /// Does nothing: an owner on Windows is no number.
    fn set_owner(
        &self,
        _file: &FileHandle,
        _uid: Option<u32>,
        _gid: Option<u32>,
    ) -> io::Result<()> {
        Ok(())
    }

    /// Makes the file read-only if its owner may not write it; nothing else of the bits
    /// has a meaning here, as in Node.
    fn set_mode(&self, file: &FileHandle, mode: u32) -> io::Result<()> {
        let handle = file.handle.as_handle();
        let current = native::get::<FILE_BASIC_INFO>(handle)?.FileAttributes;
        let wanted = with_mode(current, mode);
        if wanted == current { Ok(()) } else { set_attributes(handle, wanted) }
    }

    // Extended attributes: none. A new file has the access control list that its directory gives it.

    /// Does nothing. Closing a handle reports no errors on Windows: a write's errors are reported by
    /// the write itself or by a flush. Only a flush would make a network file system report more,
    /// and that is the sync which this call avoids.
    fn report_write_errors(&self, _file: &FileHandle) -> io::Result<()> {
        Ok(())
    }

    fn sync_file(&self, file: &FileHandle) -> io::Result<()> {
        METRICS.syncs.file(|| flush_file(file))
    }

    /// A flush of everything: a way to leave the metadata out is not documented for a handle
    /// of this kind.
    fn sync_data(&self, file: &FileHandle) -> io::Result<()> {
        METRICS.syncs.file(|| flush_file(file))
    }

    // `sync_rules` stays as it is: NTFS and ReFS log changes of metadata, but it has not been tested
    // with power cuts whether their order can be relied on.

    fn begin_write_back(&self, _file: &FileHandle) -> io::Result<()> {
        Ok(())
    }

    /// Only a flush waits for bytes.
    fn await_write_back(&self, file: &FileHandle) -> io::Result<()> {
        self.sync_data(file)
    }

    fn rename(
        &self,
        dir: &DirHandle,
        file: &FileHandle,
        from: &OsStr,
        to: &OsStr,
    ) -> io::Result<()> {
        let ways = [Replacing::Any, Replacing::Writable, Replacing::Closed];
        rename_by(&ways, dir, file, from, to).map_err(|error| {
            // Windows reports a directory in the way as 'access denied', as it does a file that a
            // process has open. The file is closed at some time; a directory, or a link to one,
            // stays.
            let in_the_way = [ERROR_ACCESS_DENIED, ERROR_ALREADY_EXISTS, ERROR_FILE_EXISTS]
                .iter()
                .any(|number| is(&error, *number));
            if in_the_way && is_dir(dir, to) { Code::EISDIR.error() } else { error }
        })
    }

    fn rename_dir(&self, dir: &DirHandle, from: &OsStr, to: &OsStr) -> io::Result<()> {
        dirs::rename_in(dir.handle.as_handle(), from, to)
    }

    fn rename_new(
        &self,
        dir: &DirHandle,
        file: &FileHandle,
        from: &OsStr,
        to: &OsStr,
    ) -> io::Result<bool> {
        rename_by(&[Replacing::Nothing], dir, file, from, to).map(|()| true)
    }

    /// Flushes the directory, and where that may not be enough a file in it.
    ///
    /// What is documented: flushing a directory that was opened with the right to add to it
    /// writes its metadata to stable storage, and ensures that the directory structure
    /// is persisted (MS-FSA 2.1.5.7, MS-SMB2 3.3.5.11). Flushing a file commits all
    /// pending metadata changes of the file (`NtFlushBuffersFileEx`), and a rename is one.
    /// NTFS and ReFS log a rename and replay it in order; either flush writes the log.
    /// But FAT, as Microsoft publishes it (fastfat, flush.c), does nothing when a directory
    /// is flushed and answers success; there flushing a file writes its directories too.
    fn sync_dir(&self, dir: &DirHandle, file: Option<&FileHandle>) -> io::Result<bool> {
        let synced = METRICS.syncs.dir(|| {
            let handle = dir.handle.as_handle();
            if dir.flushable {
                match native::flush(handle) {
                    Ok(()) if native::has_journal(handle) => return Ok(()),
                    Ok(()) => {}
                    Err(error) if is_unknown(&error) || is(&error, ERROR_ACCESS_DENIED) => {}
                    Err(error) => return Err(error),
                }
            }
            match file {
                Some(file) => flush_file(file),
                None => native::flush(delete_on_close_file(handle)?.as_handle()),
            }
        });
        synced.map(|()| true)
    }

    /// Not supported: only administrators may flush a whole volume. `sync_dir` has other ways where
    /// the directory cannot be flushed.
    fn sync_file_system(&self, _dir: &DirHandle) -> io::Result<()> {
        Err(Code::ENOSYS.error())
    }

    /// Not supported, for the same reason.
    fn sync_file_system_of(&self, _file: &FileHandle) -> io::Result<()> {
        Err(Code::ENOSYS.error())
    }

    fn remove(&self, dir: &DirHandle, name: &OsStr) -> io::Result<()> {
        let name = Name::new(name)?;
        let open = |access: FILE_ACCESS_RIGHTS| {
            let opening =
                Opening { access, disposition: FILE_OPEN, options: FILE_ITSELF, attributes: 0 };
            native::open_at(dir.handle.as_handle(), &name, &opening)
        };
        let file = open(DELETE)?;
        match native::set(file.as_handle(), &GONE_AT_ONCE) {
            Err(error) if is_unknown(&error) => {}
            outcome => return outcome,
        }
        drop(file);
        // Before Windows 10: the name goes when the last handle is closed.
        let file = open(DELETE | FILE_READ_ATTRIBUTES | FILE_WRITE_ATTRIBUTES)?;
        let handle = file.as_handle();
        let attributes = native::get::<FILE_BASIC_INFO>(handle)?.FileAttributes;
        let writable = with_mode(attributes, OWNER_MAY_WRITE);
        if writable != attributes {
            set_attributes(handle, writable)?;
        }
        native::set(handle, &Disposition { delete: 1 }).inspect_err(|_| {
            if writable != attributes {
                // If this fails too, the error that is reported is still the first one.
                let _ = set_attributes(handle, attributes);
            }
        })
    }

    fn dir_modified(&self, dir: &DirHandle) -> io::Result<SystemTime> {
        let written = native::general(dir.handle.as_handle())?.ftLastWriteTime;
        time_of(native::wide(written.dwHighDateTime, written.dwLowDateTime))
            .ok_or_else(|| Code::EOVERFLOW.error())
    }

    fn set_dir_modified(&self, dir: &DirHandle, time: SystemTime) -> io::Result<()> {
        let own = native::reopen_dir(dir.handle.as_handle(), FILE_WRITE_ATTRIBUTES)?;
        std::fs::File::from(own).set_modified(time)
    }

    /// A directory has no bytes that could be locked.
    fn try_lock_dir(&self, _dir: &DirHandle) -> io::Result<bool> {
        Ok(true)
    }

    fn exchange(&self, _dir: &DirHandle, _one: &OsStr, _other: &OsStr) -> io::Result<bool> {
        Ok(false)
    }
}

/// A flush needs the right to write. A file that is open for reading is opened once more for it.
fn flush_file(file: &FileHandle) -> io::Result<()> {
    match native::flush(file.handle.as_handle()) {
        Err(error) if is(&error, ERROR_ACCESS_DENIED) => {
            let own = native::reopen_file(file.handle.as_handle(), GENERIC_WRITE)?;
            native::flush(own.as_handle())
        }
        outcome => outcome,
    }
}

/// Opens a regular file that is there.
fn open_existing(
    dir: &DirHandle,
    name: &OsStr,
    access: FILE_ACCESS_RIGHTS,
) -> io::Result<FileHandle> {
    let (dir, name) = (dir.handle.as_handle(), Name::new(name)?);
    let open = |options: NTCREATEFILE_CREATE_OPTIONS| {
        let opening = Opening { access, disposition: FILE_OPEN, options, attributes: 0 };
        native::open_at(dir, &name, &opening)
    };
    let mut handle = open(FILE_ITSELF)?;
    let found = native::general(handle.as_handle())?;
    if found.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT != 0 {
        let known = metadata_of(handle.as_handle())?;
        if known.kind != FileKind::File {
            return Err(Code::ELOOP.error());
        }
        // The content of such a file (in a cloud, deduplicated…) can be read only if its driver is
        // let to follow the reparse point.
        handle = open(FILE_NON_DIRECTORY_FILE)?;
        if metadata_of(handle.as_handle())?.id != known.id {
            return Err(Code::ELOOP.error());
        }
    }
    Ok(FileHandle { handle, position: AtomicU64::new(0) })
}

/// Renames in the first of these ways that the system and the file system support. All of them
/// agree on whether a file that has the name already is replaced.
fn rename_by(
    ways: &[Replacing],
    dir: &DirHandle,
    file: &FileHandle,
    from: &OsStr,
    to: &OsStr,
) -> io::Result<()> {
    let (handle, dir_handle) = (file.handle.as_handle(), dir.handle.as_handle());
    let name = Name::new(to)?;
    for replacing in ways {
        match native::rename_at(handle, dir_handle, &name, *replacing) {
            Err(error) if is_unknown(&error) => {}
            outcome => return outcome,
        }
    }
    // A network redirector that does not take a directory's handle.
    let path = dir.path();
    let replaces = !ways.contains(&Replacing::Nothing);
    native::move_file(&path.join(from), &path.join(to), replaces)
}

/// Whether a name stands for a directory, or a link to one.
fn is_dir(dir: &DirHandle, name: &OsStr) -> bool {
    let attributes = || {
        let file = native::open_at(dir.handle.as_handle(), &Name::new(name)?, &LOOK)?;
        io::Result::Ok(native::general(file.as_handle())?.dwFileAttributes)
    };
    attributes().is_ok_and(|attributes| attributes & FILE_ATTRIBUTE_DIRECTORY != 0)
}

/// A file in the directory that is removed when it is closed. After a power cut it looks like any
/// other orphan.
fn delete_on_close_file(dir: BorrowedHandle<'_>) -> io::Result<OwnedHandle> {
    let opening = Opening {
        access: GENERIC_WRITE | DELETE,
        disposition: FILE_CREATE,
        options: FILE_ITSELF | FILE_DELETE_ON_CLOSE,
        attributes: FILE_ATTRIBUTE_NORMAL,
    };
    native::open_at(dir, &Name::new(&temp_name::new_name(OsStr::new("sync")))?, &opening)
}
