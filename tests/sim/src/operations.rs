//! What is asked of the disk: each operation is numbered and noted, and done or made to go wrong.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::disk::{Disk, Inode};
use super::faults::{self, Effect};
use super::{Handle, OperationKind, Performed, SimDir, SimFile, SimFs};
use holdfast::error::Code;
use holdfast::fs::{DirUse, ExtendedAttributes, FileSystem, Metadata, SharedWith, SyncRules};
use holdfast::payload::Chunk;

/// Operations that [`FileSystem`] does not have.
impl SimFs {
    /// Makes everything on the disk durable, as `syncfs` does.
    ///
    /// # Errors
    ///
    /// Only those that a fault injects. After a failure everything counts as written.
    pub fn sync_filesystem(&self) -> io::Result<()> {
        self.operate(
            OperationKind::SyncFilesystem,
            |_| (PathBuf::from("/"), String::new()),
            Some(()),
            |disk, _| {
                disk.sync_filesystem();
                Ok(())
            },
            Disk::sync_filesystem_failed,
        )
    }
}

fn handle_path(disk: &Disk, handle: u64) -> PathBuf {
    disk.inode_of(handle).map_or_else(|_| PathBuf::from("(closed)"), |inode| disk.path_of(inode))
}

fn no_damage(_: &mut Disk) {}

/// Whether a sync that fails so has not even tried to write anything.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::EINTR
            | Code::EACCES
            | Code::EPERM
            | Code::EBADF
            | Code::EINVAL
            | Code::ENOSYS
            | Code::ENOTSUP
    )
}

impl SimFs {
    /// Does one operation, or what the faults make of it.
    ///
    /// `subject` says what it is about, for faults that concern a path, and for the log.
    /// `ignored` is the answer if it is silently left out, where it can be. `effect` is
    /// told how many bytes it may take. `damage` is done when the operation is made to
    /// fail.
    fn operate<T>(
        &self,
        kind: OperationKind,
        subject: impl FnOnce(&Disk) -> (PathBuf, String),
        ignored: Option<T>,
        effect: impl FnOnce(&mut Disk, usize) -> io::Result<T>,
        damage: impl FnOnce(&mut Disk),
    ) -> io::Result<T> {
        let effect = |disk: &mut Disk, most: usize| match kind.opens() && !disk.may_open() {
            true => Err(Code::EMFILE.error()),
            false => effect(disk, most),
        };
        let mut shared = self.lock();
        let (path, detail) = subject(&shared.disk);
        shared.count += 1;
        let number = shared.count;
        let mut verdict = None;
        if !shared.is_off {
            verdict = faults::judge(&mut shared.faults, kind, &path);
        }
        if let Some(Effect::ActBefore(act)) = &verdict {
            drop(shared);
            act(self, &path);
            shared = self.lock();
        }
        if matches!(verdict, Some(Effect::PowerOff)) {
            shared.is_off = true;
        }

        let mut fault = verdict.as_ref().map_or_else(String::new, |effect| format!("{effect:?}"));
        let outcome = match verdict {
            Some(Effect::PowerOff) => Err(Code::EIO.error()),
            _ if shared.is_off => {
                fault = "the power is off".to_owned();
                Err(Code::EIO.error())
            }
            Some(Effect::Fail(code)) => {
                if !is_refusal(code) {
                    damage(&mut shared.disk);
                }
                Err(code.error())
            }
            Some(Effect::FailAfter(code)) => match effect(&mut shared.disk, usize::MAX) {
                // A handle that no caller gets is closed, which takes the mutex.
                Ok(lost) => {
                    drop(shared);
                    drop(lost);
                    shared = self.lock();
                    Err(code.error())
                }
                Err(error) => Err(error),
            },
            Some(Effect::Ignore) if ignored.is_some() => ignored.ok_or_else(|| Code::EIO.error()),
            Some(Effect::ShortWrite(most)) => effect(&mut shared.disk, most),
            Some(Effect::Ignore | Effect::ActBefore(_)) | None => {
                effect(&mut shared.disk, usize::MAX)
            }
        };
        let error = outcome.as_ref().err().map(|error| {
            Code::of(error).map_or_else(|| error.to_string(), |code| code.name().to_owned())
        });
        shared.log.push(Performed { number, kind, path, detail, error, fault });
        outcome
    }

