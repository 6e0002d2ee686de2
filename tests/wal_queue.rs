//! Many callers, one log, on the real system: which appends share a sync, which wait, and what each caller is told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod wal_common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast::error::Code;
use holdfast::error::ErrorKind;
use holdfast::fs::os::Os;
use holdfast::threads::{Pool, blocking};
use holdfast::wal::{
    AppendQueue, Appended, Batch, EntryRef, Log, LogOptions, Op, RecoveryMode, Replay, SyncMode,
    WalError,
};
use holdfast_sim::{Fault, OperationKind, Performed, SimFs};

use wal_common::{LOG, batch, drain, open, options, unpack};

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(20);

type Outcome = Result<Appended, ErrorKind>;

fn send_to(to: &Sender<Outcome>) -> Box<dyn FnOnce(Outcome) + Send> {
    let to = to.clone();
    Box::new(move |outcome| {
        let _ = to.send(outcome);
    })
}

fn close<F: holdfast::fs::FileSystem + Clone>(queue: &AppendQueue<F>) -> Result<(), ErrorKind> {
    let (told, tell) = channel();
    queue.close(move |outcome| told.send(outcome).unwrap());
    tell.recv_timeout(LONG).unwrap()
}

fn all(answers: &Receiver<Outcome>, count: usize) -> Vec<Appended> {
    (0..count).map(|_| answers.recv_timeout(LONG).unwrap().unwrap()).collect()
}

fn simulated(fs: &SimFs, options: &LogOptions) -> AppendQueue<SimFs> {
    AppendQueue::new(open(fs, options).unwrap(), Pool::new(2, 4), Box::new(()))
}

#[test]
fn producers_beside_each_other_share_syncs_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let small = LogOptions { segment_size: 60_000, step: 8192, ..LogOptions::default() };
    let log = Log::open(Os, &path, small).unwrap();
    let queue = AppendQueue::new(log, Pool::new(2, 8), Box::new(()));
    let (told, answers) = channel();
    std::thread::scope(|scope| {
        for producer in 0..8_u64 {
            let (queue, told) = (queue.clone(), told.clone());
            scope.spawn(move || {
                for round in 0..50 {
                    let (one, mine) = channel();
                    let batch = batch(producer * 1000 + round, 5);
                    queue.submit("a", batch, false, send_to(&one));
                    let appended = mine.recv_timeout(LONG).unwrap();
                    // Its own entry shows as soon as it is told.
                    let id = format!("{}/4", producer * 1000 + round);
                    let entry = queue.log().get("a", &id).unwrap().unwrap();
                    assert_eq!(entry.sequence, appended.as_ref().unwrap().first + 4);
                    told.send(appended).unwrap();
                }
            });
        }
    });
    let mut firsts: Vec<u64> =
        all(&answers, 400).into_iter().map(|appended| appended.first).collect();
    firsts.sort_unstable();
    assert_eq!(firsts, (0..400).map(|index| index * 5 + 1).collect::<Vec<u64>>());
    let stats = queue.log().stats();
    assert_eq!((stats.batches, stats.entries), (400, 2000));
    assert_eq!(stats.groups, stats.syncs);
    close(&queue).unwrap();
    let mut replay = Replay::new(Os, &path, "a", 0, None, RecoveryMode::Strict).unwrap();
    let entries = drain(&mut replay).unwrap();
    assert_eq!(entries.len(), 2000);
    let reopened = Log::open(Os, &path, small).unwrap();
    assert_eq!(reopened.damage(), []);
    assert_eq!(reopened.stats().collections[0].memtable_entries, 2000);
}

