//! The note in a lock file that says who holds it: one line of JSON,
//! `{"pid":…,"hostname":…,"since":…,"command":…}`.
//!
//! It is for people. It is written after the lock has been taken and removed before it is
//! given back; a process that dies leaves it there, so it means nothing unless the lock is
//! held.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// The machine it runs on.
    pub hostname: String,
    /// Since when: milliseconds since 1970.
    pub since: u64,
    /// Its command line, shortened.
    pub command: String,
}

/// As much of the command line as is kept.
const LONGEST_COMMAND: usize = 200;

/// The latest time, in milliseconds since 1970, that JavaScript has dates for.
const LATEST: u64 = 8_640_000_000_000_000;

/// As much of a lock file as is read.
pub(super) const LONGEST_LINE: usize = 4096;

impl Holder {
    /// This process, since then.
    pub(super) fn this_process(since: SystemTime) -> Holder {
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
        Holder {
            pid: std::process::id(),
            hostname: hostname().to_owned(),
            since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            command: command().to_owned(),
        }
    }

    /// Whether the holder is this process.
    pub fn is_this_process(&self) -> bool {
        self.pid == std::process::id() && self.hostname == hostname()
    }

    /// The line as it stands in the lock file.
    pub fn to_line(&self) -> String {
        let Holder { pid, hostname, since, command } = self;
        let value = json!({"pid": pid, "hostname": hostname, "since": since, "command": command});
        format!("{value}\n")
    }

    /// Reads a line. `None` for anything that is not one: the file is open to everybody.
    pub fn from_line(line: &[u8]) -> Option<Holder> {
        let end = line.iter().position(|byte| *byte == b'\n')?;
        let value: Value = serde_json::from_slice(line.get(..end)?).ok()?;
        Some(Holder {
            pid: value.get("pid")?.as_u64()?.try_into().ok()?,
            hostname: value.get("hostname")?.as_str()?.to_owned(),
            since: value.get("since")?.as_u64().filter(|since| *since <= LATEST)?,
            command: value.get("command")?.as_str()?.to_owned(),
        })
    }
}

fn command() -> &'static str {
    use std::sync::OnceLock;
    static COMMAND: OnceLock<String> = OnceLock::new();
    COMMAND.get_or_init(|| {
        let words: Vec<_> =
            std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        words.join(" ").chars().take(LONGEST_COMMAND).collect()
    })
}

fn hostname() -> &'static str {
    use std::sync::OnceLock;
    static HOSTNAME: OnceLock<String> = OnceLock::new();
    HOSTNAME.get_or_init(|| {
        #[cfg(unix)]
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        #[cfg(not(unix))]
        let name = std::env::var("COMPUTERNAME").unwrap_or_default();
        name
    })
}
