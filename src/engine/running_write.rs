//! A write under way: its attempts, and whoever waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::file_queue::Key;
use super::group_commit::MemberOutcome;
use super::{Engine, FileQueueGuard, Shared, WriteCaller};
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::{FileId, FileSystem};
use crate::metrics::METRICS;
use crate::mutex::guard;
use crate::payload::Payload;
use crate::resolve::Target;
use crate::threads::task;
use crate::write::durability::SyncSequence;
use crate::write::{
    AttemptError, Control, Durability, RetryDecision, StagedWrite, WriteAttempt, WriteEvent,
    WriteRequest, decide_retry,
};

/// Larger writes are synced alone. What costs is to send their bytes to the disk, and others
/// should not have to wait for that.
const LARGEST_SHARED: usize = 1 << 20;

/// One write, with whoever waits for it.
pub(super) struct Write {
    pub(super) request: WriteRequest,
    pub(super) control: Arc<Control>,
    pub(super) can_merge: bool,
    pub(super) reply: Reply,
}

impl Write {
    pub(super) fn attempt<F: FileSystem>(&self) -> WriteAttempt<'_, F> {
        WriteAttempt::new(&self.request, &self.control, self.reply.client.observer())
    }

    fn borrows_memory(&self) -> bool {
        matches!(self.request.payload, Payload::Borrowed { .. })
    }

    /// Tells its observer that a newer write stands for it.
    pub(super) fn merged(&self) {
        METRICS.writes.merged.add(1);
        if let Some(observer) = self.reply.client.observer() {
            observer.event(WriteEvent::Merged { size: self.request.payload.len() as u64 });
        }
    }

    pub(super) fn answer_like(mut self, outcome: &Result<(), Error>) {
        self.reply.answer(match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(error.duplicate_for(&self.request.path)),
        });
    }
}

/// A write under way.
pub(super) struct Running<F: FileSystem + Clone> {
    pub(super) lane: FileQueueGuard<F>,
    pub(super) number: u32,
    pub(super) lead: Write,
    /// Older ones, for which it stands.
    pub(super) absorbed: Vec<Write>,
    /// The target, if it has been found just now.
    pub(super) found: Option<Target<F>>,
    /// It is about to be staged.
    pub(super) coming: Option<Coming<F>>,
    /// The permission to have a temp file, where there may be only so many.
    pub(super) place: Option<Place<F>>,
    /// It has failed together with others and has to be made alone.
    pub(super) is_alone: bool,
    /// Its content came to its place in an attempt that failed after that.
    pub(super) is_in_place: bool,
}

/// Counts a write that is on its way to being staged.
pub(super) struct Coming<F: FileSystem + Clone>(Engine<F>);

impl<F: FileSystem + Clone> Coming<F> {
    pub(super) fn new(engine: &Engine<F>) -> Coming<F> {
        engine.shared.coming.fetch_add(1, Ordering::SeqCst);
        Coming(engine.clone())
    }
}

