//! How the kernel's locks are combined: in which order they are asked for, and what each answer
//! leads to.
//!
//! There are two locks, the *gate* and the *main* lock. To acquire, shared for readers and
//! exclusive for writers: lock the gate, lock main, unlock the gate. To release: unlock main.
//! A writer that waits holds the gate meanwhile, so that those who come later queue up behind
//! it. This never changes: versions of holdfast exclude each other by it.
//!
//! It is fair as far as the kernel is. Linux wakes those who wait for a lock, and gives it to
//! whoever asks first: a process that has just released it is faster than one that has to wake
//! up. So those who have to wait stand in a *line* there: each locks a place behind the last
//! one, waits for the place before its own to be left, and only then asks for the gate. Readers
//! leave their place when they have main, writers when they give it back. Who does not have to
//! wait asks only while nobody stands in the line. A place is a lock like the others, so that a
//! process that dies leaves it. The line is for fairness alone; nothing but
//! main keeps anybody out.
//!
//! A process that has had its turn may go on for a short time, and take main again for writing
//! whenever it is free: to wake up the next one takes longer than most critical sections.
//!
//! Nothing here does a system call: these are state machines that say what to do next, so that
//! a test can run them, as they are, through every order of events.

use crate::vocabulary::LockKind;

/// One of the locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Held by a writer that waits for main.
    Gate,
    /// Held by whoever has the lock.
    Main,
    /// A place in the line.
    Place(u64),
}

/// The first place in the line.
pub const FIRST_PLACE: u64 = 1;

/// As many places as there ever are. They start again from the first whenever nobody stands in
/// the line, so this is how many turns there can be without a pause: enough for centuries.
pub const LAST_PLACE: u64 = 1 << 48;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Lock this if it is free. The answer says whether it was.
    Try(Part, LockKind),
    /// Lock this, however long it takes.
    Lock(Part, LockKind),
    /// Unlock this.
    Unlock(Part),
    /// Look for a place between these two, both included, that somebody else has. The answer
    /// is any one of them.
    Look(u64, u64),
    /// Nothing any more; whether main is locked. A writer has its place still, if it had one.
    Done(bool),
}

/// What a step has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// To the first step, and to those that need none.
    Nothing,
    /// To [`Step::Try`].
    Locked(bool),
    /// To [`Step::Look`].
    Found(Option<u64>),
}

/// Asking for the lock without waiting.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    kind: LockKind,
    has_line: bool,
    at: AttemptAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AttemptAt {
    Begin,
    /// Is to ask for main alone, and has.
    Again,
    MainAlone,
    Line,
    Gate,
    Main,
    Leaving(bool),
}

impl Attempt {
    /// For this; where there is a line, not past those who stand in it.
    pub fn new(kind: LockKind, has_line: bool) -> Attempt {
        Attempt { kind, has_line, at: AttemptAt::Begin }
    }

    /// For writing, by a process that has had its turn and goes on for a while, before those who
    /// wait: the first of them has the gate.
    pub fn again() -> Attempt {
        Attempt { kind: LockKind::Write, has_line: false, at: AttemptAt::Again }
    }

    /// What to do next, after this answer to the step before.
    pub fn next(&mut self, answer: Answer) -> Step {
        let (at, step) = match self.at {
            AttemptAt::Again => (AttemptAt::MainAlone, Step::Try(Part::Main, self.kind)),
            AttemptAt::MainAlone => return Step::Done(answer == Answer::Locked(true)),
            AttemptAt::Begin if self.has_line => {
                (AttemptAt::Line, Step::Look(FIRST_PLACE, LAST_PLACE))
            }
            AttemptAt::Begin => (AttemptAt::Gate, Step::Try(Part::Gate, self.kind)),
            AttemptAt::Line if answer != Answer::Found(None) => return Step::Done(false),
            AttemptAt::Line => (AttemptAt::Gate, Step::Try(Part::Gate, self.kind)),
            AttemptAt::Gate if answer != Answer::Locked(true) => return Step::Done(false),
            AttemptAt::Gate => (AttemptAt::Main, Step::Try(Part::Main, self.kind)),
            AttemptAt::Main => {
                (AttemptAt::Leaving(answer == Answer::Locked(true)), Step::Unlock(Part::Gate))
            }
            AttemptAt::Leaving(has_main) => return Step::Done(has_main),
        };
        self.at = at;
        step
    }
}

/// Taking a place behind the last one in the line.
///
/// Two that do this at the same time may find the same place free; one of them gets it and the
/// other goes on to the next. Who gets one before somebody that found the line as long has come
/// at the same time as well: they may stand in either order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Doorway {
    /// Nobody is known to stand at or behind this.
    free: u64,
    /// The last place found taken.
    before: Option<u64>,
}

impl Doorway {
    /// At this place or behind it.
    fn from(place: u64) -> Doorway {
        Doorway { free: place, before: None }
    }

