//! Work that has an outcome, and somebody who waits for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Pool;
use crate::errno::Code;
use crate::error::{ErrorKind, Failure};

/// Runs `work` on the pool and hands its outcome to `answer`, exactly once: also when the
/// work panics, and when the system refuses to start a thread for it.
pub fn run<T: 'static>(
    pool: &Pool,
    work: impl FnOnce() -> Result<T, ErrorKind> + Send + 'static,
    answer: impl FnOnce(Result<T, ErrorKind>) + Send + 'static,
) {
    let answer = Answer(Some(answer), std::marker::PhantomData);
    // A job that cannot be run is dropped, and the answer with it.
    let _ = pool.submit(Box::new(move || {
        let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(internal(&*panic)));
        answer.give(outcome);
    }));
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

struct Answer<A: FnOnce(Result<T, ErrorKind>), T>(Option<A>, std::marker::PhantomData<fn(T)>);

impl<A: FnOnce(Result<T, ErrorKind>), T> Answer<A, T> {
    fn give(mut self, outcome: Result<T, ErrorKind>) {
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
