//! JSON files: the parts of a read-modify-write that are done in Rust.
//!
//! The change itself is a JavaScript function, so an update is two trips: lock and read,
//! then write and unlock. In between the lock is held. What is read is checked to be UTF-8
//! and handed over as text; parsing is left to the engine that has to build the values
//! anyway. Where that fails, [`locate`] says where.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::IgnoredAny;

use crate::descriptors::{is_short, patience};
use crate::error::{BadJson, ErrorKind, Failure};
use crate::fs::os::Os;
use crate::fs::{DirUse, File, FileSystem};
use crate::lock::{self, LockGuard, Waiter};
use crate::resolve::{self, Target};
use crate::threads::task::OnceCallback;
use crate::threads::{Pool, task};
use crate::vocabulary::GuardedFile;
use crate::write::{Durability, make_parents, sync_failed};

/// Reads a text file as a whole. `None` when there is none.
///
/// # Errors
///
/// Besides what the system refuses, [`ErrorKind::BadJson`] when it is not UTF-8.
pub fn read<F: FileSystem>(
    fs: &F,
    path: &Path,
    follow_symlinks: bool,
) -> Result<Option<String>, ErrorKind> {
    read_bytes(fs, path, follow_symlinks)?.map(text).transpose()
}

/// Reads a file as a whole. `None` when there is none.
pub fn read_bytes<F: FileSystem>(
    fs: &F,
    path: &Path,
    follow_symlinks: bool,
) -> Result<Option<Vec<u8>>, Failure> {
    read_target(&resolve::target(fs, path, follow_symlinks, DirUse::Names)?)
}

/// Reads a file as a whole, which has to be the one whose lock is held. `None` when there is none.
pub fn read_bytes_of<F: FileSystem>(
    fs: &F,
    path: &Path,
    only: Option<&GuardedFile>,
) -> Result<Option<Vec<u8>>, Failure> {
    let target = resolve::target(fs, path, true, DirUse::Names)?;
    only.map_or(Ok(()), |only| target.must_be(only))?;
    read_target(&target)
}

fn read_target<F: FileSystem>(target: &Target<F>) -> Result<Option<Vec<u8>>, Failure> {
    let Some(file) = target.open()? else { return Ok(None) };
    // To the caller, looking at the size is a part of reading.
    let failed = |failure: Failure| Failure::at("read", target.path(), failure.source);
    read_all(&file).map(Some).map_err(failed)
}

/// Reads a text file as a whole, as Node does: what is not UTF-8 is replaced. `None` when there is
/// none.
pub fn read_lossy<F: FileSystem>(fs: &F, path: &Path) -> Result<Option<String>, Failure> {
    Ok(read_bytes(fs, path, true)?.map(|bytes| match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }))
}

/// Reads to the end, however long the file is meanwhile.
fn read_all<F: FileSystem>(file: &File<F>) -> Result<Vec<u8>, Failure> {
    let size = file.metadata()?.size;
    // One more than there should be, so that the end shows in the same call.
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0).saturating_add(1)];
    let mut length = 0;
    loop {
        if length == bytes.len() {
            bytes.resize(bytes.len().saturating_mul(2), 0);
        }
        let room = bytes.get_mut(length..).unwrap_or_default();
        match file.read(room, length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// The text of a file: strict UTF-8, less the byte order mark that some editors put first.
fn text(mut bytes: Vec<u8>) -> Result<String, ErrorKind> {
    const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..valid).unwrap_or_default();
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        BadJson {
            message: "invalid UTF-8".to_owned(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: valid - line_start + 1,
        }
        .into()
    })
}

/// Where a text stops being JSON. `None` if it does not.
pub fn locate(text: &str) -> Option<BadJson> {
    serde_json::from_str::<IgnoredAny>(text).err().as_ref().map(BadJson::from)
}

/// The first trip of an update.
pub struct UpdateRequest {
    /// The file, absolute.
    pub path: PathBuf,
    /// Whether a symbolic link leads to the file that is meant.
    pub follow_symlinks: bool,
    /// Whether to make missing parent directories, and how durably.
    pub make_dirs: Option<Durability>,
    /// The lock to take first, if any.
    pub lock: Option<lock::LockRequest>,
    /// Without a lock to take: the only file that may be read, if its lock is held.
    pub only: Option<GuardedFile>,
    /// Whether there is nothing to do if the file is missing.
    pub only_if_there: bool,
}

/// The result of the first trip.
pub struct UpdateStart {
    /// The lock, if it was asked for and there is something to do.
    pub lock: Option<LockGuard>,
    /// The file's text, if there is such a file.
    pub text: Option<String>,
    /// Whether only writing the file anew can make it durable, even if its text stays as it is.
    pub sync_failed: bool,
}

/// Takes the lock, then reads. The outcome goes to `answer`; the returned waiter, if there
/// is a lock to wait for, can be cancelled.
pub fn begin(
    pool: &Pool,
    begin: UpdateRequest,
    answer: impl FnOnce(Result<UpdateStart, ErrorKind>) + Send + 'static,
) -> Option<std::sync::Arc<Waiter>> {
    let UpdateRequest { path, follow_symlinks, make_dirs, lock, only_if_there, only } = begin;
    let dirs = make_dirs.map(|durability| {
        let path = path.clone();
        move || make_parents(&Os, &path, durability)
    });
    let Some(request) = lock else {
        let work = move || {
            dirs.map_or(Ok(()), |make| make())?;
            let text = read_under(only, &path, follow_symlinks)?;
            let sync_failed = sync_failed(&Os, &path, follow_symlinks);
            Ok(UpdateStart { lock: None, text, sync_failed })
        };
        task::run(pool, work, answer);
        return None;
    };
    let own_pool = pool.clone();
    let reply = move |granted: Result<Option<LockGuard>, ErrorKind>| match granted {
        Ok(Some(lock)) => {
            let reading = LockedRead { path, follow_symlinks, short_since: None };
            reading.read(&own_pool, lock, OnceCallback::new(answer));
        }
        Ok(None) => answer(Ok(UpdateStart { lock: None, text: None, sync_failed: false })),
        Err(kind) => answer(Err(kind)),
    };
    let before = dirs.map(|make| Box::new(make) as lock::Before);
    let request = lock::LockRequest { before, ..request };
    if only_if_there {
        return Some(lock::acquire_if_there(pool, request, Box::new(reply)));
    }
    let reply = move |granted: Result<LockGuard, ErrorKind>| reply(granted.map(Some));
    Some(lock::acquire(pool, request, Box::new(reply)))
}

