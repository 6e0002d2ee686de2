//! The owner and the mode of the new file.

use super::options::{Options, Owner};
use crate::error::{Code, Failure};
use crate::fs::{File, FileKind, FileSystem, Metadata};

/// What the finished file is to look like.
pub(super) struct WantedAttributes {
    /// The exact permission bits; `None` leaves what the kernel made of 0644.
    mode: Option<u32>,
    /// The owner and group of the file that the mode is taken from, where the caller asked for
    /// none.
    mode_of: Option<(u32, u32)>,
    owner: Option<(u32, u32)>,
    /// Whether an owner that cannot be set is an error.
    needs_owner: bool,
}

impl WantedAttributes {
    pub(super) fn of(
        options: &Options,
        existing: Option<&Metadata>,
        model: Option<&Metadata>,
    ) -> WantedAttributes {
        // A directory, or a link that is to be replaced, has nothing that a file could keep.
        let existing = existing.filter(|existing| existing.kind == FileKind::File).or(model);
        let owner_of = |file: &Metadata| (file.uid, file.gid);
        WantedAttributes {
            mode: options.mode.or(existing.map(|file| file.mode)),
            mode_of: existing.filter(|_| options.mode.is_none()).map(owner_of),
            owner: match options.owner {
                Owner::Keep => existing.map(owner_of),
                Owner::Process => None,
                Owner::Set { uid, gid } => Some((uid, gid)),
            },
            needs_owner: matches!(options.owner, Owner::Set { .. }),
        }
    }

    /// The mode to make a temp file with: never more than the final one may allow.
    pub(super) fn initial_mode(&self) -> u32 {
        if self.mode.is_some() { 0o600 } else { 0o644 }
    }

    /// Sets owner and mode of a file that was made with these `attributes`. The owner comes
    /// first: the kernel takes set-user-id and set-group-id away when it changes.
    pub(super) fn apply<F: FileSystem>(
        &self,
        fs: &F,
        file: &File<F>,
        attributes: &Metadata,
    ) -> Result<(), Failure> {
        let Metadata { mut uid, mut gid, mode: current, .. } = *attributes;
        let mut owner_changed = false;
        if let Some((wanted_uid, wanted_gid)) = self.owner
            && (wanted_uid, wanted_gid) != (uid, gid)
        {
            // A process that may not give files away may still give one to another of its
            // groups.
            if set_owner(fs, file, Some(wanted_uid), Some(wanted_gid), self.needs_owner)? {
                (uid, gid) = (wanted_uid, wanted_gid);
                owner_changed = true;
            } else if wanted_gid != gid && set_owner(fs, file, None, Some(wanted_gid), false)? {
                gid = wanted_gid;
                owner_changed = true;
            }
        }
        let Some(mut mode) = self.mode else { return Ok(()) };
        if let Some((was_uid, was_gid)) = self.mode_of {
            // A program that ran as its owner must not start to run as another user.
            const SET_USER_ID: u32 = 0o4000;
            const SET_GROUP_ID: u32 = 0o2000;
            if uid != was_uid {
                mode &= !SET_USER_ID;
            }
            if gid != was_gid {
                mode &= !SET_GROUP_ID;
            }
        }
        match owner_changed || mode != current {
            true => file.set_mode(mode),
            false => Ok(()),
        }
    }
}

/// Gives the file away as far as the process may. `Ok(false)` when it may not: only root can,
/// and not on every file system, nor to users that its namespace does not know. For root
/// that is an error when the owner was asked for.
fn set_owner<F: FileSystem>(
    fs: &F,
    file: &File<F>,
    uid: Option<u32>,
    gid: Option<u32>,
    is_needed: bool,
) -> Result<bool, Failure> {
    let is_error = is_needed && fs.effective_user() == Some(0);
    match file.set_owner(uid, gid) {
        Ok(()) => Ok(true),
        Err(failure) => match failure.code() {
            Some(Code::EPERM | Code::EINVAL | Code::ENOSYS | Code::ENOTSUP) if !is_error => {
                Ok(false)
            }
            _ => Err(failure),
        },
    }
}
