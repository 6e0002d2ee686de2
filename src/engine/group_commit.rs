//! Writes that are synced together.
//!
//! The expensive part of a durable write is the wait for the disk, and one wait serves all that
//! was written before it. So writes that are staged at the same time on one file system go on
//! together:
//!
//! 1. The write-back of all their bytes is started, then all of it is awaited.
//! 2. Those that may be are renamed ([`SyncSequence::BytesThenFile`]).
//! 3. One sync of the whole file system makes all of it durable.
//! 4. The others are renamed, and their directories synced, each one once.
//!
//! For each of them this is its own sequence with the syncs of the others in between, so a
//! power cut at any moment leaves of each what it would have left of a write alone. A failure
//! of one is not shared. A failure of the sync of the whole tells nothing about any of them:
//! each is then made again, alone, with a new temp file, and what comes of that is its
//! outcome.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::error::{Error, Failure};
use crate::fs::FileSystem;
use crate::threads::blocking;
use crate::write::durability::SyncSequence;
use crate::write::{
    AttemptError, Control, StagedWrite, WriteAttempt, WriteRequest, make_attempt, run_on,
};

/// One of the writes.
pub(super) struct GroupMember<'a, F: FileSystem> {
    attempt: WriteAttempt<'a, F>,
    staged: StagedWrite<F>,
    outcome: Option<MemberOutcome>,
}

/// What came of a write.
#[derive(Debug)]
pub(super) enum MemberOutcome {
    /// Its attempt has ended.
    Done(Result<(), AttemptError>),
    /// It has to be made again, alone. If that fails too, its content may be in place all the
    /// same.
    Alone {
        /// Whether it has been renamed.
        is_in_place: bool,
    },
}

