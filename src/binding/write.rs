//! `atomicWrite` and `atomicWriteSync`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use napi::bindgen_prelude::{BufferSlice, Function};
use napi_derive::napi;

use super::environment::{Environment, Message, Outcomes, Port};
use super::js_types::{self, Report, WriteOptions};
use super::lock::make_dirs_first;
use super::lock_handles::HeldNumbers;
use super::path_text::NativePath;
use crate::engine::WriteCaller;
use crate::error::{Code, Error, ErrorKind, Operation};
use crate::lock::{self, LockGuard, LockKind};
use crate::metrics::METRICS;
use crate::mutex::guard;
use crate::payload::Payload;
use crate::threads::{RunningJob, pool, task};
use crate::write::{self, Kept, Observer, Options, WriteEvent, WriteRequest};

/// Data up to this size is copied when the call is made, larger data is referenced: from
/// here on the copy costs more than the bookkeeping, and memory begins to matter.
const LARGEST_COPY: usize = 1 << 16;

/// Cancels a write.
#[napi]
#[derive(Default)]
pub struct Control {
    pub(super) control: Arc<write::Control>,
}

#[napi]
impl Control {
    #[napi(constructor)]
    pub fn new() -> Control {
        Control::default()
    }

    /// Asks the write to stop. Its outcome tells whether it did.
    #[napi]
    pub fn cancel(&self) {
        self.control.cancel();
    }
}

#[napi]
impl Port {
    /// Starts a write. JavaScript keeps `data` alive until the outcome arrives. The lock with
    /// the number `lock`, if there is one, is released when the new content is in place, or if it is
    /// borrowed when the write is over.
    ///
    /// With an `attempt` this is one attempt under a lock that is not borrowed. If another is to
    /// follow, the lock is given back to other processes and still has its number, and the outcome is
    /// a [`NextAttempt`].
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn write(
        &self,
        id: f64,
        path: NativePath,
        #[napi(ts_arg_type = "Uint8Array")] data: BufferSlice<'_>,
        options: Option<WriteOptions>,
        is_observed: bool,
        control: Option<&Control>,
        lock: Option<u32>,
        attempt: Option<u32>,
    ) {
        let outcomes = Arc::clone(&self.environment.outcomes);
        let number = lock;
        let lock = lock.and_then(|number| self.environment.locks.take(number));
        let mut request = request(path, payload(&data), options);
        request.options.only = lock.as_ref().map(|lock| Box::new(lock.guarded()));
        // A write under a lock stands for what was read there, and not for another write, and
        // what is to be checked has to be checked for each call.
        let can_merge = lock.is_none() && request.options.validate.is_none();
        let (borrowed, own) = by_owner(lock);
        let mut control = control.map(|given| Arc::clone(&given.control));
        let mut single = None;
        match (own, attempt.zip(number)) {
            (Some(guard), Some((attempt, number))) => {
                let guard = Arc::new(Mutex::new(Some(guard)));
                control.get_or_insert_default().keep(Box::new(SharedLock(Arc::clone(&guard))));
                let environment = Arc::clone(&self.environment);
                single = Some(SingleAttempt { attempt, number, guard, environment });
            }
            (Some(guard), None) => control.get_or_insert_default().keep(Box::new(guard)),
            (None, _) => {}
        }
        let caller =
            Caller { id, outcomes, is_observed, started: None, single, _borrowed: borrowed };
        crate::engine::engine().submit(request, control, can_merge, Box::new(caller));
    }
}

/// By which path files in the working directory are reached that the system calls `path`: nothing if
/// by that, and an empty text if the directory has been removed.
#[napi]
pub fn working_dir(path: NativePath) -> Option<NativePath> {
    match crate::fs::os::working_dir(path.as_ref()) {
        Ok(found) => found.map(NativePath::from),
        // Whatever else is wrong the call will find out.
        Err(error) => (Code::of(&error) == Some(Code::ENOENT)).then(|| PathBuf::new().into()),
    }
}

/// Writes on the calling thread and returns what there is to tell, the failure last.
#[napi]
pub fn write_sync(
    path: NativePath,
    #[napi(ts_arg_type = "Uint8Array")] data: BufferSlice<'_>,
    options: Option<WriteOptions>,
    is_observed: bool,
    #[napi(ts_arg_type = "((tempPath: string) => boolean) | undefined | null")] hook: Option<
        TempFileHook<'_>,
    >,
) -> Vec<Report> {
    write_now(&data, request(path, borrow(&data), options), is_observed, hook, |_| Ok(None))
}

