//! Linux and macOS.
//!
//! Names are resolved relative to an open directory (`openat`, `renameat`…), so each operation
//! looks up one component only, and nothing that happens to the path above the directory can lead
//! it elsewhere.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Dir, Gid, Mode, OFlags, Uid};

mod access_list;
#[cfg(target_os = "linux")]
pub(crate) mod cached_lookup;
#[cfg(target_os = "linux")]
mod cifs;
mod content;
#[cfg(target_os = "linux")]
pub(crate) mod dir_lock;
mod exchange;
#[cfg(target_os = "linux")]
mod ext;
#[cfg(target_os = "linux")]
mod extended;
mod flock;
mod flush;
#[cfg(target_os = "linux")]
mod freed_blocks;
mod handles;
#[cfg(target_os = "linux")]
mod kinds;
mod lacks;
mod lock_rules;
mod metadata;
#[cfg(target_os = "linux")]
mod mount;
#[cfg(target_os = "linux")]
mod mount_options;
mod name_case;
pub(crate) mod patient_open;
mod real_path;
mod remove_at_exit;
mod rename_new;
pub(crate) mod shared_file;
#[cfg(target_os = "linux")]
mod sync_rules;
mod temp_at_exit;
#[cfg(target_os = "linux")]
mod watch;
mod working_dir;

pub use handles::{DirHandle, FileHandle};
pub use remove_at_exit::{RemoveAtExit, watch_signals};
pub use temp_at_exit::TempAtExit;
pub use working_dir::working_dir;

use flush::{close, is_unsupported, sync};
#[cfg(target_os = "linux")]
use flush::{is_refused, sync_file_range, sync_whole_file_system};
use metadata::{metadata_of, modified, raw_mode, timespec};

use crate::error::Code;
use crate::fs::{DirUse, FileSystem, Metadata, SharedWith};
#[cfg(target_os = "linux")]
use crate::fs::{DirWatch, ExtendedAttributes, OnChange, SyncRules};
use crate::metrics::METRICS;
use crate::payload::Chunk;
use crate::short_name::LONGEST_NAME;

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Os;

impl FileSystem for Os {
    type DirHandle = DirHandle;
    type FileHandle = FileHandle;

    fn effective_user(&self) -> Option<u32> {
        Some(rustix::process::geteuid().as_raw())
    }

    fn most_open_files(&self) -> u64 {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current.unwrap_or(u64::MAX)
    }

    #[cfg(target_os = "linux")]
    fn mount_number(&self, dir: &DirHandle) -> u64 {
        lacks::mount_number(dir.descriptor())
    }

