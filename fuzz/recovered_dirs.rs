//! Directories that no crash has left, and that are recovered without a crash and without a loss.
//!
//! The input is a recipe for two directories: files, the names that writes, backups, transactions and
//! other programs leave beside them, and records of transactions whose checksums are right but
//! whose claims need not be.
//!
//! `npm run fuzz -- recovered-dirs` builds and runs it.

#![no_main]

mod input;

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use holdfast::error::ErrorKind;
use holdfast_sim::SimFs;
use holdfast::recovery::{self, ActionKind, Options, RecoveryAction, RecoveryRequest};
use holdfast::transaction::names::{self, RecordKind, TransactionId};
use holdfast::transaction::fingerprint::Fingerprint;
use holdfast::transaction::record::{Record, RecordMember, RecordWay};
use holdfast::write::Control;
use input::Input;
use libfuzzer_sys::{Corpus, fuzz_target};
use xxhash_rust::xxh3::xxh3_128;

const FOLDERS: [&str; 2] = ["/d", "/e"];

/// The files that matter, and one that no other program uses.
const FILES: [&str; 3] = ["s.json", "t.json", "notes.txt"];

/// What is found beside a file, `%` being its name. The first ones are never removed.
const REMAINS: [&str; 8] = [
    "%.1700000000000.backup",
    "%.corrupt-1600000000000",
    "%.conflict-0000000000000001",
    ".%.0123456789abcdef.tmp",
    ".%.fedcba9876543210.tmp",
    "%.tmp",
    "%.bak",
    ".%.lock",
];
const KEPT: usize = 3;

const CONTENTS: [&[u8]; 6] = [b"{\"turn\":1}", b"{\"turn\":2}", b"[3]", b"{\"turn\":", b"", b"4"];

type Disk = BTreeMap<PathBuf, Vec<u8>>;

fuzz_target!(|input: &[u8]| -> Corpus {
    let mut recipe = Recipe { input: Input(input), claims: Vec::new() };
    let fs = SimFs::new();
    for dir in FOLDERS {
        fs.put_dir(dir).expect("a new disk has room");
    }
    let mut count = 0;
    while let Some(kind) = recipe.input.byte() {
        let (path, content) = recipe.file(&fs, kind);
        fs.put_file(&path, &content).expect("there is a folder");
        let time =
            SystemTime::UNIX_EPOCH + Duration::from_secs(recipe.input.small() as u64 * 1_000_000);
        fs.set_modified(&path, time).expect("it is there");
        count += 1;
        if count == 12 {
            break;
        }
    }
    if count == 0 {
        return Corpus::Reject;
    }
    fs.make_all_durable();
    let legacy = recipe.input.small() % 2 == 1;
    let promote = [None, Some(true), Some(false)][recipe.input.small() % 3];
    let path = ["/d", "/d/s.json", "/e/t.json", "/d/missing.json"][recipe.input.small() % 4];
    judge(&fs, Path::new(path), &Options { legacy, promote, ..Options::default() }, &recipe.claims);
    Corpus::Keep
});

fn judge(fs: &SimFs, path: &Path, options: &Options, claims: &[Claim]) {
    let before = contents(fs);
    let planned = recover(fs, path, &Options { dry_run: true, ..options.clone() });
    assert_eq!(before, contents(fs), "a dry run has changed something");
    let done = recover(fs, path, options);
    let after = contents(fs);
    if claims.is_empty() {
        // What a transaction would change is judged as it is now.
        assert_eq!(kinds(&planned), kinds(&done), "the dry run said something else");
    }
    let again = recover(fs, path, options);
    assert_eq!(after, contents(fs), "the second recovery did more: {done:?}, {again:?}");

    let stays = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_kept = |pattern: &str| FILES.iter().any(|file| pattern.replace('%', file) == name);
        FILES.contains(&name) || REMAINS.iter().take(KEPT).any(|pattern| is_kept(pattern))
    };
    for (path, content) in before.iter().filter(|(path, _)| stays(path)) {
        // What a decided transaction says it had found may be replaced.
        let claimed = claims.iter().any(|claim| {
            path.ends_with(&claim.name) && claim.before.is_some_and(|before| before == of(content))
        });
        let is_there = after.values().any(|other| other == content);
        assert!(claimed || is_there, "{} is lost: {done:?}", path.display());
        let is_torn = content.is_empty() || serde_like_torn(content);
        if !claimed && !is_torn {
            assert_eq!(after.get(path), Some(content), "{}: {done:?}", path.display());
        }
    }
}

/// Of the contents here, those that are no JSON.
fn serde_like_torn(content: &[u8]) -> bool {
    content.ends_with(b":")
}

fn of(content: &[u8]) -> Fingerprint {
    Fingerprint { size: content.len() as u64, hash: xxh3_128(content) }
}

fn contents(fs: &SimFs) -> Disk {
    let content = |path: PathBuf| {
        let bytes = fs.read_file(&path).ok()?.to_vec();
        Some((path, bytes))
    };
    fs.paths().into_iter().filter_map(content).collect()
}

