//! Reads write-ahead logs: the memtable, and the entries on the disk. The methods are described in
//! `wal`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use napi::bindgen_prelude::{BigInt, Buffer, ToNapiValue};
use napi_derive::napi;

use super::environment::{Environment, Port, failed};
use super::handles::{OpenReplay, OpenWal};
use super::js_types::{NativeDamage, NativeError};
use super::path_text::NativePath;
use super::wal::{WalConsumerStats, closed, consumers_of, find_wal, recovery, sequence};
use crate::error::{ErrorKind, Operation};
use crate::fs::os::Os;
use crate::threads::{pool, task};
use crate::wal::{
    CollectionSurvey, Replay, ReplayProgress, collections, pack_with_sequence, survey,
};

/// What a read of the memtable gives.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct WalRead {
    pub packed: Option<Buffer>,
    pub next: Option<BigInt>,
    pub error: Option<NativeError>,
}

impl WalRead {
    fn failed(path: &Path, kind: ErrorKind) -> WalRead {
        let error = failed(Operation::WalRead, path, kind);
        WalRead { error: Some(error.into()), ..WalRead::default() }
    }
}

/// What is known of a collection of a log that another process may have open.
#[napi(object, object_from_js = false)]
pub struct WalSurvey {
    pub name: String,
    pub segments: f64,
    pub bytes: f64,
    pub last: BigInt,
    pub released: BigInt,
    pub consumers: Vec<WalConsumerStats>,
}

impl From<CollectionSurvey> for WalSurvey {
    fn from(survey: CollectionSurvey) -> WalSurvey {
        WalSurvey {
            consumers: consumers_of(&survey.consumers, &survey.name),
            name: survey.name,
            segments: survey.segments as f64,
            bytes: survey.bytes as f64,
            last: survey.last.into(),
            released: survey.released.into(),
        }
    }
}

/// A piece of a replay.
#[napi(object, object_from_js = false)]
pub struct ReplayChunk {
    pub packed: Buffer,
    /// Whether these are the last entries.
    pub over: bool,
    /// With the last entries: what was skipped.
    pub damage: Option<Vec<NativeDamage>>,
}

#[napi]
impl Port {
    /// The newest entry of an id, unless that is its deletion.
    #[napi]
    pub fn get_wal(&self, wal: u32, collection: String, key: String) -> WalRead {
        let Some(OpenWal { path, queue }) = self.environment.wals.get(wal) else {
            return WalRead::failed(Path::new(""), closed());
        };
        match queue.log().get(&collection, &key) {
            Ok(entry) => {
                let packed = entry.map(|entry| {
                    let mut packed = Vec::new();
                    pack_with_sequence(&mut packed, entry.sequence, entry.as_ref());
                    packed.into()
                });
                WalRead { packed, ..WalRead::default() }
            }
            Err(error) => WalRead::failed(&path, error.into()),
        }
    }

    /// Entries of the memtable, in the order of their numbers.
    #[napi]
    pub fn entries_wal(
        &self,
        wal: u32,
        collection: String,
        after: BigInt,
        until: BigInt,
        most: u32,
        with_deletions: bool,
    ) -> WalRead {
        let Some(OpenWal { path, queue }) = self.environment.wals.get(wal) else {
            return WalRead::failed(Path::new(""), closed());
        };
        let mut packed = Vec::new();
        let range = (sequence(&after), sequence(&until));
        let most = most as usize;
        match queue.log().entries(&collection, range, most, with_deletions, &mut packed) {
            Ok(next) => {
                WalRead { packed: Some(packed.into()), next: next.map(BigInt::from), error: None }
            }
            Err(error) => WalRead::failed(&path, error.into()),
        }
    }

    /// Starts a replay of a log that is open here.
    #[napi]
    pub fn replay_wal(&self, id: f64, wal: u32, collection: String, from: Option<BigInt>) {
        let environment = Arc::clone(&self.environment);
        let Some(OpenWal { path, queue }) = find_wal(&environment, id, Operation::WalRead, wal)
        else {
            return;
        };
        let from = from.as_ref().map(sequence);
        start_replay(environment, id, path, from.is_some(), move |_| {
            queue.log().replay(&collection, from.unwrap_or_default())
        });
    }

    /// Starts a replay of a log that another process may have open.
    #[napi]
    pub fn replay_wal_in(
        &self,
        id: f64,
        dir: NativePath,
        collection: String,
        from: Option<BigInt>,
        #[napi(ts_arg_type = "'strict' | 'tolerateTail' | 'skipCorrupt' | undefined")]
        recovery_mode: Option<String>,
    ) {
        let (from, recovery) = (from.as_ref().map(sequence), recovery(recovery_mode.as_deref()));
        let (environment, dir) = (Arc::clone(&self.environment), PathBuf::from(dir));
        start_replay(environment, id, dir, from.is_some(), move |dir| {
            Replay::new(Os, dir, &collection, from.unwrap_or_default(), None, recovery)
        });
    }

