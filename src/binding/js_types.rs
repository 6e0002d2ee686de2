//! Core types as JavaScript objects: what several capabilities share.

use std::time::Duration;

use napi::bindgen_prelude::BigInt;
use napi_derive::napi;

use super::path_text::NativePath;
use crate::error::{BadJson, Damage, Deadlock, Error, ErrorKind, Holder, WalError};
use crate::fs::FoundLimitation;
use crate::write::{Durability, Format, Options, Owner, WriteEvent};

/// An error, an event or the loss of a lock.
#[napi(object, object_from_js = false)]
pub struct Report {
    /// The number of its operation.
    pub id: f64,
    /// Set when the operation has failed.
    pub error: Option<NativeError>,
    /// Set when something is to be logged.
    pub event: Option<NativeEvent>,
    /// Set when the lock that the operation brought has been lost.
    pub lost: Option<NativeError>,
    /// Set when a file system was found to lack something. It is about no operation.
    pub limitation: Option<NativeLimitation>,
}

/// What a file system cannot do.
#[napi(object, object_from_js = false)]
pub struct NativeLimitation {
    #[napi(ts_type = "'lockFiles' | 'setPermissions' | 'syncDirectory'")]
    pub name: &'static str,
    /// Which one it is in this process.
    pub number: u32,
    /// The directory where it showed.
    pub dir: NativePath,
}

impl Report {
    pub(super) fn failed(id: f64, error: Error) -> Report {
        Report { error: Some(error.into()), ..Report::about(id) }
    }

    pub(super) fn happened(id: f64, event: WriteEvent) -> Report {
        Report { event: Some(event.into()), ..Report::about(id) }
    }

    pub(super) fn lost(id: f64, error: Error) -> Report {
        Report { lost: Some(error.into()), ..Report::about(id) }
    }

    pub(super) fn lacking(found: &FoundLimitation) -> Report {
        let dir = found.dir.clone().into();
        let number = u32::try_from(found.number).unwrap_or(u32::MAX);
        let limitation = NativeLimitation { name: found.limitation.name(), number, dir };
        Report { limitation: Some(limitation), ..Report::about(0.0) }
    }

    fn about(id: f64) -> Report {
        Report { id, error: None, event: None, lost: None, limitation: None }
    }
}

/// A stretch of a log that cannot be used.
#[napi(object, object_from_js = false)]
pub struct NativeDamage {
    pub collection: String,
    pub file: String,
    #[napi(ts_type = "'tornTail' | 'unreadable' | 'missing' | 'misplaced' | 'checkpoint'")]
    pub kind: &'static str,
    pub offset: f64,
    pub length: f64,
    pub reason: &'static str,
    /// The last sequence number that was read before it; 0 if there is none.
    pub after: BigInt,
    /// The next one that was read behind it, if there is one.
    pub before: Option<BigInt>,
    /// The name of the file that the bytes were copied to, if they were.
    pub copy: Option<String>,
}

impl From<Damage> for NativeDamage {
    fn from(damage: Damage) -> NativeDamage {
        NativeDamage {
            collection: damage.collection,
            file: damage.file,
            kind: damage.kind.name(),
            offset: damage.offset as f64,
            length: damage.length as f64,
            reason: damage.reason,
            after: damage.after.into(),
            before: damage.before.map(BigInt::from),
            copy: damage.copy,
        }
    }
}

/// The process that holds a lock.
#[napi(object, object_from_js = false)]
pub struct NativeHolder {
    pub pid: u32,
    pub hostname: String,
    /// Milliseconds since 1970.
    pub since: f64,
    pub command: String,
    pub is_this_process: bool,
}

impl From<Holder> for NativeHolder {
    fn from(holder: Holder) -> NativeHolder {
        let is_this_process = holder.is_this_process();
        let Holder { pid, hostname, since, command } = holder;
        NativeHolder { pid, hostname, since: since as f64, command, is_this_process }
    }
}

