//! `updateJsonFile`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use napi_derive::napi;

use super::environment::{Environment, Port, failed};
use super::js_types::{self, NativeBadJson, NativeError, WriteOptions};
use super::lock::LockWaiter;
use super::lock_handles::HeldNumbers;
use super::path_text::NativePath;
use crate::error::{ErrorKind, Operation};
use crate::fs::os::Os;
use crate::json_update::{self, UpdateRequest, UpdateStart};
use crate::lock::{LockKind, LockRequest};
use crate::threads::{pool, task};
use crate::write::Options;

/// What the first trip of an update brings.
#[napi(object, object_from_js = false)]
pub struct JsonUpdateStart {
    /// The number of the lock, if one was asked for.
    pub lock: Option<u32>,
    /// Set when the lock is borrowed from the caller.
    pub is_borrowed: Option<bool>,
    /// The file's text, if there is such a file.
    pub text: Option<String>,
    /// Set when a sync would not make the file durable.
    pub sync_failed: Option<bool>,
}

/// The text of a file, if there is one.
#[napi(object, object_from_js = false)]
pub struct FileText {
    pub text: Option<String>,
}

#[napi]
impl Port {
    /// Takes the lock, or borrows it from the caller, unless `timeout` is missing, and reads. Of the
    /// options those count that say which file is meant. `only_if_there`: if there is no such file,
    /// and no process has the lock, there is no text and no lock.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn begin_json_update(
        &self,
        id: f64,
        path: NativePath,
        options: Option<WriteOptions>,
        timeout: Option<f64>,
        held: Option<HeldNumbers>,
        only_if_there: Option<bool>,
        under: Option<u32>,
    ) -> Option<LockWaiter> {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let options = options.map_or_else(Options::default, Options::from);
        let begin = UpdateRequest {
            path: path.clone(),
            follow_symlinks: options.follow_symlinks,
            only_if_there: only_if_there.unwrap_or(false),
            make_dirs: options.make_dirs.then_some(options.durability),
            lock: timeout.map(|timeout| LockRequest {
                path: path.clone(),
                kind: LockKind::Write,
                timeout: js_types::timeout(timeout),
                held: environment.locks.lend(held),
                before: None,
            }),
            only: under.and_then(|number| {
                environment.locks.look(&[number], |_, lock| lock.guarded()).pop()
            }),
        };
        let answer = move |started| answer_started(&environment, id, &path, started);
        json_update::begin(pool(), begin, answer).map(|waiter| LockWaiter { waiter })
    }

    /// Takes the lock of an update again, whose write has failed, after so many milliseconds, and
    /// reads anew.
    #[napi]
    pub fn resume_json_update(
        &self,
        id: f64,
        path: NativePath,
        options: Option<WriteOptions>,
        lock: u32,
        delay: f64,
    ) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let Some(guard) = environment.locks.take(lock) else {
            // The environment has ended.
            return environment.fail(id, Operation::UpdateJson, &path, ErrorKind::Cancelled);
        };
        let options = options.map_or_else(Options::default, Options::from);
        let target = path.clone();
        let answer = move |started| answer_started(&environment, id, &path, started);
        let (delay, follow) =
            (js_types::timeout(delay).unwrap_or(Duration::MAX), options.follow_symlinks);
        json_update::resume(pool(), guard, delay, target, follow, answer);
    }

    /// Makes a file that stays as it is as durable as asked, and releases the lock.
    #[napi]
    pub fn sync_unchanged(
        &self,
        id: f64,
        path: NativePath,
        options: Option<WriteOptions>,
        lock: Option<u32>,
    ) {
        let environment = Arc::clone(&self.environment);
        let lock = lock.and_then(|number| environment.locks.take(number));
        let path = PathBuf::from(path);
        let target = path.clone();
        let options = options.map_or_else(Options::default, Options::from);
        let sync = move || {
            let synced = json_update::sync_unchanged(
                &Os,
                &target,
                options.follow_symlinks,
                options.durability,
            );
            drop(lock);
            Ok(synced?)
        };
        task::run(pool(), sync, move |outcome| {
            environment.done(id, Operation::UpdateJson, &path, outcome);
        });
    }
}

/// What the first part of an update on the calling thread brings: one of the two.
#[napi(object, object_from_js = false)]
pub struct JsonUpdateStartNow {
    pub started: Option<JsonUpdateStart>,
    pub error: Option<NativeError>,
}

/// What a read on the calling thread brings: one of the two, or nothing where there is no file.
#[napi(object, object_from_js = false)]
pub struct FileTextNow {
    pub text: Option<String>,
    pub error: Option<NativeError>,
}

