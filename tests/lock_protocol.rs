//! The locks, through the public API of the core: who gets one next, readers and writers,
//! between calls of one process and between processes, and what is written down of it.
//!
//! The other processes are this program again, told by an environment variable to do what
//! they read; see `another_process`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast::error::Code;
use holdfast::error::Holder;
use holdfast::error::{Deadlock, ErrorKind, Failure};
use holdfast::lock::{self, Before, FileKey, LockGuard, LockKind, LockRequest, Waiter};
use holdfast::threads::pool;
use rand::{Rng, RngExt};
use tempfile::TempDir;

use LockKind::{Read as R, Write as W};

mod lock_common;
use lock_common::{Call, FOR_EVER, NOW, TIMEOUT, acquire, ask, hold, request};

// -- Calls of this process ------------------------------------------------------------------

/// Whether the lock can be had at this moment.
fn is_free(path: &Path, kind: LockKind) -> bool {
    match acquire(path, kind, NOW).outcome() {
        Ok(_) => true,
        Err(ErrorKind::Locked(_)) => false,
        Err(error) => panic!("{error:?}"),
    }
}

fn temp_file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::canonicalize(dir.path()).unwrap().join("file");
    (dir, file)
}

fn lock_file(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap());
    name.push(".lock");
    path.with_file_name(name)
}

/// Until so many threads or processes wait in the kernel for the lock of a file. Elsewhere
/// than on Linux it cannot be seen, and is taken for granted after a moment.
fn until_waiting(path: &Path, count: usize) {
    if !cfg!(target_os = "linux") {
        return std::thread::sleep(Duration::from_millis(300));
    }
    let inode = format!(":{} ", fs::metadata(lock_file(path)).unwrap().ino());
    loop {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let waiting = |line: &&str| line.contains("-> ") && line.contains(&inode);
        if locks.lines().filter(waiting).count() >= count {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

// -- Calls of other processes ---------------------------------------------------------------

const PEER: &str = "HOLDFAST_LOCK_PEER";

/// Another process. It does what it is told on its standard input, line by line, and says
/// on its standard output what came of it.
struct Peer {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
    kept: Vec<String>,
}

impl Peer {
    fn start() -> Peer {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "another_process", "--nocapture", "--test-threads=1"])
            .env(PEER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, answers) = mpsc::channel();
        std::thread::spawn(move || {
            // The test harness has things to say as well, on the same line even.
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, answer)) = line.split_once('@') {
                    let _ = tell.send(answer.to_owned());
                }
            }
        });
        Peer { child, input, answers, kept: Vec::new() }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// Asks for a lock; what comes of it is told under `name`.
    fn ask(&mut self, name: &str, kind: LockKind, timeout: Option<Duration>, path: &Path) {
        let kind = if kind == W { "write" } else { "read" };
        let timeout = timeout.map_or("-".to_owned(), |timeout| timeout.as_millis().to_string());
        self.tell(&format!("acquire {name} {kind} {timeout} {}", path.display()));
    }

    /// What came of what has this name.
    fn outcome(&mut self, name: &str) -> String {
        loop {
            let prefix = format!("{name} ");
            if let Some(at) = self.kept.iter().position(|answer| answer.starts_with(&prefix)) {
                return self.kept.remove(at)[prefix.len()..].to_owned();
            }
            self.kept.push(self.answers.recv_timeout(TIMEOUT).expect("an answer"));
        }
    }

    fn acquire(&mut self, name: &str, kind: LockKind, path: &Path) {
        self.ask(name, kind, FOR_EVER, path);
        assert_eq!(self.outcome(name), "held");
    }

    fn release(&mut self, name: &str) {
        self.tell(&format!("release {name}"));
        assert_eq!(self.outcome(name), "released");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the other processes do; nothing, when this runs as a test.
#[test]
fn another_process() {
    if std::env::var_os(PEER).is_none() {
        return;
    }
    // Not by `println`, which may be held back by the harness.
    let say = |text: String| {
        std::io::stdout().lock().write_all(format!("@{text}\n").as_bytes()).unwrap();
        std::io::stdout().lock().flush().unwrap();
    };
    let holds: Arc<Mutex<HashMap<String, LockGuard>>> = Arc::default();
    let mut waiters = HashMap::new();
    let over = Arc::new(AtomicBool::new(false));
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (command, name) = (word(), word());
        match &*command {
            "acquire" => {
                let kind = if word() == "write" { W } else { R };
                let timeout = word().parse().ok().map(Duration::from_millis);
                let path = PathBuf::from(word());
                let (holds, key) = (Arc::clone(&holds), name.clone());
                let reply = move |outcome: Result<LockGuard, ErrorKind>| match outcome {
                    Ok(hold) => {
                        holds.lock().unwrap().insert(key.clone(), hold);
                        say(format!("{key} held"));
                    }
                    Err(error) => say(format!("{key} {}", error.code())),
                };
                let waiter = lock::acquire(pool(), request(&path, kind, timeout), Box::new(reply));
                waiters.insert(name, waiter);
            }
            "release" => {
                let hold = holds.lock().unwrap().remove(&name);
                drop(hold.expect("it is held"));
                say(format!("{name} released"));
            }
            "cancel" => waiters.remove(&name).expect("it waits").cancel(),
            // Readers that overlap, so that the lock is never without one for long.
            "overlap" => {
                let (over, path) = (Arc::clone(&over), PathBuf::from(word()));
                std::thread::spawn(move || {
                    let mut turns = 0;
                    let mut last = hold(&path, R);
                    say(format!("{name} reading"));
                    while !over.load(Ordering::Relaxed) {
                        let next = acquire(&path, R, FOR_EVER);
                        // Held on to for as long as the next one is not refused a place
                        // beside it; a writer in between makes it wait for this.
                        let got = next.outcome.recv_timeout(Duration::from_millis(5));
                        drop(last);
                        last = got.map_or_else(|_| next.hold(), |hold| hold.unwrap());
                        turns += 1;
                    }
                    drop(last);
                    say(format!("{name} {turns}"));
                });
            }
            "witness" => {
                let (path, rounds) = (PathBuf::from(word()), 150);
                std::thread::spawn(move || say(format!("{name} {}", witness(&path, rounds))));
            }
            "stop" => over.store(true, Ordering::Relaxed),
            other => panic!("{other}"),
        }
    }
    std::process::exit(0);
}

