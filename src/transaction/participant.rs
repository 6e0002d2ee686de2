//! A directory in which a transaction changes files, and the record that the transaction keeps
//! there until it is complete.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::names::{self, RecordKind, TransactionId};
use super::record::{LARGEST, Record, RecordDamage};
use crate::error::{Code, Failure};
use crate::fs::{
    Dir, DirUse, File, FileKind, FileSystem, Metadata, NamedFile, SharedWith, SyncRules,
    TempAtExit, if_there,
};

/// A directory that takes part in a transaction.
pub(super) struct Participant<F: FileSystem> {
    pub(super) dir: Dir<F>,
    /// What was known about the directory when it was opened.
    pub(super) metadata: Metadata,
    /// How its file system syncs, if the transaction syncs.
    pub(super) rules: SyncRules,
    /// The transaction's record there, if this process has locked it.
    pub(super) record: Option<LockedRecord<F>>,
}

/// A record whose lock this process holds: no other process touches the transaction meanwhile.
pub(super) struct LockedRecord<F: FileSystem> {
    pub(super) file: File<F>,
    pub(super) kind: RecordKind,
    /// Has it removed if a signal ends the process before the transaction is decided.
    pub(super) at_exit: Option<TempAtExit>,
}

impl<F: FileSystem> Participant<F> {
    pub(super) fn open(fs: &F, path: &Path) -> Result<Participant<F>, Failure> {
        let dir = Dir::open(fs, path, DirUse::NamesAndSync)?;
        // To the caller, looking at the directory is a part of opening it.
        let metadata =
            dir.metadata().map_err(|failure| Failure::at("open", path, failure.source))?;
        Ok(Participant { dir, metadata, rules: SyncRules::default(), record: None })
    }

    /// Makes the record, locked, and does not sync it. `false` when a sweeper has taken it for that of
    /// a dead process before it was locked: the sweeper may remove what has this name at any
    /// moment, so the transaction needs another id.
    pub(super) fn write_record(
        &mut self,
        id: TransactionId,
        bytes: &[u8],
    ) -> Result<bool, Failure> {
        let name = names::record(id, RecordKind::Prepared);
        let at_exit = self.dir.remove_at_exit(&name);
        // Everybody who may change files here has to know what others have begun.
        let with = SharedWith::WritersOfDir { mode: 0o644 };
        let created = self.dir.create_shared(&name, with);
        if let Some(at_exit) = &at_exit {
            at_exit.made();
        }
        let file = created.inspect_err(|failure| {
            if failure.code() != Some(Code::EEXIST) {
                // A network file system may have made it all the same.
                let _ = self.dir.remove(&name);
            }
        })?;
        let fill = || {
            let is_locked = file.try_lock()?;
            match self.dir.compare(&name, &file)? {
                NamedFile::Same if is_locked => {}
                // Files cannot be told apart here, and a transaction has to.
                NamedFile::Untold => return Err(Failure::new("fstat", Code::ENOTSUP.error())),
                _ => return Ok(false),
            }
            file.write_all(bytes)?;
            match file.metadata()?.size == bytes.len() as u64 {
                true => Ok(true),
                false => Err(Failure::new("fstat", Code::EIO.error())),
            }
        };
        let filled = fill();
        if !matches!(filled, Ok(true)) {
            let _ = self.dir.remove(&name);
            return filled.map_err(|failure| failure.on(self.dir.shown(&name)));
        }
        self.record = Some(LockedRecord { file, kind: RecordKind::Prepared, at_exit });
        Ok(true)
    }

    pub(super) fn device(&self) -> u64 {
        self.metadata.id.device
    }

    /// The path of a record in it, for messages.
    pub(super) fn record_path(&self, id: TransactionId, kind: RecordKind) -> PathBuf {
        self.dir.shown(&names::record(id, kind))
    }

    /// Waits until the names in the directory are on the disk.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.dir.sync(self.record.as_ref().map(|record| &record.file))
    }

    /// Whether something that has the name of a record may be one: a file, and in a directory in
    /// which every user may put one (`/tmp`) that of the process's user or of the directory's
    /// owner. The same care as for symbolic links.
    pub(super) fn trusts(&self, found: &Metadata) -> bool {
        found.kind == FileKind::File && self.metadata.trusts(self.dir.fs(), found.uid)
    }
}

/// Gives a file that is to be removed its temp name, by which it is known that it was removed. A
/// file that is gone already is removed as well.
pub(super) fn rename_removed<F: FileSystem>(
    dir: &Dir<F>,
    name: &OsStr,
    temp_name: &OsStr,
) -> Result<(), Failure> {
    // To the caller, opening the file is a part of renaming it.
    let opened = if_there(dir.open_to_change(name)).map_err(|failure| Failure {
        syscall: "rename",
        dest: Some(dir.shown(temp_name)),
        ..failure
    });
    let Some(file) = opened? else { return Ok(()) };
    let renamed = if_there(dir.rename(&file, name, temp_name)).map(drop);
    dir.confirmed(renamed, &file, temp_name)
}

/// Reads the record of a transaction from its open file.
pub(super) fn read_record<F: FileSystem>(
    file: &File<F>,
    id: TransactionId,
) -> Result<Result<Record, RecordDamage>, Failure> {
    let size = file.metadata()?.size;
    let Some(size) = usize::try_from(size).ok().filter(|size| *size <= LARGEST) else {
        return Ok(Err(RecordDamage::Nonsense));
    };
    let mut bytes = vec![0; size];
    let count = file.read_up_to(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(Record::decode(&bytes).and_then(|record| match record.id == id {
        true => Ok(record),
        // It was removed, and before that was on the disk another record got its blocks.
        false => Err(RecordDamage::Torn),
    }))
}
