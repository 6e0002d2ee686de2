//! The locks of the operating system, on which the [`protocol`](super::protocol) is carried out:
//! one-byte locks in the lock file, far beyond any content.

use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::note::{self, LONGEST_LINE};
use super::protocol::{self, Attempt, Byte, LockStep, StepResult};
use super::time_slice::TimeSlice;
use crate::error::Code;
use crate::error::Failure;
use crate::error::Holder;
use crate::fs::os::DirHandle;
use crate::mutex::guard;
use crate::threads::blocking;
use crate::vocabulary::LockKind;

mod note_writer;
use note_writer::Note;

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(super) use unix::LockFile;

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub(super) use windows::LockFile;

/// Where a lock is in the lock file, on Linux and Windows. On macOS the gate is a file of its
/// own.
#[cfg(not(any(target_os = "macos", target_os = "ios")))]
trait Offset {
    fn offset(self) -> i64;
}

/// Where the line begins.
#[cfg(not(any(target_os = "macos", target_os = "ios")))]
const TICKETS: i64 = (1 << 62) + (1 << 32);

#[cfg(not(any(target_os = "macos", target_os = "ios")))]
impl Offset for Byte {
    fn offset(self) -> i64 {
        match self {
            Byte::Gate => 1 << 62,
            Byte::Main => (1 << 62) + 1,
            Byte::Ticket(ticket) => TICKETS.saturating_add_unsigned(ticket),
        }
    }
}

/// What the system call is named in errors.
const LOCK: &str = if cfg!(windows) { "LockFileEx" } else { "fcntl" };

/// Whether one thread can unlock a byte of a file while another waits for a byte of it. On
/// Windows calls on one handle follow each other.
const CAN_UNLOCK_WHILE_WAITING: bool = cfg!(unix);

/// Whether those who wait stand in a line. Windows serves waiters in their order by itself; on
/// macOS a file has one lock and no more.
const HAS_TICKETS: bool = cfg!(target_os = "linux");

/// How often it is looked for the note of a writer by those who can wait. Where there is none after
/// that there will be none: the disk is full, say.
pub(super) const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// How often a lock file that is replaced under our hands is opened again.
const FRESH_STARTS: usize = 100;

/// A lock that this process has. Dropping it gives the lock back.
pub(super) struct KernelLock {
    file: Arc<LockFile>,
    /// Only of writers.
    note: Option<Arc<Note>>,
    /// Its ticket in the line, which a writer keeps.
    ticket: Option<u64>,
    time_slice: TimeSlice,
    is_held: bool,
}

impl KernelLock {
    /// Takes the lock if it is free, and it is nobody else's turn. `last` is this process's last
    /// time_slice; `opened` may have the lock file, and is taken from it if that is of use.
    pub(super) fn try_acquire(
        dir: &DirHandle,
        name: &OsStr,
        kind: LockKind,
        last: Option<TimeSlice>,
        opened: &mut Option<Arc<LockFile>>,
    ) -> Result<Option<KernelLock>, Failure> {
        let mut time_slice = None;
        let taken = acquire_from(opened, dir, name, |file| {
            time_slice = attempt(file, kind, last)?;
            Ok(time_slice.is_some())
        })?;
        let Some(((file, has_content), time_slice)) = taken.zip(time_slice) else {
            return Ok(None);
        };
        let lock = KernelLock::new(file, kind, None, time_slice);
        // Who goes on has had time for it.
        lock.leave_note(has_content || last.is_none());
        Ok(Some(lock))
    }

    /// The same with an open lock file and without ever waiting for a disk, if it then `is_right`:
    /// that is asked last, because others are fast, too. `None` also when it would take waiting.
    /// The note is still to be left, by [`KernelLock::leave_note_soon`].
    ///
    /// # Errors
    ///
    /// When something of the file may be locked still. Closing it frees that.
    #[cfg(target_os = "linux")]
    pub(super) fn try_at_once(
        file: &Arc<LockFile>,
        dir: &DirHandle,
        name: &OsStr,
        kind: LockKind,
        last: Option<TimeSlice>,
        is_right: impl FnOnce() -> bool,
    ) -> io::Result<Option<KernelLock>> {
        let Some(time_slice) = attempt(file, kind, last)? else { return Ok(None) };
        let mut lock = KernelLock::new(Arc::clone(file), kind, None, time_slice);
        // A note that is there is that of a writer who has died. To remove it may wait.
        if file.is_remembered_empty(dir, name) && is_right() {
            return Ok(Some(lock));
        }
        lock.unlock().map(|()| None)
    }

