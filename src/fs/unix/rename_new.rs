//! A rename that replaces nothing.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::AtFlags;
use rustix::io::Errno;

#[cfg(target_os = "linux")]
use super::extended;

/// The kernel or the file system does not support it, or a sandbox forbids it. Of a second name also:
/// not for this file (fs.protected_hardlinks), or it has too many.
const UNSUPPORTED: [Errno; 6] =
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP, Errno::PERM, Errno::MLINK];

/// Gives a file or a directory a name that is free. `false` where the system cannot do it in one step.
pub(super) fn in_one_step(dir: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> Result<bool, Errno> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(dir, from, dir, to, flags) {
            Ok(()) => Ok(true),
            Err(error) if UNSUPPORTED.contains(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    {
        let _ = (dir, from, to);
        Ok(false)
    }
}

/// Gives a file a name that is free. `false` where the system can do it in no way.
pub(super) fn rename_new(dir: BorrowedFd<'_>, from: &OsStr, to: &OsStr) -> io::Result<bool> {
    if in_one_step(dir, from, to)? {
        return Ok(true);
    }
    match rustix::fs::linkat(dir, from, dir, to, AtFlags::empty()) {
        Ok(()) => {}
        Err(error) if UNSUPPORTED.contains(&error) => return Ok(false),
        // So rclone says that it has none.
        #[cfg(target_os = "linux")]
        Err(Errno::IO) if extended::is_of_a_program(dir) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    // The file has its name. If the old one stays, it is the name of an orphaned temp file,
    // which recovery removes.
    let _ = rustix::fs::unlinkat(dir, from, AtFlags::empty());
    Ok(true)
}
