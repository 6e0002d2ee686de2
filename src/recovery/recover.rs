//! Recovers a file that the caller names, or the files in a directory and in those below it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::action::RecoveryAction;
use super::context::RecoveryContext;
use super::names::{self, Remains};
use super::request::{Options, RecoveryRequest, TryLockFile};
use crate::error::{Code, ErrorKind, Failure};
use crate::fs::{Dir, DirUse, FileId, FileKind, FileSystem};
use crate::resolve;
use crate::write::Control;

/// Recovers a file or a directory. A caller that names a file should hold its lock, and say so by
/// a `try_lock` that always succeeds.
///
/// # Errors
///
/// When the path itself cannot be looked at. What goes wrong with one of several files is
/// among the actions.
///
/// # Durability
///
/// What has become a file is fully durable when this returns.
pub fn recover<F: FileSystem>(
    fs: &F,
    request: &RecoveryRequest,
    try_lock: &TryLockFile<'_>,
    control: &Control,
) -> Result<Vec<RecoveryAction>, ErrorKind> {
    let RecoveryRequest { path, options, now } = request;
    let mut context = context(fs, options, *now, try_lock, control);
    match Dir::open(fs, path, DirUse::NamesAndSync) {
        Ok(dir) => {
            context.promotes = options.promote.unwrap_or(false);
            context.recover_dirs(dir)?;
        }
        Err(failure) => {
            context.promotes = options.promote.unwrap_or(true);
            context.recover_named(path, failure)?;
        }
    }
    // With one file, or the last one of a directory, the control has not been asked since.
    let is_cut_short = |action: &RecoveryAction| {
        action.error.as_ref().is_some_and(|error| matches!(error.kind, ErrorKind::Cancelled))
    };
    match context.actions.iter().any(is_cut_short) {
        true => Err(ErrorKind::Cancelled),
        false => Ok(context.actions),
    }
}

/// Removes the orphans in a directory that are of no use: those beside a good file, and those that
/// are no whole JSON text. It makes nothing a file.
pub(super) fn sweep<F: FileSystem>(
    fs: &F,
    dir: &Path,
    now: SystemTime,
) -> Result<Vec<RecoveryAction>, ErrorKind> {
    let (options, control) = (Options::default(), Control::default());
    let mut context = context(fs, &options, now, &|_| Ok(None), &control);
    context.only_sweeps = true;
    context.recover_dirs(Dir::open(fs, dir, DirUse::NamesAndSync)?)?;
    Ok(context.actions)
}

/// Whether the path leads to a directory.
pub(super) fn is_dir<F: FileSystem>(fs: &F, path: &Path) -> bool {
    Dir::open(fs, path, DirUse::Names).is_ok()
}

fn context<'a, F: FileSystem>(
    fs: &'a F,
    options: &'a Options,
    now: SystemTime,
    try_lock: &'a TryLockFile<'a>,
    control: &'a Control,
) -> RecoveryContext<'a, F> {
    RecoveryContext {
        fs,
        options,
        now,
        begun: Instant::now(),
        promotes: false,
        only_sweeps: false,
        try_lock,
        control,
        decided: Vec::new(),
        actions: Vec::new(),
    }
}

fn sorted_names<F: FileSystem>(dir: &Dir<F>) -> Result<Vec<OsString>, Failure> {
    let mut names = dir.names()?;
    names.sort_unstable();
    Ok(names)
}

impl<F: FileSystem> RecoveryContext<'_, F> {
    /// One file that the caller names, and that is no directory: `not_a_dir` says why.
    fn recover_named(&mut self, path: &Path, not_a_dir: Failure) -> Result<(), ErrorKind> {
        let found = resolve::target(self.fs, path, true, DirUse::NamesAndSync)?;
        match found.existing.map(|existing| existing.kind) {
            None | Some(FileKind::File) => {}
            Some(FileKind::Dir) => return Err(not_a_dir.into()),
            Some(FileKind::Other(special)) => {
                return Err(Failure::special("open", path, special.name()).into());
            }
            Some(FileKind::Link) => {
                return Err(Failure::at("open", path, Code::EINVAL.error()).into());
            }
        }
        let dir = found.dir;
        let names = sorted_names(&dir).unwrap_or_else(|failure| {
            // Names that are known beforehand can still be found.
            self.failed(dir.path().to_owned(), failure);
            names::legacy(&found.name).to_vec()
        });
        self.complete_transactions(&dir, &names, Some(&found.name));
        self.recover_file(&dir, &Remains::of_file(&found.name, &names), true);
        Ok(())
    }

    /// A directory, and if that is wanted those below it.
    fn recover_dirs(&mut self, dir: Dir<F>) -> Result<(), ErrorKind> {
        // The first one has to be there; with the others what can be done is done.
        let names = sorted_names(&dir)?;
        let mut ahead = self.recover_dir(&dir, &names)?;
        while let Some((path, id)) = ahead.pop() {
            self.control.check()?;
            let opened = Dir::open(self.fs, &path, DirUse::NamesAndSync).and_then(|dir| {
                // By now something else may have the name, a link to elsewhere for example.
                let is_same = dir.metadata()?.id == id;
                let names = if is_same { sorted_names(&dir)? } else { Vec::new() };
                Ok((dir, names))
            });
            match opened {
                Ok((dir, names)) => ahead.extend(self.recover_dir(&dir, &names)?),
                Err(failure) if failure.code() == Some(Code::ENOENT) => {}
                Err(failure) => self.failed(path, failure),
            }
        }
        Ok(())
    }

    /// What is directly in a directory. Returns the directories in it, if they are wanted.
    fn recover_dir(
        &mut self,
        dir: &Dir<F>,
        names: &[OsString],
    ) -> Result<Vec<(PathBuf, FileId)>, ErrorKind> {
        self.complete_transactions(dir, names, None);
        let all_remains = Remains::in_dir(names, self.options.legacy);
        for remains in &all_remains {
            self.control.check()?;
            self.recover_file(dir, remains, false);
        }
        self.report_corrupt(dir, names, &all_remains);
        self.control.check()?;
        let mut below = Vec::new();
        if self.options.recursive {
            for name in names.iter().rev() {
                self.control.check()?;
                match dir.look(name) {
                    Ok(Some(found)) if found.kind == FileKind::Dir => {
                        below.push((dir.shown(name), found.id));
                    }
                    Ok(_) => {}
                    Err(failure) => self.failed(dir.shown(name), failure),
                }
            }
        }
        Ok(below)
    }
}
