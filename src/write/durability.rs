//! What of a write survives a power cut, and what has to be done for that.

use crate::fs::SyncRules;
use crate::vocabulary::Durability;

/// What is done for it before the rename and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syncs {
    /// Nothing.
    None,
    /// The file is synced before.
    FileBefore,
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

impl Durability {
    /// How it is reached for a file on a file system of which this is known.
    pub(crate) fn syncs(self, rules: SyncRules) -> Syncs {
        match self {
            Durability::None => Syncs::None,
            Durability::File => Syncs::FileBefore,
            Durability::Full if rules.keeps_order => Syncs::BytesThenFile,
            Durability::Full => Syncs::FileThenDir,
        }
    }

    /// Whether the directory is synced after the rename.
    pub(crate) fn syncs_dir(self) -> bool {
        self == Durability::Full
    }
}
