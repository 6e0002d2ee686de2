//! The temp file: made beside the target, filled, checked, given its owner and mode, and
//! synced.
//!
//! What fills it is a [`Source`], or the pieces that a [`super::Stream`] is given.

use std::ffi::OsString;
use std::io;
use std::time::Instant;

use super::control::Control;
use super::{AttemptError, Options, Owner, validate};
use crate::error::Code;
use crate::error::Failure;
use crate::fs::{File, FileKind, FileSystem, Metadata, uninterrupted};
use crate::payload::{Chunk, Payload};
use crate::resolve::Target;
use crate::temp_name;
use crate::threads::blocking;

/// The most that one system call is given, so that a write that has been cancelled stops
/// soon. (Linux takes at most 2 GiB at once.)
const LARGEST_WRITE: usize = 16 << 20;

/// As much of a file as is held in memory when it is copied by hand.
const COPIED_AT_ONCE: usize = 1 << 20;

/// How often a temp file is made anew because its name was taken or somebody swept it.
const FRESH_STARTS: usize = 16;

/// A temp file that belongs to this write: locked, so that no sweeper takes it for an
/// orphan, and known to be the file that its name stands for.
pub(crate) struct Temp<F: FileSystem> {
    pub(crate) file: F::FileHandle,
    pub(crate) name: OsString,
    pub(crate) metadata: Metadata,
    /// A moment after it was opened and before anything was written to it.
    pub(crate) opened: Instant,
}

/// Where the bytes of a file come from.
pub(crate) enum Source<'a, F: FileSystem> {
    /// Memory.
    Payload(&'a Payload),
    /// Another file, from its beginning to its end.
    File(&'a Original<F>),
    /// What has been written piece by piece, and is there already.
    Pieces,
}

/// An open file that is copied. Whatever its name stands for meanwhile, this is the file that
/// was opened.
pub(crate) struct Original<F: FileSystem> {
    pub(crate) file: File<F>,
    /// As it was when it was opened.
    pub(crate) metadata: Metadata,
}

impl<F: FileSystem> Source<'_, F> {
    /// How many bytes there should be; a file may change until they have been copied.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Source::Payload(payload) => payload.len() as u64,
            Source::File(original) => original.metadata.size,
            Source::Pieces => 0,
        }
    }

    /// Whose mode and owner the new file gets if it does not replace one.
    pub(crate) fn model(&self) -> Option<&Metadata> {
        match self {
            Source::Payload(_) | Source::Pieces => None,
            Source::File(original) => Some(&original.metadata),
        }
    }
}

/// What the finished file is to look like.
struct Attributes {
    /// The exact permission bits; `None` leaves what the kernel made of 0644.
    mode: Option<u32>,
    /// Whose bits these are, where they were not asked for but are those of another file.
    mode_of: Option<(u32, u32)>,
    owner: Option<(u32, u32)>,
    /// Whether an owner that cannot be set is an error.
    needs_owner: bool,
}

