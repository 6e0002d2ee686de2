//! The record of a transaction, as it is on the disk. `docs/formats.md` has it byte by byte.
//!
//! One record contains everything: the directories, the files in them, what each file was before
//! and what it is to be. A copy is in every directory that the transaction changes, and says which
//! of them it is in. What a record means depends on its name: see [`super::names`].

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::fingerprint::Fingerprint;
use super::names::TransactionId;
use super::way::is_way;

/// What a record begins with.
const MAGIC: &[u8; 8] = b"HOLDTXN\n";

/// The version of a record of one directory, which says nothing about ways to others; and of one of
/// several that an earlier holdfast has made.
const WITHOUT_WAYS: u32 = 1;

/// The version of a record of several directories.
const WITH_WAYS: u32 = 2;

/// How many bytes stand before the directories.
const HEADER: usize = 8 + 4 + 4 + 8 + 16 + 4 + 4 + 4;

/// How many bytes the checksum at the end has.
const CHECKSUM: usize = 16;

/// No record is larger: about a hundred thousand files with long names.
pub const LARGEST: usize = 64 << 20;

/// The longest name that file systems accept, in bytes (on Windows: three for each of 255 units).
const LONGEST_NAME: usize = 765;

/// What stands for the content of a member that does not exist, before or after.
const NO_FILE: Fingerprint = Fingerprint { size: 0, hash: 0 };

/// A member whose file gets new content.
const WRITE: u8 = 1;

/// A member whose file is removed.
const REMOVE: u8 = 2;

/// The longest path that is accepted.
const LONGEST_PATH: usize = 128 << 10;

/// One file of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMember {
    /// The number of its directory.
    pub dir: usize,
    /// Its name there.
    pub name: OsString,
    /// Its content before; `None` if it did not exist.
    pub before: Option<Fingerprint>,
    /// Its content after; `None` if it is removed.
    pub after: Option<Fingerprint>,
}

/// How a directory is found from the first one, and how the first one is found from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordWay {
    /// The number of its inode.
    pub inode: u128,
    /// Whether it was on another mount than the first one. Then their absolute paths count, too.
    pub is_apart: bool,
    /// The relative path from the first one to it; `None` where there is none, as for the first one.
    pub from_first: Option<PathBuf>,
    /// And back.
    pub to_first: Option<PathBuf>,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which one.
    pub id: TransactionId,
    /// The number of the first directory's inode: by it the directory is known again where the
    /// record is not in it.
    pub home: u128,
    /// The number of the directory that this copy of the record is in.
    pub here: usize,
    /// The directories, absolute, as they were found when the record was made; the first one is the
    /// one that has the decision.
    pub dirs: Vec<PathBuf>,
    /// For each directory how it is found in a tree that may be elsewhere by now. Empty where there is
    /// one directory only, and in what earlier versions of holdfast have made.
    pub ways: Vec<RecordWay>,
    /// The files.
    pub members: Vec<RecordMember>,
}

impl Record {
    /// The bytes. `None` if a name cannot be written down, which only happens on Windows (half a
    /// surrogate pair), or if there are too many bytes.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        let version = if self.ways.is_empty() { WITHOUT_WAYS } else { WITH_WAYS };
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.id.0.to_le_bytes());
        bytes.extend_from_slice(&self.home.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.here).ok()?.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.dirs.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.members.len()).ok()?.to_le_bytes());
        for (number, dir) in self.dirs.iter().enumerate() {
            put_text(&mut bytes, dir.as_os_str())?;
            if !self.ways.is_empty() {
                put_way(&mut bytes, self.ways.get(number)?)?;
            }
        }
        for member in &self.members {
            bytes.extend_from_slice(&u32::try_from(member.dir).ok()?.to_le_bytes());
            let action = if member.after.is_some() { WRITE } else { REMOVE };
            bytes.extend_from_slice(&[action, u8::from(member.before.is_some())]);
            put_fingerprint(&mut bytes, member.before);
            put_fingerprint(&mut bytes, member.after);
            put_text(&mut bytes, &member.name)?;
        }
        let length = bytes.len().checked_add(CHECKSUM).filter(|length| *length <= LARGEST)?;
        bytes.get_mut(12..16)?.copy_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
        let checksum = xxhash_rust::xxh3::xxh3_128(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        Some(bytes)
    }

    /// The record in these bytes, which may be cut short, damaged or made up.
    pub fn decode(bytes: &[u8]) -> Result<Record, RecordDamage> {
        let whole = RecordDamage::Torn;
        let (body, checksum) =
            bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM).ok_or(whole)?).ok_or(whole)?;
        let mut rest = RecordReader(body);
        if rest.take(MAGIC.len()).ok_or(whole)? != MAGIC {
            return Err(RecordDamage::Torn);
        }
        let version = rest.u32().ok_or(whole)?;
        let length = rest.u32().ok_or(whole)?;
        let computed = xxhash_rust::xxh3::xxh3_128(body).to_le_bytes();
        if usize::try_from(length) != Ok(bytes.len()) || checksum != computed {
            return Err(RecordDamage::Torn);
        }
        if ![WITHOUT_WAYS, WITH_WAYS].contains(&version) {
            return Err(RecordDamage::Version(version));
        }
        rest.record(version).ok_or(RecordDamage::Nonsense)
    }

    /// Whether the other record, which may be in another directory, is one of the same transaction
    /// and says the same.
    pub fn agrees_with(&self, other: &Record) -> bool {
        let Record { id, home, here: _, dirs, ways, members } = self;
        *id == other.id
            && *home == other.home
            && *dirs == other.dirs
            && *ways == other.ways
            && *members == other.members
    }

    /// The members in the directory of this number, and their own numbers.
    pub fn members_in(&self, dir: usize) -> impl Iterator<Item = (usize, &RecordMember)> {
        self.members.iter().enumerate().filter(move |(_, member)| member.dir == dir)
    }

    /// The path of a member.
    pub fn path(&self, member: &RecordMember) -> PathBuf {
        self.dirs.get(member.dir).map(|dir| dir.join(&member.name)).unwrap_or_default()
    }
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordDamage {
    /// It is not whole: its checksum does not fit.
    #[error("the record is not whole")]
    Torn,
    /// A later version of holdfast made it.
    #[error("the record has version {0}, which this version of holdfast does not know")]
    Version(u32),
    /// It is whole, but contains what no transaction can be.
    #[error("the record is whole, but makes no sense")]
    Nonsense,
}

