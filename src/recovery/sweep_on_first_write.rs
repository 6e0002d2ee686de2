//! Directories that are swept as this process first writes to them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::SystemTime;

use super::sweep;
use crate::fs::FileId;
use crate::fs::os::Os;
use crate::mutex::guard;
use crate::threads::{pool, task};
use crate::write;

/// The directories that have been written to since they were to be swept.
static SEEN: LazyLock<Mutex<HashSet<FileId>>> = LazyLock::new(Mutex::default);

/// Has every directory swept, once in this process, when it is first written to; or no more.
pub fn sweep_on_first_write(is_wanted: bool) {
    write::set_dir_hook(is_wanted, entered);
}

/// Sweeps a directory, on a thread of its own and in nobody's way. What cannot be done there is
/// left for a recovery that somebody waits for.
fn entered(dir: FileId, path: &Path) {
    if !guard(&SEEN).insert(dir) {
        return;
    }
    let path = path.to_owned();
    task::run(pool(), move || sweep(&Os, &path, SystemTime::now()), drop);
}
