//! Decides which writes share a sync, and who runs it.
//!
//! This file only decides; it starts nothing and makes no system calls.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use crate::mutex::guard;

/// Batches work that is cheaper for many than for one. An item that joins while a round is under
/// way belongs to the next round, so the slower the disk, the larger the rounds. A lone item is
/// not delayed; where it is known that others will join, the round waits for them a little.
pub(super) struct Batcher<K, T> {
    rounds: Mutex<HashMap<K, BatchRound<T>>>,
}

struct BatchRound<T> {
    /// The items of the next round.
    waiting: Vec<T>,
    is_under_way: bool,
}

/// What the thread that has joined, or has ended a round, has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Role<T> {
    /// Run this round, and ask for the next one.
    Lead(Vec<T>),
    /// Have [`Batcher::begin`] called after a delay, in case the others do not join before.
    StartTimer,
    /// Nothing.
    Follow,
}

impl<K, T> Default for Batcher<K, T> {
    fn default() -> Batcher<K, T> {
        Batcher { rounds: Mutex::default() }
    }
}

impl<K: Eq + Hash, T> Batcher<K, T> {
    /// Adds an item. `is_last` tells, once this one has joined, that no others are about to.
    pub(super) fn join(&self, key: K, item: T, is_last: impl FnOnce() -> bool) -> Role<T> {
        let mut rounds = guard(&self.rounds);
        let is_last = is_last();
        let round = rounds
            .entry(key)
            .or_insert_with(|| BatchRound { waiting: vec![], is_under_way: false });
        round.waiting.push(item);
        match round.is_under_way {
            true => Role::Follow,
            false if is_last => round.begin(),
            false if round.waiting.len() == 1 => Role::StartTimer,
            false => Role::Follow,
        }
    }

    /// Begins the round without waiting for others any longer.
    pub(super) fn begin(&self, key: &K) -> Role<T> {
        match guard(&self.rounds).get_mut(key) {
            Some(round) if !round.is_under_way => round.begin(),
            _ => Role::Follow,
        }
    }

    /// Ends a round. The next one has the items that have joined meanwhile.
    pub(super) fn next(&self, key: &K, others_will_join: impl FnOnce() -> bool) -> Role<T> {
        let mut rounds = guard(&self.rounds);
        let Some(round) = rounds.get_mut(key) else { return Role::Follow };
        round.is_under_way = false;
        if round.waiting.is_empty() {
            rounds.remove(key);
            return Role::Follow;
        }
        match others_will_join() {
            true => Role::StartTimer,
            false => round.begin(),
        }
    }
}

impl<T> BatchRound<T> {
    fn begin(&mut self) -> Role<T> {
        self.is_under_way = true;
        Role::Lead(std::mem::take(&mut self.waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_join_during_a_round_make_up_the_next() {
        let rounds = Batcher::default();
        let (alone, no_others) = (|| true, || false);
        assert_eq!(rounds.join("disk", 1, alone), Role::Lead(vec![1]));
        assert_eq!(rounds.join("disk", 2, alone), Role::Follow);
        assert_eq!(rounds.join("disk", 3, alone), Role::Follow);
        assert_eq!(rounds.join("other disk", 4, alone), Role::Lead(vec![4]));
        assert_eq!(rounds.next(&"disk", no_others), Role::Lead(vec![2, 3]));
        assert_eq!(rounds.join("disk", 5, alone), Role::Follow);
        assert_eq!(rounds.next(&"disk", no_others), Role::Lead(vec![5]));
        assert_eq!(rounds.next(&"disk", no_others), Role::Follow);
        assert_eq!(rounds.join("disk", 6, alone), Role::Lead(vec![6]));
    }

    #[test]
    fn a_round_waits_for_items_on_their_way_until_they_have_joined_or_the_timer_ends() {
        let rounds = Batcher::default();
        assert_eq!(rounds.join("disk", 1, || false), Role::StartTimer);
        assert_eq!(rounds.join("disk", 2, || false), Role::Follow);
        assert_eq!(rounds.join("disk", 3, || true), Role::Lead(vec![1, 2, 3]));
        assert_eq!(rounds.begin(&"disk"), Role::Follow, "it is under way");
        assert_eq!(rounds.join("disk", 4, || false), Role::Follow);
        assert_eq!(rounds.next(&"disk", || true), Role::StartTimer);
        assert_eq!(rounds.begin(&"disk"), Role::Lead(vec![4]));
        assert_eq!(rounds.next(&"disk", || true), Role::Follow);
        assert_eq!(rounds.begin(&"disk"), Role::Follow, "there is no item");
    }
}