#[napi]
impl Port {
    /// Takes the lock and reads as [`Port::begin_json_update`] does, on the calling thread.
    #[napi]
    pub fn begin_json_update_now(
        &self,
        path: NativePath,
        options: Option<WriteOptions>,
        timeout: Option<f64>,
        held: Option<HeldNumbers>,
        only_if_there: bool,
    ) -> JsonUpdateStartNow {
        let environment = &self.environment;
        let path = PathBuf::from(path);
        let options = options.map_or_else(Options::default, Options::from);
        let begin = UpdateRequest {
            path: path.clone(),
            follow_symlinks: options.follow_symlinks,
            only_if_there,
            make_dirs: options.make_dirs.then_some(options.durability),
            lock: timeout.map(|timeout| LockRequest {
                path: path.clone(),
                kind: LockKind::Write,
                timeout: js_types::timeout(timeout),
                held: environment.locks.lend(held),
                before: None,
            }),
            only: None,
        };
        let begun = task::catch_panic(|| json_update::begin_here(pool(), begin));
        let started = begun.and_then(|started| match kept(environment, started) {
            Some((started, _)) => Ok(started),
            None => Err(ErrorKind::Cancelled),
        });
        match started {
            Ok(started) => JsonUpdateStartNow { started: Some(started), error: None },
            Err(kind) => {
                let error = Some(failed(Operation::UpdateJson, &path, kind).into());
                JsonUpdateStartNow { started: None, error }
            }
        }
    }

    /// As [`Port::sync_unchanged`], on the calling thread.
    #[napi]
    pub fn sync_unchanged_now(
        &self,
        path: NativePath,
        options: Option<WriteOptions>,
        lock: Option<u32>,
    ) -> Option<NativeError> {
        let _lock = lock.and_then(|number| self.environment.locks.take(number));
        let path = PathBuf::from(path);
        let options = options.map_or_else(Options::default, Options::from);
        let (follow, durability) = (options.follow_symlinks, options.durability);
        let sync = || Ok(json_update::sync_unchanged(&Os, &path, follow, durability)?);
        let synced = task::catch_panic(sync);
        synced.err().map(|kind| failed(Operation::UpdateJson, &path, kind).into())
    }
}

/// Keeps the lock of an update that has begun. `None` when the environment has ended.
fn kept(
    environment: &Environment,
    UpdateStart { lock, text, sync_failed }: UpdateStart,
) -> Option<(JsonUpdateStart, Option<u32>)> {
    let kept = match lock.map(|guard| environment.keep_lock(guard)) {
        Some(None) => return None,
        kept => kept.flatten(),
    };
    let lock = kept.as_ref().map(|kept| kept.lock);
    let is_borrowed = kept.and_then(|kept| kept.is_borrowed);
    let sync_failed = sync_failed.then_some(true);
    Some((JsonUpdateStart { lock, is_borrowed, text, sync_failed }, lock))
}

/// Sends what the first trip of an update has brought.
fn answer_started(
    environment: &Environment,
    id: f64,
    path: &Path,
    started: Result<UpdateStart, ErrorKind>,
) {
    let value = match started {
        Ok(started) => match kept(environment, started) {
            Some(value) => Ok(value),
            None => return,
        },
        Err(kind) => Err(kind),
    };
    environment.answer_with_lock(id, Operation::UpdateJson, path, value);
}

#[napi]
impl Port {
    /// Reads a file as text, if there is one. What is not UTF-8 is replaced, as Node does.
    #[napi]
    pub fn read_text(&self, id: f64, path: NativePath) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let target = path.clone();
        let read = move || Ok(FileText { text: json_update::read_lossy(&Os, &target)? });
        let operation = Operation::ReadFile;
        task::run(pool(), read, move |value| environment.answer(id, operation, &path, value));
    }
}

#[napi]
impl Port {
    /// Reads a JSON file as text, if there is one, less its byte order mark. What is not UTF-8 is an
    /// error.
    #[napi]
    pub fn read_json_text(&self, id: f64, path: NativePath, follow_symlinks: bool) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let target = path.clone();
        let read = move || Ok(FileText { text: json_update::read(&Os, &target, follow_symlinks)? });
        let operation = Operation::ReadJson;
        task::run(pool(), read, move |value| environment.answer(id, operation, &path, value));
    }
}

/// The same on the calling thread.
#[napi]
pub fn read_json_text_now(path: NativePath, follow_symlinks: bool) -> FileTextNow {
    let path = PathBuf::from(path);
    match task::catch_panic(|| json_update::read(&Os, &path, follow_symlinks)) {
        Ok(text) => FileTextNow { text, error: None },
        Err(kind) => {
            FileTextNow { text: None, error: Some(failed(Operation::ReadJson, &path, kind).into()) }
        }
    }
}

/// Where a text stops being JSON; nothing if it does not.
#[napi]
pub fn locate_json_error(text: String) -> Option<NativeBadJson> {
    json_update::locate(&text).map(NativeBadJson::from)
}