    #[cfg(target_os = "linux")]
    fn open_files(&self) -> Option<u64> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open("/proc/self/fd", flags, Mode::empty()) {
            // Apart from `.`, `..` and the descriptor by which they are counted.
            Ok(all) => Some((Dir::new(all).ok()?.count() as u64).saturating_sub(3)),
            Err(rustix::io::Errno::MFILE) => Some(self.most_open_files()),
            Err(_) => None,
        }
    }

    fn longest_name(&self, dir: &DirHandle) -> usize {
        let limit = rustix::fs::fstatvfs(&dir.descriptor).ok().map(|found| found.f_namemax);
        limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(LONGEST_NAME)
    }

    fn open_dir(&self, path: &Path, purpose: DirUse) -> io::Result<DirHandle> {
        handles::open_dir(rustix::fs::CWD, path.as_os_str(), purpose)
    }

    fn open_dir_in(&self, dir: &DirHandle, name: &OsStr, purpose: DirUse) -> io::Result<DirHandle> {
        handles::open_dir(dir.descriptor(), name, purpose)
    }

    #[cfg(target_os = "linux")]
    fn watch_dir(&self, dir: &DirHandle, changed: OnChange) -> Option<DirWatch> {
        watch::watch(dir.descriptor.as_fd(), changed)
    }

    fn real_path(&self, dir: &DirHandle, path: &Path) -> io::Result<PathBuf> {
        real_path::of_open_dir(dir.descriptor.as_fd(), path)
    }

    fn dir_metadata(&self, dir: &DirHandle) -> io::Result<Metadata> {
        Ok(metadata_of(&rustix::fs::fstat(&dir.descriptor)?))
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::mkdir(path, Mode::from_raw_mode(0o777))?)
    }

    fn make_shared_dir(&self, above: &DirHandle, name: &OsStr) -> io::Result<()> {
        shared_file::make_dir(above.descriptor(), name)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::rmdir(path)?)
    }

    fn remove_dir_in(&self, dir: &DirHandle, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&dir.descriptor, name, AtFlags::REMOVEDIR)?)
    }

    fn names(&self, dir: &DirHandle) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        // The directory's own descriptor may be one that only names files.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(&dir.descriptor, ".", flags, Mode::empty())?;
        for entry in Dir::new(readable)? {
            let name = entry?.file_name().to_owned().into_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    fn metadata(&self, dir: &DirHandle, name: &OsStr) -> io::Result<Metadata> {
        let stat = rustix::fs::statat(&dir.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(metadata_of(&stat))
    }

    #[cfg(target_os = "linux")]
    fn identity(&self, dir: &DirHandle, name: &OsStr) -> io::Result<crate::fs::FileId> {
        metadata::identity_of(dir.descriptor.as_fd(), name)
    }

    fn modified(&self, dir: &DirHandle, name: &OsStr) -> io::Result<SystemTime> {
        modified(&rustix::fs::statat(&dir.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    #[cfg(target_os = "linux")]
    fn is_process_dir(&self, dir: &DirHandle, link: &Metadata) -> bool {
        // Links on a disk have all bits.
        link.mode & 0o777 != 0o777
            && kinds::kind_of(dir.descriptor.as_fd()).is_ok_and(|kind| kind == kinds::PROC)
    }

    fn read_link(&self, dir: &DirHandle, name: &OsStr) -> io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(&dir.descriptor, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    fn create_new(&self, dir: &DirHandle, name: &OsStr, mode: u32) -> io::Result<FileHandle> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(&dir.descriptor, name, flags, raw_mode(mode))?;
        Ok(FileHandle { descriptor })
    }

    fn create_shared(
        &self,
        dir: &DirHandle,
        name: &OsStr,
        with: SharedWith<'_>,
    ) -> io::Result<FileHandle> {
        Ok(FileHandle { descriptor: shared_file::create(dir.descriptor(), name, with)? })
    }

    fn remove_at_exit(&self, dir: &DirHandle, name: &OsStr) -> Option<TempAtExit> {
        TempAtExit::note(dir.descriptor.as_fd(), name)
    }

    fn open(&self, dir: &DirHandle, name: &OsStr) -> io::Result<FileHandle> {
        // NONBLOCK: should there be a pipe by now, opening it must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        handles::open_existing(dir, name, flags)
    }

    fn open_to_change(&self, dir: &DirHandle, name: &OsStr) -> io::Result<FileHandle> {
        let outcome = self.open_to_write(dir, name);
        match outcome.as_ref().err().and_then(Code::of) {
            // The file is read-only, is being executed, or may not be written to.
            Some(Code::EACCES | Code::EPERM | Code::EROFS | Code::ETXTBSY) => self.open(dir, name),
            _ => outcome,
        }
    }

    fn open_to_write(&self, dir: &DirHandle, name: &OsStr) -> io::Result<FileHandle> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        handles::open_existing(dir, name, flags)
    }

    fn open_to_append(&self, dir: &DirHandle, name: &OsStr) -> io::Result<FileHandle> {
        let flags = OFlags::RDWR | OFlags::APPEND;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        handles::open_existing(dir, name, flags)
    }

    /// Such a descriptor holds the file in memory, and so on the disk, without opening it: it needs
    /// no right to read it, waits for no lease, and is in no other program's way.
    #[cfg(target_os = "linux")]
    fn open_to_keep(&self, dir: &DirHandle, name: &OsStr) -> io::Result<FileHandle> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(&dir.descriptor, name, flags, Mode::empty())?;
        Ok(FileHandle { descriptor })
    }

    fn try_lock(&self, file: &FileHandle) -> io::Result<bool> {
        flock::try_lock(file.descriptor.as_fd())
    }

    fn sees_all_locks(&self, file: &FileHandle) -> bool {
        lock_rules::lock_rules(file.descriptor.as_fd()).may_remove_files
    }

    fn file_metadata(&self, file: &FileHandle) -> io::Result<Metadata> {
        Ok(metadata_of(&rustix::fs::fstat(&file.descriptor)?))
    }

    fn write(&self, file: &FileHandle, chunk: Chunk<'_>) -> io::Result<usize> {
        content::write(file, chunk)
    }

    fn write_at(&self, file: &FileHandle, bytes: &[u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwrite(&file.descriptor, bytes, offset)?)
    }

    fn append(&self, file: &FileHandle, bytes: &[u8]) -> io::Result<(u64, usize)> {
        let written = rustix::io::write(&file.descriptor, bytes)?;
        // The position is behind what was written. Nothing else moves it: a handle has one user.
        let end = rustix::fs::tell(&file.descriptor)?;
        Ok((end.saturating_sub(written as u64), written))
    }

    fn set_size(&self, file: &FileHandle, size: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(&file.descriptor, size)?)
    }

    fn read(&self, file: &FileHandle, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(&file.descriptor, buffer, offset)?)
    }

    #[cfg(target_os = "linux")]
    fn next_data(&self, file: &FileHandle, offset: u64) -> io::Result<Option<u64>> {
        content::next_data(file, offset)
    }

    fn clone_content(&self, source: &FileHandle, into: &FileHandle) -> io::Result<bool> {
        content::clone_content(source, into)
    }

    fn copy(
        &self,
        source: &FileHandle,
        offset: u64,
        into: &FileHandle,
        most: usize,
    ) -> io::Result<Option<usize>> {
        content::copy(source, offset, into, most)
    }

    fn set_owner(&self, file: &FileHandle, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        Ok(rustix::fs::fchown(&file.descriptor, uid, gid)?)
    }

    fn set_mode(&self, file: &FileHandle, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&file.descriptor, raw_mode(mode))?)
    }

    // macOS has other access control lists and its own ways to copy them. They are not kept there.

    #[cfg(target_os = "linux")]
    fn extended(&self, dir: &DirHandle, name: &OsStr) -> io::Result<Option<ExtendedAttributes>> {
        extended::of_name(dir.descriptor.as_fd(), name)
    }

    #[cfg(target_os = "linux")]
    fn file_extended(&self, file: &FileHandle) -> io::Result<Option<ExtendedAttributes>> {
        extended::of_file(file.descriptor.as_fd())
    }

    #[cfg(target_os = "linux")]
    fn set_extended(
        &self,
        file: &FileHandle,
        name: &OsStr,
        value: Option<&[u8]>,
    ) -> io::Result<()> {
        extended::set(file.descriptor.as_fd(), name, value)
    }

    fn report_write_errors(&self, file: &FileHandle) -> io::Result<()> {
        // Closing any descriptor of a file flushes it on the file systems that delay
        // errors until then. Closing a duplicate keeps the file open and its lock held
        // (flock belongs to the open file, not to the descriptor).
        let duplicate = rustix::io::fcntl_dupfd_cloexec(&file.descriptor, 0)?;
        close(duplicate)
    }

    fn sync_file(&self, file: &FileHandle) -> io::Result<()> {
        METRICS.syncs.file(|| sync(file.descriptor.as_fd()))
    }

    #[cfg(target_os = "linux")]
    fn sync_data(&self, file: &FileHandle) -> io::Result<()> {
        METRICS.syncs.file(|| Ok(rustix::fs::fdatasync(&file.descriptor)?))
    }

    /// `fdatasync` on macOS leaves the bytes in the drive's cache, as `fsync` does.
    #[cfg(not(target_os = "linux"))]
    fn sync_data(&self, file: &FileHandle) -> io::Result<()> {
        METRICS.syncs.file(|| sync(file.descriptor.as_fd()))
    }

    #[cfg(target_os = "linux")]
    fn sync_rules(&self, file: &FileHandle, device: u64) -> SyncRules {
        sync_rules::sync_rules(file.descriptor.as_fd(), device)
    }

    #[cfg(target_os = "linux")]
    fn dir_sync_rules(&self, dir: &DirHandle, device: u64) -> SyncRules {
        sync_rules::sync_rules(dir.descriptor.as_fd(), device)
    }

    #[cfg(target_os = "linux")]
    fn begin_write_back(&self, file: &FileHandle) -> io::Result<()> {
        match sync_file_range(file.descriptor.as_fd(), libc::SYNC_FILE_RANGE_WRITE) {
            Err(error) if is_refused(&error) => Ok(()),
            begun => begun,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn begin_write_back(&self, _file: &FileHandle) -> io::Result<()> {
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn await_write_back(&self, file: &FileHandle) -> io::Result<()> {
        let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        match METRICS.syncs.write_back(|| sync_file_range(file.descriptor.as_fd(), all)) {
            // It does more, and nothing less.
            Err(error) if is_refused(&error) => self.sync_data(file),
            awaited => awaited,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn await_write_back(&self, file: &FileHandle) -> io::Result<()> {
        self.sync_data(file)
    }

    fn rename(
        &self,
        dir: &DirHandle,
        _file: &FileHandle,
        from: &OsStr,
        to: &OsStr,
    ) -> io::Result<()> {
        let renamed = rustix::fs::renameat(&dir.descriptor, from, &dir.descriptor, to);
        #[cfg(target_os = "linux")]
        let renamed = renamed.map_err(|error| cifs::told_apart(dir.descriptor.as_fd(), error));
        Ok(renamed?)
    }

    fn rename_dir(&self, dir: &DirHandle, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&dir.descriptor, from, &dir.descriptor, to)?)
    }

    fn rename_new(
        &self,
        dir: &DirHandle,
        _file: &FileHandle,
        from: &OsStr,
        to: &OsStr,
    ) -> io::Result<bool> {
        rename_new::rename_new(dir.descriptor(), from, to)
    }

    fn sync_dir(&self, dir: &DirHandle, file: Option<&FileHandle>) -> io::Result<bool> {
        if dir.readable {
            return match METRICS.syncs.dir(|| sync(dir.descriptor.as_fd())) {
                Err(error) if is_unsupported(&error) => Ok(false),
                synced => synced.map(|()| true),
            };
        }
        match file {
            #[cfg(target_os = "linux")]
            Some(file) => METRICS
                .syncs
                .file_system(|| sync_whole_file_system(file.descriptor.as_fd()))
                .map(|()| true),
            _ => Err(Code::EACCES.error()),
        }
    }

    #[cfg(target_os = "linux")]
    fn sync_file_system(&self, dir: &DirHandle) -> io::Result<()> {
        if !dir.readable {
            return Err(Code::EACCES.error());
        }
        METRICS.syncs.file_system(|| Ok(rustix::fs::syncfs(&dir.descriptor)?))
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_file_system(&self, _dir: &DirHandle) -> io::Result<()> {
        Err(Code::ENOSYS.error())
    }

    #[cfg(target_os = "linux")]
    fn sync_file_system_of(&self, file: &FileHandle) -> io::Result<()> {
        METRICS.syncs.file_system(|| sync_whole_file_system(file.descriptor.as_fd()))
    }

    #[cfg(not(target_os = "linux"))]
    fn sync_file_system_of(&self, _file: &FileHandle) -> io::Result<()> {
        Err(Code::ENOSYS.error())
    }

    fn remove(&self, dir: &DirHandle, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&dir.descriptor, name, AtFlags::empty())?)
    }

    fn dir_modified(&self, dir: &DirHandle) -> io::Result<SystemTime> {
        modified(&rustix::fs::fstat(&dir.descriptor)?)
    }

    fn set_dir_modified(&self, dir: &DirHandle, time: SystemTime) -> io::Result<()> {
        let time = timespec(time)?;
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        // By name, as a descriptor that only names files cannot be changed itself.
        Ok(rustix::fs::utimensat(&dir.descriptor, ".", &times, AtFlags::empty())?)
    }

    fn try_lock_dir(&self, dir: &DirHandle) -> io::Result<bool> {
        flock::try_lock_dir(dir.descriptor.as_fd())
    }

    fn exchange(&self, dir: &DirHandle, one: &OsStr, other: &OsStr) -> io::Result<bool> {
        exchange::exchange(dir.descriptor.as_fd(), one, other)
    }
}
