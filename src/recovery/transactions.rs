//! Transactions that were not finished. They come before anything else: what they have staged is
//! newer than what is there.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Act, Action, Place, Recovery};
use crate::fs::FileSystem;
use crate::transaction::names::RecordKind;
use crate::transaction::{self, Decision, Guard, Verdict};

impl<F: FileSystem> Recovery<'_, F> {
    /// Settles what transactions have left in a directory; with `only`, those that name this file.
    pub(super) fn transactions(
        &mut self,
        place: &Place<F>,
        names: &[std::ffi::OsString],
        only: Option<&OsStr>,
    ) {
        let is_concerned = names.iter().any(|name| transaction::names::is_transaction_name(name));
        self.decided.clear();
        if self.only_sweeps || !is_concerned {
            return;
        }
        let guard = self.guard;
        let mut refused = Vec::new();
        let mut report = Vec::new();
        let refusals = std::cell::RefCell::new(&mut refused);
        let locks = |paths: &[PathBuf]| {
            let mut held = Vec::new();
            for path in paths {
                match guard(path) {
                    Ok(Some(lock)) => held.push(lock),
                    Ok(None) => return Ok(None),
                    Err(kind) => {
                        refusals.borrow_mut().push((path.clone(), kind));
                        return Ok(None);
                    }
                }
            }
            Ok(Some(Box::new(held) as Guard))
        };
        let options = transaction::Options { dry_run: self.options.dry_run, locks: &locks };
        let settled = settle(self.fs, &place.path, only, options, &mut report);
        for decision in report {
            self.actions.push(action(decision));
        }
        for (path, kind) in refused {
            self.failed(path, kind.into());
        }
        if let Err(failure) = settled {
            self.failed(place.path.clone(), failure.into());
        }
        if self.options.dry_run {
            return;
        }
        match transaction::unfinished(self.fs, &place.path) {
            Ok(mut unfinished) => {
                unfinished.retain(|transaction| transaction.kind == RecordKind::Intent);
                self.decided = unfinished;
            }
            Err(failure) => self.failed(place.path.clone(), failure.into()),
        }
    }
}

fn settle<F: FileSystem>(
    fs: &F,
    dir: &Path,
    only: Option<&OsStr>,
    options: transaction::Options<'_>,
    report: &mut Vec<Decision>,
) -> Result<(), crate::error::Failure> {
    let Some(name) = only else {
        return transaction::settle_dir(fs, dir, options, report);
    };
    for unfinished in transaction::unfinished(fs, dir)? {
        if unfinished.names(name) {
            transaction::settle(fs, dir, unfinished.id, options, report)?;
        }
    }
    Ok(())
}

fn action(decision: Decision) -> Action {
    let Decision { path, verdict, reason, to } = decision;
    let act = match verdict {
        Verdict::RolledForward => Act::Completed,
        Verdict::RolledBack => Act::Removed,
        Verdict::Conflict => Act::Conflict,
        Verdict::Left => Act::Left,
    };
    Action { path, act, to, reason, error: None }
}
