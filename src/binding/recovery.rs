//! `recoverFromCrash`, and `setDefaults({ cleanup })`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use napi_derive::napi;

use super::environment::Port;
use super::js_types::NativeError;
use super::path_text::NativePath;
use super::write::Control;
use crate::error::{Error, ErrorKind, Operation};
use crate::recovery::run::{RecoveryOutcome, run, run_exclusively};
use crate::recovery::{Options, RecoveryAction, RecoveryRequest, sweep_on_first_write};
use crate::threads::pool;
use crate::write::Format;

/// How to recover. What is left out has the default of the public contract.
#[napi(object)]
#[derive(Default)]
pub struct RecoveryOptions {
    pub legacy: Option<bool>,
    pub promote: Option<bool>,
    /// Milliseconds.
    pub min_age: Option<f64>,
    pub recursive: Option<bool>,
    pub dry_run: Option<bool>,
    /// Whether every file has to be JSON, or none; left out, those whose names say so.
    pub is_json: Option<bool>,
    /// Whether corrupt files are restored from backups.
    pub backups: Option<bool>,
}

impl From<RecoveryOptions> for Options {
    fn from(given: RecoveryOptions) -> Options {
        let default = Options::default();
        Options {
            legacy: given.legacy.unwrap_or(default.legacy),
            promote: given.promote,
            min_age: given.min_age.map_or(default.min_age, |milliseconds| {
                // What is too long for a duration is as good as for ever.
                Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or(Duration::MAX)
            }),
            recursive: given.recursive.unwrap_or(default.recursive),
            dry_run: given.dry_run.unwrap_or(default.dry_run),
            validate: (given.is_json == Some(true)).then_some(Format::Json),
            checks_json: given.is_json != Some(false),
            backups: given.backups.unwrap_or(default.backups),
        }
    }
}

/// What a recovery has done.
#[napi(object, object_from_js = false)]
pub struct RecoveryReport {
    pub actions: Vec<NativeAction>,
    /// The file itself has to change, and its lock is needed for that.
    pub needs_lock: bool,
}

/// What a recovery has done with one file.
#[napi(object, object_from_js = false)]
pub struct NativeAction {
    pub path: NativePath,
    #[napi(
        ts_type = "'removed' | 'promoted' | 'restored' | 'setAside' | 'completed' | 'conflict' | 'left' | 'failed'"
    )]
    pub action: &'static str,
    pub to: Option<NativePath>,
    pub reason: String,
    pub is_undone: bool,
    pub error: Option<NativeError>,
}

impl From<RecoveryAction> for NativeAction {
    fn from(action: RecoveryAction) -> NativeAction {
        let RecoveryAction { path, kind, to, reason, error, is_undone } = action;
        let text = NativePath::from;
        let error = error.map(|error| {
            NativeError::from(Error {
                kind: error.kind,
                operation: Operation::Recover,
                path: path.clone(),
                attempts: 1,
                exhausted: false,
                committed: error.committed,
            })
        });
        let (path, to) = (text(path), to.map(text));
        NativeAction { path, action: kind.name(), to, reason, is_undone, error }
    }
}

#[napi]
impl Port {
    /// Recovers a directory, or a file of which nothing but temp files has to change. Of a file that
    /// has to change itself the value has `needsLock`, unless `withoutLock` says that no lock is
    /// wanted.
    #[napi]
    pub fn recover(
        &self,
        id: f64,
        path: NativePath,
        options: Option<RecoveryOptions>,
        without_lock: bool,
        control: Option<&Control>,
    ) {
        let request = request(path, options);
        let answer = self.recovered(id, request.path.clone());
        let outcomes = Arc::clone(&self.environment.outcomes);
        let start = move || outcomes.start(false);
        run(pool(), request, without_lock, control_of(control), start, answer);
    }

    /// Recovers a file whose lock the caller holds, in order with the writes to it. The lock with the
    /// number `lock`, if there is one, is released when that is done.
    #[napi]
    pub fn recover_in_order(
        &self,
        id: f64,
        path: NativePath,
        options: Option<RecoveryOptions>,
        lock: Option<u32>,
        control: Option<&Control>,
    ) {
        let request = request(path, options);
        let lock = lock.and_then(|number| self.environment.locks.take(number));
        let answer = self.recovered(id, request.path.clone());
        let outcomes = Arc::clone(&self.environment.outcomes);
        let start = move || outcomes.start(false);
        run_exclusively(pool(), request, lock, control_of(control), start, answer);
    }
}

impl Port {
    fn recovered(
        &self,
        id: f64,
        path: PathBuf,
    ) -> impl FnOnce(Result<RecoveryOutcome, ErrorKind>) + Send + 'static {
        let environment = Arc::clone(&self.environment);
        move |outcome| {
            let value = outcome.map(|outcome| {
                let (actions, needs_lock) = match outcome {
                    RecoveryOutcome::Done(actions) => (actions, false),
                    RecoveryOutcome::NeedsLock(actions) => (actions, true),
                };
                let actions = actions.into_iter().map(NativeAction::from).collect();
                RecoveryReport { actions, needs_lock }
            });
            environment.answer(id, Operation::Recover, &path, value);
        }
    }
}

fn request(path: NativePath, options: Option<RecoveryOptions>) -> RecoveryRequest {
    let options = options.map_or_else(Options::default, Options::from);
    RecoveryRequest { path: PathBuf::from(path), options, now: SystemTime::now() }
}

fn control_of(control: Option<&Control>) -> Arc<crate::write::Control> {
    control.map_or_else(Arc::default, |given| Arc::clone(&given.control))
}

/// Whether directories are swept when this process first writes to them.
#[napi]
pub fn sweep_on_first_write(is_wanted: bool) {
    sweep_on_first_write::sweep_on_first_write(is_wanted);
}
