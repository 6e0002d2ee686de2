//! A disk in memory that records the order of writes and flushes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fuser::ReplyEmpty;

use crate::file_system::Storage;
use crate::pages::{Pages, parts};

/// The fate, in a power cut, of the pages that were written after the last flush.
#[derive(Debug, Clone, Copy)]
pub enum Unflushed {
    Lost,
    Kept,
    /// Decided for each page, by the seed.
    Some(u64),
}

#[derive(Debug, Default)]
pub struct Recorder {
    state: Mutex<RecorderState>,
}

#[derive(Debug, Default)]
struct RecorderState {
    /// The content that a reader gets.
    current: Pages,
    /// The content when the recording started.
    base: Pages,
    /// Complete once the power was cut for the first time.
    events: Vec<Event>,
    recording: bool,
}

#[derive(Debug)]
enum Event {
    Write { offset: usize, data: Box<[u8]> },
    Flush,
    Mark,
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, RecorderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the recording: the current content counts as flushed.
    pub fn record(&self) {
        let mut state = self.lock();
        state.base = state.current.clone();
        state.events.clear();
        state.recording = true;
    }

    /// Marks this moment, and returns the number of events so far.
    pub fn mark(&self) -> usize {
        let mut state = self.lock();
        state.events.push(Event::Mark);
        state.events.len()
    }

    /// Ends the recording, and sets the content to what a power cut after so many events leaves.
    pub fn cut(&self, count: usize, unflushed: Unflushed) {
        let mut state = self.lock();
        state.recording = false;
        let mut pages = state.base.clone();
        let mut unflushed_writes = Vec::new();
        for event in state.events.iter().take(count) {
            match event {
                Event::Write { offset, data } => unflushed_writes.push((*offset, data)),
                Event::Flush => {
                    for (offset, data) in unflushed_writes.drain(..) {
                        pages.write(offset, data);
                    }
                }
                Event::Mark => {}
            }
        }
        let mut is_kept = unflushed.decider();
        for (offset, data) in unflushed_writes {
            for (_, _, part) in parts(offset, data.len()) {
                if is_kept() {
                    pages.write(offset + part.start, &data[part]);
                }
            }
        }
        state.current = pages;
    }
}

impl Unflushed {
    fn decider(self) -> impl FnMut() -> bool {
        let mut seed = match self {
            Unflushed::Some(seed) => seed,
            Unflushed::Lost | Unflushed::Kept => 0,
        };
        let mut random = move || {
            // SplitMix64.
            seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut number = seed;
            number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            number ^ (number >> 31)
        };
        // Few of them, half, or most.
        let quarters = 1 + random() % 3;
        move || match self {
            Unflushed::Lost => false,
            Unflushed::Kept => true,
            Unflushed::Some(_) => random() % 4 < quarters,
        }
    }
}

impl Storage for std::sync::Arc<Recorder> {
    // A write cached by the kernel would be recorded late, and out of order.
    const CACHED: bool = false;

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.lock().current.read(offset, into);
    }

    fn write(&self, offset: usize, data: &[u8]) {
        let mut state = self.lock();
        state.current.write(offset, data);
        if state.recording {
            state.events.push(Event::Write { offset, data: data.into() });
        }
    }

    fn flush(&self, reply: ReplyEmpty) {
        let mut state = self.lock();
        if state.recording {
            state.events.push(Event::Flush);
        }
        reply.ok();
    }
}
