//! The locks that one environment holds, by the numbers that JavaScript knows them by.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::lock::{Hold, Key, Kind};

/// They are given back at the latest when the environment ends.
#[derive(Default)]
pub(super) struct Holds {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u32,
    held: HashMap<u32, Hold>,
    closed: bool,
}

impl Holds {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a lock. `None` when the environment has ended; the lock is given back.
    pub(super) fn keep(&self, hold: Hold) -> Option<u32> {
        let mut state = self.lock();
        if state.closed {
            // Giving it back may lead to the next holder, and must not do so under the lock.
            drop(state);
            drop(hold);
            return None;
        }
        loop {
            state.last = state.last.wrapping_add(1);
            let number = state.last;
            if let Entry::Vacant(place) = state.held.entry(number) {
                place.insert(hold);
                return Some(number);
            }
        }
    }

    /// Takes a lock out, to be given back. `None` if it has been already.
    pub(super) fn take(&self, number: u32) -> Option<Hold> {
        self.lock().held.remove(&number)
    }

    /// The number, among these, of the lock with this key.
    pub(super) fn find(&self, numbers: &[u32], key: &Key) -> Option<u32> {
        let state = self.lock();
        numbers
            .iter()
            .copied()
            .find(|number| state.held.get(number).is_some_and(|hold| hold.key() == key))
    }

    /// What this lock was taken for, if it is still held.
    pub(super) fn kind(&self, number: u32) -> Option<Kind> {
        self.lock().held.get(&number).map(Hold::kind)
    }

    /// Which locks these are, as far as they are still held.
    pub(super) fn keys(&self, numbers: &[u32]) -> Vec<Key> {
        let state = self.lock();
        numbers
            .iter()
            .filter_map(|number| state.held.get(number))
            .map(|hold| hold.key().clone())
            .collect()
    }

    /// Which locks these are and what they were taken for, as far as they are still held.
    pub(super) fn kinds(&self, numbers: &[u32]) -> Vec<(Key, Kind)> {
        let state = self.lock();
        numbers
            .iter()
            .filter_map(|number| state.held.get(number))
            .map(|hold| (hold.key().clone(), hold.kind()))
            .collect()
    }

    /// Gives everything back, now and from now on.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let held = std::mem::take(&mut state.held);
        drop(state);
        drop(held);
    }
}
