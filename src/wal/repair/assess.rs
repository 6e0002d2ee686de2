//! Reads all segments of a collection and refuses what the recovery mode does not allow. Nothing
//! is changed here.

use std::collections::BTreeSet;

use super::scan::{CurrentSegment, Scan, TrailingBytes};
use crate::error::{DamageKind, ErrorKind, Failure};
use crate::fs::{Dir, FileSystem};
use crate::wal::checkpoint::Checkpoint;
use crate::wal::dirs::is_file;
use crate::wal::reader::SegmentReader;
use crate::wal::segments::{self, CHECKPOINT, CURRENT, NEXT};
use crate::wal::writer::SealedSegment;

/// What a collection has.
pub(super) struct Assessment<F: FileSystem> {
    pub(super) checkpoint: Checkpoint,
    pub(super) sealed: Vec<SealedSegment>,
    /// What sealed segments have behind their ends.
    pub(super) trailing: Vec<TrailingBytes>,
    /// `None` when there is none.
    pub(super) current: Option<CurrentSegment<F>>,
    /// The name of the current segment.
    pub(super) current_name: String,
    /// Whether it had been sealed in a rotation that was not finished.
    pub(super) is_unsealed: bool,
    /// The number behind those of the sealed segments.
    pub(super) next_segment: u64,
}

/// `noted` is the last sequence number that the collection had when its log was last closed.
pub(super) fn assess<F: FileSystem>(
    scan: &mut Scan<'_>,
    dir: &Dir<F>,
    names: &BTreeSet<&str>,
    noted: u64,
) -> Result<Assessment<F>, ErrorKind> {
    let mut numbers: BTreeSet<u64> =
        names.iter().filter_map(|name| segments::number_of(name)).collect();
    let checkpoint = match Checkpoint::read(dir, names.iter().copied())? {
        Some(note) => note,
        None => {
            scan.damaged(DamageKind::Checkpoint, CHECKPOINT, (0, 0), "the note cannot be read")?;
            Checkpoint { up_to: 0, first_segment: numbers.first().copied().unwrap_or(1) }
        }
    };
    scan.released = checkpoint.up_to;

    // Between two segments there is none that is current, but the next one has been made. What
    // has just been sealed goes on then. (One that was made beforehand follows another that is
    // not sealed yet: if that is not there, it is missing.)
    let made = match names.contains(NEXT) && !names.contains(CURRENT) {
        true => number_of_next(dir, scan.collection)?,
        false => None,
    };
    let last = numbers.last().copied();
    let follows = |last: u64| made.is_some_and(|made| made == last.saturating_add(1));
    let unsealed = last.filter(|last| *last >= checkpoint.first_segment && follows(*last));
    if let Some(number) = unsealed {
        numbers.remove(&number);
    }
    let current_name = unsealed.map_or_else(|| CURRENT.to_owned(), segments::sealed);

    let mut expected = checkpoint.first_segment;
    let (mut sealed, mut trailing) = (Vec::new(), Vec::new());
    for number in numbers.range(checkpoint.first_segment..) {
        scan.note_missing(expected, *number)?;
        expected = number.saturating_add(1);
        if let Some((segment, tail)) = scan.sealed(dir, *number)? {
            sealed.push(segment);
            trailing.extend(tail);
        }
    }
    let mut current = None;
    if names.contains(current_name.as_str()) {
        current = Some(scan.current(dir, &current_name, unsealed.is_none(), expected)?);
    } else if made != Some(expected)
        && (expected > 1 || names.contains(CHECKPOINT) || made.is_some() || noted > 0)
    {
        let reason = "there is no current segment";
        scan.damaged(DamageKind::Missing, CURRENT, (0, 0), reason)?;
    }
    // What a checkpoint tells of has been there, though its segments may be gone.
    scan.last = scan.last.max(checkpoint.up_to);
    Ok(Assessment {
        checkpoint,
        sealed,
        trailing,
        current,
        current_name,
        is_unsealed: unsealed.is_some(),
        next_segment: expected,
    })
}

/// The number of the segment that is made beforehand. `None` if its header cannot be read.
fn number_of_next<F: FileSystem>(dir: &Dir<F>, collection: &str) -> Result<Option<u64>, Failure> {
    if !is_file(dir, NEXT)? {
        return Ok(None);
    }
    let next = SegmentReader::open_of(dir, NEXT, collection, None)?;
    Ok(next.ok().map(|reader| reader.header.number))
}