fn put_text(bytes: &mut Vec<u8>, text: &OsStr) -> Option<()> {
    let text = text_bytes(text)?;
    bytes.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(text);
    Some(())
}

fn put_way(bytes: &mut Vec<u8>, way: &RecordWay) -> Option<()> {
    let none = OsStr::new("");
    bytes.extend_from_slice(&way.inode.to_le_bytes());
    bytes.push(u8::from(way.is_apart));
    for path in [&way.from_first, &way.to_first] {
        put_text(bytes, path.as_deref().map_or(none, Path::as_os_str))?;
    }
    Some(())
}

fn put_fingerprint(bytes: &mut Vec<u8>, fingerprint: Option<Fingerprint>) {
    let fingerprint = fingerprint.unwrap_or(NO_FILE);
    bytes.extend_from_slice(&fingerprint.size.to_le_bytes());
    bytes.extend_from_slice(&fingerprint.hash.to_le_bytes());
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

/// The bytes that are still to be read.
struct RecordReader<'a>(&'a [u8]);

impl<'a> RecordReader<'a> {
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

    fn fingerprint(&mut self) -> Option<Fingerprint> {
        let size = u64::from_le_bytes(self.array()?);
        Some(Fingerprint { size, hash: u128::from_le_bytes(self.array()?) })
    }

    fn text(&mut self, longest: usize) -> Option<OsString> {
        let length = self.count().filter(|length| *length <= longest)?;
        text_of(self.take(length)?)
    }

    fn way(&mut self) -> Option<RecordWay> {
        let inode = u128::from_le_bytes(self.array()?);
        let is_apart = match self.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let mut path = || match PathBuf::from(self.text(LONGEST_PATH)?) {
            path if path.as_os_str().is_empty() => Some(None),
            path => is_way(&path).then_some(Some(path)),
        };
        Some(RecordWay { inode, is_apart, from_first: path()?, to_first: path()? })
    }

    /// What stands behind the length.
    fn record(&mut self, version: u32) -> Option<Record> {
        let id = TransactionId(u64::from_le_bytes(self.array()?));
        let home = u128::from_le_bytes(self.array()?);
        let here = self.count()?;
        let (dir_count, member_count) = (self.count()?, self.count()?);
        // A directory takes at least 5 bytes. So a number alone never makes this process ask for
        // much memory.
        if here >= dir_count || dir_count > self.0.len() / 5 {
            return None;
        }
        let (mut dirs, mut ways) = (Vec::new(), Vec::new());
        for _ in 0..dir_count {
            dirs.push(PathBuf::from(self.text(LONGEST_PATH)?));
            if version == WITH_WAYS {
                ways.push(self.way()?);
            }
        }
        if !dirs.iter().all(|dir| is_dir_path(dir)) {
            return None;
        }
        let mut members = Vec::new();
        for _ in 0..member_count {
            members.push(self.member(dir_count)?);
        }
        let mut seen = HashSet::new();
        let are_all_different =
            members.iter().all(|member| seen.insert((member.dir, member.name.as_os_str())));
        let is_all = self.0.is_empty() && !members.is_empty() && are_all_different;
        is_all.then_some(Record { id, home, here, dirs, ways, members })
    }

    fn member(&mut self, dirs: usize) -> Option<RecordMember> {
        let dir = self.count().filter(|dir| *dir < dirs)?;
        let (action, was_there) = (self.u8()?, self.u8()?);
        let (before, after) = (self.fingerprint()?, self.fingerprint()?);
        let name = self.text(LONGEST_NAME).filter(|name| is_file_name(name))?;
        let before = match was_there {
            0 if before == NO_FILE => None,
            1 => Some(before),
            _ => return None,
        };
        let after = match action {
            WRITE => Some(after),
            REMOVE if after == NO_FILE => None,
            _ => return None,
        };
        Some(RecordMember { dir, name, before, after })
    }
}

/// Whether it is a plain name in a directory.
fn is_file_name(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    // On Windows a colon leads to a stream, or another drive.
    let is_special = |byte: &u8| {
        *byte == 0 || std::path::is_separator(char::from(*byte)) || cfg!(windows) && *byte == b':'
    };
    !matches!(bytes, b"" | b"." | b"..") && !bytes.iter().any(is_special)
}

/// Whether it is a path from the root to which a name can be appended: on Windows `\\server` would
/// become a share by that.
fn is_dir_path(path: &Path) -> bool {
    let is_left = path.join("name").parent() == Some(path);
    path.has_root() && is_left && !path.as_os_str().as_encoded_bytes().contains(&0)
}

const _: () = assert!(HEADER == 52, "the header that is documented");
