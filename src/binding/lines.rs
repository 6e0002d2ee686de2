//! `appendJsonLines`, `appendLines`, `openJsonLines`.

use std::path::PathBuf;
use std::sync::Arc;

use napi::bindgen_prelude::BufferSlice;
use napi_derive::napi;

use super::environment::{Port, failed};
use super::js_types;
use super::lock::LockWaiter;
use super::lock_handles::HeldNumbers;
use super::path_text::NativePath;
use crate::error::{Error, Operation};
use crate::fs::os::Os;
use crate::lines::format::LineKind;
use crate::lines::locked::{self, AppendRequest};
use crate::lines::{AppendError, LineOptions, Repaired, sync};
use crate::lock::{LockKind, LockRequest};
use crate::threads::{pool, task};

/// How lines are appended.
#[napi(object, object_to_js = false)]
pub struct NativeLineOptions {
    pub durable: bool,
    /// The permission bits of a new file, before the umask.
    pub mode: u32,
    /// Whether a last line without a newline that is no JSON is what a crash has left.
    pub json: bool,
    pub make_dirs: bool,
}

/// What an append has moved before.
#[napi(object, object_from_js = false)]
pub struct LinesAppended {
    pub repaired: Option<LinesRepaired>,
}

/// The end of a file that a crash had left, and that was moved.
#[napi(object, object_from_js = false)]
pub struct LinesRepaired {
    pub path: NativePath,
    pub offset: f64,
    pub bytes: f64,
}

impl From<Repaired> for LinesRepaired {
    fn from(repaired: Repaired) -> LinesRepaired {
        LinesRepaired {
            path: repaired.path.into(),
            offset: repaired.offset as f64,
            bytes: repaired.bytes as f64,
        }
    }
}

#[napi]
impl Port {
    /// Appends whole lines under the lock of the file, or the one that the caller holds. The memory is
    /// copied.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn append_lines(
        &self,
        id: f64,
        path: NativePath,
        #[napi(ts_arg_type = "Uint8Array")] bytes: BufferSlice<'_>,
        options: NativeLineOptions,
        timeout: f64,
        held: Option<HeldNumbers>,
    ) -> LockWaiter {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let request = AppendRequest {
            path: path.clone(),
            bytes: bytes.to_vec(),
            options: LineOptions {
                is_durable: options.durable,
                mode: options.mode,
                kind: if options.json { LineKind::Json } else { LineKind::Text },
            },
            make_dirs: options.make_dirs,
            lock: LockRequest {
                path: path.clone(),
                kind: LockKind::Write,
                timeout: js_types::timeout(timeout),
                held: environment.locks.lend(held),
                before: None,
            },
        };
        let answer = move |outcome: Result<Option<Repaired>, AppendError>| {
            let outcome = outcome
                .map(|repaired| LinesAppended { repaired: repaired.map(LinesRepaired::from) })
                .map_err(|AppendError { kind, committed }| Error {
                    committed,
                    ..failed(Operation::AppendLines, &path, kind)
                });
            environment.complete(id, outcome);
        };
        LockWaiter { waiter: locked::begin(pool(), request, answer) }
    }

    /// Makes durable what was appended to a file before.
    #[napi]
    pub fn sync_lines(&self, id: f64, path: NativePath) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let target = path.clone();
        let work = move || Ok(sync(&Os, &target)?);
        task::run(pool(), work, move |outcome| {
            let operation = Operation::AppendLines;
            let outcome =
                outcome.map_err(|kind| Error { committed: true, ..failed(operation, &path, kind) });
            environment.complete_without_value(id, outcome);
        });
    }
}
