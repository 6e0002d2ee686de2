//! Decides which call of this process gets a lock next: without threads, clocks or system calls,
//! so that a test can run the decisions through every order of events.
//!
//! The queue reports what happens and performs what the scheduler decides.

use std::collections::VecDeque;

use crate::vocabulary::LockKind;

/// A call that waits for a lock.
pub trait WaitingCall {
    /// What it wants the lock for.
    fn kind(&self) -> LockKind;
    /// Whether it has had no answer yet.
    fn is_waiting(&self) -> bool;
    /// Whether it tries once and does not wait.
    fn only_tries(&self) -> bool;
    /// Its number in the order of calls, in which calls are served.
    fn number(&self) -> u64;
}

/// The calls that wait for one lock, and what this process holds of it and does to get it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scheduler<W> {
    waiting: VecDeque<W>,
    /// Whether a call of this process holds the lock for writing, and how many hold it for reading.
    has_writer: bool,
    readers: usize,
    inquiry: Inquiry,
    /// Waits that are under way. One that no call needs any more goes on until it has the lock,
    /// and releases it.
    waits: Vec<(u64, LockKind)>,
}

/// Whether this process is asking for the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Inquiry {
    Idle,
    /// A thread asks, and will have an answer soon.
    Trying,
    /// A wait with this number goes on until the lock is free.
    Waiting(u64, LockKind),
}

/// What the queue is to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum LockAction {
    /// Nothing: the next event leads on.
    Nothing,
    /// Nothing, and no call holds or wants the lock any more.
    Retire,
    /// Ask for the lock without waiting, and report the result: [`Scheduler::acquired`],
    /// [`Scheduler::busy`] or [`Scheduler::failed`].
    Ask(LockKind),
    /// No call needs this wait now: it must not be in the way of other processes. Then ask again.
    Withdraw(u64),
}

/// Which calls a lock is for that this process has just got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// None: it is to be released at once. Then ask again.
    Unwanted,
    /// The calls that come next: [`Scheduler::grant`].
    Next,
    /// Readers, once the lock has been made one for reading.
    ReadersOnly,
}

impl<W> Default for Scheduler<W> {
    fn default() -> Scheduler<W> {
        Scheduler {
            waiting: VecDeque::new(),
            has_writer: false,
            readers: 0,
            inquiry: Inquiry::Idle,
            waits: Vec::new(),
        }
    }
}

impl<W: WaitingCall> Scheduler<W> {
    /// Puts a call where the order of calls demands.
    pub fn insert(&mut self, waiter: W) {
        let behind = self.waiting.iter().rposition(|other| other.number() < waiter.number());
        self.waiting.insert(behind.map_or(0, |index| index + 1), waiter);
    }

    /// The first call that still waits.
    pub fn head(&mut self) -> Option<&W> {
        while self.waiting.front().is_some_and(|first| !first.is_waiting()) {
            self.waiting.pop_front();
        }
        self.waiting.front()
    }

    /// Whether a call of this process holds the lock.
    pub fn is_held(&self) -> bool {
        self.has_writer || self.readers > 0
    }

    /// Whether a call of this process holds it for writing.
    pub fn has_writer(&self) -> bool {
        self.has_writer
    }

    /// Whether no call holds or wants the lock.
    pub fn is_idle(&mut self) -> bool {
        !self.is_held() && self.is_unwanted()
    }

    /// Whether no call wants the lock, apart from those that hold it.
    pub fn is_unwanted(&mut self) -> bool {
        self.inquiry == Inquiry::Idle && self.waits.is_empty() && self.head().is_none()
    }

    /// Whether a call waits that comes next once a lock of this kind has been released.
    pub fn has_next_after(&mut self, kind: LockKind) -> bool {
        let left = if kind == LockKind::Read { self.readers.saturating_sub(1) } else { 0 };
        let is_asking = self.inquiry != Inquiry::Idle;
        self.head().is_some_and(|head| {
            !is_asking && !head.only_tries() && (head.kind() == LockKind::Read || left == 0)
        })
    }

