//! Durations, counted in buckets that grow with them.
//!
//! Up to [`EXACT`] nanoseconds there is a bucket for each; beyond that each power of two is cut
//! into [`PARTS`] buckets of the same width, so what is read out of one is off by no more than
//! half its width: [`RELATIVE_ERROR`] of the value. A writer changes a few atomic numbers and waits
//! for no other thread; everything else is computed by the reader.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::counter::ReadMode;

/// Into how many buckets a power of two is cut.
const PARTS: usize = 1 << PARTS_LOG;
const PARTS_LOG: u32 = 5;

/// Below this each nanosecond has a bucket of its own.
const EXACT: u64 = PARTS as u64;

/// What is longer, 78 hours, is counted as this long; sum and maximum are exact all the same.
const LONGEST: u64 = (1 << 48) - 1;

/// Up to which durations, in nanoseconds, is told how many there are that are no longer.
pub const BOUNDS: [u64; 20] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    60_000_000_000,
];

const BUCKETS: usize = (48 - PARTS_LOG as usize + 1) * PARTS;

/// The most by which a quantile may be off, as a part of its value.
pub const RELATIVE_ERROR: f64 = 0.5 / PARTS as f64;

/// Durations, by bucket.
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    /// The largest number there is, less the shortest duration. So everything begins at zero, and
    /// takes no room in the program's file.
    least: AtomicU64,
    most: AtomicU64,
}

/// What a histogram shows, in nanoseconds. All of it is 0 when nothing has been recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// How many durations there are.
    pub count: u64,
    /// All of them together, exactly.
    pub sum: f64,
    /// How many are no longer than each of [`BOUNDS`], which is off by at most
    /// twice [`RELATIVE_ERROR`].
    pub up_to: [u64; BOUNDS.len()],
    /// The shortest, exactly.
    pub min: f64,
    /// The longest, exactly.
    pub max: f64,
    /// Their mean, exactly.
    pub mean: f64,
    /// Half of the durations are no longer than this. Each quantile is off by at most
    /// [`RELATIVE_ERROR`].
    pub p50: f64,
    /// See `p50`.
    pub p90: f64,
    /// See `p50`.
    pub p99: f64,
    /// See `p50`.
    pub p999: f64,
}

impl Histogram {
    pub(super) const fn new() -> Histogram {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum: AtomicU64::new(0),
            least: AtomicU64::new(0),
            most: AtomicU64::new(0),
        }
    }

    /// Counts a duration.
    pub fn record(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(index_of(nanoseconds)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(nanoseconds, Ordering::Relaxed);
        raise(&self.least, u64::MAX - nanoseconds);
        raise(&self.most, nanoseconds);
    }

    // Not inlined: it is not called where time matters, and one copy takes less room.
    #[inline(never)]
    pub(super) fn read(&self, mode: ReadMode) -> Summary {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| mode.read(bucket)).collect();
        let sum = mode.read(&self.sum);
        let least = u64::MAX - mode.read(&self.least);
        let most = mode.read(&self.most);
        let filled = |(index, count): (usize, &u64)| (*count > 0).then_some(index);
        let first = counts.iter().enumerate().find_map(filled);
        let last = counts.iter().enumerate().rev().find_map(filled);
        let (Some(first), Some(last)) = (first, last) else { return Summary::default() };
        // A writer may be recording at this moment, and have got no further than the bucket. The
        // summary is consistent all the same.
        let within = |value: u64, index: usize| value.clamp(lowest_of(index), highest_of(index));
        let min = within(least, first);
        // The last bucket has no upper end.
        let max = if last + 1 == BUCKETS { most } else { within(most, last) };
        let (min, max) = (min as f64, max.max(min).max(lowest_of(last)) as f64);
        let count: u64 = counts.iter().sum();
        let quantile = |thousandths: u64| {
            let rank = (u128::from(count) * u128::from(thousandths)).div_ceil(1000);
            let mut seen: u128 = 0;
            let index = counts.iter().position(|count| {
                seen += u128::from(*count);
                seen >= rank
            });
            middle_of(index.unwrap_or(last)).clamp(min, max)
        };
        let up_to = BOUNDS.map(|bound| counts.iter().take(index_of(bound) + 1).sum());
        Summary {
            count,
            sum: sum as f64,
            up_to,
            min,
            max,
            mean: (sum as f64 / count as f64).clamp(min, max),
            p50: quantile(500),
            p90: quantile(900),
            p99: quantile(990),
            p999: quantile(999),
        }
    }
}

/// Makes a number at least as large as `to`.
fn raise(number: &AtomicU64, to: u64) {
    // Nearly always it is already, and a load is cheaper.
    if to > number.load(Ordering::Relaxed) {
        number.fetch_max(to, Ordering::Relaxed);
    }
}

/// Which bucket a number of nanoseconds belongs to.
fn index_of(nanoseconds: u64) -> usize {
    let value = nanoseconds.min(LONGEST);
    if value < EXACT {
        return value as usize;
    }
    let power = value.ilog2() - PARTS_LOG;
    // The leading bits, of which the first is always set.
    (power as usize) * PARTS + (value >> power) as usize
}