/// Writers write one number twice, with a pause in between; readers, and they themselves,
/// must never see two different ones. Says how often that happened.
fn witness(path: &Path, rounds: u32) -> u32 {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let look = || {
        let mut both = [0; 8];
        file.read_exact_at(&mut both, 0).unwrap();
        u32::from(both[..4] != both[4..])
    };
    let mut wrong = 0;
    for _ in 0..rounds {
        let kind = if rand::random_range(0..3) == 0 { W } else { R };
        // Now and then one gives up, before or after it waits in the kernel.
        let timeout = match rand::random_range(0..8) {
            0 => NOW,
            1 => Some(Duration::from_micros(rand::random_range(0..1000))),
            _ => FOR_EVER,
        };
        let call = acquire(path, kind, timeout);
        if rand::random_range(0..8) == 0 {
            pause();
            call.waiter.cancel();
        }
        let Ok(_hold) = call.outcome() else { continue };
        wrong += look();
        if kind == W {
            let number: [u8; 4] = rand::random();
            file.write_all_at(&number, 0).unwrap();
            pause();
            file.write_all_at(&number, 4).unwrap();
        } else {
            pause();
        }
        wrong += look();
    }
    wrong
}

fn pause() {
    match rand::random_range(0..3) {
        0 => std::thread::yield_now(),
        1 => std::thread::sleep(Duration::from_micros(rand::random_range(0..300))),
        _ => {}
    }
}

// -- Order ----------------------------------------------------------------------------------

/// Asks for a lock and, when it comes, notes the number and releases it.
fn note(
    path: &Path,
    kind: LockKind,
    timeout: Option<Duration>,
    served: &Sender<usize>,
    number: usize,
) -> Arc<Waiter> {
    let served = served.clone();
    let reply = move |outcome: Result<LockGuard, ErrorKind>| {
        if outcome.is_ok() {
            served.send(number).unwrap();
        }
    };
    lock::acquire(pool(), request(path, kind, timeout), Box::new(reply))
}

#[test]
fn calls_are_served_in_their_order() {
    let (_dir, file) = temp_file();
    let held = hold(&file, W);
    let (tell, served) = mpsc::channel();
    for number in 0..500 {
        let kind = if number % 3 == 0 { W } else { R };
        note(&file, kind, FOR_EVER, &tell, number);
    }
    drop((held, tell));
    let order: Vec<_> = served.iter().collect();
    assert_eq!(order, (0..500).collect::<Vec<_>>());
    assert!(is_free(&file, W));
}

