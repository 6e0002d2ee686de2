//! Who in this process gets a lock next: the decisions of the queue, without threads, clocks
//! or system calls, so that a test can take them through every order of events.

use std::collections::VecDeque;

use crate::vocabulary::LockKind;

/// Somebody who waits.
pub trait Waits {
    /// For what.
    fn kind(&self) -> LockKind;
    /// Until it has an answer.
    fn is_waiting(&self) -> bool;
    /// Tries once, rather than waits.
    fn only_tries(&self) -> bool;
    /// The order of calls, in which waiters are served.
    fn number(&self) -> u64;
}

/// The waiters of one lock, and what this process has and does to get it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scheduler<W> {
    waiting: VecDeque<W>,
    /// What this process has of the lock.
    has_writer: bool,
    readers: usize,
    asking: Asking,
    /// Waits in the kernel. Those that nobody is waiting for any more go on until they have the
    /// lock, and give it back.
    waits: Vec<(u64, LockKind)>,
}

/// Whether somebody is asking the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asking {
    Nobody,
    /// Somebody asks, and will have an answer in a moment.
    Once,
    /// A thread waits until the lock is free.
    Waiting(u64, LockKind),
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the next event leads on.
    Nothing,
    /// Nothing, and nobody holds or wants the lock any more.
    Retire,
    /// Ask the kernel, without waiting, and say what came of it: by [`Scheduler::fits`],
    /// [`Scheduler::not_now`] or [`Scheduler::failed`].
    Ask(LockKind),
    /// This wait is for nobody now: it must stand in nobody's way. Then ask again.
    StandAside(u64),
}

/// For whom a lock is that the kernel has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// For nobody: it is to be given back at once. Then ask again.
    Nobody,
    /// For those who come next, by [`Scheduler::grant`].
    Next,
    /// For readers, once it has been made one for reading.
    Readers,
}

impl<W> Default for Scheduler<W> {
    fn default() -> Scheduler<W> {
        Scheduler {
            waiting: VecDeque::new(),
            has_writer: false,
            readers: 0,
            asking: Asking::Nobody,
            waits: Vec::new(),
        }
    }
}

impl<W: Waits> Scheduler<W> {
    /// Puts a waiter in its place in the order of calls.
    pub fn insert(&mut self, waiter: W) {
        let behind = self.waiting.iter().rposition(|other| other.number() < waiter.number());
        self.waiting.insert(behind.map_or(0, |index| index + 1), waiter);
    }

    /// The first that still waits.
    pub fn head(&mut self) -> Option<&W> {
        while self.waiting.front().is_some_and(|first| !first.is_waiting()) {
            self.waiting.pop_front();
        }
        self.waiting.front()
    }

    /// Whether anybody in this process has the lock.
    pub fn is_held(&self) -> bool {
        self.has_writer || self.readers > 0
    }

    /// Whether somebody in this process has it for writing.
    pub fn has_writer(&self) -> bool {
        self.has_writer
    }

    /// Whether nobody holds or wants the lock.
    pub fn is_idle(&mut self) -> bool {
        !self.is_held() && self.is_unwanted()
    }

    /// Whether nobody wants the lock, apart from those who have it.
    pub fn is_unwanted(&mut self) -> bool {
        self.asking == Asking::Nobody && self.waits.is_empty() && self.head().is_none()
    }

    /// Whether, once this has been given back, there is somebody who comes next and waits.
    pub fn goes_on_after(&mut self, kind: LockKind) -> bool {
        let left = if kind == LockKind::Read { self.readers.saturating_sub(1) } else { 0 };
        let is_asking = self.asking != Asking::Nobody;
        self.head().is_some_and(|head| {
            !is_asking && !head.only_tries() && (head.kind() == LockKind::Read || left == 0)
        })
    }

    /// What is to be done now. To be asked whenever something has changed, until it says
    /// nothing. `refused` gets those who do not wait, and for whom 'not now' is the answer.
    pub fn next(&mut self, refused: &mut Vec<W>) -> Next {
        match self.asking {
            Asking::Once => return Next::Nothing,
            Asking::Waiting(wait, kind) => {
                self.take_triers(refused);
                if self.head().is_some_and(|head| head.kind() == kind) {
                    return Next::Nothing;
                }
                // Those whom it was for have given up.
                self.asking = Asking::Nobody;
                return Next::StandAside(wait);
            }
            Asking::Nobody => {}
        }
        let Some(kind) = self.head().map(Waits::kind) else {
            return if self.is_idle() { Next::Retire } else { Next::Nothing };
        };
        if self.has_writer || (kind == LockKind::Write && self.readers > 0) {
            // The release leads on.
            self.take_triers(refused);
            return Next::Nothing;
        }
        self.asking = Asking::Once;
        Next::Ask(kind)
    }

    /// The kernel has said 'not now'. For what to wait, if for anything: what comes of that is
    /// to be said by [`Scheduler::wait`] or [`Scheduler::failed`].
    pub fn not_now(&mut self, refused: &mut Vec<W>) -> Option<LockKind> {
        self.take_triers(refused);
        let kind = self.head().map(Waits::kind);
        if kind.is_none() {
            self.asking = Asking::Nobody;
        }
        kind
    }

    /// This wait is under way, in the kernel.
    pub fn wait(&mut self, wait: u64, kind: LockKind) {
        self.asking = Asking::Waiting(wait, kind);
        if !self.waits.contains(&(wait, kind)) {
            self.waits.push((wait, kind));
        }
    }

    /// This wait is over. Whether what it has brought is wanted: if not it is to be given
    /// back, otherwise to be passed on to [`Scheduler::fits`] or [`Scheduler::failed`]. In either case
    /// ask again afterwards.
    pub fn waited(&mut self, wait: u64) -> bool {
        self.waits.retain(|(other, _)| *other != wait);
        let is_wanted = matches!(self.asking, Asking::Waiting(current, _) if current == wait);
        if is_wanted {
            self.asking = Asking::Once;
        }
        is_wanted
    }

    /// The kernel has given the lock for this.
    pub fn fits(&mut self, kind: LockKind) -> Fit {
        self.asking = Asking::Nobody;
        match (self.head().map(Waits::kind), kind) {
            (None, _) | (Some(LockKind::Write), LockKind::Read) => Fit::Nobody,
            (Some(LockKind::Read), LockKind::Write) => Fit::Readers,
            (Some(_), _) => Fit::Next,
        }
    }

    /// Gives the lock to the one who comes next, or to all the readers who do.
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

    /// Somebody who has not waited has the lock, while nobody else held or wanted it.
    pub fn take(&mut self, kind: LockKind) {
        match kind {
            LockKind::Write => self.has_writer = true,
            LockKind::Read => self.readers += 1,
        }
    }

    /// The kernel does not do what was asked for. Whom to tell.
    pub fn failed(&mut self) -> Option<W> {
        self.asking = Asking::Nobody;
        self.head()?;
        self.waiting.pop_front()
    }

    /// One of those who were granted the lock has given it back.
    pub fn released(&mut self, kind: LockKind) {
        match kind {
            LockKind::Write => self.has_writer = false,
            LockKind::Read => self.readers = self.readers.saturating_sub(1),
        }
    }

    fn take_triers(&mut self, refused: &mut Vec<W>) {
        let (triers, others) =
            std::mem::take(&mut self.waiting).into_iter().partition(Waits::only_tries);
        self.waiting = others;
        refused.extend(Vec::from(triers));
    }
}
