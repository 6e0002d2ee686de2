//! The locks in every order of events: the protocol between processes, and the queue in each.
//!
//! What runs here is the code that runs in the product, [`Attempt`], [`Wait`] and [`Scheduler`], on
//! a kernel of a few lines: of the processes that ask for a lock any may get it, however long
//! the others have waited, and any may be killed at any moment. Every state that can be reached
//! is looked at once. A few mistakes are made on purpose, to see that they are noticed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;

use holdfast::lock::LockKind::{self, Read as R, Write as W};
use holdfast::lock::protocol::{Attempt, Byte, LockStep, Reentry, StepResult, Wait};
use holdfast::lock::scheduler::{LockAction, Recipient, Scheduler, WaitingCall};

#[path = "lock_model/dir_readers.rs"]
mod dir_readers;
#[path = "lock_model/removal.rs"]
mod removal;

// -- All states of a world ------------------------------------------------------------------

trait World: Clone + Eq + Hash + Debug {
    /// Every state that the next event may lead to, or what is wrong.
    fn next(&self) -> Result<Vec<Self>, String>;

    /// Whether everything is over, and as it should be; what is wrong with a world in which
    /// nothing more can happen.
    fn end(&self) -> Result<(), String>;
}

/// Looks at every state, and says how many there are. From each of them the end must be in
/// reach: no call waits for what will never come.
fn explore<S: World>(begin: S) -> Result<usize, String> {
    let mut known: HashMap<S, u32> = HashMap::from([(begin.clone(), 0)]);
    let mut queue = VecDeque::from([begin]);
    let mut before: Vec<Vec<u32>> = vec![Vec::new()];
    let mut ends = Vec::new();
    while let Some(state) = queue.pop_front() {
        let number = known[&state];
        let nexts = state.next().map_err(|wrong| format!("{wrong}\n{state:#?}"))?;
        if nexts.is_empty() {
            state.end().map_err(|wrong| format!("{wrong}\n{state:#?}"))?;
            ends.push(number);
        }
        for next in nexts {
            let fresh = known.len() as u32;
            let number_of_next = *known.entry(next.clone()).or_insert_with(|| {
                queue.push_back(next);
                before.push(Vec::new());
                fresh
            });
            before[number_of_next as usize].push(number);
        }
    }
    let mut leads_on = vec![false; before.len()];
    while let Some(number) = ends.pop() {
        if !std::mem::replace(&mut leads_on[number as usize], true) {
            ends.extend(&before[number as usize]);
        }
    }
    match leads_on.iter().position(|leads_on| !leads_on) {
        None => Ok(leads_on.len()),
        Some(stuck) => {
            let state = known.iter().find(|(_, number)| **number == stuck as u32).unwrap().0;
            Err(format!("this leads nowhere\n{state:#?}"))
        }
    }
}

// -- A kernel -------------------------------------------------------------------------------

/// Who holds what: an open lock file, by its process and its number there.
type Owner = (usize, usize);

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Kernel {
    locks: BTreeSet<(Byte, Owner, bool)>,
}

impl Kernel {
    fn is_free(&self, owner: Owner, byte: Byte, kind: LockKind) -> bool {
        !self.locks.iter().any(|(other, holder, is_write)| {
            *other == byte && *holder != owner && (*is_write || kind == W)
        })
    }

    fn lock(&mut self, owner: Owner, byte: Byte, kind: LockKind) -> bool {
        if !self.is_free(owner, byte, kind) {
            return false;
        }
        self.unlock(owner, byte);
        self.locks.insert((byte, owner, kind == W))
    }

    fn unlock(&mut self, owner: Owner, byte: Byte) {
        self.locks.retain(|(other, holder, _)| (*other, *holder) != (byte, owner));
    }

    fn close(&mut self, owner: Owner) {
        self.locks.retain(|(_, holder, _)| *holder != owner);
    }

    fn has(&self, owner: Owner, byte: Byte, kind: LockKind) -> bool {
        self.locks.contains(&(byte, owner, kind == W))
    }

    /// Does a step that does not wait. There may be several answers.
    fn take(&self, owner: Owner, step: LockStep) -> Vec<(Kernel, StepResult)> {
        let mut after = self.clone();
        match step {
            LockStep::Try(byte, kind) => {
                let locked = after.lock(owner, byte, kind);
                vec![(after, StepResult::Locked(locked))]
            }
            LockStep::Unlock(byte) => {
                after.unlock(owner, byte);
                vec![(after, StepResult::Nothing)]
            }
            LockStep::Look(first, last) => {
                let tickets = self.locks.iter().filter_map(|(byte, holder, _)| match byte {
                    Byte::Ticket(ticket) if *holder != owner => Some(*ticket),
                    _ => None,
                });
                let found: BTreeSet<u64> =
                    tickets.filter(|ticket| (first..=last).contains(ticket)).collect();
                if found.is_empty() {
                    return vec![(after, StepResult::Found(None))];
                }
                found
                    .into_iter()
                    .map(|ticket| (self.clone(), StepResult::Found(Some(ticket))))
                    .collect()
            }
            LockStep::LookInDir => vec![(after, StepResult::InDir(false))],
            LockStep::Lock(..) | LockStep::Pause | LockStep::Done(_) => {
                panic!("{step:?} is not for here")
            }
        }
    }
}