    /// An operation by path.
    fn by_path<T>(
        &self,
        kind: OperationKind,
        path: &Path,
        ignored: Option<T>,
        effect: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        let subject = |_: &Disk| (path.to_owned(), String::new());
        self.operate(kind, subject, ignored, |disk, _| effect(disk), no_damage)
    }

    /// An operation on a name in a directory.
    fn by_name<T>(
        &self,
        kind: OperationKind,
        dir: &SimDir,
        name: &OsStr,
        detail: String,
        ignored: Option<T>,
        effect: impl FnOnce(&mut Disk, Inode) -> io::Result<T>,
    ) -> io::Result<T> {
        let number = dir.0.number;
        let subject = |disk: &Disk| (handle_path(disk, number).join(name), detail);
        let effect = |disk: &mut Disk, _| {
            let inode = disk.inode_of(number)?;
            effect(disk, inode)
        };
        self.operate(kind, subject, ignored, effect, no_damage)
    }

    /// An operation on something open.
    fn by_handle<T>(
        &self,
        kind: OperationKind,
        handle: &Handle,
        detail: String,
        ignored: Option<T>,
        effect: impl FnOnce(&mut Disk, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        let number = handle.number;
        let subject = |disk: &Disk| (handle_path(disk, number), detail);
        self.operate(kind, subject, ignored, |disk, _| effect(disk, number), no_damage)
    }

    /// An operation that brings something open to the disk. `failed` is what comes of it otherwise.
    fn sync(
        &self,
        kind: OperationKind,
        handle: &Handle,
        effect: impl FnOnce(&mut Disk, u64) -> io::Result<()>,
        failed: impl FnOnce(&mut Disk, u64),
    ) -> io::Result<()> {
        let number = handle.number;
        let subject = |disk: &Disk| (handle_path(disk, number), String::new());
        let failed = |disk: &mut Disk| failed(disk, number);
        self.operate(kind, subject, Some(()), |disk, _| effect(disk, number), failed)
    }

    fn handle(&self, number: u64) -> Handle {
        Handle { fs: self.clone(), number }
    }
}

impl FileSystem for SimFs {
    type DirHandle = SimDir;
    type FileHandle = SimFile;

    fn effective_user(&self) -> Option<u32> {
        Some(self.lock().disk.process.uid)
    }

    fn most_open_files(&self) -> u64 {
        self.lock().disk.most_open as u64
    }

    fn longest_name(&self, _dir: &SimDir) -> usize {
        self.lock().disk.longest_name
    }

    fn open_dir(&self, path: &Path, purpose: DirUse) -> io::Result<SimDir> {
        let sync = purpose == DirUse::NamesAndSync;
        self.by_path(OperationKind::OpenDir, path, None, |disk| {
            disk.open_dir(path, sync).map(|number| SimDir(self.handle(number)))
        })
    }

    fn real_path(&self, dir: &SimDir, _path: &Path) -> io::Result<PathBuf> {
        self.by_handle(OperationKind::RealPath, &dir.0, String::new(), None, |disk, handle| {
            Ok(disk.path_of(disk.inode_of(handle)?))
        })
    }

