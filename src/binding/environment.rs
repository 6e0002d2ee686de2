//! The connection between one JavaScript environment (the main thread, or a worker thread) and
//! holdfast's threads. It is generic over the values that operations deliver, and knows no
//! capability.
//!
//! The only file of the binding with `unsafe` code. It calls Node-API directly, because the life of
//! the threadsafe function has to be tied exactly to that of its environment: nothing may be called
//! or kept in memory beyond its end.

use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{BigInt, Function, JsValue, ToNapiValue};
use napi::{Env, Status, sys};
use napi_derive::napi;

use super::follow_handles::OpenFollow;
use super::handles::{HandleTable, LockfileHandles, OpenConsumer, OpenReplay, OpenStream, OpenWal};
use super::js_types::Report;
use super::limitations::tell_limitations_to;
use super::lines_handles::LinesHandle;
use super::lock_handles::LockHandles;
use crate::error::{Code, Error, ErrorKind, Failure, Operation, set_program};
use crate::threads::{Completions, WaitFor};
use crate::wal::Appended;
use crate::write::{Observer, WriteEvent, is_retried};

/// A message to JavaScript.
pub(super) enum Message {
    /// The number of an operation that succeeded, and has no value.
    Done(f64),
    /// An append to a log that succeeded. There may be tens of thousands in a second, and an object
    /// would cost more than everything else on the way of one.
    Appended {
        /// The number of the operation.
        id: f64,
        /// Its outcome.
        appended: Appended,
    },
    /// An operation that succeeded with a value.
    Value {
        /// The number of the operation.
        id: f64,
        /// Its value.
        value: IntoJs,
        /// The number of the lock that came with the value. Should JavaScript be unable to take the
        /// value, no caller learns of that lock.
        lock: Option<u32>,
    },
    /// Anything else. It is large.
    Report(Box<Report>),
}

/// Makes a JavaScript value on the JavaScript thread.
type IntoJs = Box<dyn FnOnce(sys::napi_env) -> napi::Result<sys::napi_value> + Send>;

/// The messages on their way to one environment.
pub(super) type Outcomes = Completions<Message>;

/// What belongs to one environment and ends with it.
#[derive(Default)]
pub(super) struct Environment {
    pub(super) outcomes: Arc<Outcomes>,
    pub(super) locks: LockHandles,
    pub(super) lockfiles: LockfileHandles,
    pub(super) streams: HandleTable<OpenStream>,
    pub(super) wals: HandleTable<OpenWal>,
    pub(super) replays: HandleTable<OpenReplay>,
    pub(super) follows: HandleTable<OpenFollow>,
    pub(super) lines: HandleTable<LinesHandle>,
    pub(super) consumers: HandleTable<Arc<OpenConsumer>>,
}

impl Environment {
    /// Sends the outcome of an operation that is tried once.
    pub(super) fn answer<T: ToNapiValue + Send + 'static>(
        &self,
        id: f64,
        operation: Operation,
        path: &Path,
        outcome: Result<T, ErrorKind>,
    ) {
        self.answer_with_lock(id, operation, path, outcome.map(|value| (value, None)));
    }

    /// As [`Environment::answer`], with the number of the lock that came with the value.
    pub(super) fn answer_with_lock<T: ToNapiValue + Send + 'static>(
        &self,
        id: f64,
        operation: Operation,
        path: &Path,
        outcome: Result<(T, Option<u32>), ErrorKind>,
    ) {
        match outcome {
            Ok((value, lock)) => {
                self.outcomes.push(Message::Value { id, value: into_js(value), lock })
            }
            Err(kind) => self.fail(id, operation, path, kind),
        }
    }

    /// Sends the outcome of an operation that is tried once and has no value.
    pub(super) fn done(
        &self,
        id: f64,
        operation: Operation,
        path: &Path,
        outcome: Result<(), ErrorKind>,
    ) {
        self.complete_without_value(id, outcome.map_err(|kind| failed(operation, path, kind)));
    }

    /// Sends the outcome of an operation that has a value.
    pub(super) fn complete<T: ToNapiValue + Send + 'static>(
        &self,
        id: f64,
        outcome: Result<T, Error>,
    ) {
        match outcome {
            Ok(value) => {
                self.outcomes.push(Message::Value { id, value: into_js(value), lock: None });
            }
            Err(error) => self.reject(id, error),
        }
    }

    /// Sends the outcome of an operation that has no value.
    pub(super) fn complete_without_value(&self, id: f64, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) => self.outcomes.push(Message::Done(id)),
            Err(error) => self.reject(id, error),
        }
    }

    /// Sends the failure of an operation that is tried once.
    pub(super) fn fail(&self, id: f64, operation: Operation, path: &Path, kind: ErrorKind) {
        self.reject(id, failed(operation, path, kind));
    }

    fn reject(&self, id: f64, error: Error) {
        self.outcomes.push(Message::report(Report::failed(id, error)));
    }
}

