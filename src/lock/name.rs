//! The name of the lock file: `.<basename>.lock`, beside the file.

use std::ffi::{OsStr, OsString};

use crate::temp_name::shorten;

/// The longest name that file systems take, in bytes.
const LONGEST_NAME: usize = 255;
const SUFFIX: &str = ".lock";

/// The lock file of the file called `basename`. Versions of holdfast exclude each other by
/// this name, so it can never change. Where the name would be too long its basename part is
/// shortened and followed by a hash of all of it: `.<beginning>.<16 hex digits>.lock`.
pub(super) fn of(basename: &OsStr) -> OsString {
    let mut name = OsString::from(".");
    let room = LONGEST_NAME - name.len() - SUFFIX.len();
    if basename.len() <= room {
        name.push(basename);
    } else {
        let hash = format!(".{:016x}", fnv1a(basename.as_encoded_bytes()));
        name.push(shorten(basename, room - hash.len()));
        name.push(hash);
    }
    name.push(SUFFIX);
    name
}

/// FNV-1a, 64 bits: small, and the same in every version and on every platform.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
