//! Writes to one file take effect in the order of the calls, whatever threads run them,
//! however the path is spelt, and whatever else happens to them meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

mod common;

use common::OutcomeSender;
use holdfast::engine::{Engine, WriteCaller};
use holdfast::error::Code;
use holdfast::error::{Error, ErrorKind};
use holdfast::payload::Payload;
use holdfast::threads::Pool;
use holdfast::write::{Control, Durability, Kept, Observer, Options, WriteRequest};
use holdfast_sim::{Fault, Model, OperationKind, SimFs};

/// A small generator of pseudo-random numbers: the same run for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What is known about one file while writes to it are under way.
#[derive(Default)]
struct Witness {
    /// The newest content that has been seen.
    seen: u64,
    complaints: Vec<String>,
}

struct EngineUnderTest {
    fs: SimFs,
    engine: Engine<SimFs>,
    witnesses: Mutex<HashMap<&'static str, Witness>>,
    pending: Mutex<usize>,
    all_answered: Condvar,
    succeeded: AtomicUsize,
    failed: AtomicUsize,
}

/// The spellings of each file: by its own path, through a link to it, through a link to
/// its directory.
const FILES: [(&str, [&str; 3]); 3] = [
    ("/dir/one", ["/dir/one", "/links/one", "/linked/one"]),
    ("/dir/two", ["/dir/two", "/links/second", "/linked/two"]),
    ("/else/three", ["/else/three", "/links/three", "/dir/../else/three"]),
];

fn world(threads: usize) -> Arc<EngineUnderTest> {
    let fs = SimFs::new();
    for (file, _) in FILES {
        fs.put_file(file, b"0").unwrap();
    }
    fs.put_link("/links/one", "/dir/one").unwrap();
    fs.put_link("/links/second", "../dir/two").unwrap();
    fs.put_link("/links/three", "/else/three").unwrap();
    fs.put_link("/linked", "/dir").unwrap();
    // So that writes are synced together whenever they meet.
    fs.set_syncs_whole(true);
    fs.set_keeps_order(threads > 2);
    let engine = Engine::new(fs.clone(), Pool::new(threads, threads));
    Arc::new(EngineUnderTest {
        fs,
        engine,
        witnesses: Mutex::default(),
        pending: Mutex::new(0),
        all_answered: Condvar::new(),
        succeeded: AtomicUsize::new(0),
        failed: AtomicUsize::new(0),
    })
}

impl EngineUnderTest {
    fn content(&self, file: &str) -> u64 {
        String::from_utf8(self.fs.read_file(file).unwrap().to_vec()).unwrap().parse().unwrap()
    }

    /// Looks at a file and complains if it holds something older than `least`, or than what
    /// was there before.
    fn look(&self, file: &'static str, least: u64, why: &str) {
        // Read under the mutex, or two threads that look would overtake each other.
        let mut witnesses = self.witnesses.lock().unwrap();
        let now = self.content(file);
        let witness = witnesses.entry(file).or_default();
        if now < witness.seen {
            witness
                .complaints
                .push(format!("{file} went back from {} to {now} ({why})", witness.seen));
        }
        if now < least {
            witness
                .complaints
                .push(format!("{file} holds {now} after {least} was acknowledged ({why})"));
        }
        witness.seen = witness.seen.max(now);
    }

    fn wait(&self) {
        let pending = self.pending.lock().unwrap();
        let waited =
            self.all_answered
                .wait_timeout_while(pending, Duration::from_secs(120), |left| *left > 0);
        assert_eq!(*waited.unwrap().0, 0, "some calls were never answered");
    }

    fn complaints(&self) -> Vec<String> {
        self.witnesses
            .lock()
            .unwrap()
            .values()
            .flat_map(|witness| witness.complaints.clone())
            .collect()
    }
}

struct OrderCaller {
    world: Arc<EngineUnderTest>,
    file: &'static str,
    number: u64,
    answers: usize,
    is_gone: bool,
}

impl WriteCaller for OrderCaller {
    fn start(&mut self, _: bool) -> bool {
        if self.is_gone {
            // Its caller is gone; it counts as answered.
            self.answers += 1;
            *self.world.pending.lock().unwrap() -= 1;
            self.world.all_answered.notify_all();
        }
        !self.is_gone
    }

    fn stop(&mut self) {}

    fn observer(&self) -> Option<&dyn Observer> {
        None
    }

