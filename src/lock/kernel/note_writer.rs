//! The note in the lock file that says who has the lock: when it is written, and removed.
//!
//! It takes longer to write and remove it than to lock and unlock. So somebody who takes the lock
//! again and again, or has been waited for, leaves it only when he still has the lock after a
//! moment. Whoever wants to read it waits for that moment.

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

/// The note of one who has the lock.
pub(super) struct NoteWriter {
    file: Arc<LockFile>,
    since: SystemTime,
    state: Mutex<NoteState>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NoteState {
    Unwritten,
    Written,
    /// The lock is given back: whatever is written now would be about somebody else.
    Over,
}

impl NoteWriter {
    /// He has the lock from now on.
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

    /// Sees to it that it is written if the lock is still held in a moment.
    pub(super) fn write_soon(self: &Arc<NoteWriter>) {
        let mut soon = guard(&SOON);
        soon.notes.push_back((Instant::now() + MOMENT, Arc::downgrade(self)));
        let is_seen_to = std::mem::replace(&mut soon.is_seen_to, true);
        drop(soon);
        if !is_seen_to {
            see_to_them_in(MOMENT);
        }
    }

    /// Sees to it that it is not written any more. Whether there is none, without asking the
    /// system and without waiting.
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
            // What is left there otherwise means nothing while nobody has the lock.
            let _ = self.file.write_note(b"");
        }
    }
}

/// The notes to be written, in the order of their time.
struct Soon {
    notes: VecDeque<(Instant, Weak<NoteWriter>)>,
    /// A thread will look after them.
    is_seen_to: bool,
}

static SOON: Mutex<Soon> = Mutex::new(Soon { notes: VecDeque::new(), is_seen_to: false });

/// Has the notes written whose time has come. Most are not wanted any more by then.
fn write_due() {
    let mut soon = guard(&SOON);
    let now = Instant::now();
    let count = soon.notes.iter().take_while(|(due, _)| *due <= now).count();
    let due: Vec<Weak<NoteWriter>> = soon.notes.drain(..count).map(|(_, note)| note).collect();
    let next = soon.notes.front().map(|(due, _)| *due - now);
    soon.is_seen_to = next.is_some();
    drop(soon);
    if let Some(delay) = next {
        see_to_them_in(delay);
    }
    // Each by itself: one whose disk does not answer holds up no other.
    for note in due.iter().filter_map(Weak::upgrade) {
        // If there is no thread for it, there is no note.
        let _ = pool().submit(Box::new(move || blocking(|| note.write())));
    }
}

fn see_to_them_in(delay: Duration) {
    // Not under the mutex: jobs that cannot be run are dropped, and may have something to say.
    if pool().submit_after(delay, Box::new(write_due)).is_err() {
        guard(&SOON).is_seen_to = false;
    }
}
