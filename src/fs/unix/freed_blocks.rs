//! Which file systems give the blocks of a file that is replaced or removed to other files before
//! that is on the disk.
//!
//! There a power cut brings the old name back, and what it leads to has the bytes of whatever was
//! written since. It is so with
//!
//! - ext4 mounted with `data=writeback`, ext3 likewise. (With `data=ordered` and `data=journal`
//!   freed blocks are kept back until the journal has them.)
//! - ext4 without a journal, and ext2: nothing knows there when a removal is on the disk.
//! - overlays and eCryptfs, whose files are on another file system, as soon as one of the ext file
//!   systems of this machine is such a one: which it is cannot be told.
//! - every other file system on a block device that nothing is known about: FAT and exFAT, which
//!   have no journal, and JFS, which frees blocks in memory before its log is written.
//!
//! It is not so with xfs (an extent stays busy until the log has its release), btrfs and bcachefs
//! (what the last commit refers to is not written over), f2fs and NILFS2 (a segment that the last
//! checkpoint refers to is not written over), and those that are in memory. On a network file system and
//! with FUSE the server decides when a block is free, and does not know what is open here.

use super::ext::{self, DataMode};
use super::kinds::{BCACHEFS, BTRFS, ECRYPTFS, EXT, F2FS, FUSE, NILFS, OVERLAY, XFS};

/// Whether this type of file systems does so on this device, or may do so.
pub(super) fn are_reused(kind: u64, device: u64) -> bool {
    match kind {
        XFS | BTRFS | F2FS | NILFS | BCACHEFS | FUSE => false,
        EXT => are_reused_by_ext(device),
        OVERLAY | ECRYPTFS => are_reused_by_any_ext(),
        // Without a block device there is no disk below, or it is another machine's.
        _ => rustix::fs::major(device) != 0,
    }
}

fn are_reused_by_ext(device: u64) -> bool {
    let name = ext::device_name(device);
    let has_journal = name.as_deref().and_then(ext::has_journal) == Some(true);
    // The super block may have another default than the kernel, so options that are not shown say
    // nothing.
    let mode = name.as_deref().and_then(ext::mode_in_force).or_else(|| ext::shown_mode(device));
    !has_journal || mode != Some(DataMode::Kept)
}

/// Whether one of the mounted ext file systems does so.
fn are_reused_by_any_ext() -> bool {
    let listed = match std::fs::read_dir("/proc/fs/ext4") {
        Ok(listed) => listed,
        // None is mounted.
        Err(error) => return error.kind() != std::io::ErrorKind::NotFound,
    };
    listed.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_str();
        name.and_then(ext::has_journal) != Some(true)
            || name.and_then(ext::mode_in_force) != Some(DataMode::Kept)
    })
}

#[cfg(test)]
mod tests {
    use super::super::kinds::{TMPFS, VFAT};
    use super::*;

    #[test]
    fn what_is_in_memory_or_on_another_machine_is_not_concerned() {
        let (memory, disk) = (rustix::fs::makedev(0, 40), rustix::fs::makedev(7, 1));
        assert!(!are_reused(TMPFS, memory));
        assert!(are_reused(VFAT, disk));
        for kind in [XFS, BTRFS, F2FS, NILFS, BCACHEFS, FUSE] {
            assert!(!are_reused(kind, disk));
        }
    }
}