impl Attributes {
    fn of(options: &Options, existing: Option<&Metadata>, model: Option<&Metadata>) -> Attributes {
        // A directory, or a link that is to be replaced, has nothing that a file could keep.
        let existing = existing.filter(|existing| existing.kind == FileKind::File).or(model);
        let owner_of = |file: &Metadata| (file.uid, file.gid);
        Attributes {
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

    /// The mode to open a temp file with: never more than the final one may allow.
    fn initial_mode(&self) -> u32 {
        if self.mode.is_some() { 0o600 } else { 0o644 }
    }
}

/// Makes the temp file, under a name that is announced first.
pub(crate) fn create<F: FileSystem>(
    fs: &F,
    target: &Target<F>,
    options: &Options,
    model: Option<&Metadata>,
    announced: OsString,
) -> Result<Temp<F>, Failure> {
    let mode = Attributes::of(options, target.existing.as_ref(), model).initial_mode();
    let mut name = announced;
    let mut reason = Code::EEXIST.error();
    for _ in 0..FRESH_STARTS {
        match fs.create_new(target.dir.handle(), &name, mode) {
            Ok(file) => match claim(fs, target, &file, &name) {
                Ok(Some(metadata)) => {
                    return Ok(Temp { file, name, metadata, opened: Instant::now() });
                }
                Ok(None) => reason = Code::EBUSY.error(),
                Err(failure) => {
                    // Nobody has seen this file yet. If it cannot be removed it is an
                    // orphan, which recovery knows; the first error is the one to tell.
                    let _ = uninterrupted(|| fs.remove(target.dir.handle(), &name));
                    return Err(failure);
                }
            },
            Err(error) => {
                let code = Code::of(&error);
                if code != Some(Code::EEXIST) {
                    // A network file system may have made it all the same. For the same
                    // reason an interrupted call is not continued with this name.
                    let _ = uninterrupted(|| fs.remove(target.dir.handle(), &name));
                }
                if !matches!(code, Some(Code::EEXIST | Code::EINTR)) {
                    return Err(Failure::at("open", target.dir.shown(&name), error));
                }
                reason = error;
            }
        }
        name = temp_name::new_name(&target.name);
    }
    Err(Failure::at("open", target.dir.shown(&name), reason))
}

/// Locks a new temp file and makes sure that its name still stands for it: between the
/// two a sweeper may have taken it for an orphan and removed it. `None` when the file is
/// lost and another has to be made.
fn claim<F: FileSystem>(
    fs: &F,
    target: &Target<F>,
    file: &F::FileHandle,
    name: &OsString,
) -> Result<Option<Metadata>, Failure> {
    let at = |syscall, error| Failure::at(syscall, target.dir.shown(name), error);
    if !uninterrupted(|| fs.try_lock(file)).map_err(|error| at("flock", error))? {
        // A sweeper holds it at this moment. It may remove it or leave it; nobody needs it.
        let _ = uninterrupted(|| fs.remove(target.dir.handle(), name));
        return Ok(None);
    }
    let own = uninterrupted(|| fs.file_metadata(file)).map_err(|error| at("fstat", error))?;
    match uninterrupted(|| fs.metadata(target.dir.handle(), name)) {
        Ok(named) if named.id == own.id => Ok(Some(own)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("lstat", error)),
    }
}

/// Fills the temp file and says how many bytes it was given.
pub(crate) fn fill<F: FileSystem>(
    fs: &F,
    temp: &Temp<F>,
    source: &Source<'_, F>,
    control: &Control,
) -> Result<u64, AttemptError> {
    match source {
        Source::Payload(payload) => {
            write_all(fs, temp, payload, control)?;
            Ok(payload.len() as u64)
        }
        Source::File(original) => copy_all(fs, temp, original.file.handle(), control),
        Source::Pieces => Ok(0),
    }
}

/// Makes the filled temp file what the target is to be.
pub(crate) fn complete<F: FileSystem>(
    fs: &F,
    target: &Target<F>,
    temp: &Temp<F>,
    options: &Options,
    model: Option<&Metadata>,
    size: u64,
    control: &Control,
) -> Result<(), AttemptError> {
    check_size(fs, temp, size)?;
    if let Some(format) = options.validate {
        validate::validate(fs, &temp.file, format, control)?;
    }
    let attributes = Attributes::of(options, target.existing.as_ref(), model);
    Ok(apply(fs, temp, &attributes)?)
}

/// Appends bytes to the temp file.
pub(crate) fn write_all<F: FileSystem>(
    fs: &F,
    temp: &Temp<F>,
    payload: &Payload,
    control: &Control,
) -> Result<(), AttemptError> {
    let mut done = 0;
    while done < payload.len() {
        control.check()?;
        done += write_some(fs, temp, payload.chunk(done..done.saturating_add(LARGEST_WRITE)))?;
    }
    Ok(())
}

fn write_some<F: FileSystem>(
    fs: &F,
    temp: &Temp<F>,
    chunk: Chunk<'_>,
) -> Result<usize, AttemptError> {
    let written = uninterrupted(|| fs.write(&temp.file, chunk))
        .map_err(|error| Failure::new("write", error))?;
    match written {
        // No error and no progress: trying on would never end.
        0 => Err(Failure::new("write", Code::EIO.error()).into()),
        written => Ok(written),
    }
}

/// Copies a file as it is found, to its end, wherever that is by then: by sharing its place
/// on the disk, or in the kernel, or by hand. Says how many bytes it was.
fn copy_all<F: FileSystem>(
    fs: &F,
    temp: &Temp<F>,
    source: &F::FileHandle,
    control: &Control,
) -> Result<u64, AttemptError> {
    control.check()?;
    let cloned = uninterrupted(|| blocking(|| fs.clone_content(source, &temp.file)))
        .map_err(|error| Failure::new("copyfile", error))?;
    if cloned {
        let clone = uninterrupted(|| fs.file_metadata(&temp.file))
            .map_err(|error| Failure::new("fstat", error))?;
        return Ok(clone.size);
    }
    let mut done: u64 = 0;
    loop {
        control.check()?;
        match uninterrupted(|| blocking(|| fs.copy(source, done, &temp.file, LARGEST_WRITE))) {
            Ok(Some(count)) if count > 0 => done += count as u64,
            // The end, or what the kernel takes for it: reading tells.
            Ok(_) => break,
            Err(error) => return Err(Failure::new("copyfile", error).into()),
        }
    }
    let mut buffer = vec![0; COPIED_AT_ONCE];
    loop {
        control.check()?;
        let count = uninterrupted(|| fs.read(source, &mut buffer, done))
            .map_err(|error| Failure::new("read", error))?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        if rest.is_empty() {
            return Ok(done);
        }
        while !rest.is_empty() {
            let written = write_some(fs, temp, Chunk::Slice(rest))?;
            rest = rest.get(written..).unwrap_or_default();
        }
        done += count as u64;
    }
}

/// The last check before anything depends on the bytes: a file system that lost some of
/// them without saying so must not get the rename.
fn check_size<F: FileSystem>(fs: &F, temp: &Temp<F>, size: u64) -> Result<(), Failure> {
    let found = uninterrupted(|| fs.file_metadata(&temp.file))
        .map_err(|error| Failure::new("fstat", error))?
        .size;
    match found == size {
        true => Ok(()),
        false => Err(Failure::new("fstat", Code::EIO.error())),
    }
}

/// Sets owner and mode. The owner comes first: the kernel takes set-user-id and
/// set-group-id away when it changes.
fn apply<F: FileSystem>(fs: &F, temp: &Temp<F>, wanted: &Attributes) -> Result<(), Failure> {
    let Metadata { mut uid, mut gid, mode: current, .. } = temp.metadata;
    let mut owner_changed = false;
    if let Some((wanted_uid, wanted_gid)) = wanted.owner
        && (wanted_uid, wanted_gid) != (uid, gid)
    {
        // A process that may not give files away may still give one to another of its
        // groups.
        if set_owner(fs, temp, Some(wanted_uid), Some(wanted_gid), wanted.needs_owner)? {
            (uid, gid) = (wanted_uid, wanted_gid);
            owner_changed = true;
        } else if wanted_gid != gid && set_owner(fs, temp, None, Some(wanted_gid), false)? {
            gid = wanted_gid;
            owner_changed = true;
        }
    }
    let Some(mut mode) = wanted.mode else { return Ok(()) };
    if let Some((was_uid, was_gid)) = wanted.mode_of {
        // A program that ran as its owner must not start to run as somebody else.
        const SET_USER_ID: u32 = 0o4000;
        const SET_GROUP_ID: u32 = 0o2000;
        if uid != was_uid {
            mode &= !SET_USER_ID;
        }
        if gid != was_gid {
            mode &= !SET_GROUP_ID;
        }
    }
    if owner_changed || mode != current {
        uninterrupted(|| fs.set_mode(&temp.file, mode))
            .map_err(|error| Failure::new("fchmod", error))?;
    }
    Ok(())
}

/// Gives the file away as far as the process may. `Ok(false)` when it may not: only root can,
/// and not on every file system, nor to users that its namespace does not know. For root
/// that is an error when the owner was asked for.
fn set_owner<F: FileSystem>(
    fs: &F,
    temp: &Temp<F>,
    uid: Option<u32>,
    gid: Option<u32>,
    is_needed: bool,
) -> Result<bool, Failure> {
    let is_error = is_needed && fs.effective_user() == Some(0);
    match uninterrupted(|| fs.set_owner(&temp.file, uid, gid)) {
        Ok(()) => Ok(true),
        Err(error) => match Code::of(&error) {
            Some(Code::EPERM | Code::EINVAL | Code::ENOSYS | Code::ENOTSUP) if !is_error => {
                Ok(false)
            }
            _ => Err(Failure::new("fchown", error)),
        },
    }
}

/// Removes the temp file of an attempt that failed before its rename.
pub(crate) fn discard<F: FileSystem>(fs: &F, target: &Target<F>, temp: &Temp<F>) -> io::Result<()> {
    uninterrupted(|| fs.remove(target.dir.handle(), &temp.name))
}
