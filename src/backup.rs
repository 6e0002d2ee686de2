//! Backups: a file copied aside, and back.
//!
//! Both directions are atomic writes whose bytes come from another file. A backup is called
//! `<name>.<milliseconds since 1970>.backup` and never takes the place of anything: a name
//! that is taken moves on by a millisecond. Its time is later than that of every backup that the file
//! has, also if the clock has been ahead: so the names say which is the newest. A name that would be too long for the file system has a
//! shortened form of the file's name in it ([`crate::short_name`]). What is copied is the file that
//! was opened, so a file that is replaced meanwhile is backed up as one version, in full; a file
//! that is changed in place may be copied in the middle of a change.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::engine::{AttemptCaller, FileQueueGuard, HeldBetweenAttempts, attempts, engine};
use crate::error::{Code, Error, ErrorKind, Failure, Operation};
use crate::fs::os::Os;
use crate::fs::{Dir, DirUse, FileKind, FileSystem, Metadata, Removals, is_placeholder};
use crate::lock::{self, LockGuard, Waiter};
use crate::metrics::METRICS;
use crate::resolve;
use crate::short_name::{ALWAYS_FITS, LONGEST_NAME, fit, os_str, stands_for};
use crate::temp_name;
use crate::threads::Pool;
use crate::threads::task::{self, TakeAgain, TaskStep, nothing_to_take};
use crate::write::{
    AttemptError, ContentSource, Control, CopySource, Destination, Durability, Observer, Options,
    WriteAttempt, make_attempt, make_parents,
};

/// The end of the name of a backup.
const SUFFIX: &str = ".backup";

/// The latest time, in milliseconds since 1970, that JavaScript has dates for.
const LATEST: u64 = 8_640_000_000_000_000;

/// The name of a backup of the file called `basename`, made at a time in milliseconds since
/// 1970.
pub fn name_at(basename: &OsStr, time: u64) -> OsString {
    name_within(basename, time, LONGEST_NAME)
}

/// The same, on a file system whose names have at most `limit` bytes.
fn name_within(basename: &OsStr, time: u64, limit: usize) -> OsString {
    let tail = format!(".{time}{SUFFIX}");
    let mut name = fit(basename, limit.saturating_sub(tail.len()));
    name.push(tail);
    name
}

/// When the backup with this name was made, in milliseconds since 1970. `None` if it is no
/// name of a backup.
pub fn time_of(name: &OsStr) -> Option<u64> {
    let front = name.as_encoded_bytes().strip_suffix(SUFFIX.as_bytes())?;
    let dot = front.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0)?;
    digits(front.get(dot + 1..)?)
}

/// The same, for a backup of the file called `basename` only.
fn time_of_backup(name: &OsStr, basename: &OsStr) -> Option<u64> {
    let time = time_of(name)?;
    let length = name.len() - SUFFIX.len();
    let front = name.as_encoded_bytes().get(..length)?;
    let dot = front.iter().rposition(|byte| *byte == b'.')?;
    stands_for(os_str(front.get(..dot)?)?, basename).then_some(time)
}

fn digits(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    // `parse` would take a sign.
    let time = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())??;
    (time <= LATEST).then_some(time)
}

/// A backup to be made.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// The file, absolute.
    pub path: PathBuf,
    /// The time for its name, in milliseconds since 1970, if the file has no later backup.
    pub time: u64,
    /// How durable it is to be, what it has to be, and how often to try.
    pub options: Options,
    /// How many backups of the file are left, this one included; `None` for all.
    pub keep: Option<usize>,
}

/// A backup to be brought back.
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// The backup, absolute.
    pub backup: PathBuf,
    /// The file whose place it takes, absolute.
    pub target: PathBuf,
    /// How to write.
    pub options: Options,
}

/// A backup that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// What it is called.
    pub name: OsString,
    /// When it was made, by its name: milliseconds since 1970.
    pub time: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// Makes one attempt at a backup, and returns its name.
///
/// # Durability
///
/// With `keep` a backup is always made as durable as can be before an older one is removed.
pub fn create<F: FileSystem>(
    fs: &F,
    create: &BackupRequest,
    control: &Control,
    observer: Option<&dyn Observer>,
) -> Result<OsString, AttemptError> {
    let BackupRequest { path, time, options, keep } = create;
    let source = open(fs, path)?;
    let durability = match keep {
        Some(_) => Durability::Full,
        None => options.durability,
    };
    // Beside the path as it was given; where a link leads does not matter.
    let options = Options { durability, follow_symlinks: false, ..options.clone() };
    let basename = path.file_name().unwrap_or_default();
    let time = &time_after_all(fs, path, *time)?;
    let limit = name_limit(fs, path, *time)?;
    let names = |number: u64| name_within(basename, time + number, limit);
    let attempt = WriteAttempt {
        path: &path.with_file_name(names(0)),
        options: &options,
        content: ContentSource::File(&source),
        destination: Destination::FreeName(&names),
        is_in_place: false,
        control,
        observer,
    };
    let number = make_attempt(fs, &attempt)?;
    if let Some(keep) = keep {
        // The backup is there, and that is what was asked for. Older ones that cannot be
        // removed do no harm.
        let _ = prune(fs, path, *keep, time + number);
    }
    Ok(names(number))
}

