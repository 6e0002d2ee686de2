//! What one environment has open, by the numbers that JavaScript knows it by.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::mutex::guard;

/// It is empty, and stays so, once the environment ends.
pub(super) struct HandleTable<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    last: u32,
    kept: HashMap<u32, T>,
    closed: bool,
}

impl<T> Default for HandleTable<T> {
    fn default() -> HandleTable<T> {
        HandleTable { state: Mutex::new(State { last: 0, kept: HashMap::new(), closed: false }) }
    }
}

impl<T> HandleTable<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        guard(&self.state)
    }

    /// A number that nothing has.
    pub(super) fn number(&self) -> u32 {
        let mut state = self.lock();
        loop {
            state.last = state.last.wrapping_add(1);
            if !state.kept.contains_key(&state.last) {
                return state.last;
            }
        }
    }

    /// Keeps something. `None` when the environment has ended; it is dropped then.
    pub(super) fn keep(&self, item: T) -> Option<u32> {
        let number = self.number();
        self.put(number, item).then_some(number)
    }

    /// The same under a number that it has had, or that was reserved for it.
    pub(super) fn put(&self, number: u32, item: T) -> bool {
        let mut state = self.lock();
        if state.closed {
            // What is dropped may have something to do, which must not be under the lock: a lock
            // leads to its next holder, a stream removes its temp file.
            drop(state);
            drop(item);
            return false;
        }
        state.kept.insert(number, item);
        true
    }

    /// Takes something out. `None` if that has been done already.
    pub(super) fn take(&self, number: u32) -> Option<T> {
        self.lock().kept.remove(&number)
    }

    /// What `look` finds in those of these that are still kept.
    pub(super) fn look<R>(&self, numbers: &[u32], mut look: impl FnMut(u32, &T) -> R) -> Vec<R> {
        let state = self.lock();
        numbers
            .iter()
            .filter_map(|number| state.kept.get(number).map(|item| look(*number, item)))
            .collect()
    }

    /// Takes everything out, and keeps nothing from now on.
    pub(super) fn close(&self) -> Vec<T> {
        let mut state = self.lock();
        state.closed = true;
        std::mem::take(&mut state.kept).into_values().collect()
    }
}

impl<T: Clone> HandleTable<T> {
    /// Another handle of something that is kept.
    pub(super) fn get(&self, number: u32) -> Option<T> {
        self.lock().kept.get(&number).cloned()
    }
}