impl<F: FileSystem + Clone> Drop for Coming<F> {
    fn drop(&mut self) {
        self.0.shared.coming.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The permission to have a temp file on a device.
pub(super) struct Place<F: FileSystem + Clone> {
    pub(super) engine: Engine<F>,
    pub(super) device: u64,
}

impl<F: FileSystem + Clone> Drop for Place<F> {
    fn drop(&mut self) {
        if let Some(mut next) = self.engine.shared.admission.leave(self.device) {
            next.place = Some(Place { engine: self.engine.clone(), device: self.device });
            self.engine.bring_on(move |_, coming| {
                next.coming = Some(coming);
                next.run();
            });
        }
    }
}

impl<F: FileSystem + Clone> Running<F> {
    /// Begins an attempt.
    pub(super) fn run(self) {
        if let Some(running) = self.admitted() {
            running.stage();
        }
    }

    /// Whoever syncs may have to wait until others on the same device are done.
    fn admitted(mut self) -> Option<Running<F>> {
        let Key::Name(FileId { device, .. }, _) = self.lane.key else { return Some(self) };
        if self.place.is_some() || self.lead.request.options.durability == Durability::None {
            return Some(self);
        }
        let (found, coming) = (self.found.take(), self.coming.take());
        let engine = self.lane.engine.clone();
        let mut running = engine.shared.admission.enter(device, self)?;
        // What waits keeps no directory open.
        (running.found, running.coming) = (found, coming);
        running.place = Some(Place { engine, device });
        Some(running)
    }

    /// Makes the first half of an attempt, and the second or leaves that to others.
    fn stage(mut self) {
        // A worker thread that has ended takes its data along, but not that of others.
        while !self.lead.reply.client.start(self.lead.borrows_memory()) {
            self.lead.reply.is_answered = true;
            self.found = None;
            let Some(next) = self.absorbed.pop() else { return };
            self.lead = next;
        }
        let engine = self.lane.engine.clone();
        let found = self.found.take();
        let stage = || StagedWrite::stage(&engine.shared.fs, &self.lead.attempt(), found);
        let staged = task::catch_panic(stage);
        match staged {
            Ok(staged) => self.commit(staged),
            Err(error) => self.conclude(Err(error)),
        }
    }

    /// Makes the second half in company, if there is any and that may help, or alone.
    fn commit(mut self, staged: StagedWrite<F>) {
        let payload = &self.lead.request.payload;
        let device = staged.device();
        let engine = self.lane.engine.clone();
        let may_share = !self.is_alone
            && payload.len() <= LARGEST_SHARED
            && engine.shared.costs.are_worth_sharing(device);
        if !may_share {
            return self.commit_alone(staged);
        }
        if staged.syncs_with_others {
            let coming = self.coming.take();
            let duty = engine.shared.epochs.join(device, (self, staged), || {
                drop(coming);
                !engine.is_anybody_coming()
            });
            return engine.run_epochs(device, duty);
        }
        match self.lane.key {
            Key::Name(dir, _) if staged.syncs == SyncSequence::FileThenDir => {
                self.commit_in_dir(staged, dir);
            }
            _ => self.commit_alone(staged),
        }
    }

    pub(super) fn commit_alone(mut self, staged: StagedWrite<F>) {
        self.coming = None;
        let Shared { costs, .. } = &*self.lane.engine.shared;
        let (device, begun) = (staged.device(), Instant::now());
        let outcome = task::catch_panic(|| staged.commit(&self.lead.attempt()).map(drop));
        // Its files are closed before its caller is told.
        drop(staged);
        if self.lead.request.options.durability != Durability::None {
            costs.alone_took(device, begun.elapsed());
        }
        self.conclude(outcome);
    }

    /// Syncs the file alone, and its directory together with others.
    fn commit_in_dir(mut self, staged: StagedWrite<F>, dir: FileId) {
        self.coming = None;
        let engine = self.lane.engine.clone();
        let Shared { costs, .. } = &*engine.shared;
        let (device, begun) = (staged.device(), Instant::now());
        let published = task::catch_panic(|| staged.publish(&self.lead.attempt()));
        costs.alone_took(device, begun.elapsed());
        match published {
            Ok(_) => {
                let duty = engine.shared.dir_syncs.join(dir, (self, staged), || true);
                engine.sync_dir(dir, duty);
            }
            Err(error) => {
                drop(staged);
                self.conclude(Err(error));
            }
        }
    }

    /// Takes what came of an attempt that was made together with others.
    pub(super) fn take(mut self, outcome: MemberOutcome) {
        match outcome {
            MemberOutcome::Done(outcome) => self.conclude(outcome),
            MemberOutcome::Alone { is_in_place } => {
                self.lead.reply.client.stop();
                self.is_alone = true;
                if is_in_place {
                    // It is too late to cancel what is in its place.
                    (self.is_in_place, self.lead.control) = (true, Arc::default());
                }
                let engine = self.lane.engine.clone();
                engine.run_on_a_thread(move |_| self.run());
            }
        }
    }

    /// Ends an attempt.
    pub(super) fn conclude(mut self, outcome: Result<(), AttemptError>) {
        let observer = self.lead.reply.client.observer();
        let WriteRequest { path, options, .. } = &self.lead.request;
        let next = outcome.map_err(|error| {
            let error = error.or_committed(self.is_in_place);
            decide_retry(Operation::AtomicWrite, path, options, self.number, error, observer)
        });
        self.lead.reply.client.stop();
        (self.place, self.coming) = (None, None);
        match next {
            Ok(()) => self.finish(Ok(())),
            Err(RetryDecision::GiveUp(error)) => self.finish(Err(error)),
            Err(RetryDecision::Retry { attempt, delay }) => {
                self.number = attempt;
                self.is_alone = false;
                self.pause(delay);
            }
        }
    }

    fn finish(mut self, outcome: Result<(), Error>) {
        for write in std::mem::take(&mut self.absorbed) {
            write.answer_like(&outcome);
        }
        self.lead.reply.answer(outcome);
    }

    /// Waits for the next attempt without holding a thread.
    fn pause(self, delay: Duration) {
        let engine = self.lane.engine.clone();
        let (key, number) = (self.lane.key.clone(), self.number);
        let control = Arc::clone(&self.lead.control);
        guard(&engine.shared.paused).insert(key.clone(), self);
        let pool = engine.shared.pool.clone();
        let resume = move || {
            let mut paused = guard(&engine.shared.paused);
            // It may have been woken before, and be another one by now.
            let is_it = paused.get(&key).is_some_and(|running| running.number == number);
            let running = is_it.then(|| paused.remove(&key)).flatten();
            drop(paused);
            if let Some(running) = running {
                running.run();
            }
        };
        // Whoever cancels it from now on finds it.
        let delay = if control.is_cancelled() { Duration::ZERO } else { delay };
        let _ = pool.submit_after(delay, Box::new(resume));
    }

    pub(super) fn into_writes(self) -> Vec<Write> {
        let Running { lead, mut absorbed, .. } = self;
        absorbed.push(lead);
        absorbed
    }
}

/// Answers in any case: a write that is dropped unrun, because the system refuses to start a
/// thread, must not leave anybody waiting.
pub(super) struct Reply {
    pub(super) client: Box<dyn WriteCaller>,
    pub(super) control: Option<Arc<Control>>,
    pub(super) path: PathBuf,
    pub(super) is_answered: bool,
    /// When it was asked for, and how durable it was to be.
    pub(super) begun: Instant,
    pub(super) durability: Durability,
}

impl Reply {
    pub(super) fn answer(&mut self, outcome: Result<(), Error>) {
        self.is_answered = true;
        let told = outcome.as_ref().map(drop).map_err(|error| &error.kind);
        METRICS.writes.answered(self.begun, self.durability, told);
        // Whoever is told of the outcome finds a lock free that was kept for the write.
        if let Some(control) = &self.control {
            control.release_kept();
        }
        self.client.finish(outcome);
    }

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error {
            kind,
            operation: Operation::AtomicWrite,
            path: self.path.clone(),
            attempts: 0,
            exhausted: false,
            committed: false,
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.is_answered {
            self.answer(Err(self.error(task::no_thread())));
        }
    }
}