/// The time for the name of a new backup: this one, or a millisecond after the newest backup that is
/// there, if the clock was ahead when that was made.
fn time_after_all<F: FileSystem>(fs: &F, path: &Path, time: u64) -> Result<u64, Failure> {
    let (Some(dir), Some(basename)) = (path.parent(), path.file_name()) else { return Ok(time) };
    let names = match Dir::open(fs, dir, DirUse::Names)?.names() {
        Ok(names) => names,
        // In a directory that may not be listed there is no list of backups either.
        Err(failure) if matches!(failure.code(), Some(Code::EACCES | Code::EPERM)) => {
            return Ok(time);
        }
        Err(failure) => return Err(failure),
    };
    let newest = names.iter().filter_map(|name| time_of_backup(name, basename)).max();
    // A name that no process has made by the clock leaves no room behind it.
    Ok(newest.filter(|newest| *newest < LATEST).map_or(time, |newest| time.max(newest + 1)))
}

/// How long the name of a backup of the file may be.
fn name_limit<F: FileSystem>(fs: &F, path: &Path, time: u64) -> Result<usize, Failure> {
    let basename = path.file_name().unwrap_or_default();
    let within = |limit| name_within(basename, time, limit);
    match path.parent() {
        Some(dir) if within(LONGEST_NAME).len() > ALWAYS_FITS => {
            Ok(Dir::open(fs, dir, DirUse::Names)?.name_limit(within))
        }
        _ => Ok(LONGEST_NAME),
    }
}