impl Message {
    pub(super) fn report(report: Report) -> Message {
        Message::Report(Box::new(report))
    }
}

/// Sends the events of an operation.
pub(super) struct EventSender {
    id: f64,
    outcomes: Arc<Outcomes>,
}

impl EventSender {
    pub(super) fn new(id: f64, environment: &Environment) -> EventSender {
        EventSender { id, outcomes: Arc::clone(&environment.outcomes) }
    }
}

impl Observer for EventSender {
    fn event(&self, event: WriteEvent) {
        self.outcomes.push(Message::report(Report::happened(self.id, event)));
    }
}

/// The error of an operation that is tried once.
pub(super) fn failed(operation: Operation, path: &Path, kind: ErrorKind) -> Error {
    Error {
        exhausted: matches!(&kind, ErrorKind::System(failure) if is_retried(failure)),
        kind,
        operation,
        path: path.to_owned(),
        attempts: 1,
        committed: false,
    }
}

fn into_js<T: ToNapiValue + Send + 'static>(value: T) -> IntoJs {
    // SAFETY: `deliver` calls it, in a call from JavaScript and with that call's environment.
    Box::new(move |env| unsafe { T::to_napi_value(env, value) })
}

/// The value of an operation that succeeded.
#[napi(object, object_from_js = false)]
pub struct Delivery {
    /// The number of the operation.
    pub id: f64,
    #[napi(ts_type = "unknown")]
    pub value: Converted,
}

impl Environment {
    /// Makes a JavaScript value of an operation's value. One that JavaScript cannot take, because
    /// its text is longer than strings can be, becomes an error, so that its caller does not wait
    /// for ever; and the lock that came with it, of which no caller will know, is released.
    ///
    /// # Safety
    ///
    /// `env` is that of the calling thread, in a call from JavaScript.
    unsafe fn convert_value(
        &self,
        env: sys::napi_env,
        id: f64,
        value: IntoJs,
        lock: Option<u32>,
    ) -> napi::Result<Converted> {
        let delivered = value(env).and_then(|value| {
            let delivery = Delivery { id, value: Converted(value) };
            // SAFETY: as the caller promises.
            unsafe { Delivery::to_napi_value(env, delivery) }
        });
        if let Ok(value) = delivered {
            return Ok(Converted(value));
        }
        drop(lock.and_then(|number| self.locks.take(number)));
        let too_long = Error {
            kind: Failure::new("read", Code::EFBIG.error()).into(),
            operation: Operation::UpdateJson,
            path: PathBuf::new(),
            attempts: 1,
            exhausted: false,
            committed: false,
        };
        // SAFETY: as the caller promises.
        unsafe { Report::to_napi_value(env, Report::failed(id, too_long)) }.map(Converted)
    }
}

/// Makes JavaScript values of an append that succeeded.
///
/// # Safety
///
/// As [`Environment::convert_value`].
unsafe fn convert_appended(
    env: sys::napi_env,
    id: f64,
    appended: Appended,
) -> napi::Result<[Converted; 4]> {
    let Appended { first, count, memtable_bytes } = appended;
    // SAFETY: as the caller promises.
    unsafe {
        Ok([
            Converted(f64::to_napi_value(env, -id)?),
            Converted(BigInt::to_napi_value(env, first.into())?),
            Converted(f64::to_napi_value(env, count as f64)?),
            Converted(f64::to_napi_value(env, memtable_bytes as f64)?),
        ])
    }
}

