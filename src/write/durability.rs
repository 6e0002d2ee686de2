//! What of a write survives a power cut.

/// The three levels, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Readers see the old file or the new one, whole; nothing is synced.
    None,
    /// The bytes are synced before the rename: after a power cut the target is the old
    /// file or the new one, whole, but it may be the old one.
    File,
    /// The bytes and the rename are synced: an acknowledged write is there after a
    /// power cut.
    Full,
}

impl Durability {
    /// Whether the file is synced before it is renamed.
    pub(super) fn syncs_file(self) -> bool {
        self >= Durability::File
    }

    /// Whether the folder is synced after the rename.
    pub(super) fn syncs_folder(self) -> bool {
        self == Durability::Full
    }
}