fn recover(fs: &SimFs, path: &Path, options: &Options) -> Vec<RecoveryAction> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let request = RecoveryRequest { path: path.to_owned(), options: options.clone(), now };
    let free = |_: &Path| -> Result<Option<Box<dyn Any>>, ErrorKind> { Ok(Some(Box::new(()))) };
    let actions = recovery::recover(fs, &request, &free, &Control::default());
    assert_eq!(fs.open_handles(), (0, 0), "something is left open");
    // A file that is named and is not there is an error.
    actions.unwrap_or_default()
}

fn kinds(actions: &[RecoveryAction]) -> Vec<(&Path, ActionKind)> {
    let mut kinds: Vec<_> =
        actions.iter().map(|action| (action.path.as_path(), action.kind)).collect();
    kinds.sort_by_key(|(path, kind)| (*path, kind.name()));
    kinds
}

/// What a record says of a file of this name. It may have been moved with its directory, so the
/// directory says nothing.
struct Claim {
    name: OsString,
    before: Option<Fingerprint>,
}

/// What the input says, and what it has brought about.
struct Recipe<'a> {
    input: Input<'a>,
    claims: Vec<Claim>,
}

impl Recipe<'_> {
    fn content(&mut self) -> &'static [u8] {
        CONTENTS[self.input.small() % CONTENTS.len()]
    }

    fn file(&mut self, fs: &SimFs, kind: u8) -> (PathBuf, Vec<u8>) {
        let dir = Path::new(FOLDERS[self.input.small() % 2]);
        let file = FILES[self.input.small() % FILES.len()];
        let id = TransactionId(self.input.small() as u64 % 2 + 1);
        match kind % 8 {
            0..3 => (dir.join(file), self.content().to_vec()),
            3 | 4 => {
                let pattern = REMAINS[self.input.small() % REMAINS.len()];
                (dir.join(pattern.replace('%', file)), self.content().to_vec())
            }
            5 => {
                let name = names::temp(file.as_ref(), id, self.input.small() % 3);
                (dir.join(name), self.content().to_vec())
            }
            _ => {
                // One record has one name.
                let kinds = [RecordKind::Prepared, RecordKind::Intent];
                let path_of = |kind| dir.join(names::record(id, kind));
                let is_there = |kind: &RecordKind| fs.read_file(path_of(*kind)).is_ok();
                let chosen = kinds[self.input.small() % 2];
                let kind = kinds.into_iter().find(is_there).unwrap_or(chosen);
                (path_of(kind), self.record(fs, id))
            }
        }
    }

    /// How the directories of a record are said to lead to each other.
    fn ways(&mut self, fs: &SimFs, dirs: &[PathBuf]) -> Vec<RecordWay> {
        let to = |dir: &PathBuf| dir.file_name().map(|name| Path::new("..").join(name));
        let first = dirs.first().and_then(to);
        let known = |dir: &PathBuf| fs.inspect(dir).map(|known| known.id.inode);
        dirs.iter()
            .enumerate()
            .map(|(number, dir)| RecordWay {
                inode: match self.input.small() {
                    0..230 => known(dir).unwrap_or(7),
                    other => other as u128,
                },
                is_apart: self.input.small() > 220,
                from_first: to(dir).filter(|_| number > 0 && self.input.small() < 230),
                to_first: first.clone().filter(|_| number > 0 && self.input.small() < 230),
            })
            .collect()
    }

    fn record(&mut self, fs: &SimFs, id: TransactionId) -> Vec<u8> {
        let mut dirs: Vec<PathBuf> = FOLDERS.iter().map(PathBuf::from).collect();
        match self.input.small() {
            0..100 => dirs.truncate(1),
            100..160 => {}
            160..220 => dirs.reverse(),
            _ => dirs[0] = "/nowhere".into(),
        }
        let home = match self.input.small() {
            0..230 => fs.inspect(&dirs[0]).map_or(7, |known| known.id.inode),
            other => other as u128,
        };
        let here = if self.input.small() < 200 { 0 } else { dirs.len() - 1 };
        let members: Vec<RecordMember> = (0..1 + self.input.small() % 3)
            .map(|_| RecordMember {
                dir: self.input.small() % dirs.len(),
                name: FILES[self.input.small() % FILES.len()].into(),
                before: (!self.input.small().is_multiple_of(4)).then(|| of(self.content())),
                after: match self.input.small() % 3 {
                    0 => None,
                    _ => Some(of(self.content())),
                },
            })
            .collect();
        for RecordMember { name, before, .. } in &members {
            self.claims.push(Claim { name: name.clone(), before: *before });
        }
        let ways = match self.input.small() {
            0..60 => Vec::new(),
            _ => self.ways(fs, &dirs),
        };
        let record = Record { id, home, here, dirs, ways, members };
        let mut bytes = record.encode().expect("a small one");
        if self.input.small() > 250 {
            bytes.truncate(self.input.small());
        }
        bytes
    }
}