#[napi]
impl Port {
    /// The same under the file's lock, borrowed from the caller, or else taken: it is waited for on
    /// the calling thread, for so many milliseconds.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn write_sync_locked(
        &self,
        path: NativePath,
        #[napi(ts_arg_type = "Uint8Array")] data: BufferSlice<'_>,
        options: Option<WriteOptions>,
        is_observed: bool,
        held: Option<HeldNumbers>,
        timeout: f64,
        #[napi(ts_arg_type = "((tempPath: string) => boolean) | undefined | null")] hook: Option<
            TempFileHook<'_>,
        >,
    ) -> Vec<Report> {
        let held = self.environment.locks.lend(held);
        let take_lock = |request: &WriteRequest| {
            let WriteRequest { path, options, .. } = request;
            let wanted = lock::LockRequest {
                path: path.clone(),
                kind: LockKind::Write,
                timeout: js_types::timeout(timeout),
                held,
                before: make_dirs_first(path, options),
            };
            lock::acquire_here(pool(), wanted).map(Some)
        };
        write_now(&data, request(path, borrow(&data), options), is_observed, hook, take_lock)
    }

    /// The same under the lock with the number `lock`, if there is one. It is released when the new
    /// content is in place or the write has failed.
    #[napi]
    pub fn write_sync_under(
        &self,
        path: NativePath,
        #[napi(ts_arg_type = "Uint8Array")] data: BufferSlice<'_>,
        options: Option<WriteOptions>,
        is_observed: bool,
        lock: Option<u32>,
        #[napi(ts_arg_type = "((tempPath: string) => boolean) | undefined | null")] hook: Option<
            TempFileHook<'_>,
        >,
    ) -> Vec<Report> {
        let lock = lock.and_then(|number| self.environment.locks.take(number));
        write_now(&data, request(path, borrow(&data), options), is_observed, hook, |_| Ok(lock))
    }
}

fn write_now(
    data: &[u8],
    mut request: WriteRequest,
    is_observed: bool,
    hook: Option<TempFileHook<'_>>,
    take_lock: impl FnOnce(&WriteRequest) -> Result<Option<LockGuard>, ErrorKind>,
) -> Vec<Report> {
    let is_heard = is_observed || hook.is_some();
    let log = ReportLog { reports: RefCell::default(), is_observed, hook };
    let observer: Option<&dyn Observer> = if is_heard { Some(&log) } else { None };
    // On this thread the memory is JavaScript's to lend. What does not pass must not stand
    // for those that wait, so it is looked at before the write takes their place.
    let checked = match request.options.validate.take() {
        Some(format) => write::validate_bytes(data, format),
        None => Ok(()),
    };
    let checked = checked.inspect_err(|kind| METRICS.writes.failed(kind));
    // A panic must not come to JavaScript, whose thread this is.
    let outcome = match checked.and_then(|()| task::catch_panic(|| take_lock(&request))) {
        Ok(hold) => {
            request.options.only = hold.as_ref().map(|lock| Box::new(lock.guarded()));
            let (control, (_borrowed, own)) = (write::Control::default(), by_owner(hold));
            if let Some(guard) = own {
                control.keep(Box::new(guard));
            }
            crate::engine::engine().write_now(request, &control, observer)
        }
        Err(kind) => Err(Error {
            kind,
            operation: Operation::AtomicWrite,
            path: request.path,
            attempts: 1,
            exhausted: false,
            committed: false,
        }),
    };
    log.ended(outcome.err())
}

/// A lock that is borrowed from the caller, or one of the write's own. What is borrowed is its
/// holder's, who is promised more than that the content is in place.
fn by_owner(lock: Option<LockGuard>) -> (Option<LockGuard>, Option<LockGuard>) {
    match lock {
        Some(guard) if guard.is_borrowed() => (Some(guard), None),
        own => (None, own),
    }
}

fn request(path: NativePath, payload: Payload, options: Option<WriteOptions>) -> WriteRequest {
    let options = options.map_or_else(Options::default, Options::from);
    WriteRequest { path: PathBuf::from(path), payload, options }
}

/// The bytes for a write on another thread.
pub(super) fn payload(data: &[u8]) -> Payload {
    match data.len() {
        0..=LARGEST_COPY => Payload::Owned(data.to_vec()),
        _ => borrow(data),
    }
}