#[test]
fn a_caller_that_is_told_of_an_append_finds_its_entries_at_once() {
    let fs = SimFs::new();
    let queue = simulated(&fs, &options(SyncMode::PerBatch, RecoveryMode::Strict));
    let (told, tell) = channel();
    for number in 0..20_u64 {
        let (told, reader) = (told.clone(), queue.clone());
        // On the log's own thread: before it does anything else.
        let answer = move |outcome: Outcome| {
            let entry = reader.log().get("a", &format!("{number}/4"));
            let stats = reader.log().stats().collections[0].clone();
            told.send((outcome.unwrap(), entry.unwrap(), stats)).unwrap();
        };
        queue.submit("a", batch(number, 5), false, Box::new(answer));
        let (appended, entry, stats) = tell.recv_timeout(LONG).unwrap();
        assert_eq!(entry.map(|entry| entry.sequence), Some(appended.first + 4));
        assert_eq!((stats.last, stats.memtable_entries), (appended.first + 4, 5 * (number + 1)));
        // What it is told of the memory is what there is: no entry replaces another here.
        assert_eq!(appended.memtable_bytes as u64, stats.memtable_bytes);
    }
    close(&queue).unwrap();
}

/// Keeps the log's first sync from ending until it is told.
fn held_up(fs: &SimFs) -> Sender<()> {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    fs.inject(
        Fault::intrude(move |_, _| {
            let _ = wait.lock().unwrap().recv_timeout(LONG);
        })
        .of(OperationKind::SyncData),
    );
    go
}

#[test]
fn what_waits_for_a_sync_is_the_next_group_and_each_append_has_its_own_under_always() {
    for (sync, groups) in [(SyncMode::PerBatch, 2), (SyncMode::Always, 11)] {
        let fs = SimFs::new();
        let queue = simulated(&fs, &options(sync, RecoveryMode::Strict));
        let go = held_up(&fs);
        let (told, answers) = channel();
        queue.submit("a", batch(0, 1), false, send_to(&told));
        // The job runs when its first group is on its way to the disk.
        let is_begun = |performed: &Performed| {
            performed.kind == OperationKind::WriteAt && performed.path.ends_with("wal_current.avro")
        };
        while !fs.log().iter().any(is_begun) {
            std::thread::yield_now();
        }
        // The figures are told without waiting for a disk.
        assert_eq!(queue.log().stats().groups, 0);
        for number in 1..=10 {
            queue.submit("a", batch(number, 1), false, send_to(&told));
        }
        drop(go);
        let firsts: Vec<u64> = all(&answers, 11).iter().map(|appended| appended.first).collect();
        assert_eq!(firsts, (1..=11).collect::<Vec<u64>>(), "in the order of the calls");
        let stats = queue.log().stats();
        assert_eq!((stats.groups, stats.syncs), (groups, groups));
        close(&queue).unwrap();
    }
}

#[test]
fn batches_wait_for_room_in_the_order_of_the_calls() {
    let fs = SimFs::new();
    let plain = options(SyncMode::PerBatch, RecoveryMode::Strict);
    let queue = simulated(&fs, &LogOptions { queue_bytes: 2000, ..plain });
    let go = held_up(&fs);
    let (told, answers) = channel();
    let mut submitted = 0;
    while queue.waiting() == 0 {
        assert!(submitted < 100, "it takes anything");
        queue.submit("a", batch(submitted, 2), false, send_to(&told));
        submitted += 1;
    }
    // A smaller one, of the same collection or another, does not overtake those that wait.
    let mut small = Batch::default();
    let (id, op, timestamp, is_text) = ("small", Op::Insert, 0, false);
    small.push(EntryRef { id, op, timestamp, is_text, payload: &[1] });
    for collection in ["a", "b"] {
        queue.submit(collection, small.clone(), false, send_to(&told));
    }
    // One that is larger than the queue is taken when nothing else is in it.
    let mut large = Batch::default();
    large.push(EntryRef { id: "large", op, timestamp, is_text, payload: &[1; 5000] });
    queue.submit("a", large, false, send_to(&told));
    assert_eq!(queue.waiting(), 4);
    assert!(queue.bytes() <= 2000);
    // What cannot be appended at all is told at once, and what is nothing too.
    queue.submit("a/b", small.clone(), false, send_to(&told));
    assert_eq!(answers.recv_timeout(LONG).unwrap().unwrap_err().code(), "EWALNAME");
    queue.submit("a", Batch::default(), false, send_to(&told));
    assert_eq!(answers.recv_timeout(LONG).unwrap().unwrap().count, 0);
    // A log that is closed meanwhile does what it has been asked for.
    let (done, is_done) = channel();
    queue.close(move |outcome| done.send(outcome).unwrap());
    queue.submit("a", small, false, send_to(&told));
    assert_eq!(answers.recv_timeout(LONG).unwrap().unwrap_err().code(), "EWALCLOSED");
    drop(go);
    all(&answers, submitted as usize + 3);
    is_done.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!((queue.bytes(), queue.waiting()), (0, 0));
    let ids = |collection: &str| {
        let mut replay =
            Replay::new(fs.clone(), Path::new(LOG), collection, 0, None, RecoveryMode::Strict)
                .unwrap();
        drain(&mut replay).unwrap().into_iter().map(|entry| entry.id).collect::<Vec<String>>()
    };
    let mut expected: Vec<String> =
        (0..submitted).flat_map(|number| [format!("{number}/0"), format!("{number}/1")]).collect();
    expected.extend(["small".to_owned(), "large".to_owned()]);
    assert_eq!((ids("a"), ids("b")), (expected, vec!["small".to_owned()]));
}

