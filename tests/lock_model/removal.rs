//! Lock files that are removed and made again: processes that open the file, lock it, look whether
//! its name still leads to it, and remove it when they do not use it any more.
//!
//! What runs here is [`Attempt`], [`Wait`] and [`Removal`] of the product. A process may be killed
//! at any moment.

use std::collections::BTreeSet;

use holdfast::lock::LockKind::{self, Read as R, Write as W};
use holdfast::lock::protocol::{Attempt, Byte, LockStep, Removal, StepResult, Wait};

use super::{Kernel, World, explore};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mistake {
    None,
    /// A process that has locked the file does not look whether it still has its name.
    DoesNotLook,
    /// A process removes the file without main.
    RemovesHeld,
    /// A process removes what has the name, though it has locked another file.
    RemovesAnother,
    /// A process that removes the file does not say so.
    DoesNotTell,
    /// A process that only tries looks at the name first, and then whether the file is being removed.
    LooksTheWrongWay,
    /// A process that only tries asks once: another may just have found that it may not remove the file.
    DoesNotAskAgain,
    /// A process that meets another that removes the file leaves it to that.
    DoesNotTryAgain,
    /// A process that waits stays at a file without a name.
    StaysAtRemoved,
}

/// What a process wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Want {
    Wait(LockKind),
    Try(LockKind),
}

impl Want {
    fn kind(self) -> LockKind {
        match self {
            Want::Wait(kind) | Want::Try(kind) => kind,
        }
    }
}

