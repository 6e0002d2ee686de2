//! Names and records of transactions, on whatever a disk may hold: what was made is read back as
//! it was, damage is seen, and what was made up leads nowhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "common/random.rs"]
mod random;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use holdfast::temp_name;
use holdfast::transaction::fingerprint::Fingerprint;
use holdfast::transaction::names::{self, RecordKind, TransactionId, TransactionName};
use holdfast::transaction::record::{Record, RecordDamage, RecordMember, RecordWay};
use xxhash_rust::xxh3::xxh3_128;

use random::Random;

impl Random {
    fn fingerprint(&mut self) -> Fingerprint {
        Fingerprint {
            size: self.roll(),
            hash: u128::from(self.roll()) << 64 | u128::from(self.roll()),
        }
    }

    fn name(&mut self) -> OsString {
        const PIECES: [&str; 9] = ["a", "note", ".json", "ü", "𝄞", " ", "..", ".txn", "0123"];
        let most = if self.below(20) == 0 { 80 } else { 4 };
        let count = 1 + self.below(most);
        let name: String = (0..count).map(|_| PIECES[self.below(PIECES.len())]).collect();
        let name: String = name.chars().take(60).collect();
        if name == ".." { "note".into() } else { name.into() }
    }

    fn way(&mut self) -> RecordWay {
        const WAYS: [Option<&str>; 3] = [None, Some("../b"), Some("../..")];
        let mut path = || WAYS[self.below(3)].map(PathBuf::from);
        let (from_first, to_first) = (path(), path());
        RecordWay {
            inode: u128::from(self.roll()) << 64 | u128::from(self.roll()),
            is_apart: self.below(2) == 0,
            from_first,
            to_first,
        }
    }

    fn record(&mut self) -> Record {
        let dirs: Vec<PathBuf> =
            (0..=self.below(3)).map(|number| Path::new("/f").join(number.to_string())).collect();
        let members: Vec<RecordMember> = (0..=self.below(4))
            .map(|number| {
                let mut name = self.name();
                name.push(number.to_string());
                RecordMember {
                    dir: self.below(dirs.len()),
                    name,
                    before: (self.below(2) == 0).then(|| self.fingerprint()),
                    after: match self.below(3) {
                        0 => None,
                        _ => Some(self.fingerprint()),
                    },
                }
            })
            .collect();
        let home = u128::from(self.roll());
        let (id, here) = (TransactionId(self.roll()), self.below(dirs.len()));
        let ways = match self.below(2) {
            0 => Vec::new(),
            _ => (0..dirs.len()).map(|_| self.way()).collect(),
        };
        Record { id, home, here, dirs, ways, members }
    }
}

/// The same bytes with a checksum that fits them.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let body = bytes.len() - 16;
    let length = u32::try_from(bytes.len()).unwrap();
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    let checksum = xxh3_128(&bytes[..body]).to_le_bytes();
    bytes[body..].copy_from_slice(&checksum);
    bytes
}

#[test]
fn a_name_is_read_as_it_was_made_and_is_no_name_of_anything_else() {
    let mut random = Random(1);
    for _ in 0..20_000 {
        let (basename, id, number) =
            (random.name(), TransactionId(random.roll()), random.below(100_000));
        let name = names::temp(&basename, id, number);
        assert!(name.len() <= 255);
        assert_eq!(
            names::parse(&name),
            Some(TransactionName::Temp(id, u32::try_from(number).unwrap())),
            "{}",
            name.display()
        );
        assert!(!temp_name::is_temp_name(&name));
        assert!(!names::is_transaction_name(&temp_name::new_name(&basename)));
        let conflict = names::conflict(&basename, id);
        assert!(conflict.len() <= 255 && !temp_name::is_temp_name(&conflict));
        for kind in [RecordKind::Prepared, RecordKind::Intent] {
            let name = names::record(id, kind);
            assert_eq!(names::parse(&name), Some(TransactionName::Record(id, kind)));
            assert!(!temp_name::is_temp_name(&name));
        }
    }
}

#[test]
fn a_name_with_a_little_damage_is_that_of_another_transaction_or_of_none() {
    let mut random = Random(2);
    for _ in 0..50_000 {
        let id = TransactionId(random.roll());
        let name = match random.below(3) {
            0 => names::temp(&random.name(), id, random.below(12)),
            1 => names::record(id, RecordKind::Prepared),
            _ => names::record(id, RecordKind::Intent),
        };
        let mut text: Vec<char> = name.to_str().unwrap().chars().collect();
        let at = random.below(text.len());
        match random.below(3) {
            0 => drop(text.remove(at)),
            1 => text[at] = ['.', '0', 'G', 'F', '-', 'ä'][random.below(6)],
            _ => text.insert(at, ['.', '0', 'f', '+'][random.below(4)]),
        }
        let text: String = text.into_iter().collect();
        let Some(parsed) = names::parse(OsStr::new(&text)) else { continue };
        // What is read can be written: the id is there in full, between dots.
        let (TransactionName::Temp(id, _) | TransactionName::Record(id, _)) = parsed;
        assert!(text.contains(&format!(".{id}.")), "{text}");
        let is_ours = match parsed {
            TransactionName::Record(id, kind) => names::record(id, kind) == *text,
            TransactionName::Temp(..) => text.starts_with('.') && text.ends_with(".txn"),
        };
        assert!(is_ours, "{text}");
    }
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let mut random = Random(3);
    for _ in 0..2_000 {
        let record = random.record();
        let bytes = record.encode().unwrap();
        assert_eq!(bytes, sealed(bytes.clone()));
        assert_eq!(Record::decode(&bytes), Ok(record));
    }
}

