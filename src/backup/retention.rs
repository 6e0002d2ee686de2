//! Which backups of a file are kept: so many of the newest, and one for each of so many hours, days
//! and weeks.

const HOUR: u64 = 60 * 60 * 1000;
const DAY: u64 = 24 * HOUR;

/// How many are kept. A backup stays if one of the counts keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Of the newest.
    pub last: usize,
    /// Of the newest of an hour: for so many hours that have one.
    pub hourly: usize,
    /// Of the newest of a day.
    pub daily: usize,
    /// Of the newest of a week, which begins on Monday.
    pub weekly: usize,
}

impl Retention {
    /// Only so many of the newest.
    pub fn newest(count: usize) -> Retention {
        Retention { last: count, ..Retention::default() }
    }

    /// Of each of these times, in milliseconds since 1970 (UTC), the newest first, whether its backup
    /// is kept.
    pub fn kept(&self, times: &[u64]) -> Vec<bool> {
        let mut kept: Vec<bool> = (0..times.len()).map(|index| index < self.last).collect();
        // 1 January 1970 was a Thursday.
        let week = |time: u64| (time / DAY + 3) / 7;
        let periods: [(usize, &dyn Fn(u64) -> u64); 3] = [
            (self.hourly, &|time| time / HOUR),
            (self.daily, &|time| time / DAY),
            (self.weekly, &week),
        ];
        for (count, period) in periods {
            let mut last = None;
            let mut left = count;
            for (kept, time) in kept.iter_mut().zip(times) {
                if left == 0 {
                    break;
                }
                if last.replace(period(*time)) != Some(period(*time)) {
                    *kept = true;
                    left -= 1;
                }
            }
        }
        kept
    }
}