    fn finish(&mut self, outcome: Result<(), Error>) {
        self.answers += 1;
        assert_eq!(self.answers, 1, "answered twice");
        match outcome {
            Ok(()) => {
                self.world.succeeded.fetch_add(1, Ordering::SeqCst);
                self.world.look(self.file, self.number, "acknowledged");
            }
            Err(error) => {
                assert!(
                    matches!(error.kind, ErrorKind::System(_) | ErrorKind::Cancelled),
                    "{error}"
                );
                self.world.failed.fetch_add(1, Ordering::SeqCst);
                self.world.look(self.file, 0, "refused");
            }
        }
        *self.world.pending.lock().unwrap() -= 1;
        self.world.all_answered.notify_all();
    }
}

fn options(random: &mut Random) -> Options {
    Options {
        // Mostly alike, so that many merge.
        durability: match random.below(20) {
            0 => Durability::File,
            1 => Durability::None,
            _ => Durability::Full,
        },
        attempts: 2,
        retry_delay: Duration::from_micros(random.below(300)),
        ..Options::default()
    }
}

fn request(path: &str, number: u64, options: Options) -> WriteRequest {
    let payload = Payload::Owned(number.to_string().into_bytes());
    WriteRequest { path: PathBuf::from(path), payload, options }
}

/// Makes `calls` random calls and checks the order.
fn run(world: &Arc<EngineUnderTest>, calls: u64, seed: u64, with_faults: bool) {
    let mut random = Random(seed);
    for number in 1..=calls {
        let (file, spellings) = FILES[random.below(3) as usize];
        let path = spellings[random.below(3) as usize];
        let options = options(&mut random);
        if with_faults && random.below(50) == 0 {
            let code = [Code::EIO, Code::ENOSPC, Code::EACCES][random.below(3) as usize];
            let kind = [
                OperationKind::Rename,
                OperationKind::SyncFile,
                OperationKind::SyncDir,
                OperationKind::SyncFilesystem,
                OperationKind::AwaitWriteBack,
            ][random.below(5) as usize];
            world.fs.inject(Fault::fail(code).of(kind));
        }
        match random.below(200) {
            0 => {
                // A synchronous write, as in an exit handler.
                let written = world.engine.write_now(
                    request(path, number, options),
                    &Control::default(),
                    None,
                );
                if written.is_ok() {
                    world.look(file, number, "written synchronously");
                }
            }
            choice => {
                *world.pending.lock().unwrap() += 1;
                let control = (choice < 6).then(Arc::<Control>::default);
                let caller = OrderCaller {
                    world: Arc::clone(world),
                    file,
                    number,
                    answers: 0,
                    is_gone: choice == 7,
                };
                let request = request(path, number, options);
                world.engine.submit(request, control.clone(), choice != 8, Box::new(caller));
                if let Some(control) = control.filter(|_| choice < 3) {
                    control.cancel();
                }
            }
        }
        if random.below(2000) == 0 {
            world.wait();
        }
    }
    world.wait();
    let complaints = world.complaints();
    assert!(
        complaints.is_empty(),
        "{} complaints: {:#?}",
        complaints.len(),
        &complaints[..complaints.len().min(5)]
    );
    assert_eq!(world.fs.open_handles(), (0, 0));
    println!(
        "{calls} calls: {} acknowledged, {} refused, {} renames",
        world.succeeded.load(Ordering::SeqCst),
        world.failed.load(Ordering::SeqCst),
        world.fs.log().iter().filter(|done| done.kind == OperationKind::Rename).count(),
    );
}

#[test]
fn nothing_older_ever_replaces_what_was_acknowledged() {
    for (threads, seed) in [(1, 7), (2, 99), (8, 1234), (32, 5)] {
        let world = world(threads);
        run(&world, 12_500, seed, false);
        // The last call wins, when none fails.
        let newest = world.witnesses.lock().unwrap().values().map(|witness| witness.seen).max();
        assert!(newest.is_some_and(|newest| newest > 12_400));
    }
}

#[test]
fn nothing_older_ever_replaces_what_was_acknowledged_although_writes_fail() {
    for (threads, seed) in [(1, 8), (2, 98), (8, 4321), (32, 6)] {
        run(&world(threads), 12_500, seed, true);
    }
}

