//! The numbers by which the kernel tells types of file systems apart.

use std::io;
use std::os::fd::BorrowedFd;

/// ext2, ext3 and ext4 have the same number.
pub(super) const EXT: u64 = 0xEF53;
pub(super) const XFS: u64 = 0x5846_5342;
pub(super) const BTRFS: u64 = 0x9123_683E;
pub(super) const F2FS: u64 = 0xF2F5_2010;
pub(super) const NILFS: u64 = 0x3434;
pub(super) const BCACHEFS: u64 = 0xCA45_1A4E;
pub(super) const TMPFS: u64 = 0x0102_1994;
pub(super) const OVERLAY: u64 = 0x794C_7630;
pub(super) const ECRYPTFS: u64 = 0xF15F;
pub(super) const FUSE: u64 = 0x6573_5546;

pub(super) const RAMFS: u64 = 0x8584_58F6;
pub(super) const PROC: u64 = 0x9FA0;
pub(super) const VFAT: u64 = 0x4D44;
pub(super) const EXFAT: u64 = 0x2011_BAB0;
pub(super) const NTFS3: u64 = 0x7366_746E;
pub(super) const JFS: u64 = 0x3153_464A;
pub(super) const REISERFS: u64 = 0x5265_4973;
pub(super) const HFSPLUS: u64 = 0x482B;
pub(super) const UDF: u64 = 0x1501_3346;
pub(super) const ZFS: u64 = 0x2FC1_2FC1;
pub(super) const NFS: u64 = 0x6969;
/// The kernel's clients of SMB 1, CIFS, and SMB 2 and later.
pub(super) const SMB: u64 = 0x517B;
pub(super) const CIFS: u64 = 0xFF53_4D42;
pub(super) const SMB2: u64 = 0xFE53_4D42;
pub(super) const NINEP: u64 = 0x0102_1997;
pub(super) const AFS: u64 = 0x5346_414F;
pub(super) const KAFS: u64 = 0x6B41_4653;
pub(super) const CODA: u64 = 0x7375_7245;
pub(super) const NCP: u64 = 0x564C;
pub(super) const CEPH: u64 = 0x00C3_6400;
pub(super) const OCFS2: u64 = 0x7461_636F;
pub(super) const GFS2: u64 = 0x0116_1970;
pub(super) const LUSTRE: u64 = 0x0BD0_0BD0;
pub(super) const GPFS: u64 = 0x4750_4653;
pub(super) const VBOXSF: u64 = 0x786F_4256;

/// The type of the file system that holds something open.
// The type is a signed number on some platforms, of 32 bits on some.
#[allow(clippy::unnecessary_cast)]
pub(super) fn kind_of(open: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::fs::fstatfs(open)?.f_type as u64 & 0xFFFF_FFFF)
}

/// Whether it is the kernel's client of an SMB server.
pub(super) fn is_smb(kind: u64) -> bool {
    matches!(kind, SMB | CIFS | SMB2)
}
