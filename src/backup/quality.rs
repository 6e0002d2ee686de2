//! Whether a backup is good: it can be read, is not empty, is JSON if it has to be, and is no file that
//! another user has put there.

use std::ffi::OsStr;
use std::fmt;

use crate::error::ErrorKind;
use crate::fs::{Dir, File, FileKind, FileSystem};
use crate::json_check::{Dialect, JsonCheck, is_json_name};
use crate::write::{Control, Format};

/// What a backup has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// Any bytes, but some.
    Bytes,
    /// JSON, or what programs keep in its place: lines of it, or with comments and trailing commas.
    LikeJson,
    /// One JSON text.
    Json,
    /// One JSON object or array.
    JsonObject,
}

impl Standard {
    /// That of a file's backups, by the file's name unless the caller says more.
    pub fn of(basename: &OsStr, validate: Option<Format>) -> Standard {
        match validate {
            Some(Format::Json) => Standard::Json,
            None if is_json_name(basename) => Standard::LikeJson,
            None => Standard::Bytes,
        }
    }
}

const UNTRUSTED: &str = "it is another user's, in a folder that is open to all";

/// How much is read at a time.
const READ_AT_ONCE: usize = 1 << 18;

/// Why a backup is no good.
#[derive(Debug)]
pub enum Flaw {
    /// It has this, in words.
    Found(String),
    /// It cannot be read, this time.
    Unread(ErrorKind),
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Found(reason) => formatter.write_str(reason),
            Flaw::Unread(kind) => write!(formatter, "it cannot be read: {kind}"),
        }
    }
}

/// Why the backup of this name is no good; `None` if it is good.
///
/// # Errors
///
/// Only that the call was cancelled. What cannot be read is no good.
pub(super) fn flaw<F: FileSystem>(
    dir: &Dir<F>,
    name: &OsStr,
    standard: Standard,
    control: &Control,
) -> Result<Option<Flaw>, ErrorKind> {
    let looked = dir.open_file(name).map_err(ErrorKind::from).and_then(|file| {
        let metadata = file.metadata()?;
        match (metadata.kind, metadata.size) {
            (FileKind::File, _) if !dir.trusts(&metadata)? => Ok(Some(UNTRUSTED.to_owned())),
            (FileKind::File, 0) => Ok(Some("it is empty".to_owned())),
            (FileKind::File, _) => flaw_in(&file, standard, control),
            _ => Ok(Some("it is no file".to_owned())),
        }
    });
    match looked {
        Err(ErrorKind::Cancelled) => Err(ErrorKind::Cancelled),
        // It is not the process's to read.
        Err(_) if matches!(dir.look(name), Ok(Some(found)) if !dir.trusts(&found).unwrap_or(true)) => {
            Ok(Some(Flaw::Found(UNTRUSTED.to_owned())))
        }
        Err(kind) => Ok(Some(Flaw::Unread(kind))),
        Ok(flaw) => Ok(flaw.map(Flaw::Found)),
    }
}

fn flaw_in<F: FileSystem>(
    file: &File<F>,
    standard: Standard,
    control: &Control,
) -> Result<Option<String>, ErrorKind> {
    if standard == Standard::Bytes {
        return read_through(file, control).map(|()| None);
    }
    Ok(match JsonCheck::of(file, control)? {
        JsonCheck::Whole => None,
        JsonCheck::Scalar if standard != Standard::JsonObject => None,
        JsonCheck::Scalar => Some("it is not one JSON object or array".to_owned()),
        JsonCheck::Empty => Some("it is empty, which is not JSON".to_owned()),
        JsonCheck::Bad(_)
            if standard == Standard::LikeJson && Dialect::of(file, control)? == Dialect::Whole =>
        {
            None
        }
        JsonCheck::Bad(bad) => Some(format!("it is not JSON: {bad}")),
    })
}

fn read_through<F: FileSystem>(file: &File<F>, control: &Control) -> Result<(), ErrorKind> {
    let mut buffer = vec![0; READ_AT_ONCE];
    let mut offset = 0;
    loop {
        control.check()?;
        match file.read(&mut buffer, offset)? {
            0 => return Ok(()),
            count => offset += count as u64,
        }
    }
}

/// Whether two files have the same bytes.
///
/// # Errors
///
/// When the first one cannot be read, or the call was cancelled.
pub(super) fn has_same_bytes<F: FileSystem>(
    file: &File<F>,
    other: &File<F>,
    control: &Control,
) -> Result<bool, ErrorKind> {
    let (mut one, mut same) = (vec![0; READ_AT_ONCE], vec![0; READ_AT_ONCE]);
    let mut offset = 0;
    loop {
        control.check()?;
        let count = file.read_up_to(&mut one, offset)?;
        // What cannot be read is not known to be the same.
        let read = other.read_up_to(&mut same, offset);
        let is_same =
            read.is_ok_and(|length| length == count) && one.get(..count) == same.get(..count);
        if !is_same || count == 0 {
            return Ok(is_same);
        }
        offset += count as u64;
    }
}
