//! Extended attributes: the access control list of a file, its label, and what users have set.
//!
//! What the system itself takes away when a file gets another content is not kept: capabilities
//! (`security.capability`), and signatures of the content (`security.ima`, `security.evm`). Nor is
//! what layers of file systems note for themselves (`trusted.overlay.opaque`).

use std::ffi::{CStr, OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::kinds::{FUSE, kind_of};
use crate::fs::{ACCESS_LIST, ExtendedAttribute, ExtendedAttributes};

/// The lists of NFS 4 and of file systems that have the same kind.
const OTHER_LISTS: [&[u8]; 2] = [b"system.nfs4_acl", b"system.richacl"];

const LABEL: &[u8] = b"security.selinux";

/// The system's limit for a value, and for all names of a file.
const LARGEST: usize = 1 << 16;

fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name == ACCESS_LIST.as_bytes()
        || name == LABEL
        || OTHER_LISTS.contains(&name)
}

/// Those of what a name in a directory stands for.
///
/// The system has had a call for this only since Linux 6.13. Before, a name in an open directory
/// is reached by the directory's name in `/proc`. Where that is not mounted, the file is opened.
pub(super) fn of_name(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<ExtendedAttributes>> {
    // Names are shorter.
    let mut path = [0; 320];
    let mut rest = path.as_mut_slice();
    let written = write!(rest, "/proc/self/fd/{}/", dir.as_raw_fd())
        .and_then(|()| rest.write_all(name.as_bytes()))
        .and_then(|()| rest.write_all(b"\0"));
    if written.is_ok()
        && let Ok(path) = CStr::from_bytes_until_nul(&path)
    {
        let found = read(
            |list| rustix::fs::llistxattr(path, list),
            |attribute, value| rustix::fs::lgetxattr(path, attribute, value),
        );
        match found {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => {}
            // A program that has no answer (rclone). What there is cannot be known.
            Err(Errno::IO) if is_of_a_program(dir) => return Ok(None),
            found => return Ok(Some(found?)),
        }
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(file) => {
            use std::os::fd::AsFd;
            of_file(file.as_fd())
        }
        // It has been removed, or become a link.
        Err(Errno::NOENT | Errno::LOOP) => Ok(Some(ExtendedAttributes::default())),
        Err(Errno::ACCESS | Errno::PERM | Errno::TXTBSY) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a program serves the file system (FUSE).
pub(super) fn is_of_a_program(dir: BorrowedFd<'_>) -> bool {
    kind_of(dir).is_ok_and(|kind| kind == FUSE)
}

/// Those of an open file.
pub(super) fn of_file(file: BorrowedFd<'_>) -> io::Result<Option<ExtendedAttributes>> {
    let found = read(
        |list| rustix::fs::flistxattr(file, list),
        |attribute, value| rustix::fs::fgetxattr(file, attribute, value),
    );
    match found {
        Err(Errno::IO) if is_of_a_program(file) => Ok(None),
        found => Ok(Some(found?)),
    }
}

pub(super) fn set(file: BorrowedFd<'_>, name: &OsStr, value: Option<&[u8]>) -> io::Result<()> {
    let outcome = match value {
        Some(value) => rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()),
        None => match rustix::fs::fremovexattr(file, name) {
            // There is none.
            Err(Errno::NODATA) => Ok(()),
            outcome => outcome,
        },
    };
    Ok(outcome?)
}

/// Reads the names with `list` and the values with `get`. A file without any takes one call.
fn read(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&OsStr, &mut [u8]) -> Result<usize, Errno>,
) -> Result<ExtendedAttributes, Errno> {
    let mut few = [0; 512];
    let mut many = Vec::new();
    let names = match list(&mut few) {
        // The file system has none.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(Errno::RANGE) => {
            many.resize(LARGEST, 0);
            list(&mut many)?
        }
        listed => listed?,
    };
    if names == 0 {
        return Ok(ExtendedAttributes::default());
    }
    let names = if many.is_empty() { few.get(..names) } else { many.get(..names) };
    let names = names.unwrap_or_default().split(|byte| *byte == 0);
    let mut attributes = Vec::new();
    for name in names.filter(|name| is_kept(name)) {
        let mut value = vec![0; 256];
        let got = match get(OsStr::from_bytes(name), &mut value) {
            Err(Errno::RANGE) => {
                value.resize(LARGEST, 0);
                get(OsStr::from_bytes(name), &mut value)
            }
            got => got,
        };
        match got {
            Ok(length) => {
                value.truncate(length);
                let name = OsString::from_vec(name.to_owned());
                attributes.push(ExtendedAttribute { name, value });
            }
            // It has been removed since it was listed; or it is listed and has no value, as the
            // lists of some servers.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    attributes.sort_unstable();
    Ok(ExtendedAttributes(attributes))
}
