//! The names in the directory of a collection.

use crate::error::WalError;

/// The segment that is appended to.
pub(super) const CURRENT: &str = "wal_current.avro";

/// A segment that is being made, and is current as soon as the one before is sealed.
pub(super) const NEXT: &str = "wal_next.avro";

/// A segment that is no longer needed, whose space will serve again.
pub(super) const SPARE: &str = "wal_spare.avro";

/// What is no longer needed.
pub(super) const CHECKPOINT: &str = "wal_checkpoint.json";

const START: &str = "wal_";
const END: &str = ".avro";

/// How many digits the number of a segment has at least, so that names sort like numbers.
const DIGITS: usize = 12;

/// The longest name of a collection, in bytes.
const LONGEST_NAME: usize = 100;

/// The name of a sealed segment.
pub(super) fn sealed(number: u64) -> String {
    format!("{START}{number:0DIGITS$}{END}")
}

/// The number of a sealed segment, by its name.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(START)?.strip_suffix(END)?;
    let number = digits.parse().ok()?;
    (sealed(number) == name).then_some(number)
}

/// Whether a file of this name may have entries.
pub(super) fn has_entries(name: &str) -> bool {
    name == CURRENT || number_of(name).is_some()
}

/// Whether this is the name of something in the directory of a collection.
pub(super) fn is_part(name: &str) -> bool {
    let is_rest = |rest: &str| rest.starts_with(".torn-") || rest.starts_with(".damaged-");
    has_entries(name)
        || [NEXT, SPARE, CHECKPOINT].contains(&name)
        || name.starts_with("wal_checkpoint.")
        || name
            .strip_prefix(START)
            .and_then(|name| name.split_once(END))
            .is_some_and(|(_, rest)| is_rest(rest))
}

/// The name that the bytes of a torn tail are copied to.
pub(super) fn torn(file: &str, offset: u64, random: u32) -> String {
    format!("{file}.torn-{offset}-{random:08x}")
}

/// The name that a file which cannot be used at all is moved to.
pub(super) fn damaged(file: &str, random: u32) -> String {
    format!("{file}.damaged-{random:08x}")
}

/// Names that Windows takes for devices, whatever follows a dot.
const DEVICES: &[&str] = &["con", "prn", "aux", "nul"];

/// Makes sure that the name of a collection is a plain name of a directory on every system: no
/// separators, no control characters, nothing that Windows takes for something else, at most
/// 100 bytes, and not hidden (names that start with a dot are holdfast's own).
///
/// # Errors
///
/// [`WalError::Name`].
pub fn check_name(name: &str) -> Result<(), WalError> {
    let is_foreign = |c: char| c.is_control() || r#"/\:*?"<>|"#.contains(c);
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let is_port = ["com", "lpt"].iter().any(|port| {
        stem.strip_prefix(port).is_some_and(|rest| {
            let mut rest = rest.chars();
            matches!((rest.next(), rest.next()), (Some(digit), None) if "0123456789¹²³".contains(digit))
        })
    });
    if name.is_empty()
        || name.len() > LONGEST_NAME
        || name.starts_with('.')
        || name.ends_with(['.', ' '])
        || name.starts_with(' ')
        || name.chars().any(is_foreign)
        || DEVICES.contains(&stem.as_str())
        || is_port
    {
        return Err(WalError::Name(name.to_owned()));
    }
    Ok(())
}
