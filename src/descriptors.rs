//! Which operations may keep files open, so that many at once do not use up the files that the
//! process may have open.
//!
//! Locks, streams and the locks of a transaction stay open for as long as their callers like. Each
//! asks for a permit before it opens anything, and keeps nothing open while it waits for that. What
//! is open only while one of holdfast's threads works on it needs no permit: room is left for it, as
//! for the rest of the program.
//!
//! No operation waits for ever for permits that others have which wait, too:
//!
//! - An operation asks once, for everything that it is going to keep open. A transaction that has
//!   half of its locks never waits for a permit.
//! - What is started under a lock has a greater *depth* than that lock, and is served before
//!   operations of a smaller depth, which may not use all there is. So an operation waits only for
//!   operations of its depth or a greater one, and the deepest of those that wait for none of those
//!   that wait.
//! - An operation is admitted if none of its depth or a greater one has a permit, whatever it needs:
//!   then the system decides.
//! - What is left are callers who wait for each other without holdfast knowing. When no permit has
//!   come back for a while ([`STALL`]) the next operation is admitted as long as the system has files
//!   to open; and an operation for which none comes back for longer than it would wait gives up.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::error::{Code, ErrorKind, Failure};
use crate::fs::FileSystem;
use crate::fs::os::Os;
use crate::mutex::guard;
use crate::threads::{Job, pool};

/// How long no permit has come back before one more operation is admitted.
const STALL: Duration = Duration::from_millis(20);

/// The longest and the shortest time without a permit coming back after which an operation gives up.
const LONGEST_STALL: Duration = Duration::from_secs(10);
const SHORTEST_STALL: Duration = Duration::from_secs(5);

/// For how long it is believed how much the rest of the program has open.
const MEASURED_FOR: Duration = Duration::from_millis(200);

/// With a limit up to this, and more than a few permits, it matters.
const SMALL_LIMIT: usize = 4096;
const FEW_FILES: usize = 8;

/// Decides who is admitted. It is pure; `W` is an operation that waits.
struct Budget<W> {
    /// How many files the process may have open.
    limit: usize,
    /// How many the rest of the program has open, as far as is known.
    others: usize,
    /// For how many files there are permits, by the depth of the operations.
    held: BTreeMap<u32, usize>,
    /// In the order in which they are served.
    waiting: BTreeMap<(Reverse<u32>, u64), (usize, W)>,
    calls: u64,
}

impl<W> Budget<W> {
    fn new(limit: usize, others: usize) -> Budget<W> {
        Budget { limit, others, held: BTreeMap::new(), waiting: BTreeMap::new(), calls: 0 }
    }

    fn in_use(&self) -> usize {
        self.held.values().sum()
    }

    /// How many files operations up to this depth may keep open: half of what there is, and up to
    /// five eighths the deeper they are.
    fn most(&self, depth: u32) -> usize {
        let free = self.limit.saturating_sub(self.others);
        let eighth = free / 8;
        free / 2 + (eighth - (eighth >> depth.min(31)))
    }

    fn fits(&self, depth: u32, count: usize) -> bool {
        self.in_use() + count <= self.most(depth) || self.held.range(depth..).next().is_none()
    }

    fn take(&mut self, depth: u32, count: usize) {
        *self.held.entry(depth).or_default() += count;
    }

    /// Whether an operation is admitted at once.
    fn try_enter(&mut self, depth: u32, count: usize) -> bool {
        let is_behind =
            self.waiting.first_key_value().is_some_and(|((Reverse(first), _), _)| *first >= depth);
        let is_admitted = !is_behind && self.fits(depth, count);
        if is_admitted {
            self.take(depth, count);
        }
        is_admitted
    }

    /// The operation waits behind those that came before. With a number, that of an earlier wait.
    fn wait(&mut self, depth: u32, count: usize, number: Option<u64>, waiting: W) {
        let number = number.unwrap_or_else(|| {
            self.calls += 1;
            self.calls
        });
        self.waiting.insert((Reverse(depth), number), (count, waiting));
    }

