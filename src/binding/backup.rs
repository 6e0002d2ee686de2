//! `createBackup`, `restoreBackup`, `listBackups`, `cleanupBackups`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use napi_derive::napi;

use super::environment::{Environment, EventSender, Message, Port};
use super::js_types::{self, WriteOptions};
use super::lock::LockWaiter;
use super::lock_handles::HeldNumbers;
use super::path_text::NativePath;
use super::write::Control;
use crate::backup::{self, Backup, BackupRequest, RestoreRequest};
use crate::engine::AttemptCaller;
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::os::Os;
use crate::lock::{LockKind, LockRequest};
use crate::threads::{RunningJob, pool, task};
use crate::write::{Observer, Options};

/// A backup that is there.
#[napi(object, object_from_js = false)]
pub struct NativeBackup {
    pub name: NativePath,
    /// Milliseconds since 1970.
    pub time: f64,
    pub size: f64,
}

impl From<Backup> for NativeBackup {
    fn from(Backup { name, time, size }: Backup) -> NativeBackup {
        NativeBackup { name: name.into(), time: time as f64, size: size as f64 }
    }
}

/// A file that a caller may ask to remove.
#[napi(object, object_from_js = false)]
pub struct NativeCandidate {
    pub name: String,
    /// When it was made, if it has the name of a backup: milliseconds since 1970.
    pub time: Option<f64>,
}

impl From<(String, Option<u64>)> for NativeCandidate {
    fn from((name, time): (String, Option<u64>)) -> NativeCandidate {
        NativeCandidate { name, time: time.map(|time| time as f64) }
    }
}

#[napi]
impl Port {
    /// Copies a file to a backup. The value is the backup's name, with `time` in it, or a time a
    /// little later.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn create_backup(
        &self,
        id: f64,
        path: NativePath,
        time: f64,
        options: Option<WriteOptions>,
        keep: Option<u32>,
        is_observed: bool,
        control: Option<&Control>,
    ) {
        let request = BackupRequest {
            path: PathBuf::from(path),
            time: time as u64,
            options: options.map_or_else(Options::default, Options::from),
            keep: keep.and_then(|keep| usize::try_from(keep).ok()),
        };
        let environment = Arc::clone(&self.environment);
        let client = client(id, &environment, is_observed, control);
        let path = request.path.clone();
        backup::submit_create(pool(), request, client, move |outcome| match outcome {
            Ok(outcome) => {
                environment.complete(id, outcome.map(NativePath::from));
            }
            Err(kind) => environment.fail(id, Operation::CreateBackup, &path, kind),
        });
    }

    /// Restores a backup, under the target's lock, taken or borrowed from the caller, unless
    /// `timeout` (milliseconds) is missing.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn restore_backup(
        &self,
        id: f64,
        backup: NativePath,
        target: NativePath,
        options: Option<WriteOptions>,
        timeout: Option<f64>,
        held: Option<HeldNumbers>,
        is_observed: bool,
        control: Option<&Control>,
    ) -> Option<LockWaiter> {
        let request = RestoreRequest {
            backup: PathBuf::from(backup),
            target: PathBuf::from(target),
            options: options.map_or_else(Options::default, Options::from),
        };
        let lock = timeout.map(|timeout| LockRequest {
            path: request.target.clone(),
            kind: LockKind::Write,
            timeout: js_types::timeout(timeout),
            held: self.environment.locks.lend(held),
            before: None,
        });
        let environment = Arc::clone(&self.environment);
        let client = client(id, &environment, is_observed, control);
        let path = request.target.clone();
        let answer = move |outcome: Result<Result<(), Error>, ErrorKind>| match outcome {
            Ok(outcome) => environment.complete_without_value(id, outcome),
            Err(kind) => environment.fail(id, Operation::RestoreBackup, &path, kind),
        };
        let waiter = backup::submit_restore(pool(), request, lock, client, answer);
        waiter.map(|waiter| LockWaiter { waiter })
    }

    /// The backups of a file.
    #[napi]
    pub fn list_backups(&self, id: f64, path: NativePath) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let target = path.clone();
        let list = move || {
            let backups = backup::list(&Os, &target)?;
            Ok(backups.into_iter().map(NativeBackup::from).collect::<Vec<_>>())
        };
        let operation = Operation::ListBackups;
        task::run(pool(), list, move |value| environment.answer(id, operation, &path, value));
    }

    /// The names in a directory that a caller may ask to remove. `now` is in milliseconds since 1970.
    #[napi]
    pub fn list_candidates(&self, id: f64, dir: NativePath, any_name: bool, now: f64) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(dir);
        let target = path.clone();
        let list = move || {
            let candidates = backup::candidates(&Os, &target, any_name, now as u64)?;
            Ok(candidates.into_iter().map(NativeCandidate::from).collect::<Vec<_>>())
        };
        let operation = Operation::CleanupBackups;
        task::run(pool(), list, move |value| environment.answer(id, operation, &path, value));
    }

    /// Removes the regular files among these names; with `modifiedUntil` (milliseconds since
    /// 1970) only those that have not been changed since then.
    #[napi]
    pub fn remove_files(
        &self,
        id: f64,
        dir: NativePath,
        names: Vec<String>,
        modified_until: Option<f64>,
    ) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(dir);
        let target = path.clone();
        let until = modified_until.map(|milliseconds| {
            let since = Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or_default();
            SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
        });
        let outcomes = Arc::clone(&environment.outcomes);
        let remove = move || {
            let _started = outcomes.start(false).ok_or(ErrorKind::Cancelled)?;
            Ok(backup::remove(&Os, &target, names, until)?)
        };
        let operation = Operation::CleanupBackups;
        task::run(pool(), remove, move |value| environment.answer(id, operation, &path, value));
    }
}

fn client(
    id: f64,
    environment: &Environment,
    is_observed: bool,
    control: Option<&Control>,
) -> AttemptCaller<RunningJob<Message>> {
    let outcomes = Arc::clone(&environment.outcomes);
    AttemptCaller {
        start: Box::new(move || outcomes.start(false)),
        control: control.map_or_else(Arc::default, |given| Arc::clone(&given.control)),
        observer: is_observed
            .then(|| -> Box<dyn Observer + Send> { Box::new(EventSender::new(id, environment)) }),
    }
}
