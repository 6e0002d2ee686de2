//! Directories that are locked in place of a lock file, by readers who may make none.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

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
    const NFS: u64 = 0x6969;
    const SMB: u64 = 0x517B;
    const CIFS: u64 = 0xFF53_4D42;
    const SMB2: u64 = 0xFE53_4D42;
    const NINEP: u64 = 0x0102_1997;
    const AFS: u64 = 0x5346_414F;
    const KAFS: u64 = 0x6B41_4653;
    const CODA: u64 = 0x7375_7245;
    const NCP: u64 = 0x564C;
    const CEPH: u64 = 0x00C3_6400;
    const OCFS2: u64 = 0x7461_636F;
    const GFS2: u64 = 0x0116_1970;
    const LUSTRE: u64 = 0x0BD0_0BD0;
    const GPFS: u64 = 0x4750_4653;
    const VBOXSF: u64 = 0x786F_4256;
    const FUSE: u64 = 0x6573_5546;
    // The type has 32 bits, and a sign on some platforms.
    #[allow(clippy::unnecessary_cast)]
    let kind = rustix::fs::fstatfs(dir)?.f_type as u64 & 0xFFFF_FFFF;
    let network = [NFS, SMB, CIFS, SMB2, NINEP, AFS, KAFS, CODA, NCP, CEPH];
    let clusters = [OCFS2, GFS2, LUSTRE, GPFS];
    Ok(network.contains(&kind) || clusters.contains(&kind) || [VBOXSF, FUSE].contains(&kind))
}
