//! The note of what is no longer needed.
//!
//! On a full disk there is no room for a new note, and without one nothing may be removed that
//! would make room. There the oldest of the segments that are to be released gets a name that is
//! the note: that takes no room, and is done in one step. Then its space is given back, and the
//! note is written as a file.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::append_error::AppendError;
use super::dirs::is_file;
use super::format::LAST_SEQUENCE;
use super::note::write_note;
use super::segments::{CHECKPOINT, sealed};
use crate::error::Failure;
use crate::fs::{Dir, FileSystem, if_there};

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

/// The start of a name that is a note.
const IN_NAME: &str = "wal_checkpoint.";

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
        (note.is_in_range() && note.text().as_bytes() == text).then_some(note)
    }

    /// The name that is the note.
    fn name(self) -> String {
        let covered = format!("{} {}", self.up_to, self.first_segment);
        let checksum = crc32c::crc32c(covered.as_bytes());
        format!("{IN_NAME}{}.{}.{checksum:08x}", self.up_to, self.first_segment)
    }

    /// What a name says, if it is a note.
    pub(super) fn from_name(name: &str) -> Option<Checkpoint> {
        let (numbers, _) = name.strip_prefix(IN_NAME)?.rsplit_once('.')?;
        let (up_to, first_segment) = numbers.split_once('.')?;
        let note =
            Checkpoint { up_to: up_to.parse().ok()?, first_segment: first_segment.parse().ok()? };
        (note.is_in_range() && note.name() == name).then_some(note)
    }

    fn is_in_range(self) -> bool {
        self.up_to <= LAST_SEQUENCE && self.first_segment <= LAST_SEQUENCE
    }

    /// Reads the note in this directory, which has these names or had them just now. `Ok(None)`
    /// when it is there and cannot be understood.
    pub(super) fn read<'a, F: FileSystem>(
        dir: &Dir<F>,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Option<Checkpoint>, Failure> {
        let in_file = Checkpoint::read_file(dir)?;
        // Each says all that those before it have said.
        Ok(in_file
            .map(|in_file| {
                let rank = |note: &Checkpoint| (note.up_to, note.first_segment);
                names.filter_map(Checkpoint::from_name).chain([in_file]).max_by_key(rank)
            })
            .unwrap_or_default())
    }

    fn read_file<F: FileSystem>(dir: &Dir<F>) -> Result<Option<Checkpoint>, Failure> {
        let file = match dir.open_file(CHECKPOINT.as_ref()) {
            Err(failure) if failure.is_not_found() => return Ok(Some(Checkpoint::default())),
            Err(_) if !is_file(dir, CHECKPOINT)? => return Ok(None),
            opened => opened?,
        };
        let mut bytes = [0; LONGEST_NOTE];
        let length = file.read_up_to(&mut bytes, 0).map_err(|failure| failure.on(CHECKPOINT))?;
        Ok(bytes.get(..length).and_then(Checkpoint::from_text))
    }

    /// As [`Checkpoint::write`], also where there is no room for it, if one of the segments is
    /// there that it releases: then that gives its name and its space. `in_name` is the name of
    /// the note before, if a name was that, and becomes that of this one.
    pub(super) fn write_releasing<F: FileSystem>(
        self,
        dir: &Dir<F>,
        released: &[u64],
        in_name: &mut Option<String>,
    ) -> Result<(), AppendError> {
        let full = match self.write_and_drop_name(dir, in_name) {
            Err(error) if error.is_full() => error,
            written => return written,
        };
        let mut opened = None;
        for number in released {
            let segment = sealed(*number);
            let file = if_there(dir.open_to_write(segment.as_ref()));
            if let Some(file) = file.map_err(AppendError::NotWritten)? {
                opened = Some((segment, file));
                break;
            }
        }
        let Some((segment, file)) = opened else { return Err(full) };
        let name = self.name();
        dir.rename(&file, segment.as_ref(), name.as_ref()).map_err(AppendError::NotWritten)?;
        dir.sync(Some(&file)).map_err(AppendError::Unknown)?;
        let before = in_name.replace(name).filter(|before| Some(before) != in_name.as_ref());
        if let Some(before) = before {
            dir.remove_if_there(before.as_ref()).map_err(AppendError::NotWritten)?;
        }
        file.set_size(0).map_err(AppendError::NotWritten)?;
        match self.write_and_drop_name(dir, in_name) {
            // Others were faster. The name is as good.
            Err(error) if error.is_full() => Ok(()),
            written => written,
        }
    }

    /// Writes the note, and removes the file whose name was the note before.
    fn write_and_drop_name<F: FileSystem>(
        self,
        dir: &Dir<F>,
        in_name: &mut Option<String>,
    ) -> Result<(), AppendError> {
        self.write(dir)?;
        if let Some(name) = in_name.as_ref() {
            dir.remove_if_there(name.as_ref()).map_err(AppendError::NotWritten)?;
        }
        *in_name = None;
        Ok(())
    }

    /// Writes the note, whole or not at all, and makes it durable.
    pub(super) fn write<F: FileSystem>(self, dir: &Dir<F>) -> Result<(), AppendError> {
        write_note(dir, CHECKPOINT, &self.text())
    }
}