    fn dir_metadata(&self, dir: &SimDir) -> io::Result<Metadata> {
        self.by_handle(OperationKind::DirMetadata, &dir.0, String::new(), None, |disk, handle| {
            disk.metadata(disk.inode_of(handle)?)
        })
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.by_path(OperationKind::MakeDir, path, Some(()), |disk| disk.make_dir(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.by_path(OperationKind::RemoveDir, path, Some(()), |disk| disk.remove_dir(path))
    }

    fn open_dir_in(&self, dir: &SimDir, name: &OsStr, purpose: DirUse) -> io::Result<SimDir> {
        let sync = purpose == DirUse::NamesAndSync;
        self.by_name(OperationKind::OpenDir, dir, name, String::new(), None, |disk, dir| {
            disk.open_dir_in(dir, name, sync).map(|number| SimDir(self.handle(number)))
        })
    }

    fn make_shared_dir(&self, above: &SimDir, name: &OsStr) -> io::Result<()> {
        let detail = String::from("shared");
        self.by_name(OperationKind::MakeDir, above, name, detail, Some(()), |disk, above| {
            disk.make_shared_dir(above, name)
        })
    }

    fn remove_dir_in(&self, dir: &SimDir, name: &OsStr) -> io::Result<()> {
        self.by_name(OperationKind::RemoveDir, dir, name, String::new(), Some(()), |disk, dir| {
            disk.remove_dir_in(dir, name)
        })
    }

    fn names(&self, dir: &SimDir) -> io::Result<Vec<OsString>> {
        let number = &dir.0;
        self.by_handle(OperationKind::Names, number, String::new(), None, |disk, handle| {
            disk.list(disk.inode_of(handle)?)
        })
    }

    fn metadata(&self, dir: &SimDir, name: &OsStr) -> io::Result<Metadata> {
        self.by_name(OperationKind::Metadata, dir, name, String::new(), None, |disk, dir| {
            disk.metadata_of_name(dir, name)
        })
    }

    fn modified(&self, dir: &SimDir, name: &OsStr) -> io::Result<SystemTime> {
        self.by_name(OperationKind::Modified, dir, name, String::new(), None, |disk, dir| {
            disk.modified_of_name(dir, name)
        })
    }

    fn read_link(&self, dir: &SimDir, name: &OsStr) -> io::Result<PathBuf> {
        self.by_name(OperationKind::ReadLink, dir, name, String::new(), None, |disk, dir| {
            disk.read_link(dir, name)
        })
    }

    fn create_new(&self, dir: &SimDir, name: &OsStr, mode: u32) -> io::Result<SimFile> {
        let detail = format!("mode {mode:o}");
        self.by_name(OperationKind::CreateNew, dir, name, detail, None, |disk, dir| {
            disk.create_new(dir, name, mode).map(|number| SimFile(self.handle(number)))
        })
    }

    fn create_shared(
        &self,
        dir: &SimDir,
        name: &OsStr,
        with: SharedWith<'_>,
    ) -> io::Result<SimFile> {
        let detail = String::from("shared");
        self.by_name(OperationKind::CreateNew, dir, name, detail, None, |disk, dir| {
            disk.create_shared(dir, name, with).map(|number| SimFile(self.handle(number)))
        })
    }

    fn open(&self, dir: &SimDir, name: &OsStr) -> io::Result<SimFile> {
        self.by_name(OperationKind::Open, dir, name, String::new(), None, |disk, dir| {
            disk.open_file(dir, name).map(|number| SimFile(self.handle(number)))
        })
    }

    fn open_to_change(&self, dir: &SimDir, name: &OsStr) -> io::Result<SimFile> {
        let kind = OperationKind::OpenToChange;
        self.by_name(kind, dir, name, String::new(), None, |disk, dir| {
            disk.open_to_change(dir, name).map(|number| SimFile(self.handle(number)))
        })
    }

    fn open_to_write(&self, dir: &SimDir, name: &OsStr) -> io::Result<SimFile> {
        let kind = OperationKind::OpenToWrite;
        self.by_name(kind, dir, name, String::new(), None, |disk, dir| {
            disk.open_to_write(dir, name).map(|number| SimFile(self.handle(number)))
        })
    }

    fn open_to_keep(&self, dir: &SimDir, name: &OsStr) -> io::Result<SimFile> {
        let kind = OperationKind::OpenToKeep;
        self.by_name(kind, dir, name, String::new(), None, |disk, dir| {
            disk.open_to_keep(dir, name).map(|number| SimFile(self.handle(number)))
        })
    }

    fn try_lock(&self, file: &SimFile) -> io::Result<bool> {
        self.by_handle(OperationKind::TryLock, &file.0, String::new(), Some(true), Disk::try_lock)
    }

    fn sees_all_locks(&self, _file: &SimFile) -> bool {
        self.lock().disk.sees_all_locks
    }

    fn file_metadata(&self, file: &SimFile) -> io::Result<Metadata> {
        self.by_handle(OperationKind::FileMetadata, &file.0, String::new(), None, |disk, handle| {
            disk.metadata(disk.inode_of(handle)?)
        })
    }

    fn write(&self, file: &SimFile, chunk: Chunk<'_>) -> io::Result<usize> {
        let number = file.0.number;
        self.operate(
            OperationKind::Write,
            |disk| (handle_path(disk, number), format!("{} bytes", chunk.len())),
            Some(chunk.len()),
            |disk, most| match chunk {
                Chunk::Slice(bytes) => {
                    let some = bytes.get(..most.min(bytes.len())).unwrap_or_default();
                    disk.write(number, some)
                }
                Chunk::Memory { .. } => Err(Code::EFAULT.error()),
            },
            no_damage,
        )
    }

    fn write_at(&self, file: &SimFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let number = file.0.number;
        self.operate(
            OperationKind::WriteAt,
            |disk| (handle_path(disk, number), format!("{} bytes at {offset}", bytes.len())),
            Some(bytes.len()),
            |disk, most| {
                let some = bytes.get(..most.min(bytes.len())).unwrap_or_default();
                disk.write_at(number, some, offset)
            },
            no_damage,
        )
    }

    /// In one step, as the system does it: no other program acts in the middle.
    fn append(&self, file: &SimFile, bytes: &[u8]) -> io::Result<(u64, usize)> {
        let number = file.0.number;
        self.operate(
            OperationKind::WriteAt,
            |disk| (handle_path(disk, number), format!("{} bytes at the end", bytes.len())),
            Some((0, bytes.len())),
            |disk, most| {
                let end = disk.metadata(disk.inode_of(number)?)?.size;
                let some = bytes.get(..most.min(bytes.len())).unwrap_or_default();
                Ok((end, disk.write_at(number, some, end)?))
            },
            no_damage,
        )
    }

    fn set_size(&self, file: &SimFile, size: u64) -> io::Result<()> {
        let detail = format!("{size} bytes");
        self.by_handle(OperationKind::SetSize, &file.0, detail, Some(()), |disk, handle| {
            disk.set_size(handle, size)
        })
    }

    fn read(&self, file: &SimFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let detail = format!("{} bytes at {offset}", buffer.len());
        self.by_handle(OperationKind::Read, &file.0, detail, None, |disk, handle| {
            disk.read(handle, buffer, offset)
        })
    }

    fn clone_content(&self, source: &SimFile, into: &SimFile) -> io::Result<bool> {
        let (from, detail) = (source.0.number, format!("of {}", source.0.number));
        self.by_handle(OperationKind::CloneContent, &into.0, detail, None, |disk, into| {
            disk.clone_content(from, into)
        })
    }

    fn copy(
        &self,
        source: &SimFile,
        offset: u64,
        into: &SimFile,
        most: usize,
    ) -> io::Result<Option<usize>> {
        let (from, number) = (source.0.number, into.0.number);
        self.operate(
            OperationKind::Copy,
            |disk| (handle_path(disk, number), format!("{most} bytes of {from} at {offset}")),
            None,
            |disk, limit| disk.copy(from, offset, number, most.min(limit)),
            no_damage,
        )
    }

    fn set_owner(&self, file: &SimFile, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let detail = format!("uid {uid:?}, gid {gid:?}");
        self.by_handle(OperationKind::SetOwner, &file.0, detail, Some(()), |disk, handle| {
            disk.set_owner(handle, uid, gid)
        })
    }

    fn set_mode(&self, file: &SimFile, mode: u32) -> io::Result<()> {
        let detail = format!("{mode:o}");
        self.by_handle(OperationKind::SetMode, &file.0, detail, Some(()), |disk, handle| {
            disk.set_mode(handle, mode)
        })
    }

    fn extended(&self, dir: &SimDir, name: &OsStr) -> io::Result<Option<ExtendedAttributes>> {
        self.by_name(OperationKind::Extended, dir, name, String::new(), None, |disk, dir| {
            disk.extended_of_name(dir, name)
        })
    }

    fn file_extended(&self, file: &SimFile) -> io::Result<Option<ExtendedAttributes>> {
        self.by_handle(OperationKind::FileExtended, &file.0, String::new(), None, |disk, handle| {
            disk.extended(disk.inode_of(handle)?)
        })
    }

    fn set_extended(&self, file: &SimFile, name: &OsStr, value: Option<&[u8]>) -> io::Result<()> {
        let detail = format!("{} {}", if value.is_some() { "+" } else { "-" }, name.display());
        self.by_handle(OperationKind::SetExtended, &file.0, detail, Some(()), |disk, handle| {
            disk.set_extended(disk.inode_of(handle)?, name, value)
        })
    }

    fn report_write_errors(&self, file: &SimFile) -> io::Result<()> {
        self.by_handle(
            OperationKind::ReportWriteErrors,
            &file.0,
            String::new(),
            Some(()),
            |_, _| Ok(()),
        )
    }

    fn sync_file(&self, file: &SimFile) -> io::Result<()> {
        self.sync(OperationKind::SyncFile, &file.0, Disk::sync_file, Disk::sync_file_failed)
    }

    fn sync_data(&self, file: &SimFile) -> io::Result<()> {
        self.sync(OperationKind::SyncData, &file.0, Disk::sync_data, Disk::sync_file_failed)
    }

    fn rename(&self, dir: &SimDir, _file: &SimFile, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let detail = format!("-> {}", to.display());
        self.by_name(OperationKind::Rename, dir, from, detail, Some(()), |disk, dir| {
            disk.rename(dir, from, to)
        })
    }

    fn rename_dir(&self, dir: &SimDir, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let detail = format!("-> {}", to.display());
        self.by_name(OperationKind::Rename, dir, from, detail, Some(()), |disk, dir| {
            disk.rename(dir, from, to)
        })
    }

    fn rename_new(
        &self,
        dir: &SimDir,
        _file: &SimFile,
        from: &OsStr,
        to: &OsStr,
    ) -> io::Result<bool> {
        let detail = format!("-> {}", to.display());
        self.by_name(OperationKind::RenameNew, dir, from, detail, Some(true), |disk, dir| {
            disk.rename_new(dir, from, to)
        })
    }

    fn sync_dir(&self, dir: &SimDir, file: Option<&SimFile>) -> io::Result<bool> {
        self.sync(
            OperationKind::SyncDir,
            &dir.0,
            |disk, dir| match disk.syncs_dirs {
                true => disk.sync_dir(dir, file.is_some()),
                false => Ok(()),
            },
            Disk::sync_dir_failed,
        )?;
        Ok(self.lock().disk.syncs_dirs)
    }

    fn sync_rules(&self, _file: &SimFile, _device: u64) -> SyncRules {
        self.lock().disk.sync_rules
    }

    fn dir_sync_rules(&self, _dir: &SimDir, _device: u64) -> SyncRules {
        self.lock().disk.sync_rules
    }

    fn begin_write_back(&self, file: &SimFile) -> io::Result<()> {
        // A disk may write at any time: it changes nothing that could be relied on.
        self.sync(OperationKind::BeginWriteBack, &file.0, |_, _| Ok(()), Disk::sync_file_failed)
    }

    fn await_write_back(&self, file: &SimFile) -> io::Result<()> {
        self.sync(
            OperationKind::AwaitWriteBack,
            &file.0,
            Disk::await_write_back,
            Disk::sync_file_failed,
        )
    }

    fn sync_file_system(&self, _dir: &SimDir) -> io::Result<()> {
        self.sync_filesystem()
    }

    fn sync_file_system_of(&self, _file: &SimFile) -> io::Result<()> {
        self.sync_filesystem()
    }

    fn remove(&self, dir: &SimDir, name: &OsStr) -> io::Result<()> {
        self.by_name(OperationKind::Remove, dir, name, String::new(), Some(()), |disk, dir| {
            disk.remove(dir, name)
        })
    }

    fn removes_open_dirs(&self) -> bool {
        self.lock().disk.has_unix_dirs
    }

    fn dir_modified(&self, dir: &SimDir) -> io::Result<SystemTime> {
        let kind = OperationKind::DirModified;
        self.by_handle(kind, &dir.0, String::new(), None, |disk, handle| {
            Ok(disk.modified(disk.inode_of(handle)?))
        })
    }

    fn set_dir_modified(&self, dir: &SimDir, time: SystemTime) -> io::Result<()> {
        let kind = OperationKind::SetDirModified;
        self.by_handle(kind, &dir.0, format!("{time:?}"), Some(()), |disk, handle| {
            disk.set_modified(disk.inode_of(handle)?, time);
            Ok(())
        })
    }

    fn try_lock_dir(&self, dir: &SimDir) -> io::Result<bool> {
        let kind = OperationKind::TryLockDir;
        self.by_handle(kind, &dir.0, String::new(), Some(true), Disk::try_lock_dir)
    }

    fn exchange(&self, dir: &SimDir, one: &OsStr, other: &OsStr) -> io::Result<bool> {
        let detail = format!("<-> {}", other.display());
        self.by_name(OperationKind::Exchange, dir, one, detail, None, |disk, dir| {
            disk.exchange(dir, one, other)
        })
    }
}
