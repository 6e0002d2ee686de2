//! The process that holds a lock, as an error and the note in a lock file name it.

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
    /// Its command line, shortened.
    pub command: String,
}

/// How many characters of the command line are kept.
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
