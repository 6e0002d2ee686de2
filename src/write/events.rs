//! What a write tells a logger while it runs.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::AttemptError;
use crate::error::Code;
use crate::metrics::METRICS;
use crate::temp_name;

/// One entry for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteEvent {
    /// An attempt begins.
    Starting {
        /// Where its bytes will be staged.
        temp_path: PathBuf,
        /// How many bytes there are.
        size: u64,
    },
    /// The temp file is complete, and synced where that was asked for.
    Written {
        /// Where it is.
        temp_path: PathBuf,
        /// How many bytes it has.
        size: u64,
        /// How long it took to make, fill and sync it.
        duration: Duration,
    },
    /// The temp file has become the target.
    Renamed {
        /// What it was called.
        temp_path: PathBuf,
        /// How long the rename took.
        duration: Duration,
    },
    /// The attempt succeeded.
    Completed {
        /// How many bytes were written.
        size: u64,
        /// How long the whole attempt took.
        duration: Duration,
    },
    /// The attempt failed.
    Failed {
        /// Where its bytes were to be staged.
        temp_path: PathBuf,
        /// The error's name.
        code: &'static str,
        /// The error's message.
        message: String,
    },
    /// The temp file of a failed attempt has been removed.
    CleanedUp {
        /// What it was called.
        temp_path: PathBuf,
    },
    /// The temp file of a failed attempt is still there.
    CleanupFailed {
        /// What it is called.
        temp_path: PathBuf,
        /// Why it could not be removed.
        code: &'static str,
    },
    /// A newer write to the same file stands for this one.
    Merged {
        /// How many bytes it had.
        size: u64,
    },
    /// Another attempt will be made.
    Retrying {
        /// Its number.
        attempt: u32,
        /// How long it waits.
        delay: Duration,
        /// The error that may pass.
        code: &'static str,
    },
}

/// Receives the events of one write, on the thread that runs it.
pub trait Observer {
    /// Takes one event. It must not fail.
    fn event(&self, event: WriteEvent);
}

/// The log of one attempt. Without an observer nothing is built and nothing costs.
pub(crate) struct Log<'a> {
    observer: Option<&'a dyn Observer>,
    target: &'a Path,
    notes: Notes,
}

/// What a log remembers of its attempt while that waits.
pub(crate) struct Notes {
    size: u64,
    begun: Instant,
    temp_path: PathBuf,
}

impl<'a> Log<'a> {
    pub(crate) fn new(
        observer: Option<&'a dyn Observer>,
        target: &'a Path,
        size: u64,
        begun: Instant,
    ) -> Log<'a> {
        Log::resume(observer, target, Notes { size, begun, temp_path: PathBuf::new() })
    }

    /// Goes on with the log of an attempt that has waited.
    pub(crate) fn resume(
        observer: Option<&'a dyn Observer>,
        target: &'a Path,
        notes: Notes,
    ) -> Log<'a> {
        Log { observer, target, notes }
    }

    /// What is needed to go on later.
    pub(crate) fn into_notes(self) -> Notes {
        self.notes
    }

    /// Notes how many bytes there are in fact.
    pub(crate) fn sized(&mut self, size: u64) {
        self.notes.size = size;
    }

    fn report(&self, event: impl FnOnce() -> WriteEvent) {
        if let Some(observer) = self.observer {
            observer.event(event());
        }
    }

    pub(crate) fn starting(&mut self, dir: &Path, temp_name: &OsStr) {
        self.staged_at(dir, temp_name);
        self.report(|| WriteEvent::Starting {
            temp_path: self.notes.temp_path.clone(),
            size: self.notes.size,
        });
    }

    /// Notes which temp file it has become, should the announced name have been taken.
    pub(crate) fn staged_at(&mut self, dir: &Path, temp_name: &OsStr) {
        if self.observer.is_some() {
            self.notes.temp_path = dir.join(temp_name);
        }
    }

    /// The target could not be found: the temp file is named as it would have been.
    pub(crate) fn failed_to_start(&mut self, error: &AttemptError) {
        if self.observer.is_some() {
            let dir = self.target.parent().unwrap_or(Path::new(""));
            let basename = self.target.file_name().unwrap_or_default();
            self.starting(dir, &temp_name::new_name(basename));
        }
        self.failed(error);
    }

    pub(crate) fn written(&self) {
        self.report(|| WriteEvent::Written {
            temp_path: self.notes.temp_path.clone(),
            size: self.notes.size,
            duration: self.notes.begun.elapsed(),
        });
    }

    pub(crate) fn renamed(&self, duration: Duration) {
        self.report(|| WriteEvent::Renamed { temp_path: self.notes.temp_path.clone(), duration });
    }

    pub(crate) fn completed(&self) {
        METRICS.writes.bytes.add(self.notes.size);
        self.report(|| WriteEvent::Completed {
            size: self.notes.size,
            duration: self.notes.begun.elapsed(),
        });
    }

    pub(crate) fn failed(&self, error: &AttemptError) {
        self.report(|| WriteEvent::Failed {
            temp_path: self.notes.temp_path.clone(),
            code: error.kind.code(),
            message: error.kind.to_string(),
        });
    }

    pub(crate) fn cleaned_up(&self, outcome: io::Result<()>) {
        self.report(|| match outcome {
            Ok(()) => WriteEvent::CleanedUp { temp_path: self.notes.temp_path.clone() },
            Err(error) => WriteEvent::CleanupFailed {
                temp_path: self.notes.temp_path.clone(),
                code: Code::of(&error).map_or("UNKNOWN", Code::name),
            },
        });
    }
}
