//! Replies that are delayed, in order, without holding up later requests.

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use fuser::ReplyEmpty;

/// Replies to each request after the same time.
#[derive(Debug)]
pub struct Delay {
    time: Duration,
    queue: Sender<(Instant, ReplyEmpty)>,
}

impl Delay {
    /// Starts the thread that replies. It ends with the last `Delay`.
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

    /// Sends `reply` once the time is over.
    pub fn send(&self, reply: ReplyEmpty) {
        // The thread lives as long as the queue. Without it the reply is dropped, and that
        // sends EIO.
        let _ = self.queue.send((Instant::now() + self.time, reply));
    }
}
