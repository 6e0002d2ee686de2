//! Writes on holdfast's threads, each in its turn.
//!
//! An attempt is one job; between attempts no thread is held. Writes to one file follow each
//! other in the order of the calls ([`file_queue`]); of those that wait together only the
//! newest is written, and answers for all. Writes to different files that are staged while
//! another one is synced are synced together ([`group_commit`]); while they wait they hold no
//! thread either.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, mpsc};
use std::time::Instant;

use crate::error::{Error, ErrorKind, Operation};
use crate::fs::os::Os;
use crate::fs::{FileId, FileSystem, uninterrupted};
use crate::metrics::METRICS;
use crate::mutex::guard;
use crate::resolve::{self, Target};
use crate::threads::{Pool, pool, task};
use crate::write::{Control, Observer, Options, StagedWrite, WriteRequest};
use admission::Admission;
use batcher::Batcher;
use file_queue::{Key, Merge, Order};
use sync_costs::SyncCosts;

mod admission;
mod batcher;
mod file_queue;
mod group_commit;
pub use group_commit::run_together;
mod running_write;
mod sync_costs;
mod sync_rounds;

use running_write::{Coming, Reply, Running, Write};

/// Whoever asked for a write and waits for its outcome.
pub trait WriteCaller: Send {
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
    epochs: Batcher<u64, Waiting<F>>,
    /// Writes in their places that wait for their directory to be synced.
    dir_syncs: Batcher<FileId, Waiting<F>>,
    costs: SyncCosts,
}

/// A write that waits for others, and what it has got ready.
type Waiting<F> = (Running<F>, StagedWrite<F>);

/// How many writes may be under way at a time on a file system that may have so many files
/// open. Each needs two; the process has other uses for them.
fn most_drafts(most_open_files: u64) -> usize {
    usize::try_from(most_open_files / 8).unwrap_or(usize::MAX).clamp(32, 512)
}

/// What waits in a lane.
enum Item<F: FileSystem + Clone> {
    Write(Write),
    /// Something else that takes its turn, and has the lane until it drops it; or is told why it
    /// has no turn.
    Turn(Box<dyn FnOnce(Result<FileQueueGuard<F>, ErrorKind>) + Send>),
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

impl<F: FileSystem + Clone> Item<F> {
    fn into_write(self) -> Option<Write> {
        match self {
            Item::Write(write) => Some(write),
            Item::Turn(_) => None,
        }
    }

