//! The steps of an atomic write, each one system call.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};

/// Opens the directory that the files are in.
pub fn open_dir(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(Path::new(path), flags, Mode::empty())?)
}

/// The names of a temp file and its target, made before the clock starts.
pub fn names(index: usize) -> (String, String) {
    (format!(".file-{index}.json.{index:016x}.tmp"), format!("file-{index}.json"))
}

/// Creates the temp file and writes the bytes.
pub fn stage(dir: &OwnedFd, temp: &str, bytes: &[u8], lock: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, temp, flags, Mode::from_raw_mode(0o644))?;
    if lock {
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = &rest[rustix::io::write(&file, rest)?..];
    }
    Ok(file)
}

/// Replaces the target with the temp file.
pub fn rename(dir: &OwnedFd, temp: &str, target: &str) -> io::Result<()> {
    Ok(rustix::fs::renameat(dir, temp, dir, target)?)
}
