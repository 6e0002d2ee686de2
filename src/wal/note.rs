//! Small files that say something about a log, replaced as a whole.

use super::append_error::AppendError;
use super::dirs::SHARED;
use crate::error::Failure;
use crate::fs::{Dir, FileSystem};
use crate::temp_name;

/// Writes a note under its name, whole or not at all, and makes it durable. Where the sync of the
/// directory fails it is not known what is on the disk: not of the note, and not of other names that
/// were waiting for a sync, whose own may report nothing any more.
pub(super) fn write_note<F: FileSystem>(
    dir: &Dir<F>,
    note: &str,
    text: &str,
) -> Result<(), AppendError> {
    // Its messages name the note, not the temp file, and no second path.
    let of_note = |failure: Failure| Failure { dest: None, ..failure.on(dir.shown(note.as_ref())) };
    let name = || temp_name::new_name(note.as_ref());
    let (name, file) = dir
        .create_unique(name, SHARED)
        .map_err(|failure| AppendError::NotWritten(of_note(failure)))?;
    let publish = || {
        file.write_all(text.as_bytes())?;
        file.sync()?;
        // Until the new one is on the disk the old one's blocks must not be used again.
        let replaced = match dir.sync_rules(file.metadata()?.id.device).reuses_freed {
            true => dir.open_to_keep(note.as_ref())?,
            false => None,
        };
        dir.rename(&file, &name, note.as_ref()).map(|()| replaced)
    };
    let _replaced = publish().map_err(|failure| {
        // If it stays, recovery knows it for a temp file of ours.
        let _ = dir.remove(&name);
        AppendError::NotWritten(of_note(failure))
    })?;
    dir.sync(Some(&file)).map_err(|failure| AppendError::Unknown(of_note(failure)))
}
