//! From a call to the lock directory that it means.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, SystemTime};

use super::backend::{LockDirBackend, LockfileGuard, LockfileOptions, StaleRules};
use super::dir::{LockDirPath, is_held};
use crate::error::{Code, ErrorKind, Failure};
use crate::fs::DirUse;
use crate::fs::os::Os;
use crate::lock::acquire::{Arrivals, Locate, Located, arrive, join};
use crate::lock::lock_path::target_of;
use crate::lock::queue::CallOf;
use crate::lock::waiter::{Before, LockReply, LockRequest, Waiter};
use crate::resolve;
use crate::threads::Pool;
use crate::threads::task::no_thread;
use crate::vocabulary::{FileKey, LockKind};

/// Which lock is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockfileName {
    /// The file, absolute.
    pub path: PathBuf,
    /// The lock directory, absolute, where it is not `<path>.lock`.
    pub dir: Option<PathBuf>,
    /// Whether a symbolic link means the file that it leads to.
    pub follow_symlinks: bool,
    /// Whether the file must exist.
    pub must_exist: bool,
}

/// What a call asks for.
pub struct LockfileRequest {
    /// Which lock.
    pub name: LockfileName,
    /// When it counts as abandoned, and how often it is kept from that.
    pub rules: StaleRules,
    /// How long to wait; zero to try once, `None` for ever.
    pub timeout: Option<Duration>,
    /// The locks that the caller holds: waiting for one of them would never end.
    pub inside: Vec<FileKey>,
    /// What is to happen first, if anything.
    pub before: Option<Before>,
}

impl LockfileRequest {
    fn into_parts(self, settles_here: bool) -> (LockfileName, LockRequest, LockfileOptions) {
        let LockfileRequest { name, rules, timeout, inside, before } = self;
        let path = name.path.clone();
        let held = inside.into_iter().map(|key| (key, LockKind::Write)).collect();
        let request = LockRequest { path, kind: LockKind::Write, timeout, held, before };
        (name, request, LockfileOptions { rules, settles_here, file: OnceLock::new() })
    }
}

/// A call that waits for a lock.
pub type LockfileCall = Waiter<LockfileGuard, LockfileOptions>;

/// Asks for a lock. The outcome goes to `reply`, on some thread; the waiter can be cancelled.
pub fn acquire(
    pool: &Pool,
    request: LockfileRequest,
    reply: LockReply<LockfileGuard>,
) -> Arc<LockfileCall> {
    let (name, request, options) = request.into_parts(false);
    arrive::<LockDirBackend>(pool, name, request, options, reply)
}

/// Takes a lock if it is free now, on this thread.
pub fn acquire_here(pool: &Pool, request: LockfileRequest) -> Result<LockfileGuard, ErrorKind> {
    let (tell, outcome) = mpsc::channel();
    let request = LockfileRequest { timeout: Some(Duration::ZERO), ..request };
    let (name, request, options) = request.into_parts(true);
    let reply = Box::new(move |outcome| drop(tell.send(outcome)));
    let waiter: Arc<LockfileCall> = Waiter::new(pool, request, options, reply);
    waiter.prepare();
    match LockDirBackend::find(&name) {
        Ok(found) => {
            join(&name, found, None, vec![Arc::clone(&waiter)]);
            // Another thread may be taking it over for another call.
            waiter.time_out();
        }
        Err(failure) => waiter.settle(Err(failure.into())),
    }
    outcome.try_recv().unwrap_or_else(|_| Err(no_thread()))
}

/// Whether a process holds a lock.
pub fn inspect(name: &LockfileName, stale: Duration) -> Result<bool, Failure> {
    match find(name) {
        Ok((at, ..)) => is_held(&at, stale, SystemTime::now()),
        // There is nothing where the lock is said to be. That the file is missing is an error.
        Err(failure) if name.dir.is_some() && failure.syscall == "open" => match failure.code() {
            Some(Code::ENOENT) => Ok(false),
            _ => Err(failure),
        },
        Err(failure) => Err(failure),
    }
}

/// Which lock it is, and the file's real path, where that is asked for.
pub fn locate(name: &LockfileName) -> Result<(FileKey, Option<PathBuf>), Failure> {
    find(name).map(|(_, key, file)| (key, file))
}

/// The key as a text, the same for the same lock in this process.
pub fn key_text((dir, name): &FileKey) -> String {
    format!("{}:{}:{}", dir.device, dir.inode, name.as_encoded_bytes().escape_ascii())
}

fn find(name: &LockfileName) -> Result<(LockDirPath<Os>, FileKey, Option<PathBuf>), Failure> {
    let LockfileName { path, dir, follow_symlinks, must_exist } = name;
    let in_parent = |path: &Path| resolve::target(&Os, path, false, DirUse::Names);
    let mut file = None;
    let target = if *must_exist {
        let real =
            std::fs::canonicalize(path).map_err(|error| Failure::at("realpath", path, error))?;
        file = Some(real.clone());
        in_parent(&real)
    } else if *follow_symlinks {
        target_of(path)
    } else {
        in_parent(path)
    };
    // Where the lock is said to be elsewhere, it does not matter what the file is.
    let (parent, name) = match dir {
        None => {
            let target = target?;
            let mut name = target.name;
            name.push(".lock");
            (target.dir, name)
        }
        Some(dir) => {
            let target = in_parent(dir)?;
            (target.dir, target.name)
        }
    };
    let key = (parent.metadata()?.id, name.clone());
    Ok((LockDirPath { parent, name }, key, file))
}

impl Locate for LockDirBackend {
    type Name = LockfileName;
    /// The file's real path, where it was asked for.
    type Details = Option<PathBuf>;

    fn arrivals() -> &'static Arrivals<LockDirBackend> {
        static ARRIVALS: LazyLock<Arrivals<LockDirBackend>> =
            LazyLock::new(Arrivals::<LockDirBackend>::default);
        &ARRIVALS
    }

    fn find(name: &LockfileName) -> Result<Located<LockDirBackend>, Failure> {
        let (at, key, details) = find(name)?;
        Ok(Located { key, backend: LockDirBackend::new(at), details })
    }

    fn note(&self, file: &Option<PathBuf>, waiter: &CallOf<LockDirBackend>) {
        if let Some(file) = file {
            let _ = waiter.options.file.set(file.clone());
        }
    }
}