/// A value that JavaScript has already.
pub struct Converted(sys::napi_value);

impl ToNapiValue for Converted {
    unsafe fn to_napi_value(_: sys::napi_env, value: Converted) -> napi::Result<sys::napi_value> {
        Ok(value.0)
    }
}

/// The version of the addon, which has to be that of the JavaScript that uses it.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// A number that each addon in the process has for itself: the same for each load of one, and another
/// one for another version.
#[napi]
pub fn addon_id() -> f64 {
    static ANY: u8 = 0;
    (&raw const ANY).addr() as f64
}

/// The way from JavaScript into the core and back. There is one for each environment.
#[napi]
pub struct Port {
    pub(super) environment: Arc<Environment>,
    function: WakeFunction,
}

/// The threadsafe function that wakes the environment.
#[derive(Clone, Copy)]
struct WakeFunction(sys::napi_threadsafe_function);

// SAFETY: a threadsafe function may be called on any thread, and `Outcomes` calls it only
// until it is closed, which happens before the environment frees it.
unsafe impl Send for WakeFunction {}

#[napi]
impl Port {
    /// `onMessages` is called with everything that has happened since it was last called:
    /// for an operation that succeeded without a value its number; for an append to a log that
    /// succeeded its number with a minus, and then the sequence number of its first entry, how many
    /// there are, and `memtableBytes`; and an object for anything else. `program` is what the
    /// process is called where it holds a lock.
    #[napi(constructor)]
    pub fn new(
        env: Env,
        #[napi(ts_arg_type = "(messages: Array<number | bigint | Delivery | Report>) => void")]
        on_messages: Function<'_>,
        program: String,
    ) -> napi::Result<Port> {
        set_program(&program);
        let environment = Arc::new(Environment::default());
        let context = Arc::into_raw(Arc::clone(&environment)).cast_mut().cast::<c_void>();
        let name = "holdfast";
        let mut text = ptr::null_mut();
        let mut function = ptr::null_mut();
        // SAFETY: the environment and the callback are alive during this call, which is
        // made on the environment's thread. The context is a counted reference that
        // `free_environment` drops after the last wake-up.
        unsafe {
            let length = name.len() as isize;
            check(sys::napi_create_string_utf8(
                env.raw(),
                name.as_ptr().cast(),
                length,
                &mut text,
            ))?;
            check(sys::napi_create_threadsafe_function(
                env.raw(),
                on_messages.raw(),
                ptr::null_mut(),
                text,
                0,
                1,
                context,
                Some(free_environment),
                context,
                Some(deliver),
                &mut function,
            ))?;
            // Hooks run in the reverse order of their registration, so this one comes
            // before the one that frees the function, and the environment's memory is
            // freed after all hooks. It is a plain hook that waits, not an asynchronous
            // one: those need the event loop to go on, with the very function that is
            // being closed as the only thing that could wake it.
            check(sys::napi_add_env_cleanup_hook(env.raw(), Some(end_of_environment), context))?;
            check(sys::napi_unref_threadsafe_function(env.raw(), function))?;
        }
        let function = WakeFunction(function);
        environment.outcomes.set_waker(Box::new(move || function.call()));
        let outcomes = Arc::downgrade(&environment.outcomes);
        tell_limitations_to(move |found| {
            let outcomes = outcomes.upgrade();
            outcomes.inspect(|it| it.push(Message::report(Report::lacking(found)))).is_some()
        });
        Ok(Port { environment, function })
    }

    /// Keeps the event loop alive.
    #[napi(js_name = "ref")]
    pub fn reference(&self, env: Env) -> napi::Result<()> {
        // SAFETY: called on the environment's thread, and the function lives as long as
        // the environment.
        check(unsafe { sys::napi_ref_threadsafe_function(env.raw(), self.function.0) })
    }

    /// Lets the event loop end.
    #[napi(js_name = "unref")]
    pub fn unreference(&self, env: Env) -> napi::Result<()> {
        // SAFETY: as in `reference`.
        check(unsafe { sys::napi_unref_threadsafe_function(env.raw(), self.function.0) })
    }

