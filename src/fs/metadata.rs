//! What the system knows about a file.

use crate::vocabulary::FileId;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link (on Windows, a junction too).
    Link,
    /// Anything else.
    Other(SpecialFile),
}

/// What is in the file system but holds no content of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialFile {
    /// A named pipe.
    Fifo,
    /// A socket of the local machine.
    Socket,
    /// A device that is read and written as a stream: a terminal, `/dev/null`.
    CharacterDevice,
    /// A device with blocks: a disk.
    BlockDevice,
    /// The system does not say.
    Unknown,
}

impl SpecialFile {
    /// Its name for users.
    pub fn name(self) -> Option<&'static str> {
        match self {
            SpecialFile::Fifo => Some("FIFO"),
            SpecialFile::Socket => Some("socket"),
            SpecialFile::CharacterDevice => Some("character device"),
            SpecialFile::BlockDevice => Some("block device"),
            SpecialFile::Unknown => None,
        }
    }
}

/// What the system knows about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Which file it is.
    pub id: FileId,
    /// What kind of file it is.
    pub kind: FileKind,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits, set-user-id, set-group-id and sticky included (`0o7777`).
    pub mode: u32,
    /// Its owner. 0 where the system has no numbers for owners.
    pub uid: u32,
    /// Its group. 0 where the system has no numbers for groups.
    pub gid: u32,
    /// When anything of it was last changed, be it its content, its attributes or its name: a
    /// number that grows, and never becomes what it was. 0 where the system does not say.
    pub changed: i128,
}

impl Metadata {
    /// Whether it is a regular file without bytes.
    pub fn is_empty_file(&self) -> bool {
        self.kind == FileKind::File && self.size == 0
    }
}
