//! The working directory, where its path does not lead to it: a directory above it that the process
//! may not search, another file system mounted over it, another directory of that name.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
#[cfg(target_os = "linux")]
use std::sync::Mutex;

#[cfg(target_os = "linux")]
use rustix::fs::{Mode, OFlags};

use crate::error::Code;
#[cfg(target_os = "linux")]
use crate::mutex::guard;

/// Working directories that are held open, for as long as the process lives: there are hardly ever
/// more than one, and a call under way may use its path.
#[cfg(target_os = "linux")]
static HELD: Mutex<Vec<((u64, u64), OwnedFd)>> = Mutex::new(Vec::new());

/// How many there may be.
#[cfg(target_os = "linux")]
const MOST_HELD: usize = 64;

/// By which path files in the working directory are reached, which the system calls `path`. `None`
/// if by that.
///
/// # Errors
///
/// `ENOENT` when the directory has been removed.
pub fn working_dir(path: &Path) -> io::Result<Option<PathBuf>> {
    let own = rustix::fs::stat(".")?;
    let named = rustix::fs::stat(path);
    if named.is_ok_and(|named| (named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)) {
        return Ok(None);
    }
    if rustix::process::getcwd(Vec::new()).is_err_and(|error| error == rustix::io::Errno::NOENT) {
        return Err(Code::ENOENT.error());
    }
    #[cfg(target_os = "linux")]
    return held_path((own.st_dev, own.st_ino));
    // Other systems have no names for what is open.
    #[cfg(not(target_os = "linux"))]
    Ok(None)
}

/// The path of the working directory, which has been found to be this one, by its descriptor.
#[cfg(target_os = "linux")]
fn held_path(id: (u64, u64)) -> io::Result<Option<PathBuf>> {
    let mut held = guard(&HELD);
    let known = held.iter().find(|(other, _)| *other == id).map(|(_, dir)| dir.as_raw_fd());
    let number = match known {
        Some(number) => number,
        None if held.len() < MOST_HELD => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open(".", flags, Mode::empty())?;
            let number = dir.as_raw_fd();
            held.push((id, dir));
            number
        }
        None => return Ok(None),
    };
    let path = PathBuf::from(format!("/proc/self/fd/{number}"));
    // Where `/proc` is not mounted the system's path has to do.
    Ok(rustix::fs::stat(&path).is_ok().then_some(path))
}