#[test]
fn thousands_that_give_it_back_at_once_do_so_one_after_the_other() {
    // Inside each other they would need more stack than a thread has.
    let (_dir, file) = temp_file();
    let held = hold(&file, W);
    let (tell, served) = mpsc::channel();
    for number in 0..20_000 {
        note(&file, W, FOR_EVER, &tell, number);
    }
    drop((held, tell));
    assert_eq!(served.iter().count(), 20_000);
    assert!(is_free(&file, W));
}

#[test]
fn those_that_give_up_leave_the_order_of_the_rest() {
    for by_another in [false, true] {
        let (_dir, file) = temp_file();
        let mut peer = by_another.then(Peer::start);
        let held = peer.is_none().then(|| hold(&file, W));
        if let Some(peer) = &mut peer {
            peer.acquire("held", W, &file);
        }
        let (tell, served) = mpsc::channel();
        let mut leaving = Vec::new();
        let mut impatient = Vec::new();
        for number in 0..300_usize {
            match number % 4 {
                0 => leaving.push(acquire(&file, W, FOR_EVER)),
                1 => impatient.push(acquire(
                    &file,
                    W,
                    Some(Duration::from_millis(number as u64 / 10)),
                )),
                _ => drop(note(&file, W, FOR_EVER, &tell, number)),
            }
        }
        for call in leaving.iter().rev() {
            call.waiter.cancel();
            assert_eq!(call.code(), "ABORT_ERR");
            call.waiter.cancel();
        }
        for call in &impatient {
            assert_eq!(call.code(), "ELOCKED");
        }
        if let Some(peer) = &mut peer {
            peer.release("held");
        }
        drop((held, tell));
        let order: Vec<_> = served.iter().collect();
        assert_eq!(order, (0..300).filter(|number| number % 4 > 1).collect::<Vec<_>>());
        assert!(is_free(&file, W), "held by another process: {by_another}");
    }
}

#[test]
fn a_lock_that_no_call_wants_any_more_is_released() {
    let (_dir, file) = temp_file();
    let mut peer = Peer::start();
    peer.acquire("held", W, &file);
    let calls: Vec<_> = (0..5).map(|_| acquire(&file, W, FOR_EVER)).collect();
    until_waiting(&file, 1);
    for call in calls {
        call.waiter.cancel();
        assert_eq!(call.code(), "ABORT_ERR");
    }
    peer.release("held");
    peer.acquire("again", W, &file);
    assert!(!is_free(&file, W));
    peer.release("again");
    drop(hold(&file, W));
}

#[test]
fn a_lock_is_free_as_soon_as_its_hold_is_dropped() {
    let (_dir, file) = temp_file();
    let (tell, seen) = mpsc::channel();
    let path = file.clone();
    let reply = move |outcome: Result<LockGuard, ErrorKind>| {
        drop(outcome.unwrap());
        tell.send(lock::inspect(&path, W).unwrap().is_some()).unwrap();
    };
    lock::acquire(pool(), request(&file, W, FOR_EVER), Box::new(reply));
    assert!(!seen.recv_timeout(TIMEOUT).unwrap(), "dropped where it is handed out");
    for _ in 0..300 {
        drop(hold(&file, W));
        assert!(lock::inspect(&file, W).unwrap().is_none(), "dropped by another thread");
    }
}

#[test]
fn a_call_that_tries_once_never_waits() {
    let (_dir, file) = temp_file();
    let held = hold(&file, W);
    assert_eq!(acquire(&file, W, NOW).code(), "ELOCKED");
    assert_eq!(acquire(&file, R, NOW).code(), "ELOCKED");
    let waiting = acquire(&file, W, FOR_EVER);
    assert_eq!(acquire(&file, W, NOW).code(), "ELOCKED");
    drop(held);
    drop(waiting.hold());
    assert!(is_free(&file, W));
}

