//! Writes on holdfast's threads, each in its turn.
//!
//! An attempt is one job; between attempts no thread is held. Writes to one file follow each
//! other in the order of the calls ([`super::order`]); of those that wait together only the
//! newest is written, and answers for all. Writes to different files that are staged while
//! another one is synced are synced together ([`super::epoch`]); while they wait they hold no
//! thread either.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::durability::Syncs;
use super::epoch::{Member, Outcome, commit_together, settle_together};
use super::order::{self, Key, Merge, Order};
use super::sharing::{Admission, Costs, Duty, Rounds};
use super::{
    AttemptError, Control, Durability, Event, Next, Observer, Options, Request, Staged,
    after_failure,
};
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::os::Os;
use crate::fs::{FileId, FileSystem, uninterrupted};
use crate::io::{Pool, pool, task};
use crate::metrics::METRICS;
use crate::payload::Payload;
use crate::target::{self, Target};

/// Whoever asked for a write and waits for its outcome.
pub trait Client: Send {
    /// Declares that an attempt starts. `false` when the client is gone and its memory with
    /// it: then its data is not written.
    fn start(&mut self, borrows_memory: bool) -> bool;

    /// Declares that the attempt is over.
    fn stop(&mut self);

    /// Who is to be told of the steps, if anybody.
    fn observer(&self) -> Option<&dyn Observer>;

    /// Takes the outcome.
    fn finish(&mut self, outcome: Result<(), Error>);
}

/// The engine of this process, shared by all its JavaScript environments.
pub fn engine() -> &'static Engine<Os> {
    static ENGINE: OnceLock<Engine<Os>> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(Os, pool().clone()))
}

/// Runs writes on a file system.
pub struct Engine<F: FileSystem + Clone> {
    shared: Arc<Shared<F>>,
}

struct Shared<F: FileSystem + Clone> {
    fs: F,
    pool: Pool,
    order: Mutex<Order<Item<F>>>,
    /// Writes between two attempts. Their lanes stay busy.
    paused: Mutex<HashMap<Key, Running<F>>>,
    /// A job will look after lanes that are held up.
    looks_after: AtomicBool,
    /// How many writes are on their way to being staged and held up by nothing but the
    /// processor.
    coming: AtomicUsize,
    /// Who may have a temp file now.
    admission: Admission<Running<F>>,
    /// Writes that wait to be synced together, by device.
    epochs: Rounds<u64, Waiting<F>>,
    /// Writes in their places that wait for their folder to be synced.
    folder_syncs: Rounds<FileId, Waiting<F>>,
    costs: Costs,
}

/// A write that waits for others, and what it has got ready.
type Waiting<F> = (Running<F>, Staged<F>);

/// Larger writes are synced alone. What costs is to send their bytes to the disk, and others
/// should not have to wait for that.
const LARGEST_SHARED: usize = 1 << 20;

/// How many writes may be under way at a time on a file system that may have so many files
/// open. Each needs two; the process has other uses for them.
fn most_drafts(most_open_files: u64) -> usize {
    usize::try_from(most_open_files / 8).unwrap_or(usize::MAX).clamp(32, 512)
}

/// What waits in a lane.
enum Item<F: FileSystem + Clone> {
    Write(Write),
    /// Something else that takes its turn, and has the lane until it drops it.
    Turn(Box<dyn FnOnce(Lane<F>) + Send>),
}

impl<F: FileSystem + Clone> Merge for Item<F> {
    fn merges_into(&self, newer: &Item<F>) -> bool {
        match (self, newer) {
            // Where the key ignores case the names may still differ.
            (Item::Write(older), Item::Write(newer)) => {
                older.can_merge
                    && newer.can_merge
                    && older.request.options == newer.request.options
                    && older.request.path.file_name() == newer.request.path.file_name()
            }
            _ => false,
        }
    }

    fn is_write(&self) -> bool {
        matches!(self, Item::Write(_))
    }
}

impl<F: FileSystem + Clone> Clone for Engine<F> {
    fn clone(&self) -> Engine<F> {
        Engine { shared: Arc::clone(&self.shared) }
    }
}