/// A disk whose syncs take long enough for writes to meet there.
#[test]
fn nothing_older_ever_replaces_what_was_acknowledged_when_syncs_are_shared() {
    for (threads, syncs_whole) in [(2, true), (4, true), (2, false)] {
        let world = world(threads);
        world.fs.set_syncs_whole(syncs_whole);
        let wait = || Fault::intrude(|_, _| std::thread::sleep(Duration::from_micros(200)));
        for kind in [OperationKind::SyncFile, OperationKind::SyncDir] {
            world.fs.inject(wait().of(kind).for_ever());
        }
        run(&world, 3_000, 77, true);
        let count = |kind| world.fs.log().iter().filter(|done| done.kind == kind).count();
        let (wholes, renames) =
            (count(OperationKind::SyncFilesystem), count(OperationKind::Rename));
        let dirs = count(OperationKind::SyncDir);
        println!("{renames} renames, {wholes} syncs of all, {dirs} of folders");
        match syncs_whole {
            true => assert!(wholes > 10, "writes never met"),
            false => assert_eq!(wholes, 0),
        }
    }
}

#[test]
fn writes_that_wait_together_are_merged_and_all_acknowledged() {
    let world = world(4);
    *world.pending.lock().unwrap() = 300;
    for number in 1..=300 {
        submit(&world, "/dir/one", number);
    }
    world.wait();
    assert_eq!(world.complaints(), Vec::<String>::new());
    assert_eq!(world.succeeded.load(Ordering::SeqCst), 300);
    assert_eq!(world.content("/dir/one"), 300);
    let renames = world.fs.log().iter().filter(|done| done.kind == OperationKind::Rename).count();
    assert!(renames < 300, "{renames} renames");
}

#[test]
fn a_synchronous_write_is_as_durable_as_those_it_stands_for() {
    let world = world(2);
    // An exclusive job has the file's queue, so that all the others wait.
    let (give, take) = std::sync::mpsc::channel();
    let keep = move |guard| give.send(guard).unwrap();
    world.engine.run_exclusively(PathBuf::from("/dir/one"), Options::default(), keep);
    let guard = take.recv().unwrap();
    *world.pending.lock().unwrap() = 50;
    for number in 1..=50 {
        submit(&world, "/dir/one", number);
    }
    // The queue is free long after the synchronous write has been queued.
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(guard);
    });
    let weak = Options { durability: Durability::None, ..Options::default() };
    world.engine.write_now(request("/dir/one", 51, weak), &Control::default(), None).unwrap();
    release.join().unwrap();
    world.wait();
    assert_eq!(world.complaints(), Vec::<String>::new());
    assert_eq!(world.succeeded.load(Ordering::SeqCst), 50);
    // One write, and what was acknowledged as fully durable is there after a power cut.
    let renames = world.fs.log().iter().filter(|done| done.kind == OperationKind::Rename).count();
    assert_eq!(renames, 1);
    for state in world.fs.crash_states(Model::StrictPosix, 10_000) {
        assert_eq!(state.fs.read_file("/dir/one").unwrap().as_slice(), b"51");
    }
}

/// Records when it is dropped.
struct Guard(Arc<AtomicUsize>);

impl Kept for Guard {}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A write that fails together with others is made again. What other processes wrote meanwhile,
/// under a lock that it had released, would be lost.
#[test]
fn a_lock_is_kept_while_a_write_may_have_to_be_made_again() {
    let world = world(4);
    let given_back = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(Mutex::new(None));
    let look = {
        let (given_back, seen) = (Arc::clone(&given_back), Arc::clone(&seen));
        move |_: &SimFs, _: &Path| {
            *seen.lock().unwrap() = Some(given_back.load(Ordering::SeqCst));
        }
    };
    world.fs.inject(Fault::intrude(look).of(OperationKind::SyncFilesystem));
    // The writes meet: none of them can go before all are there.
    let (release, go) = std::sync::mpsc::channel::<()>();
    let waits = Options::default();
    for name in ["/else/a", "/else/b", "/else/c", "/else/d"] {
        world.fs.put_file(name, b"0").unwrap();
    }
    let go = Arc::new(Mutex::new(go));
    for name in ["/else/a", "/else/b", "/else/c", "/else/d"] {
        let go = Arc::clone(&go);
        world.engine.run_exclusively(name.into(), waits.clone(), move |guard| {
            let _ = go.lock().unwrap().recv();
            drop(guard);
        });
    }
    *world.pending.lock().unwrap() = 2;
    for (number, file) in [(1, "/dir/one"), (2, "/dir/two")] {
        let caller =
            OrderCaller { world: Arc::clone(&world), file, number, answers: 0, is_gone: false };
        let control = Arc::new(Control::default());
        control.keep(Box::new(Guard(Arc::clone(&given_back))));
        let request = request(file, number, Options::default());
        world.engine.submit(request, Some(control), false, Box::new(caller));
    }
    drop(release);
    world.wait();
    assert_eq!(given_back.load(Ordering::SeqCst), 2, "both are free in the end");
    assert_eq!(*seen.lock().unwrap(), Some(0), "none is, while both are synced together");
}

