//! `createAtomicWriteStream`.

use std::path::PathBuf;
use std::sync::Arc;

use napi::bindgen_prelude::BufferSlice;
use napi_derive::napi;

use super::environment::{Environment, EventSender, Port};
use super::js_types::WriteOptions;
use super::write::{Control, payload};
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::os::Os;
use crate::payload::Payload;
use crate::threads::{pool, task};
use crate::write::{self, AttemptError, Observer, Options, Stream};

/// One operation on a stream.
struct StreamCall {
    environment: Arc<Environment>,
    id: f64,
    path: PathBuf,
    control: Arc<write::Control>,
    events: Option<EventSender>,
}

impl StreamCall {
    fn observer(&self) -> Option<&dyn Observer> {
        self.events.as_ref().map(|events| events as &dyn Observer)
    }

    /// Runs the operation on holdfast's threads, if the environment is still there.
    fn run(
        self,
        borrows_memory: bool,
        work: impl FnOnce(&StreamCall) -> Result<(), AttemptError> + Send + 'static,
    ) {
        let callback = self.callback();
        let work = move || match self.environment.outcomes.start(borrows_memory) {
            Some(_running) => Ok(work(&self)),
            None => Err(ErrorKind::Cancelled),
        };
        task::run(pool(), work, callback);
    }

    /// Sends the outcome.
    fn callback(
        &self,
    ) -> impl FnOnce(Result<Result<(), AttemptError>, ErrorKind>) + Send + 'static {
        let (environment, id, path) = (Arc::clone(&self.environment), self.id, self.path.clone());
        move |outcome| {
            let outcome = outcome.unwrap_or_else(|kind| Err(AttemptError::from(kind)));
            let outcome = outcome.map_err(|AttemptError { kind, committed }| Error {
                kind,
                operation: Operation::AtomicWrite,
                path,
                attempts: 1,
                exhausted: false,
                committed,
            });
            environment.complete_without_value(id, outcome);
        }
    }
}

#[napi]
impl Port {
    fn stream_call(
        &self,
        id: f64,
        path: String,
        control: &Control,
        is_observed: bool,
    ) -> StreamCall {
        let environment = Arc::clone(&self.environment);
        StreamCall {
            id,
            path: PathBuf::from(path),
            control: Arc::clone(&control.control),
            events: is_observed.then(|| EventSender::new(id, &environment)),
            environment,
        }
    }

    /// Makes the temp file of a stream, whose number is returned at once.
    #[napi]
    pub fn open_stream(
        &self,
        id: f64,
        path: String,
        options: Option<WriteOptions>,
        control: &Control,
        is_observed: bool,
    ) -> u32 {
        let number = self.environment.streams.number();
        let options = options.map_or_else(Options::default, Options::from);
        self.stream_call(id, path, control, is_observed).run(false, move |call| {
            let (path, control) = (call.path.clone(), &call.control);
            let stream = Stream::open(Os, path, options, control, call.observer())?;
            match call.environment.streams.put(number, stream) {
                true => Ok(()),
                false => Err(ErrorKind::Cancelled.into()),
            }
        });
        number
    }

    /// Appends bytes to a stream. JavaScript keeps `data` alive until the outcome arrives.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn write_stream(
        &self,
        id: f64,
        path: String,
        number: u32,
        #[napi(ts_arg_type = "Uint8Array")] data: BufferSlice<'_>,
        control: &Control,
        is_observed: bool,
    ) {
        let payload = payload(&data);
        let borrows = matches!(payload, Payload::Borrowed { .. });
        self.stream_call(id, path, control, is_observed).run(borrows, move |call| {
            let streams = &call.environment.streams;
            let mut stream = streams.take(number).ok_or(ErrorKind::Cancelled)?;
            stream.write(&payload, &call.control, call.observer())?;
            streams.put(number, stream);
            Ok(())
        });
    }

    /// Makes what has been written the target, in order with the other writes to it, and releases
    /// the lock with the number `lock`, if there is one.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn commit_stream(
        &self,
        id: f64,
        path: String,
        number: u32,
        options: Option<WriteOptions>,
        control: &Control,
        is_observed: bool,
        lock: Option<u32>,
    ) {
        let options = options.map_or_else(Options::default, Options::from);
        let lock = lock.and_then(|number| self.environment.locks.take(number));
        let call = self.stream_call(id, path, control, is_observed);
        // If the system refuses a thread, the callback is called when it is dropped.
        let callback = task::OnceCallback::new(call.callback());
        crate::engine::engine().run_exclusively(call.path.clone(), options, move |queue_guard| {
            let running = call.environment.outcomes.start(false);
            let stream = call.environment.streams.take(number).filter(|_| running.is_some());
            let outcome = task::catch_panic(|| {
                let mut stream = match (&queue_guard, stream) {
                    (Ok(_), Some(stream)) => stream,
                    (Err(kind), _) => return Err(kind.duplicate().into()),
                    (_, None) => return Err(ErrorKind::Cancelled.into()),
                };
                if let Some(lock) = &lock {
                    stream.restrict_to(lock.guarded());
                }
                stream.commit(&call.control, call.observer())
            });
            // The caller that gets the outcome finds the lock free.
            drop((lock, queue_guard, running));
            callback.call(Ok(outcome));
        });
    }

    /// Removes the temp file of a stream.
    #[napi]
    pub fn discard_stream(
        &self,
        id: f64,
        path: String,
        number: u32,
        control: &Control,
        is_observed: bool,
    ) {
        self.stream_call(id, path, control, is_observed).run(false, move |call| {
            if let Some(stream) = call.environment.streams.take(number) {
                stream.remove(call.observer());
            }
            Ok(())
        });
    }
}
