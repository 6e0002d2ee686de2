//! Waiting for the lock, in the order of the tickets.

use super::steps::{Access, Byte, FIRST_TICKET, LAST_TICKET, LockStep, StepResult};
use crate::vocabulary::LockKind;

/// Takes the ticket behind the last one taken.
///
/// Two processes that do this at the same time may find the same ticket free; one gets it and the
/// other goes on to the next. Both have come at the same time, so either may be the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Doorway {
    /// No ticket from this one on is known to be taken.
    free: u64,
    /// The last ticket found taken.
    before: Option<u64>,
}

impl Doorway {
    /// To take this ticket or one behind it.
    fn from(ticket: u64) -> Doorway {
        Doorway { free: ticket, before: None }
    }

    /// What to do next. The ticket, when it has been taken; `None` when there is none, because
    /// another program has locked the whole file.
    fn next(&mut self, result: StepResult) -> Result<Option<u64>, LockStep> {
        match result {
            StepResult::Locked(true) => return Ok(Some(self.free)),
            StepResult::Found(None) => {
                return Err(LockStep::Try(Byte::Ticket(self.free), LockKind::Write));
            }
            StepResult::Found(Some(ticket)) => self.pass(ticket),
            StepResult::Locked(false) => self.pass(self.free),
            StepResult::Nothing | StepResult::InDir(_) => {}
        }
        if self.free > LAST_TICKET { Ok(None) } else { Err(LockStep::Look(self.free, LAST_TICKET)) }
    }

    fn pass(&mut self, ticket: u64) {
        self.free = ticket.saturating_add(1);
        self.before = Some(ticket);
    }
}

/// Waits for the lock, on a thread of its own that calls [`Wait::next`] and does what it says.
/// Meanwhile other threads may withdraw the wait, and let it rejoin. They must not do so between
/// two steps, but only while the thread is locking something ([`LockStep::Lock`]), has not begun or
/// is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wait {
    kind: LockKind,
    has_tickets: bool,
    access: Access,
    is_wanted: bool,
    ticket: Option<u64>,
    /// Whether all tickets before its own have been released.
    is_first: bool,
    has_gate: bool,
    has_main: bool,
    stage: WaitStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum WaitStage {
    Begin,
    Doorway(Doorway),
    /// Waits until this ticket is released.
    Behind(u64),
    /// Has just seen that.
    TicketReleased,
    /// Looks for tickets before its own: from this one on; and the last one found so far.
    Looking(u64, Option<u64>),
    Gate,
    Main,
    /// Has main, and looks whether there are readers that have locked the directory.
    InDir,
    /// Lets them come to their end.
    Pausing,
    /// Unlocks what it needs no more, and then is done, with or without main.
    Finishing(bool),
    /// Has unlocked main, because this ticket is before its own.
    MainReleased(u64),
    /// Has unlocked the gate, because there may be tickets before its own.
    GateReleased,
    Done,
}

/// Takes a ticket for a wait that has none yet, or has released it when it was withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reentry {
    doorway: Option<Doorway>,
    gate: Option<LockKind>,
}

impl Wait {
    /// For this, with a ticket where there are any.
    pub fn new(kind: LockKind, has_tickets: bool) -> Wait {
        Wait {
            kind,
            has_tickets,
            access: Access::default(),
            is_wanted: true,
            ticket: None,
            is_first: false,
            has_gate: false,
            has_main: false,
            stage: WaitStage::Begin,
        }
    }

    /// What it waits for.
    pub fn kind(&self) -> LockKind {
        self.kind
    }

    /// Whether it has nothing more to do.
    pub fn is_done(&self) -> bool {
        self.stage == WaitStage::Done
    }

    /// Whether the lock is wanted at present.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Its ticket, if it has one.
    pub fn ticket(&self) -> Option<u64> {
        self.ticket
    }

    /// On a file that is open like this, where nothing is locked yet.
    pub fn with(self, access: Access) -> Wait {
        Wait { access, ..self }
    }

    /// Starts anew, on another file, where nothing is locked yet.
    pub fn restart(&mut self) {
        let anew = Wait::new(self.kind, self.has_tickets).with(self.access);
        *self = Wait { is_wanted: self.is_wanted, ..anew };
    }

    /// The same on a file that is open like this.
    pub fn restart_with(&mut self, access: Access) {
        self.access = access;
        self.restart();
    }

