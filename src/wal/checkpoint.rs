//! The note of what is no longer needed.

use std::ffi::OsStr;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::format::LAST_SEQUENCE;
use super::segments::CHECKPOINT;
use super::writer::AppendError;
use crate::error::Code;
use crate::error::Failure;
use crate::fs::{FileSystem, uninterrupted};
use crate::payload::Chunk;
use crate::temp_name;

/// What is no longer needed of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The last sequence number that is released. 0 if none is.
    pub(super) up_to: u64,
    /// The lowest number of a segment that has to be there.
    pub(super) first_segment: u64,
}

impl Default for Checkpoint {
    fn default() -> Checkpoint {
        Checkpoint { up_to: 0, first_segment: 1 }
    }
}

/// More than the note ever has.
const LONGEST: usize = 256;

impl Checkpoint {
    /// The note: numbers as text, because JSON in JavaScript has no larger ones than 2⁵³, and a
    /// checksum over the two.
    fn text(self) -> String {
        let covered = format!("{} {}", self.up_to, self.first_segment);
        format!(
            "{{\"version\":1,\"upTo\":\"{}\",\"firstSegment\":\"{}\",\"checksum\":\"{:08x}\"}}\n",
            self.up_to,
            self.first_segment,
            crc32c::crc32c(covered.as_bytes())
        )
    }

    fn from_text(text: &[u8]) -> Option<Checkpoint> {
        // Anything but an object is told apart before its parts are looked at.
        serde_json::from_slice::<IgnoredAny>(text).ok()?;
        let object: Map<String, Value> = serde_json::from_slice(text).ok()?;
        let number = |key: &str| object.get(key)?.as_str()?.parse::<u64>().ok();
        let note = Checkpoint { up_to: number("upTo")?, first_segment: number("firstSegment")? };
        let is_in_range = note.up_to <= LAST_SEQUENCE && note.first_segment <= LAST_SEQUENCE;
        (is_in_range && note.text().as_bytes() == text).then_some(note)
    }

    /// Reads the note in this directory. `Ok(None)` when it is there and cannot be understood.
    pub(super) fn read<F: FileSystem>(
        fs: &F,
        dir: &F::DirHandle,
    ) -> Result<Option<Checkpoint>, Failure> {
        let file = match uninterrupted(|| fs.open(dir, OsStr::new(CHECKPOINT))) {
            Err(error) if Code::of(&error) == Some(Code::ENOENT) => {
                return Ok(Some(Checkpoint::default()));
            }
            outcome => outcome.map_err(|error| Failure::at("open", CHECKPOINT, error))?,
        };
        let mut bytes = [0; LONGEST];
        let mut length = 0;
        while let Some(room) = bytes.get_mut(length..).filter(|room| !room.is_empty()) {
            let count = uninterrupted(|| fs.read(&file, room, length as u64))
                .map_err(|error| Failure::at("read", CHECKPOINT, error))?;
            if count == 0 {
                break;
            }
            length += count;
        }
        Ok(bytes.get(..length).and_then(Checkpoint::from_text))
    }

    /// Writes the note, whole or not at all, and makes it durable. Where the sync of the directory
    /// fails it is not known what is on the disk: not of the note, and not of other names that
    /// were waiting for a sync, whose own may report nothing any more.
    pub(super) fn write<F: FileSystem>(
        self,
        fs: &F,
        dir: &F::DirHandle,
    ) -> Result<(), AppendError> {
        let name = temp_name::new_name(OsStr::new(CHECKPOINT));
        let file = uninterrupted(|| fs.create_new(dir, &name, 0o666))
            .map_err(|error| AppendError::NotWritten(Failure::at("open", CHECKPOINT, error)))?;
        let outcome = (|| {
            let text = self.text();
            let mut rest = text.as_bytes();
            while !rest.is_empty() {
                let count = uninterrupted(|| fs.write(&file, Chunk::Slice(rest)))
                    .map_err(|error| Failure::new("write", error))?;
                rest = rest.get(count..).unwrap_or_default();
            }
            uninterrupted(|| fs.sync_file(&file)).map_err(|error| Failure::new("fsync", error))?;
            uninterrupted(|| fs.rename(dir, &file, &name, OsStr::new(CHECKPOINT)))
                .map_err(|error| Failure::new("rename", error))
        })();
        if let Err(failure) = outcome {
            // If it stays, recovery knows it for a temp file of ours.
            let _ = fs.remove(dir, &name);
            return Err(AppendError::NotWritten(failure.on(CHECKPOINT)));
        }
        uninterrupted(|| fs.sync_dir(dir, Some(&file)))
            .map_err(|error| AppendError::Unknown(Failure::at("fsync", CHECKPOINT, error)))
    }
}