    /// For the end of the process: drops operations that have not started and waits for those that
    /// have, at most this many milliseconds, so that no temp files are left.
    #[napi]
    pub fn finish(&self, milliseconds: u32) {
        let limit = Duration::from_millis(milliseconds.into());
        self.environment.outcomes.close(WaitFor::AllJobs(limit));
        drop(self.environment.streams.close());
        // On Unix they are removed later, when no handler of the program runs any more.
        #[cfg(not(unix))]
        {
            drop(self.environment.lockfiles.take_all());
            crate::lock::remove_unused_files();
        }
    }
}

impl WakeFunction {
    /// By method, so that closures capture the `Send` whole and not the pointer in it.
    fn call(self) {
        // SAFETY: see `Send` above. The status does not matter: the queue is unbounded, and a
        // function that is closing has no environment left to wake.
        unsafe {
            sys::napi_call_threadsafe_function(
                self.0,
                ptr::null_mut(),
                sys::ThreadsafeFunctionCallMode::nonblocking,
            );
        }
    }
}

/// Runs on the JavaScript thread when it has been woken.
unsafe extern "C" fn deliver(
    env: sys::napi_env,
    callback: sys::napi_value,
    context: *mut c_void,
    _data: *mut c_void,
) {
    // When the environment ends, Node calls once more without one.
    if env.is_null() || callback.is_null() {
        return;
    }
    // SAFETY: the context is kept alive until `free_environment`.
    let environment = unsafe { &*context.cast_const().cast::<Environment>() };
    let messages = environment.outcomes.take();
    // SAFETY: both values belong to this environment and this call. If an exception is
    // pending afterwards Node reports it as uncaught, as it does for any callback.
    unsafe {
        let mut this = ptr::null_mut();
        let mut converted = Vec::with_capacity(messages.len());
        for message in messages {
            match message {
                Message::Done(id) => {
                    converted.extend(f64::to_napi_value(env, id).ok().map(Converted));
                }
                Message::Appended { id, appended } => {
                    converted.extend(convert_appended(env, id, appended).into_iter().flatten());
                }
                Message::Value { id, value, lock } => {
                    converted.extend(environment.convert_value(env, id, value, lock));
                }
                Message::Report(report) => {
                    converted.extend(Report::to_napi_value(env, *report).map(Converted));
                }
            }
        }
        if let Ok(messages) = Vec::<Converted>::to_napi_value(env, converted)
            && sys::napi_get_undefined(env, &mut this) == sys::Status::napi_ok
        {
            sys::napi_call_function(env, this, callback, 1, &messages, ptr::null_mut());
        }
    }
}

/// Runs when the environment ends, while its memory is still there: a worker thread that
/// is terminated frees its Buffers right after this. Its locks are released too, but only after the
/// running jobs, which may be writing under them and are not waited for here.
unsafe extern "C" fn end_of_environment(context: *mut c_void) {
    // SAFETY: the context is kept alive until `free_environment`, which runs later.
    let environment = unsafe { &*context.cast_const().cast::<Environment>() };
    environment.outcomes.close(WaitFor::BorrowingJobs);
    drop(environment.streams.close());
    environment.outcomes.drop_after_jobs(environment.locks.close());
    environment.outcomes.drop_after_jobs(environment.lockfiles.take_all());
    drop(environment.wals.close());
    drop(environment.replays.close());
    drop(environment.follows.close());
    drop(environment.lines.close());
    environment.outcomes.drop_after_jobs(environment.consumers.close());
}

unsafe extern "C" fn free_environment(_: sys::napi_env, context: *mut c_void, _: *mut c_void) {
    // SAFETY: the counted reference that `Port::new` passed on; it is not used after this.
    drop(unsafe { Arc::from_raw(context.cast_const().cast::<Environment>()) });
}

fn check(status: sys::napi_status) -> napi::Result<()> {
    match status {
        sys::Status::napi_ok => Ok(()),
        status => Err(napi::Error::from_status(Status::from(status))),
    }
}
