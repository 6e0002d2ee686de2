//! `metrics` and `resetMetrics`, and what is counted on the other side.

use napi_derive::napi;

use crate::metrics::contention::Place;
use crate::metrics::histogram::Summary;
use crate::metrics::{METRICS, Reading};

/// What has been counted. Durations are in milliseconds.
#[napi(object)]
pub struct NativeMetrics {
    pub writes: NativeWriteMetrics,
    pub syncs: NativeSyncMetrics,
    pub updates: NativeUpdateMetrics,
    pub backups: NativeBackupMetrics,
    pub locks: NativeLockMetrics,
}

#[napi(object)]
pub struct NativeWriteMetrics {
    pub none: NativeHistogram,
    pub file: NativeHistogram,
    pub full: NativeHistogram,
    pub failed: Vec<NativeFailures>,
    pub merged: f64,
    pub attempts: f64,
    pub retries: f64,
    pub bytes: f64,
    pub rounds: f64,
    pub shared: f64,
}

#[napi(object)]
pub struct NativeSyncMetrics {
    pub file: NativeHistogram,
    pub folder: NativeHistogram,
    pub file_system: NativeHistogram,
    pub write_back: NativeHistogram,
    pub failed: f64,
}

#[napi(object)]
pub struct NativeUpdateMetrics {
    pub calls: f64,
    pub failed: f64,
    pub batches: f64,
    pub unchanged: f64,
}

#[napi(object)]
pub struct NativeBackupMetrics {
    pub created: f64,
    pub restored: f64,
    pub failed: Vec<NativeFailures>,
}

#[napi(object)]
pub struct NativeLockMetrics {
    pub read_waits: NativeHistogram,
    pub write_waits: NativeHistogram,
    pub read_holds: NativeHistogram,
    pub write_holds: NativeHistogram,
    pub contended: f64,
    pub timed_out: f64,
    pub refused: f64,
    pub failed: Vec<NativeFailures>,
    pub contention: Vec<NativeContention>,
}

/// Failures with one code.
#[napi(object)]
pub struct NativeFailures {
    pub code: String,
    pub count: f64,
}

#[napi(object)]
pub struct NativeHistogram {
    pub count: f64,
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
}

#[napi(object)]
pub struct NativeContention {
    pub path: String,
    pub count: f64,
    pub uncertainty: f64,
    pub waited: f64,
}

impl From<Summary> for NativeHistogram {
    fn from(summary: Summary) -> NativeHistogram {
        const MILLISECOND: f64 = 1e6;
        NativeHistogram {
            count: summary.count as f64,
            min: summary.min / MILLISECOND,
            max: summary.max / MILLISECOND,
            mean: summary.mean / MILLISECOND,
            p50: summary.p50 / MILLISECOND,
            p90: summary.p90 / MILLISECOND,
            p99: summary.p99 / MILLISECOND,
            p999: summary.p999 / MILLISECOND,
        }
    }
}

impl From<Place> for NativeContention {
    fn from(place: Place) -> NativeContention {
        NativeContention {
            path: place.path.to_string_lossy().into_owned(),
            count: place.count as f64,
            uncertainty: place.uncertainty as f64,
            waited: place.waited.as_secs_f64() * 1000.0,
        }
    }
}

fn failures(counts: Vec<(&'static str, u64)>) -> Vec<NativeFailures> {
    let native =
        |(code, count): (&str, u64)| NativeFailures { code: code.to_owned(), count: count as f64 };
    counts.into_iter().map(native).collect()
}

/// What has been counted so far. With `takes` all of it is counted anew from here on.
#[napi]
pub fn read_metrics(takes: bool) -> NativeMetrics {
    let reading = if takes { Reading::Take } else { Reading::Keep };
    let writes = METRICS.writes.read(reading);
    let syncs = METRICS.syncs.read(reading);
    let updates = METRICS.updates.read(reading);
    let backups = METRICS.backups.read(reading);
    let locks = METRICS.locks.read(reading);
    NativeMetrics {
        writes: NativeWriteMetrics {
            none: writes.none.into(),
            file: writes.file.into(),
            full: writes.full.into(),
            failed: failures(writes.failures),
            merged: writes.merged as f64,
            attempts: writes.attempts as f64,
            retries: writes.retries as f64,
            bytes: writes.bytes as f64,
            rounds: writes.rounds as f64,
            shared: writes.shared as f64,
        },
        syncs: NativeSyncMetrics {
            file: syncs.file.into(),
            folder: syncs.folder.into(),
            file_system: syncs.file_system.into(),
            write_back: syncs.write_back.into(),
            failed: syncs.failed as f64,
        },
        updates: NativeUpdateMetrics {
            calls: updates.calls as f64,
            failed: updates.failed as f64,
            batches: updates.batches as f64,
            unchanged: updates.unchanged as f64,
        },
        backups: NativeBackupMetrics {
            created: backups.created as f64,
            restored: backups.restored as f64,
            failed: failures(backups.failures),
        },
        locks: NativeLockMetrics {
            read_waits: locks.read_waits.into(),
            write_waits: locks.write_waits.into(),
            read_holds: locks.read_holds.into(),
            write_holds: locks.write_holds.into(),
            contended: locks.contended as f64,
            timed_out: locks.timed_out as f64,
            refused: locks.refused as f64,
            failed: failures(locks.failures),
            contention: locks.contention.into_iter().map(NativeContention::from).collect(),
        },
    }
}

/// A batch of JSON updates is over: for so many calls, of which so many have succeeded.
#[napi]
pub fn count_update_batch(succeeded: u32, failed: u32, is_unchanged: bool) {
    METRICS.updates.batch(succeeded.into(), failed.into(), is_unchanged);
}