    /// Whether it takes tickets: not of a file that it may only read.
    fn takes_tickets(&self) -> bool {
        self.has_tickets && !self.access.is_read_only
    }

    /// What the thread is to do next, after this result of the step before.
    pub fn next(&mut self, result: StepResult) -> LockStep {
        match self.stage {
            WaitStage::Begin if !self.is_wanted => self.finish(false),
            WaitStage::Begin if !self.takes_tickets() => self.ask_gate(),
            WaitStage::Begin if self.ticket.is_some() => self.look(FIRST_TICKET, None),
            WaitStage::Begin => self.enter(Doorway::from(FIRST_TICKET), StepResult::Nothing),
            WaitStage::Doorway(doorway) => self.enter(doorway, result),
            WaitStage::Behind(ticket) => {
                self.stage = WaitStage::TicketReleased;
                LockStep::Unlock(Byte::Ticket(ticket))
            }
            WaitStage::TicketReleased if !self.is_wanted => self.finish(false),
            WaitStage::TicketReleased | WaitStage::GateReleased => self.look(FIRST_TICKET, None),
            WaitStage::Looking(from, last) => match result {
                StepResult::Found(Some(ticket)) => self.look(from.max(ticket) + 1, Some(ticket)),
                _ => self.looked(last),
            },
            WaitStage::Gate => {
                self.has_gate = true;
                if !self.is_wanted {
                    return self.finish(false);
                }
                if self.takes_tickets() && !self.is_first {
                    // It has released its ticket meanwhile, and has another one now.
                    self.has_gate = false;
                    self.stage = WaitStage::GateReleased;
                    return LockStep::Unlock(Byte::Gate);
                }
                self.ask_main()
            }
            WaitStage::Main => {
                self.has_main = true;
                if !self.is_wanted {
                    return self.finish(false);
                }
                if self.takes_tickets() && !self.is_first {
                    return self.look(FIRST_TICKET, None);
                }
                self.got_main()
            }
            WaitStage::InDir if result == StepResult::InDir(true) => {
                self.stage = WaitStage::Pausing;
                LockStep::Pause
            }
            WaitStage::InDir => self.finish(true),
            WaitStage::Pausing if !self.is_wanted => self.finish(false),
            WaitStage::Pausing if self.takes_tickets() && !self.is_first => {
                // It has released everything meanwhile, and has another ticket now.
                self.look(FIRST_TICKET, None)
            }
            WaitStage::Pausing if !self.has_main => self.ask_gate(),
            WaitStage::Pausing => self.got_main(),
            WaitStage::MainReleased(ticket) => self.wait_behind(ticket),
            WaitStage::Finishing(with_main) => self.finish(with_main),
            WaitStage::Done => LockStep::Done(self.has_main),
        }
    }

    /// No call wants the lock for the time being, so no process may queue up behind this wait. What
    /// to unlock at once; `can_unlock` says whether the gate can be unlocked while the thread waits
    /// for main.
    pub fn withdraw(&mut self, can_unlock: bool) -> Vec<Byte> {
        self.is_wanted = false;
        if self.is_done() {
            return Vec::new();
        }
        self.is_first = false;
        let gate = self.has_gate && can_unlock;
        self.has_gate &= !gate;
        // What it has while it waits in the kernel is not its alone to give up.
        let main = self.has_main && self.stage == WaitStage::Pausing;
        self.has_main &= !main;
        let ticket = self.ticket.take().map(Byte::Ticket);
        let others = [(gate, Byte::Gate), (main, Byte::Main)];
        let others = others.into_iter().filter_map(|(is_held, byte)| is_held.then_some(byte));
        ticket.into_iter().chain(others).collect()
    }

    /// The thread stops asking for what it is to lock ([`LockStep::Lock`]), as the lock is not wanted
    /// any more. It unlocks what is left, and then is done.
    pub fn give_up(&mut self) {
        self.stage = WaitStage::Finishing(false);
    }

    /// The lock is wanted after all, or the ticket is to be taken before the thread begins. `None`
    /// when it is too late for this wait.
    pub fn rejoin(&mut self) -> Option<Reentry> {
        if self.is_done() {
            return None;
        }
        self.is_wanted = true;
        // The ticket it waits for has to be before its own, or two waits could wait for each other.
        let first = match self.stage {
            WaitStage::Behind(ticket) => ticket + 1,
            _ => FIRST_TICKET,
        };
        let needs_gate = !self.takes_tickets() && self.stage == WaitStage::Main && !self.has_gate;
        Some(Reentry {
            doorway: (self.takes_tickets() && self.ticket.is_none()).then(|| Doorway::from(first)),
            gate: needs_gate.then_some(self.kind),
        })
    }

