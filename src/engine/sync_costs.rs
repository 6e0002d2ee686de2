//! What syncs have cost lately on each device, and when sharing one is cheaper.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::mutex::guard;

/// What syncs have cost lately on each device.
#[derive(Default)]
pub(super) struct SyncCosts(Mutex<HashMap<u64, DeviceCosts>>);

#[derive(Clone, Copy, Default)]
struct DeviceCosts {
    /// To sync and publish one write alone.
    alone: Option<Duration>,
    /// To sync the whole file system, and when that was measured.
    whole: Option<(Duration, Instant)>,
}

/// The assumed cost of a write alone before one has been measured.
const USUAL: Duration = Duration::from_millis(1);

/// Syncs that cost less than this are not worth the trouble of sharing them: the file system
/// is in memory, or its disk answers from a cache.
const NEGLIGIBLE: Duration = Duration::from_micros(100);

/// So many syncs side by side cost about what one does, because a disk and a journal serve them
/// together as far as they can.
const SIDE_BY_SIDE: u32 = 4;

/// How long a sync waits for others at most.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// The least time after which an expensive sync of the whole counts half as much. Other processes'
/// unwritten data, for which it waits too, may be written by then.
const HALF_LIFE: Duration = Duration::from_secs(1);

impl SyncCosts {
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

    fn of(&self, device: u64) -> DeviceCosts {
        guard(&self.0).get(&device).copied().unwrap_or_default()
    }

    /// How long a sync may wait for writes that are being staged: no longer than it takes itself.
    pub(super) fn longest_wait(&self, device: u64) -> Duration {
        self.of(device).alone.unwrap_or(USUAL).min(LONGEST_WAIT)
    }

    /// Whether sharing syncs can pay at all on a device.
    pub(super) fn are_worth_sharing(&self, device: u64) -> bool {
        self.of(device).alone.is_none_or(|alone| alone >= NEGLIGIBLE)
    }

    /// Whether one sync of the whole file system is likely to cost less than to sync so many
    /// writes one by one.
    pub(super) fn whole_pays(&self, device: u64, writes: usize) -> bool {
        let DeviceCosts { alone, whole } = self.of(device);
        let Some((took, seen)) = whole else { return true };
        // The longer a sync of the whole takes, the more rarely it is tried again.
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
    fn an_expensive_sync_of_the_whole_is_not_used_for_few_writes_and_tried_again_later() {
        let costs = SyncCosts::default();
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
        let costs = SyncCosts::default();
        assert!(costs.are_worth_sharing(1));
        costs.alone_took(1, Duration::from_micros(20));
        assert!(!costs.are_worth_sharing(1));
        for _ in 0..10 {
            costs.alone_took(1, Duration::from_millis(5));
        }
        assert!(costs.are_worth_sharing(1));
    }
}
