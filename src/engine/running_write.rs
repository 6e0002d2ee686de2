//! A write under way: its attempts, and the syncs that it shares with others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::admission::Admission;
use super::batcher::{Batcher, Role};
use super::dispatch::{Dispatcher, FileQueueGuard, StagingTicket, StartedWrites};
use super::file_queue::QueueKey;
use super::group_commit::{GroupMember, MemberOutcome, commit_together, sync_dirs_together};
use super::queued_write::QueuedWrite;
use super::sync_costs::SyncCosts;
use crate::descriptors;
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::{FileId, FileSystem};
use crate::metrics::METRICS;
use crate::mutex::guard;
use crate::resolve::Target;
use crate::threads::task;
use crate::write::durability::SyncSequence;
use crate::write::{
    AttemptError, Control, Durability, RetryDecision, StagedWrite, WriteAttempt, WriteRequest,
    decide_retry,
};

/// Larger writes are synced alone. What costs is to send their bytes to the disk, and others
/// should not have to wait for that.
const LARGEST_SHARED: usize = 1 << 20;

/// How long to wait after the system has refused to open another file.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(20);

/// How many writes may be under way at a time on a file system that may have so many files
/// open. Each needs two; the process has other uses for them.
fn most_temp_files(most_open_files: u64) -> usize {
    usize::try_from(most_open_files / 8).unwrap_or(usize::MAX).clamp(4, 512)
}

/// What the running writes of an engine share.
pub(super) struct RunningWrites<F: FileSystem> {
    /// Which writes may have a temp file now.
    admission: Admission<RunningWrite<F>>,
    /// Writes between two attempts. The queues of their files stay busy.
    paused: Mutex<HashMap<QueueKey, RunningWrite<F>>>,
    /// Staged writes that wait for a sync of their whole file system, by device.
    whole_syncs: Batcher<u64, UnsyncedWrite<F>>,
    /// Writes in their places that wait for a sync of their directory.
    dir_syncs: Batcher<FileId, UnsyncedWrite<F>>,
    costs: SyncCosts,
}

/// A write that waits for a sync, and what it has staged.
type UnsyncedWrite<F> = (RunningWrite<F>, StagedWrite<F>);

/// A write under way.
pub(super) struct RunningWrite<F: FileSystem> {
    guard: FileQueueGuard<F>,
    writes: Arc<RunningWrites<F>>,
    /// The number of the attempt.
    number: u32,
    lead: QueuedWrite,
    /// Older ones, for which it stands.
    absorbed: Vec<QueuedWrite>,
    /// The target, if it was found a moment ago.
    found: Option<Target<F>>,
    /// It is about to be staged.
    ticket: Option<StagingTicket>,
    permit: Option<TempFilePermit<F>>,
    /// It has failed together with others and has to be made alone.
    is_alone: bool,
    /// An attempt that failed afterwards has put its content in place.
    is_in_place: bool,
    /// Since when the system has refused to open another file.
    short_since: Option<Instant>,
    /// The control of attempts at what is in place already: it is too late to cancel them.
    uncancellable: Control,
}

/// The permit to have a temp file on a device. When it is dropped, the next write gets it.
struct TempFilePermit<F: FileSystem> {
    dispatcher: Dispatcher<F>,
    writes: Arc<RunningWrites<F>>,
    device: u64,
}

impl<F: FileSystem> Drop for TempFilePermit<F> {
    fn drop(&mut self) {
        let Some(mut next) = self.writes.admission.leave(self.device) else { return };
        let (dispatcher, writes) = (self.dispatcher.clone(), Arc::clone(&self.writes));
        next.permit = Some(TempFilePermit { dispatcher, writes, device: self.device });
        self.dispatcher.run_staging(move |_, ticket| {
            next.ticket = Some(ticket);
            next.run();
        });
    }
}

impl<F: FileSystem> RunningWrites<F> {
    pub(super) fn new(fs: &F) -> RunningWrites<F> {
        RunningWrites {
            admission: Admission::new(most_temp_files(fs.most_open_files())),
            paused: Mutex::default(),
            whole_syncs: Batcher::default(),
            dir_syncs: Batcher::default(),
            costs: SyncCosts::default(),
        }
    }