/// The smallest number in a bucket.
fn lowest_of(index: usize) -> u64 {
    match index.checked_sub(PARTS) {
        None => index as u64,
        Some(beyond) => ((beyond % PARTS + PARTS) as u64) << (beyond / PARTS),
    }
}

/// The largest number in a bucket.
fn highest_of(index: usize) -> u64 {
    lowest_of(index + 1) - 1
}

fn middle_of(index: usize) -> f64 {
    (lowest_of(index) as f64 + highest_of(index) as f64) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(values: &[u64]) -> Summary {
        let histogram = Histogram::new();
        values.iter().for_each(|value| histogram.record(Duration::from_nanos(*value)));
        histogram.read(ReadMode::Keep)
    }

    #[test]
    fn every_number_is_in_the_one_bucket_that_spans_it() {
        let near_powers = (0..64).flat_map(|power| {
            let value = 1_u64 << power;
            [value.saturating_sub(1), value, value + value / 3, value.saturating_add(value - 1)]
        });
        for value in (0..5000).chain(near_powers) {
            let index = index_of(value);
            assert!(index < BUCKETS, "{value}");
            let capped = value.min(LONGEST);
            assert!((lowest_of(index)..=highest_of(index)).contains(&capped), "{value}");
        }
        for index in 0..BUCKETS {
            assert_eq!(index_of(lowest_of(index)), index);
            assert_eq!(index_of(highest_of(index)), index);
        }
    }

    #[test]
    fn quantiles_are_as_exact_as_is_said() {
        // Each from another distribution, by a generator that always gives the same numbers.
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut sets: Vec<Vec<u64>> = vec![
            (1..=100_000).collect(),
            (0..10_000).map(|_| random() % 1_000_000_000).collect(),
            (0..10_000).map(|_| 1 << (random() % 45)).collect(),
            (0..9_999).map(|_| 20_000 + random() % 5_000).chain([60_000_000_000]).collect(),
            (0..1_000).map(|_| random() >> (16 + random() % 40)).collect(),
            vec![7; 500],
            vec![0],
            vec![123_456_789],
            vec![1, 1_000_000_000],
        ];
        for values in &mut sets {
            let summary = summary(values);
            values.sort_unstable();
            let exact = |thousandths: usize| {
                values[(values.len() * thousandths).div_ceil(1000).max(1) - 1] as f64
            };
            assert_eq!(summary.count, values.len() as u64);
            assert_eq!(summary.min, values[0] as f64);
            assert_eq!(summary.max, values[values.len() - 1] as f64);
            let mean = values.iter().sum::<u64>() as f64 / values.len() as f64;
            assert_eq!(summary.mean, mean);
            for (thousandths, quantile) in
                [(500, summary.p50), (900, summary.p90), (990, summary.p99), (999, summary.p999)]
            {
                let exact = exact(thousandths);
                let off = (quantile - exact).abs();
                assert!(off <= exact * RELATIVE_ERROR, "{thousandths}: {quantile} for {exact}");
                assert!((summary.min..=summary.max).contains(&quantile));
            }
        }
    }

    #[test]
    fn what_is_longer_than_there_are_buckets_for_is_not_lost() {
        let summary = summary(&[5, u64::MAX / 4]);
        assert_eq!((summary.count, summary.min, summary.max), (2, 5.0, (u64::MAX / 4) as f64));
        assert!(summary.p999 >= LONGEST as f64 * (1.0 - 2.0 * RELATIVE_ERROR));
    }

    #[test]
    fn nothing_recorded_is_all_zero_before_and_after_a_reset() {
        let histogram = Histogram::new();
        assert_eq!(histogram.read(ReadMode::Reset), Summary::default());
        histogram.record(Duration::from_nanos(9));
        assert_eq!(histogram.read(ReadMode::Keep).count, 1);
        assert_eq!(histogram.read(ReadMode::Reset).min, 9.0);
        assert_eq!(histogram.read(ReadMode::Keep), Summary::default());
        histogram.record(Duration::from_nanos(70));
        assert_eq!(histogram.read(ReadMode::Keep).min, 70.0, "the shortest since then");
    }

    #[test]
    fn what_is_no_longer_than_each_bound_is_counted_up_to_it() {
        let below: Vec<u64> = BOUNDS.iter().map(|bound| bound - 1 - bound / 16).collect();
        let above: Vec<u64> = BOUNDS.iter().map(|bound| bound + 1 + bound / 16).collect();
        let (below, above) = (summary(&below), summary(&above));
        for index in 0..BOUNDS.len() {
            assert_eq!((below.up_to[index], above.up_to[index]), (index as u64 + 1, index as u64));
        }
        assert_eq!(summary(&[3, 4, LONGEST * 2]).sum, LONGEST as f64 * 2.0 + 7.0);
        assert_eq!(summary(&[LONGEST * 2]).up_to, [0; BOUNDS.len()]);
    }
}
