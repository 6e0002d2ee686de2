//! Tells of changes in directories: one inotify instance and one thread for the process, for as long
//! as anything is watched.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::kinds::*;
use crate::fs::{DirWatch, OnChange};
use crate::mutex::guard;

/// A wait needs little stack. What is not touched costs no memory.
const STACK: usize = 256 * 1024;

/// The pause after an error that no one knows.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Room for some events: the kernel merges those that are alike until they are read.
const EVENTS: usize = 4096;

/// What is watched in this process.
#[derive(Default)]
struct Watches {
    /// `None` while nothing is watched.
    instance: Option<Arc<OwnedFd>>,
    /// By the kernel's number of the directory.
    watched: HashMap<i32, Vec<Watched>>,
    last: u64,
}

struct Watched {
    number: u64,
    changed: Arc<OnChange>,
}

static WATCHES: Mutex<Option<Watches>> = Mutex::new(None);

/// Has `changed` called after each change in a directory, until what this returns is dropped. `None`
/// where the system may not tell of every change, or has no more instances or watches for this user.
pub(super) fn watch(dir: BorrowedFd<'_>, changed: OnChange) -> Option<DirWatch> {
    if !tells_of_all_changes(dir) {
        return None;
    }
    let mut watches = guard(&WATCHES);
    let watches = watches.get_or_insert_default();
    let known = watches.instance.as_ref().map(Arc::clone);
    let instance = match &known {
        Some(instance) => Arc::clone(instance),
        None => Arc::new(inotify::init(CreateFlags::CLOEXEC).ok()?),
    };
    let flags = WatchFlags::MODIFY
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    // There is no call for an open directory; its link in `/proc` leads to nothing else.
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    let wd = inotify::add_watch(&*instance, path, flags).ok()?;
    if known.is_none() {
        let own = Arc::clone(&instance);
        let thread = std::thread::Builder::new().name("holdfast-watch".to_owned());
        thread.stack_size(STACK).spawn(move || tell(&own)).ok()?;
        watches.instance = Some(instance);
    }
    watches.last += 1;
    let number = watches.last;
    let changed = Arc::new(changed);
    watches.watched.entry(wd).or_default().push(Watched { number, changed });
    Some(Box::new(OwnWatch { wd, number }))
}

/// Whether the kernel hears of every change in the directory: on a file system of this machine, and of
/// no program.
fn tells_of_all_changes(dir: BorrowedFd<'_>) -> bool {
    kind_of(dir).is_ok_and(|kind| {
        matches!(kind, EXT | XFS | BTRFS | TMPFS | F2FS | OVERLAY | RAMFS | VFAT | EXFAT | NTFS3)
            || matches!(kind, JFS | NILFS | REISERFS | HFSPLUS | UDF | ZFS | BCACHEFS | ECRYPTFS)
    })
}

/// Tells of changes until nothing is watched any more.
fn tell(instance: &OwnedFd) {
    let mut room = [MaybeUninit::uninit(); EVENTS];
    let mut events = Reader::new(instance, &mut room);
    loop {
        let (told, name) = match events.next() {
            Ok(event) => {
                let told = who_is_told(event.wd(), event.events());
                (told, event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()))
            }
            Err(Errno::INTR) => continue,
            // Nothing else is known to make this fail. Those that watch look now and then, at least.
            Err(_) => {
                std::thread::sleep(AFTER_ERROR);
                (who_is_told(0, ReadFlags::QUEUE_OVERFLOW), None)
            }
        };
        for changed in told {
            changed(name.as_deref().unwrap_or_default());
        }
        let mut watches = guard(&WATCHES);
        if let Some(watches) = watches.as_mut().filter(|watches| watches.watched.is_empty()) {
            watches.instance = None;
            return;
        }
    }
}

/// Who is to be told of an event.
fn who_is_told(wd: i32, event: ReadFlags) -> Vec<Arc<OnChange>> {
    let mut watches = guard(&WATCHES);
    let Some(watches) = watches.as_mut() else { return Vec::new() };
    if event.contains(ReadFlags::IGNORED) {
        // The directory is gone, or is not watched any more.
        let gone = watches.watched.remove(&wd).unwrap_or_default();
        return gone.into_iter().map(|each| each.changed).collect();
    }
    // Some events were lost, so all are told.
    let is_lost = event.contains(ReadFlags::QUEUE_OVERFLOW);
    let lists = watches.watched.iter().filter(|(number, _)| is_lost || **number == wd);
    lists.flat_map(|(_, list)| list).map(|each| Arc::clone(&each.changed)).collect()
}

/// Ends a watch when it is dropped.
struct OwnWatch {
    wd: i32,
    number: u64,
}

impl Drop for OwnWatch {
    fn drop(&mut self) {
        let mut watches = guard(&WATCHES);
        let Some(watches) = watches.as_mut() else { return };
        let Some(list) = watches.watched.get_mut(&self.wd) else { return };
        let before = list.len();
        list.retain(|each| each.number != self.number);
        if list.is_empty() && before > 0 {
            watches.watched.remove(&self.wd);
            // The event of it wakes the thread, which ends if nothing else is watched.
            if let Some(instance) = &watches.instance {
                let _ = inotify::remove_watch(&**instance, self.wd);
            }
        }
    }
}
