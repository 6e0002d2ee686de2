//! What a file system cannot do and holdfast does without. It is reported once for each file
//! system, so that a program can tell its users what they do not have.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use crate::mutex::guard;

/// Something that a file system cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limitation {
    /// It cannot sync a directory: a power cut may undo the last changes of names.
    SyncDir,
    /// It cannot change the permission bits of a file: one that is replaced may lose some.
    SetMode,
    /// It has no locks of whole files: whether the process lives that has made a temp file is told
    /// by the age of the file alone.
    LockFile,
}

impl Limitation {
    /// What users see.
    pub fn name(self) -> &'static str {
        match self {
            Limitation::SyncDir => "syncDirectory",
            Limitation::SetMode => "setPermissions",
            Limitation::LockFile => "lockFiles",
        }
    }
}

/// A limitation that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLimitation {
    /// Which one of this process it is, from 0.
    pub number: usize,
    /// What the file system cannot do.
    pub limitation: Limitation,
    /// The directory where it showed.
    pub dir: PathBuf,
}

/// Is called with each limitation that is found, once for each file system.
pub type LimitationHook = fn(&FoundLimitation);

/// A file system where it is mounted: its device, and [`super::FileSystem::mount_number`]. A
/// device's number may be given to another file system while the process lives.
type Mounted = (u64, u64);

static HOOK: OnceLock<LimitationHook> = OnceLock::new();
static FOUND: Mutex<Vec<(Mounted, FoundLimitation)>> = Mutex::new(Vec::new());

/// Sets what is called from now on. There is one hook; the first one stays.
pub fn set_limitation_hook(hook: LimitationHook) {
    let _ = HOOK.set(hook);
}

/// What has been found in this process so far.
pub fn found_limitations() -> Vec<FoundLimitation> {
    guard(&FOUND).iter().map(|(_, found)| found.clone()).collect()
}

/// Takes note of a limitation of a file system, which showed in `dir`. It is for people only, and
/// nothing is decided by it.
#[cold]
#[inline(never)]
pub(crate) fn found(limitation: Limitation, mounted: Mounted, dir: &Path) {
    let mut all = guard(&FOUND);
    if all.iter().any(|(of, known)| *of == mounted && known.limitation == limitation) {
        return;
    }
    let found = FoundLimitation { number: all.len(), limitation, dir: dir.to_owned() };
    all.push((mounted, found.clone()));
    drop(all);
    if let Some(hook) = HOOK.get() {
        hook(&found);
    }
}
