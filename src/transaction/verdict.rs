//! What becomes of a transaction whose first directory has no record, in a tree that is a copy: the
//! number of that directory says nothing, so the files have to.
//!
//! If all of them are as they are to be, it was completed, and only what it needed is still there.
//! If all are as they were, then taking back what is staged leaves all of them so. Either is right
//! whatever has been decided elsewhere. In between nothing is done.

use super::fingerprint::Occupant;
use super::names::TransactionId;
use super::participant::Participant;
use super::record::{Record, RecordMember};
use super::roll::{Completion, Roll};
use super::tree::{Torn, Tree};
use crate::error::Failure;
use crate::fs::{Dir, FileSystem};

/// What the files say that have been looked at so far.
struct Verdict {
    are_as_before: bool,
    are_as_after: bool,
}

impl Verdict {
    fn is_clear(&self) -> bool {
        self.are_as_before || self.are_as_after
    }
}

impl<F: FileSystem> Roll<'_, '_, F> {
    /// Completes it from `participant`, whose first directory is `first` and has no record.
    pub(super) fn by_contents(
        &mut self,
        participant: &Participant<F>,
        first: &Participant<F>,
        record: &Record,
    ) -> Result<Completion, Failure> {
        let tree = Tree::new(self.fs, self.id, record);
        // The directory of another file system may stand for one that is not mounted.
        let is_one_tree = tree.is_on_one_mount() && first.device() == participant.device();
        let others = match is_one_tree {
            true => self.others_if_clear(&tree, participant, first, record)?,
            false => None,
        };
        let Some(others) = others else {
            let reason = format!(
                "'{}' has no record of it, and is not known to be the folder that decides: mount \
                 its file system, or bring it there from where this folder was copied or moved; \
                 if it is gone for good, look at what the files hold and remove this record",
                first.dir.path().display()
            );
            return self.finish_here(participant, record, &reason);
        };
        if !self.options.dry_run {
            // That there is no record has to be true on the disk, too.
            first.sync()?;
        }
        for other in others {
            let path = other.dir.path().to_owned();
            if !self.sweep_other(other)? {
                let reason = "another process is at this transaction";
                return Ok(self.leave(path, Completion::InUse, reason));
            }
        }
        self.sweep(participant)
    }

    /// The other directories that have a record of it, if what all files hold leaves no doubt.
    fn others_if_clear(
        &self,
        tree: &Tree<'_, F>,
        participant: &Participant<F>,
        first: &Participant<F>,
        record: &Record,
    ) -> Result<Option<Vec<Participant<F>>>, Failure> {
        let mut verdict = Verdict { are_as_before: true, are_as_after: true };
        let mut others = Vec::new();
        for number in 0..record.dirs.len() {
            let is_clear = if number == 0 {
                judge_plain(&mut verdict, &first.dir, record, number)?
            } else if number == record.here {
                judge_marked(&mut verdict, &participant.dir, self.id, record, number)?
            } else if let Ok(other) = tree.other(first, number, Torn::Counts) {
                let is_clear = judge_marked(&mut verdict, &other.dir, self.id, record, number)?;
                others.push(other);
                is_clear
            } else {
                match tree.in_place_of(first, number) {
                    Ok(plain) => judge_plain(&mut verdict, &plain.dir, record, number)?,
                    Err(_) => false,
                }
            };
            if !is_clear {
                return Ok(None);
            }
        }
        Ok(Some(others))
    }
}

fn occupant(content: Option<super::fingerprint::Fingerprint>) -> Occupant {
    content.map_or(Occupant::None, Occupant::File)
}

/// Looks at the files in a directory that has a record: what is staged there says which of them
/// have been changed, as it does everywhere else.
fn judge_marked<F: FileSystem>(
    verdict: &mut Verdict,
    dir: &Dir<F>,
    id: TransactionId,
    record: &Record,
    number: usize,
) -> Result<bool, Failure> {
    let staged = super::complete::staged_numbers(dir, id)?;
    for (own, member) in record.members_in(number) {
        let target = Occupant::of(dir, &member.name)?;
        let has_temp = staged.contains(&own);
        let is_as_before = target == occupant(member.before);
        // Another program may have changed it since.
        let is_done = match member.after {
            Some(_) => !has_temp && !is_as_before,
            None => has_temp || !is_as_before,
        };
        let was_removed = member.after.is_none() && has_temp;
        verdict.are_as_before &= is_as_before && !was_removed;
        verdict.are_as_after &= is_done || target == occupant(member.after);
    }
    Ok(verdict.is_clear())
}

/// Looks at the files in a directory without a record. It may be any directory, so a file has to be
/// there that is as it was or as it is to be, and all the others, too.
fn judge_plain<F: FileSystem>(
    verdict: &mut Verdict,
    dir: &Dir<F>,
    record: &Record,
    number: usize,
) -> Result<bool, Failure> {
    let (mut has_files, mut knows_one) = (false, false);
    for (_, RecordMember { name, before, after, .. }) in record.members_in(number) {
        let target = Occupant::of(dir, name)?;
        let (is_as_before, is_as_after) = (target == occupant(*before), target == occupant(*after));
        has_files = true;
        knows_one |= target != Occupant::None && (is_as_before || is_as_after);
        verdict.are_as_before &= is_as_before;
        verdict.are_as_after &= is_as_after;
    }
    Ok((knows_one || !has_files) && verdict.is_clear())
}
