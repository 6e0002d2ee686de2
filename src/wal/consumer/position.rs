//! The positions of consumers: one small file for each, in a directory of the log's.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::error::{Damage, DamageKind, ErrorKind, WalError};
use crate::fs::{Dir, DirUse, FileSystem, if_there};
use crate::wal::append_error::AppendError;
use crate::wal::dirs::make_collection_dir;
use crate::wal::format::LAST_SEQUENCE;
use crate::wal::note::write_note;
use crate::wal::segments::check_name;

/// The directory of the positions, in that of the log. No collection has such a name.
pub(in crate::wal) const CONSUMERS: &str = ".consumers";

/// More bytes than a position ever has.
const LONGEST: usize = 1024;

/// The longest name of a consumer, in bytes.
const LONGEST_NAME: usize = 64;

/// How far a consumer has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerPosition {
    /// The collection.
    pub collection: String,
    /// The consumer's name.
    pub consumer: String,
    /// The last sequence number that it has acknowledged, or that it did not want; 0 if there is none.
    pub position: u64,
}

impl ConsumerPosition {
    /// The file's text: as that of a checkpoint, with numbers as text and a checksum.
    pub(super) fn text(&self) -> String {
        let ConsumerPosition { collection, consumer, position } = self;
        let covered = format!("{position} {consumer} {collection}");
        let checksum = crc32c::crc32c(covered.as_bytes());
        format!(
            "{{\"version\":1,\"collection\":{},\"consumer\":{},\"position\":\"{position}\",\"checksum\":\"{checksum:08x}\"}}\n",
            Value::from(collection.as_str()),
            Value::from(consumer.as_str()),
        )
    }

    fn from_text(text: &[u8]) -> Option<ConsumerPosition> {
        serde_json::from_slice::<IgnoredAny>(text).ok()?;
        let object: Map<String, Value> = serde_json::from_slice(text).ok()?;
        let part = |key: &str| object.get(key)?.as_str();
        let read = ConsumerPosition {
            collection: part("collection")?.to_owned(),
            consumer: part("consumer")?.to_owned(),
            position: part("position")?.parse().ok()?,
        };
        (read.position <= LAST_SEQUENCE && read.text().as_bytes() == text).then_some(read)
    }

    /// Reads a position. `Ok(None)` when there is none.
    pub(super) fn read<F: FileSystem>(
        dir: &Dir<F>,
        collection: &str,
        consumer: &str,
    ) -> Result<Option<ConsumerPosition>, ErrorKind> {
        let name = position_file(collection, consumer);
        let Some(file) = if_there(dir.open_file(name.as_ref()))? else { return Ok(None) };
        let mut bytes = [0; LONGEST];
        let read = file.read_up_to(&mut bytes, 0);
        let length = read.map_err(|failure| failure.on(dir.shown(name.as_ref())))?;
        let found = bytes.get(..length).and_then(ConsumerPosition::from_text);
        let is_own = |it: &ConsumerPosition| it.collection == collection && it.consumer == consumer;
        match found.filter(is_own) {
            Some(found) => Ok(Some(found)),
            None => {
                let reason = "the position of the consumer cannot be read";
                let (file, range) = (format!("../{CONSUMERS}/{name}"), (0, length as u64));
                let kind = DamageKind::Consumer;
                let damage = Damage::new(collection, &file, kind, range, reason, 0);
                Err(WalError::Damaged(Box::new(damage)).into())
            }
        }
    }
}

/// The name of the file of a consumer's position.
pub fn position_file(collection: &str, consumer: &str) -> String {
    format!("{collection}.{consumer}.json")
}

/// The directory of the positions of the log in the directory at `log`.
pub fn consumers_dir(log: &Path) -> PathBuf {
    log.join(CONSUMERS)
}

/// The collection and the consumer that a name in that directory tells of.
fn parts_of(name: &OsStr) -> Option<(&str, &str)> {
    let (collection, consumer) = name.to_str()?.strip_suffix(".json")?.rsplit_once('.')?;
    let is_one = check_name(collection).is_ok() && check_consumer_name(consumer).is_ok();
    is_one.then_some((collection, consumer))
}

/// Makes sure that a consumer's name is letters, digits, `_` and `-`, at most 64 bytes.
///
/// # Errors
///
/// [`WalError::ConsumerName`].
pub fn check_consumer_name(name: &str) -> Result<(), WalError> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(is_fine) {
        true => Ok(()),
        false => Err(WalError::ConsumerName(name.to_owned())),
    }
}

/// Writes positions into the directory of a log that has none, and makes them durable, but for the name of
/// their directory.
pub(in crate::wal) fn write_positions<F: FileSystem>(
    log: &Dir<F>,
    consumers: &[ConsumerPosition],
) -> Result<(), ErrorKind> {
    make_collection_dir(log, CONSUMERS.as_ref())?;
    let dir = log.open_dir(CONSUMERS.as_ref(), DirUse::NamesAndSync)?;
    for each in consumers {
        let name = position_file(&each.collection, &each.consumer);
        write_note(&dir, &name, &each.text()).map_err(AppendError::into_failure)?;
    }
    Ok(())
}

/// The positions of the consumers of a collection, or of all, of the log in this directory.
pub(in crate::wal) fn positions<F: FileSystem>(
    log: &Dir<F>,
    of: Option<&str>,
) -> Result<Vec<ConsumerPosition>, ErrorKind> {
    let Some(dir) = if_there(log.open_dir(CONSUMERS.as_ref(), DirUse::Names))? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for name in dir.names()? {
        let Some((collection, consumer)) = parts_of(&name) else { continue };
        if of.is_none_or(|of| of == collection) {
            found.extend(ConsumerPosition::read(&dir, collection, consumer)?);
        }
    }
    found.sort_by(|one, other| {
        (&one.collection, &one.consumer).cmp(&(&other.collection, &other.consumer))
    });
    Ok(found)
}