#[test]
fn a_caller_that_asks_for_what_it_holds_is_told_so_and_harms_no_other() {
    let (_dir, file) = temp_file();
    let held = hold(&file, W);
    let inside = || std::iter::once(held.held()).collect();
    let waiting = acquire(&file, W, FOR_EVER);
    for kind in [R, W] {
        let call = ask(LockRequest { held: inside(), ..request(&file, kind, FOR_EVER) });
        assert!(
            matches!(call.outcome(), Err(ErrorKind::Deadlock(Deadlock::Held(path))) if path == lock_file(&file))
        );
    }
    let other = file.with_file_name("other");
    drop(ask(LockRequest { held: inside(), ..request(&other, W, FOR_EVER) }).hold());
    assert_eq!(held.kind(), W);
    assert_eq!(held.key(), &lock::key_of(&file).unwrap());
    let key: FileKey = lock::key_of(&other).unwrap();
    assert_ne!(held.key(), &key);
    drop(held);
    drop(waiting.hold());
}

#[test]
fn what_has_to_happen_first_happens_first_and_its_failure_is_the_answer() {
    let (_dir, file) = temp_file();
    let inner = file.join("made").join("file");
    let make: Before = {
        let path = inner.clone();
        Box::new(move || {
            fs::create_dir_all(path.parent().unwrap()).map_err(|error| Failure::new("mkdir", error))
        })
    };
    drop(ask(LockRequest { before: Some(make), ..request(&inner, W, FOR_EVER) }).hold());
    let fail: Before = Box::new(|| Err(Failure::new("mkdir", Code::ENOSPC.error())));
    let calls = [
        acquire(&inner, W, FOR_EVER),
        ask(LockRequest { before: Some(fail), ..request(&inner, W, FOR_EVER) }),
        acquire(&inner, W, FOR_EVER),
    ];
    assert_eq!(calls[1].code(), "ENOSPC");
    drop(calls[0].hold());
    drop(calls[2].hold());
    assert_eq!(acquire(&file.join("no").join("file"), W, FOR_EVER).code(), "ENOENT");
}

// -- Readers and writers --------------------------------------------------------------------

#[test]
fn readers_share_and_a_writer_is_alone() {
    let (_dir, file) = temp_file();
    let mut peer = Peer::start();
    let readers = [hold(&file, R), hold(&file, R)];
    peer.acquire("reader", R, &file);
    assert!(is_free(&file, R));
    assert!(!is_free(&file, W));
    peer.ask("writer", W, NOW, &file);
    assert_eq!(peer.outcome("writer"), "ELOCKED");
    assert_eq!(readers[0].kind(), R);
    assert_eq!(lock::inspect(&file, W).unwrap(), Some(None), "readers leave no note");
    drop(readers);
    assert!(!is_free(&file, W), "the other process still reads");
    peer.release("reader");
    let writer = hold(&file, W);
    for kind in [R, W] {
        assert!(!is_free(&file, kind));
        peer.ask("other", kind, NOW, &file);
        assert_eq!(peer.outcome("other"), "ELOCKED");
    }
    drop(writer);
    assert!(lock::inspect(&file, W).unwrap().is_none());
    peer.acquire("writer", W, &file);
    assert!(!is_free(&file, R));
    peer.release("writer");
    assert!(is_free(&file, R));
}

#[test]
fn readers_that_wait_together_are_let_in_together() {
    for by_another in [false, true] {
        let (_dir, file) = temp_file();
        let mut peer = by_another.then(Peer::start);
        let held = peer.is_none().then(|| hold(&file, W));
        if let Some(peer) = &mut peer {
            peer.acquire("held", W, &file);
        }
        let readers: Vec<_> = (0..20).map(|_| acquire(&file, R, FOR_EVER)).collect();
        let writer = acquire(&file, W, FOR_EVER);
        let later = acquire(&file, R, FOR_EVER);
        if let Some(peer) = &mut peer {
            until_waiting(&file, 1);
            peer.release("held");
        }
        drop(held);
        // None of them is released before the last one has come.
        let mut holds: Vec<_> = readers.iter().map(Call::hold).collect();
        assert!(!writer.is_answered());
        assert!(!later.is_answered(), "behind the writer");
        let last = holds.pop();
        drop(holds);
        assert!(!is_free(&file, W));
        assert!(!writer.is_answered());
        drop(last);
        let writer = writer.hold();
        assert!(!later.is_answered());
        drop(writer);
        drop(later.hold());
    }
}