    /// How the gate is locked by a process that has to wait. Without tickets readers have to
    /// exclude each other there, or readers that keep arriving leave no gap for a writer.
    fn gate_kind(&self) -> LockKind {
        match self.takes_tickets() || self.access.is_read_only {
            true => self.kind,
            false => LockKind::Write,
        }
    }

    fn enter(&mut self, mut doorway: Doorway, result: StepResult) -> LockStep {
        match doorway.next(result) {
            Ok(ticket) => {
                self.ticket = ticket;
                match ticket.and(doorway.before) {
                    Some(before) => self.wait_behind(before),
                    None => self.look(FIRST_TICKET, None),
                }
            }
            Err(step) => {
                self.stage = WaitStage::Doorway(doorway);
                step
            }
        }
    }

    fn wait_behind(&mut self, ticket: u64) -> LockStep {
        self.stage = WaitStage::Behind(ticket);
        LockStep::Lock(Byte::Ticket(ticket), LockKind::Read)
    }

    fn look(&mut self, from: u64, last: Option<u64>) -> LockStep {
        match self.ticket {
            Some(own) if from < own => {
                self.stage = WaitStage::Looking(from, last);
                LockStep::Look(from, own - 1)
            }
            _ => self.looked(last),
        }
    }

    /// It knows the ticket right before its own now, if there is one.
    fn looked(&mut self, last: Option<u64>) -> LockStep {
        match last {
            Some(ticket) if self.has_main => {
                self.has_main = false;
                self.stage = WaitStage::MainReleased(ticket);
                LockStep::Unlock(Byte::Main)
            }
            Some(ticket) => self.wait_behind(ticket),
            None => {
                self.is_first = true;
                if self.has_main { self.got_main() } else { self.ask_gate() }
            }
        }
    }

    fn ask_gate(&mut self) -> LockStep {
        self.stage = WaitStage::Gate;
        LockStep::Lock(Byte::Gate, self.gate_kind())
    }

    fn ask_main(&mut self) -> LockStep {
        self.stage = WaitStage::Main;
        LockStep::Lock(Byte::Main, self.kind)
    }

    /// It has main, in its turn.
    fn got_main(&mut self) -> LockStep {
        match self.kind == LockKind::Write && self.access.looks_in_dir {
            true => {
                self.stage = WaitStage::InDir;
                LockStep::LookInDir
            }
            false => self.finish(true),
        }
    }

    fn finish(&mut self, with_main: bool) -> LockStep {
        self.stage = WaitStage::Finishing(with_main);
        if self.has_main && !with_main {
            self.has_main = false;
            return LockStep::Unlock(Byte::Main);
        }
        if std::mem::take(&mut self.has_gate) {
            return LockStep::Unlock(Byte::Gate);
        }
        // A writer keeps its ticket for as long as it has main, so that the next process wakes up
        // once, when the lock is free, and not twice. A reader lets the next one in.
        let keeps_ticket = with_main && self.kind == LockKind::Write;
        if !keeps_ticket && let Some(ticket) = self.ticket.take() {
            return LockStep::Unlock(Byte::Ticket(ticket));
        }
        self.stage = WaitStage::Done;
        LockStep::Done(with_main)
    }
}

impl Reentry {
    /// What to do next, after this result of the step before. [`LockStep::Done`] says whether the
    /// wait is as good as one that begins now.
    pub fn next(&mut self, wait: &mut Wait, result: StepResult) -> LockStep {
        if let Some(doorway) = &mut self.doorway {
            return match doorway.next(result) {
                Ok(ticket) => {
                    wait.ticket = ticket;
                    wait.is_first = false;
                    self.doorway = None;
                    LockStep::Done(true)
                }
                Err(step) => step,
            };
        }
        match (self.gate, result) {
            (Some(_), StepResult::Nothing) => LockStep::Try(Byte::Gate, wait.gate_kind()),
            (Some(_), result) => {
                self.gate = None;
                // Without the gate later processes would overtake it, and it would be of no use.
                wait.has_gate = result == StepResult::Locked(true);
                wait.is_wanted = wait.has_gate;
                LockStep::Done(wait.has_gate)
            }
            (None, _) => LockStep::Done(true),
        }
    }
}
