//! `transaction`.

use std::path::PathBuf;
use std::sync::Arc;

use napi::bindgen_prelude::{Buffer, BufferSlice};
use napi_derive::napi;

use super::environment::Port;
use super::js_types::{self, WriteOptions};
use super::lock_handles::HeldNumbers;
use super::path_text::NativePath;
use super::write::Control;
use crate::error::{Error, ErrorKind, Operation};
use crate::fs::os::Os;
use crate::json_update;
use crate::payload::Payload;
use crate::threads::{pool, task};
use crate::transaction::begin::{BeginError, BeginRequest, BegunTransaction, begin};
use crate::transaction::run::{CommitRequest, run};
use crate::transaction::{BeginWaiter, Change, FileChange, RolledFile};
use crate::write::Options;

/// A transaction that waits for its locks.
#[napi]
pub struct TransactionWaiter {
    waiter: Arc<BeginWaiter>,
}

#[napi]
impl TransactionWaiter {
    /// Ends the wait, unless it is over already. Its outcome tells.
    #[napi]
    pub fn cancel(&self) {
        self.waiter.cancel();
    }
}

/// What a transaction does with a file.
#[napi]
pub struct TransactionParts {
    /// The changes, each with the number of its file's lock.
    parts: Vec<(FileChange, u32)>,
}

#[napi]
impl TransactionParts {
    #[napi(constructor)]
    pub fn new() -> TransactionParts {
        TransactionParts { parts: Vec::new() }
    }

    /// The file gets these bytes, which are copied: only if there is none, if it is to be made. They
    /// may be those of the file `model`.
    #[napi]
    pub fn write(
        &mut self,
        path: NativePath,
        #[napi(ts_arg_type = "Uint8Array")] data: BufferSlice<'_>,
        create_only: bool,
        lock: u32,
        model: Option<String>,
    ) {
        let payload = Payload::Owned(data.to_vec());
        let change = match model {
            Some(model) => Change::Move(payload, model.into()),
            None if create_only => Change::Create(payload),
            None => Change::Write(payload),
        };
        self.push(path, change, lock);
    }

    /// The file is removed.
    #[napi]
    pub fn remove(&mut self, path: NativePath, lock: u32) {
        self.push(path, Change::Remove, lock);
    }
}

impl TransactionParts {
    fn push(&mut self, path: NativePath, change: Change, lock: u32) {
        let path = PathBuf::from(path);
        self.parts.push((FileChange { path, change, only: None }, lock));
    }
}

/// What the beginning of a transaction brings.
#[napi(object, object_from_js = false)]
pub struct TransactionBegun {
    /// The numbers of the locks that are held now,
    pub locks: Vec<u32>,
    /// for each file the index of the first one that is the same,
    pub same_as: Vec<u32>,
    /// for each file the number of its lock,
    pub lock_of: Vec<u32>,
    /// and what became of transactions that had not been finished.
    pub settled: Vec<NativeDecision>,
}

/// The content of a file, if there is one.
#[napi(object, object_from_js = false)]
pub struct FileBytes {
    pub bytes: Option<Buffer>,
}

/// What became of a file of a transaction that had not been finished.
#[napi(object, object_from_js = false)]
pub struct NativeDecision {
    pub path: NativePath,
    #[napi(ts_type = "'rolledForward' | 'rolledBack' | 'conflict' | 'left'")]
    pub verdict: &'static str,
    pub reason: String,
}

impl From<RolledFile> for NativeDecision {
    fn from(rolled: RolledFile) -> NativeDecision {
        NativeDecision {
            path: rolled.path.into(),
            verdict: rolled.result.name(),
            reason: rolled.reason,
        }
    }
}

