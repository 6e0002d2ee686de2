//! Writes that wait for the disk with each other: who runs a round, and when.

use super::batcher::Role;
use super::group_commit::{Member, commit_together, sync_dirs_together};
use super::running_write::Running;
use super::{Engine, Shared, Waiting};
use crate::error::ErrorKind;
use crate::fs::{FileId, FileSystem};
use crate::metrics::METRICS;
use crate::threads::task;
use crate::write::{AttemptError, StagedWrite};

impl<F: FileSystem + Clone> Engine<F> {
    /// Syncs and publishes writes, and then those that have come meanwhile.
    pub(super) fn run_epochs(&self, device: u64, mut duty: Role<Waiting<F>>) {
        let Shared { epochs, costs, pool, .. } = &*self.shared;
        loop {
            duty = match duty {
                Role::Lead(epoch) => {
                    self.run_epoch(device, epoch);
                    epochs.next(&device, || self.is_anybody_coming())
                }
                Role::StartTimer => {
                    let engine = self.clone();
                    let begin =
                        move || engine.run_epochs(device, engine.shared.epochs.begin(&device));
                    match pool.submit_after(costs.patience(device), Box::new(begin)) {
                        Ok(()) => return,
                        Err(_) => epochs.begin(&device),
                    }
                }
                Role::Follow => return,
            }
        }
    }

    fn run_epoch(&self, device: u64, mut epoch: Vec<Waiting<F>>) {
        if epoch.len() == 1 {
            return epoch.into_iter().for_each(|(running, staged)| running.commit_alone(staged));
        }
        if !self.shared.costs.whole_pays(device, epoch.len()) {
            // The first of them on this thread, so that the others are soon behind it.
            let first = epoch.swap_remove(0);
            for (running, staged) in epoch {
                self.run_on_a_thread(move |_| running.commit_alone(staged));
            }
            return first.0.commit_alone(first.1);
        }
        let (writes, outcome) =
            together(epoch, |members: Vec<Member<'_, F>>| commit_together(members));
        match outcome {
            Ok((outcomes, took)) => {
                self.shared.costs.whole_took(device, took);
                for (running, outcome) in writes.into_iter().zip(outcomes) {
                    running.take(outcome);
                }
            }
            Err(text) => give_up(writes, &text),
        }
    }

    /// Syncs a directory for the writes that have arrived in it, and then for those that have
    /// come meanwhile.
    pub(super) fn sync_dir(&self, dir: FileId, mut duty: Role<Waiting<F>>) {
        while let Role::Lead(writes) = duty {
            let (writes_in_it, outcome) =
                together(writes, |members: Vec<Member<'_, F>>| sync_dirs_together(members));
            match outcome {
                Ok(outcomes) => writes_in_it
                    .into_iter()
                    .zip(outcomes)
                    .for_each(|(running, outcome)| running.take(outcome)),
                Err(text) => give_up(writes_in_it, &text),
            }
            duty = self.shared.dir_syncs.next(&dir, || false);
        }
    }
}

/// Takes a step with several writes at once. A panic is a failure of all of them.
fn together<F: FileSystem + Clone, T>(
    waiting: Vec<Waiting<F>>,
    step: impl FnOnce(Vec<Member<'_, F>>) -> T,
) -> (Vec<Running<F>>, Result<T, ErrorKind>) {
    METRICS.writes.round(waiting.len());
    let (writes, staged): (Vec<Running<F>>, Vec<StagedWrite<F>>) = waiting.into_iter().unzip();
    let members = writes
        .iter()
        .zip(staged)
        .map(|(running, staged)| Member::new(running.lead.attempt(), staged));
    let outcome = task::catch_panic(|| Ok(step(members.collect())));
    (writes, outcome)
}

fn give_up<F: FileSystem + Clone>(writes: Vec<Running<F>>, reason: &ErrorKind) {
    for running in writes {
        running.conclude(Err(AttemptError::from(reason.duplicate())));
    }
}
