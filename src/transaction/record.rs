//! The record of a transaction, as it is on the disk. `docs/formats.md` has it byte by byte.
//!
//! One record says all: which directories, which files in them, what each was before and what it
//! is to be. A copy is in every directory that the transaction touches, and says which of them it
//! is in. What it means depends on its name: see [`super::names`].

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::names::Id;

/// What a record begins with.
const MAGIC: &[u8; 8] = b"HOLDTXN\n";

/// The version of the format.
const VERSION: u32 = 1;

/// How many bytes stand before the directories.
const HEADER: usize = 8 + 4 + 4 + 8 + 16 + 4 + 4 + 4;

/// How many bytes the checksum at the end has.
const CHECKSUM: usize = 16;

/// No record is larger: about a hundred thousand files with long names.
pub const LARGEST: usize = 64 << 20;

/// The longest name that file systems take, in bytes (on Windows: three for each of 255 units).
const LONGEST_NAME: usize = 765;

/// The longest path that is taken for one.
const LONGEST_PATH: usize = 128 << 10;

/// By what the content of a file is known again. Not by numbers of files or devices, which
/// change when a disk is mounted anew or a backup is brought back and are used again for other
/// files; not by times, which a clock that is set back repeats; but by the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// How many bytes there are.
    pub size: u64,
    /// Their XXH3 hash of 128 bits, with the seed 0.
    pub hash: u128,
}

/// What is to become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It gets this content.
    Write(Content),
    /// It is removed.
    Remove,
}

/// One file of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The number of its directory.
    pub dir: usize,
    /// Its name there.
    pub name: OsString,
    /// What it was before; `None` if it was not there.
    pub before: Option<Content>,
    /// What is to become of it.
    pub action: Action,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which one.
    pub id: Id,
    /// The number of the first directory's inode: by it the directory is known again where the
    /// record is not in it.
    pub home: u128,
    /// The number of the directory that this copy of the record is in.
    pub here: usize,
    /// The directories, absolute; the first one is the one that has the decision.
    pub dirs: Vec<PathBuf>,
    /// The files.
    pub members: Vec<Member>,
}

impl Record {
    /// The bytes. `None` if a name has no form that can be written down, which only happens
    /// on Windows (half a surrogate pair), or there are too many.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.id.0.to_le_bytes());
        bytes.extend_from_slice(&self.home.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.here).ok()?.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.dirs.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.members.len()).ok()?.to_le_bytes());
        for dir in &self.dirs {
            put_text(&mut bytes, dir.as_os_str())?;
        }
        for member in &self.members {
            bytes.extend_from_slice(&u32::try_from(member.dir).ok()?.to_le_bytes());
            let (action, after) = match member.action {
                Action::Write(after) => (1, Some(after)),
                Action::Remove => (2, None),
            };
            bytes.extend_from_slice(&[action, u8::from(member.before.is_some())]);
            put_content(&mut bytes, member.before);
            put_content(&mut bytes, after);
            put_text(&mut bytes, &member.name)?;
        }
        let length = bytes.len().checked_add(CHECKSUM).filter(|length| *length <= LARGEST)?;
        bytes.get_mut(12..16)?.copy_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
        let checksum = xxhash_rust::xxh3::xxh3_128(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        Some(bytes)
    }

    /// The record in these bytes, which somebody may have cut, damaged or made up.
    pub fn decode(bytes: &[u8]) -> Result<Record, Damage> {
        let whole = Damage::Torn;
        let (body, checksum) =
            bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM).ok_or(whole)?).ok_or(whole)?;
        let mut rest = Reader(body);
        if rest.take(MAGIC.len()).ok_or(whole)? != MAGIC {
            return Err(Damage::Torn);
        }
        let version = rest.u32().ok_or(whole)?;
        let length = rest.u32().ok_or(whole)?;
        let computed = xxhash_rust::xxh3::xxh3_128(body).to_le_bytes();
        if usize::try_from(length) != Ok(bytes.len()) || checksum != computed {
            return Err(Damage::Torn);
        }
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        rest.record().ok_or(Damage::Nonsense)
    }

    /// The path of a member.
    pub fn path(&self, member: &Member) -> PathBuf {
        self.dirs.get(member.dir).map(|dir| dir.join(&member.name)).unwrap_or_default()
    }
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It is not whole: its checksum does not fit.
    #[error("the record is not whole")]
    Torn,
    /// A later version of holdfast made it.
    #[error("the record has version {0}, which this version of holdfast does not know")]
    Version(u32),
    /// It is whole, but says what no transaction can be.
    #[error("the record is whole, but makes no sense")]
    Nonsense,
}