/// An error as plain fields. The facade makes the `SessionFileError`, so that its stack
/// shows the caller.
#[napi(object, object_from_js = false)]
pub struct NativeError {
    #[napi(
        ts_type = "'system' | 'cancelled' | 'locked' | 'deadlock' | 'lost' | 'json' | 'unsettled' | 'wal' | 'internal'"
    )]
    pub kind: &'static str,
    /// The name of the errno, or a code of holdfast's.
    pub code: &'static str,
    /// The cause's message, in Node's form.
    pub message: String,
    pub syscall: Option<&'static str>,
    pub path: Option<NativePath>,
    pub dest: Option<NativePath>,
    pub attempts: u32,
    /// The error may be temporary, and no attempt was left.
    pub exhausted: bool,
    pub committed: bool,
    /// Of a lock that is held: how many milliseconds it was waited for, if at all,
    pub waited: Option<f64>,
    /// which process has it, if that is known,
    pub holder: Option<NativeHolder>,
    /// and whether it is held in this process.
    pub in_this_process: Option<bool>,
    /// Of text that is not JSON: where.
    pub line: Option<f64>,
    pub column: Option<f64>,
    /// The path that it was for, of several.
    pub subject: Option<NativePath>,
    /// Of a lock that was lost: the system's error, in Node's form.
    pub cause: Option<String>,
    /// Of a log that is damaged: how.
    pub damage: Option<NativeDamage>,
    /// Of entries that have been released: where the log starts.
    pub first: Option<BigInt>,
    /// What a path names where a regular file is needed.
    pub found: Option<&'static str>,
}

impl From<Error> for NativeError {
    fn from(error: Error) -> NativeError {
        let text = NativePath::from;
        let mut native = NativeError {
            kind: "internal",
            code: error.kind.code(),
            message: error.kind.to_string(),
            syscall: None,
            path: None,
            dest: None,
            attempts: error.attempts,
            exhausted: error.exhausted,
            committed: error.committed,
            waited: None,
            holder: None,
            in_this_process: None,
            line: None,
            column: None,
            subject: Some(text(error.path)),
            cause: None,
            damage: None,
            first: None,
            found: None,
        };
        native.kind = match error.kind {
            ErrorKind::System(failure) => {
                native.syscall = Some(failure.syscall);
                native.found = failure.found;
                native.path = failure.path.map(text);
                native.dest = failure.dest.map(text);
                "system"
            }
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Locked(contention) => {
                native.path = Some(text(contention.path));
                native.waited = contention.waited.map(milliseconds);
                native.holder = contention.holder.map(NativeHolder::from);
                native.in_this_process = Some(contention.in_this_process);
                "locked"
            }
            ErrorKind::Deadlock(deadlock) => {
                if let Deadlock::Held(path) = deadlock {
                    native.path = Some(text(path));
                }
                "deadlock"
            }
            ErrorKind::Lost(lost) => {
                native.path = Some(text(lost.path));
                native.syscall = lost.failure.as_ref().map(|failure| failure.syscall);
                native.cause = lost.failure.map(|failure| failure.to_string());
                "lost"
            }
            ErrorKind::EmptyJson => "json",
            ErrorKind::BadJson(bad) => {
                native.line = Some(bad.line as f64);
                native.column = Some(bad.column as f64);
                "json"
            }
            ErrorKind::Unsettled(unsettled) => {
                native.path = Some(text(unsettled.path));
                "unsettled"
            }
            ErrorKind::Wal(error) => {
                match error {
                    WalError::Damaged(damage) => native.damage = Some((*damage).into()),
                    WalError::Released { first, .. } => native.first = Some(first.into()),
                    _ => {}
                }
                "wal"
            }
            ErrorKind::Internal(_) => "internal",
        };
        native
    }
}

/// One entry for the log; the fields that an entry has depend on its name.
#[napi(object, object_from_js = false)]
pub struct NativeEvent {
    #[napi(
        ts_type = "'starting' | 'written' | 'renamed' | 'completed' | 'failed' | 'cleanedUp' | 'cleanupFailed' | 'merged' | 'retrying'"
    )]
    pub name: &'static str,
    pub temp_path: Option<NativePath>,
    pub size: Option<f64>,
    /// Milliseconds.
    pub duration: Option<f64>,
    pub code: Option<&'static str>,
    pub message: Option<String>,
    pub attempt: Option<u32>,
}

