//! What the steps of one recovery share: what was asked for, and what has been done so far.

use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use super::action::{ActionKind, RecoveryAction};
use super::request::{Options, TryLockFile};
use crate::fs::FileSystem;
use crate::transaction::Unfinished;
use crate::write::{AttemptError, Control};

/// One recovery under way.
pub(super) struct RecoveryContext<'a, F: FileSystem> {
    pub(super) fs: &'a F,
    pub(super) options: &'a Options,
    pub(super) now: SystemTime,
    /// When that was.
    pub(super) begun: Instant,
    /// Whether a temp file may become a file that is missing.
    pub(super) promotes: bool,
    /// Nothing becomes a file, and nothing is removed that could.
    pub(super) only_sweeps: bool,
    pub(super) try_lock: &'a TryLockFile<'a>,
    pub(super) control: &'a Control,
    /// The transactions of the current directory that were decided and could not be completed.
    /// They alone say what becomes of their files.
    pub(super) decided: Vec<Unfinished>,
    pub(super) actions: Vec<RecoveryAction>,
}

impl<F: FileSystem> RecoveryContext<'_, F> {
    pub(super) fn note(
        &mut self,
        path: PathBuf,
        kind: ActionKind,
        to: Option<PathBuf>,
        reason: impl Into<String>,
    ) {
        let (reason, is_undone) = (reason.into(), false);
        self.actions.push(RecoveryAction { path, kind, to, reason, error: None, is_undone });
    }

    pub(super) fn left(&mut self, path: PathBuf, reason: impl Into<String>) {
        self.note(path, ActionKind::Left, None, reason);
    }

    pub(super) fn failed(&mut self, path: PathBuf, error: impl Into<AttemptError>) {
        let error = error.into();
        let (kind, reason) = (ActionKind::Failed, error.kind.to_string());
        let (error, is_undone) = (Some(error), true);
        self.actions.push(RecoveryAction { path, kind, to: None, reason, error, is_undone });
    }
}