impl<F: FileSystem + Clone> Engine<F> {
    /// An engine of its own: the writes of different engines know nothing of each other.
    pub fn new(fs: F, pool: Pool) -> Engine<F> {
        let admission = Admission::new(most_drafts(fs.most_open_files()));
        Engine {
            shared: Arc::new(Shared {
                fs,
                pool,
                order: Mutex::default(),
                paused: Mutex::default(),
                looks_after: AtomicBool::new(false),
                coming: AtomicUsize::new(0),
                admission,
                epochs: Rounds::default(),
                folder_syncs: Rounds::default(),
                costs: Costs::default(),
            }),
        }
    }

    /// Runs a write in its turn and reports its outcome to `client`, exactly once. With a
    /// `control` it can be cancelled. One that cannot, and `can_merge`, may be replaced by a
    /// newer one with equal options, whose outcome is then its own.
    pub fn submit(
        &self,
        request: Request,
        control: Option<Arc<Control>>,
        can_merge: bool,
        client: Box<dyn Client>,
    ) {
        let path = request.path.clone();
        let options = request.options.clone();
        let durability = options.durability;
        let write = Write {
            can_merge: can_merge && control.is_none(),
            control: control.clone().unwrap_or_default(),
            reply: Reply {
                client,
                control: control.clone(),
                path: path.clone(),
                is_answered: false,
                begun: Instant::now(),
                durability,
            },
            request,
        };
        self.arrive(path.clone(), options, Item::Write(write));
        if let Some(control) = control {
            let engine = self.clone();
            control.on_cancel(Box::new(move || engine.wake(&path)));
        }
    }

    /// Calls `turn` when all that was asked for before, for the file at `path`, is done. What
    /// is asked for later waits until the lane is dropped.
    pub fn in_turn(
        &self,
        path: PathBuf,
        options: Options,
        turn: impl FnOnce(Lane<F>) + Send + 'static,
    ) {
        self.arrive(path, options, Item::Turn(Box::new(turn)));
    }

    /// Runs a write on the calling thread. It takes the place of those that wait for the same
    /// file, and comes after what is under way there: nothing older lands after it.
    ///
    /// # Errors
    ///
    /// As [`super::run`].
    pub fn write_now(
        &self,
        mut request: Request,
        observer: Option<&dyn Observer>,
    ) -> Result<(), Error> {
        let (begun, durability) = (Instant::now(), request.options.durability);
        let (key, _) = self.find(&request.path, &request.options);
        let (give, take) = mpsc::channel();
        let turn = Item::Turn(Box::new(move |lane| {
            // Whoever is to take it waits a few lines below.
            let _ = give.send(lane);
        }));
        let superseded = self.order().supersede(&key, turn);
        let mut superseded: Vec<_> = superseded.into_iter().filter_map(Item::into_write).collect();
        let paused = lock(&self.shared.paused).remove(&key);
        if let Some(paused) = paused {
            superseded.splice(0..0, paused.into_writes());
        }
        self.go_on(&key, None);
        let lane = take.recv();
        // It answers for them, so it has to be as durable as they were to be.
        let levels = superseded.iter().map(|write| write.request.options.durability);
        request.options.durability = levels.fold(request.options.durability, Ord::max);
        let outcome = super::run(&self.shared.fs, &request, &Control::default(), observer);
        for write in superseded {
            write.merged();
            write.answer_like(&outcome);
        }
        drop(lane);
        let told = outcome.as_ref().map(drop).map_err(|error| &error.kind);
        METRICS.writes.answered(begun, durability, told);
        outcome
    }

