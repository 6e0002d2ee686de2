//! Decides which writes share a sync, and who runs it.
//!
//! This file only keeps the books; it starts nothing and makes no system calls.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;

use crate::mutex::guard;

/// Batcher of work that is cheaper for many than for one. Whoever comes while a round is under
/// way belongs to the next, so the slower the disk, the more go together. A lone one goes at
/// once; where it is known that others are coming, the round waits for them a little.
pub(super) struct Batcher<K, T> {
    rounds: Mutex<HashMap<K, Round<T>>>,
}

struct Round<T> {
    /// Those that belong to the next one.
    waiting: Vec<T>,
    is_under_way: bool,
}

/// What whoever has come, or has ended a round, has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Role<T> {
    /// Run this round, and ask for the next one.
    Lead(Vec<T>),
    /// See to it that [`Batcher::begin`] is called, should the others not come soon.
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
    /// Comes along. `is_last` says, when this one is counted as here, whether nobody else is
    /// coming.
    pub(super) fn join(&self, key: K, item: T, is_last: impl FnOnce() -> bool) -> Role<T> {
        let mut rounds = guard(&self.rounds);
        let is_last = is_last();
        let round =
            rounds.entry(key).or_insert_with(|| Round { waiting: vec![], is_under_way: false });
        round.waiting.push(item);
        match round.is_under_way {
            true => Role::Follow,
            false if is_last => round.begin(),
            false if round.waiting.len() == 1 => Role::StartTimer,
            false => Role::Follow,
        }
    }

    /// Does not wait for others any longer.
    pub(super) fn begin(&self, key: &K) -> Role<T> {
        match guard(&self.rounds).get_mut(key) {
            Some(round) if !round.is_under_way => round.begin(),
            _ => Role::Follow,
        }
    }

    /// Ends a round. The next consists of those who have come meanwhile.
    pub(super) fn next(&self, key: &K, is_anybody_coming: impl FnOnce() -> bool) -> Role<T> {
        let mut rounds = guard(&self.rounds);
        let Some(round) = rounds.get_mut(key) else { return Role::Follow };
        round.is_under_way = false;
        if round.waiting.is_empty() {
            rounds.remove(key);
            return Role::Follow;
        }
        match is_anybody_coming() {
            true => Role::StartTimer,
            false => round.begin(),
        }
    }
}

impl<T> Round<T> {
    fn begin(&mut self) -> Role<T> {
        self.is_under_way = true;
        Role::Lead(std::mem::take(&mut self.waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_come_during_a_round_make_up_the_next() {
        let rounds = Batcher::default();
        let (alone, nobody) = (|| true, || false);
        assert_eq!(rounds.join("disk", 1, alone), Role::Lead(vec![1]));
        assert_eq!(rounds.join("disk", 2, alone), Role::Follow);
        assert_eq!(rounds.join("disk", 3, alone), Role::Follow);
        assert_eq!(rounds.join("other disk", 4, alone), Role::Lead(vec![4]));
        assert_eq!(rounds.next(&"disk", nobody), Role::Lead(vec![2, 3]));
        assert_eq!(rounds.join("disk", 5, alone), Role::Follow);
        assert_eq!(rounds.next(&"disk", nobody), Role::Lead(vec![5]));
        assert_eq!(rounds.next(&"disk", nobody), Role::Follow);
        assert_eq!(rounds.join("disk", 6, alone), Role::Lead(vec![6]));
    }

    #[test]
    fn a_round_waits_for_those_who_are_coming_until_they_are_here_or_it_has_waited_enough() {
        let rounds = Batcher::default();
        assert_eq!(rounds.join("disk", 1, || false), Role::StartTimer);
        assert_eq!(rounds.join("disk", 2, || false), Role::Follow);
        assert_eq!(rounds.join("disk", 3, || true), Role::Lead(vec![1, 2, 3]));
        assert_eq!(rounds.begin(&"disk"), Role::Follow, "it is under way");
        assert_eq!(rounds.join("disk", 4, || false), Role::Follow);
        assert_eq!(rounds.next(&"disk", || true), Role::StartTimer);
        assert_eq!(rounds.begin(&"disk"), Role::Lead(vec![4]));
        assert_eq!(rounds.next(&"disk", || true), Role::Follow);
        assert_eq!(rounds.begin(&"disk"), Role::Follow, "there is nobody");
    }
}
