//! The owner, the mode, the access control list and the other attributes of the new file.

use super::access_list;
use super::attempt::CopySource;
use super::options::{Options, Owner};
use crate::error::{Code, Failure};
use crate::fs::{ACCESS_LIST, ExtendedAttributes, File, FileKind, FileSystem, Metadata};
use crate::resolve::Target;

/// What the finished file is to look like.
#[derive(PartialEq, Eq)]
pub(crate) struct WantedAttributes {
    /// The exact permission bits; `None` leaves what the kernel made of those of a new file.
    mode: Option<u32>,
    /// The owner and group of the file that the mode is taken from, where the caller asked for
    /// none.
    mode_of: Option<(u32, u32)>,
    owner: Option<(u32, u32)>,
    /// Whether an owner that cannot be set is an error.
    needs_owner: bool,
    extended: WantedExtended,
}

/// What the file is to have beside its mode and owner.
#[derive(PartialEq, Eq)]
enum WantedExtended {
    /// What its directory gives to a new file.
    Inherited,
    /// What this is.
    These(ExtendedAttributes),
    /// What another file has, of which that cannot be told.
    Unknown,
}

impl From<Option<ExtendedAttributes>> for WantedExtended {
    fn from(found: Option<ExtendedAttributes>) -> WantedExtended {
        found.map_or(WantedExtended::Unknown, WantedExtended::These)
    }
}

/// The mode to make a temp file with: never more than the final one may allow.
pub(super) fn initial_mode<F: FileSystem>(
    options: &Options,
    existing: Option<&Metadata>,
    model: Option<&CopySource<F>>,
) -> u32 {
    let is_new = options.mode.is_none() && replaced(existing).is_none() && model.is_none();
    if is_new { options.new_file_mode } else { 0o600 }
}

/// The file that is replaced. A directory, or a link that is to be replaced, has nothing that a
/// file could keep.
fn replaced(existing: Option<&Metadata>) -> Option<&Metadata> {
    existing.filter(|existing| existing.kind == FileKind::File)
}

/// The file that the new one is like: the one that it replaces, or else the one that it is a copy
/// of; as it is now.
pub(super) fn source<F: FileSystem>(
    existing: Option<&Metadata>,
    model: Option<&CopySource<F>>,
) -> Result<Option<Metadata>, Failure> {
    match (replaced(existing), model) {
        (Some(existing), _) => Ok(Some(*existing)),
        (None, Some(model)) => model.file.metadata().map(Some),
        (None, None) => Ok(None),
    }
}

impl WantedAttributes {
    /// Those of a file that is like the `source`, found a moment ago.
    pub(super) fn of<F: FileSystem>(
        options: &Options,
        target: &Target<F>,
        source: Option<&Metadata>,
        model: Option<&CopySource<F>>,
    ) -> Result<WantedAttributes, Failure> {
        let owner_of = |file: &Metadata| (file.uid, file.gid);
        let extended = match (source, model) {
            (None, _) => WantedExtended::Inherited,
            (Some(source), Some(model)) if source.id == model.metadata.id => {
                model.file.extended()?.into()
            }
            (Some(_), _) => target.dir.extended(&target.name)?.into(),
        };
        Ok(WantedAttributes {
            mode: options.mode.or(source.map(|file| file.mode)),
            mode_of: source.filter(|_| options.mode.is_none()).map(owner_of),
            owner: match options.owner {
                Owner::Keep => source.map(owner_of),
                Owner::Process => None,
                Owner::Set { uid, gid } => Some((uid, gid)),
            },
            needs_owner: matches!(options.owner, Owner::Set { .. }),
            extended,
        })
    }

    /// Those of another file.
    pub(crate) fn like(metadata: &Metadata, extended: Option<ExtendedAttributes>) -> Self {
        let owner = Some((metadata.uid, metadata.gid));
        let mode = Some(metadata.mode);
        let extended = extended.into();
        WantedAttributes { mode, mode_of: owner, owner, needs_owner: false, extended }
    }

