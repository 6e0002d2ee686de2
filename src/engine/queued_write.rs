//! A write that waits for its file, and the caller that waits for the write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Operation};
use crate::metrics::METRICS;
use crate::payload::Payload;
use crate::threads::task;
use crate::write::{Control, Observer, WriteEvent, WriteRequest};

/// The caller that asked for a write and waits for its outcome.
pub trait WriteCaller: Send {
    /// Declares that an attempt starts. `false` when the caller is gone and its memory with
    /// it: then its data is not written.
    fn start(&mut self, borrows_memory: bool) -> bool;

    /// Declares that the attempt has ended.
    fn stop(&mut self);

    /// The observer that is told of the steps, if there is one.
    fn observer(&self) -> Option<&dyn Observer>;

    /// Takes the outcome.
    fn finish(&mut self, outcome: Result<(), Error>);

    /// The number of the attempt, where the caller has each made by a write of its own, because
    /// what it writes depends on what is there before.
    fn attempt(&self) -> Option<u32> {
        None
    }

    /// Takes, instead of an outcome, that the caller is to have attempt `attempt` made after this
    /// delay.
    fn retry(&mut self, _attempt: u32, _delay: Duration) {}
}

/// One write, and its caller, who is answered exactly once: a write that is dropped unrun, because
/// the system refuses to start a thread, is answered with that.
pub(super) struct QueuedWrite {
    pub(super) request: WriteRequest,
    pub(super) control: Arc<Control>,
    pub(super) caller: Box<dyn WriteCaller>,
    can_merge: bool,
    is_answered: bool,
    begun: Instant,
}

impl QueuedWrite {
    pub(super) fn new(
        request: WriteRequest,
        control: Arc<Control>,
        can_merge: bool,
        caller: Box<dyn WriteCaller>,
    ) -> QueuedWrite {
        let begun = Instant::now();
        QueuedWrite { request, control, caller, can_merge, is_answered: false, begun }
    }

    /// Whether a newer write can be made in place of this one.
    pub(super) fn merges_into(&self, newer: &QueuedWrite) -> bool {
        self.can_merge
            && newer.can_merge
            && self.is_replaceable()
            && self.request.options == newer.request.options
            // Where the key ignores case the names may still differ.
            && self.request.path.file_name() == newer.request.path.file_name()
    }

    /// Whether another write may stand for it. What it makes must be new, so another file there
    /// would not do.
    pub(super) fn is_replaceable(&self) -> bool {
        !self.request.options.create_only
    }

    /// Reports to its observer that a newer write stands for it.
    pub(super) fn merged(&self) {
        METRICS.writes.merged.add(1);
        if let Some(observer) = self.caller.observer() {
            observer.event(WriteEvent::Merged { size: self.request.payload.len() as u64 });
        }
    }

    /// Tells the caller that an attempt starts. `false` when the caller is gone: the write is
    /// not made then, and no answer is wanted.
    pub(super) fn start(&mut self) -> bool {
        let borrows_memory = matches!(self.request.payload, Payload::Borrowed { .. });
        self.is_answered = !self.caller.start(borrows_memory);
        !self.is_answered
    }

    pub(super) fn answer(&mut self, outcome: Result<(), Error>) {
        self.is_answered = true;
        let answered = outcome.as_ref().map(drop).map_err(|error| &error.kind);
        METRICS.writes.answered(self.begun, self.request.options.durability, answered);
        // A caller that has its answer finds a lock free that was kept for the write.
        self.control.release_kept();
        self.caller.finish(outcome);
    }

    /// Leaves the next attempt to the caller.
    pub(super) fn hand_back(mut self, attempt: u32, delay: Duration) {
        self.is_answered = true;
        self.caller.retry(attempt, delay);
        self.control.release_kept();
    }

    /// Answers with the outcome of the write that stood for this one.
    pub(super) fn answer_like(mut self, outcome: &Result<(), Error>) {
        self.answer(match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(error.duplicate_for(&self.request.path)),
        });
    }

    /// Answers that so many attempts were made and none more will be.
    pub(super) fn refuse(&mut self, kind: ErrorKind, attempts: u32) {
        self.answer(Err(Error {
            kind,
            operation: Operation::AtomicWrite,
            path: self.request.path.clone(),
            attempts,
            exhausted: false,
            committed: false,
        }));
    }
}

impl Drop for QueuedWrite {
    fn drop(&mut self) {
        if !self.is_answered {
            self.refuse(task::no_thread(), 0);
        }
    }
}
