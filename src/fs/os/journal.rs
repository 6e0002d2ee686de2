//! Which file systems keep the changes of names, sizes and attributes in order.
//!
//! On them a rename cannot reach the disk before what was done to the file ahead of it, and
//! that allows a shorter way to durability; see [`crate::write`]. POSIX does not promise it, so
//! only those are named here for which it has been tried with power cuts: ext4 with its
//! journal, xfs and btrfs. Everything else (network file systems, overlays, FUSE) gets the
//! textbook sequence, and so does everything when `HOLDFAST_PUBLISH` is `textbook`.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::{LazyLock, Mutex, PoisonError};

/// ext2, ext3 and ext4 have the same number.
const EXT: u64 = 0xEF53;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683E;

/// A mounted file system: its device, its type and its identity. A device may be given
/// another file system while the process lives.
type Mounted = (u64, u64, u64);

static KNOWN: LazyLock<Mutex<HashMap<Mounted, bool>>> = LazyLock::new(Mutex::default);

static IS_ALLOWED: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("HOLDFAST_PUBLISH").is_none_or(|way| way != "textbook"));

/// Whether the file system of an open file on `device` keeps its metadata in order. Where
/// that cannot be told it is taken not to.
pub(super) fn keeps_order(file: BorrowedFd<'_>, device: u64) -> bool {
    if !*IS_ALLOWED {
        return false;
    }
    let (Ok(found), Ok(identity)) = (rustix::fs::fstatfs(file), rustix::fs::fstatvfs(file)) else {
        return false;
    };
    // The type is a signed number on some platforms, but never negative.
    let Ok(kind) = u64::try_from(found.f_type) else { return false };
    let mounted = (device, kind, identity.f_fsid);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    *known.entry(mounted).or_insert_with(|| match kind {
        XFS | BTRFS => true,
        EXT => has_journal(device).unwrap_or(false),
        _ => false,
    })
}

/// Whether an ext file system has a journal. Without one (ext2, and ext4 made so) nothing is
/// kept in order.
fn has_journal(device: u64) -> Option<bool> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let place = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let name = place.file_name()?.to_str()?;
    // The number of the thread that commits the journal; there is none without a journal.
    let thread = std::fs::read_to_string(format!("/sys/fs/ext4/{name}/journal_task")).ok()?;
    Some(thread.trim().parse::<u32>().is_ok())
}
