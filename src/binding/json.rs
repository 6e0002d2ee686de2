//! `updateJsonFile`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use napi_derive::napi;

use super::environment::Port;
use super::js_types::{self, Message, NativeValue, WriteOptions};
use super::lock::LockWaiter;
use crate::error::{ErrorKind, Operation};
use crate::fs::os::Os;
use crate::json_update::{self, UpdateRequest, UpdateStart};
use crate::lock::{LockKind, LockRequest};
use crate::threads::{pool, task};
use crate::write::Options;

#[napi]
impl Port {
    /// Locks, unless `timeout` is missing, and reads. Of the options those count that say
    /// which file is meant.
    #[napi]
    pub fn begin_json_update(
        &self,
        id: f64,
        path: String,
        options: Option<WriteOptions>,
        timeout: Option<f64>,
        inside: Vec<u32>,
    ) -> Option<LockWaiter> {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let options = options.map_or_else(Options::default, Options::from);
        let begin = UpdateRequest {
            path: path.clone(),
            follow_symlinks: options.follow_symlinks,
            make_dirs: options.make_dirs.then_some(options.durability),
            lock: timeout.map(|timeout| LockRequest {
                path: path.clone(),
                kind: LockKind::Write,
                timeout: Duration::try_from_secs_f64(timeout / 1000.0).ok(),
                inside: environment.holds.keys(&inside),
                before: None,
            }),
        };
        let answer = move |begun: Result<UpdateStart, ErrorKind>| {
            let value = match begun {
                Ok(UpdateStart { hold, text, sync_failed }) => {
                    let is_locked = hold.is_some();
                    let hold = hold.and_then(|hold| environment.holds.keep(hold));
                    if is_locked && hold.is_none() {
                        return;
                    }
                    Ok(NativeValue {
                        hold: hold.map(f64::from),
                        text,
                        sync_failed: sync_failed.then_some(true),
                        ..NativeValue::default()
                    })
                }
                Err(kind) => Err(kind),
            };
            environment.answer(id, Operation::UpdateJson, &path, value);
        };
        json_update::begin(pool(), begin, answer).map(|waiter| LockWaiter { waiter })
    }

    /// Makes a file that stays as it is as durable as asked, and gives the lock back.
    #[napi]
    pub fn sync_unchanged(
        &self,
        id: f64,
        path: String,
        options: Option<WriteOptions>,
        hold: Option<u32>,
    ) {
        let environment = Arc::clone(&self.environment);
        let hold = hold.and_then(|number| environment.holds.take(number));
        let path = PathBuf::from(path);
        let place = path.clone();
        let options = options.map_or_else(Options::default, Options::from);
        let sync = move || {
            let synced = json_update::sync_unchanged(
                &Os,
                &place,
                options.follow_symlinks,
                options.durability,
            );
            drop(hold);
            Ok(synced?)
        };
        task::run(pool(), sync, move |outcome| match outcome {
            Ok(()) => environment.outcomes.push(Message::Done(id)),
            Err(kind) => environment.answer(id, Operation::UpdateJson, &path, Err(kind)),
        });
    }
}

#[napi]
impl Port {
    /// Reads a file as text, if there is one. What is not UTF-8 is replaced, as Node does.
    #[napi]
    pub fn read_text(&self, id: f64, path: String) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let place = path.clone();
        let read = move || {
            let bytes = json_update::read_bytes(&Os, &place, true)?;
            let text = bytes.map(|bytes| match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            });
            Ok(NativeValue { text, ..NativeValue::default() })
        };
        let operation = Operation::ReadFile;
        task::run(pool(), read, move |value| environment.answer(id, operation, &path, value));
    }
}

/// Where a text stops being JSON; nothing if it does not.
#[napi]
pub fn locate_json_error(text: String) -> Option<js_types::NativeBadJson> {
    json_update::locate(&text).map(js_types::NativeBadJson::from)
}