    /// What to do next. The place, when it is taken; none when there is none, because some
    /// other program has locked the whole file.
    fn next(&mut self, answer: Answer) -> Result<Option<u64>, Step> {
        match answer {
            Answer::Locked(true) => return Ok(Some(self.free)),
            Answer::Found(None) => return Err(Step::Try(Part::Place(self.free), LockKind::Write)),
            Answer::Found(Some(place)) => self.pass(place),
            Answer::Locked(false) => self.pass(self.free),
            Answer::Nothing => {}
        }
        if self.free > LAST_PLACE { Ok(None) } else { Err(Step::Look(self.free, LAST_PLACE)) }
    }

    fn pass(&mut self, place: u64) {
        self.free = place.saturating_add(1);
        self.before = Some(place);
    }
}

/// Waiting for the lock: on a thread of its own, which calls [`Wait::next`] and does what it
/// says. Other threads may say meanwhile that the lock is not wanted any more, and that it is
/// wanted again. They must not do so between two steps, but only while the thread is locking
/// something ([`Step::Lock`]), has not begun or is done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wait {
    kind: LockKind,
    has_line: bool,
    is_wanted: bool,
    /// Where it stands in the line.
    place: Option<u64>,
    /// Whether all those before it in the line have left.
    is_first: bool,
    has_gate: bool,
    has_main: bool,
    at: WaitAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum WaitAt {
    Begin,
    Doorway(Doorway),
    /// Waits until this place is left.
    Behind(u64),
    /// Has just seen it left.
    PlaceLeft,
    /// Looks whether anybody is left before it: from this place on, and who was seen last.
    Looking(u64, Option<u64>),
    Gate,
    Main,
    /// Lets go of what it needs no more, and then is done, with or without main.
    Finishing(bool),
    /// Has let go of main, because others are before it.
    MainLeft(u64),
    /// Has let go of the gate, because others may be before it.
    GateLeft,
    Done,
}

/// Taking a place again for a wait that had given it up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Return {
    doorway: Option<Doorway>,
    gate: Option<LockKind>,
}

impl Wait {
    /// For this, in the line if there is one.
    pub fn new(kind: LockKind, has_line: bool) -> Wait {
        Wait {
            kind,
            has_line,
            is_wanted: true,
            place: None,
            is_first: false,
            has_gate: false,
            has_main: false,
            at: WaitAt::Begin,
        }
    }

    /// What it waits for.
    pub fn kind(&self) -> LockKind {
        self.kind
    }

    /// Whether it has nothing more to do.
    pub fn is_done(&self) -> bool {
        self.at == WaitAt::Done
    }

    /// Whether the lock is wanted at present.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Where it stands in the line.
    pub fn place(&self) -> Option<u64> {
        self.place
    }

    /// Starts anew, on another file, where nothing is locked yet.
    pub fn restart(&mut self) {
        *self = Wait { is_wanted: self.is_wanted, ..Wait::new(self.kind, self.has_line) };
    }

    /// What the thread is to do next, after this answer to the step before.
    pub fn next(&mut self, answer: Answer) -> Step {
        match self.at {
            WaitAt::Begin if !self.is_wanted => self.finish(false),
            WaitAt::Begin if !self.has_line => self.ask_gate(),
            WaitAt::Begin if self.place.is_some() => self.look(FIRST_PLACE, None),
            WaitAt::Begin => self.enter(Doorway::from(FIRST_PLACE), Answer::Nothing),
            WaitAt::Doorway(doorway) => self.enter(doorway, answer),
            WaitAt::Behind(place) => {
                self.at = WaitAt::PlaceLeft;
                Step::Unlock(Part::Place(place))
            }
            WaitAt::PlaceLeft if !self.is_wanted => self.finish(false),
            WaitAt::PlaceLeft | WaitAt::GateLeft => self.look(FIRST_PLACE, None),
            WaitAt::Looking(from, last) => match answer {
                Answer::Found(Some(place)) => self.look(from.max(place) + 1, Some(place)),
                _ => self.looked(last),
            },
            WaitAt::Gate => {
                self.has_gate = true;
                if !self.is_wanted {
                    return self.finish(false);
                }
                if self.has_line && !self.is_first {
                    // It has given up its place meanwhile, and has another one now.
                    self.has_gate = false;
                    self.at = WaitAt::GateLeft;
                    return Step::Unlock(Part::Gate);
                }
                self.ask_main()
            }
            WaitAt::Main => {
                self.has_main = true;
                if !self.is_wanted {
                    return self.finish(false);
                }
                if self.has_line && !self.is_first {
                    return self.look(FIRST_PLACE, None);
                }
                self.finish(true)
            }
            WaitAt::MainLeft(place) => self.wait_behind(place),
            WaitAt::Finishing(with_main) => self.finish(with_main),
            WaitAt::Done => Step::Done(self.has_main),
        }
    }