fn borrow(data: &[u8]) -> Payload {
    Payload::Borrowed { address: data.as_ptr().expose_provenance(), length: data.len() }
}

/// The JavaScript call that waits for a write.
struct Caller {
    id: f64,
    outcomes: Arc<Outcomes>,
    is_observed: bool,
    started: Option<RunningJob<Message>>,
    single: Option<SingleAttempt>,
    _borrowed: Option<LockGuard>,
}

/// One attempt of an update. JavaScript has the next one made, because the file may have another
/// content by then.
struct SingleAttempt {
    attempt: u32,
    /// The number of the lock.
    number: u32,
    guard: SharedGuard,
    environment: Arc<Environment>,
}

/// The lock, until the new content is in place.
type SharedGuard = Arc<Mutex<Option<LockGuard>>>;

/// Releases the lock when it is dropped, unless it has been taken out.
struct SharedLock(SharedGuard);

impl Kept for SharedLock {}

impl Drop for SharedLock {
    fn drop(&mut self) {
        let released = guard(&self.0).take();
        // Not under the mutex: the lock leads to its next holder.
        drop(released);
    }
}

/// The attempt that is to follow on one that has failed.
#[napi(object, object_from_js = false)]
pub struct NextAttempt {
    /// Its number.
    pub attempt: u32,
    /// After how many milliseconds.
    pub delay: f64,
}

impl WriteCaller for Caller {
    fn start(&mut self, borrows_memory: bool) -> bool {
        self.started = self.outcomes.start(borrows_memory);
        self.started.is_some()
    }

    fn stop(&mut self) {
        self.started = None;
    }

    fn observer(&self) -> Option<&dyn Observer> {
        if self.is_observed { Some(self) } else { None }
    }

    fn finish(&mut self, outcome: Result<(), Error>) {
        self.outcomes.push(match outcome {
            Ok(()) => Message::Done(self.id),
            Err(error) => Message::report(Report::failed(self.id, error)),
        });
    }

    fn attempt(&self) -> Option<u32> {
        self.single.as_ref().map(|single| single.attempt)
    }

    fn retry(&mut self, attempt: u32, delay: Duration) {
        let Some(SingleAttempt { number, guard: shared, environment, .. }) = &self.single else {
            return;
        };
        let Some(lock) = guard(shared).take() else { return };
        lock.give_back();
        // When the environment has ended, no caller waits.
        if environment.locks.put(*number, lock) {
            let next = NextAttempt { attempt, delay: js_types::milliseconds(delay) };
            let path = Path::new("");
            environment.answer_with_lock(
                self.id,
                Operation::UpdateJson,
                path,
                Ok((next, Some(*number))),
            );
        }
    }
}

impl Observer for Caller {
    fn event(&self, event: WriteEvent) {
        self.outcomes.push(Message::report(Report::happened(self.id, event)));
    }
}

/// JavaScript's function that is shown the temp file of a synchronous write. It says whether the
/// write is to go on, and throws nothing.
type TempFileHook<'a> = Function<'a, NativePath, bool>;

/// Collects the events of a synchronous write or backup, and shows the temp file of a write.
#[derive(Default)]
pub(super) struct ReportLog<'a> {
    reports: RefCell<Vec<Report>>,
    is_observed: bool,
    hook: Option<TempFileHook<'a>>,
}

impl ReportLog<'_> {
    /// Of an operation that shows no temp file.
    pub(super) fn new(is_observed: bool) -> ReportLog<'static> {
        ReportLog { is_observed, ..ReportLog::default() }
    }

    /// What has happened, and how it ended if that is an error.
    pub(super) fn ended(self, error: Option<Error>) -> Vec<Report> {
        let mut reports = self.reports.into_inner();
        reports.extend(error.map(|error| Report::failed(0.0, error)));
        reports
    }
}

impl Observer for ReportLog<'_> {
    fn event(&self, event: WriteEvent) {
        if self.is_observed {
            self.reports.borrow_mut().push(Report::happened(0.0, event));
        }
    }

    fn temp_file_made(&self, temp_path: &Path) -> Result<(), ErrorKind> {
        let Some(hook) = &self.hook else { return Ok(()) };
        match hook.call(temp_path.to_owned().into()) {
            Ok(true) => Ok(()),
            // What it has thrown is known to JavaScript, which throws it again.
            Ok(false) | Err(_) => Err(ErrorKind::Cancelled),
        }
    }
}
