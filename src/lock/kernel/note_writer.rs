//! When the note in the lock file that says who has the lock is written, and removed.
//!
//! Writing and removing it takes longer than to lock and unlock. So a process that takes the lock
//! again and again, or has been waited for, writes it only if it still has the lock after a moment.
//! A process that wants to read it waits for that moment.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::time::{Duration, Instant, SystemTime};

use super::LockFile;
use crate::error::Holder;
use crate::lock::note;
use crate::mutex::guard;
use crate::threads::{blocking, pool};

/// How long a lock may be held without a note.
const MOMENT: Duration = Duration::from_millis(2);

/// Writes and removes the note of a writer that has the lock.
pub(super) struct NoteWriter {
    file: Arc<LockFile>,
    since: SystemTime,
    state: Mutex<NoteState>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NoteState {
    Unwritten,
    Written,
    /// The lock is released: a note that is written now would be about another process.
    Over,
}

impl NoteWriter {
    /// For a writer that has the lock from now on.
    pub(super) fn new(file: &Arc<LockFile>) -> Arc<NoteWriter> {
        let (since, state) = (SystemTime::now(), Mutex::new(NoteState::Unwritten));
        Arc::new(NoteWriter { file: Arc::clone(file), since, state })
    }

    /// Writes it. That this fails (on a full disk, say) is no reason not to have the lock.
    pub(super) fn write(&self) {
        let mut state = guard(&self.state);
        let line = || note::to_line(&Holder::this_process(self.since));
        if *state == NoteState::Unwritten && self.file.write_note(line().as_bytes()).is_ok() {
            *state = NoteState::Written;
        }
    }

    /// Has it written if the lock is still held in a moment.
    pub(super) fn write_soon(self: &Arc<NoteWriter>) {
        let mut notes = guard(&DUE);
        notes.notes.push_back((Instant::now() + MOMENT, Arc::downgrade(self)));
        let is_scheduled = std::mem::replace(&mut notes.is_scheduled, true);
        drop(notes);
        if !is_scheduled {
            schedule_in(MOMENT);
        }
    }

    /// Keeps it from being written. Whether there is none, without asking the system and without
    /// waiting.
    pub(super) fn withdraw(&self) -> bool {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // It is being written.
            Err(TryLockError::WouldBlock) => return false,
        };
        let is_written = *state == NoteState::Written;
        if !is_written {
            *state = NoteState::Over;
        }
        !is_written
    }

    /// Removes it; it is not written any more.
    pub(super) fn remove(&self) {
        let mut state = guard(&self.state);
        if std::mem::replace(&mut *state, NoteState::Over) == NoteState::Written {
            // What is left there otherwise means nothing while no process has the lock.
            let _ = self.file.write_note(b"");
        }
    }
}

/// The notes to be written, in the order of their time.
struct DueNotes {
    notes: VecDeque<(Instant, Weak<NoteWriter>)>,
    /// A thread will write them.
    is_scheduled: bool,
}

static DUE: Mutex<DueNotes> = Mutex::new(DueNotes { notes: VecDeque::new(), is_scheduled: false });

/// Has the notes written whose time has come. Most are not wanted any more by then.
fn write_due() {
    let mut notes = guard(&DUE);
    let now = Instant::now();
    let count = notes.notes.iter().take_while(|(due, _)| *due <= now).count();
    let due: Vec<Weak<NoteWriter>> = notes.notes.drain(..count).map(|(_, note)| note).collect();
    let next = notes.notes.front().map(|(due, _)| *due - now);
    notes.is_scheduled = next.is_some();
    drop(notes);
    if let Some(delay) = next {
        schedule_in(delay);
    }
    // Each by itself: a disk that does not answer holds up no other note.
    for note in due.iter().filter_map(Weak::upgrade) {
        // If there is no thread for it, there is no note.
        let _ = pool().submit(Box::new(move || blocking(|| note.write())));
    }
}

fn schedule_in(delay: Duration) {
    // Not under the mutex: a job that cannot be run is dropped, and may have something to say.
    if pool().submit_after(delay, Box::new(write_due)).is_err() {
        guard(&DUE).is_scheduled = false;
    }
}
