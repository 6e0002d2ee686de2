//! Answers that are given later, in order, without holding up what comes after them.

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use fuser::ReplyEmpty;

/// Answers each request after the same time.
#[derive(Debug)]
pub struct Delay {
    time: Duration,
    queue: Sender<(Instant, ReplyEmpty)>,
}

impl Delay {
    /// Starts the thread that answers. It ends with the last `Delay`.
    pub fn new(time: Duration) -> Delay {
        let (queue, waiting) = channel::<(Instant, ReplyEmpty)>();
        std::thread::spawn(move || {
            for (due, reply) in waiting {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                reply.ok();
            }
        });
        Delay { time, queue }
    }

    /// Answers `reply` once the time is over.
    pub fn answer(&self, reply: ReplyEmpty) {
        // The thread lives as long as the queue; should it be gone, the reply answers
        // EIO when it is dropped.
        let _ = self.queue.send((Instant::now() + self.time, reply));
    }
}
