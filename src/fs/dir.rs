//! An open directory whose calls are continued when a signal interrupts them, count as waits
//! where they may wait for a disk, and name themselves and their path when they fail.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::limitation::{self, Limitation};
use super::{
    DirUse, DirWatch, ExtendedAttributes, File, FileId, FileSystem, INTERRUPTIONS, Metadata,
    OnChange, SharedWith, SyncRules, TempAtExit, uninterrupted,
};
use crate::error::{Code, Failure};
use crate::short_name::{ALWAYS_FITS, LONGEST_NAME};
use crate::threads::blocking;

/// An open directory, and the path that led to it. What happens to that path meanwhile leads no
/// operation elsewhere; it is for messages.
pub struct Dir<F: FileSystem> {
    fs: F,
    handle: Handle<F>,
    path: PathBuf,
}

/// How a directory is open: for itself, or with others by one handle.
enum Handle<F: FileSystem> {
    Own(F::DirHandle),
    Shared(Arc<F::DirHandle>),
}

impl<F: FileSystem> Dir<F> {
    /// Opens the directory at `path`, symbolic links followed.
    pub fn open(fs: &F, path: &Path, purpose: DirUse) -> Result<Dir<F>, Failure> {
        let handle = uninterrupted(|| fs.open_dir(path, purpose))
            .map_err(|error| Failure::at("open", path, error))?;
        Ok(Dir { fs: fs.clone(), handle: Handle::Own(handle), path: path.to_owned() })
    }

    /// Makes a directory: `mkdir`. Its parent must exist, and it must not.
    pub fn make(fs: &F, path: &Path) -> Result<(), Failure> {
        uninterrupted(|| fs.make_dir(path)).map_err(|error| Failure::at("mkdir", path, error))
    }

    /// Removes an empty directory: `rmdir`.
    pub fn remove_empty(fs: &F, path: &Path) -> Result<(), Failure> {
        uninterrupted(|| fs.remove_dir(path)).map_err(|error| Failure::at("rmdir", path, error))
    }

    /// Opens a directory in this one, a symbolic link followed: `open`.
    pub fn open_dir(&self, name: &OsStr, purpose: DirUse) -> Result<Dir<F>, Failure> {
        let handle = uninterrupted(|| self.fs.open_dir_in(self.handle(), name, purpose))
            .map_err(|error| self.failed("open", name, error))?;
        Ok(Dir { fs: self.fs.clone(), handle: Handle::Own(handle), path: self.shown(name) })
    }

    /// Makes a directory of holdfast's own in this one, in which other users make files, too:
    /// `mkdir`.
    pub fn make_shared_dir(&self, name: &OsStr) -> Result<(), Failure> {
        uninterrupted(|| self.fs.make_shared_dir(self.handle(), name))
            .map_err(|error| self.failed("mkdir", name, error))
    }

    /// Removes an empty directory in this one: `rmdir`.
    pub fn remove_empty_dir(&self, name: &OsStr) -> Result<(), Failure> {
        uninterrupted(|| self.fs.remove_dir_in(self.handle(), name))
            .map_err(|error| self.failed("rmdir", name, error))
    }

    /// The same directory, whose messages name the files in it without a path. Its own have none.
    pub fn without_path(self) -> Dir<F> {
        Dir { path: PathBuf::new(), ..self }
    }

    /// The same directory, whose handle can be used by others, too: [`Dir::by_handle_of`].
    pub fn shareable(self) -> Dir<F> {
        let handle = match self.handle {
            Handle::Own(handle) => Handle::Shared(Arc::new(handle)),
            shared => shared,
        };
        Dir { handle, ..self }
    }

    /// The same directory, open as `other` has it, which is [shareable](Dir::shareable) and known to
    /// be the same: many files in one directory are to need it open once.
    pub fn by_handle_of(self, other: &Dir<F>) -> Dir<F> {
        match &other.handle {
            Handle::Shared(handle) => Dir { handle: Handle::Shared(Arc::clone(handle)), ..self },
            Handle::Own(_) => self,
        }
    }

