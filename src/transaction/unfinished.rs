//! The transactions that have a record in a directory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::names::{self, RecordKind, TransactionId, TransactionName};
use super::participant::{Participant, read_record};
use super::record::{Record, RecordDamage};
use crate::error::Failure;
use crate::fs::FileSystem;

/// What a transaction that is not complete has left in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Which transaction it is.
    pub id: TransactionId,
    /// The path of its record here.
    pub path: PathBuf,
    /// Whether it is decided.
    pub kind: RecordKind,
    /// The record.
    pub record: Result<Record, RecordDamage>,
}

impl Unfinished {
    /// Whether it changes the file of this name in the directory of the record; also when that
    /// cannot be told, because a later version of holdfast has made the record.
    pub fn changes(&self, name: &OsStr) -> bool {
        match &self.record {
            Ok(record) => {
                record.members.iter().any(|member| member.dir == record.here && member.name == name)
            }
            Err(RecordDamage::Version(_)) => true,
            Err(_) => false,
        }
    }
}

/// The transactions that have a record in a directory; those that are under way are among them.
pub fn unfinished<F: FileSystem>(fs: &F, dir: &Path) -> Result<Vec<Unfinished>, Failure> {
    let participant = Participant::open(fs, dir)?;
    let dir = &participant.dir;
    let mut found = Vec::new();
    for name in dir.names()? {
        let Some(TransactionName::Record(id, kind)) = names::parse(&name) else { continue };
        let path = dir.shown(&name);
        if let Ok(Some(metadata)) = dir.look(&name)
            && !participant.trusts(&metadata)
        {
            // Otherwise any user could block the transactions of every other user in `/tmp`.
            continue;
        }
        match dir.open_file(&name).and_then(|file| read_record(&file, id)) {
            Ok(record) => found.push(Unfinished { id, path, kind, record }),
            // Since it was listed the transaction has been completed, or decided: then the record
            // has its other name.
            Err(failure) if failure.is_not_found() => {
                let intent = names::record(id, RecordKind::Intent);
                if kind == RecordKind::Prepared
                    && let Ok(file) = dir.open_file(&intent)
                {
                    let record = read_record(&file, id)
                        .map_err(|failure| Failure::at("read", &path, failure.source))?;
                    let path = dir.shown(&intent);
                    found.push(Unfinished { id, path, kind: RecordKind::Intent, record });
                }
            }
            // To the caller, reading the record is a part of opening it.
            Err(failure) => return Err(Failure::at("open", path, failure.source)),
        }
    }
    Ok(found)
}