    fn order(&self) -> MutexGuard<'_, Order<Item<F>>> {
        lock(&self.shared.order)
    }

    fn arrive(&self, path: PathBuf, options: Options, item: Item<F>) {
        if self.order().arrive(&path, item) {
            self.bring_on(move |engine, coming| engine.place(&path, &options, coming));
        }
    }

    fn run_on_a_thread(&self, job: impl FnOnce(&Engine<F>) + Send + 'static) {
        let engine = self.clone();
        let _ = self.shared.pool.submit(Box::new(move || job(&engine)));
    }

    /// The same for what is likely to stage a write.
    fn bring_on(&self, job: impl FnOnce(&Engine<F>, Coming<F>) + Send + 'static) {
        let coming = Coming::new(self);
        self.run_on_a_thread(move |engine| job(engine, coming));
    }

    fn is_anybody_coming(&self) -> bool {
        self.shared.coming.load(Ordering::SeqCst) > 0
    }

    /// Finds the lane of the calls that have arrived for a path, and starts what may start.
    fn place(&self, path: &Path, options: &Options, coming: Coming<F>) {
        let (key, target) = self.find(path, options);
        let mut order = self.order();
        order.place(path, &key);
        let group = order.start(&key);
        let released = order.released();
        let is_anything_held_up = order.is_anything_held_up();
        drop(order);
        for key in released {
            self.bring_on(move |engine, coming| engine.go_on(&key, Some(coming)));
        }
        if is_anything_held_up {
            self.look_after_later();
        }
        if let Some(group) = group {
            let found = target.map(|target| (target, options.clone()));
            self.launch(key, group, found, Some(coming));
        }
    }

    /// Which lane a path leads to, and the target if it was found.
    fn find(&self, path: &Path, options: &Options) -> (Key, Option<Target<F>>) {
        let fs = &self.shared.fs;
        let purpose = options.folder_use();
        let found = target::resolve(fs, path, options.follow_symlinks, purpose).ok();
        let key = found.and_then(|target| {
            let folder = uninterrupted(|| fs.folder_metadata(&target.folder)).ok()?;
            Some((order::key(folder.id, &target.name), Some(target)))
        });
        key.unwrap_or_else(|| (Key::Unknown(path.to_owned()), None))
    }

    /// Starts what comes next in a lane, if anything may.
    fn go_on(&self, key: &Key, coming: Option<Coming<F>>) {
        let group = self.order().start(key);
        if let Some(group) = group {
            self.launch(key.clone(), group, None, coming);
        }
    }

    /// Runs what a lane has started, on this thread.
    fn launch(
        &self,
        key: Key,
        group: Vec<Item<F>>,
        found: Option<(Target<F>, Options)>,
        coming: Option<Coming<F>>,
    ) {
        let lane = Lane { engine: self.clone(), key };
        let mut writes = Vec::new();
        for item in group {
            match item {
                Item::Write(write) => writes.push(write),
                // A turn is never merged, so it is alone.
                Item::Turn(turn) => return turn(lane),
            }
        }
        let Some(lead) = writes.pop() else { return };
        writes.iter().for_each(|write| write.merged());
        // What was found for one path and one use of the folder serves only that.
        let found = found.filter(|(_, options)| *options == lead.request.options);
        let found = found.map(|(target, _)| target);
        let running = Running {
            lane,
            number: 1,
            lead,
            absorbed: writes,
            found,
            coming,
            place: None,
            is_alone: false,
            is_in_place: false,
        };
        running.run();
    }

    /// Lanes that wait for a call that cannot find its file go on without it after a while.
    fn look_after_later(&self) {
        if self.shared.looks_after.swap(true, Ordering::SeqCst) {
            return;
        }
        let engine = self.clone();
        let look = move || {
            engine.shared.looks_after.store(false, Ordering::SeqCst);
            let mut order = engine.order();
            let released = order.released();
            let is_anything_held_up = order.is_anything_held_up();
            drop(order);
            released.iter().for_each(|key| engine.go_on(key, None));
            if is_anything_held_up {
                engine.look_after_later();
            }
        };
        let _ = self.shared.pool.submit_after(order::PATIENCE, Box::new(look));
    }

    /// Lets a write that has been cancelled notice it, where it is waiting.
    fn wake(&self, path: &Path) {
        let path = path.to_owned();
        self.run_on_a_thread(move |engine| {
            let is_cancelled =
                |item: &Item<F>| matches!(item, Item::Write(write) if write.control.is_cancelled());
            let cancelled = engine.order().take_if(&path, is_cancelled);
            for mut write in cancelled.into_iter().filter_map(Item::into_write) {
                write.reply.answer(Err(write.reply.error(ErrorKind::Cancelled)));
            }
            let is_cancelled = |running: &Running<F>| running.lead.control.is_cancelled();
            let paused = {
                let mut paused = lock(&engine.shared.paused);
                let key = paused.iter().find(|(_, running)| is_cancelled(running));
                let key = key.map(|(key, _)| key.clone());
                key.and_then(|key| paused.remove(&key))
            };
            let held_back = engine.shared.admission.take_if(is_cancelled);
            for mut running in paused.into_iter().chain(held_back) {
                let error = Error {
                    attempts: running.number - 1,
                    ..running.lead.reply.error(ErrorKind::Cancelled)
                };
                running.lead.reply.answer(Err(error));
            }
        });
    }

    /// Syncs and publishes writes, and then those that have come meanwhile.
    fn run_epochs(&self, device: u64, mut duty: Duty<Waiting<F>>) {
        let Shared { epochs, costs, pool, .. } = &*self.shared;
        loop {
            duty = match duty {
                Duty::Run(epoch) => {
                    self.run_epoch(device, epoch);
                    epochs.next(&device, || self.is_anybody_coming())
                }
                Duty::SeeToIt => {
                    let engine = self.clone();
                    let begin =
                        move || engine.run_epochs(device, engine.shared.epochs.begin(&device));
                    match pool.submit_after(costs.patience(device), Box::new(begin)) {
                        Ok(()) => return,
                        Err(_) => epochs.begin(&device),
                    }
                }
                Duty::Nothing => return,
            }
        }
    }

    fn run_epoch(&self, device: u64, mut epoch: Vec<Waiting<F>>) {
        if epoch.len() == 1 {
            return epoch.into_iter().for_each(|(running, staged)| running.commit_alone(staged));
        }
        if !self.shared.costs.whole_pays(device, epoch.len()) {
            // The first of them on this thread, so that the others are soon behind it.
            let first = epoch.swap_remove(0);
            for (running, staged) in epoch {
                self.run_on_a_thread(move |_| running.commit_alone(staged));
            }
            return first.0.commit_alone(first.1);
        }
        let (writes, outcome) = together(epoch, |members: Vec<Member<'_, F>>| {
            commit_together(&self.shared.fs, members)
        });
        match outcome {
            Ok((outcomes, took)) => {
                self.shared.costs.whole_took(device, took);
                for (running, outcome) in writes.into_iter().zip(outcomes) {
                    running.take(outcome);
                }
            }
            Err(text) => give_up(writes, &text),
        }
    }

    /// Syncs a folder for the writes that have arrived in it, and then for those that have
    /// come meanwhile.
    fn sync_folder(&self, folder: FileId, mut duty: Duty<Waiting<F>>) {
        while let Duty::Run(writes) = duty {
            let (writes_in_it, outcome) = together(writes, |members: Vec<Member<'_, F>>| {
                settle_together(&self.shared.fs, members)
            });
            match outcome {
                Ok(outcomes) => writes_in_it
                    .into_iter()
                    .zip(outcomes)
                    .for_each(|(running, outcome)| running.take(outcome)),
                Err(text) => give_up(writes_in_it, &text),
            }
            duty = self.shared.folder_syncs.next(&folder, || false);
        }
    }
}

