//! The engine: takes writes, and runs them on holdfast's threads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::dispatch::{Dispatcher, FileQueueGuard, QueuedJob};
use super::queued_write::{QueuedWrite, WriteCaller};
use super::running_write::RunningWrites;
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::FileSystem;
use crate::fs::os::Os;
use crate::metrics::METRICS;
use crate::threads::{Pool, pool, task};
use crate::write::{Control, Observer, Options, WriteRequest, run};

/// The engine of this process, shared by all its JavaScript environments.
pub fn engine() -> &'static Engine<Os> {
    static ENGINE: OnceLock<Engine<Os>> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(Os, pool().clone()))
}

/// Runs writes on a file system.
pub struct Engine<F: FileSystem> {
    dispatcher: Dispatcher<F>,
    writes: Arc<RunningWrites<F>>,
}

impl<F: FileSystem> Clone for Engine<F> {
    fn clone(&self) -> Engine<F> {
        Engine { dispatcher: self.dispatcher.clone(), writes: Arc::clone(&self.writes) }
    }
}

impl<F: FileSystem> Engine<F> {
    /// An engine of its own: the writes of different engines are not ordered.
    pub fn new(fs: F, pool: Pool) -> Engine<F> {
        let writes = Arc::new(RunningWrites::new(&fs));
        let starting = Arc::clone(&writes);
        let start_writes = Box::new(move |started| Arc::clone(&starting).start(started));
        Engine { dispatcher: Dispatcher::new(fs, pool, start_writes), writes }
    }

    /// Runs a write after the earlier calls for its file and reports its outcome to `caller`,
    /// exactly once. With a `control` it can be cancelled. One that cannot, and `can_merge`, may be
    /// replaced by a newer one with equal options, whose outcome is then its own.
    pub fn submit(
        &self,
        request: WriteRequest,
        control: Option<Arc<Control>>,
        can_merge: bool,
        caller: Box<dyn WriteCaller>,
    ) {
        let (path, options) = (request.path.clone(), request.options.clone());
        let can_merge = can_merge && control.is_none();
        let write =
            QueuedWrite::new(request, control.clone().unwrap_or_default(), can_merge, caller);
        let Some(control) = control else {
            return self.dispatcher.enqueue(path, options, QueuedJob::Write(write));
        };
        self.dispatcher.enqueue(path.clone(), options, QueuedJob::Write(write));
        let engine = self.clone();
        control.on_cancel(Box::new(move || engine.end_cancelled(&path)));
    }

    /// Calls `job` when all earlier calls for the file at `path` are done. Later ones wait until
    /// the guard is dropped. If it cannot be found out which file that is, `job` is told why.
    pub fn run_exclusively(
        &self,
        path: PathBuf,
        options: Options,
        job: impl FnOnce(Result<FileQueueGuard<F>, ErrorKind>) + Send + 'static,
    ) {
        self.dispatcher.enqueue(path, options, QueuedJob::Exclusive(Box::new(job)));
    }

    /// Runs a write on the calling thread. It takes the place of those that wait for the same
    /// file, and comes after the one that is running there: no older content lands after it. What
    /// `control` keeps is given back to other processes between attempts.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub fn write_now(
        &self,
        mut request: WriteRequest,
        control: &Control,
        observer: Option<&dyn Observer>,
    ) -> Result<(), Error> {
        let (begun, durability) = (Instant::now(), request.options.durability);
        let failed = |kind| Error {
            kind,
            operation: Operation::AtomicWrite,
            path: request.path.clone(),
            attempts: 1,
            exhausted: false,
            committed: false,
        };
        let take_paused = |key: &_| self.writes.take_paused(key);
        let (guard, superseded) = self
            .dispatcher
            .supersede(&request.path, &request.options, take_paused)
            .map_err(failed)?;
        // It answers for them, so it has to be as durable as they were to be.
        let levels = superseded.iter().map(|write| write.request.options.durability);
        request.options.durability = levels.fold(request.options.durability, Ord::max);
        // A panic must not come to JavaScript, whose thread this is.
        let write = || Ok(run(self.dispatcher.fs(), &request, control, observer));
        let outcome = task::catch_panic(write).unwrap_or_else(|kind| Err(failed(kind)));
        for write in superseded {
            write.merged();
            write.answer_like(&outcome);
        }
        drop(guard);
        control.release_kept();
        let answered = outcome.as_ref().map(drop).map_err(|error| &error.kind);
        METRICS.writes.answered(begun, durability, answered);
        outcome
    }

    /// Lets a write that has been cancelled end where it is waiting.
    fn end_cancelled(&self, path: &Path) {
        let (path, writes) = (path.to_owned(), Arc::clone(&self.writes));
        self.dispatcher.run_on_thread(move |dispatcher| {
            for mut write in dispatcher.take_cancelled(&path) {
                write.refuse(ErrorKind::Cancelled, 0);
            }
            writes.end_cancelled();
        });
    }
}