    /// Whether another reader of this process may share it, without ever waiting for a disk: if it
    /// is nobody else's turn, and the name still leads to the file.
    #[cfg(target_os = "linux")]
    pub(super) fn may_be_shared(&self, dir: &DirHandle, name: &OsStr) -> bool {
        // That it has main already changes nothing about the rest of an attempt.
        let is_its_turn = attempt(&self.file, LockKind::Read, None);
        if is_its_turn.is_err() {
            // It may have failed between taking the gate and giving it back.
            let _ = self.file.unlock(Byte::Gate);
        }
        matches!(is_its_turn, Ok(Some(_))) && self.file.is_remembered_empty(dir, name)
    }

    fn new(
        file: Arc<LockFile>,
        kind: LockKind,
        ticket: Option<u64>,
        time_slice: TimeSlice,
    ) -> KernelLock {
        let note = (kind == LockKind::Write).then(|| Note::new(&file));
        KernelLock { file, note, ticket, time_slice, is_held: true }
    }

    /// One that has been waited for. Whoever comes after it is waiting.
    fn after_wait(
        file: Arc<LockFile>,
        has_content: bool,
        kind: LockKind,
        ticket: Option<u64>,
    ) -> Self {
        let lock = KernelLock::new(file, kind, ticket, TimeSlice::begin());
        lock.leave_note(has_content);
        lock
    }

    /// Says who has it if it takes longer than a moment.
    #[cfg(target_os = "linux")]
    pub(super) fn leave_note_soon(&self) {
        self.leave_note(false);
    }

    /// Says who has it, at once or if it takes longer than a moment.
    fn leave_note(&self, at_once: bool) {
        match &self.note {
            Some(note) if at_once => note.write(),
            Some(note) => note.write_soon(),
            None => {}
        }
    }

    /// Turns a write lock into a read lock, without a moment in between.
    pub(super) fn downgrade(&mut self) -> Result<(), Failure> {
        self.remove_note();
        self.file.downgrade(Byte::Main).map_err(|error| Failure::new(LOCK, error))?;
        // Should this fail it is tried again when the lock is given back.
        let _ = self.release_ticket();
        Ok(())
    }

    /// Whether the name still leads to the file that is locked: otherwise others lock another.
    pub(super) fn is_called(&self, dir: &DirHandle, name: &OsStr) -> bool {
        matches!(self.file.size_if_called(dir, name), Ok(Some(_)))
    }

    /// Since when the process has been going on with it.
    pub(super) fn time_slice(&self) -> TimeSlice {
        self.time_slice
    }

    /// Whether giving it back takes no system call that may wait for a disk, on a file system
    /// that decides about locks in memory.
    pub(super) fn releases_at_once(&self) -> bool {
        self.note.as_ref().is_none_or(|note| note.withdraw())
    }

    /// Gives it back. The lock file, if nothing of it is locked any more.
    pub(super) fn release(mut self) -> Option<Arc<LockFile>> {
        self.unlock().ok().map(|()| Arc::clone(&self.file))
    }

    fn unlock(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_held) {
            return Ok(());
        }
        self.remove_note();
        let unlocked = self.file.unlock(Byte::Main);
        self.release_ticket().and(unlocked)
    }

    /// Lets others pass.
    fn release_ticket(&mut self) -> io::Result<()> {
        if let Some(ticket) = self.ticket {
            self.file.unlock(Byte::Ticket(ticket))?;
            self.ticket = None;
        }
        Ok(())
    }

    fn remove_note(&mut self) {
        if let Some(note) = self.note.take() {
            note.remove();
        }
    }
}

impl Drop for KernelLock {
    fn drop(&mut self) {
        // Closing the file frees the lock as well, should this fail.
        let _ = self.unlock();
    }
}

/// Asks for the lock once. The time_slice in which it has been taken: the last one, if that goes on.
fn attempt(
    file: &LockFile,
    kind: LockKind,
    last: Option<TimeSlice>,
) -> io::Result<Option<TimeSlice>> {
    if let Some(time_slice) = last
        && kind == LockKind::Write
        && time_slice.goes_on()
    {
        let mut attempt = Attempt::again();
        if carry_out(file, |answer| attempt.next(answer))? {
            return Ok(Some(time_slice));
        }
    }
    let mut attempt = Attempt::new(kind, HAS_TICKETS);
    Ok(carry_out(file, |answer| attempt.next(answer))?.then(TimeSlice::begin))
}

