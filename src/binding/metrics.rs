//! `metrics` and `resetMetrics`, and what JavaScript counts.

use napi_derive::napi;

use super::path_text::NativePath;
use crate::metrics::contention::ContendedPath;
use crate::metrics::histogram::{BOUNDS, Summary};
use crate::metrics::{METRICS, ReadMode};

/// What has been counted.
#[napi(object, object_from_js = false)]
pub struct NativeMetrics {
    pub figures: Vec<NativeFigure>,
    pub contention: Vec<NativeContention>,
}

/// One figure: a number, and the summary of durations.
#[napi(object, object_from_js = false)]
pub struct NativeFigure {
    /// Its path in the metrics: `writes.latency.full`.
    pub name: String,
    pub count: f64,
    pub durations: Option<NativeDurations>,
}

/// A summary of durations, in milliseconds.
#[napi(object, object_from_js = false)]
pub struct NativeDurations {
    pub sum: f64,
    /// How many are no longer than each bound of `read_duration_bounds`.
    pub up_to: Vec<f64>,
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
}

#[napi(object, object_from_js = false)]
pub struct NativeContention {
    pub path: NativePath,
    pub contended: f64,
    pub uncertainty: f64,
    /// Milliseconds.
    pub waited: f64,
}

impl From<(String, u64)> for NativeFigure {
    fn from((name, count): (String, u64)) -> NativeFigure {
        NativeFigure { name, count: count as f64, durations: None }
    }
}

impl From<(String, Summary)> for NativeFigure {
    fn from((name, summary): (String, Summary)) -> NativeFigure {
        let Summary { count, sum, up_to, min, max, mean, p50, p90, p99, p999 } = summary;
        let [sum, min, max, mean, p50, p90, p99, p999] =
            [sum, min, max, mean, p50, p90, p99, p999].map(|time| time / 1e6);
        let up_to = up_to.map(|count| count as f64).to_vec();
        let durations = Some(NativeDurations { sum, up_to, min, max, mean, p50, p90, p99, p999 });
        NativeFigure { name, count: count as f64, durations }
    }
}

impl From<ContendedPath> for NativeContention {
    fn from(contended: ContendedPath) -> NativeContention {
        NativeContention {
            path: contended.path.into(),
            contended: contended.count as f64,
            uncertainty: contended.uncertainty as f64,
            waited: contended.waited.as_secs_f64() * 1000.0,
        }
    }
}

/// Up to which durations, in milliseconds, the summaries tell how many there are that are no longer.
#[napi]
pub fn read_duration_bounds() -> Vec<f64> {
    BOUNDS.map(|bound| bound as f64 / 1e6).to_vec()
}

/// What has been counted so far. With `resets` all of it is counted from zero again.
#[napi]
pub fn read_metrics(resets: bool) -> NativeMetrics {
    let figures = METRICS.read(if resets { ReadMode::Reset } else { ReadMode::Keep });
    let counts = figures.counts.into_iter().map(NativeFigure::from);
    let durations = figures.durations.into_iter().map(NativeFigure::from);
    NativeMetrics {
        figures: counts.chain(durations).collect(),
        contention: figures.contention.into_iter().map(NativeContention::from).collect(),
    }
}

/// A batch of JSON updates is over: this many calls have succeeded, and this many have failed.
#[napi]
pub fn count_update_batch(succeeded: u32, failed: u32, is_unchanged: bool) {
    METRICS.updates.batch(succeeded.into(), failed.into(), is_unchanged);
}
