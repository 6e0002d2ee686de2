//! How file systems sync, as far as that is known.
//!
//! Three things:
//!
//! - ext4 with its journal and xfs keep the changes of names, sizes and attributes in order: a
//!   rename cannot reach the disk before what was done to the file ahead of it, and the bytes'
//!   write-back is over only when the file's size is a part of that order. POSIX does not
//!   promise this; for these two it has been tested with power cuts. It allows durability with
//!   fewer syncs; see [`crate::write`].
//!
//!   btrfs is not one of them, though it has one log: it records a file's new extents, and so
//!   its size, some time after their write-back is reported to be over. When another
//!   file's sync commits everything in between, a rename reaches the disk and the bytes do not:
//!   the power cuts found empty files.
//! - With these two and btrfs `syncfs` makes everything durable and reports what it could not write.
//!   Linux reports lost data there since 5.8 and a journal that gave up since 5.17. (On ext4
//!   without a journal the device is told to flush before the last blocks are sent to it, so
//!   it is not one of these.)
//! - Some give the blocks of a file that is replaced or removed to other files at once, before
//!   that is on the disk ([`freed_blocks`](super::freed_blocks)).
//!
//! Everything else (network file systems, overlays, FUSE) gets the textbook sequence, file by
//! file. With `HOLDFAST_PUBLISH=textbook` nothing relies on the order of changes.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::{LazyLock, Mutex};

use super::kinds::{BTRFS, EXT, XFS, kind_of};
use super::{ext, freed_blocks, mount_options};
use crate::fs::SyncRules;
use crate::mutex::guard;

/// A mounted file system: its device and its identity. A device may be given another file
/// system while the process lives.
type Mounted = (u64, u64);

static KNOWN: LazyLock<Mutex<HashMap<Mounted, SyncRules>>> = LazyLock::new(Mutex::default);

static MAY_RELY_ON_ORDER: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("HOLDFAST_PUBLISH").is_none_or(|way| way != "textbook"));

/// Whether `syncfs` reports every failure.
static SYNCFS_REPORTS: LazyLock<bool> = LazyLock::new(|| {
    let system = rustix::system::uname();
    let mut numbers = system.release().to_str().unwrap_or_default().split('.');
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    (next(), next()) >= (Some(5), Some(17))
});

/// The rules of the file system that holds something open on `device`.
pub(super) fn sync_rules(open: BorrowedFd<'_>, device: u64) -> SyncRules {
    let Ok(found) = rustix::fs::fstatvfs(open) else { return SyncRules::default() };
    let mut known = guard(&KNOWN);
    let rules = known.entry((device, found.f_fsid));
    *rules.or_insert_with(|| {
        let Ok(kind) = kind_of(open) else { return SyncRules::default() };
        let class = SyncClass::of(kind, device).unwrap_or(SyncClass::Other);
        SyncRules {
            keeps_order: class == SyncClass::InOrder && *MAY_RELY_ON_ORDER,
            syncs_whole: class != SyncClass::Other && *SYNCFS_REPORTS,
            reuses_freed: freed_blocks::are_reused(kind, device),
        }
    })
}

/// Whether an xfs has bytes of files on a second device, which is mounted with it.
fn has_real_time_section(device: u64) -> Option<bool> {
    Some(mount_options::of(device)?.split(',').any(|option| option.starts_with("rtdev=")))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SyncClass {
    /// ext4 with its journal, and xfs.
    InOrder,
    Btrfs,
    Other,
}

impl SyncClass {
    fn of(kind: u64, device: u64) -> Option<SyncClass> {
        match kind {
            // The log flushes the device of ordinary files, and not that of a real-time section.
            XFS if has_real_time_section(device)? => Some(SyncClass::Other),
            XFS => Some(SyncClass::InOrder),
            EXT if ext::has_journal(&ext::device_name(device)?)? => Some(SyncClass::InOrder),
            BTRFS => Some(SyncClass::Btrfs),
            _ => None,
        }
    }
}