    /// Runs writes that may start, on the calling thread.
    pub(super) fn start(self: Arc<Self>, started: StartedWrites<F>) {
        let StartedWrites { guard, lead, absorbed, found, ticket } = started;
        let running = RunningWrite {
            guard,
            writes: self,
            number: lead.caller.attempt().unwrap_or(1),
            lead,
            absorbed,
            found,
            ticket,
            permit: None,
            is_alone: false,
            is_in_place: false,
            short_since: None,
            uncancellable: Control::default(),
        };
        running.run();
    }

    /// Takes out the writes that a paused write of a file stands for, itself included, if another
    /// one may stand for it.
    pub(super) fn take_paused(&self, key: &QueueKey) -> Vec<QueuedWrite> {
        let mut all = guard(&self.paused);
        let is_replaceable = all.get(key).is_some_and(|running| running.lead.is_replaceable());
        let paused = if is_replaceable { all.remove(key) } else { None };
        drop(all);
        paused.map_or_else(Vec::new, |RunningWrite { lead, mut absorbed, .. }| {
            absorbed.push(lead);
            absorbed
        })
    }

    /// Takes a paused write out for the attempt with this number. `None` if it has been taken out
    /// before; another write of the file may be paused by now.
    fn resume(&self, key: &QueueKey, number: u32) -> Option<RunningWrite<F>> {
        let mut paused = guard(&self.paused);
        let is_same = paused.get(key).is_some_and(|running| running.number == number);
        is_same.then(|| paused.remove(key)).flatten()
    }

    /// Ends the writes that have been cancelled while they wait.
    pub(super) fn end_cancelled(&self) {
        let paused: Vec<_> =
            guard(&self.paused).extract_if(|_, running| running.is_cancelled()).collect();
        let held_back = self.admission.take_if(RunningWrite::is_cancelled);
        for mut running in paused.into_iter().map(|(_, running)| running).chain(held_back) {
            running.lead.refuse(ErrorKind::Cancelled, running.number - 1);
        }
    }
}

