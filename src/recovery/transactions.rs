//! Completes transactions that were left unfinished. They come before anything else: what they
//! have staged is newer than what is there.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::action::{ActionKind, RecoveryAction};
use super::context::RecoveryContext;
use crate::error::Failure;
use crate::fs::{Dir, FileSystem};
use crate::transaction::names::{RecordKind, is_transaction_name};
use crate::transaction::{
    RollLocks, RollOptions, RollResult, RolledFile, roll, roll_dir, unfinished,
};

impl<F: FileSystem> RecoveryContext<'_, F> {
    /// Completes what transactions have left in a directory; with `only`, those that change this
    /// file.
    pub(super) fn complete_transactions(
        &mut self,
        dir: &Dir<F>,
        names: &[OsString],
        only: Option<&OsStr>,
    ) {
        self.decided.clear();
        if self.only_sweeps || !names.iter().any(|name| is_transaction_name(name)) {
            return;
        }
        let try_lock_file = self.try_lock;
        let refused = RefCell::new(Vec::new());
        let try_lock = |paths: &[PathBuf]| {
            let mut held = Vec::new();
            for path in paths {
                match try_lock_file(path) {
                    Ok(Some(lock)) => held.push(lock),
                    Ok(None) => return Ok(None),
                    Err(kind) => {
                        refused.borrow_mut().push((path.clone(), kind));
                        return Ok(None);
                    }
                }
            }
            Ok(Some(Box::new(held) as RollLocks))
        };
        let mut report = Vec::new();
        let options = RollOptions { dry_run: self.options.dry_run, try_lock: &try_lock };
        let rolled = roll_all(self.fs, dir, only, options, &mut report);
        self.actions.extend(report.into_iter().map(RecoveryAction::from));
        for (path, kind) in refused.into_inner() {
            self.failed(path, kind);
        }
        if let Err(failure) = rolled {
            self.failed(dir.path().to_owned(), failure);
        }
        if self.options.dry_run {
            return;
        }
        match unfinished(self.fs, dir.path()) {
            Ok(mut left) => {
                left.retain(|transaction| transaction.kind == RecordKind::Intent);
                self.decided = left;
            }
            Err(failure) => self.failed(dir.path().to_owned(), failure),
        }
    }
}

fn roll_all<F: FileSystem>(
    fs: &F,
    dir: &Dir<F>,
    only: Option<&OsStr>,
    options: RollOptions<'_>,
    report: &mut Vec<RolledFile>,
) -> Result<(), Failure> {
    let Some(name) = only else { return roll_dir(fs, dir.path(), options, report) };
    for transaction in unfinished(fs, dir.path())? {
        if transaction.changes(name) {
            roll(fs, dir.path(), transaction.id, options, report)?;
        }
    }
    Ok(())
}

impl From<RolledFile> for RecoveryAction {
    fn from(rolled: RolledFile) -> RecoveryAction {
        let RolledFile { path, result, reason, to, is_undone } = rolled;
        let kind = match result {
            RollResult::RolledForward => ActionKind::Completed,
            RollResult::RolledBack => ActionKind::Removed,
            RollResult::Conflict => ActionKind::Conflict,
            RollResult::Left => ActionKind::Left,
        };
        RecoveryAction { path, kind, to, reason, error: None, is_undone }
    }
}
