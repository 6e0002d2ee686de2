//! Who waits for the disk with whom, and when that pays.
//!
//! This file only keeps the books; it starts nothing and makes no system calls.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::mutex::guard;

/// Rounds of work that is cheaper for many than for one. Whoever comes while a round is under
/// way belongs to the next, so the slower the disk, the more go together. A lone one goes at
/// once; where it is known that others are coming, the round waits for them a little.
pub(super) struct Rounds<K, T> {
    rounds: Mutex<HashMap<K, Round<T>>>,
}

struct Round<T> {
    /// Those that belong to the next one.
    waiting: Vec<T>,
    is_under_way: bool,
}

/// What whoever has come, or has ended a round, has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Duty<T> {
    /// Run this round, and ask for the next one.
    Run(Vec<T>),
    /// See to it that [`Rounds::begin`] is called, should the others not come soon.
    SeeToIt,
    /// Nothing.
    Nothing,
}

impl<K, T> Default for Rounds<K, T> {
    fn default() -> Rounds<K, T> {
        Rounds { rounds: Mutex::default() }
    }
}

impl<K: Eq + Hash, T> Rounds<K, T> {
    /// Comes along. `is_last` says, when this one is counted as here, whether nobody else is
    /// coming.
    pub(super) fn join(&self, key: K, item: T, is_last: impl FnOnce() -> bool) -> Duty<T> {
        let mut rounds = guard(&self.rounds);
        let is_last = is_last();
        let round =
            rounds.entry(key).or_insert_with(|| Round { waiting: vec![], is_under_way: false });
        round.waiting.push(item);
        match round.is_under_way {
            true => Duty::Nothing,
            false if is_last => round.begin(),
            false if round.waiting.len() == 1 => Duty::SeeToIt,
            false => Duty::Nothing,
        }
    }

    /// Does not wait for others any longer.
    pub(super) fn begin(&self, key: &K) -> Duty<T> {
        match guard(&self.rounds).get_mut(key) {
            Some(round) if !round.is_under_way => round.begin(),
            _ => Duty::Nothing,
        }
    }

    /// Ends a round. The next consists of those who have come meanwhile.
    pub(super) fn next(&self, key: &K, is_anybody_coming: impl FnOnce() -> bool) -> Duty<T> {
        let mut rounds = guard(&self.rounds);
        let Some(round) = rounds.get_mut(key) else { return Duty::Nothing };
        round.is_under_way = false;
        if round.waiting.is_empty() {
            rounds.remove(key);
            return Duty::Nothing;
        }
        match is_anybody_coming() {
            true => Duty::SeeToIt,
            false => round.begin(),
        }
    }
}

impl<T> Round<T> {
    fn begin(&mut self) -> Duty<T> {
        self.is_under_way = true;
        Duty::Run(std::mem::take(&mut self.waiting))
    }
}

/// Lets so many writes have a temp file on one device at a time, so that a slow disk does not
/// use up the files that a process may have open. The others keep nothing open meanwhile.
pub(super) struct Admission<T> {
    most: usize,
    devices: Mutex<HashMap<u64, Device<T>>>,
}

struct Device<T> {
    inside: usize,
    outside: VecDeque<T>,
}

impl<T> Admission<T> {
    pub(super) fn new(most: usize) -> Admission<T> {
        Admission { most, devices: Mutex::default() }
    }

    /// Gives the item back if it may go on now, and keeps it until there is room otherwise.
    pub(super) fn enter(&self, device: u64, item: T) -> Option<T> {
        let mut devices = guard(&self.devices);
        let device =
            devices.entry(device).or_insert_with(|| Device { inside: 0, outside: VecDeque::new() });
        if device.inside < self.most {
            device.inside += 1;
            return Some(item);
        }
        device.outside.push_back(item);
        None
    }