#[test]
fn batches_that_wait_for_room_are_told_of_the_failure_of_those_before() {
    let fs = SimFs::new();
    let plain = options(SyncMode::PerBatch, RecoveryMode::Strict);
    let queue = simulated(&fs, &LogOptions { queue_bytes: 2000, ..plain });
    let (told, answers) = channel();
    queue.submit("a", batch(0, 1), false, send_to(&told));
    all(&answers, 1);
    let go = held_up(&fs);
    fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncData).at(2));
    let mut submitted = 0;
    while queue.waiting() < 20 {
        queue.submit("a", batch(submitted, 2), false, send_to(&told));
        submitted += 1;
    }
    drop(go);
    for _ in 0..submitted {
        let code = answers.recv_timeout(LONG).unwrap().map_err(|error| error.code());
        assert!(matches!(code, Ok(_) | Err("EIO" | "EWALPOISONED")), "{code:?}");
    }
    assert_eq!((queue.bytes(), queue.waiting()), (0, 0));
    assert_eq!(close(&queue).unwrap_err().code(), "EWALPOISONED");
}

#[test]
fn a_failed_sync_rejects_its_group_and_poisons_the_log() {
    let fs = SimFs::new();
    let queue = simulated(&fs, &options(SyncMode::PerBatch, RecoveryMode::Strict));
    let (told, answers) = channel();
    queue.submit("a", batch(1, 1), false, send_to(&told));
    all(&answers, 1);
    fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncData));
    queue.submit("a", batch(2, 1), false, send_to(&told));
    assert_eq!(answers.recv_timeout(LONG).unwrap().unwrap_err().code(), "EIO");
    assert!(queue.log().get("a", "2/0").unwrap().is_none(), "it shows, and was rejected");
    for collection in ["a", "b"] {
        queue.submit(collection, batch(3, 1), false, send_to(&told));
        let refused = answers.recv_timeout(LONG).unwrap().unwrap_err();
        assert_eq!(refused.code(), "EWALPOISONED");
    }
    assert!(queue.log().get("a", "1/0").unwrap().is_some());
    assert_eq!(queue.log().sync(None).unwrap_err().code(), "EWALPOISONED");
    assert_eq!(close(&queue).unwrap_err().code(), "EWALPOISONED");
    drop(queue);
    let queue = simulated(&fs, &options(SyncMode::PerBatch, RecoveryMode::Strict));
    queue.submit("a", batch(4, 1), false, send_to(&told));
    all(&answers, 1);
    assert!(queue.log().get("a", "1/0").unwrap().is_some());
}

/// An append that is stopped in the middle leaves a writer whose position is not known.
#[test]
fn a_panic_rejects_its_group_and_poisons_the_log() {
    let fs = SimFs::new();
    let queue = simulated(&fs, &options(SyncMode::PerBatch, RecoveryMode::Strict));
    let (told, answers) = channel();
    queue.submit("a", batch(1, 1), false, send_to(&told));
    all(&answers, 1);
    fs.inject(Fault::intrude(|_, _| panic!("not so")).of(OperationKind::WriteAt));
    queue.submit("a", batch(2, 1), false, send_to(&told));
    let failed = answers.recv_timeout(LONG).unwrap().unwrap_err();
    assert!(matches!(failed, ErrorKind::Internal(_)), "{failed}");
    queue.submit("a", batch(3, 1), false, send_to(&told));
    assert_eq!(answers.recv_timeout(LONG).unwrap().unwrap_err().code(), "EWALPOISONED");
    close(&queue).unwrap_err();
}

