//! Work that has an outcome, and somebody who waits for it.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Job, Pool};
use crate::error::Code;
use crate::error::{ErrorKind, Failure};
use crate::mutex::guard;

/// Runs `work` on the pool and hands its outcome to `answer`, exactly once: also when the
/// work panics, and when the system refuses to start a thread for it.
pub fn run<T: 'static>(
    pool: &Pool,
    work: impl FnOnce() -> Result<T, ErrorKind> + Send + 'static,
    answer: impl FnOnce(Result<T, ErrorKind>) + Send + 'static,
) {
    let answer = Answer::new(answer);
    // A job that cannot be run is dropped, and the answer with it.
    let _ = pool.submit(Box::new(move || answer.give(caught(work))));
}

/// What came of one step of work that may take several.
#[derive(Debug)]
pub enum Step<T> {
    /// It is over.
    Done(T),
    /// There is more to do after this time.
    Again(Duration),
}

/// Ends the pause before a step: it begins at once.
pub type Wake = Box<dyn Fn() + Send>;

/// Runs steps on the pool until one says that it is over, and holds no thread in between. The
/// step is dropped before `answer` is called. In each pause `listen` is given what ends it.
pub fn repeat<T: 'static>(
    pool: &Pool,
    step: impl FnMut() -> Step<T> + Send + 'static,
    listen: impl Fn(Wake) + Clone + Send + 'static,
    answer: impl FnOnce(Result<T, ErrorKind>) + Send + 'static,
) {
    let (own_pool, answer) = (pool.clone(), Answer::new(answer));
    let _ = pool.submit(Box::new(move || repeat_here(&own_pool, step, listen, answer)));
}

/// The same, with the first step on this thread.
pub fn repeat_here<T: 'static, A: FnOnce(Result<T, ErrorKind>) + Send + 'static>(
    pool: &Pool,
    mut step: impl FnMut() -> Step<T> + Send + 'static,
    listen: impl Fn(Wake) + Clone + Send + 'static,
    answer: Answer<A, T>,
) {
    let outcome = match catch_unwind(AssertUnwindSafe(&mut step)) {
        Ok(Step::Done(value)) => Ok(value),
        Err(panic) => Err(internal(&*panic)),
        Ok(Step::Again(delay)) => {
            let (own_pool, listening) = (pool.clone(), listen.clone());
            let again = move || repeat_here(&own_pool, step, listening, answer);
            return listen(pause(pool, delay, Box::new(again)));
        }
    };
    drop(step);
    answer.give(outcome);
}

/// Runs a job after a delay, or as soon as what is returned is called.
fn pause(pool: &Pool, delay: Duration, job: Job) -> Wake {
    let take = |next: &Mutex<Option<Job>>| guard(next).take();
    // The delayed job alone keeps it: if that is dropped, because there is no thread, so is this.
    let next = Arc::new(Mutex::new(Some(job)));
    let (woken, own_pool) = (Arc::downgrade(&next), pool.clone());
    let resume = move || {
        if let Some(job) = take(&next) {
            job();
        }
    };
    let _ = pool.submit_after(delay, Box::new(resume));
    Box::new(move || {
        if let Some(job) = woken.upgrade().and_then(|next| take(&next)) {
            let _ = own_pool.submit(job);
        }
    })
}

/// Does something that may fail. A panic is a failure, too.
pub fn caught<T, E: From<ErrorKind>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(internal(&*panic).into()))
}

/// What a panic becomes.
pub fn internal(panic: &(dyn Any + Send)) -> ErrorKind {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    ErrorKind::Internal(text.unwrap_or_default())
}

/// What it means that a job was dropped unrun.
pub fn refused() -> ErrorKind {
    Failure::new("pthread_create", Code::EAGAIN.error()).into()
}

/// An answer that is given exactly once: at the latest when it is dropped, because what
/// should have given it could not be run.
pub struct Answer<A: FnOnce(Result<T, ErrorKind>), T>(Option<A>, PhantomData<fn(T)>);

impl<A: FnOnce(Result<T, ErrorKind>), T> Answer<A, T> {
    /// Hands the outcome to `answer`.
    pub fn new(answer: A) -> Answer<A, T> {
        Answer(Some(answer), PhantomData)
    }

    /// Gives it.
    pub fn give(mut self, outcome: Result<T, ErrorKind>) {
        if let Some(answer) = self.0.take() {
            answer(outcome);
        }
    }
}

impl<A: FnOnce(Result<T, ErrorKind>), T> Drop for Answer<A, T> {
    fn drop(&mut self) {
        if let Some(answer) = self.0.take() {
            answer(Err(refused()));
        }
    }
}