/// Removes the oldest backups of a file until `keep` are left, but none as new as `newest`.
fn prune<F: FileSystem>(fs: &F, path: &Path, keep: usize, newest: u64) -> Result<(), Failure> {
    let (Some(dir), Some(basename)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let dir = Dir::open(fs, dir, DirUse::NamesAndSync)?;
    let names = dir.names()?;
    let is_file =
        |name: &OsStr| matches!(dir.look(name), Ok(Some(found)) if is_backup(name, &found, &names));
    let mut backups: Vec<_> = names
        .iter()
        .filter_map(|name| time_of_backup(name, basename).map(|time| (time, name)))
        .filter(|(_, name)| is_file(name))
        .collect();
    backups.sort_unstable_by(|one, other| other.cmp(one));
    let mut removals = Removals::new(&dir);
    for (_, name) in backups.into_iter().skip(keep).filter(|(time, _)| *time < newest) {
        // Another process may be removing it, too.
        let _ = removals.remove(name);
    }
    removals.finish()
}

/// Whether a file with the name of a backup is one, among the `names` in its directory. Where a
/// backup gets its name in two steps, a crash may leave an empty file under that name.
fn is_backup(name: &OsStr, found: &Metadata, names: &[OsString]) -> bool {
    found.kind == FileKind::File && !(found.is_empty_file() && is_placeholder(name, names))
}

/// Makes one attempt to bring a backup back.
pub fn restore<F: FileSystem>(
    fs: &F,
    restore: &RestoreRequest,
    control: &Control,
    observer: Option<&dyn Observer>,
) -> Result<(), AttemptError> {
    let RestoreRequest { backup, target: path, options } = restore;
    let source = open(fs, backup)?;
    let (content, destination) = (ContentSource::File(&source), Destination::Target);
    let is_in_place = false;
    let attempt =
        WriteAttempt { path, options, content, destination, is_in_place, control, observer };
    make_attempt(fs, &attempt).map(drop)
}

/// Opens the file that is to be copied.
fn open<F: FileSystem>(fs: &F, path: &Path) -> Result<CopySource<F>, Failure> {
    let target = resolve::target(fs, path, true, DirUse::Names)?;
    let refused = |code: Code| Failure::at("open", target.path(), code.error());
    let file = target.open()?.ok_or_else(|| refused(Code::ENOENT))?;
    let metadata = file.metadata().map_err(|failure| failure.on(target.path()))?;
    // A directory that cannot be listed says nothing about that.
    if metadata.is_empty_file()
        && target.dir.names().is_ok_and(|names| is_placeholder(&target.name, &names))
    {
        return Err(refused(Code::ENOENT));
    }
    match metadata.kind {
        FileKind::File => Ok(CopySource { file, metadata }),
        _ => Err(refused(Code::EINVAL)),
    }
}

/// The backups of a file, which need not exist any more, the newest first.
pub fn list<F: FileSystem>(fs: &F, path: &Path) -> Result<Vec<Backup>, Failure> {
    // Nothing but the directory and the name is wanted of it.
    let target = resolve::target(fs, path, false, DirUse::Names)?;
    let mut backups = Vec::new();
    let names = target.dir.names()?;
    for name in &names {
        let Some(time) = time_of_backup(name, &target.name) else { continue };
        match target.dir.look(name)? {
            Some(found) if is_backup(name, &found, &names) => {
                backups.push(Backup { name: name.clone(), time, size: found.size });
            }
            // Not a backup, or removed since it was listed.
            _ => {}
        }
    }
    backups.sort_unstable_by_key(|backup| Reverse(backup.time));
    Ok(backups)
}

/// The names in a directory that a caller may ask to remove: those of backups, or any, each with
/// the time at which a backup was made. Names that are no text are left out.
///
/// That is the time in its name, unless it is later than `now`: then the clock was ahead when this
/// backup, or an earlier one of the file, was made.
pub fn candidates<F: FileSystem>(
    fs: &F,
    dir: &Path,
    any_name: bool,
    now: u64,
) -> Result<Vec<(String, Option<u64>)>, Failure> {
    let dir = Dir::open(fs, dir, DirUse::Names)?;
    let names = dir.names()?;
    if any_name {
        let wanted = names.into_iter().filter(|name| !is_own_file(name));
        return Ok(wanted.filter_map(|name| Some((name.into_string().ok()?, None))).collect());
    }
    let mut timed: Vec<(OsString, u64)> =
        names.into_iter().filter_map(|name| time_of(&name).map(|time| (name, time))).collect();
    correct_times(&dir, &mut timed, now)?;
    Ok(timed
        .into_iter()
        .filter_map(|(name, time)| Some((name.into_string().ok()?, Some(time))))
        .collect())
}

/// Corrects the times of backups whose names say that they are yet to be made. They are in the order of
/// their names all the same ([`create`]), so each was made before the later ones of its file were last
/// changed, and before it was last changed itself. Where all of that is yet to come, the time
/// is `now`: how old such a backup is cannot be told.
fn correct_times<F: FileSystem>(
    dir: &Dir<F>,
    timed: &mut [(OsString, u64)],
    now: u64,
) -> Result<(), Failure> {
    let of_file = |name: &OsStr| -> Vec<u8> {
        let front = name.as_encoded_bytes().strip_suffix(SUFFIX.as_bytes()).unwrap_or_default();
        let dot = front.iter().rposition(|byte| *byte == b'.').unwrap_or_default();
        front.get(..dot).unwrap_or_default().to_vec()
    };
    let mut ahead: Vec<(Vec<u8>, &mut (OsString, u64))> = timed
        .iter_mut()
        .filter(|(_, time)| *time > now)
        .map(|backup| (of_file(&backup.0), backup))
        .collect();
    // The last one of each file first.
    ahead.sort_unstable_by(|(file, (_, time)), (other, (_, later))| {
        (file, later).cmp(&(other, time))
    });
    let mut latest: Option<(Vec<u8>, u64)> = None;
    for (file, (name, time)) in ahead {
        let modified = dir.modified(name)?.map_or(now, milliseconds);
        let before =
            latest.take().filter(|(other, _)| *other == file).map_or(now, |(_, time)| time);
        *time = modified.min(before);
        latest = Some((file, *time));
    }
    Ok(())
}

/// A time in milliseconds since 1970.
fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a file is one of holdfast's own. Lock files are never removed, because a process may
/// hold the lock. What happens to temp files is for recovery to decide.
fn is_own_file(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.starts_with(b".") && bytes.ends_with(b".lock") || temp_name::is_temp_name(name)
}

/// Removes the regular files among these names in a directory, and returns which they were. With
/// `modified_until` only those whose content has not been changed since that millisecond.
///
/// # Errors
///
/// The first failure, after all have been tried. A file that is gone already is no failure.
pub fn remove<F: FileSystem>(
    fs: &F,
    dir: &Path,
    names: Vec<String>,
    modified_until: Option<SystemTime>,
) -> Result<Vec<String>, Failure> {
    let dir = Dir::open(fs, dir, DirUse::NamesAndSync)?;
    let mut removals = Removals::new(&dir);
    let mut removed = Vec::new();
    let mut first = None;
    for name in names {
        match remove_one(&dir, &mut removals, name.as_ref(), modified_until) {
            Ok(true) => removed.push(name),
            Ok(false) => {}
            Err(failure) if failure.is_not_found() => {}
            Err(failure) => first = first.or(Some(failure)),
        }
    }
    first.or(removals.finish().err()).map_or(Ok(removed), Err)
}

fn remove_one<F: FileSystem>(
    dir: &Dir<F>,
    removals: &mut Removals<'_, F>,
    name: &OsStr,
    modified_until: Option<SystemTime>,
) -> Result<bool, Failure> {
    if dir.look(name)?.is_none_or(|found| found.kind != FileKind::File) {
        return Ok(false);
    }
    // Clocks of callers count milliseconds: a file that was changed in this one is not newer.
    if let Some(end) = modified_until.and_then(|until| until.checked_add(Duration::from_millis(1)))
        && dir.modified(name)?.is_none_or(|modified| modified >= end)
    {
        return Ok(false);
    }
    removals.remove(name).map(|()| true)
}

/// What a restore holds until it has ended: the lock of its target, and its position among the
/// writes of this process.
struct HeldByRestore {
    lock: Option<LockGuard>,
    _queue: FileQueueGuard<Os>,
}

impl HeldBetweenAttempts for HeldByRestore {
    fn give_back(&self) -> bool {
        self.lock.iter().for_each(LockGuard::give_back);
        true
    }

    fn take_again(&self) -> TakeAgain {
        self.lock.as_ref().map_or_else(nothing_to_take, LockGuard::take_again)
    }
}

fn backup_attempts<T, G>(
    operation: Operation,
    path: PathBuf,
    options: Options,
    caller: AttemptCaller<G>,
    held: impl HeldBetweenAttempts,
    attempt: impl Fn(&Control, Option<&dyn Observer>) -> Result<T, AttemptError>,
) -> impl FnMut() -> TaskStep<Result<T, Error>> {
    let attempt = move |control: &Control, observer: Option<&dyn Observer>| {
        attempt(control, observer).map_err(|error| (None, error))
    };
    let ended = move |outcome: Result<(), &ErrorKind>| METRICS.backups.ended(operation, outcome);
    attempts(operation, path, options, caller, held, attempt, ended)
}

/// Makes a backup on `pool`; `answer` gets its name.
pub fn submit_create<G: 'static>(
    pool: &Pool,
    request: BackupRequest,
    caller: AttemptCaller<G>,
    answer: impl FnOnce(Result<Result<OsString, Error>, ErrorKind>) + Send + 'static,
) {
    let (path, options) = (request.path.clone(), request.options.clone());
    let listen = caller.control.listener();
    let step = backup_attempts(
        Operation::CreateBackup,
        path,
        options,
        caller,
        (),
        move |control, observer| create(&Os, &request, control, observer),
    );
    task::run_steps(pool, step, listen, answer);
}

