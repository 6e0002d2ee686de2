//! Writes that are synced together.
//!
//! What is dear in a durable write is to wait for the disk, and one wait serves for all that
//! was written before it. So writes that are staged at the same time on one file system go on
//! together:
//!
//! 1. All their bytes are sent on their way to the device, then all are waited for.
//! 2. Those that may be are renamed ([`Syncs::BytesThenFile`]).
//! 3. One sync of the whole file system makes all of it durable.
//! 4. The others are renamed, and their directories synced, each one once.
//!
//! For each of them this is its own sequence with the syncs of the others in between, so a
//! power cut at any moment leaves of each what it would have left of a write alone. A failure
//! that befalls one is its own. A failure of the sync of all says nothing about any of them:
//! each is then made again, alone, with a new temp file, and what comes of that is its
//! outcome.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::error::{Error, Failure};
use crate::fs::{FileSystem, uninterrupted};
use crate::threads::blocking;
use crate::write::durability::Syncs;
use crate::write::events::Log;
use crate::write::{
    AttemptError, Control, Draft, Name, Observer, Staged, WriteRequest, abandon, attempt, publish,
    run_on,
};

/// One of the writes.
pub(super) struct Member<'a, F: FileSystem> {
    request: &'a WriteRequest,
    control: &'a Control,
    draft: Draft<F>,
    log: Log<'a>,
    outcome: Option<Outcome>,
}

/// What came of a write.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Its attempt is over.
    Done(Result<(), AttemptError>),
    /// It has to be made again, alone. If that fails too, its content may be in place all the
    /// same.
    Alone {
        /// Whether it has been renamed.
        is_in_place: bool,
    },
}

impl<'a, F: FileSystem> Member<'a, F> {
    pub(super) fn new(
        request: &'a WriteRequest,
        control: &'a Control,
        observer: Option<&'a dyn Observer>,
        staged: Staged<F>,
    ) -> Member<'a, F> {
        let log = Log::resume(observer, &request.path, staged.notes);
        Member { request, control, draft: staged.draft, log, outcome: None }
    }

    fn syncs(&self) -> Syncs {
        self.draft.syncs(&self.request.options)
    }

    /// Takes a step, unless it is over. A failure ends it.
    fn step(&mut self, fs: &F, step: impl FnOnce(&Member<'a, F>) -> Result<(), AttemptError>) {
        if self.outcome.is_some() {
            return;
        }
        if let Err(error) = step(self) {
            abandon(fs, &self.draft, &error, &self.log);
            self.outcome = Some(Outcome::Done(Err(error)));
        }
    }

    fn rename(&mut self, fs: &F) {
        self.step(fs, |member| {
            member.log.written();
            publish(fs, &member.draft, Name::Target, member.control, &member.log).map(drop)
        });
    }

    fn into_outcome(self) -> Outcome {
        self.outcome.unwrap_or_else(|| {
            self.log.completed();
            Outcome::Done(Ok(()))
        })
    }
}

/// Brings staged writes to their places, all on one file system that can be synced as a
/// whole. Says what came of each, and how long the sync of all took.
pub(super) fn commit_together<F: FileSystem>(
    fs: &F,
    mut members: Vec<Member<'_, F>>,
) -> (Vec<Outcome>, Duration) {
    let took = sync_together(fs, &mut members);
    for member in members.iter_mut().filter(|member| member.syncs() != Syncs::BytesThenFile) {
        member.rename(fs);
    }
    sync_dirs(fs, &mut members);
    (members.into_iter().map(Member::into_outcome).collect(), took)
}