impl<'a, F: FileSystem> GroupMember<'a, F> {
    pub(super) fn new(attempt: WriteAttempt<'a, F>, staged: StagedWrite<F>) -> GroupMember<'a, F> {
        GroupMember { attempt, staged, outcome: None }
    }

    fn has_sequence(&self, syncs: SyncSequence) -> bool {
        self.staged.syncs == syncs
    }

    /// Takes a step, unless the write has ended. A failure ends it.
    fn step<E: Into<AttemptError>>(
        &mut self,
        step: impl FnOnce(&mut GroupMember<'a, F>) -> Result<(), E>,
    ) {
        if self.outcome.is_none()
            && let Err(error) = step(self)
        {
            self.fail(error.into());
        }
    }

    fn fail(&mut self, error: AttemptError) {
        self.outcome = Some(MemberOutcome::Done(Err(self.staged.abandoned(&self.attempt, error))));
    }

    fn rename(&mut self) {
        self.step(|member| member.staged.rename(&member.attempt).map(drop));
    }

    fn into_outcome(self) -> MemberOutcome {
        self.outcome.unwrap_or_else(|| {
            self.staged.completed(&self.attempt);
            MemberOutcome::Done(Ok(()))
        })
    }
}

/// Brings staged writes to their places, all on one file system that can be synced as a
/// whole. Returns what came of each, and how long the sync of the whole took.
pub(super) fn commit_together<F: FileSystem>(
    mut members: Vec<GroupMember<'_, F>>,
) -> (Vec<MemberOutcome>, Duration) {
    let took = sync_together(&mut members);
    for member in &mut members {
        if !member.has_sequence(SyncSequence::BytesThenFile) {
            member.rename();
        }
    }
    (sync_dirs_together(members), took)
}

/// Everything up to the sync of the whole file system.
fn sync_together<F: FileSystem>(members: &mut [GroupMember<'_, F>]) -> Duration {
    for member in &mut *members {
        member.step(|member| member.staged.temp.file.begin_write_back());
    }
    // The sync of the whole would wait for the bytes too, but could not tell whose were lost.
    let failed: Vec<(usize, Failure)> = blocking(|| {
        let waiting = members.iter().enumerate().filter(|(_, member)| member.outcome.is_none());
        let awaited = waiting.map(|(index, member)| {
            (index, member.staged.temp.file.await_write_back_within().err())
        });
        awaited.filter_map(|(index, failure)| Some((index, failure?))).collect()
    });
    for (index, failure) in failed {
        if let Some(member) = members.get_mut(index) {
            member.fail(failure.into());
        }
    }
    for member in &mut *members {
        if member.has_sequence(SyncSequence::BytesThenFile) {
            member.rename();
        }
    }
    let left = members.iter().filter(|member| member.outcome.is_none());
    // The sync reports failures since this file was opened: before any of the others was written.
    let Some(first) = left.min_by_key(|member| member.staged.temp.opened) else {
        return Duration::ZERO;
    };
    let begun = Instant::now();
    let synced = first.staged.temp.file.sync_file_system();
    let took = begun.elapsed();
    if let Err(failure) = synced {
        for member in members.iter_mut().filter(|member| member.outcome.is_none()) {
            let is_in_place = member.has_sequence(SyncSequence::BytesThenFile);
            let error = AttemptError { kind: failure.duplicate().into(), committed: is_in_place };
            member.staged.abandoned(&member.attempt, error);
            member.outcome = Some(MemberOutcome::Alone { is_in_place });
        }
    }
    took
}

/// The last step of writes that are in their places: the directories of those whose names are
/// not durable yet are synced, each one once.
pub(super) fn sync_dirs_together<F: FileSystem>(
    mut members: Vec<GroupMember<'_, F>>,
) -> Vec<MemberOutcome> {
    let needs_sync = |member: &GroupMember<'_, F>| {
        member.outcome.is_none() && member.has_sequence(SyncSequence::FileThenDir)
    };
    let is_one_of_many = members.iter().filter(|member| needs_sync(member)).count() > 1;
    let mut synced = HashMap::new();
    for member in members.iter_mut().filter(|member| needs_sync(member)) {
        let StagedWrite { target, temp, .. } = &member.staged;
        let id = match is_one_of_many {
            true => target.dir.metadata().ok().map(|metadata| metadata.id),
            false => None,
        };
        let sync = || target.dir.sync(Some(&temp.file));
        let outcome = match id {
            Some(id) => synced.entry(id).or_insert_with(sync),
            None => &mut sync(),
        };
        if let Err(failure) = outcome {
            let failure = failure.duplicate().on(target.dir.path());
            member.fail(AttemptError { kind: failure.into(), committed: true });
        }
    }
    members.into_iter().map(GroupMember::into_outcome).collect()
}

/// Makes several writes on the calling thread and syncs them together as far as their file
/// systems allow. What comes of each is as if it had been [`crate::write::run`] by itself.
pub fn run_together<F: FileSystem>(fs: &F, requests: &[WriteRequest]) -> Vec<Result<(), Error>> {
    let control = Control::default();
    let attempt_of = |request| WriteAttempt::new(request, &control, None);
    let mut outcomes = Vec::new();
    let mut groups: HashMap<u64, Vec<(usize, GroupMember<'_, F>)>> = HashMap::new();
    for (index, request) in requests.iter().enumerate() {
        let attempt = attempt_of(request);
        outcomes.push(match StagedWrite::stage(fs, &attempt, None) {
            Ok(staged) if staged.syncs_with_others => {
                let group = groups.entry(staged.device()).or_default();
                group.push((index, GroupMember::new(attempt, staged)));
                MemberOutcome::Alone { is_in_place: false }
            }
            Ok(mut staged) => MemberOutcome::Done(staged.commit(&attempt).map(drop)),
            Err(error) => MemberOutcome::Done(Err(error)),
        });
    }
    for (_, group) in groups {
        let (indices, members): (Vec<usize>, Vec<_>) = group.into_iter().unzip();
        for (index, outcome) in indices.into_iter().zip(commit_together(members).0) {
            if let Some(before) = outcomes.get_mut(index) {
                *before = outcome;
            }
        }
    }
    let finish = |(outcome, request)| {
        let mut attempt = attempt_of(request);
        let first = match outcome {
            MemberOutcome::Done(outcome) => outcome,
            MemberOutcome::Alone { is_in_place } => {
                attempt.is_in_place = is_in_place;
                make_attempt(fs, &attempt)
                    .map(drop)
                    .map_err(|error| error.or_committed(is_in_place))
            }
        };
        run_on(fs, &attempt, first)
    };
    outcomes.into_iter().zip(requests).map(finish).collect()
}