impl<F: FileSystem> RunningWrite<F> {
    fn attempt(&self) -> WriteAttempt<'_, F> {
        let QueuedWrite { request, control, caller, .. } = &self.lead;
        let control = if self.is_in_place { &self.uncancellable } else { control };
        let is_in_place = self.is_in_place;
        WriteAttempt { is_in_place, ..WriteAttempt::new(request, control, caller.observer()) }
    }

    fn is_cancelled(&self) -> bool {
        !self.is_in_place && self.lead.control.is_cancelled()
    }

    /// Begins an attempt.
    fn run(self) {
        if let Some(running) = self.admitted() {
            running.stage();
        }
    }

    /// A write that syncs may have to wait until others on the same device are done.
    fn admitted(mut self) -> Option<RunningWrite<F>> {
        let QueueKey::File((FileId { device, .. }, _)) = *self.guard.key() else {
            return Some(self);
        };
        if self.permit.is_some() || self.lead.request.options.durability == Durability::None {
            return Some(self);
        }
        // A write that waits keeps no directory open.
        let (found, ticket) = (self.found.take(), self.ticket.take());
        let (dispatcher, writes) = (self.guard.dispatcher().clone(), Arc::clone(&self.writes));
        let mut running = writes.admission.enter(device, descriptors::most_writes(), self)?;
        (running.found, running.ticket) = (found, ticket);
        running.permit = Some(TempFilePermit { dispatcher, writes, device });
        Some(running)
    }

    /// Makes the first half of an attempt.
    fn stage(mut self) {
        // A worker thread that has ended takes its data along, but not that of other threads.
        while !self.lead.start() {
            self.found = None;
            let Some(next) = self.absorbed.pop() else { return };
            self.lead = next;
        }
        let found = self.found.take();
        let fs = self.guard.dispatcher().fs();
        match task::catch_panic(|| StagedWrite::stage(fs, &self.attempt(), found)) {
            Ok(staged) => self.commit(staged),
            Err(error) => self.conclude(Err(error)),
        }
    }

    /// Makes the second half, with others if there are any and that may help, or alone.
    fn commit(mut self, staged: StagedWrite<F>) {
        let (device, writes) = (staged.device(), Arc::clone(&self.writes));
        let may_share = !self.is_alone
            && self.lead.request.payload.len() <= LARGEST_SHARED
            && writes.costs.are_worth_sharing(device);
        match *self.guard.key() {
            _ if !may_share => self.commit_alone(staged),
            _ if staged.syncs_with_others => {
                let (dispatcher, ticket) = (self.guard.dispatcher().clone(), self.ticket.take());
                let role = writes.whole_syncs.join(device, (self, staged), || {
                    drop(ticket);
                    !dispatcher.is_staging()
                });
                writes.run_whole_syncs(&dispatcher, device, role);
            }
            QueueKey::File((dir, _)) if staged.syncs == SyncSequence::FileThenDir => {
                self.commit_in_dir(staged, dir);
            }
            _ => self.commit_alone(staged),
        }
    }

    fn commit_alone(mut self, mut staged: StagedWrite<F>) {
        self.ticket = None;
        let (device, begun) = (staged.device(), Instant::now());
        let waits_for_device = staged.syncs.waits_for_device();
        let outcome = task::catch_panic(|| staged.commit(&self.attempt()).map(drop));
        // Its files are closed before its caller is told.
        drop(staged);
        if waits_for_device {
            self.writes.costs.alone_took(device, begun.elapsed());
        }
        self.conclude(outcome);
    }

    /// Syncs the file alone, and its directory together with others.
    fn commit_in_dir(mut self, mut staged: StagedWrite<F>, dir: FileId) {
        self.ticket = None;
        let writes = Arc::clone(&self.writes);
        let (device, begun) = (staged.device(), Instant::now());
        let published = task::catch_panic(|| staged.publish(&self.attempt()));
        writes.costs.alone_took(device, begun.elapsed());
        match published {
            Ok(_) => {
                let role = writes.dir_syncs.join(dir, (self, staged), || true);
                writes.run_dir_syncs(dir, role);
            }
            Err(error) => {
                drop(staged);
                self.conclude(Err(error));
            }
        }
    }

    /// Takes what came of an attempt that was made together with others.
    fn conclude_shared(mut self, outcome: MemberOutcome) {
        match outcome {
            MemberOutcome::Done(outcome) => self.conclude(outcome),
            MemberOutcome::Alone { is_in_place } => {
                self.lead.caller.stop();
                self.is_alone = true;
                self.is_in_place |= is_in_place;
                let dispatcher = self.guard.dispatcher().clone();
                dispatcher.run_on_thread(move |_| self.run());
            }
        }
    }

    /// Ends an attempt.
    fn conclude(mut self, outcome: Result<(), AttemptError>) {
        if self.is_short(&outcome) {
            return self.wait_for_descriptors();
        }
        let WriteRequest { path, options, .. } = &self.lead.request;
        let next = outcome.map_err(|error| {
            let (error, observer) =
                (error.or_committed(self.is_in_place), self.lead.caller.observer());
            decide_retry(Operation::AtomicWrite, path, options, self.number, error, observer)
        });
        self.lead.caller.stop();
        (self.permit, self.ticket) = (None, None);
        match next {
            Ok(()) => self.finish(Ok(())),
            Err(RetryDecision::GiveUp(error)) => self.finish(Err(error)),
            Err(RetryDecision::Retry { attempt, delay }) => {
                if self.lead.caller.attempt().is_some() {
                    return self.lead.hand_back(attempt, delay);
                }
                self.number = attempt;
                self.is_alone = false;
                self.pause(delay);
            }
        }
    }

    /// Whether the attempt has failed only because the process has so many files open, of which
    /// holdfast is going to close some.
    fn is_short(&mut self, outcome: &Result<(), AttemptError>) -> bool {
        let Err(AttemptError { kind, committed: false }) = outcome else { return false };
        if self.is_in_place || !descriptors::is_short(kind) {
            return false;
        }
        let device = self.permit.as_ref().map(|permit| permit.device);
        let is_shared = device.is_some_and(|device| self.writes.admission.is_shared(device));
        let since = *self.short_since.get_or_insert_with(Instant::now);
        (is_shared || descriptors::will_close_some())
            && since.elapsed() < descriptors::patience(None)
    }

    /// Makes the attempt anew in a moment.
    fn wait_for_descriptors(mut self) {
        descriptors::measure();
        self.lead.caller.stop();
        (self.permit, self.ticket) = (None, None);
        self.is_alone = false;
        let number = self.number;
        match self.lead.caller.attempt() {
            Some(_) => self.lead.hand_back(number, SHORTAGE_PAUSE),
            None => self.pause(SHORTAGE_PAUSE),
        }
    }

    fn finish(mut self, outcome: Result<(), Error>) {
        for write in std::mem::take(&mut self.absorbed) {
            write.answer_like(&outcome);
        }
        self.lead.answer(outcome);
    }

    /// Waits for the next attempt without holding a thread, and without what other processes may
    /// be waiting for.
    fn pause(self, delay: Duration) {
        let (dispatcher, writes) = (self.guard.dispatcher().clone(), Arc::clone(&self.writes));
        let (key, number) = (self.guard.key().clone(), self.number);
        let can_be_cancelled = !self.is_in_place;
        let control = Arc::clone(&self.lead.control);
        control.give_back();
        guard(&writes.paused).insert(key.clone(), self);
        let kept_by = Arc::clone(&control);
        let resume = move || {
            let Some(take_again) = kept_by.take_again() else {
                return writes.resume(&key, number).map_or((), RunningWrite::run);
            };
            let _ = take_again(Box::new(move |taken| {
                let Some(mut running) = writes.resume(&key, number) else { return };
                let dispatcher = running.guard.dispatcher().clone();
                dispatcher.run_on_thread(move |_| match taken {
                    Ok(()) => running.run(),
                    Err(reason) => running.lead.refuse(reason, number - 1),
                });
            }));
        };
        // A caller that cancels from now on finds it among the paused ones.
        let delay = if can_be_cancelled && control.is_cancelled() { Duration::ZERO } else { delay };
        let _ = dispatcher.pool().submit_after(delay, Box::new(resume));
    }
}