    /// The lowest number of a collection that has not been released.
    #[napi]
    pub fn first_wal(&self, wal: u32, collection: String) -> WalRead {
        let Some(OpenWal { path, queue }) = self.environment.wals.get(wal) else {
            return WalRead::failed(Path::new(""), closed());
        };
        match queue.log().first(&collection) {
            Ok(first) => WalRead { next: Some(first.into()), ..WalRead::default() },
            Err(error) => WalRead::failed(&path, error.into()),
        }
    }

    /// The same of a log that another process may have open.
    #[napi]
    pub fn first_wal_in(
        &self,
        id: f64,
        dir: NativePath,
        collection: String,
        #[napi(ts_arg_type = "'strict' | 'tolerateTail' | 'skipCorrupt' | undefined")]
        recovery_mode: Option<String>,
    ) {
        let recovery = recovery(recovery_mode.as_deref());
        let first = move |dir: &Path| {
            Ok(BigInt::from(Replay::new(Os, dir, &collection, 0, None, recovery)?.first()?))
        };
        self.read_log(id, Operation::WalRead, dir, first);
    }

    /// What is known of the collections of a log that another process may have open.
    #[napi]
    pub fn survey_wal_in(
        &self,
        id: f64,
        dir: NativePath,
        #[napi(ts_arg_type = "'strict' | 'tolerateTail' | 'skipCorrupt' | undefined")]
        recovery_mode: Option<String>,
    ) {
        let recovery = recovery(recovery_mode.as_deref());
        let surveyed = move |dir: &Path| {
            let surveys = survey(&Os, dir, recovery)?;
            Ok(surveys.into_iter().map(WalSurvey::from).collect::<Vec<_>>())
        };
        self.read_log(id, Operation::WalRead, dir, surveyed);
    }

    /// The collections of a log that another process may have open.
    #[napi]
    pub fn read_wal_in(&self, id: f64, dir: NativePath) {
        self.read_log(id, Operation::WalOpen, dir, |dir| collections(&Os, dir));
    }

    /// The next entries of a replay.
    #[napi]
    pub fn next_wal(&self, id: f64, replay: u32, most: u32) {
        let environment = Arc::clone(&self.environment);
        let Some(OpenReplay { path, replay: mut walk }) = environment.replays.take(replay) else {
            environment.fail(id, Operation::WalRead, Path::new(""), closed());
            return;
        };
        let (replays, log) = (Arc::clone(&environment), path.clone());
        let work = move || {
            let mut packed = Vec::new();
            let over = walk.chunk(&mut packed, most as usize)? == ReplayProgress::Over;
            let damage = walk.damage().iter().cloned().map(NativeDamage::from);
            let damage = over.then(|| damage.collect());
            if !over {
                replays.replays.put(replay, OpenReplay { path: log, replay: walk });
            }
            Ok(ReplayChunk { packed: packed.into(), over, damage })
        };
        let answer = move |chunk| environment.answer(id, Operation::WalRead, &path, chunk);
        task::run(pool(), work, answer);
    }

    /// Forgets a replay.
    #[napi]
    pub fn end_replay(&self, replay: u32) {
        drop(self.environment.replays.take(replay));
    }
}

impl Port {
    /// Reads something of the log in a directory, and answers with it.
    fn read_log<T: ToNapiValue + Send + 'static>(
        &self,
        id: f64,
        operation: Operation,
        dir: NativePath,
        read: impl FnOnce(&Path) -> Result<T, ErrorKind> + Send + 'static,
    ) {
        let environment = Arc::clone(&self.environment);
        let path = PathBuf::from(dir);
        let dir = path.clone();
        let answer = move |outcome| environment.answer(id, operation, &path, outcome);
        task::run(pool(), move || read(&dir), answer);
    }
}

/// Starts a replay of the log in the directory at `path`, and answers with its number.
fn start_replay(
    environment: Arc<Environment>,
    id: f64,
    path: PathBuf,
    refuses_released: bool,
    start: impl FnOnce(&Path) -> Result<Replay<Os>, ErrorKind> + Send + 'static,
) {
    let (replays, log) = (Arc::clone(&environment), path.clone());
    let work = move || {
        let replay = start(&log)?;
        let replay = if refuses_released { replay.refusing_released() } else { replay };
        replays.replays.keep(OpenReplay { path: log, replay }).ok_or_else(closed)
    };
    let answer = move |number| environment.answer(id, Operation::WalRead, &path, number);
    task::run(pool(), work, answer);
}