/// A wait for the lock in the kernel. It cannot be ended from outside, but it can be made to
/// stand in nobody's way.
pub(super) struct KernelWait {
    kind: LockKind,
    state: Mutex<WaitState>,
}

struct WaitState {
    wait: protocol::Wait,
    /// The lock file at which it waits.
    file: Option<Arc<LockFile>>,
    /// What it has asked for and not got yet.
    wants: Option<(Byte, LockKind)>,
}

impl KernelWait {
    /// A wait that has its ticket in the line already. The rest of it is done by
    /// [`KernelWait::wait`].
    pub(super) fn begin(
        dir: &DirHandle,
        name: &OsStr,
        kind: LockKind,
    ) -> Result<KernelWait, Failure> {
        let file = LockFile::open(dir, name).map_err(|error| Failure::new("open", error))?;
        let state = WaitState {
            wait: protocol::Wait::new(kind, HAS_TICKETS),
            file: Some(Arc::new(file)),
            wants: None,
        };
        let wait = KernelWait { kind, state: Mutex::new(state) };
        wait.rejoin()?;
        Ok(wait)
    }

    /// Waits on this thread for as long as it takes. `None` when the lock was not wanted any
    /// more.
    pub(super) fn wait(
        &self,
        dir: &DirHandle,
        name: &OsStr,
    ) -> Result<Option<KernelLock>, Failure> {
        let mut begun = self.state().file.clone();
        let outcome = acquire_from(&mut begun, dir, name, |file| {
            let mut state = self.state();
            if !state.file.as_ref().is_some_and(|known| Arc::ptr_eq(known, file)) {
                state.wait.restart();
                state.wants = None;
                state.file = Some(Arc::clone(file));
            }
            drop(state);
            self.go_through(file)
        });
        let mut state = self.state();
        state.file = None;
        let ticket = state.wait.ticket();
        drop(state);
        Ok(outcome?.map(|(file, has_content)| {
            KernelLock::after_wait(file, has_content, self.kind, ticket)
        }))
    }

    /// Goes as far as it can without waiting: all the way, if the lock is free and nobody comes
    /// first.
    pub(super) fn pass(
        &self,
        dir: &DirHandle,
        name: &OsStr,
    ) -> Result<Option<KernelLock>, Failure> {
        let mut state = self.state();
        let Some(file) = state.file.clone() else { return Ok(None) };
        let mut answer = StepResult::Nothing;
        let has_main = loop {
            answer = match state.wait.next(answer) {
                LockStep::Done(has_main) => break has_main,
                LockStep::Lock(byte, kind) => match take(&file, LockStep::Try(byte, kind)) {
                    Ok(StepResult::Locked(false)) => {
                        state.wants = Some((byte, kind));
                        return Ok(None);
                    }
                    outcome => outcome.map(|_| StepResult::Nothing),
                },
                step => take(&file, step),
            }
            .map_err(|error| Failure::new(LOCK, error))?;
        };
        // What is not called so any more is no lock. The thread sees to another.
        state.file = None;
        let size = file.size_if_called(dir, name).map_err(|error| Failure::new("lstat", error))?;
        let ticket = state.wait.ticket();
        let taken = size.filter(|_| has_main);
        Ok(taken.map(|size| KernelLock::after_wait(file, size > 0, self.kind, ticket)))
    }

    fn go_through(&self, file: &LockFile) -> io::Result<bool> {
        let mut answer = StepResult::Nothing;
        let mut state = self.state();
        let mut wants = state.wants.take();
        loop {
            let step = match wants.take() {
                Some((byte, kind)) => LockStep::Lock(byte, kind),
                None => state.wait.next(answer),
            };
            answer = match step {
                LockStep::Done(has_main) => return Ok(has_main),
                LockStep::Lock(byte, kind) => {
                    // Only now may others say what they want.
                    drop(state);
                    let locked = file.lock(byte, kind);
                    state = self.state();
                    locked?;
                    StepResult::Nothing
                }
                step => take(file, step)?,
            };
        }
    }

