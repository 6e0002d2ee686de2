//! Everything that reads names and bytes from a disk, on what it may find there: whatever was
//! made is read back as it was, nothing else is taken for it, and nothing makes it panic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "common/random.rs"]
mod random;

use std::ffi::{OsStr, OsString};

use holdfast::backup;
use holdfast::error::Holder;
use holdfast::lock::note;
use holdfast::recovery::names::{self, Origin, Remains};
use holdfast::temp_name::{self, BelongsTo};
use holdfast::write::{Format, validate_bytes};

use random::Random;

/// How many cases each test tries.
const CASES: u64 = 20_000;

impl Random {
    /// Text made of what the parsers look for, and of what they do not expect.
    fn text(&mut self, most: usize) -> String {
        const PIECES: [&str; 30] = [
            ".",
            "..",
            ".tmp",
            ".bak",
            ".lock",
            ".backup",
            ".corrupt-",
            "-",
            "a",
            "f",
            "F",
            "0",
            "9",
            "0123456789abcdef",
            "123e4567-e89b-12d3-a456-426614174000",
            "state.json",
            "ü",
            "€",
            "𝄞",
            " ",
            "+1",
            "18446744073709551616",
            "8640000000000000",
            "{",
            "}",
            "\"",
            ":",
            ",",
            "\\",
            "\n",
        ];
        (0..self.below(most)).map(|_| *self.pick(&PIECES)).collect()
    }

    /// The same, with a little damage: a byte changed, left out or put in. Still text.
    fn damaged(&mut self, text: &str) -> String {
        let mut characters: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(2) {
            let at = self.below(characters.len() + 1);
            match self.below(3) {
                0 if at < characters.len() => drop(characters.remove(at)),
                1 if at < characters.len() => {
                    characters[at] = *self.pick(&['.', '0', 'g', 'A', '-', '\0', 'ä']);
                }
                _ => characters.insert(at, *self.pick(&['.', '0', 'f', '-', '\u{7f}'])),
            }
        }
        characters.into_iter().collect()
    }
}

/// A name that a file may have.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// What the rules say of a name, in other words than the parser.
fn is_temp_by_the_rules(name: &str) -> Option<String> {
    let middle = name.strip_prefix('.')?.strip_suffix(".tmp")?;
    let (basename, random) = middle.rsplit_once('.')?;
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.chars().all(|c| "0123456789abcdef".contains(c))
    };
    let groups: Vec<&str> = random.split('-').collect();
    let is_uuid = groups.len() == 5
        && groups.iter().zip([8, 4, 4, 4, 12]).all(|(group, length)| is_hex(group, length));
    (!basename.is_empty() && (is_hex(random, 16) || is_uuid)).then(|| basename.to_owned())
}

#[test]
fn a_temp_name_is_read_as_it_was_made_and_nothing_else_is_taken_for_one() {
    let mut random = Random(1);
    let (mut temps, mut cut) = (0, 0);
    for case in 0..CASES {
        let basename = random.text(if case % 20 == 0 { 60 } else { 6 });
        if is_name(&basename) && basename.len() <= 255 {
            let name = temp_name::name_with(basename.as_ref(), random.roll());
            assert!(name.len() <= 255);
            let parsed = temp_name::parse(&name).unwrap();
            if parsed.basename != OsStr::new(&basename) {
                cut += 1;
                assert_eq!(parsed.belongs_to(basename.as_ref()), BelongsTo::Certainly);
                assert!(!parsed.is_whole());
            } else if !parsed.may_be_cut {
                assert_eq!(parsed.belongs_to(basename.as_ref()), BelongsTo::Certainly);
            }
        }
        let text = match case % 3 {
            0 => random.text(6),
            _ => {
                let made = temp_name::name_with(basename.as_ref(), random.roll());
                let made = made.into_string().unwrap();
                random.damaged(&made)
            }
        };
        let parsed = temp_name::parse(text.as_ref());
        temps += u64::from(parsed.is_some());
        assert_eq!(
            parsed.map(|parsed| parsed.basename.to_str().unwrap().to_owned()),
            is_temp_by_the_rules(&text),
            "{text:?}"
        );
        assert_eq!(temp_name::is_temp_name(text.as_ref()), parsed.is_some());
    }
    assert!(temps > 100 && cut > 10, "{temps} {cut}");
}

#[cfg(unix)]
#[test]
fn names_in_no_encoding_are_read_like_others() {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut random = Random(2);
    for _ in 0..CASES {
        let length = 1 + random.below(8);
        let bytes: Vec<u8> =
            (0..length).map(|_| u8::try_from(1 + random.below(255)).unwrap()).collect();
        let basename = OsString::from_vec(bytes.clone());
        let name = temp_name::name_with(&basename, random.roll());
        assert_eq!(temp_name::parse(&name).unwrap().basename, basename);
        let backup = backup::name_at(&basename, 7);
        assert_eq!(backup::time_of(&backup), Some(7));
        let aside = names::aside(&basename, 7);
        assert_eq!(names::time_of_aside(&aside, &basename), Some(7));
        let names = [name.clone(), backup, aside];
        let remains = Remains::in_dir(&names, true);
        assert_eq!(remains.len(), 1);
        assert_eq!(remains[0].names, [(name, Origin::Temp, true)]);
        // Nothing that is only bytes is anything.
        let _ = temp_name::parse(OsStr::from_bytes(&bytes));
        let _ = Remains::of_file(OsStr::from_bytes(&bytes), &names);
    }
}

