//! The note in a lock file that says who holds it: one line of JSON,
//! `{"pid":…,"hostname":…,"since":…,"command":…}`.
//!
//! It is for people. It is written after the lock has been taken and removed before it is
//! released; a process that dies leaves it there, so it means nothing unless the lock is
//! held.

use serde_json::{Value, json};

use crate::error::Holder;

/// The latest time, in milliseconds since 1970, that JavaScript has dates for.
const LATEST: u64 = 8_640_000_000_000_000;

/// As much of a lock file as is read.
pub(super) const LONGEST_LINE: usize = 4096;

/// The line as it stands in the lock file.
pub fn to_line(holder: &Holder) -> String {
    let Holder { pid, hostname, since, command } = holder;
    let value = json!({"pid": pid, "hostname": hostname, "since": since, "command": command});
    format!("{value}\n")
}

/// Reads a line. `None` for anything that is not one: the file is open to everybody.
pub fn from_line(line: &[u8]) -> Option<Holder> {
    let end = line.iter().position(|byte| *byte == b'\n')?;
    let value: Value = serde_json::from_slice(line.get(..end)?).ok()?;
    Some(Holder {
        pid: value.get("pid")?.as_u64()?.try_into().ok()?,
        hostname: value.get("hostname")?.as_str()?.to_owned(),
        since: value.get("since")?.as_u64().filter(|since| *since <= LATEST)?,
        command: value.get("command")?.as_str()?.to_owned(),
    })
}

/// Whether this may be what is left of a note, so that it may be overwritten: the content of a
/// lock file, or as much of it as is read. A process that dies may leave the beginning of a line,
/// and a power cut zeros.
pub fn may_be_note(content: &[u8]) -> bool {
    /// How every line begins.
    const BEGINNING: &[u8] = b"{\"command\":\"";
    let end = content.iter().position(|byte| *byte == 0).unwrap_or(content.len());
    let (text, rest) = content.split_at(end);
    let has_zeros_only = rest.iter().all(|byte| *byte == 0);
    let is_torn = || {
        let length = text.len().min(BEGINNING.len());
        !text.contains(&b'\n') && text.get(..length) == BEGINNING.get(..length)
    };
    from_line(content).is_some() || (has_zeros_only && is_torn())
}