/// Everything up to the sync of all.
fn sync_together<F: FileSystem>(fs: &F, members: &mut [Member<'_, F>]) -> Duration {
    let at = |error| AttemptError::from(Failure::new("sync_file_range", error));
    for member in &mut *members {
        member.step(fs, |member| {
            uninterrupted(|| fs.begin_write_back(&member.draft.temp.file)).map_err(at)
        });
    }
    // The sync of all would wait for the bytes too, but could not say whose were lost.
    blocking(|| {
        for member in &mut *members {
            member.step(fs, |member| {
                uninterrupted(|| fs.await_write_back(&member.draft.temp.file)).map_err(at)
            });
        }
    });
    for member in members.iter_mut().filter(|member| member.syncs() == Syncs::BytesThenFile) {
        member.rename(fs);
    }
    let left = members.iter().filter(|member| member.outcome.is_none());
    // It tells of failures since this file was opened: before any of the others was written.
    let Some(first) = left.min_by_key(|member| member.draft.temp.opened) else {
        return Duration::ZERO;
    };
    let begun = Instant::now();
    let synced = uninterrupted(|| blocking(|| fs.sync_file_system_of(&first.draft.temp.file)));
    let took = begun.elapsed();
    if let Err(error) = synced {
        let failure = Failure::new("syncfs", error);
        for member in members.iter_mut().filter(|member| member.outcome.is_none()) {
            let is_in_place = member.syncs() == Syncs::BytesThenFile;
            let error = AttemptError { kind: failure.duplicate().into(), committed: is_in_place };
            abandon(fs, &member.draft, &error, &member.log);
            member.outcome = Some(Outcome::Alone { is_in_place });
        }
    }
    took
}

/// Syncs the directories of those whose names are not durable yet.
fn sync_dirs<F: FileSystem>(fs: &F, members: &mut [Member<'_, F>]) {
    let mut synced = HashMap::new();
    let needs_it =
        |member: &Member<'_, F>| member.outcome.is_none() && member.syncs() == Syncs::FileThenDir;
    let is_one_of_many = members.iter().filter(|member| needs_it(member)).count() > 1;
    for member in members.iter_mut().filter(|member| needs_it(member)) {
        let Draft { target, temp, .. } = &member.draft;
        let dir = match is_one_of_many {
            true => uninterrupted(|| fs.dir_metadata(target.dir.handle())).ok(),
            false => None,
        };
        let sync = || publish::sync_dir(fs, target, temp);
        let outcome = match dir {
            Some(dir) => synced.entry(dir.id).or_insert_with(sync),
            None => &mut sync(),
        };
        if let Err(failure) = outcome {
            let failure = failure.duplicate().on(target.dir.path());
            let error = AttemptError { kind: failure.into(), committed: true };
            abandon(fs, &member.draft, &error, &member.log);
            member.outcome = Some(Outcome::Done(Err(error)));
        }
    }
}

/// The last step of writes that are in their places, on a file system on which each had to be
/// synced alone: their directories are synced, each one once.
pub(super) fn settle_together<F: FileSystem>(
    fs: &F,
    mut members: Vec<Member<'_, F>>,
) -> Vec<Outcome> {
    sync_dirs(fs, &mut members);
    members.into_iter().map(Member::into_outcome).collect()
}

/// Makes several writes on the calling thread and syncs them together as far as their file
/// systems allow. What comes of each is as if it had been [`super::run`] by itself.
pub fn run_together<F: FileSystem>(fs: &F, requests: &[WriteRequest]) -> Vec<Result<(), Error>> {
    let control = Control::default();
    let mut outcomes = Vec::new();
    let mut epochs: HashMap<u64, Vec<(usize, Member<'_, F>)>> = HashMap::new();
    for (index, request) in requests.iter().enumerate() {
        outcomes.push(match Staged::new(fs, request, &control, None, None) {
            Ok(staged) if staged.can_be_synced_with_others(&request.options) => {
                let epoch = epochs.entry(staged.device()).or_default();
                epoch.push((index, Member::new(request, &control, None, staged)));
                Outcome::Alone { is_in_place: false }
            }
            Ok(staged) => Outcome::Done(staged.commit(fs, request, &control, None)),
            Err(error) => Outcome::Done(Err(error)),
        });
    }
    for (_, epoch) in epochs {
        let (indices, members): (Vec<usize>, Vec<_>) = epoch.into_iter().unzip();
        for (index, outcome) in indices.into_iter().zip(commit_together(fs, members).0) {
            if let Some(before) = outcomes.get_mut(index) {
                *before = outcome;
            }
        }
    }
    let finish = |(outcome, request)| {
        let first = match outcome {
            Outcome::Done(outcome) => outcome,
            Outcome::Alone { is_in_place } => attempt(fs, request, &control, None, None)
                .map_err(|error| error.in_place(is_in_place)),
        };
        run_on(fs, request, &control, None, first)
    };
    outcomes.into_iter().zip(requests).map(finish).collect()
}