impl From<WriteEvent> for NativeEvent {
    fn from(event: WriteEvent) -> NativeEvent {
        let mut native = NativeEvent {
            name: "",
            temp_path: None,
            size: None,
            duration: None,
            code: None,
            message: None,
            attempt: None,
        };
        let temp_path;
        (native.name, temp_path) = match event {
            WriteEvent::Starting { temp_path, size } => {
                native.size = Some(size as f64);
                ("starting", Some(temp_path))
            }
            WriteEvent::Written { temp_path, size, duration } => {
                native.size = Some(size as f64);
                native.duration = Some(milliseconds(duration));
                ("written", Some(temp_path))
            }
            WriteEvent::Renamed { temp_path, duration } => {
                native.duration = Some(milliseconds(duration));
                ("renamed", Some(temp_path))
            }
            WriteEvent::Completed { size, duration } => {
                native.size = Some(size as f64);
                native.duration = Some(milliseconds(duration));
                ("completed", None)
            }
            WriteEvent::Failed { temp_path, code, message } => {
                native.code = Some(code);
                native.message = Some(message);
                ("failed", Some(temp_path))
            }
            WriteEvent::CleanedUp { temp_path } => ("cleanedUp", Some(temp_path)),
            WriteEvent::CleanupFailed { temp_path, code } => {
                native.code = Some(code);
                ("cleanupFailed", Some(temp_path))
            }
            WriteEvent::Merged { size } => {
                native.size = Some(size as f64);
                ("merged", None)
            }
            WriteEvent::Retrying { attempt, delay, code } => {
                native.attempt = Some(attempt);
                native.duration = Some(milliseconds(delay));
                native.code = Some(code);
                ("retrying", None)
            }
        };
        native.temp_path = temp_path.map(NativePath::from);
        native
    }
}

/// How to write. What is left out has the default of the public contract; the facade has
/// checked the rest.
#[napi(object)]
#[derive(Default)]
pub struct WriteOptions {
    #[napi(ts_type = "'none' | 'file' | 'full'")]
    pub durability: Option<String>,
    pub mode: Option<u32>,
    pub new_file_mode: Option<u32>,
    pub create_only: Option<bool>,
    /// `false`: the file belongs to the process, and not to the owner of the file before.
    pub keep_owner: Option<bool>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub follow_symlinks: Option<bool>,
    pub make_dirs: Option<bool>,
    /// Attempts in all.
    pub retries: Option<u32>,
    /// Milliseconds.
    pub retry_delay: Option<f64>,
    /// Whether the bytes must be JSON.
    pub is_json: Option<bool>,
}

impl From<WriteOptions> for Options {
    fn from(given: WriteOptions) -> Options {
        let default = Options::default();
        Options {
            durability: given
                .durability
                .and_then(|name| Durability::named(&name))
                .unwrap_or(default.durability),
            mode: given.mode,
            new_file_mode: given.new_file_mode.unwrap_or(default.new_file_mode),
            create_only: given.create_only.unwrap_or(default.create_only),
            owner: match (given.uid, given.gid, given.keep_owner) {
                (Some(uid), Some(gid), _) => Owner::Set { uid, gid },
                (_, _, Some(false)) => Owner::Process,
                _ => Owner::Keep,
            },
            follow_symlinks: given.follow_symlinks.unwrap_or(default.follow_symlinks),
            make_dirs: given.make_dirs.unwrap_or(default.make_dirs),
            attempts: given.retries.unwrap_or(default.attempts),
            retry_delay: given.retry_delay.map_or(default.retry_delay, |milliseconds| {
                Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or(default.retry_delay)
            }),
            validate: (given.is_json == Some(true)).then_some(Format::Json),
            only: None,
        }
    }
}

/// Where a text stops being JSON.
#[napi(object, object_from_js = false)]
pub struct NativeBadJson {
    pub message: String,
    pub line: f64,
    pub column: f64,
}

impl From<BadJson> for NativeBadJson {
    fn from(bad: BadJson) -> NativeBadJson {
        NativeBadJson { message: bad.message, line: bad.line as f64, column: bad.column as f64 }
    }
}

/// How long to wait, in milliseconds; `None`, for ever, if that is infinite.
pub(super) fn timeout(milliseconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
}

/// A time as JavaScript counts it. Whole milliseconds stay whole.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}
