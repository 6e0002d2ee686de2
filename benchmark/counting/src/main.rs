//! What it costs holdfast to count, as one line of JSON: nanoseconds, the mean of many.
//!
//! | field | what is counted |
//! | --- | --- |
//! | `write` | all that a write with the durability `'none'` counts, from the call to its answer |
//! | `crowd` | the same on each of four threads at once |
//! | `sync` | what one sync adds to that |
//! | `lock` | a lock that is free: the call, the wait, the hold |

use std::hint::black_box;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use holdfast::lock::Kind;
use holdfast::metrics::{LockCall, LockHeld, METRICS};
use holdfast::write::Durability;

const COUNT: u32 = 1_000_000;
const THREADS: usize = 4;

fn write() {
    let begun = black_box(Instant::now());
    METRICS.writes.attempts.add(1);
    METRICS.writes.bytes.add(black_box(1024));
    METRICS.writes.answered(begun, Durability::None, Ok(()));
}

fn sync() {
    let _ = black_box(METRICS.syncs.file(|| Ok(())));
}

fn lock() {
    let call = LockCall::new(
        black_box(Path::new("/a/path/of/some/length/to/a/file.json")).to_owned(),
        Kind::Write,
    );
    call.ended(&Ok(()));
    drop(black_box(LockHeld::new(Kind::Write)));
}

fn each(work: fn()) -> Duration {
    let begun = Instant::now();
    for _ in 0..COUNT {
        work();
    }
    begun.elapsed()
}

fn crowd() -> Duration {
    let begin = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    begin.wait();
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
    // So that no page is touched for the first time below.
    for work in [write, sync, lock] {
        each(work);
    }
    println!(
        "{{\"write\":{},\"crowd\":{},\"sync\":{},\"lock\":{}}}",
        nanoseconds(each(write)),
        nanoseconds(crowd()),
        nanoseconds(each(sync)),
        nanoseconds(each(lock)),
    );
}
