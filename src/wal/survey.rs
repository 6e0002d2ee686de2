//! What is known of a log that another process may have open, by what is on the disk.

use std::path::Path;

use super::consumer::{ConsumerPosition, positions};
use super::dirs::collections;
use super::options::RecoveryMode;
use super::replay::{Replay, ReplayProgress};
use super::segments::has_entries;
use crate::error::ErrorKind;
use crate::fs::{Dir, DirUse, FileSystem, if_there};

/// What is known of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectionSurvey {
    /// Its name.
    pub name: String,
    /// How many segments it has.
    pub segments: u64,
    /// How many bytes their files have, unused space included.
    pub bytes: u64,
    /// The last sequence number that is there, or has been released; 0 if there is none.
    pub last: u64,
    /// The last one that the last checkpoint has released.
    pub released: u64,
    /// Its consumers.
    pub consumers: Vec<ConsumerPosition>,
}

/// Surveys the log in the directory at `path`. Reads the last segment of each collection.
///
/// # Errors
///
/// There is no such directory, the system refuses, or something is damaged that the recovery mode
/// does not allow to skip.
pub fn survey<F: FileSystem>(
    fs: &F,
    path: &Path,
    recovery: RecoveryMode,
) -> Result<Vec<CollectionSurvey>, ErrorKind> {
    collections(fs, path)?.into_iter().map(|name| survey_one(fs, path, name, recovery)).collect()
}

fn survey_one<F: FileSystem>(
    fs: &F,
    path: &Path,
    name: String,
    recovery: RecoveryMode,
) -> Result<CollectionSurvey, ErrorKind> {
    // A walk that begins with the highest number there is reads the last segment, and shows nothing.
    let mut walk = Replay::new(fs.clone(), path, &name, u64::MAX, None, recovery)?;
    let mut nothing = Vec::new();
    while walk.chunk(&mut nothing, 1)? == ReplayProgress::More {
        nothing.clear();
    }
    let released = walk.first()? - 1;
    let mut survey = CollectionSurvey {
        last: walk.last_read().max(released),
        released,
        ..CollectionSurvey::default()
    };
    if let Some(dir) = if_there(Dir::open(fs, &path.join(&name), DirUse::Names))? {
        for file in dir.names()?.iter().filter(|name| name.to_str().is_some_and(has_entries)) {
            // It may have got another name, or have been released, since the names were listed.
            if let Some(known) = dir.look(file)? {
                survey.segments += 1;
                survey.bytes += known.size;
            }
        }
    }
    let consumers = positions(&Dir::open(fs, path, DirUse::Names)?, Some(&name))?;
    Ok(CollectionSurvey { name, consumers, ..survey })
}