    /// Tells whoever asked for it that it cannot be done.
    fn refuse(self, reason: &ErrorKind) {
        match self {
            Item::Write(mut write) => {
                write.reply.answer(Err(write.reply.error(reason.duplicate())));
            }
            Item::Turn(turn) => turn(Err(reason.duplicate())),
        }
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
                epochs: Batcher::default(),
                dir_syncs: Batcher::default(),
                costs: SyncCosts::default(),
            }),
        }
    }

    /// Runs a write in its turn and reports its outcome to `client`, exactly once. With a
    /// `control` it can be cancelled. One that cannot, and `can_merge`, may be replaced by a
    /// newer one with equal options, whose outcome is then its own.
    pub fn submit(
        &self,
        request: WriteRequest,
        control: Option<Arc<Control>>,
        can_merge: bool,
        client: Box<dyn WriteCaller>,
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
    /// is asked for later waits until the lane is dropped. If it cannot be found out which file
    /// that is, `turn` is told why.
    pub fn run_exclusively(
        &self,
        path: PathBuf,
        options: Options,
        turn: impl FnOnce(Result<FileQueueGuard<F>, ErrorKind>) + Send + 'static,
    ) {
        self.arrive(path, options, Item::Turn(Box::new(turn)));
    }

    /// Runs a write on the calling thread. It takes the place of those that wait for the same
    /// file, and comes after what is under way there: nothing older lands after it.
    ///
    /// # Errors
    ///
    /// As [`run`].
    pub fn write_now(
        &self,
        mut request: WriteRequest,
        observer: Option<&dyn Observer>,
    ) -> Result<(), Error> {
        let (begun, durability) = (Instant::now(), request.options.durability);
        let failed = |kind| Error {
            kind,
            operation: Operation::AtomicWrite,
            path: request.path.clone(),
            attempts: 1,
            exhausted: false,
            committed: false,
        };
        // A panic must not come to JavaScript, whose thread this is.
        let (key, _) = self.find(&request.path, &request.options).map_err(failed)?;
        let (give, take) = mpsc::channel();
        let turn = Item::Turn(Box::new(move |lane| {
            // Whoever is to take it waits a few lines below.
            let _ = give.send(lane);
        }));
        let superseded = self.order().supersede(&request.path, &key, turn);
        let mut superseded: Vec<_> = superseded.into_iter().filter_map(Item::into_write).collect();
        let paused = guard(&self.shared.paused).remove(&key);
        if let Some(paused) = paused {
            superseded.splice(0..0, paused.into_writes());
        }
        self.go_on(&key, None);
        let lane = loop {
            match take.recv_timeout(file_queue::PATIENCE) {
                // The threads, too, may be held up by what it is not to be held up by.
                Err(mpsc::RecvTimeoutError::Timeout) => self.go_on(&key, None),
                lane_or_nobody => break lane_or_nobody,
            }
        };
        // It answers for them, so it has to be as durable as they were to be.
        let levels = superseded.iter().map(|write| write.request.options.durability);
        request.options.durability = levels.fold(request.options.durability, Ord::max);
        let run =
            || Ok(crate::write::run(&self.shared.fs, &request, &Control::default(), observer));
        let outcome = task::catch_panic(run).unwrap_or_else(|kind| Err(failed(kind)));
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
        guard(&self.shared.order)
    }

    fn arrive(&self, path: PathBuf, options: Options, item: Item<F>) {
        if self.order().arrive(&path, item) {
            self.bring_on(move |engine, coming| engine.place(&path, &options, coming));
        }
    }

    /// Says whether it will be run. When the system refuses a thread, and there is none, the job
    /// is dropped.
    fn run_on_a_thread(&self, job: impl FnOnce(&Engine<F>) + Send + 'static) -> bool {
        let engine = self.clone();
        let is_taken = self.shared.pool.submit(Box::new(move || job(&engine))).is_ok();
        if !is_taken {
            self.turn_away();
        }
        is_taken
    }

    /// The same for what is likely to stage a write.
    fn bring_on(&self, job: impl FnOnce(&Engine<F>, Coming<F>) + Send + 'static) -> bool {
        let coming = Coming::new(self);
        self.run_on_a_thread(move |engine| job(engine, coming))
    }

    /// There is no thread: those who wait for one are told so, and nobody who comes later waits
    /// behind them.
    fn turn_away(&self) {
        let idle = self.order().take_idle();
        // Not under the lock: what is dropped has something to say.
        drop(idle);
    }

    fn is_anybody_coming(&self) -> bool {
        self.shared.coming.load(Ordering::SeqCst) > 0
    }

    /// Finds the lane of the calls that have arrived for a path, and starts what may start.
    fn place(&self, path: &Path, options: &Options, coming: Coming<F>) {
        self.order().look_for(path);
        let (key, target) = match self.find(path, options) {
            Ok(found) => found,
            Err(reason) => return self.refuse(path, &reason),
        };
        let mut order = self.order();
        order.place(path, &key);
        let released = order.released();
        let group = self.start(order, &key);
        self.bring_lanes_on(released);
        if let Some(group) = group {
            let found = target.map(|target| (target, options.clone()));
            self.launch(key, group, found, Some(coming));
        }
    }

    /// Tells the calls that have arrived for a path why it cannot be found out which file that is.
    fn refuse(&self, path: &Path, reason: &ErrorKind) {
        let mut order = self.order();
        let refused = order.take_arriving(path);
        let released = order.released();
        drop(order);
        self.bring_lanes_on(released);
        refused.into_iter().for_each(|item| item.refuse(reason));
    }

    fn bring_lanes_on(&self, lanes: Vec<Key>) {
        for key in lanes {
            self.bring_on(move |engine, coming| engine.go_on(&key, Some(coming)));
        }
    }

    /// Which lane a path leads to, and the target if it was found. An error is a panic: what the
    /// system refuses, the write will be told.
    fn find(&self, path: &Path, options: &Options) -> Result<(Key, Option<Target<F>>), ErrorKind> {
        let fs = &self.shared.fs;
        let purpose = options.dir_use();
        let look = || {
            let target = resolve::target(fs, path, options.follow_symlinks, purpose).ok()?;
            let dir = uninterrupted(|| fs.dir_metadata(target.dir.handle())).ok()?;
            Some((file_queue::key(dir.id, &target.name), Some(target)))
        };
        let found = task::catch_panic(|| Ok::<_, ErrorKind>(look()))?;
        Ok(found.unwrap_or_else(|| (Key::Unknown(path.to_owned()), None)))
    }

    /// Starts what comes next in a lane, if anything may. What may not yet is looked after.
    fn start(&self, mut order: MutexGuard<'_, Order<Item<F>>>, key: &Key) -> Option<Vec<Item<F>>> {
        let group = order.start(key);
        let is_anything_held_up = order.is_anything_held_up();
        drop(order);
        if is_anything_held_up {
            self.look_after_later();
        }
        group
    }

    /// Starts what comes next in a lane, if anything may, and runs it on this thread.
    fn go_on(&self, key: &Key, coming: Option<Coming<F>>) {
        if let Some(group) = self.start(self.order(), key) {
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
        let lane = FileQueueGuard { engine: self.clone(), key };
        let mut writes = Vec::new();
        for item in group {
            match item {
                Item::Write(write) => writes.push(write),
                // A turn is never merged, so it is alone.
                Item::Turn(turn) => return turn(Ok(lane)),
            }
        }
        let Some(lead) = writes.pop() else { return };
        writes.iter().for_each(|write| write.merged());
        // What was found for one path and one use of the directory serves only that.
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
            let released = engine.order().released();
            released.iter().for_each(|key| engine.go_on(key, None));
            if engine.order().is_anything_held_up() {
                engine.look_after_later();
            }
        };
        if self.shared.pool.submit_after(file_queue::PATIENCE, Box::new(look)).is_err() {
            self.shared.looks_after.store(false, Ordering::SeqCst);
        }
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
                let mut paused = guard(&engine.shared.paused);
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
}

/// The turn of whoever has it. When it is dropped, the next in the lane begins.
pub struct FileQueueGuard<F: FileSystem + Clone> {
    engine: Engine<F>,
    key: Key,
}

impl<F: FileSystem + Clone> Drop for FileQueueGuard<F> {
    fn drop(&mut self) {
        let mut order = self.engine.order();
        order.finish(&self.key);
        if let Some(group) = self.engine.start(order, &self.key) {
            // At the back of the queue, so that other files get their turn too.
            let key = self.key.clone();
            let is_launched = self.engine.bring_on(move |engine, coming| {
                engine.launch(key, group, None, Some(coming));
            });
            if !is_launched {
                self.engine.order().finish(&self.key);
                self.engine.turn_away();
            }
        }
    }
}
