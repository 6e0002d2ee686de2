//! What is known of a file system besides what it does when it is asked: how it syncs, how it locks.

/// How a file system syncs, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncRules {
    /// Changes of names, sizes and attributes reach the disk in the order in which they were made,
    /// so that a power cut loses the last ones first.
    pub keeps_order: bool,
    /// A sync of the whole file system makes everything durable that was changed before, and
    /// reports what could not be written.
    pub syncs_whole: bool,
    /// The blocks of a file that is replaced or removed may be given to another file before that
    /// is on the disk. A power cut then brings the old name back, with the other file's bytes.
    /// It does not happen while the file is open.
    pub reuses_freed: bool,
}

/// What is known about locks on a file system, and about the files that are locked. The default is
/// for one that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockRules {
    /// Locks are decided in memory, and names can be looked up there without waiting for a disk.
    pub takes_no_disk: bool,
    /// A lock file may be removed when it is not used any more. All its users are programs of this
    /// system, and an open file whose name is gone, or leads to another, can be told by its identity.
    /// Not so on a network, where names are remembered for seconds, and where what another program
    /// has open gets another name instead of being removed; nor where a program is the file system
    /// (FUSE), which may give two files of one name one identity.
    pub may_remove_files: bool,
    /// A process that waits for a lock may not be woken up when it is free.
    pub has_to_poll: bool,
    /// A file that is mapped into memory stays open without its descriptor, and locked.
    pub stays_open_mapped: bool,
}
