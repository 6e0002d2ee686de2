//! Which syncs make a write durable.

use crate::fs::SyncRules;
use crate::vocabulary::Durability;

/// Which syncs come before the rename and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncSequence {
    /// None.
    None,
    /// The file is synced before.
    FileBefore,
    /// The file's bytes are on the device before, though perhaps in a cache of it, and nothing is synced. It
    /// holds where the rename cannot overtake the changes of the file's size and attributes, as
    /// [`SyncSequence::BytesThenFile`] does, and blocks of the file that is replaced are kept back: when
    /// the journal has the rename, which may be much later, it has flushed the device before. A
    /// power cut leaves the file from before, or this one, whole.
    BytesBefore,
    /// The textbook sequence: the file is synced before, the directory after. It holds on every
    /// file system, and waits for the journal twice.
    FileThenDir,
    /// The file's bytes are on the device before, and one sync of the file after makes it, its
    /// size, its attributes and its new name durable together. It waits for the journal once.
    /// It holds where the rename cannot overtake the changes of the file's size and
    /// attributes: a power cut before the sync leaves none of them, or those up to some
    /// moment in order, and with the rename always all that came before it.
    BytesThenFile,
}

impl SyncSequence {
    /// Whether one of its steps waits until the device has written what is in its cache.
    pub(crate) fn waits_for_device(self) -> bool {
        !matches!(self, SyncSequence::None | SyncSequence::BytesBefore)
    }
}

impl Durability {
    /// The syncs that reach it on a file system with these rules.
    pub(crate) fn sync_sequence(self, rules: SyncRules) -> SyncSequence {
        match self {
            Durability::None => SyncSequence::None,
            // What is replaced has to stay open until a sync says that it is: one that comes before
            // the rename would not do.
            Durability::File if rules.reuses_freed => Durability::Full.sync_sequence(rules),
            Durability::File if rules.keeps_order => SyncSequence::BytesBefore,
            Durability::File => SyncSequence::FileBefore,
            Durability::Full if rules.keeps_order => SyncSequence::BytesThenFile,
            Durability::Full => SyncSequence::FileThenDir,
        }
    }
}