/// Brings a backup back, on `pool`: under a lock, if there is one to take first, and after the
/// earlier writes to the target. The returned waiter can be cancelled.
pub fn submit_restore<G: 'static>(
    pool: &Pool,
    request: RestoreRequest,
    lock: Option<lock::LockRequest>,
    caller: AttemptCaller<G>,
    answer: impl FnOnce(Result<Result<(), Error>, ErrorKind>) + Send + 'static,
) -> Option<Arc<Waiter>> {
    let RestoreRequest { target, options, .. } = request.clone();
    let dirs = options.make_dirs.then(|| (target.clone(), options.durability));
    let answer = task::OnceCallback::new(answer);
    let own_pool = pool.clone();
    let begin = move |lock: Option<LockGuard>, answer: task::OnceCallback<_, _>| {
        engine().run_exclusively(target.clone(), options.clone(), move |granted| {
            let queue_guard = match granted {
                Ok(queue_guard) => queue_guard,
                Err(kind) => {
                    // A caller that has its answer finds the lock free.
                    drop(lock);
                    return answer.call(Err(kind));
                }
            };
            let mut request = request;
            request.options.only = lock.as_ref().map(|lock| Box::new(lock.guarded()));
            let attempt = move |control: &Control, observer: Option<&dyn Observer>| {
                restore(&Os, &request, control, observer)
            };
            let listen = caller.control.listener();
            // Both are released with the step, before the caller is told.
            let held = HeldByRestore { lock, _queue: queue_guard };
            let operation = Operation::RestoreBackup;
            let step = backup_attempts(operation, target, options, caller, held, attempt);
            task::run_steps_here(&own_pool, step, listen, answer);
        });
    };
    let Some(wanted) = lock else {
        begin(None, answer);
        return None;
    };
    let before = dirs.map(|(target, durability)| -> lock::Before {
        Box::new(move || make_parents(&Os, &target, durability))
    });
    let reply = move |granted: Result<LockGuard, ErrorKind>| match granted {
        Ok(lock) => begin(Some(lock), answer),
        Err(kind) => answer.call(Err(kind)),
    };
    Some(lock::acquire(pool, lock::LockRequest { before, ..wanted }, Box::new(reply)))
}
