//! Making sure that no process uses the lock file.

use super::steps::{Byte, FIRST_TICKET, LAST_TICKET, LockStep, StepResult};
use crate::vocabulary::LockKind;

/// Makes sure that no process uses the lock file, so that it may be removed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Removal {
    has_tickets: bool,
    stage: RemovalStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum RemovalStage {
    /// Has not told the others yet that it is no holder.
    Begin,
    Told,
    Tickets,
    Gate,
    Main,
}

impl Removal {
    /// On a system with tickets, or without; `is_told` where others can be told by
    /// [`Byte::Removal`] that the file is being removed.
    pub fn new(has_tickets: bool, is_told: bool) -> Removal {
        let stage = if is_told { RemovalStage::Begin } else { RemovalStage::Told };
        Removal { has_tickets, stage }
    }

    /// Whether another process was about to remove the file. It may have found a process that has used
    /// the file until a moment ago, and leave it: this one has to try again.
    pub fn has_met_another(&self) -> bool {
        self.stage == RemovalStage::Begin
    }

    /// What to do next, after this result of the step before. [`LockStep::Done`] says whether the
    /// file may be removed, if its name still leads to it. Whatever has been locked by then stays
    /// so until the file is closed.
    pub fn next(&mut self, result: StepResult) -> LockStep {
        let lock = |byte| LockStep::Try(byte, LockKind::Write);
        let (stage, step) = match (self.stage, result) {
            (RemovalStage::Begin, StepResult::Nothing) => {
                (RemovalStage::Begin, lock(Byte::Removal))
            }
            (RemovalStage::Begin, StepResult::Locked(true)) | (RemovalStage::Told, _)
                if self.has_tickets =>
            {
                (RemovalStage::Tickets, LockStep::Look(FIRST_TICKET, LAST_TICKET))
            }
            (RemovalStage::Begin, StepResult::Locked(true))
            | (RemovalStage::Told, _)
            | (RemovalStage::Tickets, StepResult::Found(None)) => {
                (RemovalStage::Gate, lock(Byte::Gate))
            }
            (RemovalStage::Gate, StepResult::Locked(true)) => {
                (RemovalStage::Main, lock(Byte::Main))
            }
            (RemovalStage::Main, StepResult::Locked(true)) => return LockStep::Done(true),
            _ => return LockStep::Done(false),
        };
        self.stage = stage;
        step
    }
}
