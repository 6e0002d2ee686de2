//! `createBackup`, `restoreBackup`, `listBackups`, `cleanupBackups`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use napi_derive::napi;

use super::environment::{Outcomes, Port};
use super::js_types::{Message, NativeBackup, NativeCandidate, NativeValue, Report, WriteOptions};
use super::lock::LockWaiter;
use super::write::Control;
use crate::backup::{self, BackupCaller, BackupRequest, RestoreRequest};
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::os::Os;
use crate::lock::{LockKind, LockRequest};
use crate::threads::{RunningJob, pool, task};
use crate::write::{Observer, Options, WriteEvent};

#[napi]
impl Port {
    /// Copies a file aside. The value is the time in the backup's name; it is `time`, or a
    /// little later.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn create_backup(
        &self,
        id: f64,
        path: String,
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
        let client = client(id, &environment.outcomes, is_observed, control);
        let path = request.path.clone();
        backup::submit_create(pool(), request, client, move |outcome| match outcome {
            Ok(Ok(time)) => {
                let value = NativeValue { time: Some(time as f64), ..NativeValue::default() };
                environment.outcomes.push(Message::told(Report::succeeded(id, value)));
            }
            Ok(Err(error)) => environment.outcomes.push(Message::told(Report::failed(id, error))),
            Err(kind) => environment.answer(id, Operation::CreateBackup, &path, Err(kind)),
        });
    }

    /// Brings a backup back, under the target's lock unless `timeout` (milliseconds) is
    /// missing.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn restore_backup(
        &self,
        id: f64,
        backup: String,
        target: String,
        options: Option<WriteOptions>,
        timeout: Option<f64>,
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
            timeout: Duration::try_from_secs_f64(timeout / 1000.0).ok(),
            inside: Vec::new(),
            before: None,
        });
        let environment = Arc::clone(&self.environment);
        let client = client(id, &environment.outcomes, is_observed, control);
        let path = request.target.clone();
        let answer = move |outcome: Result<Result<(), Error>, ErrorKind>| match outcome {
            Ok(Ok(())) => environment.outcomes.push(Message::Done(id)),
            Ok(Err(error)) => environment.outcomes.push(Message::told(Report::failed(id, error))),
            Err(kind) => environment.answer(id, Operation::RestoreBackup, &path, Err(kind)),
        };
        let waiter = backup::submit_restore(pool(), request, lock, client, answer);
        waiter.map(|waiter| LockWaiter { waiter })
    }

    /// The backups of a file.
    #[napi]
    pub fn list_backups(&self, id: f64, path: String) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let place = path.clone();
        let list = move || {
            let backups = backup::list(&Os, &place)?;
            let backups = backups.into_iter().map(NativeBackup::from).collect();
            Ok(NativeValue { backups: Some(backups), ..NativeValue::default() })
        };
        let operation = Operation::ListBackups;
        task::run(pool(), list, move |value| environment.answer(id, operation, &path, value));
    }

    /// The names in a directory that may be asked to be removed.
    #[napi]
    pub fn list_candidates(&self, id: f64, dir: String, any_name: bool) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(dir);
        let place = path.clone();
        let list = move || {
            let candidates = backup::candidates(&Os, &place, any_name)?;
            let candidates = candidates.into_iter().map(NativeCandidate::from).collect();
            Ok(NativeValue { candidates: Some(candidates), ..NativeValue::default() })
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
        dir: String,
        names: Vec<String>,
        modified_until: Option<f64>,
    ) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(dir);
        let place = path.clone();
        let until = modified_until.map(|milliseconds| {
            let since = Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or_default();
            SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
        });
        let outcomes = Arc::clone(&environment.outcomes);
        let remove = move || {
            let _started = outcomes.start(false).ok_or(ErrorKind::Cancelled)?;
            let names = backup::remove(&Os, &place, names, until)?;
            Ok(NativeValue { names: Some(names), ..NativeValue::default() })
        };
        let operation = Operation::CleanupBackups;
        task::run(pool(), remove, move |value| environment.answer(id, operation, &path, value));
    }
}

fn client(
    id: f64,
    outcomes: &Arc<Outcomes>,
    is_observed: bool,
    control: Option<&Control>,
) -> BackupCaller<RunningJob<Message>> {
    let starting = Arc::clone(outcomes);
    BackupCaller {
        start: Box::new(move || starting.start(false)),
        control: control.map_or_else(Arc::default, |given| Arc::clone(&given.control)),
        observer: is_observed.then(|| -> Box<dyn Observer + Send> {
            Box::new(Watcher { id, outcomes: Arc::clone(outcomes) })
        }),
    }
}

/// Takes the events of an operation to JavaScript.
pub(super) struct Watcher {
    pub(super) id: f64,
    pub(super) outcomes: Arc<Outcomes>,
}

impl Observer for Watcher {
    fn event(&self, event: WriteEvent) {
        self.outcomes.push(Message::told(Report::happened(self.id, event)));
    }
}