#[test]
#[should_panic(expected = "within another")]
fn a_wait_for_a_disk_within_another_is_found_out() {
    blocking(|| blocking(|| ()));
}

/// The system may have written a part of what was refused before it was undone.
#[test]
fn what_a_full_disk_has_refused_does_not_show_after_a_power_cut() {
    let fs = SimFs::new();
    let plain = options(SyncMode::Never, RecoveryMode::TolerateTail);
    let log = open(&fs, &plain).unwrap();
    log.append("a", &[&batch(1, 2)], true).unwrap();
    let before = wal_common::entries(&log, "a").unwrap();
    let group: Vec<Batch> = (2..8).map(|number| batch(number, 2)).collect();
    let group: Vec<&Batch> = group.iter().collect();
    fs.inject(Fault::short_write(400).of(OperationKind::WriteAt));
    fs.inject(Fault::fail(Code::ENOSPC).of(OperationKind::WriteAt).at(2));
    let write_back = Fault::intrude(|fs, _| fs.sync_filesystem().unwrap());
    fs.inject(write_back.of(OperationKind::WriteAt).at(3));
    let refused = log.append("a", &group, false).unwrap_err();
    assert_eq!((refused.code(), log.stats().poisoned), ("ENOSPC", None), "{}", fs.log_text());
    // It was the group that met the end of the disk, and not more space for it.
    let written =
        fs.log().iter().any(|it| it.detail.contains("400 bytes") || it.fault.contains("400"));
    assert!(written && !fs.paths().iter().any(|path| path.ends_with("wal_next.avro")));
    for state in fs.crash_states(holdfast_sim::Model::StrictPosix, 1000) {
        let log = open(&state.fs, &plain).unwrap();
        assert_eq!(wal_common::entries(&log, "a").unwrap(), before, "{}", state.description);
    }
}

#[test]
fn a_full_disk_rejects_what_does_not_fit_and_the_log_goes_on() {
    let fs = SimFs::new();
    let plain = options(SyncMode::PerBatch, RecoveryMode::Strict);
    let log = open(&fs, &plain).unwrap();
    let mut taken = 0;
    let mut refused = 0;
    // Small ones need new space, large ones make their own; both meet the end of the disk.
    for room in [0, 100, 700, 1300, 3000, 5000] {
        fs.set_free_space(Some(room));
        for entries in [2, 30, 2, 2, 2, 2, 2, 2, 30, 2, 2, 2, 2] {
            let number = 1000 + taken + refused;
            match log.append("a", &[&batch(number, entries)], false) {
                Ok(_) => taken += 1,
                Err(error) => {
                    assert_eq!(error.code(), "ENOSPC");
                    assert_eq!(log.stats().poisoned, None, "room {room}");
                    refused += 1;
                }
            }
        }
    }
    assert!(taken > 10 && refused > 10, "{taken} {refused}");
    fs.set_free_space(None);
    log.append("a", &[&batch(1, 2)], false).unwrap();
    let before = wal_common::entries(&log, "a").unwrap();
    drop(log);
    let left = fs.after_kill();
    let log = open(&left, &plain).unwrap();
    assert_eq!(wal_common::entries(&log, "a").unwrap(), before);
    for state in fs.crash_states(holdfast_sim::Model::StrictPosix, 200) {
        let log = open(&state.fs, &plain).unwrap();
        assert_eq!(wal_common::entries(&log, "a").unwrap(), before);
    }
}

