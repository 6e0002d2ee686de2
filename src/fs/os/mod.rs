//! The real file system, one file per platform with the same names in each.

#[cfg(target_os = "linux")]
pub(crate) mod remembered;
#[cfg(target_os = "linux")]
mod sync_rules;

#[cfg(unix)]
mod farewell;
#[cfg(unix)]
pub use farewell::{Farewell, watch_signals};

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub use unix::{File, Folder, Os};

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub use windows::{File, Folder, Os};
#[cfg(windows)]
pub(crate) use windows::{check, code_of_raw, overlapped, raw_of_code};