#[test]
fn a_writer_that_waits_is_not_overtaken_by_readers_that_come_later() {
    // By those of its own process,
    let (_dir, file) = temp_file();
    let reader = hold(&file, R);
    let writer = acquire(&file, W, FOR_EVER);
    assert!(!is_free(&file, R));
    let later = acquire(&file, R, FOR_EVER);
    assert!(!later.is_answered());
    drop(reader);
    let written = writer.hold();
    assert!(!later.is_answered());
    drop(written);
    drop(later.hold());

    // nor of any other.
    let (_dir, file) = temp_file();
    let (mut peer, mut third) = (Peer::start(), Peer::start());
    peer.acquire("reader", R, &file);
    let writer = acquire(&file, W, FOR_EVER);
    until_waiting(&file, 1);
    assert!(!is_free(&file, R));
    for other in [&mut peer, &mut third] {
        other.ask("try", R, NOW, &file);
        assert_eq!(other.outcome("try"), "ELOCKED");
        other.ask("later", R, FOR_EVER, &file);
    }
    let later = acquire(&file, R, FOR_EVER);
    until_waiting(&file, 3);
    peer.release("reader");
    let written = writer.hold();
    assert!(!later.is_answered());
    for other in [&mut peer, &mut third] {
        other.ask("try", R, NOW, &file);
        assert_eq!(other.outcome("try"), "ELOCKED");
    }
    drop(written);
    drop(later.hold());
    for other in [&mut peer, &mut third] {
        assert_eq!(other.outcome("later"), "held");
    }
}

#[test]
fn a_reader_that_waits_is_not_overtaken_by_writers_that_come_later() {
    // By those of its own process,
    let (_dir, file) = temp_file();
    let writer = hold(&file, W);
    let reader = acquire(&file, R, FOR_EVER);
    let later = acquire(&file, W, FOR_EVER);
    drop(writer);
    let read = reader.hold();
    assert!(!later.is_answered());
    drop(read);
    drop(later.hold());

    // nor of any other.
    let (mut peer, mut third) = (Peer::start(), Peer::start());
    let writer = hold(&file, W);
    peer.ask("reader", R, FOR_EVER, &file);
    until_waiting(&file, 1);
    third.ask("writer", W, FOR_EVER, &file);
    until_waiting(&file, 2);
    let own = acquire(&file, W, FOR_EVER);
    drop(writer);
    assert_eq!(peer.outcome("reader"), "held");
    assert!(!own.is_answered());
    peer.release("reader");
    assert_eq!(third.outcome("writer"), "held");
    assert!(!own.is_answered());
    third.release("writer");
    drop(own.hold());
}

#[test]
fn readers_that_keep_coming_do_not_starve_a_writer() {
    let (_dir, file) = temp_file();
    let mut peers = [Peer::start(), Peer::start()];
    for peer in &mut peers {
        for name in ["one", "two"] {
            peer.tell(&format!("overlap {name} {}", file.display()));
            assert_eq!(peer.outcome(name), "reading");
        }
    }
    for _ in 0..20 {
        drop(hold(&file, W));
        // Nor one that has given up before, and left a wait in the kernel behind.
        for _ in 0..3 {
            let leaver = acquire(&file, W, FOR_EVER);
            pause();
            leaver.waiter.cancel();
        }
    }
    for peer in &mut peers {
        peer.tell("stop");
    }
    for peer in &mut peers {
        for name in ["one", "two"] {
            assert!(peer.outcome(name).parse::<u32>().unwrap() > 0, "they did keep coming");
        }
    }
    assert!(is_free(&file, W));
}

#[test]
fn a_writer_that_has_given_up_does_not_keep_readers_from_readers() {
    let (_dir, file) = temp_file();
    let (mut peer, mut third) = (Peer::start(), Peer::start());
    peer.acquire("reader", R, &file);
    let writer = acquire(&file, W, FOR_EVER);
    until_waiting(&file, 1);
    let behind = acquire(&file, R, Some(Duration::from_secs(2)));
    writer.waiter.cancel();
    assert_eq!(writer.code(), "ABORT_ERR");
    // Nobody but readers is there any more.
    third.ask("elsewhere", R, Some(Duration::from_secs(2)), &file);
    let own = behind.code();
    assert_eq!((own, &*third.outcome("elsewhere")), ("a lock", "held"));
}

