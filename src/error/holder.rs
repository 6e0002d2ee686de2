//! The process that holds a lock, as an error and the note in a lock file name it.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// The process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// The machine it runs on.
    pub hostname: String,
    /// Since when: milliseconds since 1970.
    pub since: u64,
    /// The name of its program, without any arguments: they may be secrets.
    pub command: String,
}

/// How many characters of the name are kept.
const LONGEST_COMMAND: usize = 200;

impl Holder {
    /// This process, holding the lock since then.
    pub fn this_process(since: SystemTime) -> Holder {
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
}

static PROGRAM: OnceLock<String> = OnceLock::new();

/// Names the program that this process runs, unless it has a name already: a script, where the
/// executable says nothing.
pub fn set_program(name: &str) {
    PROGRAM.get_or_init(|| name.chars().take(LONGEST_COMMAND).collect());
}

fn command() -> &'static str {
    PROGRAM.get_or_init(|| {
        let executable = std::env::args_os().next().unwrap_or_default();
        let name = Path::new(&executable).file_name().unwrap_or_default().to_string_lossy();
        name.chars().take(LONGEST_COMMAND).collect()
    })
}

fn hostname() -> &'static str {
    static HOSTNAME: OnceLock<String> = OnceLock::new();
    HOSTNAME.get_or_init(|| {
        #[cfg(unix)]
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        #[cfg(not(unix))]
        let name = std::env::var("COMPUTERNAME").unwrap_or_default();
        name
    })
}
