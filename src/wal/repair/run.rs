//! The steps of a repair, in their order.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::assess::{Assessment, assess};
use super::scan::{CurrentSegment, Scan};
use crate::error::{Code, Damage, ErrorKind, Failure};
use crate::fs::{Dir, DirUse, FileKind, FileSystem};
use crate::temp_name;
use crate::wal::append_error::AppendError;
use crate::wal::checkpoint::Checkpoint;
use crate::wal::dirs::{SHARED, is_file, sync_names};
use crate::wal::format::Header;
use crate::wal::memtable::Memtable;
use crate::wal::options::LogOptions;
use crate::wal::segments::{self, CHECKPOINT, CURRENT, NEXT, SPARE};
use crate::wal::writer::{SealedSegment, SegmentWriter};

/// A collection that can be appended to.
pub(in crate::wal) struct RepairedCollection<F: FileSystem> {
    pub(in crate::wal) dir: Arc<Dir<F>>,
    /// `None` if it has no segment yet.
    pub(in crate::wal) writer: Option<SegmentWriter<F>>,
    /// Whether there is a released segment whose space can serve again.
    pub(in crate::wal) has_spare: bool,
    pub(in crate::wal) memtable: Option<Memtable>,
    pub(in crate::wal) checkpoint: Checkpoint,
    /// The name that is its note, on a full disk.
    pub(in crate::wal) checkpoint_in_name: Option<String>,
    /// The number that its next segment has if there is none.
    pub(in crate::wal) next_segment: u64,
    /// The last sequence number that is known of.
    pub(in crate::wal) last: u64,
    pub(in crate::wal) damage: Vec<Damage>,
}

/// Repairs the collection of this name of the log in this directory. `noted` is the last sequence
/// number that it had when the log was last closed; 0 if that is not known.
pub(in crate::wal) fn repair<F: FileSystem>(
    log: &Dir<F>,
    collection: &str,
    options: &LogOptions,
    noted: u64,
) -> Result<RepairedCollection<F>, ErrorKind> {
    let dir = log.open_dir(collection.as_ref(), DirUse::NamesAndSync)?;
    let listed = dir.names()?;
    let names: BTreeSet<&str> = listed.iter().filter_map(|name| name.to_str()).collect();
    let dir = Arc::new(dir.without_path());

    let mut scan = Scan::new(collection, options);
    let assessment = assess(&mut scan, &dir, &names, noted)?;
    // Nothing has been changed so far, and nothing is refused from here on.
    let checkpoint_in_name = give_names_again(&assessment, &dir, &names)?;
    remove_leftovers(&assessment, &dir, &names, checkpoint_in_name.as_deref())?;
    for tail in &assessment.trailing {
        scan.cut_sealed(&dir, tail)?;
    }
    let has_spare = names.contains(SPARE) && is_file(&*dir, SPARE)?;
    let Assessment { checkpoint, sealed, current, current_name, mut next_segment, .. } = assessment;
    let writer = match current {
        Some(CurrentSegment::Usable { reader, findings, length }) => {
            next_segment = reader.header.number + 1;
            let (segment, uncut) = scan.clean(&dir, reader, &findings, length)?;
            if !findings.has_blocks {
                dir.rename(&segment.file, CURRENT.as_ref(), NEXT.as_ref())?;
                dir.sync(Some(&segment.file))?;
                segment.publish(&dir)?;
            }
            let mut writer =
                SegmentWriter::resume(Arc::clone(&dir), segment, scan.last, options.step);
            (writer.has_blocks, writer.is_damaged) = (findings.has_blocks, findings.is_damaged);
            (writer.sealed, writer.has_spare) = (sealed, has_spare);
            writer.uncut = uncut;
            Some(writer)
        }
        Some(CurrentSegment::Unusable) => {
            set_aside(&mut scan, &dir, &current_name)?;
            Some(begin_anew(&scan, &dir, next_segment, sealed, has_spare, options)?)
        }
        None if next_segment > 1 => {
            Some(begin_anew(&scan, &dir, next_segment, sealed, has_spare, options)?)
        }
        None => None,
    };
    // The names that were found may be there in memory only.
    sync_names(&*dir).map_err(|failure| failure.on(log.shown(collection.as_ref())))?;
    let Scan { memtable, last, damage, .. } = scan;
    Ok(RepairedCollection {
        dir,
        writer,
        has_spare,
        memtable,
        checkpoint,
        checkpoint_in_name,
        next_segment,
        last,
        damage,
    })
}