/// A plain write that can be merged.
fn submit(world: &Arc<EngineUnderTest>, file: &'static str, number: u64) {
    let world = Arc::clone(world);
    let engine = world.engine.clone();
    let caller = OrderCaller { world, file, number, answers: 0, is_gone: false };
    engine.submit(request(file, number, Options::default()), None, true, Box::new(caller));
}

/// Waits until this is so.
fn wait_until(is_so: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it never came to it");
}

/// Under load it takes a while until a thread looks for the file of a call. The call keeps its
/// position in the order all the same.
#[test]
fn a_write_that_has_long_waited_for_a_thread_does_not_come_over_a_newer_one() {
    let world = world(1);
    let (release, go) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = std::sync::mpsc::channel();
    world.engine.run_exclusively(PathBuf::from("/else/three"), Options::default(), move |_guard| {
        begun.send(()).unwrap();
        let _ = go.recv();
    });
    has_begun.recv().unwrap();
    *world.pending.lock().unwrap() = 2;
    for (number, path) in [(1, "/dir/one"), (2, "/links/one")] {
        let caller = OrderCaller {
            world: Arc::clone(&world),
            file: "/dir/one",
            number,
            answers: 0,
            is_gone: false,
        };
        let request = request(path, number, Options::default());
        world.engine.submit(request, None, true, Box::new(caller));
    }
    // Longer than the timeout for a directory that does not respond.
    std::thread::sleep(Duration::from_millis(1200));
    let writer = {
        let world = Arc::clone(&world);
        std::thread::spawn(move || {
            world
                .engine
                .write_now(request("/dir/one", 3, Options::default()), &Control::default(), None)
                .unwrap();
            world.look("/dir/one", 3, "written synchronously");
        })
    };
    std::thread::sleep(Duration::from_millis(300));
    drop(release);
    writer.join().unwrap();
    world.wait();
    assert_eq!(world.complaints(), Vec::<String>::new());
    assert_eq!(world.content("/dir/one"), 3);
    assert_eq!(world.succeeded.load(Ordering::SeqCst), 2);
}

#[test]
fn a_dir_that_does_not_respond_does_not_delay_a_synchronous_write_elsewhere() {
    let world = world(2);
    world.fs.put_file("/dead/file", b"0").unwrap();
    let (release, go) = std::sync::mpsc::channel::<()>();
    let go = Mutex::new(go);
    let is_asked = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&is_asked);
    let hang = move |_: &SimFs, _: &Path| {
        asked.fetch_add(1, Ordering::SeqCst);
        let _ = go.lock().unwrap().recv();
    };
    world.fs.inject(Fault::intrude(hang).of(OperationKind::OpenDir).on("/dead"));
    *world.pending.lock().unwrap() = 1;
    submit(&world, "/dead/file", 1);
    wait_until(|| is_asked.load(Ordering::SeqCst) == 1);
    let (told, done) = std::sync::mpsc::channel();
    let writer = Arc::clone(&world);
    std::thread::spawn(move || {
        let written = writer.engine.write_now(
            request("/dir/one", 2, Options::default()),
            &Control::default(),
            None,
        );
        told.send(written).unwrap();
    });
    let written = done.recv_timeout(Duration::from_secs(60));
    drop(release);
    written.expect("it waits for the dead folder").unwrap();
    world.wait();
    assert_eq!(world.content("/dir/one"), 2);
}

