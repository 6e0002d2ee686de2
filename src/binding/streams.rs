//! `createAtomicWriteStream`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use napi::bindgen_prelude::BufferSlice;
use napi_derive::napi;

use super::backup::Watcher;
use super::environment::{Environment, Port};
use super::handles::HandleTable;
use super::js_types::{Message, NativeValue, Report, WriteOptions};
use super::write::{Control, payload};
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::os::Os;
use crate::payload::Payload;
use crate::threads::{pool, task};
use crate::write::{self, AttemptError, Observer, Options, Stream};

/// The streams that are open in one environment. They end without a trace at the latest when it
/// does.
pub(super) type Streams = HandleTable<Stream<Os>>;

/// What an operation on a stream needs.
struct Call {
    environment: Arc<Environment>,
    id: f64,
    path: PathBuf,
    control: Arc<write::Control>,
    watcher: Option<Watcher>,
}

impl Call {
    fn observer(&self) -> Option<&dyn Observer> {
        self.watcher.as_ref().map(|watcher| watcher as &dyn Observer)
    }

    /// Does the operation on holdfast's threads, if the environment is still there.
    fn run(
        self,
        borrows_memory: bool,
        work: impl FnOnce(&Call) -> Result<NativeValue, AttemptError> + Send + 'static,
    ) {
        let (environment, id, path) = (Arc::clone(&self.environment), self.id, self.path.clone());
        let work = move || match self.environment.outcomes.start(borrows_memory) {
            Some(_started) => Ok(work(&self)),
            None => Err(ErrorKind::Cancelled),
        };
        task::run(pool(), work, move |outcome| match outcome {
            Ok(outcome) => answer(&environment, id, &path, outcome),
            Err(kind) => answer(&environment, id, &path, Err(kind.into())),
        });
    }
}

fn answer(
    environment: &Environment,
    id: f64,
    path: &Path,
    outcome: Result<NativeValue, AttemptError>,
) {
    environment.outcomes.push(Message::told(match outcome {
        Ok(value) => Report::succeeded(id, value),
        Err(AttemptError { kind, committed }) => {
            let (operation, path) = (Operation::AtomicWrite, path.to_owned());
            let error = Error { kind, operation, path, attempts: 1, exhausted: false, committed };
            Report::failed(id, error)
        }
    }));
}

#[napi]
impl Port {
    fn call(&self, id: f64, path: String, control: &Control, is_observed: bool) -> Call {
        let environment = Arc::clone(&self.environment);
        let outcomes = Arc::clone(&environment.outcomes);
        Call {
            environment,
            id,
            path: PathBuf::from(path),
            control: Arc::clone(&control.control),
            watcher: is_observed.then_some(Watcher { id, outcomes }),
        }
    }

    /// Makes the temp file of a stream. The value is the stream's number.
    #[napi]
    pub fn open_stream(
        &self,
        id: f64,
        path: String,
        options: Option<WriteOptions>,
        control: &Control,
        is_observed: bool,
    ) {
        let number = self.environment.streams.number();
        let options = options.map_or_else(Options::default, Options::from);
        self.call(id, path, control, is_observed).run(false, move |call| {
            let (path, control) = (call.path.clone(), &call.control);
            let stream = Stream::open(Os, path, options, control, call.observer())?;
            match call.environment.streams.put(number, stream) {
                true => Ok(NativeValue { stream: Some(number.into()), ..NativeValue::default() }),
                false => Err(ErrorKind::Cancelled.into()),
            }
        });
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
        self.call(id, path, control, is_observed).run(borrows, move |call| {
            let streams = &call.environment.streams;
            let mut stream = streams.take(number).ok_or(ErrorKind::Cancelled)?;
            stream.write(&payload, &call.control, call.observer())?;
            streams.put(number, stream);
            Ok(NativeValue::default())
        });
    }

    /// Makes what has been written the target, in its turn among the other writes to it, and
    /// gives the lock with the number `hold` back, if there is one.
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
        hold: Option<u32>,
    ) {
        let options = options.map_or_else(Options::default, Options::from);
        let hold = hold.and_then(|number| self.environment.holds.take(number));
        let call = self.call(id, path, control, is_observed);
        // If the turn never comes, because no thread can be had for it, the answer is given
        // when it is dropped.
        let (environment, path) = (Arc::clone(&call.environment), call.path.clone());
        let reply = task::OnceCallback::new(move |outcome: Result<_, ErrorKind>| {
            let outcome = outcome.unwrap_or_else(|kind| Err(AttemptError::from(kind)));
            answer(&environment, id, &path, outcome);
        });
        crate::engine::engine().run_exclusively(call.path.clone(), options, move |lane| {
            let started = call.environment.outcomes.start(false);
            let stream = call.environment.streams.take(number).filter(|_| started.is_some());
            let outcome = task::catch_panic(|| {
                let stream = match (&lane, stream) {
                    (Ok(_), Some(stream)) => stream,
                    (Err(kind), _) => return Err(kind.duplicate().into()),
                    (_, None) => return Err(ErrorKind::Cancelled.into()),
                };
                stream.commit(&call.control, call.observer()).map(|()| NativeValue::default())
            });
            // Whoever is told of the outcome finds the lock free.
            drop((hold, lane, started));
            reply.call(Ok(outcome));
        });
    }

    /// Ends a stream without a trace.
    #[napi]
    pub fn discard_stream(
        &self,
        id: f64,
        path: String,
        number: u32,
        control: &Control,
        is_observed: bool,
    ) {
        self.call(id, path, control, is_observed).run(false, move |call| {
            if let Some(stream) = call.environment.streams.take(number) {
                stream.remove(call.observer());
            }
            Ok(NativeValue::default())
        });
    }
}
