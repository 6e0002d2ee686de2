//! Folders that are swept as this process first writes to them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::SystemTime;

use super::sweep;
use crate::fs::FileId;
use crate::fs::os::Os;
use crate::io::{pool, task};
use crate::mutex::guard;
use crate::write;

/// The folders that have been written to since they were to be swept.
static SEEN: LazyLock<Mutex<HashSet<FileId>>> = LazyLock::new(Mutex::default);

/// Has every folder swept, once in this process, when it is first written to; or no more.
pub fn sweep_on_first_write(is_wanted: bool) {
    write::watch_folders(is_wanted, entered);
}

/// Sweeps a folder, on a thread of its own and in nobody's way. What cannot be done there is
/// left for a recovery that somebody waits for.
fn entered(folder: FileId, path: &Path) {
    if !guard(&SEEN).insert(folder) {
        return;
    }
    let path = path.to_owned();
    task::run(pool(), move || sweep(&Os, &path, SystemTime::now()), drop);
}
