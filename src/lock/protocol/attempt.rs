//! Taking the lock without waiting for it.

use super::steps::{Access, Byte, FIRST_TICKET, LAST_TICKET, LockStep, StepResult};
use crate::vocabulary::LockKind;

/// Asking for the lock without waiting.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    kind: LockKind,
    has_tickets: bool,
    access: Access,
    stage: AttemptStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AttemptStage {
    Begin,
    /// Goes on with main alone.
    Again,
    /// Has asked for main alone.
    MainAlone,
    Tickets,
    Gate,
    Main,
    /// Unlocks the gate, and then is done, with or without main.
    Finishing(bool),
    /// Looks whether there are readers that have locked the directory.
    InDir,
}

impl Attempt {
    /// For this; where there are tickets, not while another process has one.
    pub fn new(kind: LockKind, has_tickets: bool) -> Attempt {
        Attempt { kind, has_tickets, access: Access::default(), stage: AttemptStage::Begin }
    }

    /// On a file that is open like this.
    pub fn with(self, access: Access) -> Attempt {
        Attempt { access, ..self }
    }

    /// For writing, by a process that has had its turn and goes on for a while, before the
    /// processes that wait: the first of them has the gate.
    pub fn again() -> Attempt {
        Attempt { stage: AttemptStage::Again, ..Attempt::new(LockKind::Write, false) }
    }

    /// What to do next, after this result of the step before.
    pub fn next(&mut self, result: StepResult) -> LockStep {
        let (stage, step) = match self.stage {
            AttemptStage::Again => (AttemptStage::MainAlone, LockStep::Try(Byte::Main, self.kind)),
            AttemptStage::MainAlone if result == StepResult::Locked(true) => {
                return self.got_main();
            }
            AttemptStage::MainAlone => return LockStep::Done(false),
            AttemptStage::Begin if self.has_tickets => {
                (AttemptStage::Tickets, LockStep::Look(FIRST_TICKET, LAST_TICKET))
            }
            AttemptStage::Begin => (AttemptStage::Gate, LockStep::Try(Byte::Gate, self.kind)),
            AttemptStage::Tickets if result != StepResult::Found(None) => {
                return LockStep::Done(false);
            }
            AttemptStage::Tickets => (AttemptStage::Gate, LockStep::Try(Byte::Gate, self.kind)),
            AttemptStage::Gate if result != StepResult::Locked(true) => {
                return LockStep::Done(false);
            }
            AttemptStage::Gate => (AttemptStage::Main, LockStep::Try(Byte::Main, self.kind)),
            AttemptStage::Main => (
                AttemptStage::Finishing(result == StepResult::Locked(true)),
                LockStep::Unlock(Byte::Gate),
            ),
            AttemptStage::Finishing(true) => return self.got_main(),
            AttemptStage::Finishing(false) => return LockStep::Done(false),
            AttemptStage::InDir if result == StepResult::InDir(true) => {
                (AttemptStage::Finishing(false), LockStep::Unlock(Byte::Main))
            }
            AttemptStage::InDir => return LockStep::Done(true),
        };
        self.stage = stage;
        step
    }
}

impl Attempt {
    fn got_main(&mut self) -> LockStep {
        match self.kind == LockKind::Write && self.access.looks_in_dir {
            true => {
                self.stage = AttemptStage::InDir;
                LockStep::LookInDir
            }
            false => LockStep::Done(true),
        }
    }
}