/// Whether this is the name of a sealed segment that a checkpoint has released.
fn is_released(checkpoint: &Checkpoint, name: &str) -> bool {
    segments::number_of(name).is_some_and(|number| number < checkpoint.first_segment)
}

/// Makes durable what the repair depends on. The answer is the name that is the note of the
/// checkpoint, if there is no room for a file.
fn give_names_again<F: FileSystem>(
    assessment: &Assessment<F>,
    dir: &Dir<F>,
    names: &BTreeSet<&str>,
) -> Result<Option<String>, ErrorKind> {
    let Assessment { checkpoint, current, current_name, is_unsealed, .. } = assessment;
    if *is_unsealed && matches!(current, Some(CurrentSegment::Usable { .. })) {
        let file = dir.open_to_write(current_name.as_ref())?;
        dir.rename(&file, current_name.as_ref(), CURRENT.as_ref())?;
        dir.sync(Some(&file))?;
    }
    let is_own = |name: &&&str| Checkpoint::from_name(name).as_ref() == Some(checkpoint);
    let mut in_name = names.iter().find(is_own).map(|name| (*name).to_owned());
    let numbers = names.iter().filter(|name| is_released(checkpoint, name));
    let released: Vec<u64> = numbers.filter_map(|name| segments::number_of(name)).collect();
    if !released.is_empty() || in_name.is_some() {
        checkpoint
            .write_releasing(dir, &released, &mut in_name)
            .or_else(|error| if in_name.is_some() && error.is_full() { Ok(()) } else { Err(error) })
            .map_err(AppendError::into_failure)?;
    }
    Ok(in_name)
}

/// Removes what nothing needs any more.
fn remove_leftovers<F: FileSystem>(
    assessment: &Assessment<F>,
    dir: &Dir<F>,
    names: &BTreeSet<&str>,
    checkpoint_in_name: Option<&str>,
) -> Result<(), ErrorKind> {
    let Assessment { checkpoint, current, next_segment, .. } = assessment;
    let drops_next = match current {
        Some(CurrentSegment::Usable { .. }) => true,
        Some(CurrentSegment::Unusable) => false,
        None => *next_segment == 1 && !names.contains(CHECKPOINT),
    };
    let is_leftover = |name: &&&str| {
        **name == NEXT && drops_next
            || temp_name::is_temp_name(name.as_ref()) && name.contains(CHECKPOINT)
            || is_released(checkpoint, name)
            || Checkpoint::from_name(name).is_some() && Some(**name) != checkpoint_in_name
    };
    for name in names.iter().filter(is_leftover) {
        // Nothing needs a directory of that name, but holdfast has not made it.
        if dir.look(name.as_ref())?.is_some_and(|found| found.kind != FileKind::Dir) {
            dir.remove_if_there(name.as_ref())?;
        }
    }
    Ok(())
}

/// Gives a current segment that cannot be used another name, and notes that with its damage.
fn set_aside<F: FileSystem>(
    scan: &mut Scan<'_>,
    dir: &Dir<F>,
    name: &str,
) -> Result<(), ErrorKind> {
    let aside = segments::damaged(CURRENT, rand::random());
    if is_file(dir, name)? {
        let file = dir.open_to_write(name.as_ref())?;
        dir.rename(&file, name.as_ref(), aside.as_ref())?;
    } else {
        // It cannot be opened, and so not be renamed, but it can change places with a file.
        drop(dir.create_shared(aside.as_ref(), SHARED)?);
        if !dir.exchange(name.as_ref(), aside.as_ref())? {
            dir.remove(aside.as_ref())?;
            return Err(Failure::at("rename", name, Code::ENOTSUP.error()).into());
        }
        dir.remove(name.as_ref())?;
    }
    for damage in scan.damage.iter_mut().filter(|damage| damage.file == name) {
        damage.copy = Some(aside.clone());
    }
    Ok(())
}

/// Makes a current segment behind those that are sealed.
fn begin_anew<F: FileSystem>(
    scan: &Scan<'_>,
    dir: &Arc<Dir<F>>,
    number: u64,
    sealed: Vec<SealedSegment>,
    has_spare: bool,
    options: &LogOptions,
) -> Result<SegmentWriter<F>, ErrorKind> {
    let header = Header {
        collection: scan.collection.to_owned(),
        number,
        first: scan.last + 1,
        created: (options.clock)(),
        marker: rand::random(),
    };
    let mut writer = SegmentWriter::create(Arc::clone(dir), header, has_spare, (0, options.step))
        .map_err(AppendError::into_failure)?;
    writer.sealed = sealed;
    Ok(writer)
}