    /// Nobody wants the lock for the time being: those who come later must not queue up behind
    /// nobody. What to unlock at once; `can_unlock` says whether the gate can be, while the
    /// thread waits for main.
    pub fn stand_aside(&mut self, can_unlock: bool) -> Vec<Part> {
        self.is_wanted = false;
        if self.is_done() {
            return Vec::new();
        }
        self.is_first = false;
        let gate = self.has_gate && can_unlock;
        self.has_gate &= !gate;
        let place = self.place.take().map(Part::Place);
        place.into_iter().chain(gate.then_some(Part::Gate)).collect()
    }

    /// The lock is wanted after all, or the place in the line is to be taken before the thread
    /// begins. `None` when it is too late for this wait.
    pub fn step_in(&mut self) -> Option<Return> {
        if self.is_done() {
            return None;
        }
        self.is_wanted = true;
        // Whatever place it waits for has to be before its own, or two could wait for each other.
        let first = match self.at {
            WaitAt::Behind(place) => place + 1,
            _ => FIRST_PLACE,
        };
        let needs_gate = !self.has_line && self.at == WaitAt::Main && !self.has_gate;
        Some(Return {
            doorway: (self.has_line && self.place.is_none()).then(|| Doorway::from(first)),
            gate: needs_gate.then_some(self.kind),
        })
    }

    /// Which lock of the gate somebody takes who has to wait. Without a line readers have to
    /// stand in each other's way there, or those that keep arriving leave no gap for a writer.
    fn gate_kind(&self) -> LockKind {
        if self.has_line { self.kind } else { LockKind::Write }
    }

    fn enter(&mut self, mut doorway: Doorway, answer: Answer) -> Step {
        match doorway.next(answer) {
            Ok(place) => {
                self.place = place;
                match place.and(doorway.before) {
                    Some(before) => self.wait_behind(before),
                    None => self.look(FIRST_PLACE, None),
                }
            }
            Err(step) => {
                self.at = WaitAt::Doorway(doorway);
                step
            }
        }
    }

    fn wait_behind(&mut self, place: u64) -> Step {
        self.at = WaitAt::Behind(place);
        Step::Lock(Part::Place(place), LockKind::Read)
    }

    fn look(&mut self, from: u64, last: Option<u64>) -> Step {
        match self.place {
            Some(own) if from < own => {
                self.at = WaitAt::Looking(from, last);
                Step::Look(from, own - 1)
            }
            _ => self.looked(last),
        }
    }

    /// Now it is known who stands right before it, if anybody does.
    fn looked(&mut self, last: Option<u64>) -> Step {
        match last {
            Some(place) if self.has_main => {
                self.has_main = false;
                self.at = WaitAt::MainLeft(place);
                Step::Unlock(Part::Main)
            }
            Some(place) => self.wait_behind(place),
            None => {
                self.is_first = true;
                if self.has_main { self.finish(true) } else { self.ask_gate() }
            }
        }
    }

    fn ask_gate(&mut self) -> Step {
        self.at = WaitAt::Gate;
        Step::Lock(Part::Gate, self.gate_kind())
    }

    fn ask_main(&mut self) -> Step {
        self.at = WaitAt::Main;
        Step::Lock(Part::Main, self.kind)
    }

    fn finish(&mut self, with_main: bool) -> Step {
        self.at = WaitAt::Finishing(with_main);
        if self.has_main && !with_main {
            self.has_main = false;
            return Step::Unlock(Part::Main);
        }
        if std::mem::take(&mut self.has_gate) {
            return Step::Unlock(Part::Gate);
        }
        // A writer keeps its place for as long as it has main, so that the next in the line wakes
        // up once, when there is something to be had, and not twice. Readers let others pass.
        let keeps_place = with_main && self.kind == LockKind::Write;
        if !keeps_place && let Some(place) = self.place.take() {
            return Step::Unlock(Part::Place(place));
        }
        self.at = WaitAt::Done;
        Step::Done(with_main)
    }
}

impl Return {
    /// What to do next, after this answer to the step before. [`Step::Done`] says whether the
    /// wait is as good as one that begins now.
    pub fn next(&mut self, wait: &mut Wait, answer: Answer) -> Step {
        if let Some(doorway) = &mut self.doorway {
            return match doorway.next(answer) {
                Ok(place) => {
                    wait.place = place;
                    wait.is_first = false;
                    self.doorway = None;
                    Step::Done(true)
                }
                Err(step) => step,
            };
        }
        match (self.gate, answer) {
            (Some(_), Answer::Nothing) => Step::Try(Part::Gate, wait.gate_kind()),
            (Some(_), answer) => {
                self.gate = None;
                // Without the gate those who come later would overtake it, and it would be of no use.
                wait.has_gate = answer == Answer::Locked(true);
                wait.is_wanted = wait.has_gate;
                Step::Done(wait.has_gate)
            }
            (None, _) => Step::Done(true),
        }
    }
}
