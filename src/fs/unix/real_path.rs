//! Where an open directory is.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// The path of an open directory, without symbolic links. `path` has led to it.
///
/// # Errors
///
/// As for a look at each directory on the way, where the system does not tell in one step.
pub(super) fn of_open_dir(dir: BorrowedFd<'_>, path: &Path) -> io::Result<PathBuf> {
    #[cfg(target_os = "linux")]
    if let Some(path) = as_the_system_says(dir) {
        return Ok(path);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = dir;
    std::fs::canonicalize(path)
}

/// `None` where `/proc` is not mounted, and for a directory outside of the process's root.
#[cfg(target_os = "linux")]
fn as_the_system_says(dir: BorrowedFd<'_>) -> Option<PathBuf> {
    use std::ffi::OsString;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStringExt;

    let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
    let text = rustix::fs::readlink(link, Vec::new()).ok()?;
    let path = PathBuf::from(OsString::from_vec(text.into_bytes()));
    path.has_root().then_some(path)
}