    /// Nobody wants the lock for the time being: those of other processes who come later must
    /// not queue up behind nobody.
    pub(super) fn withdraw(&self) {
        let mut state = self.state();
        let bytes = state.wait.withdraw(CAN_UNLOCK_WHILE_WAITING);
        if let Some(file) = &state.file {
            for byte in bytes {
                // Should it fail, they wait a little longer.
                let _ = file.unlock(byte);
            }
        }
    }

    /// The lock is wanted, or wanted after all. Whether this wait is as good as another that
    /// begins now.
    pub(super) fn rejoin(&self) -> Result<bool, Failure> {
        let mut state = self.state();
        let WaitState { wait, file: Some(file), .. } = &mut *state else { return Ok(false) };
        let Some(mut entering) = wait.rejoin() else { return Ok(false) };
        carry_out(file, |answer| entering.next(wait, answer))
            .map_err(|error| Failure::new(LOCK, error))
    }

    /// What it waits for.
    pub(super) fn kind(&self) -> LockKind {
        self.kind
    }

    fn state(&self) -> MutexGuard<'_, WaitState> {
        guard(&self.state)
    }
}

/// Does what the protocol says, until it is done. None of it waits.
fn carry_out(file: &LockFile, mut next: impl FnMut(StepResult) -> LockStep) -> io::Result<bool> {
    let mut answer = StepResult::Nothing;
    loop {
        answer = match next(answer) {
            LockStep::Done(outcome) => return Ok(outcome),
            step => take(file, step)?,
        }
    }
}

/// Does one step.
fn take(file: &LockFile, step: LockStep) -> io::Result<StepResult> {
    match step {
        LockStep::Try(byte, kind) => file.try_lock(byte, kind).map(StepResult::Locked),
        LockStep::Lock(byte, kind) => file.lock(byte, kind).map(|()| StepResult::Nothing),
        LockStep::Unlock(byte) => file.unlock(byte).map(|()| StepResult::Nothing),
        LockStep::Look(first, last) => file.find_ticket(first, last).map(StepResult::Found),
        LockStep::Done(_) => Ok(StepResult::Nothing),
    }
}

/// Opens the lock file, unless it has been opened already, locks it by `lock`, and makes sure that
/// the name still leads to it: somebody may have removed it meanwhile, and then others lock
/// another file. Also says whether anything is in it.
fn acquire_from(
    opened: &mut Option<Arc<LockFile>>,
    dir: &DirHandle,
    name: &OsStr,
    mut lock: impl FnMut(&Arc<LockFile>) -> io::Result<bool>,
) -> Result<Option<(Arc<LockFile>, bool)>, Failure> {
    for _ in 0..FRESH_STARTS {
        let file = match opened.take() {
            Some(file) => file,
            None => {
                Arc::new(LockFile::open(dir, name).map_err(|error| Failure::new("open", error))?)
            }
        };
        if !lock(&file).map_err(|error| Failure::new(LOCK, error))? {
            *opened = Some(file);
            return Ok(None);
        }
        let size = file.size_if_called(dir, name).map_err(|error| Failure::new("lstat", error))?;
        if let Some(size) = size {
            return Ok(Some((file, size > 0)));
        }
    }
    Err(Failure::new(LOCK, Code::EBUSY.error()))
}

/// Who has the lock, as far as can be told; the outer `None` when nobody has it. Who has only just
/// taken it may not have said so yet: `looks` is how often it is looked again, a millisecond later.
pub(super) fn inspect(
    dir: &DirHandle,
    name: &OsStr,
    kind: LockKind,
    looks: u32,
) -> Result<Option<Option<Holder>>, Failure> {
    let file = match LockFile::open_existing(dir, name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::new("open", error)),
    };
    let in_lock = |error| Failure::new(LOCK, error);
    let mut line = vec![0; LONGEST_LINE];
    for look in 0.. {
        if !file.is_locked(Byte::Main, kind).map_err(in_lock)? {
            return Ok(None);
        }
        // Readers leave no note. One that is there is that of a writer who has died.
        let by_writer = kind == LockKind::Read
            || file.is_locked(Byte::Main, LockKind::Read).map_err(in_lock)?;
        if !by_writer {
            break;
        }
        let length = file.read_note(&mut line).map_err(|error| Failure::new("read", error))?;
        if length > 0 || look == looks {
            return Ok(Some(line.get(..length).and_then(note::from_line)));
        }
        blocking(|| thread::sleep(BETWEEN_LOOKS));
    }
    Ok(Some(None))
}