#[test]
fn readers_behind_a_writer_that_has_given_up_share_what_arrives() {
    let (_dir, file) = temp_file();
    let mut peer = Peer::start();
    peer.acquire("writer", W, &file);
    let leaver = acquire(&file, W, FOR_EVER);
    until_waiting(&file, 1);
    let readers = [acquire(&file, R, FOR_EVER), acquire(&file, R, FOR_EVER)];
    leaver.waiter.cancel();
    assert_eq!(leaver.code(), "ABORT_ERR");
    peer.release("writer");
    let holds = readers.map(|call| call.hold());
    peer.acquire("reader", R, &file);
    assert!(is_free(&file, R));
    assert!(!is_free(&file, W));
    drop(holds);
    peer.release("reader");
    // What the leaver had asked for may arrive just now, and no call wants it.
    drop(hold(&file, W));

    // And the other way round: a writer behind a reader that has given up is alone.
    peer.acquire("writer", W, &file);
    let leaver = acquire(&file, R, FOR_EVER);
    until_waiting(&file, 1);
    let writer = acquire(&file, W, FOR_EVER);
    leaver.waiter.cancel();
    assert_eq!(leaver.code(), "ABORT_ERR");
    peer.release("writer");
    let held = writer.hold();
    peer.ask("reader", R, NOW, &file);
    assert_eq!(peer.outcome("reader"), "ELOCKED");
    drop(held);
}

#[test]
fn a_process_that_is_killed_frees_what_it_holds_and_waits_for() {
    for kind in [R, W] {
        let (_dir, file) = temp_file();
        let (mut holder, mut waiter) = (Peer::start(), Peer::start());
        holder.acquire("held", kind, &file);
        waiter.ask("waiting", W, FOR_EVER, &file);
        until_waiting(&file, 1);
        let own = acquire(&file, W, FOR_EVER);
        until_waiting(&file, 2);
        waiter.kill();
        assert!(!own.is_answered());
        holder.kill();
        drop(own.hold());
        assert!(is_free(&file, W));
    }
}