    /// Gives them to a file that has these `attributes`. The owner comes first: the kernel takes
    /// set-user-id and set-group-id away when it changes. The permission bits come back that the file
    /// system does not let the file have, which then allows less, and its refusal.
    pub(crate) fn apply<F: FileSystem>(
        &self,
        fs: &F,
        file: &File<F>,
        attributes: &Metadata,
    ) -> Result<Option<(u32, Failure)>, Failure> {
        let Metadata { mut uid, mut gid, mode: mut current, .. } = *attributes;
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
        let Some(mut mode) = self.mode else { return Ok(None) };
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
        match &self.extended {
            WantedExtended::Inherited => {}
            WantedExtended::These(wanted) => {
                if set_extended(file, wanted, &mut mode)? {
                    // The list has the permission bits.
                    current = (current & !0o777) | (mode & 0o777);
                }
            }
            WantedExtended::Unknown => mode = access_list::without_unknown_list(mode),
        }
        match owner_changed || mode != current {
            true => set_mode(file, mode),
            false => Ok(None),
        }
    }
}

/// Gives a file these extended attributes, and no others, as far as the process may. `mode` gets
/// less where it would otherwise allow more than a list that cannot be kept did. Says whether the
/// list was set, and with it the permission bits.
fn set_extended<F: FileSystem>(
    file: &File<F>,
    wanted: &ExtendedAttributes,
    mode: &mut u32,
) -> Result<bool, Failure> {
    let own = file.extended()?.unwrap_or_default();
    for attribute in &own.0 {
        // Such as the list that the directory gives to new files. A label can only be replaced.
        let is_other = wanted.get(&attribute.name).is_none();
        if is_other && !attribute.name.as_encoded_bytes().starts_with(b"security.") {
            file.set_extended(&attribute.name, None)?;
        }
    }
    let mut is_list_set = false;
    // Those of users come before the list: with it the process may lose the right to set them.
    for attribute in wanted.0.iter().rev() {
        let is_list = attribute.name == ACCESS_LIST;
        let with_mode =
            if is_list { access_list::with_mode(&attribute.value, *mode) } else { None };
        let value = with_mode.as_ref().unwrap_or(&attribute.value);
        if own.get(&attribute.name) == Some(value) {
            continue;
        }
        match file.set_extended(&attribute.name, Some(value)) {
            Ok(()) => is_list_set |= is_list,
            Err(failure) if !is_refused(&failure) => return Err(failure),
            Err(_) if is_list => {
                file.set_extended(&attribute.name, None).or_else(unless_refused)?;
                *mode = access_list::without_list(&attribute.value, *mode);
            }
            Err(_) if attribute.name.as_encoded_bytes().starts_with(b"system.") => {
                *mode = access_list::without_unknown_list(*mode);
            }
            // A label that the process may not give is that of the directory's new files.
            Err(_) => {}
        }
    }
    Ok(is_list_set)
}

/// Whether the system, or the file system, does not let the process do that here.
fn is_refused(failure: &Failure) -> bool {
    use Code::{EACCES, EINVAL, ENOSYS, ENOTSUP, EPERM};
    matches!(failure.code(), Some(EPERM | EACCES | ENOTSUP | EINVAL | ENOSYS))
}

fn unless_refused(failure: Failure) -> Result<(), Failure> {
    if is_refused(&failure) { Ok(()) } else { Err(failure) }
}

/// Sets the permission bits. Where the file system refuses that, nothing is lost if the file has
/// them already; if it has less, those come back that it should have.
fn set_mode<F: FileSystem>(file: &File<F>, mode: u32) -> Result<Option<(u32, Failure)>, Failure> {
    let Err(failure) = file.set_mode(mode) else { return Ok(None) };
    if !is_refused(&failure) {
        return Err(failure);
    }
    match file.metadata()?.mode {
        own if own == mode => Ok(None),
        own if own & !mode == 0 => Ok(Some((mode, failure))),
        _ => Err(failure),
    }
}

/// Makes sure that a file which was given the mode that the caller asked for does not allow more:
/// some file systems have no modes of their own, and give every file the same without a word.
pub(super) fn check_mode<F: FileSystem>(
    fs: &F,
    file: &File<F>,
    options: &Options,
) -> Result<(), Failure> {
    // Where the system has no numbers for users, it has no such modes either.
    let Some(wanted) = options.mode.filter(|_| fs.effective_user().is_some()) else {
        return Ok(());
    };
    match file.metadata()?.mode & 0o777 & !wanted {
        0 => Ok(()),
        _ => Err(Failure::new("fchmod", Code::ENOTSUP.error())),
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