#[test]
fn a_record_that_is_cut_short_or_damaged_anywhere_is_seen() {
    let mut random = Random(4);
    for _ in 0..100 {
        let bytes = random.record().encode().unwrap();
        for length in 0..bytes.len() {
            assert_eq!(
                Record::decode(&bytes[..length]),
                Err(RecordDamage::Torn),
                "cut at {length}"
            );
            // As a power cut may leave it: the right length, and zeros.
            let mut zeroed = bytes.clone();
            zeroed[length..].fill(0);
            // The last bytes of a checksum may be zeros anyway.
            if zeroed == bytes {
                continue;
            }
            assert_eq!(Record::decode(&zeroed), Err(RecordDamage::Torn), "zeros from {length}");
            let mut flipped = bytes.clone();
            flipped[length] ^= 1 << random.below(8);
            assert_eq!(Record::decode(&flipped), Err(RecordDamage::Torn), "bit {length}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Record::decode(&longer), Err(RecordDamage::Torn));
    }
}

/// Made up by a program that knows the checksum.
#[test]
fn a_record_that_was_made_up_makes_sense_or_is_refused() {
    let mut random = Random(5);
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..200_000 {
        let mut bytes = random.record().encode().unwrap();
        for _ in 0..=random.below(3) {
            // Behind the version and the length, which are looked at elsewhere.
            let at = 16 + random.below(bytes.len() - 32);
            match random.below(4) {
                0 => bytes[at] = [0, 1, 2, 255, b'/', b'.'][random.below(6)],
                1 => bytes[at] = bytes[at].wrapping_add(1),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, u8::try_from(random.below(256)).unwrap()),
            }
        }
        match Record::decode(&sealed(bytes)) {
            Ok(record) => {
                taken += 1;
                assert!(record.here < record.dirs.len() && !record.members.is_empty());
                for dir in &record.dirs {
                    assert!(dir.has_root());
                }
                for member in &record.members {
                    // It names something in one of the directories, and nothing above or below.
                    let path = record.path(member);
                    assert_eq!(path.parent(), Some(record.dirs[member.dir].as_path()));
                    assert_eq!(path.file_name(), Some(member.name.as_os_str()));
                    assert!(!member.name.as_encoded_bytes().contains(&0));
                }
            }
            Err(damage) => {
                refused += 1;
                assert_eq!(damage, RecordDamage::Nonsense);
            }
        }
    }
    assert!(refused > 1000 && taken > 1000, "{refused} refused, {taken} taken");
}

#[test]
fn what_no_transaction_can_be_is_refused() {
    let mut random = Random(6);
    let good = Record {
        dirs: vec!["/a".into(), "/b".into()],
        here: 1,
        ways: Vec::new(),
        members: vec![RecordMember {
            dir: 1,
            name: "note".into(),
            before: None,
            after: Some(random.fingerprint()),
        }],
        ..random.record()
    };
    let with_name = |name: &str| Record {
        members: vec![RecordMember { name: name.into(), ..good.members[0].clone() }],
        ..good.clone()
    };
    let twice = vec![good.members[0].clone(), good.members[0].clone()];
    for bad in [
        with_name(""),
        with_name("."),
        with_name(".."),
        with_name("a/b"),
        with_name("/a"),
        with_name("a\0"),
        with_name(&"x".repeat(1000)),
        Record { dirs: vec!["a".into(), "/b".into()], ..good.clone() },
        Record { dirs: vec!["".into(), "/b".into()], ..good.clone() },
        Record { dirs: vec!["/a\0".into(), "/b".into()], ..good.clone() },
        Record { here: 2, ..good.clone() },
        Record { dirs: vec!["/a".into()], here: 0, ..good.clone() },
        Record { members: Vec::new(), ..good.clone() },
        Record { members: twice, ..good.clone() },
    ] {
        assert_eq!(Record::decode(&bad.encode().unwrap()), Err(RecordDamage::Nonsense), "{bad:?}");
    }
    // With the name of a member behind it this is a share of a server. Elsewhere it is relative.
    let server = Record { dirs: vec![r"\\server".into(), "/b".into()], ..good.clone() };
    assert_eq!(Record::decode(&server.encode().unwrap()), Err(RecordDamage::Nonsense));
    let mut later = good.encode().unwrap();
    later[8] = 3;
    assert_eq!(Record::decode(&sealed(later)), Err(RecordDamage::Version(3)));
    // A way is relative, goes up and then down, and leads to another directory.
    let with_way = |path: &str| {
        let way = RecordWay { inode: 1, is_apart: false, from_first: None, to_first: None };
        let bad = RecordWay { from_first: Some(path.into()), ..way.clone() };
        Record { ways: vec![way, bad], ..good.clone() }
    };
    assert!(Record::decode(&with_way("../a").encode().unwrap()).is_ok());
    for path in ["/a", "a/..", "../a/../b", ".", "a\0"] {
        let bytes = with_way(path).encode().unwrap();
        assert_eq!(Record::decode(&bytes), Err(RecordDamage::Nonsense), "{path}");
    }
    // Numbers that promise more than there is ask for no memory.
    for at in [44, 48] {
        let mut greedy = good.encode().unwrap();
        greedy[at..at + 4].fill(0xff);
        assert_eq!(Record::decode(&sealed(greedy)), Err(RecordDamage::Nonsense));
    }
}
