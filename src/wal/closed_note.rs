//! The note of what a log had when it was last closed. Where the last segment of a collection is gone,
//! nothing else would tell that it was there.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::append_error::AppendError;
use super::dirs::is_file;
use super::format::LAST_SEQUENCE;
use super::note::write_note;
use crate::error::Failure;
use crate::fs::{Dir, FileSystem};

/// The name of the note in the directory of a log.
pub(super) const CLOSED: &str = ".holdfast.wal.closed";

/// What a log had when it was closed: it has as much from then on, except for what is released.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClosedNote {
    /// The last sequence number that was given.
    pub(super) last: u64,
    /// The collections that had segments, and the last number in each.
    pub(super) collections: BTreeMap<String, u64>,
}

impl ClosedNote {
    fn text(&self) -> String {
        let last = self.last;
        let lasts = self.collections.iter();
        let lasts: Map<String, Value> =
            lasts.map(|(name, last)| (name.clone(), Value::String(last.to_string()))).collect();
        let lasts = Value::Object(lasts).to_string();
        let checksum = crc32c::crc32c(format!("{last} {lasts}").as_bytes());
        format!(
            "{{\"version\":1,\"last\":\"{last}\",\"collections\":{lasts},\"checksum\":\"{checksum:08x}\"}}\n"
        )
    }

    fn from_text(text: &[u8]) -> Option<ClosedNote> {
        // Anything but an object is told apart before its parts are looked at.
        serde_json::from_slice::<IgnoredAny>(text).ok()?;
        let object: Map<String, Value> = serde_json::from_slice(text).ok()?;
        let number = |value: &Value| {
            value.as_str()?.parse::<u64>().ok().filter(|number| *number <= LAST_SEQUENCE)
        };
        let mut note = ClosedNote { last: number(object.get("last")?)?, ..ClosedNote::default() };
        for (name, last) in object.get("collections")?.as_object()? {
            note.collections.insert(name.clone(), number(last)?);
        }
        (note.text().as_bytes() == text).then_some(note)
    }

    /// Reads the note in the directory of a log. `Ok(None)` when it is there and cannot be
    /// understood.
    pub(super) fn read<F: FileSystem>(log: &Dir<F>) -> Result<Option<ClosedNote>, Failure> {
        let file = match log.open_file(CLOSED.as_ref()) {
            Err(failure) if failure.is_not_found() => return Ok(Some(ClosedNote::default())),
            Err(_) if !is_file(log, CLOSED)? => return Ok(None),
            opened => opened?,
        };
        let size = file.metadata()?.size;
        let mut bytes = vec![0; usize::try_from(size.min(LONGEST_NOTE)).unwrap_or_default()];
        let length = file.read_up_to(&mut bytes, 0).map_err(|failure| failure.on(CLOSED))?;
        Ok(bytes.get(..length).and_then(ClosedNote::from_text))
    }

    /// Writes the note, whole or not at all, and makes it durable.
    pub(super) fn write<F: FileSystem>(&self, log: &Dir<F>) -> Result<(), AppendError> {
        write_note(log, CLOSED, &self.text())
    }
}

/// More bytes than the note of a log has that can be opened in a reasonable time.
const LONGEST_NOTE: u64 = 1 << 28;
