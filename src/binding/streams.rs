//! `createAtomicWriteStream`.

use std::path::PathBuf;
use std::sync::Arc;

use napi::bindgen_prelude::BufferSlice;
use napi_derive::napi;

use super::environment::{Environment, EventSender, Port};
use super::handles::OpenStream;
use super::js_types::WriteOptions;
use super::lock_handles::HeldNumbers;
use super::path_text::NativePath;
use super::write::{Control, payload};
use crate::descriptors::{self, Need, Permit, is_short, patience, too_many};
use crate::error::{Error, ErrorKind, Failure, Operation};
use crate::fs::os::Os;
use crate::payload::Payload;
use crate::threads::{pool, task};
use crate::write::{self, AttemptError, Observer, Options, Stream, is_retried};

/// A directory and a temp file.
const FILES_OF_A_STREAM: usize = 2;

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

    /// Opens the stream, unless the environment has ended. The permit, if that fails.
    fn open(
        &self,
        number: u32,
        options: &Options,
        permit: Permit,
    ) -> (Result<OpenedStream, AttemptError>, Option<Permit>) {
        let cancelled = || (Err(ErrorKind::Cancelled.into()), None);
        let Some(_running) = self.environment.outcomes.start(false) else { return cancelled() };
        let (path, options) = (self.path.clone(), options.clone());
        let opened =
            task::catch_panic(|| Stream::open(Os, path, options, &self.control, self.observer()));
        match opened {
            Ok(stream) => {
                let temp_path = stream.temp_path().unwrap_or_default();
                let opened = OpenedStream { temp_path: temp_path.to_owned().into() };
                match self.environment.streams.put(number, OpenStream { stream, permit }) {
                    true => (Ok(opened), None),
                    false => cancelled(),
                }
            }
            Err(error) => (Err(error), Some(permit)),
        }
    }

    /// Why it is not opened, after it has waited for its permit in vain.
    fn not_opened(&self) -> ErrorKind {
        match self.control.is_cancelled() {
            true => ErrorKind::Cancelled,
            false => Failure::at("open", &self.path, too_many()).into(),
        }
    }

    /// Sends the outcome.
    fn callback(
        &self,
    ) -> impl FnOnce(Result<Result<(), AttemptError>, ErrorKind>) + Send + 'static {
        let (environment, id, path) = (Arc::clone(&self.environment), self.id, self.path.clone());
        move |outcome| environment.complete_without_value(id, answer(outcome, path))
    }

    /// Sends the outcome of the opening.
    fn opened(
        &self,
    ) -> impl FnOnce(Result<Result<OpenedStream, AttemptError>, ErrorKind>) + Send + 'static {
        let (environment, id, path) = (Arc::clone(&self.environment), self.id, self.path.clone());
        move |outcome| environment.complete(id, answer(outcome, path))
    }
}

/// A stream that has been opened.
#[napi(object, object_from_js = false)]
pub struct OpenedStream {
    /// Where its temp file is.
    pub temp_path: NativePath,
}

fn answer<T>(
    outcome: Result<Result<T, AttemptError>, ErrorKind>,
    path: PathBuf,
) -> Result<T, Error> {
    let outcome = outcome.unwrap_or_else(|kind| Err(AttemptError::from(kind)));
    outcome.map_err(|AttemptError { kind, committed }| Error {
        // A stream makes no other attempt, but what writes through one may.
        exhausted: !committed && matches!(&kind, ErrorKind::System(failure) if is_retried(failure)),
        kind,
        operation: Operation::AtomicWrite,
        path,
        attempts: 1,
        committed,
    })
}

#[napi]
impl Port {
    fn stream_call(
        &self,
        id: f64,
        path: NativePath,
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

    /// Makes the temp file of a stream, whose number is returned at once. `held` are the locks that the
    /// caller holds and the stream's own.
    #[napi]
    pub fn open_stream(
        &self,
        id: f64,
        path: NativePath,
        options: Option<WriteOptions>,
        control: &Control,
        is_observed: bool,
        held: Option<HeldNumbers>,
    ) -> u32 {
        let number = self.environment.streams.number();
        let options = options.map_or_else(Options::default, Options::from);
        let need = Need::new(FILES_OF_A_STREAM, self.environment.locks.held(held).depth());
        let call = self.stream_call(id, path, control, is_observed);
        let control = Arc::clone(&call.control);
        let has_given_up = move |stall| control.is_cancelled() || stall >= patience(None);
        // If the system refuses a thread, the callback is called when it is dropped.
        let mut opening = Some((task::OnceCallback::new(call.opened()), call));
        let open = move |permit: Option<Permit>| {
            let (callback, call) = opening.take()?;
            let (outcome, permit) = match permit {
                Some(permit) => call.open(number, &options, permit),
                None => (Err(call.not_opened().into()), None),
            };
            if permit.is_some() && outcome.as_ref().is_err_and(|error| is_short(&error.kind)) {
                opening = Some((callback, call));
                return permit;
            }
            callback.call(Ok(outcome));
            None
        };
        let run = move || descriptors::run(need, has_given_up, Box::new(open));
        let _ = pool().submit(Box::new(run));
        number
    }

    /// Appends bytes to a stream. JavaScript keeps `data` alive until the outcome arrives.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn write_stream(
        &self,
        id: f64,
        path: NativePath,
        number: u32,
        #[napi(ts_arg_type = "Uint8Array")] data: BufferSlice<'_>,
        control: &Control,
        is_observed: bool,
    ) {
        let payload = payload(&data);
        let borrows = matches!(payload, Payload::Borrowed { .. });
        self.stream_call(id, path, control, is_observed).run(borrows, move |call| {
            let streams = &call.environment.streams;
            let mut open = streams.take(number).ok_or(ErrorKind::Cancelled)?;
            open.stream.write(&payload, &call.control, call.observer())?;
            streams.put(number, open);
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
        path: NativePath,
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
            let open = call.environment.streams.take(number).filter(|_| running.is_some());
            let outcome = task::catch_panic(|| {
                let OpenStream { mut stream, permit: _permit } = match (&queue_guard, open) {
                    (Ok(_), Some(open)) => open,
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
        path: NativePath,
        number: u32,
        control: &Control,
        is_observed: bool,
    ) {
        self.stream_call(id, path, control, is_observed).run(false, move |call| {
            if let Some(OpenStream { stream, permit: _permit }) =
                call.environment.streams.take(number)
            {
                stream.remove(call.observer());
            }
            Ok(())
        });
    }
}