#[test]
fn readers_and_writers_of_many_threads_never_meet() {
    let (_dir, file) = temp_file();
    // Readers inside, or -1 for a writer.
    let inside = Arc::new(AtomicI32::new(0));
    let most = Arc::new(AtomicI32::new(0));
    let wrong = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (inside, most, wrong) =
                (Arc::clone(&inside), Arc::clone(&most), Arc::clone(&wrong));
            let file = file.clone();
            std::thread::spawn(move || {
                for _ in 0..200 {
                    let kind = if rand::random_range(0..4) == 0 { W } else { R };
                    let timeout = match rand::random_range(0..10) {
                        0 => NOW,
                        1 => Some(Duration::from_micros(rand::random_range(0..2000))),
                        _ => FOR_EVER,
                    };
                    let call = acquire(&file, kind, timeout);
                    if rand::random_range(0..10) == 0 {
                        call.waiter.cancel();
                    }
                    let Ok(_hold) = call.outcome() else { continue };
                    if kind == W {
                        let before = inside.swap(-1, Ordering::SeqCst);
                        pause();
                        let after = inside.swap(0, Ordering::SeqCst);
                        wrong.fetch_add(u32::from(before != 0 || after != -1), Ordering::SeqCst);
                    } else {
                        let before = inside.fetch_add(1, Ordering::SeqCst);
                        most.fetch_max(before + 1, Ordering::SeqCst);
                        pause();
                        let after = inside.fetch_sub(1, Ordering::SeqCst);
                        wrong.fetch_add(u32::from(before < 0 || after < 1), Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(wrong.load(Ordering::SeqCst), 0);
    assert!(most.load(Ordering::SeqCst) > 1, "readers have met");
    assert!(is_free(&file, W));
}

#[test]
fn readers_and_writers_of_several_processes_never_meet() {
    let (_dir, file) = temp_file();
    fs::write(&file, [0; 8]).unwrap();
    let mut peers = [Peer::start(), Peer::start(), Peer::start()];
    for peer in &mut peers {
        for name in ["one", "two"] {
            peer.tell(&format!("witness {name} {}", file.display()));
        }
    }
    assert_eq!(witness(&file, 150), 0);
    for peer in &mut peers {
        for name in ["one", "two"] {
            assert_eq!(peer.outcome(name), "0");
        }
    }
    assert!(is_free(&file, W));
}

// -- What is on the disk --------------------------------------------------------------------

#[test]
fn the_locks_are_the_two_bytes_that_all_versions_use() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let (_dir, file) = temp_file();
    let held = hold(&file, W);
    let mut peer = Peer::start();
    peer.ask("waiting", W, FOR_EVER, &file);
    until_waiting(&file, 1);
    let inode = format!(":{} ", fs::metadata(lock_file(&file)).unwrap().ino());
    let look = || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let mut found: Vec<_> = locks
            .lines()
            .filter(|line| line.contains(&inode))
            .map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                let (what, range) = words.split_at(words.len() - 2);
                format!("{} {}", what[what.len() - 5..what.len() - 2].join(" "), range.join(" "))
            })
            .collect();
        found.sort();
        found
    };
    let main = (1_u64 << 62) + 1;
    let gate = 1_u64 << 62;
    let first_place = (1_u64 << 62) + (1_u64 << 32) + 1;
    let expected = [
        // The writer that waits has the gate, and waits for main, which is held here.
        format!("OFDLCK ADVISORY WRITE {gate} {gate}"),
        format!("OFDLCK ADVISORY WRITE {main} {main}"),
        format!("OFDLCK ADVISORY WRITE {main} {main}"),
        // Its ticket is for processes that come later.
        format!("OFDLCK ADVISORY WRITE {first_place} {first_place}"),
    ];
    // The list may have gaps while locks of others come and go.
    let found = (0..500).map(|_| look()).find(|found| *found == expected);
    assert_eq!(found.unwrap_or_else(look), expected);
    drop(held);
    assert_eq!(peer.outcome("waiting"), "held");
}

#[test]
fn the_note_of_a_holder_has_this_form() {
    let (_dir, file) = temp_file();
    let held = hold(&file, W);
    let line = fs::read_to_string(lock_file(&file)).unwrap();
    let holder = lock::note::from_line(line.as_bytes()).unwrap();
    assert_eq!(holder.pid, std::process::id());
    assert!(holder.is_this_process());
    assert_eq!(lock::note::to_line(&holder), line);
    assert_eq!(lock::inspect(&file, W).unwrap(), Some(Some(holder)));
    drop(held);
    assert_eq!(fs::read(lock_file(&file)).unwrap(), b"");

    // Older and newer versions read each other's.
    let holder = Holder {
        pid: 4711,
        hostname: "höst".to_owned(),
        since: 1_700_000_000_123,
        command: "node \"a b\"\n\u{1}\\".to_owned(),
    };
    let line = lock::note::to_line(&holder);
    assert!(line.ends_with('\n') && line.lines().count() == 1);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["pid"], 4711);
    assert_eq!(value["hostname"], "höst");
    assert_eq!(value["since"], 1_700_000_000_123_u64);
    assert_eq!(value["command"], "node \"a b\"\n\u{1}\\");
    assert_eq!(value.as_object().unwrap().len(), 4);
    assert_eq!(lock::note::from_line(line.as_bytes()), Some(holder.clone()));
    assert!(!holder.is_this_process());
    // Of what comes after the line, a longer one that was there before, nothing is read.
    assert_eq!(lock::note::from_line(format!("{line}{line}rest").as_bytes()), Some(holder));
    let newer = br#"{"version":2,"pid":1,"hostname":"h","since":2,"command":"c","more":[{}]}"#;
    assert!(lock::note::from_line(&[newer.as_slice(), b"\n"].concat()).is_some());
    assert_eq!(lock::note::from_line(newer), None, "a line has an end");
}

#[test]
fn any_bytes_are_no_holder_or_one() {
    let mut random = rand::rng();
    let line = lock::note::to_line(&Holder {
        pid: 1,
        hostname: "h".to_owned(),
        since: 2,
        command: "node é".to_owned(),
    });
    let mut readable = 0;
    for _ in 0..30_000 {
        let mut bytes = line.clone().into_bytes();
        match random.random_range(0..4) {
            0 => {
                bytes = vec![0; random.random_range(0..200)];
                random.fill_bytes(&mut bytes);
            }
            1 => bytes.truncate(random.random_range(0..bytes.len())),
            _ => {
                for _ in 0..random.random_range(1..4) {
                    let at = random.random_range(0..bytes.len());
                    match random.random_range(0..3) {
                        0 => bytes[at] = random.random(),
                        1 => drop(bytes.remove(at)),
                        _ => bytes.insert(at, b"{}[]\",:0-9e.\n\\u"[random.random_range(0..15)]),
                    }
                }
            }
        }
        // Whatever it is taken for, it can be written again.
        if let Some(holder) = lock::note::from_line(&bytes) {
            readable += 1;
            assert_eq!(
                lock::note::from_line(lock::note::to_line(&holder).as_bytes()),
                Some(holder)
            );
        }
    }
    assert!(readable > 0, "some are readable all the same");
    let deep = [b"[".repeat(4000), b"\n".to_vec()].concat();
    assert_eq!(lock::note::from_line(&deep), None);
    for line in [
        r#"{"pid":-1,"hostname":"h","since":1,"command":"c"}"#,
        r#"{"pid":4294967296,"hostname":"h","since":1,"command":"c"}"#,
        r#"{"pid":1.0,"hostname":"h","since":1,"command":"c"}"#,
        r#"{"pid":1,"hostname":null,"since":1,"command":"c"}"#,
        r#"{"pid":1,"hostname":"h","since":-1,"command":"c"}"#,
        r#"{"pid":1,"hostname":"h","since":1}"#,
        "[1]",
        "null",
        "",
    ] {
        assert_eq!(lock::note::from_line(format!("{line}\n").as_bytes()), None, "{line}");
    }
}