fn put_text(bytes: &mut Vec<u8>, text: &OsStr) -> Option<()> {
    let text = text_bytes(text)?;
    bytes.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(text);
    Some(())
}

fn put_content(bytes: &mut Vec<u8>, content: Option<Content>) {
    let content = content.unwrap_or(Content { size: 0, hash: 0 });
    bytes.extend_from_slice(&content.size.to_le_bytes());
    bytes.extend_from_slice(&content.hash.to_le_bytes());
}

#[cfg(unix)]
fn text_bytes(text: &OsStr) -> Option<&[u8]> {
    use std::os::unix::ffi::OsStrExt;
    Some(text.as_bytes())
}

#[cfg(not(unix))]
fn text_bytes(text: &OsStr) -> Option<&[u8]> {
    text.to_str().map(str::as_bytes)
}

#[cfg(unix)]
fn text_of(bytes: &[u8]) -> Option<OsString> {
    use std::os::unix::ffi::OsStrExt;
    Some(OsStr::from_bytes(bytes).to_owned())
}

#[cfg(not(unix))]
fn text_of(bytes: &[u8]) -> Option<OsString> {
    std::str::from_utf8(bytes).ok().map(OsString::from)
}

/// What is left to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok()
    }

    fn content(&mut self) -> Option<Content> {
        let size = u64::from_le_bytes(self.array()?);
        Some(Content { size, hash: u128::from_le_bytes(self.array()?) })
    }

    fn text(&mut self, longest: usize) -> Option<OsString> {
        let length = self.count().filter(|length| *length <= longest)?;
        text_of(self.take(length)?)
    }

    /// What stands behind the length.
    fn record(&mut self) -> Option<Record> {
        let id = Id(u64::from_le_bytes(self.array()?));
        let home = u128::from_le_bytes(self.array()?);
        let here = self.count()?;
        let (dir_count, member_count) = (self.count()?, self.count()?);
        // A directory takes at least 5 bytes: so much memory is never asked for on the word of a
        // number alone.
        if here >= dir_count || dir_count > self.0.len() / 5 {
            return None;
        }
        let mut dirs = Vec::new();
        for _ in 0..dir_count {
            dirs.push(PathBuf::from(self.text(LONGEST_PATH)?));
        }
        if !dirs.iter().all(|dir| is_dir_path(dir)) {
            return None;
        }
        let mut members = Vec::new();
        for _ in 0..member_count {
            members.push(self.member(dir_count)?);
        }
        let mut places = HashSet::new();
        let are_all_different =
            members.iter().all(|member| places.insert((member.dir, member.name.as_os_str())));
        let is_all = self.0.is_empty() && !members.is_empty() && are_all_different;
        is_all.then_some(Record { id, home, here, dirs, members })
    }

    fn member(&mut self, dirs: usize) -> Option<Member> {
        let dir = self.count().filter(|dir| *dir < dirs)?;
        let (action, was_there) = (self.u8()?, self.u8()?);
        let (before, after) = (self.content()?, self.content()?);
        let name = self.text(LONGEST_NAME).filter(|name| is_file_name(name))?;
        let nothing = Content { size: 0, hash: 0 };
        let before = match was_there {
            0 if before == nothing => None,
            1 => Some(before),
            _ => return None,
        };
        let action = match action {
            1 => Action::Write(after),
            2 if after == nothing => Action::Remove,
            _ => return None,
        };
        Some(Member { dir, name, before, action })
    }
}

/// Whether it names something in a directory, and nothing else.
fn is_file_name(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    // On Windows a colon leads to a stream, or another drive.
    let is_special = |byte: &u8| {
        *byte == 0 || std::path::is_separator(char::from(*byte)) || cfg!(windows) && *byte == b':'
    };
    !matches!(bytes, b"" | b"." | b"..") && !bytes.iter().any(is_special)
}

/// Whether it is a path from the root, to which a name can be added: on Windows `\\server` becomes
/// another place by that.
fn is_dir_path(path: &Path) -> bool {
    let is_left = path.join("name").parent() == Some(path);
    path.has_root() && is_left && !path.as_os_str().as_encoded_bytes().contains(&0)
}

const _: () = assert!(HEADER == 52, "the header that is documented");
