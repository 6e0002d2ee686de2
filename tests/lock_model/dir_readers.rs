//! Readers without rights, who lock the directory where there is no lock file: beside writers who
//! make the file and remove it, and readers who may use it.

use std::collections::BTreeSet;

use super::{LockKind, LockStep, R, StepResult, W, Wait, World, explore};
use holdfast::lock::protocol::{Access, Attempt, Byte};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum DirMistake {
    None,
    /// A writer does not look whether readers have locked the directory.
    WriterDoesNotLook,
    /// A reader that has locked the directory does not look for the file again.
    ReaderDoesNotLook,
    /// A writer that has looked once does not look again when it has made another file.
    LooksOnce,
    /// A writer looks for the readers before it makes the file.
    LooksTooEarly,
}

/// What can be locked: a byte of a file, or the byte of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Place {
    In(usize, Byte),
    Dir,
}

/// What a process has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Opened {
    File(usize),
    Dir,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Doing {
    Nothing,
    /// Opens the file, to ask or to wait.
    Opening(bool),
    Trying(Opened, Attempt, StepResult),
    Waiting(Opened, Wait, WaitAt),
    /// Has the lock, if the file is still the right one.
    Looking(Opened),
    Holding(Opened),
    Killed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum WaitAt {
    Next(StepResult),
    Blocked(Byte, LockKind),
    Pausing,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Person {
    kind: LockKind,
    /// Whether he may make and write to the lock file.
    has_rights: bool,
    wants: usize,
    give_ups: usize,
    /// Has seen that no reader has locked the directory, for this file.
    is_free_for: Option<usize>,
    doing: Doing,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Folder {
    /// Which file has the name of the lock file.
    file: Option<usize>,
    made: usize,
    locks: BTreeSet<(Place, usize, bool)>,
    people: Vec<Person>,
    kills: usize,
    mistake: DirMistake,
}

fn person(kind: LockKind, has_rights: bool, wants: usize, give_ups: usize) -> Person {
    Person { kind, has_rights, wants, give_ups, is_free_for: None, doing: Doing::Nothing }
}

fn writer(wants: usize) -> Person {
    person(W, true, wants, 0)
}

fn reader(wants: usize) -> Person {
    person(R, true, wants, 0)
}

fn poor_reader(wants: usize) -> Person {
    person(R, false, wants, 0)
}

impl Folder {
    fn new(kills: usize, mistake: DirMistake, people: Vec<Person>) -> Folder {
        Folder { file: None, made: 0, locks: BTreeSet::new(), people, kills, mistake }
    }

    fn is_free(&self, who: usize, place: Place, kind: LockKind) -> bool {
        !self.locks.iter().any(|(other, holder, is_write)| {
            *other == place && *holder != who && (*is_write || kind == W)
        })
    }

    fn place(opened: Opened, byte: Byte) -> Option<Place> {
        match (opened, byte) {
            (Opened::File(file), _) => Some(Place::In(file, byte)),
            (Opened::Dir, Byte::Main) => Some(Place::Dir),
            (Opened::Dir, _) => None,
        }
    }

    fn lock(&mut self, who: usize, opened: Opened, byte: Byte, kind: LockKind) -> bool {
        let Some(place) = Folder::place(opened, byte) else { return true };
        if !self.is_free(who, place, kind) {
            return false;
        }
        let may = kind == R || self.people[who].has_rights;
        assert!(may, "a file that is open for reading is locked for writing");
        self.unlock(who, opened, byte);
        self.locks.insert((place, who, kind == W))
    }

    fn unlock(&mut self, who: usize, opened: Opened, byte: Byte) {
        let Some(place) = Folder::place(opened, byte) else { return };
        self.locks.retain(|(other, holder, _)| (*other, *holder) != (place, who));
    }

    fn close(&mut self, who: usize) {
        self.locks.retain(|(_, holder, _)| *holder != who);
    }

    fn access(&self, who: usize, opened: Opened) -> Access {
        let own = &self.people[who];
        let is_known_free = match (self.mistake, opened) {
            (DirMistake::WriterDoesNotLook | DirMistake::LooksTooEarly, _) => true,
            (DirMistake::LooksOnce, _) => own.is_free_for.is_some(),
            (_, Opened::File(file)) => own.is_free_for == Some(file),
            (_, Opened::Dir) => false,
        };
        Access { is_read_only: !own.has_rights, looks_in_dir: !is_known_free }
    }

    /// Does a step that does not wait; there may be several answers.
    fn take(&self, who: usize, opened: Opened, step: LockStep) -> Vec<(Folder, StepResult)> {
        let mut after = self.clone();
        let result = match step {
            LockStep::Try(byte, kind) => StepResult::Locked(after.lock(who, opened, byte, kind)),
            LockStep::Unlock(byte) => {
                after.unlock(who, opened, byte);
                StepResult::Nothing
            }
            LockStep::LookInDir => {
                let is_locked = !self.is_free(who, Place::Dir, W);
                if let (false, Opened::File(file)) = (is_locked, opened) {
                    after.people[who].is_free_for = Some(file);
                }
                StepResult::InDir(is_locked)
            }
            LockStep::Look(first, last) => {
                let ticket = |(place, holder, _): &(Place, usize, bool)| match (place, opened) {
                    (Place::In(file, Byte::Ticket(ticket)), Opened::File(own))
                        if *file == own && *holder != who && (first..=last).contains(ticket) =>
                    {
                        Some(*ticket)
                    }
                    _ => None,
                };
                let found: BTreeSet<u64> = self.locks.iter().filter_map(ticket).collect();
                let each = |ticket| (self.clone(), StepResult::Found(Some(ticket)));
                if !found.is_empty() {
                    return found.into_iter().map(each).collect();
                }
                StepResult::Found(None)
            }
            LockStep::Lock(..) | LockStep::Pause | LockStep::Done(_) => {
                panic!("{step:?} is not for here")
            }
        };
        vec![(after, result)]
    }

    fn with(&self, who: usize, doing: Doing) -> Folder {
        let mut after = self.clone();
        after.people[who].doing = doing;
        after
    }

    /// Opens what is there, and makes the file where there is none.
    fn open(&self, who: usize) -> (Folder, Opened) {
        let mut after = self.clone();
        // What it had open before.
        after.close(who);
        if let Some(file) = after.file {
            return (after, Opened::File(file));
        }
        if !after.people[who].has_rights {
            return (after, Opened::Dir);
        }
        after.made += 1;
        after.file = Some(after.made);
        (after.clone(), Opened::File(after.made))
    }

    fn hold(&self, who: usize, opened: Opened) -> Result<Folder, String> {
        for (other, own) in self.people.iter().enumerate() {
            let conflicts = own.kind == W || self.people[who].kind == W;
            if matches!(own.doing, Doing::Holding(_)) && other != who && conflicts {
                return Err(format!("{who} and {other} both have the lock"));
            }
        }
        Ok(self.with(who, Doing::Holding(opened)))
    }

    fn over(&self, who: usize) -> Folder {
        let mut after = self.with(who, Doing::Nothing);
        after.close(who);
        after.people[who].wants -= 1;
        after
    }

    fn steps_of(&self, who: usize, nexts: &mut Vec<Folder>) -> Result<(), String> {
        let own = &self.people[who];
        match own.doing.clone() {
            Doing::Nothing if own.wants == 0 => {}
            Doing::Nothing => {
                if self.mistake == DirMistake::LooksTooEarly
                    && own.kind == W
                    && !self.is_free(who, Place::Dir, W)
                {
                    return Ok(());
                }
                nexts.push(self.with(who, Doing::Opening(false)));
            }
            Doing::Opening(to_wait) => {
                let (after, opened) = self.open(who);
                let access = after.access(who, opened);
                nexts.push(match to_wait {
                    false => {
                        let attempt = Attempt::new(own.kind, true).with(access);
                        after.with(who, Doing::Trying(opened, attempt, StepResult::Nothing))
                    }
                    true => {
                        let at = WaitAt::Next(StepResult::Nothing);
                        let wait = Wait::new(own.kind, true).with(access);
                        after.with(who, Doing::Waiting(opened, wait, at))
                    }
                });
            }
            Doing::Trying(opened, mut attempt, result) => match attempt.next(result) {
                LockStep::Done(true) => nexts.push(self.with(who, Doing::Looking(opened))),
                LockStep::Done(false) => nexts.push(self.with(who, Doing::Opening(true))),
                step => {
                    for (after, result) in self.take(who, opened, step) {
                        let doing = Doing::Trying(opened, attempt.clone(), result);
                        nexts.push(after.with(who, doing));
                    }
                }
            },
            Doing::Waiting(opened, mut wait, at) => {
                if at_rest(at) && own.give_ups > 0 && wait.is_wanted() {
                    let (mut after, mut given_up) = (self.clone(), wait.clone());
                    for byte in given_up.withdraw(true) {
                        after.unlock(who, opened, byte);
                    }
                    after.people[who].give_ups -= 1;
                    nexts.push(after.with(who, Doing::Waiting(opened, given_up, at)));
                }
                let result = match at {
                    WaitAt::Blocked(byte, kind) => {
                        let mut after = self.clone();
                        if after.lock(who, opened, byte, kind) {
                            let at = WaitAt::Next(StepResult::Nothing);
                            nexts.push(after.with(who, Doing::Waiting(opened, wait, at)));
                        }
                        return Ok(());
                    }
                    WaitAt::Pausing => StepResult::Nothing,
                    WaitAt::Next(result) => result,
                };
                match wait.next(result) {
                    LockStep::Done(true) => nexts.push(self.with(who, Doing::Looking(opened))),
                    LockStep::Done(false) => nexts.push(self.over(who)),
                    LockStep::Lock(byte, kind) => {
                        nexts.push(
                            self.with(
                                who,
                                Doing::Waiting(opened, wait, WaitAt::Blocked(byte, kind)),
                            ),
                        );
                    }
                    LockStep::Pause => {
                        nexts.push(self.with(who, Doing::Waiting(opened, wait, WaitAt::Pausing)));
                    }
                    step => {
                        for (after, result) in self.take(who, opened, step) {
                            let doing = Doing::Waiting(opened, wait.clone(), WaitAt::Next(result));
                            nexts.push(after.with(who, doing));
                        }
                    }
                }
            }
            Doing::Looking(opened) => {
                let is_right = match opened {
                    Opened::File(file) => self.file == Some(file),
                    Opened::Dir => {
                        self.file.is_none() || self.mistake == DirMistake::ReaderDoesNotLook
                    }
                };
                nexts.push(match is_right {
                    true => self.hold(who, opened)?,
                    false => self.with(who, Doing::Opening(true)),
                });
            }
            Doing::Holding(opened) => {
                nexts.push(self.over(who));
                if let (W, Opened::File(file)) = (own.kind, opened) {
                    // It is the last to use the file, and removes it under the lock.
                    let is_used = self.locks.iter().any(|(place, holder, _)| {
                        matches!(place, Place::In(other, Byte::Ticket(_) | Byte::Gate) if *other == file)
                            && *holder != who
                    });
                    if !is_used && self.file == Some(file) {
                        let mut after = self.over(who);
                        after.file = None;
                        nexts.push(after);
                    }
                }
            }
            Doing::Killed => {}
        }
        Ok(())
    }
}

/// Whether other threads of the process may tell the wait something.
fn at_rest(at: WaitAt) -> bool {
    !matches!(at, WaitAt::Next(_))
}

impl World for Folder {
    fn next(&self) -> Result<Vec<Folder>, String> {
        let mut nexts = Vec::new();
        for who in 0..self.people.len() {
            self.steps_of(who, &mut nexts)?;
            if self.kills > 0 && !matches!(self.people[who].doing, Doing::Nothing | Doing::Killed) {
                let mut after = self.with(who, Doing::Killed);
                after.close(who);
                after.kills -= 1;
                nexts.push(after);
            }
        }
        // Where nothing but a pause is left, it leads back here.
        nexts.retain(|next| next != self);
        Ok(nexts)
    }

    fn end(&self) -> Result<(), String> {
        let is_over = |own: &Person| {
            own.doing == Doing::Killed || (own.doing == Doing::Nothing && own.wants == 0)
        };
        match self.people.iter().all(is_over) && self.locks.is_empty() {
            true => Ok(()),
            false => Err("somebody waits for ever".to_owned()),
        }
    }
}

fn worlds(mistake: DirMistake) -> Vec<Folder> {
    let gives_up = |own: Person| Person { give_ups: 1, ..own };
    vec![
        Folder::new(1, mistake, vec![writer(2), poor_reader(2)]),
        Folder::new(1, mistake, vec![writer(1), writer(1), poor_reader(1)]),
        Folder::new(0, mistake, vec![writer(2), poor_reader(1), poor_reader(1)]),
        Folder::new(1, mistake, vec![writer(1), reader(1), poor_reader(1)]),
        Folder::new(0, mistake, vec![gives_up(writer(1)), writer(1), gives_up(poor_reader(1))]),
    ]
}

#[test]
fn readers_that_may_make_no_lock_file_exclude_writers_and_hang_nobody() {
    for world in worlds(DirMistake::None) {
        let count = explore(world).unwrap_or_else(|wrong| panic!("{wrong}"));
        println!("{count} states");
        assert!(count > 500, "{count} states");
    }
}

#[test]
fn mistakes_with_locks_of_the_directory_are_noticed() {
    for mistake in [
        DirMistake::WriterDoesNotLook,
        DirMistake::ReaderDoesNotLook,
        DirMistake::LooksOnce,
        DirMistake::LooksTooEarly,
    ] {
        let found = worlds(mistake).into_iter().any(|world| explore(world).is_err());
        assert!(found, "{mistake:?} goes unnoticed");
    }
}