/// Which file: one that has the name, had it, or will have it.
type File = usize;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Files {
    kernels: Vec<Kernel>,
    name: Option<File>,
    all: Vec<User>,
    kills: usize,
    mistake: Mistake,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct User {
    /// What it still wants, one after the other.
    wants: Vec<Want>,
    /// An older version removes nothing.
    removes: bool,
    /// The file has to be removed by it, or found in use.
    is_due: bool,
    doing: Doing,
    /// While it has tried, another process has used the lock.
    has_seen_user: bool,
    has_asked_again: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Doing {
    Nothing,
    Opening,
    Trying(File, Attempt, StepResult),
    /// Has not got it, and looks why: first, and then.
    Refused(File),
    StillRefused(File),
    Waiting(File, Wait, StepResult),
    Blocked(File, Wait, Byte, LockKind),
    Checking(File),
    Holding(File),
    OpeningToRemove,
    Removing(File, Removal, StepResult),
    Looking(File),
    Unlinking(File),
    Killed,
}

impl User {
    fn new(wants: &[Want]) -> User {
        User {
            wants: wants.iter().rev().copied().collect(),
            removes: true,
            is_due: false,
            doing: Doing::Nothing,
            has_seen_user: false,
            has_asked_again: false,
        }
    }

    fn file(&self) -> Option<File> {
        match &self.doing {
            Doing::Nothing | Doing::Opening | Doing::OpeningToRemove | Doing::Killed => None,
            Doing::Trying(file, ..)
            | Doing::Refused(file)
            | Doing::StillRefused(file)
            | Doing::Waiting(file, ..)
            | Doing::Blocked(file, ..)
            | Doing::Checking(file)
            | Doing::Holding(file)
            | Doing::Removing(file, ..)
            | Doing::Looking(file)
            | Doing::Unlinking(file) => Some(*file),
        }
    }

    fn is_user(&self) -> bool {
        let removes =
            matches!(self.doing, Doing::Removing(..) | Doing::Looking(_) | Doing::Unlinking(_));
        self.file().is_some() && !removes
    }

    fn has_lock(&self) -> bool {
        matches!(self.doing, Doing::Holding(_))
    }
}

impl Files {
    fn new(kills: usize, all: &[&[Want]]) -> Files {
        let all = all.iter().map(|wants| User::new(wants)).collect();
        Files { kernels: Vec::new(), name: None, all, kills, mistake: Mistake::None }
    }

    /// This process does that next.
    fn then(&self, process: usize, doing: Doing) -> Files {
        let mut world = self.clone();
        world.set(process, doing);
        world
    }

    fn set(&mut self, process: usize, doing: Doing) {
        let before = self.all[process].file();
        self.all[process].doing = doing;
        if let Some(file) = before
            && self.all[process].file() != before
        {
            self.kernels[file].close((process, 0));
        }
    }

    /// Opens the file that has the name, or makes one.
    fn open(&mut self) -> File {
        if let Some(file) = self.name {
            return file;
        }
        let is_open = |file: File| self.all.iter().any(|user| user.file() == Some(file));
        let file = (0..).find(|file| !is_open(*file)).unwrap();
        if file == self.kernels.len() {
            self.kernels.push(Kernel::default());
        }
        self.name = Some(file);
        file
    }

    /// The call is over; whoever has used the file is to see to its end.
    fn over(&self, process: usize) -> Files {
        let mut world = self.then(process, Doing::Nothing);
        let user = &mut world.all[process];
        user.wants.pop();
        user.is_due = user.removes;
        user.has_seen_user = false;
        user.has_asked_again = false;
        world
    }

    fn act(&self, process: usize, worlds: &mut Vec<Files>) -> Result<(), String> {
        let user = &self.all[process];
        let want = user.wants.last().copied();
        match &user.doing {
            Doing::Killed => {}
            Doing::Nothing => {
                if want.is_some() {
                    worlds.push(self.then(process, Doing::Opening));
                }
                if user.is_due {
                    let mut world = self.then(process, Doing::OpeningToRemove);
                    world.all[process].is_due = false;
                    worlds.push(world);
                }
            }
            Doing::Opening => {
                let mut world = self.clone();
                let file = world.open();
                let attempt = Attempt::new(want.unwrap().kind(), true);
                world.set(process, Doing::Trying(file, attempt, StepResult::Nothing));
                worlds.push(world);
            }
            Doing::Trying(file, attempt, result) => {
                let mut attempt = attempt.clone();
                match attempt.next(*result) {
                    LockStep::Done(true) => worlds.push(self.then(process, Doing::Checking(*file))),
                    LockStep::Done(false) => worlds.push(match want.unwrap() {
                        Want::Try(_) => self.then(process, Doing::Refused(*file)),
                        Want::Wait(kind) => {
                            let wait = Wait::new(kind, true);
                            self.then(process, Doing::Waiting(*file, wait, StepResult::Nothing))
                        }
                    }),
                    step => self.step(process, *file, step, worlds, |result| {
                        Doing::Trying(*file, attempt.clone(), result)
                    }),
                }
            }
            Doing::Refused(file) | Doing::StillRefused(file) => {
                let is_first = matches!(user.doing, Doing::Refused(_));
                let looks_at_byte = is_first == (self.mistake != Mistake::LooksTheWrongWay);
                let is_in_the_way = match looks_at_byte {
                    true => !self.kernels[*file].is_free((process, 0), Byte::Removal, W),
                    false => self.name != Some(*file),
                };
                if is_in_the_way || !user.removes {
                    // An older version is told that the lock is held.
                    let world = self.then(process, Doing::Opening);
                    worlds.push(if user.removes { world } else { self.over(process) });
                } else if is_first {
                    worlds.push(self.then(process, Doing::StillRefused(*file)));
                } else if !user.has_asked_again && self.mistake != Mistake::DoesNotAskAgain {
                    let mut world = self.then(process, Doing::Opening);
                    world.all[process].has_asked_again = true;
                    worlds.push(world);
                } else if !user.has_seen_user {
                    return Err(format!("{process} is refused, and no process uses the lock"));
                } else {
                    worlds.push(self.over(process));
                }
            }
            Doing::Waiting(file, wait, result) => {
                let mut wait = wait.clone();
                match wait.next(*result) {
                    LockStep::Done(true) => worlds.push(self.then(process, Doing::Checking(*file))),
                    LockStep::Done(false) => return Err(format!("{process} has waited in vain")),
                    LockStep::Lock(byte, kind) => {
                        worlds.push(self.then(process, Doing::Blocked(*file, wait, byte, kind)));
                    }
                    step => self.step(process, *file, step, worlds, |result| {
                        Doing::Waiting(*file, wait.clone(), result)
                    }),
                }
            }
            Doing::Blocked(file, wait, byte, kind) => {
                let mut world = self.clone();
                if world.kernels[*file].lock((process, 0), *byte, *kind) {
                    let doing = Doing::Waiting(*file, wait.clone(), StepResult::Nothing);
                    world.set(process, doing);
                    worlds.push(world);
                }
            }
            Doing::Checking(file) => {
                let is_called = self.name == Some(*file) || self.mistake == Mistake::DoesNotLook;
                if is_called {
                    worlds.push(self.then(process, Doing::Holding(*file)));
                } else if self.mistake == Mistake::StaysAtRemoved {
                    worlds.push(self.clone());
                } else {
                    worlds.push(self.then(process, Doing::Opening));
                }
            }
            Doing::Holding(_) => worlds.push(self.over(process)),
            Doing::OpeningToRemove => worlds.push(match self.name {
                Some(file) => {
                    let removal = Removal::new(true, self.mistake != Mistake::DoesNotTell);
                    self.then(process, Doing::Removing(file, removal, StepResult::Nothing))
                }
                None => self.then(process, Doing::Nothing),
            }),
            Doing::Removing(file, removal, result) => {
                let mut removal = removal.clone();
                match removal.next(*result) {
                    LockStep::Done(true) => worlds.push(self.then(process, Doing::Looking(*file))),
                    LockStep::Done(false) => {
                        let mut world = self.then(process, Doing::Nothing);
                        let tries_again = self.mistake != Mistake::DoesNotTryAgain;
                        world.all[process].is_due |= removal.has_met_another() && tries_again;
                        worlds.push(world);
                    }
                    LockStep::Try(Byte::Main, _) if self.mistake == Mistake::RemovesHeld => {
                        let result = StepResult::Locked(true);
                        worlds.push(self.then(process, Doing::Removing(*file, removal, result)));
                    }
                    step => self.step(process, *file, step, worlds, |result| {
                        Doing::Removing(*file, removal.clone(), result)
                    }),
                }
            }
            Doing::Looking(file) => {
                let is_called = self.name == Some(*file);
                let goes_on = is_called || self.mistake == Mistake::RemovesAnother;
                worlds.push(match goes_on {
                    true => self.then(process, Doing::Unlinking(*file)),
                    false => self.then(process, Doing::Nothing),
                });
            }
            Doing::Unlinking(_) => {
                worlds.push(self.unlinked(process));
            }
        }
        Ok(())
    }

    fn unlinked(&self, process: usize) -> Files {
        let mut world = self.clone();
        world.name = None;
        world.set(process, Doing::Nothing);
        world
    }

    fn step(
        &self,
        process: usize,
        file: File,
        step: LockStep,
        worlds: &mut Vec<Files>,
        then: impl Fn(StepResult) -> Doing,
    ) {
        for (kernel, result) in self.kernels[file].take((process, 0), step) {
            let mut world = self.clone();
            world.kernels[file] = kernel;
            world.set(process, then(result));
            worlds.push(world);
        }
    }

    /// What must be so in each state.
    fn check(&self) -> Result<(), String> {
        let holders: Vec<_> = self.all.iter().filter(|user| user.has_lock()).collect();
        let kinds = holders.iter().map(|user| user.wants.last().unwrap().kind());
        if holders.len() > 1 && !kinds.into_iter().all(|kind| kind == R) {
            return Err("two processes have the lock".to_owned());
        }
        match holders.iter().any(|user| user.file() != self.name) {
            true => Err("the name does not lead to the file that is locked".to_owned()),
            false => Ok(()),
        }
    }
}

impl World for Files {
    fn next(&self) -> Result<Vec<Files>, String> {
        self.check()?;
        let mut worlds = Vec::new();
        for process in 0..self.all.len() {
            self.act(process, &mut worlds)?;
            let user = &self.all[process];
            if self.kills > 0 && user.doing != Doing::Killed {
                let mut world = self.then(process, Doing::Killed);
                world.all[process].wants.clear();
                world.all[process].is_due = false;
                world.kills -= 1;
                // One that is killed in the middle of a removal looks like one that held the lock.
                world.all.iter_mut().for_each(|user| user.has_seen_user |= user.file().is_some());
                worlds.push(world);
            }
        }
        for world in &mut worlds {
            let users: BTreeSet<usize> =
                (0..world.all.len()).filter(|process| world.all[*process].is_user()).collect();
            for process in 0..world.all.len() {
                let tries = matches!(world.all[process].wants.last(), Some(Want::Try(_)));
                let is_at_it =
                    world.all[process].is_user() || world.all[process].doing == Doing::Opening;
                if tries && is_at_it && users.iter().any(|user| *user != process) {
                    world.all[process].has_seen_user = true;
                }
            }
            // A file that is gone is like any other that is gone.
            while world.kernels.last().is_some_and(|kernel| kernel.locks.is_empty())
                && world.name != Some(world.kernels.len() - 1)
                && !world.all.iter().any(|user| user.file() == Some(world.kernels.len() - 1))
            {
                world.kernels.pop();
            }
        }
        Ok(worlds)
    }

    fn end(&self) -> Result<(), String> {
        if self.kernels.iter().any(|kernel| !kernel.locks.is_empty()) {
            return Err("a lock is held although no call wants it".to_owned());
        }
        let is_over = |user: &User| user.wants.is_empty() && user.file().is_none();
        if !self.all.iter().all(is_over) {
            return Err("they wait for ever".to_owned());
        }
        // Those that are killed, and older versions, may leave it.
        let all_remove = self.all.iter().all(|user| user.removes && user.doing != Doing::Killed);
        if self.name.is_some() && all_remove {
            return Err("the lock file is left".to_owned());
        }
        Ok(())
    }
}

fn situations() -> Vec<(&'static str, Files)> {
    use Want::{Try, Wait};
    vec![
        ("two writers, twice each", Files::new(1, &[&[Wait(W), Wait(W)], &[Wait(W), Wait(W)]])),
        ("three writers", Files::new(0, &[&[Wait(W)], &[Wait(W)], &[Wait(W)]])),
        ("three writers, one is killed", Files::new(1, &[&[Wait(W)], &[Wait(W)], &[Wait(W)]])),
        ("readers and a writer", Files::new(0, &[&[Wait(R)], &[Wait(R)], &[Wait(W)]])),
        ("one that only tries", Files::new(0, &[&[Try(W)], &[Wait(W)], &[Wait(R)]])),
        ("one that tries twice", Files::new(1, &[&[Try(W), Try(W)], &[Wait(W)]])),
        ("two that only try", Files::new(1, &[&[Try(W), Try(R)], &[Try(W)]])),
    ]
}

#[test]
fn a_lock_file_is_removed_while_no_process_uses_it_and_never_otherwise() {
    for (name, world) in situations() {
        let begun = std::time::Instant::now();
        let states = explore(world).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        println!("{name}: {states} states, {:?}", begun.elapsed());
    }
}

#[test]
fn versions_that_remove_nothing_are_excluded_all_the_same() {
    for (name, mut world) in situations() {
        world.all[1].removes = false;
        let states = explore(world).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        println!("{name}, one that removes nothing: {states} states");
    }
}

#[test]
fn mistakes_in_the_removal_are_noticed() {
    for (mistake, expected) in [
        (Mistake::DoesNotLook, "does not lead"),
        (Mistake::RemovesHeld, "does not lead"),
        (Mistake::RemovesAnother, "does not lead"),
        (Mistake::DoesNotTell, "no process uses"),
        (Mistake::LooksTheWrongWay, "no process uses"),
        (Mistake::DoesNotAskAgain, "no process uses"),
        (Mistake::DoesNotTryAgain, "is left"),
        (Mistake::StaysAtRemoved, "leads nowhere"),
    ] {
        let found = situations()
            .into_iter()
            .filter_map(|(_, world)| explore(Files { mistake, ..world }).err())
            .find(|wrong| wrong.contains(expected));
        println!("{mistake:?}: {:?}", found.as_ref().and_then(|wrong| wrong.lines().next()));
        assert!(found.is_some(), "{mistake:?}");
    }
}
