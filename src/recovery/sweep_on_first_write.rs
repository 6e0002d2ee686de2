//! Sweeps directories when this process first writes to them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::SystemTime;

use super::recover::sweep;
use crate::fs::FileId;
use crate::fs::os::Os;
use crate::mutex::guard;
use crate::threads::{pool, task};
use crate::write;

/// The directories that have been swept since sweeping was first asked for.
static SWEPT: LazyLock<Mutex<HashSet<FileId>>> = LazyLock::new(Mutex::default);

/// Has every directory swept, once in this process, when it is first written to; or no longer.
pub fn sweep_on_first_write(is_wanted: bool) {
    write::set_dir_hook(is_wanted, sweep_once);
}

/// Sweeps a directory on a thread of its own, so that no write waits for it. What cannot be done
/// there is left for a recovery that a caller waits for.
fn sweep_once(dir: FileId, path: &Path) {
    if !guard(&SWEPT).insert(dir) {
        return;
    }
    let path = path.to_owned();
    task::run(pool(), move || sweep(&Os, &path, SystemTime::now()), drop);
}