#[test]
fn a_backup_name_is_read_as_it_was_made_and_nothing_else_is_taken_for_one() {
    let mut random = Random(3);
    let mut found = 0;
    for case in 0..CASES {
        let basename = random.text(5);
        let time = random.roll() % 8_640_000_000_000_001;
        if is_name(&basename) {
            let name = backup::name_at(basename.as_ref(), time);
            assert_eq!(backup::time_of(&name), Some(time), "{name:?}");
        }
        let text = match case % 2 {
            0 => random.text(6),
            _ => random.damaged(&format!("{basename}.{time}.backup")),
        };
        let by_the_rules = text
            .strip_suffix(".backup")
            .and_then(|front| front.rsplit_once('.'))
            .filter(|(front, digits)| {
                !front.is_empty()
                    && !digits.is_empty()
                    && digits.chars().all(|c| c.is_ascii_digit())
            })
            .and_then(|(_, digits)| digits.parse::<u64>().ok())
            .filter(|time| *time <= 8_640_000_000_000_000);
        found += u64::from(by_the_rules.is_some());
        assert_eq!(backup::time_of(text.as_ref()), by_the_rules, "{text:?}");
    }
    assert!(found > 100);
}

#[test]
fn the_remains_of_a_dir_are_those_of_its_files() {
    let mut random = Random(4);
    for _ in 0..CASES / 10 {
        let files = ["state.json", "a", "a.tmp", "ü.bak"];
        let mut names: Vec<OsString> = Vec::new();
        for _ in 0..random.below(12) {
            let file = OsStr::new(*random.pick(&files));
            names.push(match random.below(6) {
                0 => temp_name::name_with(file, random.roll()),
                1 => names::legacy(file)[0].clone(),
                2 => names::legacy(file)[1].clone(),
                3 => names::aside(file, random.roll() % 1_000_000),
                4 => backup::name_at(file, 5),
                _ => random.text(4).into(),
            });
        }
        names.sort();
        names.dedup();
        let all = Remains::in_dir(&names, true);
        // Each name belongs to one file, and what is found for the file alone is the same.
        let mut seen = Vec::new();
        for remains in &all {
            assert_eq!(Remains::of_file(&remains.file, &names), *remains);
            seen.extend(remains.names.iter().map(|(name, _, _)| name));
        }
        let before = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), before);
        for remains in Remains::in_dir(&names, false) {
            assert!(remains.names.iter().all(|(_, origin, _)| *origin == Origin::Temp));
        }
    }
}

#[test]
fn a_holder_is_read_as_it_was_written_and_damage_is_no_holder_or_another() {
    let mut random = Random(5);
    let (mut whole, mut none) = (0, 0);
    for _ in 0..CASES {
        let holder = Holder {
            pid: u32::try_from(random.roll() >> 32).unwrap(),
            hostname: random.text(4),
            since: random.roll() % 8_640_000_000_000_001,
            command: random.text(12),
        };
        let line = note::to_line(&holder);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(note::from_line(line.as_bytes()), Some(holder.clone()));
        // What an older, longer note has left behind it does not count.
        let mut longer = line.clone().into_bytes();
        longer.extend(random.text(6).into_bytes());
        assert_eq!(note::from_line(&longer), Some(holder));
        // A line that is being written has no end yet.
        let cut = random.below(line.len());
        assert_eq!(note::from_line(&line.as_bytes()[..cut]), None);
        // Any byte may be anything.
        let mut bytes = line.into_bytes();
        let at = random.below(bytes.len());
        bytes[at] = u8::try_from(random.below(256)).unwrap();
        match note::from_line(&bytes) {
            Some(read) => {
                whole += 1;
                assert!(read.since <= 8_640_000_000_000_000);
            }
            None => none += 1,
        }
        let length = random.below(64);
        let noise: Vec<u8> =
            (0..length).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        let _ = note::from_line(&noise);
    }
    assert!(whole > 100 && none > 100, "{whole} {none}");
}

#[test]
fn a_json_text_that_is_cut_short_is_never_taken_for_a_whole_object_or_array() {
    let mut random = Random(6);
    for _ in 0..CASES / 4 {
        let mut text = String::new();
        value(&mut random, &mut text, 0);
        let text = format!("[{text}]");
        assert!(validate_bytes(text.as_bytes(), Format::Json).is_ok(), "{text}");
        let cut = random.below(text.len());
        assert!(validate_bytes(&text.as_bytes()[..cut], Format::Json).is_err(), "{text} {cut}");
    }
}

/// A random JSON value.
fn value(random: &mut Random, text: &mut String, depth: usize) {
    match random.below(if depth > 4 { 6 } else { 8 }) {
        0 => *text += "null",
        1 => *text += "true",
        2 => *text += &format!("{}", random.roll() as i64),
        3 => {
            *text += &format!("{}.{}e-{}", random.below(10), random.below(1000), random.below(400))
        }
        4 => *text += "\"\\u00e9\\\\ \\\" ]}\"",
        5 => *text += "\"ü€𝄞\"",
        6 => {
            text.push('[');
            for index in 0..random.below(4) {
                *text += if index > 0 { ", " } else { "" };
                value(random, text, depth + 1);
            }
            text.push(']');
        }
        _ => {
            text.push('{');
            for index in 0..random.below(4) {
                *text += if index > 0 { "," } else { "" };
                *text += &format!("\"k{index}\":");
                value(random, text, depth + 1);
            }
            text.push('}');
        }
    }
}
