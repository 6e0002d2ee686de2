//! Windows: `LockFileEx` on two bytes of the lock file.
//!
//! Such a lock belongs to the handle, so calls of one process exclude each other by it as
//! processes do, and it ends with the handle, at the latest when the process does. It keeps
//! others from reading and writing the bytes that it covers, which is why they lie where
//! the note never comes.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::windows::fs::FileExt;
use std::os::windows::io::{AsHandle, AsRawHandle};

use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, ERROR_LOCK_VIOLATION};
use windows_sys::Win32::Storage::FileSystem::{
    LOCK_FILE_FLAGS, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, UnlockFileEx,
};
use windows_sys::Win32::System::IO::OVERLAPPED;

use super::offset;
use crate::error::Code;
use crate::fs::os::{DirHandle, check, overlapped};
use crate::lock::LockKind;
use crate::lock::lock_name::LockName;
use crate::lock::protocol::{Access, Byte};

/// An open lock file. While it waits for a lock nothing else can be done with it: its
/// handle is for synchronous use, and Windows does one thing after the other on those.
pub(in crate::lock) struct LockFile {
    file: File,
}

impl LockFile {
    /// Opens the lock file, making it if there is none. It must be a file: a symbolic link
    /// in its place could lead anywhere. A reader needs no more than the right to read it; to lock
    /// a file takes no right to write it here.
    pub(super) fn open(dir: &DirHandle, name: &LockName, kind: LockKind) -> io::Result<LockFile> {
        let opened = dir.open_lock_file(name).or_else(|error| match Code::of(&error) {
            Some(Code::EACCES | Code::EPERM | Code::EROFS) if kind == LockKind::Read => {
                dir.open_existing_lock_file(name, false).map_err(|_| error)
            }
            _ => Err(error),
        });
        Ok(LockFile { file: opened? })
    }

    /// Opens the lock file for looking at it.
    pub(super) fn open_existing(dir: &DirHandle, name: &OsStr) -> io::Result<LockFile> {
        Ok(LockFile { file: dir.open_existing_lock_file(name, false)? })
    }

    /// Whether it can be locked for this.
    pub(super) fn serves(&self, _: LockKind) -> bool {
        true
    }

    /// Opens a lock file that is there, for locking it.
    pub(super) fn open_there(dir: &DirHandle, name: &OsStr) -> io::Result<LockFile> {
        Ok(LockFile { file: dir.open_existing_lock_file(name, true)? })
    }

    /// Removes the lock file, which is locked and called so. Whether it is gone: where a file that
    /// is open keeps its name until it is closed, others could not open it, so it stays.
    pub(super) fn remove(&self, dir: &DirHandle, name: &OsStr) -> io::Result<bool> {
        dir.remove_at_once(name)
    }

    /// How it can be locked.
    pub(super) fn access(&self) -> Access {
        Access::default()
    }

    /// No reader locks the directory here.
    pub(super) fn has_readers_in(&self, _: &DirHandle) -> io::Result<bool> {
        Ok(false)
    }

    /// How long the note in the file is, if `name` still leads to it.
    pub(super) fn size_if_called(&self, dir: &DirHandle, name: &OsStr) -> io::Result<Option<u64>> {
        if !dir.leads_to(name, self.file.as_handle())? {
            return Ok(None);
        }
        Ok(Some(self.file.metadata()?.len()))
    }

    /// Replaces the note in the file.
    pub(super) fn write_note(&self, note: &[u8]) -> io::Result<()> {
        // Written first and cut afterwards: in between it is at worst a line with a tail.
        if !note.is_empty() {
            self.file.seek_write(note, 0)?;
        }
        self.file.set_len(note.len() as u64)
    }

    /// Reads the note in the file.
    pub(super) fn read_note(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.seek_read(buffer, 0)
    }

