//! Work with an outcome, and the caller that waits for it.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::pool::{Job, Pool};
use crate::error::{Code, ErrorKind, Failure};
use crate::mutex::guard;

/// Runs `work` on the pool and calls `callback` with its outcome, exactly once: also when the work
/// panics, and when the system refuses to start a thread for it.
pub fn run<T: 'static>(
    pool: &Pool,
    work: impl FnOnce() -> Result<T, ErrorKind> + Send + 'static,
    callback: impl FnOnce(Result<T, ErrorKind>) + Send + 'static,
) {
    let callback = OnceCallback::new(callback);
    // A job that cannot be run is dropped, and the callback with it.
    let _ = pool.submit(Box::new(move || callback.call(catch_panic(work))));
}

/// The outcome of one step of a task that may take several.
pub enum TaskStep<T> {
    /// The task is done.
    Done(T),
    /// The next step follows after a pause of this length.
    After(Duration),
    /// The next step follows when the job that this is given is run.
    When(StartWait),
}

/// Starts a wait that ends with this job. What it returns ends the wait.
pub type StartWait = Box<dyn FnOnce(Job) -> Resume + Send>;

/// Ends the pause before a step: the step begins at once.
pub type Resume = Box<dyn Fn() + Send>;

/// Takes something again, such as a lock, that was given back to other processes for a pause. It calls
/// what it is given. What it returns ends the wait for it.
pub type TakeAgain = Box<dyn FnOnce(TakenAgain) -> Resume + Send>;

/// Is told that it has been taken again, or why not.
pub type TakenAgain = Box<dyn FnOnce(Result<(), ErrorKind>) + Send>;

/// For what was not given back.
pub fn nothing_to_take() -> TakeAgain {
    Box::new(|then| {
        then(Ok(()));
        Box::new(|| {})
    })
}

/// Runs steps on the pool until one says that the task is done, and holds no thread in the pauses.
/// The step is dropped before `callback` is called. In each pause `on_pause` is given what ends it.
pub fn run_steps<T: 'static>(
    pool: &Pool,
    step: impl FnMut() -> TaskStep<T> + Send + 'static,
    on_pause: impl Fn(Resume) + Clone + Send + 'static,
    callback: impl FnOnce(Result<T, ErrorKind>) + Send + 'static,
) {
    let (own_pool, callback) = (pool.clone(), OnceCallback::new(callback));
    let _ = pool.submit(Box::new(move || run_steps_here(&own_pool, step, on_pause, callback)));
}

/// As [`run_steps`], with the first step on this thread.
pub fn run_steps_here<T: 'static, C: FnOnce(Result<T, ErrorKind>) + Send + 'static>(
    pool: &Pool,
    mut step: impl FnMut() -> TaskStep<T> + Send + 'static,
    on_pause: impl Fn(Resume) + Clone + Send + 'static,
    callback: OnceCallback<C, T>,
) {
    let outcome = match catch_unwind(AssertUnwindSafe(&mut step)) {
        Ok(TaskStep::Done(value)) => Ok(value),
        Err(panic) => Err(panic_error(&*panic)),
        Ok(TaskStep::After(delay)) => {
            let (own_pool, next_pause) = (pool.clone(), on_pause.clone());
            let next = move || run_steps_here(&own_pool, step, next_pause, callback);
            return on_pause(pause(pool, delay, Box::new(next)));
        }
        Ok(TaskStep::When(start)) => {
            let (own_pool, next_pause) = (pool.clone(), on_pause.clone());
            let next_pool = pool.clone();
            let next = move || run_steps_here(&next_pool, step, next_pause, callback);
            // It may be run on any thread.
            let go_on = move || drop(own_pool.submit(Box::new(next)));
            return on_pause(start(Box::new(go_on)));
        }
    };
    drop(step);
    callback.call(outcome);
}

/// Runs a job after a delay, or as soon as the returned function is called.
fn pause(pool: &Pool, delay: Duration, job: Job) -> Resume {
    let take = |next: &Mutex<Option<Job>>| guard(next).take();
    // Only the delayed job keeps it: if that is dropped, because there is no thread, so is this.
    let next = Arc::new(Mutex::new(Some(job)));
    let (resumed, own_pool) = (Arc::downgrade(&next), pool.clone());
    let delayed = move || {
        if let Some(job) = take(&next) {
            job();
        }
    };
    let _ = pool.submit_after(delay, Box::new(delayed));
    Box::new(move || {
        if let Some(job) = resumed.upgrade().and_then(|next| take(&next)) {
            let _ = own_pool.submit(job);
        }
    })
}

/// Runs something that may fail. A panic is a failure, too.
pub fn catch_panic<T, E: From<ErrorKind>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_error(&*panic).into()))
}

/// The error that a panic becomes.
pub fn panic_error(panic: &(dyn Any + Send)) -> ErrorKind {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    ErrorKind::Internal(text.unwrap_or_default())
}

/// The error of a job that was dropped unrun, because the system refused to start a thread.
pub fn no_thread() -> ErrorKind {
    Failure::new("pthread_create", Code::EAGAIN.error()).into()
}

/// A callback that is called exactly once: at the latest when it is dropped, with
/// [`no_thread`], because the job that should have called it could not be run.
pub struct OnceCallback<C: FnOnce(Result<T, ErrorKind>), T>(Option<C>, PhantomData<fn(T)>);

impl<C: FnOnce(Result<T, ErrorKind>), T> OnceCallback<C, T> {
    /// Wraps a callback.
    pub fn new(callback: C) -> OnceCallback<C, T> {
        OnceCallback(Some(callback), PhantomData)
    }

    /// Calls it.
    pub fn call(mut self, outcome: Result<T, ErrorKind>) {
        if let Some(callback) = self.0.take() {
            callback(outcome);
        }
    }
}

impl<C: FnOnce(Result<T, ErrorKind>), T> Drop for OnceCallback<C, T> {
    fn drop(&mut self) {
        if let Some(callback) = self.0.take() {
            callback(Err(no_thread()));
        }
    }
}
