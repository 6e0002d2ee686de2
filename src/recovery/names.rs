//! Which names belong to which file.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::{Duration, SystemTime};

use crate::short_name::{LONGEST_NAME, fit, os_str, stands_for};
use crate::temp_name::{self, BelongsTo};
use crate::transaction::names::is_transaction_name;

/// The suffix that the JavaScript that holdfast replaces gives to its temp files.
const TEMP: &str = ".tmp";

/// The suffix that it gives to the file that is about to be replaced.
const BACKUP: &str = ".bak";

/// What stands before the time in the name of a corrupt file that was kept.
const ASIDE: &str = ".corrupt-";

/// Where something that was left comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `<file>.bak`: it was the file.
    Backup,
    /// `<file>.tmp`: it was to become the file.
    LegacyTemp,
    /// A temp file with a random name, which was to become the file.
    Temp,
}

/// What is left of the writes of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// What the file is called.
    pub file: OsString,
    /// The names, and whether it is certain that they belong to this file: a long name is cut
    /// short in those of temp files.
    pub names: Vec<(OsString, Origin, bool)>,
    /// When the last corrupt version of the file was set aside, if any was: milliseconds since
    /// 1970.
    pub set_aside: Option<u64>,
}

/// The names of a file's remains that are known beforehand.
pub fn legacy(file: &OsStr) -> [OsString; 2] {
    [TEMP, BACKUP].map(|suffix| with(file, suffix))
}

/// The name under which a corrupt file is kept.
pub fn aside(file: &OsStr, time: u64) -> OsString {
    aside_within(file, time, LONGEST_NAME)
}

/// The same, on a file system whose names have at most `limit` bytes.
pub fn aside_within(file: &OsStr, time: u64, limit: usize) -> OsString {
    let tail = format!("{ASIDE}{time}");
    with(&fit(file, limit.saturating_sub(tail.len())), &tail)
}

fn with(name: &OsStr, suffix: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}

/// When a corrupt version of `file` was set aside, if this is the name of one.
pub fn time_of_aside(name: &OsStr, file: &OsStr) -> Option<u64> {
    let bytes = name.as_encoded_bytes();
    let at = bytes.len() - bytes.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (front, digits) = bytes.split_at_checked(at)?;
    let front = os_str(front.strip_suffix(ASIDE.as_bytes())?)?;
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|_| stands_for(front, file))
}

/// A time in milliseconds since 1970.
pub fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether this is the name of something that is beside a file, and not a file of its own: what
/// holdfast makes, what it has set aside, and what the JavaScript that it replaces makes.
pub fn is_beside(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let has_end = |end: &str| bytes.ends_with(end.as_bytes());
    let is_aside = || {
        let text = name.to_string_lossy();
        text.rsplit_once(ASIDE)
            .is_some_and(|(_, time)| time.bytes().all(|byte| byte.is_ascii_digit()))
    };
    temp_name::is_temp_name(name)
        || is_transaction_name(name)
        || [TEMP, BACKUP, ".backup"].into_iter().any(has_end)
        || bytes.starts_with(b".") && has_end(".lock")
        || is_aside()
}

impl Remains {
    /// Nothing beside a file.
    pub fn none_of(file: &OsStr) -> Remains {
        Remains { file: file.to_owned(), names: Vec::new(), set_aside: None }
    }

    /// What is left of one file, among the names in its directory.
    pub fn of_file(file: &OsStr, names: &[OsString]) -> Remains {
        let [temp, backup] = legacy(file);
        let mut remains = Remains::none_of(file);
        for name in names {
            let origin = if *name == temp {
                Some((Origin::LegacyTemp, true))
            } else if *name == backup {
                Some((Origin::Backup, true))
            } else {
                temp_name::parse(name).and_then(|parsed| match parsed.belongs_to(file) {
                    BelongsTo::Certainly => Some((Origin::Temp, true)),
                    BelongsTo::Perhaps => Some((Origin::Temp, false)),
                    BelongsTo::Not => None,
                })
            };
            if let Some((origin, is_certain)) = origin {
                remains.names.push((name.clone(), origin, is_certain));
            }
        }
        remains.look_aside(names);
        remains
    }

    /// What is left of all files in a directory with these names: temp files, and with `legacy`
    /// those of the JavaScript that holdfast replaces.
    pub fn in_dir(names: &[OsString], legacy: bool) -> Vec<Remains> {
        let mut all: BTreeMap<OsString, Remains> = BTreeMap::new();
        let mut add = |file: &OsStr, name: &OsString, origin, is_certain| {
            let remains = all.entry(file.to_owned()).or_insert_with(|| Remains::none_of(file));
            remains.names.push((name.clone(), origin, is_certain));
        };
        for name in names {
            if let Some(parsed) = temp_name::parse(name) {
                // The file with a shortened name is known only if it is there.
                let is_short = |file: &&OsString| {
                    file.as_os_str() != parsed.basename
                        && parsed.belongs_to(file) == BelongsTo::Certainly
                };
                let file = match parsed.is_whole() {
                    true => None,
                    false => names.iter().find(is_short),
                };
                match file {
                    Some(file) => add(file, name, Origin::Temp, true),
                    None => add(parsed.basename, name, Origin::Temp, parsed.is_whole()),
                }
            } else if legacy {
                let bytes = name.as_encoded_bytes();
                for (suffix, origin) in [(TEMP, Origin::LegacyTemp), (BACKUP, Origin::Backup)] {
                    let file = bytes.strip_suffix(suffix.as_bytes()).and_then(os_str);
                    if let Some(file) = file.filter(|file| !matches!(file.len(), 0)) {
                        add(file, name, origin, true);
                    }
                }
            }
        }
        let mut all: Vec<Remains> = all.into_values().collect();
        all.iter_mut().for_each(|remains| remains.look_aside(names));
        all
    }

    fn look_aside(&mut self, names: &[OsString]) {
        if !self.names.is_empty() {
            self.set_aside = names.iter().filter_map(|name| time_of_aside(name, &self.file)).max();
        }
    }
}