/// The lock file that is made for the file with this name.
fn name_for(basename: &[u8]) -> Vec<u8> {
    let (dir, _) = temp_file();
    drop(hold(&fs::canonicalize(dir.path()).unwrap().join(OsStr::from_bytes(basename)), W));
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_vec())
        .collect();
    names.retain(|name| !name.ends_with(b".gate"));
    assert_eq!(names.len(), 1, "{names:?}");
    names.remove(0)
}

/// These can never change: versions of holdfast exclude each other by them.
#[test]
fn lock_files_have_the_names_that_they_have_always_had() {
    for short in
        ["a", "session.json", ".hidden", "...", "with space", "ä€😀", "new\nline", "a.lock"]
    {
        assert_eq!(name_for(short.as_bytes()), format!(".{short}.lock").into_bytes());
    }
    assert_eq!(name_for(&b"a".repeat(249)), format!(".{}.lock", "a".repeat(249)).into_bytes());
    for (basename, beginning, hash) in [
        ("a".repeat(250), "a".repeat(232), "924785600b73a84f"),
        ("a".repeat(255), "a".repeat(232), "7b04934eeef462a6"),
        ("a".repeat(254) + "b", "a".repeat(232), "7b04924eeef460f3"),
        ("é".repeat(127) + "x", "é".repeat(116), "2bb19d07fcce2bd3"),
        ("€".repeat(85), "€".repeat(77), "93ff8ca34b56f22b"),
        ("😀".repeat(63) + "xyz", "😀".repeat(58), "9aceb66339e004b3"),
        (
            "x".to_owned() + &"😀".repeat(63) + "yz",
            "x".to_owned() + &"😀".repeat(57),
            "eba151680ac584a5",
        ),
    ] {
        let name = name_for(basename.as_bytes());
        let expected = format!(".{beginning}.{hash}.lock");
        assert_eq!(String::from_utf8(name).unwrap(), expected);
        assert!(expected.len() <= 255);
    }
    if cfg!(target_os = "linux") {
        // Names need not be in UTF-8 there.
        assert_eq!(name_for(b"\xff\xfe"), b".\xff\xfe.lock");
        let cut = [b".".as_slice(), &b"\xff".repeat(232), b".26ffaebb43e11a38.lock"].concat();
        assert_eq!(name_for(&b"\xff".repeat(255)), cut);
        let cut = [b".".as_slice(), &b"\x80".repeat(232), b".8cf9c8006301224d.lock"].concat();
        assert_eq!(name_for(&b"\x80".repeat(250)), cut);
    }
}

#[test]
fn a_lock_file_is_never_more_than_a_line() {
    let (_dir, file) = temp_file();
    let line = "{\"command\":\"a\",\"hostname\":\"h\",\"pid\":1,\"since\":1}\n";
    fs::write(lock_file(&file), line.repeat(2000)).unwrap();
    let held = hold(&file, W);
    let mut text = String::new();
    fs::File::open(lock_file(&file)).unwrap().read_to_string(&mut text).unwrap();
    assert!(lock::note::from_line(text.as_bytes()).is_some());
    assert_eq!(text.lines().count(), 1);
    assert!(text.len() < 4096);
    drop(held);
    assert_eq!(fs::metadata(lock_file(&file)).unwrap().len(), 0);
}