    fn leave(&mut self, depth: u32, count: usize) {
        if let Some(held) = self.held.get_mut(&depth) {
            *held = held.saturating_sub(count);
            if *held == 0 {
                self.held.remove(&depth);
            }
        }
    }

    /// Takes out the next operation if it is admitted, or in any case, with the files and the depth
    /// that its permit is for.
    fn next(&mut self, in_any_case: bool) -> Option<(u32, usize, u64, W)> {
        let ((Reverse(depth), number), (count, _)) = self.waiting.first_key_value()?;
        let (depth, number, count) = (*depth, *number, *count);
        if !in_any_case && !self.fits(depth, count) {
            return None;
        }
        let (_, (count, waiting)) = self.waiting.pop_first()?;
        self.take(depth, count);
        Some((depth, count, number, waiting))
    }
}

/// An operation that waits for a permit.
pub struct Waiting {
    /// Runs it, on one of the pool's threads; without a permit when it has given up.
    pub go: Box<dyn FnOnce(Option<Permit>) + Send>,
    /// Is told how long no permit has come back. Whether the operation gives up. It must not ask for
    /// permits or drop one.
    pub has_given_up: Box<dyn Fn(Duration) -> bool + Send>,
}

/// What an operation asks for.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// How many files it keeps open.
    pub files: usize,
    /// One more than that of the locks under which it was started.
    pub depth: u32,
    /// Where it has been in the order, and since when it waits, if it asks again.
    again: Option<(Option<u64>, Instant)>,
}

impl Need {
    /// To keep so many files open, at this depth.
    pub fn new(files: usize, depth: u32) -> Need {
        Need { files, depth, again: None }
    }

    /// For an operation that has no permit, and to which the system has refused a file.
    #[must_use]
    pub fn again(self) -> Need {
        Need { again: Some((None, Instant::now())), ..self }
    }
}

/// The permit to keep files open. When it is dropped, the next operation gets it.
#[derive(Debug)]
pub struct Permit {
    depth: u32,
    files: usize,
    number: Option<u64>,
    since: Instant,
}

impl Permit {
    /// The depth of what is started under it.
    pub fn depth_inside(&self) -> u32 {
        self.depth.saturating_add(1)
    }

    /// To ask again, in the same position, for an operation to which the system has refused a file.
    pub fn need_again(&self) -> Need {
        let again = Some((self.number, self.since));
        Need { files: self.files, depth: self.depth, again }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        DESCRIPTORS.leave(self.depth, self.files);
    }
}

struct Descriptors {
    state: Mutex<DescriptorState>,
}

struct DescriptorState {
    budget: Budget<(Instant, Waiting)>,
    /// When the last permit came back.
    progress: Instant,
    /// A thread will look after the operations that wait.
    is_watched: bool,
    measured: Option<Instant>,
}

static DESCRIPTORS: LazyLock<Descriptors> = LazyLock::new(|| {
    let budget = Budget::new(limit(), 0);
    let state =
        DescriptorState { budget, progress: Instant::now(), is_watched: false, measured: None };
    Descriptors { state: Mutex::new(state) }
});

fn limit() -> usize {
    usize::try_from(Os.most_open_files()).unwrap_or(usize::MAX)
}

/// How many files the process may have open.
pub fn most() -> usize {
    limit()
}

/// How many files one operation may keep open without a thought of the others: a part of what the rest
/// of the program leaves.
pub fn few() -> usize {
    let mut state = guard(&DESCRIPTORS.state);
    state.measure_if_needed(FEW_FILES + 1);
    (state.budget.limit.saturating_sub(state.budget.others) / 16).max(1)
}

/// Asks for a permit. `None` when the operation has to [`wait`] for it.
pub fn try_enter(need: Need) -> Option<Permit> {
    let Need { files, depth, .. } = need;
    let mut state = guard(&DESCRIPTORS.state);
    state.measure_if_needed(files);
    let is_admitted = state.budget.try_enter(depth, files);
    drop(state);
    // Not made in vain: a permit that is dropped comes back.
    is_admitted.then(|| Permit { depth, files, number: None, since: Instant::now() })
}

/// Closes what is kept open only to be faster.
static CLOSE_UNNEEDED: OnceLock<fn()> = OnceLock::new();

