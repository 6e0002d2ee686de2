//! `createBackup`, `restoreBackup`, `listBackups`, `cleanupBackups`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use napi_derive::napi;

use super::environment::{Environment, EventSender, Message, Port, failed};
use super::js_types::{self, Report, WriteOptions};
use super::lock::LockWaiter;
use super::lock_handles::HeldNumbers;
use super::path_text::NativePath;
use super::write::{Control, ReportLog};
use crate::backup::{self, Backup, BackupRequest, RestoreRequest, Retention, Reuse, Thinning};
use crate::engine::AttemptCaller;
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::os::Os;
use crate::lock::{LockKind, LockRequest};
use crate::threads::{RunningJob, pool, task};
use crate::write::{self, Format, Observer, Options};

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

/// How many backups are kept.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct NativeRetention {
    pub last: Option<u32>,
    pub hourly: Option<u32>,
    pub daily: Option<u32>,
    pub weekly: Option<u32>,
}

impl From<NativeRetention> for Retention {
    fn from(NativeRetention { last, hourly, daily, weekly }: NativeRetention) -> Retention {
        let count = |given: Option<u32>| given.and_then(|given| given.try_into().ok()).unwrap_or(0);
        Retention {
            last: count(last),
            hourly: count(hourly),
            daily: count(daily),
            weekly: count(weekly),
        }
    }
}

/// When a backup is made, and which stay beside it.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct NativeHistory {
    pub only_if_changed: Option<bool>,
    /// Milliseconds.
    pub min_interval: Option<f64>,
    /// All, if there is none.
    pub keep: Option<NativeRetention>,
}

/// Which backups of a file are removed.
#[napi(object, object_to_js = false)]
pub struct NativeThinning {
    pub keep: Option<NativeRetention>,
    /// Milliseconds.
    pub max_age: Option<f64>,
    pub keep_newest: u32,
    pub is_json: bool,
}

/// A backup that is no good.
#[napi(object, object_from_js = false)]
pub struct NativeBadBackup {
    pub backup: NativeBackup,
    pub reason: String,
}

/// The newest good backup, and the newer ones.
#[napi(object, object_from_js = false)]
pub struct NativeNewest {
    pub good: Option<NativeBackup>,
    pub bad: Vec<NativeBadBackup>,
}

/// What a backup on the calling thread brings.
#[napi(object, object_from_js = false)]
pub struct BackupNow {
    /// Its name, if it has not failed.
    pub name: Option<NativePath>,
    /// What has happened; the last one is the error, if it has failed.
    pub reports: Vec<Report>,
}

fn request(
    path: NativePath,
    time: f64,
    options: Option<WriteOptions>,
    history: Option<NativeHistory>,
) -> BackupRequest {
    let NativeHistory { only_if_changed, min_interval, keep } = history.unwrap_or_default();
    BackupRequest {
        path: PathBuf::from(path),
        time: time as u64,
        options: options.map_or_else(Options::default, Options::from),
        reuse: Reuse { only_if_changed: only_if_changed == Some(true), min_interval },
        keep: keep.map(Retention::from),
    }
}

/// Copies a file to a backup on the calling thread.
#[napi]
pub fn create_backup_now(
    path: NativePath,
    time: f64,
    options: Option<WriteOptions>,
    history: Option<NativeHistory>,
    is_observed: bool,
) -> BackupNow {
    let request = request(path, time, options, history);
    let log = ReportLog::new(is_observed);
    let observer: Option<&dyn Observer> = if is_observed { Some(&log) } else { None };
    // A panic must not come to JavaScript, whose thread this is.
    let outcome = task::catch_panic(|| Ok(backup::create_now(&request, observer)))
        .unwrap_or_else(|kind| Err(failed(Operation::CreateBackup, &request.path, kind)));
    let (name, error) = match outcome {
        Ok(name) => (Some(NativePath::from(name)), None),
        Err(error) => (None, Some(error)),
    };
    BackupNow { name, reports: log.ended(error) }
}

#[napi]
impl Port {
    /// Copies a file to a backup. The value is the backup's name, with `time` in it, or a time a
    /// little later; or that of one that will do.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn create_backup(
        &self,
        id: f64,
        path: NativePath,
        time: f64,
        options: Option<WriteOptions>,
        history: Option<NativeHistory>,
        is_observed: bool,
        control: Option<&Control>,
    ) {
        let request = request(path, time, options, history);
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

    /// The newest good backup of a file, and those that are newer and no good; of all, or of those
    /// that are older than `before` (milliseconds since 1970).
    #[napi]
    pub fn newest_backup(
        &self,
        id: f64,
        path: NativePath,
        is_json: bool,
        before: Option<f64>,
        control: Option<&Control>,
    ) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let target = path.clone();
        let control = control_of(control);
        let find = move || {
            let before = before.map(|before| before as u64);
            let newest = backup::newest_good(&Os, &target, format(is_json), before, &control)?;
            let bad = newest.bad.into_iter().map(|(backup, flaw)| NativeBadBackup {
                backup: NativeBackup::from(backup),
                reason: flaw.to_string(),
            });
            Ok(NativeNewest { good: newest.good.map(NativeBackup::from), bad: bad.collect() })
        };
        let operation = Operation::RestoreBackup;
        task::run(pool(), find, move |value| environment.answer(id, operation, &path, value));
    }

    /// Removes old backups of a file. The value is their names. `now` is in milliseconds since 1970.
    #[napi]
    pub fn thin_backups(&self, id: f64, path: NativePath, thinning: NativeThinning, now: f64) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let target = path.clone();
        let outcomes = Arc::clone(&environment.outcomes);
        let thin = move || {
            let _started = outcomes.start(false).ok_or(ErrorKind::Cancelled)?;
            let keep = thinning.keep.map(Retention::from).unwrap_or_default();
            let thinning = Thinning {
                keep: &keep,
                max_age: thinning.max_age,
                keep_newest: usize::try_from(thinning.keep_newest).unwrap_or(usize::MAX),
                now: now as u64,
                validate: format(thinning.is_json),
            };
            let control = write::Control::default();
            let removed = backup::thin(&Os, &target, &thinning, None, &control)?;
            Ok(removed.into_iter().map(NativePath::from).collect::<Vec<_>>())
        };
        let operation = Operation::CleanupBackups;
        task::run(pool(), thin, move |value| environment.answer(id, operation, &path, value));
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
    /// 1970) only those that have not been changed since then. Of the backups of each file the
    /// `keepNewest` newest good ones stay.
    #[napi]
    pub fn remove_files(
        &self,
        id: f64,
        dir: NativePath,
        names: Vec<String>,
        modified_until: Option<f64>,
        keep_newest: u32,
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
            let keep_newest = usize::try_from(keep_newest).unwrap_or(usize::MAX);
            backup::remove(&Os, &target, names, until, keep_newest)
        };
        let operation = Operation::CleanupBackups;
        task::run(pool(), remove, move |value| environment.answer(id, operation, &path, value));
    }
}

fn format(is_json: bool) -> Option<Format> {
    is_json.then_some(Format::Json)
}

fn control_of(control: Option<&Control>) -> Arc<write::Control> {
    control.map_or_else(Arc::default, |given| Arc::clone(&given.control))
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
        control: control_of(control),
        observer: is_observed
            .then(|| -> Box<dyn Observer + Send> { Box::new(EventSender::new(id, environment)) }),
    }
}
