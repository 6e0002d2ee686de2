//! Names of temp files: `.<basename>.<16 lower-case hex digits>.tmp`, and with a UUID in place
//! of the digits those of the JavaScript that holdfast replaces. A claim, which ends in `.claim`, is a
//! temp file that is about to take a free name.

use std::ffi::{OsStr, OsString};

use crate::short_name::{self, ALWAYS_FITS, LONGEST_NAME, fit, os_str};

/// The end of the name.
const SUFFIX: &str = ".tmp";

/// A new name for a temp file of the file called `basename`, from 40 random bits and a check of
/// them, by which holdfast knows it for its own. Where the name would be too long its basename part
/// is shortened as [`crate::short_name`] says.
pub fn new_name(basename: &OsStr) -> OsString {
    new_name_within(basename, LONGEST_NAME)
}

/// The same, on a file system whose names have at most `limit` bytes.
pub fn new_name_within(basename: &OsStr, limit: usize) -> OsString {
    name_within(basename, checked(rand::random()), limit)
}

/// How many of the bits in a name are a check of the others.
const CHECK_BITS: u32 = 24;

/// These bits with their check in place of the last ones.
fn checked(random: u64) -> u64 {
    let free = random >> CHECK_BITS << CHECK_BITS;
    // The last step of SplitMix64.
    let mut mixed = free.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    free | mixed & ((1 << CHECK_BITS) - 1)
}

/// The temp name with these random bits in it.
pub fn name_with(basename: &OsStr, random: u64) -> OsString {
    name_within(basename, random, LONGEST_NAME)
}

/// The temp name with these random bits in it, on a file system whose names have at most `limit`
/// bytes.
pub fn name_within(basename: &OsStr, random: u64, limit: usize) -> OsString {
    let tail = format!(".{random:016x}{SUFFIX}");
    let mut name = OsString::from(".");
    name.push(fit(basename, limit.saturating_sub(1 + tail.len())));
    name.push(tail);
    name
}

/// The end of the name of a claim.
const CLAIM_SUFFIX: &str = ".claim";

/// The name of a claim of `name`: `.<name>.<16 lower-case hex digits>.claim`, a temp file that is
/// about to get a name that nothing may have, in two steps. While it is there, an empty file of that
/// name is only its placeholder.
pub fn claim_within(name: &OsStr, random: u64, limit: usize) -> OsString {
    let tail = format!(".{random:016x}{CLAIM_SUFFIX}");
    let mut claim = OsString::from(".");
    claim.push(fit(name, limit.saturating_sub(1 + tail.len())));
    claim.push(tail);
    claim
}

/// Whether this is the name of a claim of `name`.
pub fn is_claim_of(claim: &OsStr, name: &OsStr) -> bool {
    claim.as_encoded_bytes().ends_with(CLAIM_SUFFIX.as_bytes())
        && parse(claim).is_some_and(|claim| claim.belongs_to(name) == BelongsTo::Certainly)
}

/// Whether a file of this name is a temp file, by the look of it.
pub fn is_temp_name(name: &OsStr) -> bool {
    parse(name).is_some()
}

/// What the name of a temp file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TempName<'a> {
    /// The name of the file that it was to become, or a shortened form of it.
    pub basename: &'a OsStr,
    /// Whether that name may have been longer, and be cut short here.
    pub may_be_cut: bool,
    /// Whether its digits carry their check: a version of holdfast made it that locks its temp
    /// files. Earlier versions, and the JavaScript that holdfast replaces, leave it to chance (one
    /// name in 16 million).
    pub is_checked: bool,
}

/// Whether a temp file is one of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BelongsTo {
    /// It is.
    Certainly,
    /// It may be that of another file whose name begins alike.
    Perhaps,
    /// It is not.
    Not,
}

impl TempName<'_> {
    /// Whether it is a temp file of the file called `name`.
    pub fn belongs_to(&self, name: &OsStr) -> BelongsTo {
        if short_name::stands_for(self.basename, name)
            && (self.basename != name || !self.may_be_cut)
        {
            return BelongsTo::Certainly;
        }
        // Earlier versions cut a long name, and say nothing about the rest of it.
        let is_beginning = name.as_encoded_bytes().starts_with(self.basename.as_encoded_bytes());
        match self.may_be_cut && is_beginning {
            true => BelongsTo::Perhaps,
            false => BelongsTo::Not,
        }
    }

    /// Whether its basename is all of the name of its file, as far as can be told without that file.
    pub fn is_whole(&self) -> bool {
        let length = 1 + self.basename.len() + 1 + DIGITS + SUFFIX.len();
        let may_be_short = length > ALWAYS_FITS && short_name::may_be_short(self.basename);
        !self.may_be_cut && !may_be_short
    }
}

/// Reads the name of a temp file. `None` for any other name.
pub fn parse(name: &OsStr) -> Option<TempName<'_>> {
    let rest = name.as_encoded_bytes().strip_prefix(b".")?;
    let (middle, is_claim) = match rest.strip_suffix(CLAIM_SUFFIX.as_bytes()) {
        Some(middle) => (middle, true),
        None => (rest.strip_suffix(SUFFIX.as_bytes())?, false),
    };
    let split = |length: usize| {
        let (front, random) = middle.split_at_checked(middle.len().checked_sub(length)?)?;
        let front = front.strip_suffix(b".").filter(|front| !front.is_empty())?;
        Some((front, random))
    };
    if let Some((front, random)) = split(DIGITS).filter(|(_, random)| random.iter().all(is_digit)) {
        let digits = std::str::from_utf8(random).ok();
        let bits = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok())?;
        let room = LONGEST_NAME - 1 - DIGITS - 1 - SUFFIX.len();
        // A name that is cut ends between characters, of which none has more than 4 bytes.
        return Some(TempName {
            basename: os_str(front)?,
            may_be_cut: !is_claim && front.len() + 4 > room,
            is_checked: bits == checked(bits),
        });
    }
    if is_claim {
        return None;
    }
    let (front, _) = split(UUID).filter(|(_, random)| is_uuid(random))?;
    Some(TempName { basename: os_str(front)?, may_be_cut: false, is_checked: false })
}

/// How many hexadecimal digits a name has.
const DIGITS: usize = 16;

/// How long a UUID is: `8-4-4-4-12` digits.
const UUID: usize = 36;

fn is_digit(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_uuid(text: &[u8]) -> bool {
    text.iter().enumerate().all(|(index, byte)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => is_digit(byte),
    })
}