/// Says how to close files that are kept open only to be faster.
pub fn set_close_unneeded(close: fn()) {
    let _ = CLOSE_UNNEEDED.set(close);
}

/// Closes the files that are kept open only to be faster.
pub fn close_unneeded() {
    if let Some(close) = CLOSE_UNNEEDED.get() {
        close();
    }
}

/// Waits for a permit without holding a thread.
pub fn wait(need: Need, waiting: Waiting) {
    close_unneeded();
    let Some((_, since)) = need.again else { return enqueue(need, Instant::now(), waiting) };
    let stall = since.max(guard(&DESCRIPTORS.state).progress).elapsed();
    if (waiting.has_given_up)(stall) {
        return start([(None, waiting)]);
    }
    // Only with a pause it is likely that the system has a file for it now.
    let again = move || enqueue(need, since, waiting);
    let _ = pool().submit_after(STALL, Box::new(again));
}

fn enqueue(need: Need, since: Instant, waiting: Waiting) {
    let Need { files, depth, again } = need;
    let number = again.and_then(|(number, _)| number);
    let mut state = guard(&DESCRIPTORS.state);
    if again.is_some() {
        state.measure();
    }
    state.budget.wait(depth, files, number, (since, waiting));
    let is_watched = std::mem::replace(&mut state.is_watched, true);
    // Permits may have come back since it was refused one.
    let admitted = state.admit();
    drop(state);
    start(admitted);
    if !is_watched {
        watch();
    }
}

/// Whether operations wait for permits: then nothing is kept open that is not needed.
pub fn are_wanted() -> bool {
    !guard(&DESCRIPTORS.state).budget.waiting.is_empty()
}

/// How many writes may have temp files now, as far as is known. Each has two files open.
pub fn most_writes() -> usize {
    MOST_WRITES.load(Ordering::Relaxed)
}

static MOST_WRITES: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Looks how much the rest of the program has open, as the system has refused a file.
pub fn measure() {
    let mut state = guard(&DESCRIPTORS.state);
    if state.measured.is_none_or(|measured| measured.elapsed() >= STALL) {
        state.measure();
    }
}

/// Whether holdfast has more than a single operation's files open, and is going to close some.
pub fn will_close_some() -> bool {
    let state = guard(&DESCRIPTORS.state);
    !state.budget.waiting.is_empty() || state.budget.in_use() > 3
}

/// Whether the system refuses to open another file.
pub fn is_shortage(failure: &Failure) -> bool {
    matches!(failure.code(), Some(Code::EMFILE | Code::ENFILE))
}

/// The same for an error.
pub fn is_short(error: &ErrorKind) -> bool {
    matches!(error, ErrorKind::System(failure) if is_shortage(failure))
}

/// How long an operation waits at most while no permit comes back, if it would wait for so long for
/// what it does next.
pub fn patience(timeout: Option<Duration>) -> Duration {
    timeout.unwrap_or(LONGEST_STALL).clamp(SHORTEST_STALL, LONGEST_STALL)
}

/// The error of an operation that has given up.
pub fn too_many() -> std::io::Error {
    Code::EMFILE.error()
}

impl DescriptorState {
    /// Looks how much the rest of the program has open, if that may matter and has not been done for
    /// a while. It takes longer the more there is.
    fn measure_if_needed(&mut self, files: usize) {
        let matters_from = match self.budget.limit {
            0..=SMALL_LIMIT => FEW_FILES,
            limit => limit / 8,
        };
        if self.budget.in_use() + files > matters_from
            && self.measured.is_none_or(|measured| measured.elapsed() >= MEASURED_FOR)
        {
            self.measure();
        }
    }

    /// Looks how much the rest of the program has open.
    fn measure(&mut self) {
        self.measured = Some(Instant::now());
        self.budget.limit = limit();
        if let Some(open) = Os.open_files() {
            let open = usize::try_from(open).unwrap_or(usize::MAX);
            self.budget.others = open.saturating_sub(self.budget.in_use());
        }
        let free = self.budget.limit.saturating_sub(self.budget.others);
        MOST_WRITES.store((free / 8).max(1), Ordering::Relaxed);
    }

