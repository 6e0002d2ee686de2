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

use super::{Offset, Part};
use crate::fs::os::{DirHandle, check, overlapped};
use crate::lock::LockKind;

/// An open lock file. While it waits for a lock nothing else can be done with it: its
/// handle is for synchronous use, and Windows does one thing after the other on those.
pub(in crate::lock) struct LockFile {
    file: File,
}

impl LockFile {
    /// Opens the lock file, making it if there is none. It must be a file: a symbolic link
    /// in its place could lead anywhere.
    pub(super) fn open(dir: &DirHandle, name: &OsStr) -> io::Result<LockFile> {
        Ok(LockFile { file: dir.open_lock_file(name)? })
    }

    /// Opens the lock file for looking at it.
    pub(super) fn open_existing(dir: &DirHandle, name: &OsStr) -> io::Result<LockFile> {
        Ok(LockFile { file: dir.open_existing_lock_file(name)? })
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
    pub(super) fn try_lock(&self, part: Part, kind: LockKind) -> io::Result<bool> {
        match self.lock_byte(part, flags(kind) | LOCKFILE_FAIL_IMMEDIATELY) {
            Ok(()) => Ok(true),
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a lock, waiting for it.
    pub(super) fn lock(&self, part: Part, kind: LockKind) -> io::Result<()> {
        self.lock_byte(part, flags(kind))
    }

    /// Gives a lock back.
    pub(super) fn unlock(&self, part: Part) -> io::Result<()> {
        let mut place = place(part);
        // SAFETY: the file is open while `self` lives and is for synchronous use, so the
        // call is over when it returns, and `place` with it.
        check(unsafe { UnlockFileEx(self.file.as_raw_handle(), 0, 1, 0, &mut place) })
    }

    /// Scheduler an exclusive lock into a shared one, without a moment in between: a handle may
    /// put a shared lock on top of its exclusive one, and of two such locks the first unlock
    /// removes the exclusive one (`LockFileEx`, 'Remarks'). A file system that lets no lock
    /// be put on another leaves the exclusive one, which keeps out more than it need.
    pub(super) fn downgrade(&self, part: Part) -> io::Result<()> {
        if self.try_lock(part, LockKind::Read)? { self.unlock(part) } else { Ok(()) }
    }

    /// Whether somebody has a lock that would make this one wait. There is no way to ask
    /// but to try, so for a moment a free lock looks taken to others who try.
    pub(super) fn is_locked(&self, part: Part, kind: LockKind) -> io::Result<bool> {
        let is_free = self.try_lock(part, kind)?;
        if is_free {
            self.unlock(part)?;
        }
        Ok(!is_free)
    }

    /// There is no line here.
    pub(super) fn find_place(&self, _: u64, _: u64) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn lock_byte(&self, part: Part, flags: LOCK_FILE_FLAGS) -> io::Result<()> {
        let mut place = place(part);
        // SAFETY: the file is open while `self` lives and is for synchronous use, so the
        // call is over when it returns, however long it waits, and `place` with it.
        check(unsafe { LockFileEx(self.file.as_raw_handle(), flags, 0, 1, 0, &mut place) })
    }
}

fn flags(kind: LockKind) -> LOCK_FILE_FLAGS {
    match kind {
        LockKind::Read => 0,
        LockKind::Write => LOCKFILE_EXCLUSIVE_LOCK,
    }
}

fn place(part: Part) -> OVERLAPPED {
    overlapped(part.offset().cast_unsigned())
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
    use crate::error::Code;
    use crate::fs::os::Os;
    use crate::fs::{DirUse, FileSystem};

    const PARTS: [Part; 2] = [Part::Gate, Part::Main];

    fn place() -> (tempfile::TempDir, DirHandle) {
        let place = tempfile::tempdir().unwrap();
        let dir = Os.open_dir(place.path(), DirUse::Names).unwrap();
        (place, dir)
    }

    fn open(dir: &DirHandle) -> LockFile {
        LockFile::open(dir, OsStr::new(".file.lock")).unwrap()
    }

    fn code(error: &io::Error) -> Option<Code> {
        Code::of(error)
    }

    #[test]
    fn the_locks_lie_where_every_version_looks_for_them() {
        let (_place, dir) = place();
        let file = open(&dir);
        for (part, low) in [(Part::Gate, 0), (Part::Main, 1)] {
            let place = super::place(part);
            // SAFETY: this view of the union was written, and is numbers.
            let place = unsafe { place.Anonymous.Anonymous };
            assert_eq!((place.Offset, place.OffsetHigh), (low, 1 << 30));
            assert!(file.try_lock(part, LockKind::Write).unwrap());
        }
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let (_place, dir) = place();
        for part in PARTS {
            let (one, other) = (open(&dir), open(&dir));
            assert!(one.try_lock(part, LockKind::Read).unwrap());
            assert!(other.try_lock(part, LockKind::Read).unwrap());
            other.unlock(part).unwrap();
            assert!(!other.try_lock(part, LockKind::Write).unwrap());
            one.unlock(part).unwrap();
            assert!(other.try_lock(part, LockKind::Write).unwrap());
            assert!(!one.try_lock(part, LockKind::Read).unwrap());
            assert!(!one.try_lock(part, LockKind::Write).unwrap());
            other.unlock(part).unwrap();
            assert!(one.try_lock(part, LockKind::Write).unwrap());
        }
    }

    #[test]
    fn the_gate_and_the_main_lock_are_two() {
        let (_place, dir) = place();
        let (one, other) = (open(&dir), open(&dir));
        assert!(one.try_lock(Part::Gate, LockKind::Write).unwrap());
        assert!(other.try_lock(Part::Main, LockKind::Write).unwrap());
        one.unlock(Part::Gate).unwrap();
        assert!(!one.try_lock(Part::Main, LockKind::Write).unwrap());
    }

    #[test]
    fn a_lock_ends_with_its_handle() {
        let (_place, dir) = place();
        let (one, other) = (open(&dir), open(&dir));
        assert!(one.try_lock(Part::Main, LockKind::Write).unwrap());
        assert!(!other.try_lock(Part::Main, LockKind::Write).unwrap());
        drop(one);
        other.lock(Part::Main, LockKind::Write).unwrap();
    }

    #[test]
    fn whoever_waits_gets_the_lock_when_it_is_given_back_and_not_before() {
        let (_place, dir) = place();
        for (held, wanted) in [
            (LockKind::Write, LockKind::Write),
            (LockKind::Write, LockKind::Read),
            (LockKind::Read, LockKind::Write),
        ] {
            let holder = open(&dir);
            assert!(holder.try_lock(Part::Main, held).unwrap());
            std::thread::scope(|scope| {
                let (tell, told) = mpsc::channel();
                let dir = &dir;
                scope.spawn(move || {
                    let file = open(dir);
                    file.lock(Part::Main, wanted).unwrap();
                    tell.send(()).unwrap();
                });
                assert!(told.recv_timeout(Duration::from_millis(100)).is_err());
                holder.unlock(Part::Main).unwrap();
                told.recv().unwrap();
            });
        }
    }

    #[test]
    fn a_lock_that_is_downgraded_lets_readers_in_and_keeps_writers_out() {
        let (_place, dir) = place();
        let (one, other) = (open(&dir), open(&dir));
        assert!(one.try_lock(Part::Main, LockKind::Write).unwrap());
        one.downgrade(Part::Main).unwrap();
        assert!(!other.try_lock(Part::Main, LockKind::Write).unwrap());
        assert!(other.try_lock(Part::Main, LockKind::Read).unwrap());
        other.unlock(Part::Main).unwrap();
        // One unlock is enough.
        one.unlock(Part::Main).unwrap();
        assert!(other.try_lock(Part::Main, LockKind::Write).unwrap());
    }

    #[test]
    fn no_writer_gets_in_while_a_lock_is_downgraded() {
        let (_place, dir) = place();
        for _ in 0..100 {
            let holder = open(&dir);
            assert!(holder.try_lock(Part::Main, LockKind::Write).unwrap());
            let is_over = AtomicBool::new(false);
            let (tell, told) = mpsc::channel();
            std::thread::scope(|scope| {
                let (dir, is_over) = (&dir, &is_over);
                let writer = scope.spawn(move || {
                    let file = open(dir);
                    while !is_over.load(Ordering::SeqCst) {
                        if file.try_lock(Part::Main, LockKind::Write).unwrap() {
                            return true;
                        }
                        let _ = tell.send(());
                    }
                    false
                });
                told.recv().unwrap();
                holder.downgrade(Part::Main).unwrap();
                is_over.store(true, Ordering::SeqCst);
                assert!(!writer.join().unwrap());
            });
        }
    }

    #[test]
    fn looking_whether_it_is_locked_changes_nothing() {
        let (_place, dir) = place();
        let holder = open(&dir);
        let looks = || LockFile::open_existing(&dir, OsStr::new(".file.lock")).unwrap();
        let seen = |kind| looks().is_locked(Part::Main, kind).unwrap();
        assert_eq!((seen(LockKind::Read), seen(LockKind::Write)), (false, false));
        assert!(holder.try_lock(Part::Main, LockKind::Read).unwrap());
        assert_eq!((seen(LockKind::Read), seen(LockKind::Write)), (false, true));
        holder.unlock(Part::Main).unwrap();
        assert!(holder.try_lock(Part::Main, LockKind::Write).unwrap());
        assert_eq!((seen(LockKind::Read), seen(LockKind::Write)), (true, true));
        holder.unlock(Part::Main).unwrap();
        assert_eq!((seen(LockKind::Read), seen(LockKind::Write)), (false, false));
    }

    #[test]
    fn the_note_is_replaced_and_can_be_read_while_the_lock_is_held() {
        let (place, dir) = place();
        let holder = open(&dir);
        for part in PARTS {
            assert!(holder.try_lock(part, LockKind::Write).unwrap());
        }
        let reader = LockFile::open_existing(&dir, OsStr::new(".file.lock")).unwrap();
        let mut buffer = [0; 64];
        for note in ["a rather long note\n", "short\n", ""] {
            holder.write_note(note.as_bytes()).unwrap();
            let length = reader.read_note(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], note.as_bytes());
            assert_eq!(std::fs::read_to_string(place.path().join(".file.lock")).unwrap(), note);
        }
    }

    #[test]
    fn a_lock_file_that_is_removed_or_replaced_is_not_called_so_any_more() {
        let (place, dir) = place();
        let name = OsStr::new(".file.lock");
        let file = open(&dir);
        assert!(file.size_if_called(&dir, name).unwrap().is_some());
        std::fs::rename(place.path().join(name), place.path().join("moved")).unwrap();
        assert!(!file.size_if_called(&dir, name).unwrap().is_some());
        let next = open(&dir);
        assert!(next.size_if_called(&dir, name).unwrap().is_some());
        assert!(!file.size_if_called(&dir, name).unwrap().is_some());
        std::fs::remove_file(place.path().join(name)).unwrap();
        // Under Wine it is there, as if nothing had happened, until it is closed.
        if !place.path().join(name).exists() {
            assert!(!next.size_if_called(&dir, name).unwrap().is_some());
        }
    }

    #[test]
    fn only_a_file_is_a_lock_file() {
        let (place, dir) = place();
        let open = |name: &str| LockFile::open(&dir, OsStr::new(name)).err().unwrap();
        let look = |name: &str| LockFile::open_existing(&dir, OsStr::new(name)).err().unwrap();
        std::fs::create_dir(place.path().join("folder")).unwrap();
        assert_eq!(code(&open("folder")), Some(Code::EISDIR));
        assert_eq!(code(&look("folder")), Some(Code::EISDIR));
        assert_eq!(look("missing").kind(), io::ErrorKind::NotFound);
        // Making links needs a privilege, and under Wine makes nothing.
        use std::os::windows::fs::{symlink_dir, symlink_file};
        let made = |name: &str| place.path().join(name).symlink_metadata().is_ok();
        let _ = symlink_file(place.path().join("elsewhere"), place.path().join("link"));
        let _ = symlink_dir(place.path().join("folder"), place.path().join("folder link"));
        for name in ["link", "folder link"] {
            if made(name) {
                assert_eq!(code(&open(name)), Some(Code::ELOOP), "{name}");
                assert_eq!(code(&look(name)), Some(Code::ELOOP), "{name}");
            }
        }
        assert!(!place.path().join("elsewhere").exists());
    }
}
