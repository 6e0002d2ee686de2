//! A write on holdfast's threads: one job per attempt, and no thread held in between.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{AttemptError, Control, Next, Observer, Request, after_failure, attempt};
use crate::error::{Error, Operation};
use crate::fs::FileSystem;
use crate::io::{Pool, task};
use crate::payload::Payload;

/// Whoever asked for a write and waits for its outcome.
pub trait Client: Send + 'static {
    /// Lives for as long as an attempt is running.
    type Started;

    /// Declares that an attempt starts. `None` when the client is gone and its memory
    /// with it: then the write is dropped.
    fn start(&self, borrows_memory: bool) -> Option<Self::Started>;

    /// Who is to be told of the steps, if anybody.
    fn observer(&self) -> Option<&dyn Observer>;

    /// Takes the outcome.
    fn finish(&mut self, outcome: Result<(), Error>);
}

/// Runs a write on `pool` and reports its outcome to `client`, exactly once.
pub fn submit<F: FileSystem + Clone, C: Client>(
    pool: &Pool,
    fs: F,
    request: Request,
    control: Arc<Control>,
    client: C,
) {
    let write = Write {
        pool: pool.clone(),
        fs,
        control,
        number: 1,
        reply: Reply { client, request, is_answered: false },
    };
    // A job that cannot be run is dropped, and the reply in it answers.
    let _ = pool.submit(Box::new(move || write.run()));
}

struct Write<F, C: Client> {
    pool: Pool,
    fs: F,
    control: Arc<Control>,
    number: u32,
    reply: Reply<C>,
}

impl<F: FileSystem + Clone, C: Client> Write<F, C> {
    fn run(mut self) {
        let borrows = matches!(self.reply.request.payload, Payload::Borrowed { .. });
        let Some(started) = self.reply.client.start(borrows) else {
            self.reply.is_answered = true;
            return;
        };
        let observer = self.reply.client.observer();
        let request = &self.reply.request;
        let outcome =
            catch_unwind(AssertUnwindSafe(|| attempt(&self.fs, request, &self.control, observer)))
                .unwrap_or_else(|panic| Err(AttemptError::from(task::internal(&*panic))));
        let next = outcome.map_err(|error| after_failure(request, self.number, error, observer));
        match next {
            Ok(()) => self.reply.answer(Ok(())),
            Err(Next::GiveUp(error)) => self.reply.answer(Err(error)),
            Err(Next::Retry { attempt, delay }) => {
                self.number = attempt;
                let pool = self.pool.clone();
                let _ = pool.submit_after(delay, Box::new(move || self.run()));
            }
        }
        // Until here the client's memory was in use, or will be by the next attempt,
        // which asks again.
        drop(started);
    }
}

/// Answers in any case: a job that is dropped unrun, because the system refuses to start
/// a thread, must not leave anybody waiting.
struct Reply<C: Client> {
    client: C,
    request: Request,
    is_answered: bool,
}

impl<C: Client> Reply<C> {
    fn answer(&mut self, outcome: Result<(), Error>) {
        self.is_answered = true;
        self.client.finish(outcome);
    }
}

impl<C: Client> Drop for Reply<C> {
    fn drop(&mut self) {
        if !self.is_answered {
            let path = self.request.path.clone();
            self.answer(Err(Error {
                kind: task::refused(),
                operation: Operation::AtomicWrite,
                path,
                attempts: 0,
                exhausted: false,
                committed: false,
            }));
        }
    }
}
