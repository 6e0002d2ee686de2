//! Directories that are locked in place of a lock file, by readers who may make none.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::kinds::{
    AFS, CEPH, CODA, FUSE, GFS2, GPFS, KAFS, LUSTRE, NCP, NFS, NINEP, OCFS2, VBOXSF, is_smb,
    kind_of,
};

/// The directory, open so that it can be locked for reading: by itself, so that the lock ends with
/// it. `None` where other machines, or another system through a file system of a program, may write
/// there: they would not see the lock, as such file systems lock files only.
pub(crate) fn open(dir: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    if is_shared_with_others(dir)? {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = || rustix::fs::openat(dir, c".", flags, Mode::empty());
    Ok(Some(rustix::io::retry_on_intr(opened)?))
}

fn is_shared_with_others(dir: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = kind_of(dir)?;
    let network = is_smb(kind) || matches!(kind, NFS | NINEP | AFS | KAFS | CODA | NCP | CEPH);
    let cluster = matches!(kind, OCFS2 | GFS2 | LUSTRE | GPFS);
    Ok(network || cluster || matches!(kind, VBOXSF | FUSE))
}