/// Takes a step with several writes at once. A panic is a failure of all of them.
fn together<F: FileSystem + Clone, T>(
    waiting: Vec<Waiting<F>>,
    step: impl FnOnce(Vec<Member<'_, F>>) -> T,
) -> (Vec<Running<F>>, Result<T, ErrorKind>) {
    METRICS.writes.round(waiting.len());
    let (writes, staged): (Vec<Running<F>>, Vec<Staged<F>>) = waiting.into_iter().unzip();
    let members = writes.iter().zip(staged).map(|(running, staged)| {
        let Write { request, control, reply, .. } = &running.lead;
        Member::new(request, control, reply.client.observer(), staged)
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| step(members.collect())))
        .map_err(|panic| task::internal(&*panic));
    (writes, outcome)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under these locks can panic and leave a state half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The turn of whoever has it. When it is dropped, the next in the lane begins.
pub struct Lane<F: FileSystem + Clone> {
    engine: Engine<F>,
    key: Key,
}

impl<F: FileSystem + Clone> Drop for Lane<F> {
    fn drop(&mut self) {
        let mut order = self.engine.order();
        order.finish(&self.key);
        let group = order.start(&self.key);
        drop(order);
        if let Some(group) = group {
            // At the back of the queue, so that other files get their turn too.
            let key = self.key.clone();
            self.engine.bring_on(move |engine, coming| {
                engine.launch(key, group, None, Some(coming));
            });
        }
    }
}

/// One write, with whoever waits for it.
struct Write {
    request: Request,
    control: Arc<Control>,
    can_merge: bool,
    reply: Reply,
}

impl<F: FileSystem + Clone> Item<F> {
    fn into_write(self) -> Option<Write> {
        match self {
            Item::Write(write) => Some(write),
            Item::Turn(_) => None,
        }
    }
}

impl Write {
    fn borrows_memory(&self) -> bool {
        matches!(self.request.payload, Payload::Borrowed { .. })
    }

    /// Tells its observer that a newer write stands for it.
    fn merged(&self) {
        METRICS.writes.merged.add(1);
        if let Some(observer) = self.reply.client.observer() {
            observer.event(Event::Merged { size: self.request.payload.len() as u64 });
        }
    }

    fn answer_like(mut self, outcome: &Result<(), Error>) {
        self.reply.answer(match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(error.duplicate_for(&self.request.path)),
        });
    }
}

/// A write under way.
struct Running<F: FileSystem + Clone> {
    lane: Lane<F>,
    number: u32,
    lead: Write,
    /// Older ones, for which it stands.
    absorbed: Vec<Write>,
    /// The target, if it has been found just now.
    found: Option<Target<F>>,
    /// It is about to be staged.
    coming: Option<Coming<F>>,
    /// The permission to have a temp file, where there may be only so many.
    place: Option<Place<F>>,
    /// It has failed together with others and has to be made alone.
    is_alone: bool,
    /// Its content came to its place in an attempt that failed after that.
    is_in_place: bool,
}

/// Counts a write that is on its way to being staged.
struct Coming<F: FileSystem + Clone>(Engine<F>);

impl<F: FileSystem + Clone> Coming<F> {
    fn new(engine: &Engine<F>) -> Coming<F> {
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
struct Place<F: FileSystem + Clone> {
    engine: Engine<F>,
    device: u64,
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
    fn run(self) {
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
        // What waits keeps no folder open.
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
        let observer = self.lead.reply.client.observer();
        let (request, control) = (&self.lead.request, &self.lead.control);
        let staged = caught(|| Staged::new(&engine.shared.fs, request, control, observer, found));
        match staged {
            Ok(staged) => self.commit(staged),
            Err(error) => self.conclude(Err(error)),
        }
    }

    /// Makes the second half in company, if there is any and that may help, or alone.
    fn commit(mut self, staged: Staged<F>) {
        let Request { options, payload, .. } = &self.lead.request;
        let device = staged.device();
        let engine = self.lane.engine.clone();
        let may_share = !self.is_alone
            && payload.len() <= LARGEST_SHARED
            && engine.shared.costs.are_worth_sharing(device);
        if !may_share {
            return self.commit_alone(staged);
        }
        if staged.can_be_synced_with_others(options) {
            let coming = self.coming.take();
            let duty = engine.shared.epochs.join(device, (self, staged), || {
                drop(coming);
                !engine.is_anybody_coming()
            });
            return engine.run_epochs(device, duty);
        }
        match self.lane.key {
            Key::Name(folder, _) if staged.syncs(options) == Syncs::FileThenFolder => {
                self.commit_in_folder(staged, folder);
            }
            _ => self.commit_alone(staged),
        }
    }

    fn commit_alone(mut self, staged: Staged<F>) {
        self.coming = None;
        let Shared { fs, costs, .. } = &*self.lane.engine.shared;
        let Write { request, control, reply, .. } = &self.lead;
        let (device, begun) = (staged.device(), Instant::now());
        let commit = || staged.commit(fs, request, control, reply.client.observer());
        let outcome = caught(commit);
        if request.options.durability != Durability::None {
            costs.alone_took(device, begun.elapsed());
        }
        self.conclude(outcome);
    }

    /// Syncs the file alone, and its folder together with others.
    fn commit_in_folder(mut self, staged: Staged<F>, folder: FileId) {
        self.coming = None;
        let engine = self.lane.engine.clone();
        let Shared { fs, costs, .. } = &*engine.shared;
        let Write { request, control, reply, .. } = &self.lead;
        let (device, begun) = (staged.device(), Instant::now());
        let published = caught(|| staged.publish(fs, request, control, reply.client.observer()));
        costs.alone_took(device, begun.elapsed());
        match published {
            Ok(staged) => {
                let duty = engine.shared.folder_syncs.join(folder, (self, staged), || true);
                engine.sync_folder(folder, duty);
            }
            Err(error) => self.conclude(Err(error)),
        }
    }

    /// Takes what came of an attempt that was made together with others.
    fn take(mut self, outcome: Outcome) {
        match outcome {
            Outcome::Done(outcome) => self.conclude(outcome),
            Outcome::Alone { is_in_place } => {
                self.lead.reply.client.stop();
                (self.is_alone, self.is_in_place) = (true, is_in_place);
                let engine = self.lane.engine.clone();
                engine.run_on_a_thread(move |_| self.run());
            }
        }
    }

    /// Ends an attempt.
    fn conclude(mut self, outcome: Result<(), AttemptError>) {
        let observer = self.lead.reply.client.observer();
        let request = &self.lead.request;
        let next = outcome
            .map_err(|error| error.in_place(self.is_in_place))
            .map_err(|error| after_failure(request, self.number, error, observer));
        self.lead.reply.client.stop();
        (self.place, self.coming) = (None, None);
        match next {
            Ok(()) => self.finish(Ok(())),
            Err(Next::GiveUp(error)) => self.finish(Err(error)),
            Err(Next::Retry { attempt, delay }) => {
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
        let is_cancelled = self.lead.control.is_cancelled();
        lock(&engine.shared.paused).insert(key.clone(), self);
        let pool = engine.shared.pool.clone();
        let resume = move || {
            let mut paused = lock(&engine.shared.paused);
            // It may have been woken before, and be another one by now.
            let is_it = paused.get(&key).is_some_and(|running| running.number == number);
            let running = is_it.then(|| paused.remove(&key)).flatten();
            drop(paused);
            if let Some(running) = running {
                running.run();
            }
        };
        let delay = if is_cancelled { Duration::ZERO } else { delay };
        let _ = pool.submit_after(delay, Box::new(resume));
    }

    fn into_writes(self) -> Vec<Write> {
        let Running { lead, mut absorbed, .. } = self;
        absorbed.push(lead);
        absorbed
    }
}

/// A panic is a failure of the attempt.
fn caught<T>(step: impl FnOnce() -> Result<T, AttemptError>) -> Result<T, AttemptError> {
    catch_unwind(AssertUnwindSafe(step))
        .unwrap_or_else(|panic| Err(AttemptError::from(task::internal(&*panic))))
}

fn give_up<F: FileSystem + Clone>(writes: Vec<Running<F>>, reason: &ErrorKind) {
    for running in writes {
        running.conclude(Err(AttemptError::from(reason.duplicate())));
    }
}

/// Answers in any case: a write that is dropped unrun, because the system refuses to start a
/// thread, must not leave anybody waiting.
struct Reply {
    client: Box<dyn Client>,
    control: Option<Arc<Control>>,
    path: PathBuf,
    is_answered: bool,
    /// When it was asked for, and how durable it was to be.
    begun: Instant,
    durability: Durability,
}

impl Reply {
    fn answer(&mut self, outcome: Result<(), Error>) {
        self.is_answered = true;
        let told = outcome.as_ref().map(drop).map_err(|error| &error.kind);
        METRICS.writes.answered(self.begun, self.durability, told);
        // Whoever is told of the outcome finds a lock free that was kept for the write.
        if let Some(control) = &self.control {
            control.let_go();
        }
        self.client.finish(outcome);
    }

    fn error(&self, kind: ErrorKind) -> Error {
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
            self.answer(Err(self.error(task::refused())));
        }
    }
}