#[test]
fn a_periodic_sync_comes_by_itself_and_a_durable_append_does_not_wait_for_it() {
    let fs = SimFs::new();
    let every = |interval| options(SyncMode::Periodic(interval), RecoveryMode::Strict);
    let queue = simulated(&fs, &every(Duration::from_millis(5)));
    let (told, answers) = channel();
    queue.submit("a", batch(1, 1), false, send_to(&told));
    all(&answers, 1);
    let until = std::time::Instant::now() + LONG;
    while queue.log().stats().collections[0].durable < 1 {
        assert!(std::time::Instant::now() < until, "no sync comes");
        std::thread::sleep(Duration::from_millis(1));
    }
    close(&queue).unwrap();

    let fs = SimFs::new();
    let queue = simulated(&fs, &every(LONG * 60));
    queue.submit("a", batch(1, 1), false, send_to(&told));
    all(&answers, 1);
    assert_eq!(queue.log().stats().collections[0].durable, 0);
    queue.submit("a", batch(2, 1), true, send_to(&told));
    all(&answers, 1);
    assert_eq!(queue.log().stats().collections[0].durable, 2);
    queue.submit("a", batch(3, 1), false, send_to(&told));
    all(&answers, 1);
    let (done, is_done) = channel();
    queue.sync(None, move |outcome| done.send(outcome).unwrap());
    is_done.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(queue.log().stats().collections[0].durable, 3);
    close(&queue).unwrap();
}

#[test]
fn closing_waits_for_what_was_taken_and_keeps_the_guard_until_then() {
    let fs = SimFs::new();
    let plain = options(SyncMode::PerBatch, RecoveryMode::Strict);
    let guard = Arc::new(());
    let log = open(&fs, &plain).unwrap();
    let queue = AppendQueue::new(log, Pool::new(2, 4), Box::new(Arc::clone(&guard)));
    let go = held_up(&fs);
    let (told, answers) = channel();
    for number in 0..5 {
        queue.submit("a", batch(number, 1), false, send_to(&told));
    }
    let (done, is_done) = channel();
    queue.close(move |outcome| done.send(outcome).unwrap());
    queue.submit("a", batch(9, 1), false, send_to(&told));
    assert_eq!(answers.recv_timeout(LONG).unwrap().unwrap_err().code(), "EWALCLOSED");
    assert!(is_done.try_recv().is_err());
    assert_eq!(Arc::strong_count(&guard), 2);
    drop(go);
    is_done.recv_timeout(LONG).unwrap().unwrap();
    assert_eq!(Arc::strong_count(&guard), 1);
    all(&answers, 5);
    let log = Log::open(fs.after_kill(), Path::new(LOG), plain).unwrap();
    assert_eq!(wal_common::entries(&log, "a").unwrap().len(), 5);
    let refused = queue.log().append("a", &[&batch(9, 1)], false).unwrap_err();
    assert!(matches!(refused, ErrorKind::Wal(WalError::Closed)));
}

#[test]
fn the_memtable_shows_the_newest_of_each_id_however_batches_replace_one_another() {
    for seed in 1..=40_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let fs = SimFs::new();
        let large =
            LogOptions { segment_size: 1 << 20, ..options(SyncMode::Never, RecoveryMode::Strict) };
        let queue = simulated(&fs, &large);
        // Few ids, so that most entries replace others, of the same batch too; or many.
        let ids = [3, 20, 400][seed as usize % 3];
        let mut model: BTreeMap<String, (u64, Op, Vec<u8>)> = BTreeMap::new();
        let mut last = 0;
        for _ in 0..60 {
            let mut batch = Batch::default();
            let mut entries = Vec::new();
            for _ in 0..1 + random(30) {
                let id = format!("id-{}", random(ids));
                let op = if random(5) == 0 { Op::Delete } else { Op::Update };
                let payload = vec![random(256) as u8; random(200) as usize];
                let entry =
                    EntryRef { id: &id, op, timestamp: 1, is_text: false, payload: &payload };
                batch.push(entry);
                entries.push((id, op, payload));
            }
            let (told, tell) = channel();
            queue.submit("a", batch, false, send_to(&told));
            let Appended { first, .. } = tell.recv_timeout(LONG).unwrap().unwrap();
            for (sequence, (id, op, payload)) in (first..).zip(entries) {
                model.insert(id, (sequence, op, payload));
                last = sequence;
            }
            if random(8) == 0 {
                // Mostly in the middle of a batch.
                let up_to = last - random(last.min(100));
                queue.log().checkpoint("a", up_to).unwrap();
                model.retain(|_, (sequence, ..)| *sequence > up_to);
            }
            let id = format!("id-{}", random(ids));
            let found = queue.log().get("a", &id).unwrap();
            let expected = model.get(&id).filter(|(_, op, _)| *op != Op::Delete);
            assert_eq!(found.as_ref().map(|it| it.sequence), expected.map(|it| it.0), "{seed}");
            assert_eq!(found.map(|it| it.payload), expected.map(|it| it.2.clone()), "{seed}");
        }
        let mut packed = Vec::new();
        let next = queue.log().entries("a", (0, last), usize::MAX, true, &mut packed).unwrap();
        assert!(next.is_none_or(|next| next == last), "{seed}");
        let mut shown = unpack(&packed);
        assert!(shown.is_sorted_by_key(|entry| entry.sequence), "{seed}");
        shown.sort_by(|one, other| one.id.cmp(&other.id));
        let shown: Vec<_> =
            shown.into_iter().map(|it| (it.id, (it.sequence, it.op, it.payload))).collect();
        let live: usize =
            model.iter().map(|(id, (.., payload))| 18 + id.len() + payload.len()).sum();
        assert_eq!(shown, model.clone().into_iter().collect::<Vec<_>>(), "{seed}");
        // What it keeps of batches that others have replaced is as much again at most.
        let stats = queue.log().stats().collections[0].clone();
        assert_eq!(stats.memtable_entries, model.len() as u64);
        let bytes = stats.memtable_bytes as usize - 96 * model.len();
        assert!((live..=2 * live + 200).contains(&bytes), "{seed}: {bytes} for {live}");
        queue.log().checkpoint("a", last).unwrap();
        assert_eq!(queue.log().stats().collections[0].memtable_bytes, 0, "{seed}");
        close(&queue).unwrap();
    }
}

