//! The files of lines that are open for reading.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::error::ErrorKind;
use crate::fs::os::Os;
use crate::fs::{DirWatch, NamedFile};
use crate::lines::LineReader;
use crate::mutex::guard;
use crate::wal::Signal;

/// Where the system does not tell of changes: how long after a look without news the next one is. It
/// doubles up to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A file of lines that is open for reading.
pub(super) struct OpenLines {
    pub(super) path: PathBuf,
    pub(super) reader: LineReader<Os>,
    pub(super) signal: Arc<Signal>,
    pub(super) watch: Mutex<Watch>,
}

/// How changes are heard of.
pub(super) enum Watch {
    /// Not at all yet.
    NotYet,
    Told {
        _watch: DirWatch,
    },
    /// By looking again, after so long.
    Polled(Duration),
}

/// What was seen of a file.
#[derive(Clone)]
pub(super) enum Before {
    /// How long it was, and what its name stood for.
    Size(u64, String),
    /// [`OpenLines::stamp`].
    Stamp(String),
}

/// Ends a wait for news when it is dropped.
pub(super) struct LinesHandle(pub(super) Arc<OpenLines>);

impl Drop for LinesHandle {
    fn drop(&mut self) {
        self.0.signal.end();
    }
}

impl OpenLines {
    /// How long to wait before the next look, where the system does not tell of changes.
    pub(super) fn pause(&self) -> Option<Duration> {
        let mut watch = guard(&self.watch);
        if matches!(*watch, Watch::NotYet) {
            let signal = Arc::downgrade(&self.signal);
            *watch = match self.reader.watch(move || notify(&signal)) {
                Some(told) => Watch::Told { _watch: told },
                None => Watch::Polled(FIRST_PAUSE),
            };
            // What has happened before is looked for now.
            self.signal.notify();
        }
        match &mut *watch {
            Watch::Polled(pause) => {
                let next = (*pause * 2).min(LONGEST_PAUSE);
                Some(std::mem::replace(pause, next))
            }
            _ => None,
        }
    }

    /// What there is to see of it, in a text that is another one after each change of its content, and
    /// when its name stands for something else.
    pub(super) fn stamp(&self) -> Result<String, ErrorKind> {
        let (size, changed) = self.reader.stamp()?;
        Ok(format!("{size} {changed} {}", self.name_state()?))
    }

    /// Whether something is not as it was.
    pub(super) fn has_news(&self, before: &Before) -> Result<bool, ErrorKind> {
        let has_news = self.signal.is_ended()
            || match before {
                Before::Size(size, name) => {
                    self.reader.size()? != *size || self.name_state()? != *name
                }
                Before::Stamp(stamp) => self.stamp()? != *stamp,
            };
        if has_news && let Watch::Polled(pause) = &mut *guard(&self.watch) {
            *pause = FIRST_PAUSE;
        }
        Ok(has_news)
    }

    /// What its name stands for, in JavaScript's words. Where that cannot be told it is the file.
    pub(super) fn name_state(&self) -> Result<&'static str, ErrorKind> {
        Ok(match self.reader.named()? {
            NamedFile::Same | NamedFile::Untold => "same",
            NamedFile::Other => "other",
            NamedFile::Nothing => "nothing",
        })
    }
}

pub(super) fn notify(signal: &Weak<Signal>) {
    if let Some(signal) = signal.upgrade() {
        signal.notify();
    }
}