// ── Syncs that serve several writes ───────────────────────────────────────────────────────

impl<F: FileSystem> RunningWrites<F> {
    /// Syncs and publishes a group of writes, and then the group that has gathered meanwhile.
    fn run_whole_syncs(
        self: Arc<Self>,
        dispatcher: &Dispatcher<F>,
        device: u64,
        mut role: Role<UnsyncedWrite<F>>,
    ) {
        loop {
            role = match role {
                Role::Lead(group) => {
                    self.sync_whole(dispatcher, device, group);
                    self.whole_syncs.next(&device, || dispatcher.is_staging())
                }
                Role::StartTimer => {
                    let (writes, own_dispatcher) = (Arc::clone(&self), dispatcher.clone());
                    let begin = move || {
                        let role = writes.whole_syncs.begin(&device);
                        writes.run_whole_syncs(&own_dispatcher, device, role);
                    };
                    let delay = self.costs.longest_wait(device);
                    match dispatcher.pool().submit_after(delay, Box::new(begin)) {
                        Ok(()) => return,
                        Err(_) => self.whole_syncs.begin(&device),
                    }
                }
                Role::Follow => return,
            }
        }
    }

    fn sync_whole(
        &self,
        dispatcher: &Dispatcher<F>,
        device: u64,
        mut group: Vec<UnsyncedWrite<F>>,
    ) {
        if group.len() == 1 || !self.costs.whole_pays(device, group.len()) {
            // The first of them on this thread, so that the others soon join it at the disk.
            let (first, staged) = group.swap_remove(0);
            for (running, staged) in group {
                dispatcher.run_on_thread(move |_| running.commit_alone(staged));
            }
            return first.commit_alone(staged);
        }
        conclude_group(group, |members| {
            let (outcomes, took) = commit_together(members);
            self.costs.whole_took(device, took);
            outcomes
        });
    }

    /// Syncs a directory for the writes in it that wait for that, and then for the group that has
    /// gathered meanwhile.
    fn run_dir_syncs(&self, dir: FileId, mut role: Role<UnsyncedWrite<F>>) {
        while let Role::Lead(group) = role {
            conclude_group(group, sync_dirs_together);
            role = self.dir_syncs.next(&dir, || false);
        }
    }
}

/// Takes a step with several writes at once. A panic is a failure of all of them.
fn conclude_group<F: FileSystem>(
    group: Vec<UnsyncedWrite<F>>,
    step: impl FnOnce(Vec<GroupMember<'_, F>>) -> Vec<MemberOutcome>,
) {
    METRICS.writes.round(group.len());
    let (running, staged): (Vec<RunningWrite<F>>, Vec<StagedWrite<F>>) = group.into_iter().unzip();
    let members = running
        .iter()
        .zip(staged)
        .map(|(running, staged)| GroupMember::new(running.attempt(), staged));
    let members = members.collect();
    match task::catch_panic(|| Ok::<_, ErrorKind>(step(members))) {
        Ok(outcomes) => running
            .into_iter()
            .zip(outcomes)
            .for_each(|(running, outcome)| running.conclude_shared(outcome)),
        Err(reason) => {
            running.into_iter().for_each(|running| running.conclude(Err(reason.duplicate().into())))
        }
    }
}