#[napi]
impl Port {
    /// Takes the locks of all these files, or borrows them from the caller, and settles what
    /// others have left unfinished there. `timeout` is in milliseconds; infinity waits for ever. Of
    /// the options those count that say whether to make directories.
    #[napi]
    pub fn begin_transaction(
        &self,
        id: f64,
        paths: Vec<NativePath>,
        options: Option<WriteOptions>,
        timeout: f64,
        held: Option<HeldNumbers>,
    ) -> TransactionWaiter {
        let environment = Arc::clone(&self.environment);
        let paths: Vec<PathBuf> = paths.into_iter().map(PathBuf::from).collect();
        let first = paths.first().cloned().unwrap_or_default();
        let options = options.map_or_else(Options::default, Options::from);
        let outcomes = Arc::clone(&environment.outcomes);
        let request = BeginRequest {
            paths,
            make_dirs: options.make_dirs.then_some(options.durability),
            timeout: js_types::timeout(timeout),
            held: environment.locks.lend(held),
            start: Box::new(move || Some(Box::new(outcomes.start(false)?))),
        };
        let operation = Operation::Transaction;
        let answer = move |outcome: Result<BegunTransaction, BeginError>| {
            let begun = match outcome {
                Ok(begun) => begun,
                Err(BeginError { kind, path }) => {
                    return environment.fail(id, operation, &path.unwrap_or(first), kind);
                }
            };
            let mut locks = Vec::new();
            for guard in begun.locks {
                // When the environment has ended, no caller waits, and all locks are released.
                let Some(number) = environment.locks.keep(guard) else { return };
                locks.push(number);
            }
            let number_of = |index: Option<usize>| locks.get(index?).copied();
            let lock_of = begun.lock_of.into_iter();
            let lock_of = lock_of.map(|index| number_of(index).unwrap_or(u32::MAX)).collect();
            let same_as = begun.first_paths.iter().filter_map(|number| u32::try_from(*number).ok());
            let settled = begun.rolled.into_iter().map(NativeDecision::from).collect();
            let begun = TransactionBegun { locks, same_as: same_as.collect(), lock_of, settled };
            environment.answer(id, operation, &first, Ok(begun));
        };
        TransactionWaiter { waiter: begin(pool(), request, answer) }
    }

    /// Changes the files, in the directory of the first of all `paths` what is decided is decided, and
    /// gives the locks back.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn commit_transaction(
        &self,
        id: f64,
        paths: Vec<NativePath>,
        parts: &mut TransactionParts,
        options: Option<WriteOptions>,
        locks: Vec<u32>,
        control: Option<&Control>,
    ) {
        let environment = Arc::clone(&self.environment);
        let paths: Vec<PathBuf> = paths.into_iter().map(PathBuf::from).collect();
        let first = paths.first().cloned().unwrap_or_default();
        let guarded =
            |number: u32| environment.locks.look(&[number], |_, lock| lock.guarded()).pop();
        let parts = std::mem::take(&mut parts.parts).into_iter();
        let changes = parts.map(|(change, lock)| FileChange { only: guarded(lock), ..change });
        let changes = changes.collect();
        let request = CommitRequest {
            paths,
            changes,
            options: options.map_or_else(Options::default, Options::from),
            locks: locks.iter().filter_map(|number| environment.locks.take(*number)).collect(),
            control: control.map_or_else(Arc::default, |given| Arc::clone(&given.control)),
        };
        let outcomes = Arc::clone(&environment.outcomes);
        let start = move || outcomes.start(false);
        let answer = move |outcome: Result<Result<(), Error>, ErrorKind>| match outcome {
            Ok(outcome) => environment.complete_without_value(id, outcome),
            Err(kind) => environment.fail(id, Operation::Transaction, &first, kind),
        };
        run(pool(), request, start, answer);
    }

    /// Reads the file whose lock has this number, if there is one.
    #[napi]
    pub fn read_bytes(&self, id: f64, path: NativePath, lock: u32) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(path);
        let target = path.clone();
        let only = environment.locks.look(&[lock], |_, lock| lock.guarded()).pop();
        let read = move || {
            let bytes = json_update::read_bytes_of(&Os, &target, only.as_ref())?;
            Ok(FileBytes { bytes: bytes.map(Buffer::from) })
        };
        let operation = Operation::Transaction;
        task::run(pool(), read, move |value| environment.answer(id, operation, &path, value));
    }
}
