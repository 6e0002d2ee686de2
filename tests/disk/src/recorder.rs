//! Bytes in memory that remember in which order they came, and what was flushed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fuser::ReplyEmpty;

use crate::file_system::Storage;
use crate::pages::{Pages, parts};

/// What becomes of the pages that were written after the last flush, when the power is cut.
#[derive(Debug, Clone, Copy)]
pub enum Unflushed {
    Lost,
    Kept,
    /// Each by itself, as a number decides.
    Some(u64),
}

#[derive(Debug, Default)]
pub struct Recorder {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What a reader finds.
    shown: Pages,
    /// What was there when the recording began.
    base: Pages,
    /// Nothing is added to it once the power was cut for the first time.
    log: Vec<Event>,
    recording: bool,
}

#[derive(Debug)]
enum Event {
    Write { offset: usize, data: Box<[u8]> },
    Flush,
    Mark,
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins: all that is here now is taken for flushed.
    pub fn record(&self) {
        let mut state = self.lock();
        state.base = state.shown.clone();
        state.log.clear();
        state.recording = true;
    }

    /// Notes that something is so by now, and says how many events that was after.
    pub fn mark(&self) -> usize {
        let mut state = self.lock();
        state.log.push(Event::Mark);
        state.log.len()
    }

    /// Ends the recording, and shows what is left if the power is cut after so many events.
    pub fn cut(&self, events: usize, unflushed: Unflushed) {
        let mut state = self.lock();
        state.recording = false;
        let mut pages = state.base.clone();
        let mut waiting = Vec::new();
        for event in state.log.iter().take(events) {
            match event {
                Event::Write { offset, data } => waiting.push((*offset, data)),
                Event::Flush => {
                    for (offset, data) in waiting.drain(..) {
                        pages.write(offset, data);
                    }
                }
                Event::Mark => {}
            }
        }
        let mut is_kept = unflushed.decider();
        for (offset, data) in waiting {
            for (_, _, part) in parts(offset, data.len()) {
                if is_kept() {
                    pages.write(offset + part.start, &data[part]);
                }
            }
        }
        state.shown = pages;
    }
}

impl Unflushed {
    fn decider(self) -> impl FnMut() -> bool {
        let mut seed = match self {
            Unflushed::Some(seed) => seed,
            Unflushed::Lost | Unflushed::Kept => 0,
        };
        let mut roll = move || {
            // SplitMix64.
            seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut number = seed;
            number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            number ^ (number >> 31)
        };
        // Few of them, half, or most.
        let quarters = 1 + roll() % 3;
        move || match self {
            Unflushed::Lost => false,
            Unflushed::Kept => true,
            Unflushed::Some(_) => roll() % 4 < quarters,
        }
    }
}

impl Storage for std::sync::Arc<Recorder> {
    // A write that stays in a cache of the kernel's would be recorded late, and out of order.
    const CACHED: bool = false;

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.lock().shown.read(offset, into);
    }

    fn write(&self, offset: usize, data: &[u8]) {
        let mut state = self.lock();
        state.shown.write(offset, data);
        if state.recording {
            state.log.push(Event::Write { offset, data: data.into() });
        }
    }

    fn flush(&self, reply: ReplyEmpty) {
        let mut state = self.lock();
        if state.recording {
            state.log.push(Event::Flush);
        }
        reply.ok();
    }
}
