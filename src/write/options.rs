//! What a caller asks of a write.

use std::path::PathBuf;
use std::time::Duration;

use super::validate::Format;
use crate::fs::DirUse;
use crate::payload::Payload;
use crate::vocabulary::{Durability, GuardedFile};

/// One write, as the caller asked for it.
#[derive(Debug)]
pub struct WriteRequest {
    /// The target, absolute.
    pub path: PathBuf,
    /// Its new content.
    pub payload: Payload,
    /// How to write it.
    pub options: Options,
}

/// How to write. [`Options::default`] has the defaults of the public contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What a power cut may take.
    pub durability: Durability,
    /// The exact permission bits; `None` keeps those of the existing file.
    pub mode: Option<u32>,
    /// The permission bits of a new file, of which the umask and the directory take theirs.
    pub new_file_mode: u32,
    /// Whether the file is only made, and an existing one never replaced.
    pub create_only: bool,
    /// Who is to own the file.
    pub owner: Owner,
    /// Whether a symbolic link at the path leads to the file that is written, or is
    /// replaced by it.
    pub follow_symlinks: bool,
    /// Whether to make missing parent directories.
    pub make_dirs: bool,
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// What the waits between attempts are computed from; see [`super::delay_before`].
    pub retry_delay: Duration,
    /// The format that the bytes must have; otherwise nothing is written.
    pub validate: Option<Format>,
    /// The only file that may be written, if the caller holds a lock.
    pub only: Option<Box<GuardedFile>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            durability: Durability::Full,
            mode: None,
            new_file_mode: 0o644,
            create_only: false,
            owner: Owner::Keep,
            follow_symlinks: true,
            make_dirs: false,
            attempts: 3,
            retry_delay: Duration::from_millis(100),
            validate: None,
            only: None,
        }
    }
}

impl Options {
    /// The only file that may be written. The lock is that of the file which a link leads to, so it
    /// says nothing about a link that is to be replaced.
    pub(crate) fn guarded(&self) -> Option<&GuardedFile> {
        self.only.as_deref().filter(|_| self.follow_symlinks)
    }

    /// What the target's directory is opened for.
    pub(crate) fn dir_use(&self) -> DirUse {
        match self.durability {
            Durability::None => DirUse::Names,
            // With `File` it is synced only where the file system needs that.
            Durability::File | Durability::Full => DirUse::NamesAndSync,
        }
    }
}

/// Who is to own the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The owner of the existing file, as far as the process may give files away.
    Keep,
    /// The process.
    Process,
    /// This user and group, as far as the process may give files away.
    Set {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
}