/// A write that fails together with others is made again. If its content was in place before,
/// it is too late to cancel it: the file has changed.
#[test]
fn a_write_whose_content_is_in_its_place_is_not_cancelled_when_it_is_made_again() {
    let world = world(4);
    world.fs.set_keeps_order(true);
    let controls: Vec<_> = (0..2).map(|_| Arc::new(Control::default())).collect();
    let cancel = {
        let controls = controls.clone();
        move |_: &SimFs, path: &Path| {
            let is_first = path.to_string_lossy().contains("one");
            controls[usize::from(!is_first)].cancel();
        }
    };
    // Each is cancelled right after its last check before the rename.
    world.fs.inject(Fault::intrude(cancel).of(OperationKind::Rename).for_ever());
    world.fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncFilesystem));
    let (release, go) = std::sync::mpsc::channel::<()>();
    let go = Arc::new(Mutex::new(go));
    for name in ["/else/a", "/else/b", "/else/c", "/else/d"] {
        world.fs.put_file(name, b"0").unwrap();
        let go = Arc::clone(&go);
        world.engine.run_exclusively(name.into(), Options::default(), move |guard| {
            let _ = go.lock().unwrap().recv();
            drop(guard);
        });
    }
    *world.pending.lock().unwrap() = 2;
    for ((number, file), control) in [(1, "/dir/one"), (2, "/dir/two")].into_iter().zip(&controls) {
        let caller =
            OrderCaller { world: Arc::clone(&world), file, number, answers: 0, is_gone: false };
        let request = request(file, number, Options::default());
        world.engine.submit(request, Some(Arc::clone(control)), false, Box::new(caller));
    }
    drop(release);
    world.wait();
    let wholes =
        world.fs.log().iter().filter(|done| done.kind == OperationKind::SyncFilesystem).count();
    assert_eq!(wholes, 1, "they did not meet");
    assert_eq!([world.content("/dir/one"), world.content("/dir/two")], [1, 2]);
    assert_eq!(world.succeeded.load(Ordering::SeqCst), 2);
    assert_eq!(world.complaints(), Vec::<String>::new());
}

#[test]
fn a_panic_while_a_file_is_looked_for_refuses_the_calls_for_it_and_no_others() {
    const LONG: Duration = Duration::from_secs(20);
    let world = world(2);
    world.fs.put_file("/bad/file", b"0").unwrap();
    let (release, go) = std::sync::mpsc::channel::<()>();
    let (go, is_asked) = (Mutex::new(go), Arc::new(AtomicUsize::new(0)));
    let asked = Arc::clone(&is_asked);
    let panics = move |_: &SimFs, _: &Path| {
        asked.fetch_add(1, Ordering::SeqCst);
        let _ = go.lock().unwrap().recv();
        panic!("not so");
    };
    world.fs.inject(Fault::intrude(panics).of(OperationKind::OpenDir).on("/bad"));
    let (told, outcomes) = std::sync::mpsc::channel();
    let (told_other, other) = std::sync::mpsc::channel();
    let submit = |path: &str, number, told: &std::sync::mpsc::Sender<_>| {
        let request = request(path, number, Options::default());
        world.engine.submit(request, None, true, Box::new(OutcomeSender(told.clone())));
    };
    submit("/bad/file", 1, &told);
    wait_until(|| is_asked.load(Ordering::SeqCst) == 1);
    // These are queued with it: a write, and an exclusive job.
    submit("/bad/file", 2, &told);
    let (give_turn, turn) = std::sync::mpsc::channel();
    world.engine.run_exclusively(PathBuf::from("/bad/file"), Options::default(), move |guard| {
        give_turn.send(guard.map(drop)).unwrap();
    });
    // And this one is blocked, as long as it may be for the same file.
    submit("/dir/one", 3, &told_other);
    drop(release);
    for _ in 0..2 {
        let error = outcomes.recv_timeout(LONG).expect("nobody answers").unwrap_err();
        assert!(matches!(&error.kind, ErrorKind::Internal(text) if text == "not so"), "{error}");
        assert!(!error.committed);
    }
    let refused = turn.recv_timeout(LONG).expect("its turn never comes").unwrap_err();
    assert!(matches!(refused, ErrorKind::Internal(_)), "{refused}");
    other.recv_timeout(LONG).expect("it is held up for ever").unwrap();
    // The file can be written like any other from then on.
    submit("/bad/file", 4, &told);
    outcomes.recv_timeout(LONG).expect("nobody answers").unwrap();
    assert_eq!((world.content("/bad/file"), world.content("/dir/one")), (4, 3));
}

/// It runs on JavaScript's thread, where a panic would end the process.
#[test]
fn a_panic_in_a_synchronous_write_is_its_error() {
    let world = world(2);
    for kind in [OperationKind::OpenDir, OperationKind::SyncFile] {
        world.fs.inject(Fault::intrude(|_, _| panic!("not so")).of(kind));
        let written = world.engine.write_now(
            request("/dir/one", 1, Options::default()),
            &Control::default(),
            None,
        );
        let error = written.unwrap_err();
        assert!(matches!(&error.kind, ErrorKind::Internal(text) if text == "not so"), "{error}");
    }
    world
        .engine
        .write_now(request("/dir/one", 2, Options::default()), &Control::default(), None)
        .unwrap();
    assert_eq!(world.content("/dir/one"), 2);
}