/// Takes the lock, then reads, on the calling thread.
///
/// # Errors
///
/// What [`begin`] answers, and that the system refuses to open another file, at once.
pub fn begin_here(pool: &Pool, begin: UpdateRequest) -> Result<UpdateStart, ErrorKind> {
    let UpdateRequest { path, follow_symlinks, make_dirs, lock, only_if_there, only: _ } = begin;
    if let Some(durability) = make_dirs {
        make_parents(&Os, &path, durability)?;
    }
    let lock = match lock {
        Some(request) if only_if_there => match lock::acquire_here_if_there(pool, request)? {
            None => return Ok(UpdateStart { lock: None, text: None, sync_failed: false }),
            taken => taken,
        },
        Some(request) => Some(lock::acquire_here(pool, request)?),
        None => None,
    };
    let text = read_under(lock.as_ref().map(LockGuard::guarded), &path, follow_symlinks)?;
    let sync_failed = sync_failed(&Os, &path, follow_symlinks);
    Ok(UpdateStart { lock, text, sync_failed })
}

/// Goes on with an update whose write has failed, after a pause in which other processes may have
/// had the lock: takes it again, and reads the file as it is now.
pub fn resume(
    pool: &Pool,
    lock: LockGuard,
    delay: Duration,
    path: PathBuf,
    follow_symlinks: bool,
    answer: impl FnOnce(Result<UpdateStart, ErrorKind>) + Send + 'static,
) {
    let reading = LockedRead { path, follow_symlinks, short_since: None };
    reading.read_after(pool, lock, delay, OnceCallback::new(answer));
}

fn read_under(
    only: Option<GuardedFile>,
    path: &Path,
    follow_symlinks: bool,
) -> Result<Option<String>, ErrorKind> {
    let target = resolve::target(&Os, path, follow_symlinks, DirUse::Names)?;
    if let Some(only) = only.filter(|_| follow_symlinks) {
        target.must_be(&only)?;
    }
    read_target(&target)?.map(text).transpose()
}

/// The read of an update under its lock.
struct LockedRead {
    path: PathBuf,
    follow_symlinks: bool,
    /// Since when the system has refused to open another file.
    short_since: Option<Instant>,
}

impl LockedRead {
    fn read<C>(mut self, pool: &Pool, lock: LockGuard, answer: OnceCallback<C, UpdateStart>)
    where
        C: FnOnce(Result<UpdateStart, ErrorKind>) + Send + 'static,
    {
        let since = *self.short_since.get_or_insert_with(Instant::now);
        match read_under(Some(lock.guarded()), &self.path, self.follow_symlinks) {
            // Others are closed meanwhile.
            Err(kind) if is_short(&kind) && since.elapsed() < patience(None) => {
                lock.give_back();
                self.read_after(pool, lock, SHORTAGE_PAUSE, answer);
            }
            Err(kind) => {
                // A caller that has its answer finds the lock free.
                drop(lock);
                answer.call(Err(kind));
            }
            Ok(text) => {
                let sync_failed = sync_failed(&Os, &self.path, self.follow_symlinks);
                answer.call(Ok(UpdateStart { lock: Some(lock), text, sync_failed }));
            }
        }
    }

    /// The same after a pause, in which other processes may have the lock.
    fn read_after<C>(
        self,
        pool: &Pool,
        lock: LockGuard,
        delay: Duration,
        answer: OnceCallback<C, UpdateStart>,
    ) where
        C: FnOnce(Result<UpdateStart, ErrorKind>) + Send + 'static,
    {
        let own_pool = pool.clone();
        let resume = move || {
            lock.into_taken_again(move |taken| {
                let pool = own_pool.clone();
                let go_on = move || match taken {
                    Ok(lock) => self.read(&own_pool, lock, answer),
                    Err(kind) => answer.call(Err(kind)),
                };
                // This thread may be one that only waits for locks.
                let _ = pool.submit(Box::new(go_on));
            });
        };
        let _ = pool.submit_after(delay, Box::new(resume));
    }
}

/// How long to wait after the system has refused to open another file.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(20);

/// Makes a file that stays as it is, and whose last sync has not [failed](sync_failed), as durable
/// as a write of it would have been.
pub fn sync_unchanged<F: FileSystem>(
    fs: &F,
    path: &Path,
    follow_symlinks: bool,
    durability: Durability,
) -> Result<(), Failure> {
    if durability == Durability::None {
        return Ok(());
    }
    let target = resolve::target(fs, path, follow_symlinks, DirUse::NamesAndSync)?;
    let file = target.dir.open_file(&target.name)?;
    file.sync().map_err(|failure| failure.on(target.path()))?;
    match durability {
        Durability::Full => target.dir.sync(Some(&file)),
        _ => Ok(()),
    }
}