#[test]
fn a_batch_that_was_announced_is_appended_once_whenever_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let never = LogOptions { sync: SyncMode::Never, ..LogOptions::default() };
    let log = Log::open(Os, &dir.path().join("log"), never).unwrap();
    let queue = AppendQueue::new(log, Pool::new(2, 4), Box::new(()));
    let (told, answers) = channel();
    let append = |count: u64| {
        queue.submit("a", batch(count, 1), false, send_to(&told));
        answers.recv_timeout(LONG).unwrap().unwrap().first
    };
    assert_eq!(append(1), 1);
    for count in 2..1000 {
        queue.expect_batch("a");
        if count % 3 == 0 {
            queue.expect_batch("a");
        }
        // From at once to when no job spins any more.
        let pause = Duration::from_micros(count % 90);
        let begun = std::time::Instant::now();
        while begun.elapsed() < pause {
            std::hint::spin_loop();
        }
        if count % 7 == 0 {
            // One of another collection comes instead.
            queue.submit("b", batch(count, 1), false, send_to(&told));
            answers.recv_timeout(LONG).unwrap().unwrap();
        }
        append(count);
    }
    let numbers = |collection: &str| {
        let mut replay = queue.log().replay(collection, 0).unwrap();
        drain(&mut replay).unwrap().into_iter().map(|entry| entry.sequence).collect::<Vec<u64>>()
    };
    let mut both = [numbers("a"), numbers("b")].concat();
    assert_eq!(both.len(), 999 + 142);
    both.sort_unstable();
    assert_eq!(both, (1..=999 + 142).collect::<Vec<u64>>());
    close(&queue).unwrap();
}

#[test]
fn a_batch_that_was_announced_and_does_not_come_keeps_no_caller_waiting() {
    let fs = SimFs::new();
    let queue = simulated(&fs, &LogOptions::default());
    // Of no collection yet: its name may be one that cannot be.
    queue.expect_batch("a/b");
    queue.expect_batch("a");
    assert!(queue.log().stats().collections.is_empty());
    let (told, answers) = channel();
    queue.submit("a", batch(1, 1), false, send_to(&told));
    answers.recv_timeout(LONG).unwrap().unwrap();
    queue.expect_batch("a");
    close(&queue).unwrap();
    queue.expect_batch("a");
    queue.submit("a", batch(2, 1), false, send_to(&told));
    let refused = answers.recv_timeout(LONG).unwrap();
    assert!(matches!(refused, Err(ErrorKind::Wal(WalError::Closed))), "{refused:?}");
}