    /// The file system it is in.
    pub fn fs(&self) -> &F {
        &self.fs
    }

    /// What the file system knows the open directory by.
    pub fn handle(&self) -> &F::DirHandle {
        match &self.handle {
            Handle::Own(handle) => handle,
            Handle::Shared(handle) => handle,
        }
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is now, by a path without symbolic links; as it was found where the system does not
    /// say. For names that lead from one directory to another: what is found by them has to be
    /// looked at anyway.
    pub fn real_path(&self) -> PathBuf {
        uninterrupted(|| self.fs.real_path(self.handle(), &self.path))
            .unwrap_or_else(|_| self.path.clone())
    }

    /// The number of the mount that it is on: [`FileSystem::mount_number`].
    pub fn mount_number(&self) -> u64 {
        self.fs.mount_number(self.handle())
    }

    /// The path of a name in it, for messages.
    pub fn shown(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// What is known about the directory itself: `fstat`.
    pub fn metadata(&self) -> Result<Metadata, Failure> {
        uninterrupted(|| self.fs.dir_metadata(self.handle()))
            .map_err(|error| self.failed_itself("fstat", error))
    }

    /// Whether a file in it may stand for what the process has written itself. In a directory like
    /// /tmp any user may leave a file under a name that holdfast uses.
    pub fn trusts(&self, found: &Metadata) -> Result<bool, Failure> {
        // Most are the process's own, and need no look at the directory.
        let is_own = self.fs.effective_user().is_none_or(|user| user == found.uid);
        Ok(is_own || self.metadata()?.trusts(&self.fs, found.uid))
    }

    /// Has `changed` called after each change in it: [`FileSystem::watch_dir`].
    pub fn watch(&self, changed: OnChange) -> Option<DirWatch> {
        self.fs.watch_dir(self.handle(), changed)
    }

    /// The names in it, in no particular order: `scandir`.
    pub fn names(&self) -> Result<Vec<OsString>, Failure> {
        uninterrupted(|| self.fs.names(self.handle()))
            .map_err(|error| self.failed_itself("scandir", error))
    }

    /// What `name` stands for, `None` for nothing: `lstat`. A symbolic link is not followed.
    pub fn look(&self, name: &OsStr) -> Result<Option<Metadata>, Failure> {
        self.found("lstat", name, uninterrupted(|| self.fs.metadata(self.handle(), name)))
    }

    /// Which file `name` stands for, `None` for nothing: [`FileSystem::identity`].
    pub fn identity(&self, name: &OsStr) -> Result<Option<FileId>, Failure> {
        self.found("lstat", name, uninterrupted(|| self.fs.identity(self.handle(), name)))
    }

    /// When the content of what `name` stands for was last changed: `lstat`.
    pub fn modified(&self, name: &OsStr) -> Result<Option<SystemTime>, Failure> {
        self.found("lstat", name, uninterrupted(|| self.fs.modified(self.handle(), name)))
    }

    /// What else the file has that `name` stands for: [`FileSystem::extended`].
    pub fn extended(&self, name: &OsStr) -> Result<Option<ExtendedAttributes>, Failure> {
        uninterrupted(|| self.fs.extended(self.handle(), name))
            .map_err(|error| self.failed("getxattr", name, error))
    }

    /// Whether `name` stands for the file with this id.
    pub fn leads_to(&self, name: &OsStr, id: FileId) -> Result<bool, Failure> {
        Ok(self.identity(name)? == Some(id))
    }

    /// Whether `name` stands for this open file. `false` also where that cannot be told.
    pub fn is_named(&self, name: &OsStr, file: &File<F>) -> bool {
        matches!(self.compare(name, file), Ok(NamedFile::Same))
    }

    /// What `name` stands for, compared with an open file: `fstat`, `lstat`.
    pub fn compare(&self, name: &OsStr, file: &File<F>) -> Result<NamedFile, Failure> {
        let own = file.metadata()?;
        let Some(named) = self.look(name)? else { return Ok(NamedFile::Nothing) };
        if named.id == own.id {
            return Ok(NamedFile::Same);
        }
        // Some file systems of programs and some servers number a file anew at each look.
        let again = file.metadata()?;
        Ok(match again.id == named.id {
            true => NamedFile::Same,
            false if again.id == own.id => NamedFile::Other,
            false => NamedFile::Untold,
        })
    }

    /// How many bytes a name may have that `name_within` makes within a limit, so that it is not too
    /// long for the file system. It is the same for every process. Short names cost no look.
    pub fn name_limit(&self, name_within: impl Fn(usize) -> OsString) -> usize {
        let mut limit = LONGEST_NAME;
        loop {
            let name = name_within(limit);
            if name.len().min(limit) <= ALWAYS_FITS
                || !matches!(self.look(&name), Err(failure) if is_too_long(&failure))
            {
                return limit;
            }
            limit = self.next_limit(limit);
        }
    }

    /// The limit to be tried after names within `limit` were found to be too long: what the file
    /// system says, and where that is not true (encfs) the next lower step.
    pub fn next_limit(&self, limit: usize) -> usize {
        const STEPS: [usize; 6] = [175, 143, 128, 96, 64, ALWAYS_FITS];
        let says = self.fs.longest_name(self.handle());
        match (ALWAYS_FITS..limit).contains(&says) {
            true => says,
            false => STEPS.into_iter().find(|step| *step < limit).unwrap_or(ALWAYS_FITS),
        }
    }

    /// Where the symbolic link `name` points: `readlink`.
    pub fn read_link(&self, name: &OsStr) -> Result<PathBuf, Failure> {
        uninterrupted(|| self.fs.read_link(self.handle(), name))
            .map_err(|error| self.failed("readlink", name, error))
    }

    /// Has the file removed that is about to be made under this name, if a signal ends the process:
    /// [`FileSystem::remove_at_exit`].
    pub fn remove_at_exit(&self, name: &OsStr) -> Option<TempAtExit> {
        self.fs.remove_at_exit(self.handle(), name)
    }

    /// Makes a new file: `open`.
    ///
    /// An interrupted call is not continued: a network file system may have made the file all the
    /// same, and a second try would find the name taken. The caller takes another name.
    pub fn create_new(&self, name: &OsStr, mode: u32) -> Result<File<F>, Failure> {
        self.opened(name, self.fs.create_new(self.handle(), name, mode))
    }

    /// Makes a new file of holdfast's own that others have to open, too: `open`. An interrupted
    /// call as above.
    pub fn create_shared(&self, name: &OsStr, with: SharedWith<'_>) -> Result<File<F>, Failure> {
        self.opened(name, self.fs.create_shared(self.handle(), name, with))
    }

    /// The same for a file for which any name will do: `open`. `name` is asked for another one
    /// while the name is taken, or an interrupted call may have taken it.
    pub fn create_unique(
        &self,
        mut name: impl FnMut() -> OsString,
        with: SharedWith<'_>,
    ) -> Result<(OsString, File<F>), Failure> {
        let mut attempt = || {
            let name = name();
            self.create_shared(&name, with).map(|file| (name, file))
        };
        for _ in 0..INTERRUPTIONS {
            match attempt() {
                Err(failure) if matches!(failure.code(), Some(Code::EINTR | Code::EEXIST)) => {}
                outcome => return outcome,
            }
        }
        attempt()
    }

    /// Opens a regular file for reading and for writing at any offset, and makes it where there
    /// is none. Whatever an interrupted call may have made is the file that is wanted.
    pub fn open_or_create(&self, name: &OsStr, with: SharedWith<'_>) -> Result<File<F>, Failure> {
        match uninterrupted(|| self.fs.create_shared(self.handle(), name, with)) {
            Err(error) if Code::of(&error) == Some(Code::EEXIST) => self.open_to_write(name),
            created => self.opened(name, created),
        }
    }

    /// Opens a regular file for reading.
    pub fn open_file(&self, name: &OsStr) -> Result<File<F>, Failure> {
        self.opened(name, uninterrupted(|| self.fs.open(self.handle(), name)))
    }

    /// Opens what is about to be replaced or removed, so that its blocks stay its own until that
    /// is on the disk. `None` where nothing has that name.
    pub fn open_to_keep(&self, name: &OsStr) -> Result<Option<File<F>>, Failure> {
        let opened = uninterrupted(|| self.fs.open_to_keep(self.handle(), name));
        if_there(self.opened(name, opened))
    }

    /// How its file system syncs, which is on `device`.
    pub fn sync_rules(&self, device: u64) -> SyncRules {
        self.fs.dir_sync_rules(self.handle(), device)
    }

    /// Opens a regular file to lock, rename and sync it: [`FileSystem::open_to_change`].
    pub fn open_to_change(&self, name: &OsStr) -> Result<File<F>, Failure> {
        self.opened(name, uninterrupted(|| self.fs.open_to_change(self.handle(), name)))
    }

    /// Opens a regular file for reading and for writing at any offset.
    pub fn open_to_write(&self, name: &OsStr) -> Result<File<F>, Failure> {
        self.opened(name, uninterrupted(|| self.fs.open_to_write(self.handle(), name)))
    }

    /// Opens a regular file for reading and for [`File::append`].
    pub fn open_to_append(&self, name: &OsStr) -> Result<File<F>, Failure> {
        self.opened(name, uninterrupted(|| self.fs.open_to_append(self.handle(), name)))
    }

    /// Gives `file`, now called `from`, the name `to`, whose place it takes.
    pub fn rename(&self, file: &File<F>, from: &OsStr, to: &OsStr) -> Result<(), Failure> {
        uninterrupted(|| self.fs.rename(self.handle(), file.handle(), from, to))
            .map_err(|error| self.not_renamed(from, to, error))
    }

    /// Gives the directory that is called `from` another name, which nothing has.
    pub fn rename_dir(&self, from: &OsStr, to: &OsStr) -> Result<(), Failure> {
        uninterrupted(|| self.fs.rename_dir(self.handle(), from, to))
            .map_err(|error| self.not_renamed(from, to, error))
    }

    /// What a rename of `file` to `to` has come to. An error does not count where `to` stands for
    /// the file all the same: a network file system may rename it and lose its answer.
    pub fn confirmed(
        &self,
        renamed: Result<(), Failure>,
        file: &File<F>,
        to: &OsStr,
    ) -> Result<(), Failure> {
        renamed.or_else(|failure| match self.is_named(to, file) {
            true => Ok(()),
            false => Err(failure),
        })
    }

    /// Lets two names change places: [`FileSystem::exchange`].
    pub fn exchange(&self, one: &OsStr, other: &OsStr) -> Result<bool, Failure> {
        uninterrupted(|| self.fs.exchange(self.handle(), one, other))
            .map_err(|error| self.not_renamed(one, other, error))
    }

    /// Removes a name: `unlink`.
    pub fn remove(&self, name: &OsStr) -> Result<(), Failure> {
        uninterrupted(|| self.fs.remove(self.handle(), name))
            .map_err(|error| self.failed("unlink", name, error))
    }

    /// Removes a name, which may be gone already.
    pub fn remove_if_there(&self, name: &OsStr) -> Result<(), Failure> {
        if_there(self.remove(name)).map(drop)
    }

    /// Waits until the names in it are on the disk: `fsync`. `file`, any open file of it, serves
    /// where the process may not list the directory.
    ///
    /// Where the file system cannot sync directories there is nothing to wait for. Each call asks
    /// anew: a real failure must not be taken for that.
    pub fn sync(&self, file: Option<&File<F>>) -> Result<(), Failure> {
        let synced =
            uninterrupted(|| blocking(|| self.fs.sync_dir(self.handle(), file.map(File::handle))));
        if !synced.map_err(|error| self.failed_itself("fsync", error))? {
            self.lacks(Limitation::SyncDir);
        }
        Ok(())
    }

    /// Reports what the file system cannot do.
    #[cold]
    pub fn lacks(&self, limitation: Limitation) {
        if let Ok(metadata) = self.metadata() {
            let mounted = (metadata.id.device, self.fs.mount_number(self.handle()));
            limitation::found(limitation, mounted, &self.path);
        }
    }

    /// Waits until the whole file system that holds it is on the disk: `syncfs`.
    pub fn sync_file_system(&self) -> Result<(), Failure> {
        uninterrupted(|| blocking(|| self.fs.sync_file_system(self.handle())))
            .map_err(|error| self.failed_itself("syncfs", error))
    }

    // ── Directories that serve as locks ───────────────────────────────────────────────

    /// When the directory was last changed, or was set to have been: `fstat`.
    pub fn own_modified(&self) -> Result<SystemTime, Failure> {
        uninterrupted(|| self.fs.dir_modified(self.handle()))
            .map_err(|error| self.failed_itself("fstat", error))
    }

    /// Sets when the directory was last changed: `utime`.
    pub fn set_own_modified(&self, time: SystemTime) -> Result<(), Failure> {
        uninterrupted(|| self.fs.set_dir_modified(self.handle(), time))
            .map_err(|error| self.failed_itself("utime", error))
    }

    /// Takes the advisory lock of the directory: `flock`. `false` when another process holds it.
    pub fn try_lock(&self) -> Result<bool, Failure> {
        uninterrupted(|| self.fs.try_lock_dir(self.handle()))
            .map_err(|error| self.failed_itself("flock", error))
    }

    fn opened(&self, name: &OsStr, opened: io::Result<F::FileHandle>) -> Result<File<F>, Failure> {
        match opened {
            Ok(handle) => Ok(File::new(self.fs.clone(), handle)),
            Err(error) => Err(self.failed("open", name, error)),
        }
    }

    fn found<T>(
        &self,
        syscall: &'static str,
        name: &OsStr,
        found: io::Result<T>,
    ) -> Result<Option<T>, Failure> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(syscall, name, error)),
        }
    }

    fn failed_itself(&self, syscall: &'static str, error: io::Error) -> Failure {
        match self.path.as_os_str().is_empty() {
            true => Failure::new(syscall, error),
            false => Failure::at(syscall, &self.path, error),
        }
    }

    #[cold]
    #[inline(never)]
    fn failed(&self, syscall: &'static str, name: &OsStr, error: io::Error) -> Failure {
        Failure::at(syscall, self.shown(name), error)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn not_renamed(&self, from: &OsStr, to: &OsStr, error: io::Error) -> Failure {
        Failure { dest: Some(self.shown(to)), ..self.failed("rename", from, error) }
    }
}

/// What a name stands for, compared with an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedFile {
    /// That file.
    Same,
    /// Another one.
    Other,
    /// Nothing.
    Nothing,
    /// Something. The file's own number is another one at each look, so it cannot be told which.
    Untold,
}

/// Whether a name was too long for the file system.
pub fn is_too_long(failure: &Failure) -> bool {
    failure.code() == Some(Code::ENAMETOOLONG)
}

/// The outcome of a call on a name, `None` where nothing has that name.
pub fn if_there<T>(outcome: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match outcome {
        Err(failure) if failure.is_not_found() => Ok(None),
        outcome => outcome.map(Some),
    }
}