    /// What is to be done now. To be asked whenever something has changed, until it says
    /// [`LockAction::Nothing`]. `refused` gets the calls that do not wait, and whose answer is
    /// 'not now'.
    pub fn next(&mut self, refused: &mut Vec<W>) -> LockAction {
        match self.inquiry {
            Inquiry::Trying => return LockAction::Nothing,
            Inquiry::Waiting(wait, kind) => {
                self.remove_triers(refused);
                if self.head().is_some_and(|head| head.kind() == kind) {
                    return LockAction::Nothing;
                }
                // The calls that needed it have given up.
                self.inquiry = Inquiry::Idle;
                return LockAction::Withdraw(wait);
            }
            Inquiry::Idle => {}
        }
        let Some(kind) = self.head().map(WaitingCall::kind) else {
            return if self.is_idle() { LockAction::Retire } else { LockAction::Nothing };
        };
        if self.has_writer || (kind == LockKind::Write && self.readers > 0) {
            // The release leads on.
            self.remove_triers(refused);
            return LockAction::Nothing;
        }
        self.inquiry = Inquiry::Trying;
        LockAction::Ask(kind)
    }

    /// Another process holds the lock. What to wait for, if for anything; the result of that is
    /// to be reported: [`Scheduler::wait_began`] or [`Scheduler::failed`].
    pub fn busy(&mut self, refused: &mut Vec<W>) -> Option<LockKind> {
        self.remove_triers(refused);
        let kind = self.head().map(WaitingCall::kind);
        if kind.is_none() {
            self.inquiry = Inquiry::Idle;
        }
        kind
    }

    /// This wait is under way.
    pub fn wait_began(&mut self, wait: u64, kind: LockKind) {
        self.inquiry = Inquiry::Waiting(wait, kind);
        if !self.waits.contains(&(wait, kind)) {
            self.waits.push((wait, kind));
        }
    }

    /// This wait is over. Whether its result is wanted: then it is to be reported by
    /// [`Scheduler::acquired`], [`Scheduler::busy`] or [`Scheduler::failed`], otherwise a lock is
    /// to be released. In either case ask again afterwards.
    pub fn wait_ended(&mut self, wait: u64) -> bool {
        self.waits.retain(|(other, _)| *other != wait);
        let is_wanted = matches!(self.inquiry, Inquiry::Waiting(current, _) if current == wait);
        if is_wanted {
            self.inquiry = Inquiry::Trying;
        }
        is_wanted
    }

    /// This process has got the lock for this.
    pub fn acquired(&mut self, kind: LockKind) -> Recipient {
        self.inquiry = Inquiry::Idle;
        match (self.head().map(WaitingCall::kind), kind) {
            (None, _) | (Some(LockKind::Write), LockKind::Read) => Recipient::Unwanted,
            (Some(LockKind::Read), LockKind::Write) => Recipient::ReadersOnly,
            (Some(_), _) => Recipient::Next,
        }
    }

    /// Gives the lock to the writer that comes next, or to all the readers that do.
    pub fn grant(&mut self) -> Vec<W> {
        let mut served = Vec::new();
        if self.head().is_some_and(|head| head.kind() == LockKind::Write) {
            self.has_writer = true;
            served.extend(self.waiting.pop_front());
            return served;
        }
        while self.head().is_some_and(|next| next.kind() == LockKind::Read) {
            served.extend(self.waiting.pop_front());
        }
        self.readers += served.len();
        served
    }

    /// A call that has not waited has the lock, while no other wanted it, or held it in its way.
    pub fn taken_at_once(&mut self, kind: LockKind) {
        match kind {
            LockKind::Write => self.has_writer = true,
            LockKind::Read => self.readers += 1,
        }
    }

    /// The system has refused what was asked of it. The call that is to have the error.
    pub fn failed(&mut self) -> Option<W> {
        self.inquiry = Inquiry::Idle;
        self.head()?;
        self.waiting.pop_front()
    }

    /// A call that held the lock has released it.
    pub fn released(&mut self, kind: LockKind) {
        match kind {
            LockKind::Write => self.has_writer = false,
            LockKind::Read => self.readers = self.readers.saturating_sub(1),
        }
    }

    fn remove_triers(&mut self, refused: &mut Vec<W>) {
        let (triers, others) =
            std::mem::take(&mut self.waiting).into_iter().partition(WaitingCall::only_tries);
        self.waiting = others;
        refused.extend(Vec::from(triers));
    }
}