    /// Takes a lock if it is free.
    pub(super) fn try_lock(&self, byte: Byte, kind: LockKind) -> io::Result<bool> {
        match self.lock_byte(byte, flags(kind) | LOCKFILE_FAIL_IMMEDIATELY) {
            Ok(()) => Ok(true),
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a lock, waiting for it.
    pub(super) fn lock(&self, byte: Byte, kind: LockKind) -> io::Result<()> {
        self.lock_byte(byte, flags(kind))
    }

    /// Releases a lock.
    pub(super) fn unlock(&self, byte: Byte) -> io::Result<()> {
        let mut position = position(byte);
        // SAFETY: the file is open while `self` lives and is for synchronous use, so the
        // call is over when it returns, and `position` with it.
        check(unsafe { UnlockFileEx(self.file.as_raw_handle(), 0, 1, 0, &mut position) })
    }

    /// Turns an exclusive lock into a shared one, without a moment in between: a handle may
    /// put a shared lock on top of its exclusive one, and of two such locks the first unlock
    /// removes the exclusive one (`LockFileEx`, 'Remarks'). A file system that lets no lock
    /// be put on another leaves the exclusive one, which keeps out more than it need.
    pub(super) fn downgrade(&self, byte: Byte) -> io::Result<()> {
        if self.try_lock(byte, LockKind::Read)? { self.unlock(byte) } else { Ok(()) }
    }

    /// Whether another handle has a lock that would make this one wait. There is no way to ask
    /// but to try, so for a moment a free lock looks taken to other processes.
    pub(super) fn is_locked(&self, byte: Byte, kind: LockKind) -> io::Result<bool> {
        let is_free = self.try_lock(byte, kind)?;
        if is_free {
            self.unlock(byte)?;
        }
        Ok(!is_free)
    }

    /// There are no tickets here.
    pub(super) fn find_ticket(&self, _: u64, _: u64) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn lock_byte(&self, byte: Byte, flags: LOCK_FILE_FLAGS) -> io::Result<()> {
        let mut position = position(byte);
        // SAFETY: the file is open while `self` lives and is for synchronous use, so the
        // call is over when it returns, however long it waits, and `position` with it.
        check(unsafe { LockFileEx(self.file.as_raw_handle(), flags, 0, 1, 0, &mut position) })
    }
}

/// No reader locks the directory here.
pub(super) fn has_readers_in(_: &DirHandle, _: &OsStr) -> io::Result<bool> {
    Ok(false)
}

fn flags(kind: LockKind) -> LOCK_FILE_FLAGS {
    match kind {
        LockKind::Read => 0,
        LockKind::Write => LOCKFILE_EXCLUSIVE_LOCK,
    }
}

fn position(byte: Byte) -> OVERLAPPED {
    overlapped(offset::of(byte).cast_unsigned())
}

/// Both numbers are documented for a lock that is not to be had at once.
fn is_taken(error: &io::Error) -> bool {
    let taken = [ERROR_LOCK_VIOLATION, ERROR_IO_PENDING];
    error.raw_os_error().is_some_and(|number| taken.contains(&number.cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::fs::os::Os;
    use crate::fs::{DirUse, FileSystem};

    const BYTES: [Byte; 2] = [Byte::Gate, Byte::Main];

    fn temp_dir() -> (tempfile::TempDir, DirHandle) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Os.open_dir(temp.path(), DirUse::Names).unwrap();
        (temp, dir)
    }

    fn lock_name(file: &str) -> LockName {
        LockName { file: file.into(), guarded: "file".into() }
    }

    fn open(dir: &DirHandle) -> LockFile {
        LockFile::open(dir, &lock_name(".file.lock"), LockKind::Write).unwrap()
    }

    fn code(error: &io::Error) -> Option<Code> {
        Code::of(error)
    }

    #[test]
    fn the_locks_lie_where_every_version_looks_for_them() {
        let (_temp, dir) = temp_dir();
        let file = open(&dir);
        for (byte, low) in [(Byte::Gate, 0), (Byte::Main, 1)] {
            let position = super::position(byte);
            // SAFETY: this view of the union was written, and is numbers.
            let position = unsafe { position.Anonymous.Anonymous };
            assert_eq!((position.Offset, position.OffsetHigh), (low, 1 << 30));
            assert!(file.try_lock(byte, LockKind::Write).unwrap());
        }
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let (_temp, dir) = temp_dir();
        for byte in BYTES {
            let (one, other) = (open(&dir), open(&dir));
            assert!(one.try_lock(byte, LockKind::Read).unwrap());
            assert!(other.try_lock(byte, LockKind::Read).unwrap());
            other.unlock(byte).unwrap();
            assert!(!other.try_lock(byte, LockKind::Write).unwrap());
            one.unlock(byte).unwrap();
            assert!(other.try_lock(byte, LockKind::Write).unwrap());
            assert!(!one.try_lock(byte, LockKind::Read).unwrap());
            assert!(!one.try_lock(byte, LockKind::Write).unwrap());
            other.unlock(byte).unwrap();
            assert!(one.try_lock(byte, LockKind::Write).unwrap());
        }
    }

    #[test]
    fn the_gate_and_the_main_lock_are_two() {
        let (_temp, dir) = temp_dir();
        let (one, other) = (open(&dir), open(&dir));
        assert!(one.try_lock(Byte::Gate, LockKind::Write).unwrap());
        assert!(other.try_lock(Byte::Main, LockKind::Write).unwrap());
        one.unlock(Byte::Gate).unwrap();
        assert!(!one.try_lock(Byte::Main, LockKind::Write).unwrap());
    }

    #[test]
    fn a_lock_ends_with_its_handle() {
        let (_temp, dir) = temp_dir();
        let (one, other) = (open(&dir), open(&dir));
        assert!(one.try_lock(Byte::Main, LockKind::Write).unwrap());
        assert!(!other.try_lock(Byte::Main, LockKind::Write).unwrap());
        drop(one);
        other.lock(Byte::Main, LockKind::Write).unwrap();
    }

    #[test]
    fn a_waiter_gets_the_lock_when_it_is_released_and_not_before() {
        let (_temp, dir) = temp_dir();
        for (held, wanted) in [
            (LockKind::Write, LockKind::Write),
            (LockKind::Write, LockKind::Read),
            (LockKind::Read, LockKind::Write),
        ] {
            let holder = open(&dir);
            assert!(holder.try_lock(Byte::Main, held).unwrap());
            std::thread::scope(|scope| {
                let (tell, told) = mpsc::channel();
                let dir = &dir;
                scope.spawn(move || {
                    let file = open(dir);
                    file.lock(Byte::Main, wanted).unwrap();
                    tell.send(()).unwrap();
                });
                assert!(told.recv_timeout(Duration::from_millis(100)).is_err());
                holder.unlock(Byte::Main).unwrap();
                told.recv().unwrap();
            });
        }
    }

    #[test]
    fn a_lock_that_is_downgraded_lets_readers_in_and_keeps_writers_out() {
        let (_temp, dir) = temp_dir();
        let (one, other) = (open(&dir), open(&dir));
        assert!(one.try_lock(Byte::Main, LockKind::Write).unwrap());
        one.downgrade(Byte::Main).unwrap();
        assert!(!other.try_lock(Byte::Main, LockKind::Write).unwrap());
        assert!(other.try_lock(Byte::Main, LockKind::Read).unwrap());
        other.unlock(Byte::Main).unwrap();
        // One unlock is enough.
        one.unlock(Byte::Main).unwrap();
        assert!(other.try_lock(Byte::Main, LockKind::Write).unwrap());
    }

    #[test]
    fn no_writer_gets_in_while_a_lock_is_downgraded() {
        let (_temp, dir) = temp_dir();
        for _ in 0..100 {
            let holder = open(&dir);
            assert!(holder.try_lock(Byte::Main, LockKind::Write).unwrap());
            let is_over = AtomicBool::new(false);
            let (tell, told) = mpsc::channel();
            std::thread::scope(|scope| {
                let (dir, is_over) = (&dir, &is_over);
                let writer = scope.spawn(move || {
                    let file = open(dir);
                    while !is_over.load(Ordering::SeqCst) {
                        if file.try_lock(Byte::Main, LockKind::Write).unwrap() {
                            return true;
                        }
                        let _ = tell.send(());
                    }
                    false
                });
                told.recv().unwrap();
                holder.downgrade(Byte::Main).unwrap();
                is_over.store(true, Ordering::SeqCst);
                assert!(!writer.join().unwrap());
            });
        }
    }

    #[test]
    fn looking_whether_it_is_locked_changes_nothing() {
        let (_temp, dir) = temp_dir();
        let holder = open(&dir);
        let looks = || LockFile::open_existing(&dir, OsStr::new(".file.lock")).unwrap();
        let seen = |kind| looks().is_locked(Byte::Main, kind).unwrap();
        assert_eq!((seen(LockKind::Read), seen(LockKind::Write)), (false, false));
        assert!(holder.try_lock(Byte::Main, LockKind::Read).unwrap());
        assert_eq!((seen(LockKind::Read), seen(LockKind::Write)), (false, true));
        holder.unlock(Byte::Main).unwrap();
        assert!(holder.try_lock(Byte::Main, LockKind::Write).unwrap());
        assert_eq!((seen(LockKind::Read), seen(LockKind::Write)), (true, true));
        holder.unlock(Byte::Main).unwrap();
        assert_eq!((seen(LockKind::Read), seen(LockKind::Write)), (false, false));
    }

    #[test]
    fn the_note_is_replaced_and_can_be_read_while_the_lock_is_held() {
        let (temp, dir) = temp_dir();
        let holder = open(&dir);
        for byte in BYTES {
            assert!(holder.try_lock(byte, LockKind::Write).unwrap());
        }
        let reader = LockFile::open_existing(&dir, OsStr::new(".file.lock")).unwrap();
        let mut buffer = [0; 64];
        for note in ["a rather long note\n", "short\n", ""] {
            holder.write_note(note.as_bytes()).unwrap();
            let length = reader.read_note(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], note.as_bytes());
            assert_eq!(std::fs::read_to_string(temp.path().join(".file.lock")).unwrap(), note);
        }
    }

    #[test]
    fn a_lock_file_that_is_removed_or_replaced_is_not_called_so_any_more() {
        let (temp, dir) = temp_dir();
        let name = OsStr::new(".file.lock");
        let file = open(&dir);
        assert!(file.size_if_called(&dir, name).unwrap().is_some());
        std::fs::rename(temp.path().join(name), temp.path().join("moved")).unwrap();
        assert!(!file.size_if_called(&dir, name).unwrap().is_some());
        let next = open(&dir);
        assert!(next.size_if_called(&dir, name).unwrap().is_some());
        assert!(!file.size_if_called(&dir, name).unwrap().is_some());
        std::fs::remove_file(temp.path().join(name)).unwrap();
        // Under Wine it is there, as if nothing had happened, until it is closed.
        if !temp.path().join(name).exists() {
            assert!(!next.size_if_called(&dir, name).unwrap().is_some());
        }
    }

    #[test]
    fn only_a_file_is_a_lock_file() {
        let (temp, dir) = temp_dir();
        let open =
            |name: &str| LockFile::open(&dir, &lock_name(name), LockKind::Write).err().unwrap();
        let look = |name: &str| LockFile::open_existing(&dir, OsStr::new(name)).err().unwrap();
        std::fs::create_dir(temp.path().join("dir")).unwrap();
        assert_eq!(code(&open("dir")), Some(Code::EISDIR));
        assert_eq!(code(&look("dir")), Some(Code::EISDIR));
        assert_eq!(look("missing").kind(), io::ErrorKind::NotFound);
        // Making links needs a privilege, and under Wine makes nothing.
        use std::os::windows::fs::{symlink_dir, symlink_file};
        let made = |name: &str| temp.path().join(name).symlink_metadata().is_ok();
        let _ = symlink_file(temp.path().join("elsewhere"), temp.path().join("link"));
        let _ = symlink_dir(temp.path().join("dir"), temp.path().join("dir link"));
        for name in ["link", "dir link"] {
            if made(name) {
                assert_eq!(code(&open(name)), Some(Code::ELOOP), "{name}");
                assert_eq!(code(&look(name)), Some(Code::ELOOP), "{name}");
            }
        }
        assert!(!temp.path().join("elsewhere").exists());
    }
}
