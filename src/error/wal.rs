//! The errors of a log itself, beside those of the system.

use std::fmt;

/// Why an operation on a log has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// A write or a sync of the log has failed, so it is unknown what of it is on the disk. Nothing
    /// is appended until the log is opened anew.
    #[error("the log is poisoned until it is opened anew, because of an earlier failure: {0}")]
    Poisoned(String),
    /// The lock file of the log, one of its directories or its segment was removed, renamed or
    /// replaced while it was open, so another process may have the log, or what is appended cannot
    /// be found. Nothing is appended until the log is opened anew.
    #[error("the log is not what was opened any more: {0}")]
    Moved(String),
    /// What is on the disk is not what was written, and the recovery mode does not allow to
    /// continue.
    #[error("{0}")]
    Damaged(Box<Damage>),
    /// The log has been closed.
    #[error("the log is closed")]
    Closed,
    /// The name of a collection is none that a directory can safely have.
    #[error("{0:?} cannot be the name of a collection")]
    Name(String),
    /// The entries of a batch take more room than a block has.
    #[error("the batch is too large: {bytes} bytes, where {most} are possible")]
    TooLarge {
        /// How much it has.
        bytes: usize,
        /// How much it may have.
        most: usize,
    },
    /// A checkpoint beyond what has been appended.
    #[error("the checkpoint {asked} is beyond the last entry, {last}")]
    Ahead {
        /// What was asked for.
        asked: u64,
        /// The last sequence number of the collection.
        last: u64,
    },
    /// A walk is to begin, or to go on, with entries that a checkpoint has released.
    #[error("entry {asked} is no longer there: the log starts at {first}")]
    Released {
        /// The number that was asked for.
        asked: u64,
        /// The lowest number that has not been released.
        first: u64,
    },
    /// The name of a consumer is none.
    #[error(
        "{0:?} cannot be the name of a consumer: letters, digits, _ and - are possible, at most 64"
    )]
    ConsumerName(String),
    /// The log was opened without a memtable, so there is nothing to get from.
    #[error("the log was opened without a memtable")]
    NoMemtable,
}

impl WalError {
    /// Why the log takes no appends until it is opened anew, if it does not.
    pub fn cause(&self) -> Option<&str> {
        match self {
            WalError::Poisoned(cause) | WalError::Moved(cause) => Some(cause),
            _ => None,
        }
    }

    /// The value of `error.code`.
    pub fn code(&self) -> &'static str {
        match self {
            WalError::Poisoned(_) => "EWALPOISONED",
            WalError::Moved(_) => "EWALMOVED",
            WalError::Damaged(_) => "EWALDAMAGED",
            WalError::Closed => "EWALCLOSED",
            WalError::Name(_) => "EWALNAME",
            WalError::TooLarge { .. } => "EWALTOOLARGE",
            WalError::Ahead { .. } => "EWALAHEAD",
            WalError::ConsumerName(_) => "EWALCONSUMER",
            WalError::Released { .. } => "EWALRELEASED",
            WalError::NoMemtable => "EWALNOMEMTABLE",
        }
    }
}

/// What is wrong with a stretch of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DamageKind {
    /// The end of what was written last, or bytes behind the end: what a power cut or a killed
    /// writer leaves. Nothing that a sync had confirmed is missing, as far as can be told.
    TornTail,
    /// Something that had been on the disk, or may have been, cannot be read.
    Unreadable,
    /// A segment is not there.
    Missing,
    /// A segment is not the one that its name says, or comes twice.
    Misplaced,
    /// The note of the last checkpoint cannot be read, so what it had released shows again.
    Checkpoint,
    /// The position of a consumer cannot be read, so nothing is released.
    Consumer,
}

impl DamageKind {
    /// What `error.damage.kind` and the report say.
    pub fn name(self) -> &'static str {
        match self {
            DamageKind::TornTail => "tornTail",
            DamageKind::Unreadable => "unreadable",
            DamageKind::Missing => "missing",
            DamageKind::Misplaced => "misplaced",
            DamageKind::Checkpoint => "checkpoint",
            DamageKind::Consumer => "consumer",
        }
    }
}

/// A stretch of a log that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The collection.
    pub collection: String,
    /// The name of the file in its directory.
    pub file: String,
    /// What kind of damage.
    pub kind: DamageKind,
    /// Where it starts.
    pub offset: u64,
    /// How many bytes are not used.
    pub length: u64,
    /// What was found there, for people.
    pub reason: &'static str,
    /// The last sequence number of the collection that was read before it; 0 if there is none.
    pub after: u64,
    /// The next one that was read behind it, if there is one.
    pub before: Option<u64>,
    /// The name of the file that the bytes were copied to, if they were.
    pub copy: Option<String>,
}

impl Damage {
    /// A stretch of a file: where it starts, and how long it is.
    pub fn new(
        collection: &str,
        file: &str,
        kind: DamageKind,
        (offset, length): (u64, u64),
        reason: &'static str,
        after: u64,
    ) -> Damage {
        Damage {
            collection: collection.to_owned(),
            file: file.to_owned(),
            kind,
            offset,
            length,
            reason,
            after,
            before: None,
            copy: None,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { collection, file, kind, offset, length, reason, after, before, copy } = self;
        write!(f, "{collection}/{file}: {} at byte {offset}, {length} bytes", kind.name())?;
        write!(f, ": {reason}; entries before it end at {after}")?;
        if let Some(before) = before {
            write!(f, " and go on at {before}")?;
        }
        if let Some(copy) = copy {
            write!(f, "; the bytes were copied to {copy}")?;
        }
        Ok(())
    }
}
