//! What a lock file is called: `.<basename>.lock`.

use std::ffi::{OsStr, OsString};
use std::ops::Deref;

use crate::fs::os::Os;
use crate::resolve::Target;
use crate::short_name::fit;

const SUFFIX: &str = ".lock";

/// What is appended to the name of a directory for the lock around it.
const AROUND: &str = ".vectra";

/// The lock file of the root of a volume, in it: that of a file of a name that no user gives.
const ROOT: &str = ".holdfast.root.lock";

/// What a lock file is called in its directory, and which file it is for.
#[derive(Clone, Debug)]
pub(super) struct LockName {
    pub(super) file: OsString,
    /// The name of the file that is locked. The lock file is made for those who may use that.
    pub(super) guarded: OsString,
}

impl LockName {
    /// That of a file.
    pub(super) fn of(target: &Target<Os>) -> LockName {
        LockName { file: lock_file_name(target, &target.name), guarded: target.name.clone() }
    }

    /// That of a lock around a directory which has a lock in it, too.
    pub(super) fn around(target: &Target<Os>) -> LockName {
        let mut name = target.name.clone();
        name.push(AROUND);
        LockName { file: lock_file_name(target, &name), guarded: target.name.clone() }
    }

    /// That of the root of a volume, in it.
    pub(super) fn of_root() -> LockName {
        LockName { file: ROOT.into(), guarded: ".".into() }
    }
}

/// The name of the lock file.
impl Deref for LockName {
    type Target = OsStr;

    fn deref(&self) -> &OsStr {
        &self.file
    }
}

/// The name of the lock file of a file. Versions of holdfast exclude each other by this name, so
/// where 255 bytes fit it never changes. Where they do not, it is made within the limit that every
/// process finds in the same way.
fn lock_file_name(target: &Target<Os>, basename: &OsStr) -> OsString {
    let limit = target.dir.name_limit(|limit| name_within(basename, limit));
    name_within(basename, limit)
}

/// `.<basename>.lock`. Where the name would be longer than `limit` its basename part is shortened
/// and followed by a hash of all of it: `.<beginning>.<16 hex digits>.lock`.
fn name_within(basename: &OsStr, limit: usize) -> OsString {
    let mut name = OsString::from(".");
    name.push(fit(basename, limit.saturating_sub(1 + SUFFIX.len())));
    name.push(SUFFIX);
    name
}