    /// Takes out the operations that are admitted.
    fn admit(&mut self) -> Vec<(Option<Permit>, Waiting)> {
        let mut admitted = Vec::new();
        while let Some(next) = self.budget.next(false) {
            admitted.push(permitted(next));
        }
        admitted
    }

    /// Takes out one more, if the system has files for it and the rest of the program.
    fn admit_one_more(&mut self) -> Option<(Option<Permit>, Waiting)> {
        let (_, (files, _)) = self.budget.waiting.first_key_value()?;
        let room = self.budget.limit.saturating_sub(self.budget.others + self.budget.in_use());
        if room < files + (self.budget.limit / 8).min(1024) {
            return None;
        }
        self.budget.next(true).map(permitted)
    }

    /// Takes out those that have given up.
    fn dismiss(&mut self) -> Vec<(Option<Permit>, Waiting)> {
        let now = Instant::now();
        let has_given_up = |(since, waiting): &(Instant, Waiting)| {
            (waiting.has_given_up)(now - self.progress.max(*since))
        };
        let waiting = self.budget.waiting.iter();
        let gone: Vec<_> =
            waiting.filter(|(_, (_, entry))| has_given_up(entry)).map(|(key, _)| *key).collect();
        let gone = gone.iter().filter_map(|key| self.budget.waiting.remove(key));
        gone.map(|(_, (_, waiting))| (None, waiting)).collect()
    }
}

fn permitted(
    (depth, files, number, (since, waiting)): (u32, usize, u64, (Instant, Waiting)),
) -> (Option<Permit>, Waiting) {
    (Some(Permit { depth, files, number: Some(number), since }), waiting)
}

/// Starts what was admitted.
fn start(admitted: impl IntoIterator<Item = (Option<Permit>, Waiting)>) {
    for (permit, Waiting { go, .. }) in admitted {
        // If there is no thread for it, it is dropped, and its caller told.
        let _ = pool().submit(Box::new(move || go(permit)));
    }
}

impl Descriptors {
    fn leave(&self, depth: u32, files: usize) {
        let mut state = guard(&self.state);
        state.budget.leave(depth, files);
        if state.budget.waiting.is_empty() {
            return;
        }
        state.progress = Instant::now();
        let admitted = state.admit();
        drop(state);
        start(admitted);
    }
}

/// Looks after the operations that wait, as long as there are any.
fn watch() {
    let look: Job = Box::new(|| {
        let mut state = guard(&DESCRIPTORS.state);
        if state.progress.elapsed() >= STALL {
            state.measure();
        }
        let mut admitted = state.admit();
        if admitted.is_empty() && state.progress.elapsed() >= STALL {
            admitted.extend(state.admit_one_more());
        }
        admitted.extend(state.dismiss());
        state.is_watched = !state.budget.waiting.is_empty();
        let is_watched = state.is_watched;
        drop(state);
        start(admitted);
        if is_watched {
            watch();
        }
    });
    if pool().submit_after(STALL, look).is_err() {
        guard(&DESCRIPTORS.state).is_watched = false;
    }
}

/// Work that keeps files open under its permit. It is called with a permit, or without one when it
/// has waited in vain; and gives the permit back if the system has refused it a file and it is to be
/// called again.
pub type PermittedWork = Box<dyn FnMut(Option<Permit>) -> Option<Permit> + Send>;

/// Runs work when it has its permit, at once or later on one of the pool's threads; and again when the
/// system has refused it a file. `has_given_up` is told how long no permit has come back.
pub fn run(
    need: Need,
    has_given_up: impl Fn(Duration) -> bool + Send + Sync + 'static,
    work: PermittedWork,
) {
    run_with(need, Arc::new(has_given_up), work);
}

