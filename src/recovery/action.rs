//! What a recovery has done with a file.

use std::path::PathBuf;

use crate::write::AttemptError;

/// What was done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// It was removed.
    Removed,
    /// A temp file has become the file that it was written to be.
    Promoted,
    /// It has taken the place of a file that was missing or corrupt.
    Restored,
    /// It was corrupt, and got another name.
    SetAside,
    /// A transaction that was decided has replaced it, or removed it.
    Completed,
    /// It was not what a decided transaction had found, so it was left as it is.
    Conflict,
    /// Nothing.
    Left,
    /// Something should have been done with it, and could not be.
    Failed,
}

impl ActionKind {
    /// What users see in `action`.
    pub fn name(self) -> &'static str {
        match self {
            ActionKind::Removed => "removed",
            ActionKind::Promoted => "promoted",
            ActionKind::Restored => "restored",
            ActionKind::SetAside => "setAside",
            ActionKind::Completed => "completed",
            ActionKind::Conflict => "conflict",
            ActionKind::Left => "left",
            ActionKind::Failed => "failed",
        }
    }
}

/// What was done with one file, and why.
#[derive(Debug)]
pub struct RecoveryAction {
    /// The file.
    pub path: PathBuf,
    /// What was done with it.
    pub kind: ActionKind,
    /// Its new name, if it has got one.
    pub to: Option<PathBuf>,
    /// Why, for people.
    pub reason: String,
    /// Whether something of a transaction is left to do, and no process is known to be at it.
    pub is_undone: bool,
    /// Why it could not be done.
    pub error: Option<AttemptError>,
}
