//! Follows write-ahead logs. The methods are described in `wal`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use napi::bindgen_prelude::{BigInt, Buffer};
use napi_derive::napi;

use super::environment::{Environment, Port};
use super::follow_handles::{FollowState, Following, OpenFollow};
use super::handles::OpenWal;
use super::js_types::NativeDamage;
use super::path_text::NativePath;
use super::wal::{closed, find_wal, recovery, sequence};
use crate::error::{ErrorKind, Operation};
use crate::fs::os::Os;
use crate::mutex::guard;
use crate::threads::{pool, task};
use crate::wal::{AppendQueue, Follow, FollowOptions, Signal};

/// Where the system does not tell of changes: how long after a look without entries the next one is.
/// It doubles up to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A piece of what is followed.
#[napi(object, object_from_js = false)]
pub struct FollowChunk {
    pub packed: Buffer,
    /// Whether there will be no more.
    pub over: bool,
    /// What was skipped.
    pub damage: Vec<NativeDamage>,
}

/// What a look has given.
enum Look {
    Chunk(FollowChunk),
    /// Nothing: the next look is when more has happened than this, or after a pause.
    Nothing(u64, Option<Duration>),
}

impl Following {
    fn look(&self, most: usize) -> Result<Look, ErrorKind> {
        let mut state = guard(&self.state);
        let outcome = self.look_at(&mut state, most);
        // Whatever it held is let go of as soon as there is no more to come.
        if !matches!(outcome, Ok(Look::Nothing(..) | Look::Chunk(FollowChunk { over: false, .. })))
        {
            state.follow = None;
        }
        outcome
    }

    fn look_at(&self, state: &mut FollowState, most: usize) -> Result<Look, ErrorKind> {
        let FollowState { follow, pause } = state;
        let over = || {
            Look::Chunk(FollowChunk { packed: Buffer::default(), over: true, damage: Vec::new() })
        };
        let Some(follow) = follow.as_mut().filter(|_| !self.signal.is_ended()) else {
            return Ok(over());
        };
        let seen = self.signal.count();
        let progress = self.within.as_ref().map(|(queue, name)| queue.log().progress(name));
        let mut packed = Vec::new();
        follow.advance(progress.map(|(last, _)| last), &mut packed, most)?;
        let damage: Vec<_> = follow.take_damage().into_iter().map(NativeDamage::from).collect();
        if !packed.is_empty() || !damage.is_empty() {
            *pause = FIRST_PAUSE;
            return Ok(Look::Chunk(FollowChunk { packed: packed.into(), over: false, damage }));
        }
        if progress.is_some_and(|(_, is_closed)| is_closed) {
            return Ok(over());
        }
        let pause = follow.has_to_poll().then(|| {
            let next = (*pause * 2).min(LONGEST_PAUSE);
            std::mem::replace(pause, next)
        });
        Ok(Look::Nothing(seen, pause))
    }
}

/// Looks until there is something, and answers with it. Between two looks no thread waits.
fn answer_next(environment: Arc<Environment>, id: f64, following: Arc<Following>, most: u32) {
    let own = Arc::clone(&following);
    let answer = move |outcome| match outcome {
        Ok(Look::Nothing(seen, pause)) => {
            if let Some(pause) = pause {
                let signal: Weak<Signal> = Arc::downgrade(&following.signal);
                let notify = move || drop(signal.upgrade().inspect(|signal| signal.notify()));
                let _ = pool().submit_after(pause, Box::new(notify));
            }
            let signal = Arc::clone(&following.signal);
            let again = move || answer_next(environment, id, following, most);
            signal.when_more_than(seen, Box::new(again));
        }
        Ok(Look::Chunk(chunk)) => {
            environment.answer(id, Operation::WalRead, &following.path, Ok(chunk));
        }
        Err(kind) => environment.fail(id, Operation::WalRead, &following.path, kind),
    };
    task::run(pool(), move || own.look(most as usize), answer);
}

#[napi]
impl Port {
    /// Begins to follow a collection of a log that is open here.
    #[napi]
    pub fn follow_wal(&self, id: f64, wal: u32, collection: String, from: Option<BigInt>) {
        let environment = Arc::clone(&self.environment);
        let Some(OpenWal { path, queue }) = find_wal(&environment, id, Operation::WalRead, wal)
        else {
            return;
        };
        let from = from.as_ref().map(sequence);
        begin(environment, id, path, move |_, signal| {
            let follow = queue.log().follow(&collection, from, signal)?;
            Ok((follow, Some((queue, collection))))
        });
    }

    /// Begins to follow a collection of a log that another process may have open.
    #[napi]
    pub fn follow_wal_in(
        &self,
        id: f64,
        dir: NativePath,
        collection: String,
        from: Option<BigInt>,
        #[napi(ts_arg_type = "'strict' | 'tolerateTail' | 'skipCorrupt' | undefined")]
        recovery_mode: Option<String>,
    ) {
        let from = from.as_ref().map(sequence);
        let recovery = recovery(recovery_mode.as_deref());
        let options = FollowOptions { from, recovery, is_beside: true };
        let environment = Arc::clone(&self.environment);
        begin(environment, id, PathBuf::from(dir), move |dir, signal| {
            Ok((Follow::new(Os, dir, &collection, options, Arc::clone(signal))?, None))
        });
    }

    /// What comes next: answered as soon as there is something.
    #[napi]
    pub fn next_follow(&self, id: f64, follow: u32, most: u32) {
        let environment = Arc::clone(&self.environment);
        let look = |_: u32, follow: &OpenFollow| Arc::clone(follow.following());
        match environment.follows.look(&[follow], look).pop() {
            Some(following) => answer_next(environment, id, following, most),
            None => environment.fail(id, Operation::WalRead, Path::new(""), closed()),
        }
    }

    /// Ends it. A call that waits is answered that there will be no more.
    #[napi]
    pub fn end_follow(&self, follow: u32) {
        drop(self.environment.follows.take(follow));
    }
}

type Begun = (Follow<Os>, Option<(AppendQueue<Os>, String)>);

/// Begins to follow a collection of the log in the directory at `path`, and answers with its number.
fn begin(
    environment: Arc<Environment>,
    id: f64,
    path: PathBuf,
    begin: impl FnOnce(&Path, &Arc<Signal>) -> Result<Begun, ErrorKind> + Send + 'static,
) {
    let (follows, log) = (Arc::clone(&environment), path.clone());
    let work = move || {
        let signal = Arc::new(Signal::default());
        let (follow, within) = begin(&log, &signal)?;
        let state = Mutex::new(FollowState { follow: Some(follow), pause: FIRST_PAUSE });
        let following = Following { path: log, signal, within, state };
        follows.follows.keep(OpenFollow::new(following)).ok_or_else(closed)
    };
    let answer = move |number| environment.answer(id, Operation::WalRead, &path, number);
    task::run(pool(), work, answer);
}