    /// Makes room. Whoever is given may go on in its stead.
    pub(super) fn leave(&self, device: u64) -> Option<T> {
        let mut devices = guard(&self.devices);
        let place = devices.get_mut(&device)?;
        let next = place.outside.pop_front();
        if next.is_none() {
            place.inside = place.inside.saturating_sub(1);
            if place.inside == 0 {
                devices.remove(&device);
            }
        }
        next
    }

    /// Takes those out of all that wait for which this is so.
    pub(super) fn take_if(&self, mut is_so: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for device in guard(&self.devices).values_mut() {
            let all = std::mem::take(&mut device.outside);
            let (so, others): (Vec<T>, Vec<T>) = all.into_iter().partition(|item| is_so(item));
            device.outside = others.into();
            taken.extend(so);
        }
        taken
    }
}

/// What syncs have cost lately on each device.
#[derive(Default)]
pub(super) struct Costs(Mutex<HashMap<u64, Cost>>);

#[derive(Clone, Copy, Default)]
struct Cost {
    /// To sync and publish one write alone.
    alone: Option<Duration>,
    /// To sync the whole file system, and when that was seen.
    whole: Option<(Duration, Instant)>,
}

/// What is taken for the cost of a write alone before one has been seen.
const USUAL: Duration = Duration::from_millis(1);

/// Syncs that cost less than this are not worth the trouble of sharing them: the file system
/// is in memory, or its disk answers from a cache.
const NEGLIGIBLE: Duration = Duration::from_micros(100);

/// So many syncs side by side cost about what one does, because a disk and a journal serve them
/// together as far as they can.
const SIDE_BY_SIDE: u32 = 4;

/// How long a sync waits for others at most.
const LONGEST_PATIENCE: Duration = Duration::from_millis(20);

/// The least time after which a dear sync of all counts half as much. Somebody else's unwritten
/// data, for which it waits too, may have gone.
const HALF_LIFE: Duration = Duration::from_secs(1);

impl Costs {
    pub(super) fn alone_took(&self, device: u64, took: Duration) {
        let mut costs = guard(&self.0);
        let cost = costs.entry(device).or_default();
        cost.alone = Some(cost.alone.map_or(took, |before| smoothed(before, took)));
    }

    pub(super) fn whole_took(&self, device: u64, took: Duration) {
        let mut costs = guard(&self.0);
        let cost = costs.entry(device).or_default();
        let before = cost.whole.map_or(took, |(before, _)| before);
        cost.whole = Some((smoothed(before, took), Instant::now()));
    }

    fn of(&self, device: u64) -> Cost {
        guard(&self.0).get(&device).copied().unwrap_or_default()
    }

    /// How long a sync may wait for others who are coming: no longer than it takes itself.
    pub(super) fn patience(&self, device: u64) -> Duration {
        self.of(device).alone.unwrap_or(USUAL).min(LONGEST_PATIENCE)
    }

    /// Whether it makes sense at all to share syncs on a device.
    pub(super) fn are_worth_sharing(&self, device: u64) -> bool {
        self.of(device).alone.is_none_or(|alone| alone >= NEGLIGIBLE)
    }

    /// Whether one sync of the whole file system is likely to cost less than to sync so many
    /// writes one by one.
    pub(super) fn whole_pays(&self, device: u64, writes: usize) -> bool {
        let Cost { alone, whole } = self.of(device);
        let Some((took, seen)) = whole else { return true };
        // A sync of all that takes long is tried again the more rarely.
        let half_life = HALF_LIFE.max(took * 4);
        let age = seen.elapsed().as_secs_f64() / half_life.as_secs_f64();
        let expected = took.as_secs_f64() * 0.5_f64.powf(age);
        let writes = u32::try_from(writes).unwrap_or(u32::MAX);
        let one_by_one = alone.unwrap_or(USUAL) * (writes / SIDE_BY_SIDE).max(2);
        expected <= one_by_one.as_secs_f64()
    }
}

