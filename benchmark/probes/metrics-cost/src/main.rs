//! What the metrics of holdfast cost, as one line of JSON: nanoseconds, the mean of many.
//!
//! | field | what it covers |
//! | --- | --- |
//! | `write` | all counters and times of a write with the durability `'none'` |
//! | `writeOnFourThreads` | the same on each of four threads at once |
//! | `sync` | what one sync adds to that |
//! | `lock` | an uncontended lock: the call, the wait, the hold |

use std::hint::black_box;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use holdfast::metrics::{LockCall, LockHeld, METRICS};
use holdfast::vocabulary::{Durability, LockKind};

const COUNT: u32 = 1_000_000;
const THREADS: usize = 4;

fn write() {
    let started = black_box(Instant::now());
    METRICS.writes.attempts.add(1);
    METRICS.writes.bytes.add(black_box(1024));
    METRICS.writes.answered(started, Durability::None, Ok(()));
}

fn sync() {
    let _ = black_box(METRICS.syncs.file(|| Ok(())));
}

fn lock() {
    let call = LockCall::new(
        black_box(Path::new("/a/path/of/some/length/to/a/file.json")).to_owned(),
        LockKind::Write,
    );
    call.ended(&Ok(()));
    drop(black_box(LockHeld::new(LockKind::Write)));
}

fn each(work: fn()) -> Duration {
    let started = Instant::now();
    for _ in 0..COUNT {
        work();
    }
    started.elapsed()
}

fn write_on_four_threads() -> Duration {
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    each(write)
                })
            })
            .collect();
        let slowest = threads.into_iter().filter_map(|thread| thread.join().ok()).max();
        slowest.unwrap_or_default()
    })
}

fn main() {
    let nanoseconds = |took: Duration| took.as_nanos() as f64 / f64::from(COUNT);
    // The warm-up: below no page is touched for the first time.
    for work in [write, sync, lock] {
        each(work);
    }
    println!(
        "{{\"write\":{},\"writeOnFourThreads\":{},\"sync\":{},\"lock\":{}}}",
        nanoseconds(each(write)),
        nanoseconds(write_on_four_threads()),
        nanoseconds(each(sync)),
        nanoseconds(each(lock)),
    );
}