fn run_with(
    need: Need,
    has_given_up: Arc<dyn Fn(Duration) -> bool + Send + Sync>,
    mut work: PermittedWork,
) {
    let permit = need.again.is_none().then(|| try_enter(need)).flatten();
    let is_over = Arc::clone(&has_given_up);
    let go = move |permit: Option<Permit>| {
        if let Some(permit) = work(permit) {
            let need = permit.need_again();
            drop(permit);
            run_with(need, is_over, work);
        }
    };
    match permit {
        Some(permit) => go(Some(permit)),
        None => {
            let has_given_up = Box::new(move |stall| has_given_up(stall));
            wait(need, Waiting { go: Box::new(go), has_given_up });
        }
    }
}

/// A permit that several share; it comes back with the last of them.
pub type SharedPermit = Arc<Permit>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeper_operations_may_use_what_others_leave_and_come_first() {
        let mut budget = Budget::<&str>::new(100, 20);
        assert_eq!((budget.most(0), budget.most(1), budget.most(9)), (40, 45, 50));
        assert!(budget.try_enter(0, 40));
        assert!(!budget.try_enter(0, 1));
        budget.wait(0, 1, None, "outer");
        // The first of a depth is always admitted.
        assert!(budget.try_enter(1, 20));
        assert!(!budget.try_enter(1, 1));
        budget.wait(1, 1, None, "inner");
        budget.wait(1, 1, None, "second inner");
        assert_eq!(budget.next(false).map(|next| next.3), None);
        budget.leave(1, 20);
        assert_eq!(budget.next(false).map(|next| next.3), Some("inner"));
        assert_eq!(budget.next(false).map(|next| next.3), Some("second inner"));
        assert_eq!(budget.next(false).map(|next| next.3), None);
        budget.leave(0, 40);
        assert_eq!(budget.next(false).map(|next| next.3), Some("outer"));
        assert_eq!(budget.in_use(), 3);
    }

    #[test]
    fn an_operation_that_needs_more_than_there_is_has_it_alone_and_is_not_overtaken() {
        let mut budget = Budget::<&str>::new(64, 24);
        assert!(budget.try_enter(0, 1));
        assert!(!budget.try_enter(0, 200));
        budget.wait(0, 200, None, "large");
        assert!(!budget.try_enter(0, 1), "nothing overtakes it");
        budget.wait(0, 1, None, "small");
        assert_eq!(budget.next(false).map(|next| next.3), None);
        budget.leave(0, 1);
        let (depth, count, number, name) = budget.next(false).unwrap();
        assert_eq!((depth, count, name), (0, 200, "large"));
        assert_eq!(budget.next(false).map(|next| next.3), None);
        // The system has refused it a file: it is the first to try again.
        budget.leave(0, 200);
        budget.wait(0, 200, Some(number), "large again");
        assert_eq!(budget.next(false).map(|next| next.3), Some("large again"));
        assert_eq!(budget.next(true).map(|next| next.3), Some("small"));
    }

    /// Every operation keeps one file open until one that it starts deeper has ended: all of them
    /// end, whatever there is and in whatever order they come.
    #[test]
    fn operations_within_operations_all_end() {
        for limit in [1, 2, 3, 5, 8, 21, 64] {
            for deepest in 0..6_u32 {
                let mut budget = Budget::<u32>::new(limit, 0);
                let mut running: Vec<u32> = Vec::new();
                let mut ended = 0;
                for _ in 0..100 {
                    match budget.try_enter(0, 1) {
                        true => running.push(0),
                        false => budget.wait(0, 1, None, 0),
                    }
                }
                for step in 0_usize.. {
                    assert!(step < 100_000, "limit {limit}, depth {deepest}");
                    if let Some((depth, ..)) = budget.next(false) {
                        running.push(depth);
                        continue;
                    }
                    if running.is_empty() {
                        break;
                    }
                    // The first that came goes on: outer ones start inner ones before any has ended.
                    let depth = running.remove(0);
                    if depth < deepest {
                        match budget.try_enter(depth + 1, 1) {
                            true => running.push(depth + 1),
                            false => budget.wait(depth + 1, 1, None, depth + 1),
                        }
                    } else {
                        (0..=depth).for_each(|depth| budget.leave(depth, 1));
                        ended += 1;
                    }
                }
                assert_eq!(ended, 100, "limit {limit}, depth {deepest}");
            }
        }
    }
}