/// A mean in which what is new has the weight of a quarter.
fn smoothed(before: Duration, new: Duration) -> Duration {
    (before * 3 + new) / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_come_during_a_round_make_up_the_next() {
        let rounds = Rounds::default();
        let (alone, nobody) = (|| true, || false);
        assert_eq!(rounds.join("disk", 1, alone), Duty::Run(vec![1]));
        assert_eq!(rounds.join("disk", 2, alone), Duty::Nothing);
        assert_eq!(rounds.join("disk", 3, alone), Duty::Nothing);
        assert_eq!(rounds.join("other disk", 4, alone), Duty::Run(vec![4]));
        assert_eq!(rounds.next(&"disk", nobody), Duty::Run(vec![2, 3]));
        assert_eq!(rounds.join("disk", 5, alone), Duty::Nothing);
        assert_eq!(rounds.next(&"disk", nobody), Duty::Run(vec![5]));
        assert_eq!(rounds.next(&"disk", nobody), Duty::Nothing);
        assert_eq!(rounds.join("disk", 6, alone), Duty::Run(vec![6]));
    }

    #[test]
    fn a_round_waits_for_those_who_are_coming_until_they_are_here_or_it_has_waited_enough() {
        let rounds = Rounds::default();
        assert_eq!(rounds.join("disk", 1, || false), Duty::SeeToIt);
        assert_eq!(rounds.join("disk", 2, || false), Duty::Nothing);
        assert_eq!(rounds.join("disk", 3, || true), Duty::Run(vec![1, 2, 3]));
        assert_eq!(rounds.begin(&"disk"), Duty::Nothing, "it is under way");
        assert_eq!(rounds.join("disk", 4, || false), Duty::Nothing);
        assert_eq!(rounds.next(&"disk", || true), Duty::SeeToIt);
        assert_eq!(rounds.begin(&"disk"), Duty::Run(vec![4]));
        assert_eq!(rounds.next(&"disk", || true), Duty::Nothing);
        assert_eq!(rounds.begin(&"disk"), Duty::Nothing, "there is nobody");
    }

    #[test]
    fn only_so_many_are_inside_and_the_others_follow_in_order() {
        let admission = Admission::new(2);
        assert_eq!(admission.enter(1, "a"), Some("a"));
        assert_eq!(admission.enter(1, "b"), Some("b"));
        assert_eq!(admission.enter(1, "c"), None);
        assert_eq!(admission.enter(1, "d"), None);
        assert_eq!(admission.enter(2, "elsewhere"), Some("elsewhere"));
        assert_eq!(admission.take_if(|item| *item == "c"), ["c"]);
        assert_eq!(admission.leave(1), Some("d"));
        assert_eq!(admission.leave(1), None);
        assert_eq!(admission.enter(1, "e"), Some("e"));
        assert_eq!(admission.enter(1, "f"), None);
    }

    #[test]
    fn a_sync_of_all_that_was_dear_is_not_used_for_few_and_tried_again_later() {
        let costs = Costs::default();
        assert!(costs.whole_pays(1, 2), "before anything is known");
        costs.alone_took(1, Duration::from_millis(1));
        costs.whole_took(1, Duration::from_millis(1));
        assert!(costs.whole_pays(1, 2));
        for _ in 0..20 {
            costs.whole_took(1, Duration::from_secs(5));
        }
        assert!(!costs.whole_pays(1, 500));
        let long_ago = Instant::now().checked_sub(Duration::from_secs(3600));
        let long_ago = long_ago.unwrap_or_else(Instant::now);
        guard(&costs.0).entry(1).or_default().whole = Some((Duration::from_secs(5), long_ago));
        assert!(costs.whole_pays(1, 500), "an hour later");
        assert!(costs.whole_pays(2, 2), "another device");
    }

    #[test]
    fn where_syncs_cost_nothing_they_are_not_shared() {
        let costs = Costs::default();
        assert!(costs.are_worth_sharing(1));
        costs.alone_took(1, Duration::from_micros(20));
        assert!(!costs.are_worth_sharing(1));
        for _ in 0..10 {
            costs.alone_took(1, Duration::from_millis(5));
        }
        assert!(costs.are_worth_sharing(1));
    }
}
