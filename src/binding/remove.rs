//! `removeFile`.

use std::path::PathBuf;
use std::sync::Arc;

use napi_derive::napi;

use super::environment::{Port, failed};
use super::js_types::WriteOptions;
use super::path_text::NativePath;
use crate::engine::engine;
use crate::error::{Error, Operation};
use crate::fs::os::Os;
use crate::threads::task;
use crate::write::{self, Options};

#[napi]
impl Port {
    /// Removes a file, after the earlier writes to it, and releases the lock. Of the options those
    /// count that say which file is meant and how durable the removal is to be.
    #[napi]
    pub fn remove_file(
        &self,
        id: f64,
        path: NativePath,
        options: Option<WriteOptions>,
        lock: Option<u32>,
    ) {
        let environment = Arc::clone(&self.environment);
        let lock = lock.and_then(|number| environment.locks.take(number));
        let path = PathBuf::from(path);
        let options = options.map_or_else(Options::default, Options::from);
        let target = path.clone();
        let (follow, durability) = (options.follow_symlinks, options.durability);
        engine().run_exclusively(path.clone(), options, move |granted| {
            let only = lock.as_ref().map(|lock| lock.guarded());
            let outcome = granted
                .map_err(|kind| failed(Operation::RemoveFile, &path, kind))
                .and_then(|_queue| {
                    let remove =
                        || Ok(write::remove_file(&Os, &target, follow, durability, only.as_ref()));
                    let removed = task::catch_panic(remove)
                        .map_err(|kind| failed(Operation::RemoveFile, &path, kind))?;
                    removed.map_err(|error| Error {
                        committed: error.committed,
                        ..failed(Operation::RemoveFile, &path, error.kind)
                    })
                });
            // A caller that has its answer finds the lock free.
            drop(lock);
            environment.complete_without_value(id, outcome);
        });
    }
}