// -- The protocol, between processes --------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ProtocolMistake {
    None,
    /// The gate is never locked.
    NoGate,
    /// A wait that is withdrawn keeps its ticket.
    KeepsTicket,
    /// A lock that no call wants is not released.
    KeepsMain,
    /// A wait that rejoins without getting the gate waits all the same.
    WaitsWithoutGate,
    /// A process that does not have to wait does not look whether others do.
    DoesNotLook,
    /// A process that goes on takes it that it still has the lock.
    GoesOnUnasked,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Processes {
    kernel: Kernel,
    all: Vec<Process>,
    has_tickets: bool,
    /// A process that knows nothing of tickets: an older version.
    without: Option<usize>,
    kills: usize,
    mistake: ProtocolMistake,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    /// What it still wants, one after the other.
    wants: VecDeque<LockKind>,
    /// How often it may give up.
    give_ups: usize,
    doing: Doing,
    /// The threads that wait, one for each open file.
    waits: [Option<Thread>; 2],
    /// How often each of the others has got the lock since this one has had its ticket.
    overtaken: [u8; 3],
    /// Which writers were waiting for main when this one got it, by each of its files.
    passed: [[bool; 3]; 3],
    /// It has had its turn, and may go on; or it does so. (Here once for each turn, in the product
    /// for a certain time.)
    may_go_on: bool,
    goes_on: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Doing {
    Nothing,
    Trying(Attempt, StepResult),
    /// Taking a ticket with this wait; holding the lock with that file meanwhile, perhaps.
    Entering(usize, Reentry, StepResult, Option<(usize, LockKind)>),
    Waiting(usize),
    /// Unlocking what it needs no more.
    Leaving(usize, Vec<Byte>),
    Holding(usize, LockKind),
    Killed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Thread {
    wait: Wait,
    at: At,
}

impl Thread {
    fn waits_for_main(&self) -> bool {
        self.at == At::Blocked(Byte::Main, W)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    /// Between two steps: no other thread may tell it anything now.
    Midway(StepResult),
    Blocked(Byte, LockKind),
    /// It has what it was blocked for, and will notice.
    Granted,
}

/// The file for attempts; waits have 0 and 1.
const TRY: usize = 2;

impl Process {
    fn new(wants: &[LockKind], give_ups: usize) -> Process {
        Process {
            wants: wants.iter().copied().collect(),
            give_ups,
            doing: Doing::Nothing,
            waits: [None, None],
            overtaken: [0; 3],
            passed: [[false; 3]; 3],
            may_go_on: false,
            goes_on: false,
        }
    }

    fn is_midway(&self, slot: usize) -> bool {
        matches!(&self.waits[slot], Some(Thread { at: At::Midway(_), .. }))
    }
}

impl Processes {
    fn new(has_tickets: bool, kills: usize, all: Vec<Process>) -> Processes {
        Processes {
            kernel: Kernel::default(),
            all,
            has_tickets,
            without: None,
            kills,
            mistake: ProtocolMistake::None,
        }
    }

    fn has_tickets(&self, process: usize) -> bool {
        self.has_tickets && self.without != Some(process)
    }

    /// What a step leads to; with the mistakes that are made.
    fn take(&self, owner: Owner, step: LockStep) -> Vec<(Kernel, StepResult)> {
        let answer = match (self.mistake, step) {
            (ProtocolMistake::NoGate, LockStep::Try(Byte::Gate, _)) => StepResult::Locked(true),
            (ProtocolMistake::NoGate, LockStep::Unlock(Byte::Gate)) => StepResult::Nothing,
            (ProtocolMistake::KeepsMain, LockStep::Unlock(Byte::Main)) => StepResult::Nothing,
            // Only waits that rejoin try it on the file of a wait.
            (ProtocolMistake::WaitsWithoutGate, LockStep::Try(Byte::Gate, _)) if owner.1 != TRY => {
                let (kernel, _) = self.kernel.take(owner, step).remove(0);
                return vec![(kernel, StepResult::Locked(true))];
            }
            (ProtocolMistake::DoesNotLook, LockStep::Look(..)) if owner.1 == TRY => {
                StepResult::Found(None)
            }
            (ProtocolMistake::GoesOnUnasked, LockStep::Try(Byte::Main, _))
                if self.all[owner.0].goes_on =>
            {
                StepResult::Locked(true)
            }
            _ => return self.kernel.take(owner, step),
        };
        vec![(self.kernel.clone(), answer)]
    }

    /// This process has the lock now.
    fn hold(&mut self, process: usize, file: usize, kind: LockKind) -> Result<(), String> {
        self.all[process].doing = Doing::Holding(file, kind);
        self.all[process].overtaken = [0; 3];
        let passed = std::mem::take(&mut self.all[process].passed[file]);
        if !self.kernel.has((process, file), Byte::Main, kind) {
            return Err(format!("{process} has no lock"));
        }
        for (other, own) in self.all.iter().enumerate() {
            if let Doing::Holding(_, other_kind) = own.doing
                && other != process
                && (kind == W || other_kind == W)
            {
                return Err(format!("{process} and {other} both have the lock"));
            }
        }
        if self.all[process].goes_on {
            return Ok(());
        }
        for (other, own) in self.all.iter_mut().enumerate() {
            let Doing::Waiting(slot) = own.doing else { continue };
            let Some(thread) = &own.waits[slot] else { continue };
            if thread.waits_for_main() && passed.get(other) == Some(&true) {
                return Err(format!("{process} has overtaken the writer {other} at main"));
            }
            if thread.wait.ticket().is_some() {
                own.overtaken[process] = (own.overtaken[process] + 1).min(2);
                if own.overtaken[process] > 1 && self.without.is_none() {
                    return Err(format!("{process} has overtaken {other} twice"));
                }
            }
        }
        Ok(())
    }

    /// This process has got main just now.
    fn got_main(&mut self, process: usize, file: usize) {
        for other in 0..self.all.len() {
            let Process { doing, waits, .. } = &self.all[other];
            let is_at_main = match doing {
                Doing::Waiting(slot) => waits[*slot].as_ref().is_some_and(Thread::waits_for_main),
                _ => false,
            };
            // With tickets it counts how often a process is overtaken; without, that none is that
            // has the gate.
            self.all[process].passed[file][other] =
                is_at_main && other != process && !self.has_tickets && !self.all[process].goes_on;
        }
    }

    /// Starts to wait: with the wait that is there, or with another.
    fn wait(&mut self, process: usize, kind: LockKind, hold: Option<(usize, LockKind)>) -> bool {
        let taken = hold.map(|(file, _)| file);
        let has_tickets = self.has_tickets(process);
        let own = &mut self.all[process];
        own.overtaken = [0; 3];
        for slot in 0..2 {
            if own.is_midway(slot) {
                // The thread can be told only later.
                return false;
            }
            if let Some(Thread { wait, .. }) = &mut own.waits[slot]
                && wait.kind() == kind
                && let Some(entering) = wait.rejoin()
            {
                own.doing = Doing::Entering(slot, entering, StepResult::Nothing, hold);
                return true;
            }
        }
        let Some(slot) = (0..2).find(|slot| own.waits[*slot].is_none() && taken != Some(*slot))
        else {
            return false;
        };
        let mut wait = Wait::new(kind, has_tickets);
        let entering = wait.rejoin().unwrap();
        own.waits[slot] = Some(Thread { wait, at: At::Begin });
        own.doing = Doing::Entering(slot, entering, StepResult::Nothing, hold);
        true
    }

    /// What a process may do next.
    fn act(&self, process: usize, worlds: &mut Vec<Processes>) -> Result<(), String> {
        let own = &self.all[process];
        let changed = |doing: Doing| {
            let mut world = self.clone();
            world.all[process].doing = doing;
            world
        };
        match &own.doing {
            Doing::Nothing => {
                if let Some(kind) = own.wants.front() {
                    let attempt = Attempt::new(*kind, self.has_tickets(process));
                    let mut world = changed(Doing::Trying(attempt, StepResult::Nothing));
                    world.all[process].may_go_on = false;
                    worlds.push(world);
                    if own.may_go_on && *kind == W {
                        let mut world =
                            changed(Doing::Trying(Attempt::again(), StepResult::Nothing));
                        world.all[process].may_go_on = false;
                        world.all[process].goes_on = true;
                        worlds.push(world);
                    }
                }
            }
            Doing::Trying(attempt, answer) => {
                let mut attempt = attempt.clone();
                let kind = own.wants[0];
                match attempt.next(*answer) {
                    LockStep::Done(true) => {
                        let mut world = changed(Doing::Nothing);
                        world.all[process].wants.pop_front();
                        world.hold(process, TRY, kind)?;
                        worlds.push(world);
                    }
                    LockStep::Done(false) if own.goes_on => {
                        let attempt = Attempt::new(kind, self.has_tickets(process));
                        let mut world = changed(Doing::Trying(attempt, StepResult::Nothing));
                        world.all[process].goes_on = false;
                        worlds.push(world);
                    }
                    LockStep::Done(false) => {
                        let mut world = self.clone();
                        world.kernel.close((process, TRY));
                        if world.wait(process, kind, None) {
                            worlds.push(world);
                        }
                    }
                    step => {
                        for (kernel, answer) in self.take((process, TRY), step) {
                            let mut world = changed(Doing::Trying(attempt.clone(), answer));
                            world.kernel = kernel;
                            if let (LockStep::Try(Byte::Main, _), StepResult::Locked(true)) =
                                (step, answer)
                            {
                                world.got_main(process, TRY);
                            }
                            worlds.push(world);
                        }
                    }
                }
            }
            Doing::Entering(slot, entering, answer, hold) => {
                let mut entering = entering.clone();
                let mut wait = own.waits[*slot].clone().unwrap().wait;
                let step = entering.next(&mut wait, *answer);
                let mut world = self.clone();
                world.all[process].waits[*slot].as_mut().unwrap().wait = wait;
                if let LockStep::Done(is_good) = step {
                    if let Some((file, _)) = hold {
                        world.kernel.close((process, *file));
                    }
                    if is_good {
                        world.all[process].doing = Doing::Waiting(*slot);
                        worlds.push(world);
                    } else {
                        let kind = own.wants[0];
                        // Two are enough here; the product would start a third.
                        world.all[process].doing = Doing::Nothing;
                        if world.all[process].waits.iter().any(Option::is_none) {
                            let mut fresh = world.clone();
                            let Some(other) =
                                (0..2).find(|slot| fresh.all[process].waits[*slot].is_none())
                            else {
                                return Ok(());
                            };
                            let mut wait = Wait::new(kind, self.has_tickets(process));
                            let entering = wait.rejoin().unwrap();
                            fresh.all[process].waits[other] = Some(Thread { wait, at: At::Begin });
                            fresh.all[process].doing =
                                Doing::Entering(other, entering, StepResult::Nothing, None);
                            worlds.push(fresh);
                        } else {
                            world.all[process].doing = Doing::Nothing;
                            world.all[process].wants.pop_front();
                            worlds.push(world);
                        }
                    }
                    return Ok(());
                }
                for (kernel, answer) in self.take((process, *slot), step) {
                    let mut world = world.clone();
                    world.kernel = kernel;
                    world.all[process].doing =
                        Doing::Entering(*slot, entering.clone(), answer, *hold);
                    worlds.push(world);
                }
            }
            Doing::Waiting(slot) => {
                if own.give_ups > 0 && !own.is_midway(*slot) {
                    let mut world = self.clone();
                    let own = &mut world.all[process];
                    own.give_ups -= 1;
                    own.wants.pop_front();
                    own.overtaken = [0; 3];
                    let mut bytes = own.waits[*slot]
                        .as_mut()
                        .map_or_else(Vec::new, |thread| thread.wait.withdraw(true));
                    if self.mistake == ProtocolMistake::KeepsTicket {
                        bytes.retain(|byte| !matches!(byte, Byte::Ticket(_)));
                    }
                    own.doing = Doing::Leaving(*slot, bytes);
                    worlds.push(world);
                }
            }
            Doing::Leaving(slot, bytes) => {
                let mut bytes = bytes.clone();
                match bytes.pop() {
                    Some(byte) => {
                        let mut world = changed(Doing::Leaving(*slot, bytes));
                        world.kernel.unlock((process, *slot), byte);
                        worlds.push(world);
                    }
                    None => worlds.push(changed(Doing::Nothing)),
                }
            }
            Doing::Holding(file, kind) => {
                let mut world = changed(Doing::Nothing);
                world.kernel.close((process, *file));
                let own_again = &mut world.all[process];
                own_again.may_go_on = *kind == W && !own.goes_on && own.wants.front() == Some(&W);
                own_again.goes_on = false;
                worlds.push(world);
                // Or the next call has its ticket before.
                if let Some(next) = own.wants.front() {
                    let mut world = self.clone();
                    world.all[process].goes_on = false;
                    if world.wait(process, *next, Some((*file, *kind))) {
                        worlds.push(world);
                    }
                }
            }
            Doing::Killed => {}
        }
        Ok(())
    }

    /// What a waiting thread may do next.
    fn run(&self, process: usize, slot: usize, worlds: &mut Vec<Processes>) -> Result<(), String> {
        let own = &self.all[process];
        let Some(Thread { wait, at }) = &own.waits[slot] else { return Ok(()) };
        let owner = (process, slot);
        // While another thread tells it something it waits, but what it has asked for may come.
        let is_told = match &own.doing {
            Doing::Entering(told, ..) | Doing::Leaving(told, _) => *told == slot,
            _ => false,
        };
        let answer = match at {
            At::Blocked(byte, kind) => {
                let mut world = self.clone();
                let granted = match self.mistake {
                    ProtocolMistake::NoGate if *byte == Byte::Gate => true,
                    _ => world.kernel.lock(owner, *byte, *kind),
                };
                if granted {
                    if *byte == Byte::Main {
                        world.got_main(process, slot);
                    }
                    world.all[process].waits[slot].as_mut().unwrap().at = At::Granted;
                    worlds.push(world);
                }
                if !wait.is_wanted() && !is_told {
                    // One that asks again and again stops that; one in the kernel cannot.
                    let mut world = self.clone();
                    let thread = world.all[process].waits[slot].as_mut().unwrap();
                    thread.wait.give_up();
                    thread.at = At::Midway(StepResult::Nothing);
                    worlds.push(world);
                }
                return Ok(());
            }
            _ if is_told => return Ok(()),
            At::Begin | At::Granted => StepResult::Nothing,
            At::Midway(answer) => *answer,
        };
        let mut wait = wait.clone();
        let step = wait.next(answer);
        let mut world = self.clone();
        match step {
            LockStep::Done(has_main) => {
                world.all[process].waits[slot] = None;
                if own.doing == Doing::Waiting(slot) {
                    if !has_main {
                        return Err(format!("{process} has waited for nothing"));
                    }
                    world.all[process].wants.pop_front();
                    world.hold(process, slot, wait.kind())?;
                } else if self.mistake != ProtocolMistake::KeepsMain {
                    world.kernel.close(owner);
                }
                worlds.push(world);
            }
            LockStep::Lock(byte, kind) => {
                let at = At::Blocked(byte, kind);
                world.all[process].waits[slot] = Some(Thread { wait, at });
                worlds.push(world);
            }
            step => {
                for (kernel, answer) in self.take(owner, step) {
                    let mut world = world.clone();
                    world.kernel = kernel;
                    let at = At::Midway(answer);
                    world.all[process].waits[slot] = Some(Thread { wait: wait.clone(), at });
                    worlds.push(world);
                }
            }
        }
        Ok(())
    }
}

impl World for Processes {
    fn next(&self) -> Result<Vec<Processes>, String> {
        let mut worlds = Vec::new();
        for (process, own) in self.all.iter().enumerate() {
            self.act(process, &mut worlds)?;
            for slot in 0..2 {
                self.run(process, slot, &mut worlds)?;
            }
            let is_idle = own.doing == Doing::Nothing && own.wants.is_empty();
            if self.kills > 0 && own.doing != Doing::Killed && !is_idle {
                let mut world = self.clone();
                world.kills -= 1;
                for file in 0..3 {
                    world.kernel.close((process, file));
                }
                world.all[process] = Process { doing: Doing::Killed, ..Process::new(&[], 0) };
                worlds.push(world);
            }
        }
        Ok(worlds)
    }

    fn end(&self) -> Result<(), String> {
        if !self.kernel.locks.is_empty() {
            return Err("a lock is held although no call wants it".to_owned());
        }
        let is_over = |own: &Process| {
            own.doing == Doing::Killed
                || (own.doing == Doing::Nothing
                    && own.wants.is_empty()
                    && own.waits == [None, None])
        };
        if self.all.iter().all(is_over) { Ok(()) } else { Err("they wait for ever".to_owned()) }
    }
}

/// The smallest situations in which anything can go wrong, with tickets or without.
fn situations(has_tickets: bool) -> Vec<(&'static str, Processes)> {
    let world = |kills, all| Processes::new(has_tickets, kills, all);
    vec![
        (
            "two writers, twice each, one of them killed",
            world(1, vec![Process::new(&[W, W], 0), Process::new(&[W, W], 0)]),
        ),
        (
            "a reader and a writer, again and again",
            world(0, vec![Process::new(&[R, R, R], 0), Process::new(&[W, W, W], 0)]),
        ),
        (
            "a writer that gives up and comes back, beside one with many turns",
            world(0, vec![Process::new(&[W, W], 1), Process::new(&[R, R, R], 0)]),
        ),
        ("two that give up", world(1, vec![Process::new(&[W, W], 1), Process::new(&[W, R], 1)])),
        (
            "two readers and a writer",
            world(0, vec![Process::new(&[R], 0), Process::new(&[R], 0), Process::new(&[W], 0)]),
        ),
        (
            "three writers",
            world(0, vec![Process::new(&[W], 0), Process::new(&[W], 0), Process::new(&[W], 0)]),
        ),
        (
            "a writer beside readers, one of which gives up",
            world(0, vec![Process::new(&[W], 0), Process::new(&[R, R], 1), Process::new(&[W], 0)]),
        ),
    ]
}

#[test]
fn processes_exclude_each_other_have_their_turns_and_leave_nothing_behind() {
    for has_tickets in [true, false] {
        for (name, world) in situations(has_tickets) {
            let begun = std::time::Instant::now();
            let states = explore(world).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
            println!("{name}, tickets: {has_tickets}: {states} states, {:?}", begun.elapsed());
        }
    }
}

#[test]
fn versions_that_know_nothing_of_tickets_are_excluded_all_the_same() {
    for (name, world) in situations(true).into_iter().take(6) {
        let states = explore(Processes { without: Some(1), ..world })
            .unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        println!("{name}, one without tickets: {states} states");
    }
}

#[test]
fn mistakes_in_the_protocol_are_noticed() {
    for (mistake, has_tickets, expected) in [
        (ProtocolMistake::NoGate, false, "at main"),
        (ProtocolMistake::WaitsWithoutGate, false, "at main"),
        (ProtocolMistake::DoesNotLook, true, "twice"),
        (ProtocolMistake::KeepsTicket, true, "no call wants it"),
        (ProtocolMistake::GoesOnUnasked, true, "has no lock"),
        (ProtocolMistake::KeepsMain, true, "no call wants it"),
        (ProtocolMistake::KeepsMain, false, "no call wants it"),
    ] {
        let found: Vec<String> = situations(has_tickets)
            .into_iter()
            .take(4)
            .filter_map(|(_, world)| explore(Processes { mistake, ..world }).err())
            .collect();
        let summary: Vec<&str> = found.iter().filter_map(|wrong| wrong.lines().next()).collect();
        println!("{mistake:?}, tickets: {has_tickets}: {summary:?}");
        assert!(
            summary.iter().any(|wrong| wrong.contains(expected)),
            "{mistake:?}, tickets: {has_tickets}: {summary:?}"
        );
    }
}

// -- The queue, in one process --------------------------------------------------------------

thread_local! {
    /// Which of the callers have their answer: they know, the queue only sees it.
    static ANSWERED: Cell<u32> = const { Cell::new(0) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Caller {
    number: u32,
    kind: LockKind,
    only_tries: bool,
}

impl WaitingCall for Caller {
    fn kind(&self) -> LockKind {
        self.kind
    }

    fn is_waiting(&self) -> bool {
        ANSWERED.get() & (1 << self.number) == 0
    }

    fn only_tries(&self) -> bool {
        self.only_tries
    }

    fn number(&self) -> u64 {
        self.number.into()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum QueueMistake {
    None,
    /// A lock that no call wants is kept.
    KeepsUnwanted,
    /// No thread looks what is to be done when a call has given up.
    DoesNotLookAfterLeaver,
    /// A wait that no call needs is not withdrawn.
    DoesNotWithdraw,
    /// A call that takes the lock at once does not look whether another waits.
    DoesNotLookForWaiters,
}

/// A process with a queue, and a kernel in which other processes come and go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OneProcess {
    scheduler: Scheduler<Caller>,
    /// Those who are still to come, in their order.
    coming: VecDeque<Caller>,
    count: u32,
    answered: u32,
    /// How often a call may give up, and how often the others may come.
    leavers: usize,
    visits: usize,
    /// What the others have, and whether they keep it for ever.
    others: Option<LockKind>,
    others_stay: bool,
    /// The locks of the system that this process has: for what, and how many share it.
    locks: Vec<(u64, LockKind, usize)>,
    last_lock: u64,
    /// Who holds which.
    holds: Vec<(Caller, u64)>,
    /// What is under way on some thread.
    tasks: BTreeSet<Task>,
    last_wait: u64,
    mistake: QueueMistake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Task {
    /// To see what is to be done.
    Pump,
    /// To ask the kernel, for writing or for reading.
    Ask(bool),
    /// To wait in the kernel: number, for writing, whether it is wanted.
    Wait(u64, bool, bool),
}

fn kind_of(is_write: bool) -> LockKind {
    if is_write { W } else { R }
}

impl OneProcess {
    fn new(callers: &[(LockKind, bool)], leavers: usize, visits: usize) -> OneProcess {
        let coming = callers.iter().enumerate().map(|(number, (kind, only_tries))| Caller {
            number: number as u32,
            kind: *kind,
            only_tries: *only_tries,
        });
        OneProcess {
            scheduler: Scheduler::default(),
            coming: coming.collect(),
            count: callers.len() as u32,
            answered: 0,
            leavers,
            visits,
            others: None,
            others_stay: false,
            locks: Vec::new(),
            last_lock: 0,
            holds: Vec::new(),
            tasks: BTreeSet::new(),
            last_wait: 0,
            mistake: QueueMistake::None,
        }
    }

    /// How many have come.
    fn come(&self) -> u32 {
        self.coming.front().map_or(self.count, |caller| caller.number)
    }

    fn is_free(&self, kind: LockKind) -> bool {
        let is_beside = |other: LockKind| kind == R && other == R;
        self.others.is_none_or(is_beside)
            && self.locks.iter().all(|(_, other, _)| is_beside(*other))
    }

    fn answer(&mut self, caller: Caller) -> Result<(), String> {
        if self.answered & (1 << caller.number) != 0 {
            return Err(format!("{caller:?} has two answers"));
        }
        self.answered |= 1 << caller.number;
        Ok(())
    }

    fn refuse(&mut self, refused: Vec<Caller>) -> Result<(), String> {
        for caller in refused {
            if !caller.only_tries {
                return Err(format!("{caller:?} was refused, and would have waited"));
            }
            // One that has given up meanwhile has its answer.
            if self.answered & (1 << caller.number) == 0 {
                self.answer(caller)?;
            }
        }
        Ok(())
    }

    /// The kernel has given the lock.
    fn arrived(&mut self, kind: LockKind) -> Result<(), String> {
        let kind = match self.scheduler.acquired(kind) {
            Recipient::Unwanted => {
                if self.mistake == QueueMistake::KeepsUnwanted {
                    self.locks.push((0, kind, 0));
                }
                return Ok(());
            }
            Recipient::ReadersOnly => R,
            Recipient::Next => kind,
        };
        let served = self.scheduler.grant();
        if served.is_empty() {
            return Err("granted to no call".to_owned());
        }
        self.last_lock += 1;
        self.locks.push((self.last_lock, kind, served.len()));
        for caller in served {
            if caller.kind != kind {
                return Err(format!("{caller:?} got a lock for {kind:?}"));
            }
            self.served(caller)?;
        }
        Ok(())
    }

    /// The last lock of the system is this caller's.
    fn served(&mut self, caller: Caller) -> Result<(), String> {
        let first = (0..caller.number).find(|number| self.answered & (1 << number) == 0);
        if let Some(first) = first {
            return Err(format!("{caller:?} has overtaken caller {first}"));
        }
        self.answer(caller)?;
        self.holds.push((caller, self.last_lock));
        let is_alone = self.holds.len() == 1 || self.holds.iter().all(|(one, _)| one.kind == R);
        if is_alone { Ok(()) } else { Err("a writer is not alone".to_owned()) }
    }

    /// The kernel has said 'not now'.
    fn not_now(&mut self) -> Result<(), String> {
        let mut refused = Vec::new();
        if let Some(kind) = self.scheduler.busy(&mut refused) {
            let same = |task: &Task| match *task {
                Task::Wait(number, is_write, _) if kind_of(is_write) == kind => Some(number),
                _ => None,
            };
            let number = self.tasks.iter().find_map(same).unwrap_or_else(|| {
                self.last_wait += 1;
                self.last_wait
            });
            self.tasks.remove(&Task::Wait(number, kind == W, false));
            self.tasks.insert(Task::Wait(number, kind == W, true));
            self.scheduler.wait_began(number, kind);
        }
        self.refuse(refused)
    }

    fn run(&mut self, task: Task) -> Result<(), String> {
        self.tasks.remove(&task);
        match task {
            Task::Pump => {
                let mut refused = Vec::new();
                match self.scheduler.next(&mut refused) {
                    LockAction::Nothing | LockAction::Retire => {}
                    LockAction::Ask(kind) => {
                        self.tasks.insert(Task::Ask(kind == W));
                    }
                    LockAction::Withdraw(number) => {
                        for is_write in [true, false] {
                            if self.tasks.contains(&Task::Wait(number, is_write, true))
                                && self.mistake != QueueMistake::DoesNotWithdraw
                            {
                                self.tasks.remove(&Task::Wait(number, is_write, true));
                                self.tasks.insert(Task::Wait(number, is_write, false));
                            }
                        }
                        self.tasks.insert(Task::Pump);
                    }
                }
                self.refuse(refused)?;
            }
            Task::Ask(is_write) => {
                let kind = kind_of(is_write);
                if self.is_free(kind) {
                    self.arrived(kind)?
                } else {
                    self.not_now()?
                }
                self.tasks.insert(Task::Pump);
            }
            Task::Wait(number, is_write, is_wanted) => {
                // A lock that is not wanted is released by the wait itself.
                match (self.scheduler.wait_ended(number), is_wanted) {
                    (true, true) => self.arrived(kind_of(is_write))?,
                    (true, false) => return Err("a wait that is wanted was withdrawn".to_owned()),
                    (false, _) => {}
                }
                self.tasks.insert(Task::Pump);
            }
        }
        let wanted =
            self.tasks.iter().filter(|task| matches!(task, Task::Wait(_, _, true))).count();
        let all = self.tasks.iter().filter(|task| matches!(task, Task::Wait(..))).count();
        if wanted > 1 || all > 2 {
            return Err(format!("{wanted} of {all} waits are wanted"));
        }
        Ok(())
    }

    /// The first that comes takes the lock at once; with readers that have it already.
    fn take_at_once(&mut self) -> Result<(), String> {
        let Some(caller) = self.coming.pop_front() else { return Ok(()) };
        let shared = self.locks.iter_mut().rfind(|(_, kind, _)| *kind == R && caller.kind == R);
        match shared {
            Some((number, _, shares)) => {
                *shares += 1;
                self.last_lock = *number;
            }
            None => {
                self.last_lock =
                    self.locks.iter().map(|(number, ..)| *number).max().unwrap_or(0) + 1;
                self.locks.push((self.last_lock, caller.kind, 1));
            }
        }
        self.scheduler.taken_at_once(caller.kind);
        self.served(caller)
    }

    /// Releases a lock that no other call of the process wants, and leaves it at that.
    fn release_at_once(&mut self, index: usize) {
        let (caller, lock) = self.holds.remove(index);
        for (number, _, shares) in &mut self.locks {
            *shares -= usize::from(*number == lock);
        }
        self.locks.retain(|(_, _, shares)| *shares > 0);
        self.scheduler.released(caller.kind);
    }

    /// Gives the lock to the call that comes next in this process, without asking the kernel.
    fn pass_on(&mut self, index: usize) -> Result<(), String> {
        let (caller, lock) = self.holds.remove(index);
        self.locks.retain(|(number, ..)| *number != lock);
        self.scheduler.released(caller.kind);
        self.arrived(W)?;
        self.tasks.insert(Task::Pump);
        Ok(())
    }

    fn release(&mut self, index: usize) -> Result<(), String> {
        let (caller, lock) = self.holds.remove(index);
        for (number, _, shares) in &mut self.locks {
            *shares -= usize::from(*number == lock);
        }
        self.locks
            .retain(|(_, _, shares)| *shares > 0 || self.mistake == QueueMistake::KeepsUnwanted);
        let goes_on = self.scheduler.has_next_after(caller.kind);
        self.scheduler.released(caller.kind);
        if goes_on {
            // At once, and not when a thread gets round to it.
            match self.scheduler.next(&mut Vec::new()) {
                LockAction::Ask(kind) => self.tasks.insert(Task::Ask(kind == W)),
                next => return Err(format!("{next:?} although a call comes next")),
            };
        } else {
            self.tasks.insert(Task::Pump);
        }
        Ok(())
    }
}

impl World for OneProcess {
    fn next(&self) -> Result<Vec<OneProcess>, String> {
        ANSWERED.set(self.answered);
        let mut worlds = Vec::new();
        let mut add = |change: &dyn Fn(&mut OneProcess) -> Result<(), String>| {
            let mut world = self.clone();
            ANSWERED.set(world.answered);
            change(&mut world)?;
            worlds.push(world);
            Ok::<(), String>(())
        };
        if let Some(caller) = self.coming.front() {
            add(&|world| {
                world.coming.pop_front();
                world.scheduler.insert(*caller);
                world.tasks.insert(Task::Pump);
                Ok(())
            })?;
            let is_idle = self.scheduler.clone().is_idle()
                || self.mistake == QueueMistake::DoesNotLookForWaiters;
            if is_idle && self.is_free(caller.kind) {
                add(&OneProcess::take_at_once)?;
            }
        }
        let come = self.come();
        for number in (0..come).filter(|number| self.answered & (1 << number) == 0) {
            if self.leavers > 0 {
                add(&|world| {
                    world.leavers -= 1;
                    world.answered |= 1 << number;
                    if world.mistake != QueueMistake::DoesNotLookAfterLeaver {
                        world.tasks.insert(Task::Pump);
                    }
                    Ok(())
                })?;
            }
        }
        for task in &self.tasks {
            // A wait is over when the lock is free.
            if !matches!(task, Task::Wait(_, is_write, _) if !self.is_free(kind_of(*is_write))) {
                add(&|world| world.run(*task))?;
            }
        }
        for index in 0..self.holds.len() {
            add(&|world| world.release(index))?;
            let (Caller { kind, .. }, lock) = self.holds[index];
            let is_last =
                self.locks.iter().any(|(number, _, shares)| *number == lock && *shares == 1);
            if is_last && self.scheduler.clone().is_unwanted() {
                add(&|world| {
                    world.release_at_once(index);
                    Ok(())
                })?;
            }
            if kind == W && self.scheduler.clone().has_next_after(W) {
                add(&|world| world.pass_on(index))?;
            }
        }
        match self.others {
            Some(_) if self.others_stay => {}
            Some(_) => add(&|world| {
                world.others = None;
                Ok(())
            })?,
            None if self.visits > 0 => {
                for kind in [R, W] {
                    if self.is_free(kind) {
                        add(&|world| {
                            world.visits -= 1;
                            world.others = Some(kind);
                            Ok(())
                        })?;
                    }
                }
            }
            None => {}
        }
        Ok(worlds)
    }

    fn end(&self) -> Result<(), String> {
        ANSWERED.set(self.answered);
        if !self.locks.is_empty() {
            return Err("a lock is held although no call wants it".to_owned());
        }
        let first = (0..self.come()).find(|number| self.answered & (1 << number) == 0);
        if let Some(first) = first {
            // Only a writer has to wait for others that read, and the calls that come after it.
            return match self.scheduler.clone().head() {
                Some(Caller { kind: W, .. }) if self.others_stay => Ok(()),
                _ => Err(format!("caller {first} waits for ever")),
            };
        }
        let is_idle = self.scheduler.clone().is_idle();
        if is_idle || self.others_stay {
            Ok(())
        } else {
            Err("it does not come to rest".to_owned())
        }
    }
}

/// The callers of each, who only try, how many give up, how often others come.
fn queues() -> Vec<(&'static str, OneProcess)> {
    vec![
        ("writers", OneProcess::new(&[(W, false), (W, false), (W, false)], 2, 1)),
        (
            "readers and writers",
            OneProcess::new(&[(R, false), (R, false), (W, false), (R, false)], 1, 1),
        ),
        (
            "a writer first",
            OneProcess::new(&[(W, false), (R, false), (R, false), (W, false)], 2, 1),
        ),
        ("some only try", OneProcess::new(&[(W, false), (R, true), (W, true), (R, false)], 1, 2)),
        (
            "beside readers that stay",
            OneProcess {
                others: Some(R),
                others_stay: true,
                ..OneProcess::new(&[(W, false), (R, false), (W, false), (R, false)], 2, 0)
            },
        ),
        ("readers give up", OneProcess::new(&[(R, false), (W, false), (R, false)], 3, 2)),
    ]
}

#[test]
fn calls_of_one_process_are_served_in_their_order_and_none_is_forgotten() {
    for (name, world) in queues() {
        let begun = std::time::Instant::now();
        let states = explore(world).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        println!("{name}: {states} states, {:?}", begun.elapsed());
    }
}

#[test]
fn mistakes_in_the_queue_are_noticed() {
    for mistake in [
        QueueMistake::KeepsUnwanted,
        QueueMistake::DoesNotLookAfterLeaver,
        QueueMistake::DoesNotWithdraw,
        QueueMistake::DoesNotLookForWaiters,
    ] {
        let found: Vec<String> = queues()
            .into_iter()
            .filter_map(|(_, world)| explore(OneProcess { mistake, ..world }).err())
            .filter_map(|wrong| wrong.lines().next().map(str::to_owned))
            .collect();
        println!("{mistake:?}: {found:?}");
        assert!(!found.is_empty(), "{mistake:?}");
    }
}
