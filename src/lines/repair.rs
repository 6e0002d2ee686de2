//! Moves what a crash has left at the end of a file to a file of its own.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Code, Failure};
use crate::fs::{Dir, File, FileSystem};
use crate::short_name;

/// A tail that was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Where its bytes are now.
    pub path: PathBuf,
    /// Where it began.
    pub offset: u64,
    /// How many bytes it had.
    pub bytes: u64,
}

/// How many names are tried that others have taken.
const ATTEMPTS: u64 = 1000;

/// How much is copied at a time.
const PIECE: usize = 64 * 1024;

/// Copies all from `from` on to a new file beside the file, makes that durable and cuts the file. The
/// caller has the lock, and knows the size. After a crash in between the tail is there twice.
///
/// # Errors
///
/// Nothing is cut if the copy cannot be made durable.
pub fn repair<F: FileSystem>(
    dir: &Dir<F>,
    name: &OsStr,
    file: &File<F>,
    from: u64,
    size: u64,
) -> Result<Repaired, Failure> {
    let mode = file.metadata()?.mode & 0o666;
    let (copy_name, copy) = create_copy(dir, name, mode)?;
    let copied = copy_range(file, &copy, from, size).and_then(|()| {
        copy.sync()?;
        dir.sync(Some(&copy))
    });
    if let Err(failure) = copied {
        // The failure of the copy is the one to report.
        let _ = dir.remove(&copy_name);
        return Err(failure.on(dir.shown(&copy_name)));
    }
    let shown = |failure: Failure| failure.on(dir.shown(name));
    file.set_size(from).map_err(shown)?;
    // What is appended next must not be found behind the tail after a power cut.
    file.sync().map_err(shown)?;
    Ok(Repaired { path: dir.shown(&copy_name), offset: from, bytes: size - from })
}

fn create_copy<F: FileSystem>(
    dir: &Dir<F>,
    name: &OsStr,
    mode: u32,
) -> Result<(OsString, File<F>), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let named = |number: u64, limit: usize| {
        let suffix = format!(".torn-{}", now.saturating_add(u128::from(number)));
        let mut name = short_name::fit(name, limit.saturating_sub(suffix.len()));
        name.push(suffix);
        name
    };
    let limit = dir.name_limit(|limit| named(0, limit));
    for number in 0.. {
        let name = named(number, limit);
        match dir.create_new(&name, mode) {
            Err(failure)
                if matches!(failure.code(), Some(Code::EEXIST | Code::EINTR))
                    && number < ATTEMPTS => {}
            created => return created.map(|file| (name, file)),
        }
    }
    Err(Failure::at("open", dir.shown(name), Code::EEXIST.error()))
}

fn copy_range<F: FileSystem>(
    file: &File<F>,
    copy: &File<F>,
    from: u64,
    end: u64,
) -> Result<(), Failure> {
    let mut buffer = vec![0; PIECE];
    let mut at = from;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        let count = file.read_up_to(buffer.get_mut(..wanted).unwrap_or_default(), at)?;
        if count == 0 {
            // Another program has cut the file, which has no lock.
            return Err(Failure::new("read", Code::ESTALE.error()));
        }
        copy.write_all(buffer.get(..count).unwrap_or_default())?;
        at += count as u64;
    }
    Ok(())
}
