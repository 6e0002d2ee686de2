//! An empty trip to a thread and back: what every asynchronous operation pays, whatever
//! it does there.
//!
//! The thread waits for work as a thread pool does (a condition variable), and the way
//! back is the one of an event loop: an eventfd that ends an `epoll_wait`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, epoll};

use crate::Outcome;
use crate::arguments::Arguments;

/// What waits for the thread: a number of trips, or the request to end.
#[derive(Default)]
struct Queue {
    waiting: Mutex<(usize, bool)>,
    changed: Condvar,
}

/// `count=`: the mean of that many trips, one after the other.
pub fn run(arguments: &Arguments) -> Outcome {
    let count: usize = arguments.number("count")?;
    let back = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &back, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    let queue = Arc::new(Queue::default());
    let thread = {
        let (queue, back) = (queue.clone(), back.clone());
        std::thread::spawn(move || serve(&queue, &back))
    };

    for _ in 0..count / 10 {
        go_and_return(&queue, &poll, &back)?;
    }
    let start = Instant::now();
    for _ in 0..count {
        go_and_return(&queue, &poll, &back)?;
    }
    let microseconds = start.elapsed().as_secs_f64() * 1e6 / count as f64;

    queue.waiting.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
    queue.changed.notify_one();
    thread.join().map_err(|_| "the thread panicked")??;
    Ok(format!("{{\"microseconds\":{microseconds}}}"))
}

fn go_and_return(queue: &Queue, poll: &OwnedFd, back: &OwnedFd) -> io::Result<()> {
    queue.waiting.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
    queue.changed.notify_one();
    let mut events = Vec::with_capacity(1);
    while events.is_empty() {
        epoll::wait(poll, rustix::buffer::spare_capacity(&mut events), None)?;
    }
    rustix::io::read(back, &mut [0_u8; 8])?;
    Ok(())
}

fn serve(queue: &Queue, back: &OwnedFd) -> io::Result<()> {
    loop {
        let mut waiting = queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while *waiting == (0, false) {
            waiting = queue.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.1 {
            return Ok(());
        }
        waiting.0 -= 1;
        drop(waiting);
        rustix::io::write(back, &1_u64.to_ne_bytes())?;
    }
}
