//! The note of what is no longer needed.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::append_error::AppendError;
use super::dirs::SHARED;
use super::format::LAST_SEQUENCE;
use super::segments::CHECKPOINT;
use crate::error::Failure;
use crate::fs::{Dir, FileSystem};
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

/// More bytes than the note ever has.
const LONGEST_NOTE: usize = 256;

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
    pub(super) fn read<F: FileSystem>(dir: &Dir<F>) -> Result<Option<Checkpoint>, Failure> {
        let file = match dir.open_file(CHECKPOINT.as_ref()) {
            Err(failure) if failure.is_not_found() => return Ok(Some(Checkpoint::default())),
            opened => opened?,
        };
        let mut bytes = [0; LONGEST_NOTE];
        let length = file.read_up_to(&mut bytes, 0).map_err(|failure| failure.on(CHECKPOINT))?;
        Ok(bytes.get(..length).and_then(Checkpoint::from_text))
    }

    /// Writes the note, whole or not at all, and makes it durable. Where the sync of the directory
    /// fails it is not known what is on the disk: not of the note, and not of other names that
    /// were waiting for a sync, whose own may report nothing any more.
    pub(super) fn write<F: FileSystem>(self, dir: &Dir<F>) -> Result<(), AppendError> {
        // Its messages name the note, not the temp file, and no second path.
        let of_note = |failure: Failure| Failure { dest: None, ..failure.on(CHECKPOINT) };
        let name = || temp_name::new_name(CHECKPOINT.as_ref());
        let (name, file) = dir
            .create_unique(name, SHARED)
            .map_err(|failure| AppendError::NotWritten(of_note(failure)))?;
        let publish = || {
            file.write_all(self.text().as_bytes())?;
            file.sync()?;
            // Until the new one is on the disk the old one's blocks must not be used again.
            let replaced = match dir.sync_rules(file.metadata()?.id.device).reuses_freed {
                true => dir.open_to_keep(CHECKPOINT.as_ref())?,
                false => None,
            };
            dir.rename(&file, &name, CHECKPOINT.as_ref()).map(|()| replaced)
        };
        let _replaced = publish().map_err(|failure| {
            // If it stays, recovery knows it for a temp file of ours.
            let _ = dir.remove(&name);
            AppendError::NotWritten(of_note(failure))
        })?;
        dir.sync(Some(&file)).map_err(|failure| AppendError::Unknown(of_note(failure)))
    }
}
