//! Directories of a log that no program has written, and that are opened and read without a crash.
//!
//! The input is a recipe for the files of a collection: blocks whose checksums are right but
//! whose numbers need not be, unused space that claims any length, ends, pieces of blocks, and
//! plain bytes. So the fuzzer gets behind the checksums, which it could not guess.
//!
//! `npm run fuzz -- wal-reader` builds and runs it.

#![no_main]

mod input;

use std::path::Path;

use holdfast::error::Code;
use holdfast::error::ErrorKind;
use holdfast::fs::FileSystem;
use holdfast_sim::SimFs;
use holdfast::wal::format::{self, Header, MARKER, Marker, SHORTEST_FILLER};
use holdfast::wal::{
    Batch, WalEntry, EntryRef, Log, Op, LogOptions, ReplayProgress, RecoveryMode, Replay, WalError,
};
use input::Input;
use libfuzzer_sys::{Corpus, fuzz_target};

const LOG: &str = "/log";
const RECOVERIES: [RecoveryMode; 3] = [RecoveryMode::Strict, RecoveryMode::TolerateTail, RecoveryMode::SkipCorrupt];

/// The names in the directory of a collection.
const NAMES: [&str; 7] = [
    "wal_000000000001.avro",
    "wal_000000000002.avro",
    "wal_current.avro",
    "wal_next.avro",
    "wal_spare.avro",
    "wal_checkpoint.json",
    "wal_current.avro.torn-20-00000000",
];

/// No entry has a higher number: there the arithmetic of a writer ends.
const MOST: u64 = i64::MAX as u64 - 1000;

fuzz_target!(|input: &[u8]| -> Corpus {
    let mut recipe = Recipe { input: Input(input), next: 1, blocks: Vec::new() };
    let fs = SimFs::new();
    for dir in ["/log", "/log/a"] {
        fs.make_dir(Path::new(dir)).expect("a new disk has room");
    }
    let mut files = 0;
    // In their order: no damage makes a header that was right name another first number.
    for name in NAMES {
        let Some(0..224) = recipe.input.byte() else { continue };
        let content = recipe.file(files + 1);
        fs.put_file(format!("/log/a/{name}"), &content).expect("there is a folder");
        files += 1;
    }
    if files == 0 {
        return Corpus::Reject;
    }
    judge(&fs, &recipe.blocks);
    Corpus::Keep
});

/// Opens the log in every mode, and looks at what each shows.
fn judge(fs: &SimFs, blocks: &[Vec<WalEntry>]) {
    for recovery in RECOVERIES {
        let fs = fs.after_kill();
        let before = contents(&fs);
        // A reader beside a writer sees the same directory.
        let replay = Replay::new(fs.clone(), Path::new(LOG), "a", 0, None, recovery);
        if let Ok(Ok(outside)) = replay.map(entries) {
            are_whole_blocks(&outside, blocks);
        }
        assert_eq!(before, contents(&fs), "a reader has changed something");

        let Some(opened) = open(&fs, recovery) else {
            assert_eq!(before, contents(&fs), "refused, and changed");
            continue;
        };
        are_whole_blocks(&opened.shown, blocks);
        // What was shown once is shown from now on, and so is what was appended. After a torn tail
        // nothing is left to be tolerated.
        let from_now_on = match recovery {
            RecoveryMode::TolerateTail => RecoveryMode::Strict,
            same => same,
        };
        let outside = Replay::new(fs.clone(), Path::new(LOG), "a", 0, None, from_now_on);
        let outside = outside.and_then(entries).expect("it is repaired for good");
        assert_eq!(outside, opened.left, "beside");
        let again = open(&fs.after_kill(), from_now_on).expect("it is repaired for good");
        assert_eq!(again.shown, opened.left, "again");
    }
}

fn contents(fs: &SimFs) -> Vec<(String, Option<Vec<u8>>)> {
    let content = |path: &Path| fs.read_file(path).ok().map(|bytes| bytes.to_vec());
    fs.paths().iter().map(|path| (path.display().to_string(), content(path))).collect()
}

/// What a log shows, and what it has when something has been appended.
struct Opened {
    shown: Vec<WalEntry>,
    left: Vec<WalEntry>,
}

/// Opens the log and appends to it; `None` if it is refused as damaged.
fn open(fs: &SimFs, recovery: RecoveryMode) -> Option<Opened> {
    let options = LogOptions {
        recovery,
        segment_size: 1 << 14,
        step: 512,
        clock: || 1_700_000_000_000,
        ..LogOptions::default()
    };
    let log = match Log::open(fs.clone(), Path::new(LOG), options) {
        Ok(log) => log,
        Err(ErrorKind::Wal(WalError::Damaged(_))) => return None,
        Err(other) => panic!("{other}"),
    };
    let all = || entries(log.replay("a", 0).expect("it is open")).expect("what was opened is read");
    let shown = all();
    let last = shown.last().map_or(0, |entry| entry.sequence);
    let new = EntryRef { id: "new", op: Op::Insert, timestamp: 0, is_text: false, payload: b"" };
    let mut batch = Batch::default();
    batch.push(new);
    let mut expected = shown.clone();
    match log.append("a", &[&batch], false) {
        Ok(firsts) => {
            assert!(firsts[0] > last, "{firsts:?} after {last}");
            expected.push(WalEntry::new(firsts[0], new));
        }
        Err(error) if is_out_of_numbers(&error) => {}
        Err(error) => panic!("{error}"),
    }
    let left = all();
    assert_eq!(left, expected);
    Some(Opened { shown, left })
}

/// A header can say that nearly all of them are gone.
fn is_out_of_numbers(error: &ErrorKind) -> bool {
    matches!(error, ErrorKind::System(failure) if failure.code() == Some(Code::EOVERFLOW))
}

fn entries(mut replay: Replay<SimFs>) -> Result<Vec<WalEntry>, ErrorKind> {
    let mut packed = Vec::new();
    while replay.chunk(&mut packed, 4096)? != ReplayProgress::Over {}
    let (mut entries, mut rest) = (Vec::new(), packed.as_slice());
    while let Some((sequence, behind)) = rest.split_first_chunk::<8>() {
        let length = |at: usize| {
            let bytes = behind[at..at + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes) as usize
        };
        let (one, behind) = behind.split_at(18 + length(0) + length(4));
        let one = Batch::from_packed(one.to_vec()).expect("as it was packed");
        let one = one.entries().next().expect("an entry");
        entries.push(WalEntry::new(u64::from_le_bytes(*sequence), one));
        rest = behind;
    }
    Ok(entries)
}

/// Nothing but blocks that were there, none by halves, none twice, in order.
fn are_whole_blocks(shown: &[WalEntry], blocks: &[Vec<WalEntry>]) {
    assert!(shown.is_sorted_by(|one, other| one.sequence < other.sequence), "{shown:?}");
    // One block may be the beginning of another, so it is not enough to try one.
    let mut is_border = vec![false; shown.len() + 1];
    is_border[0] = true;
    for at in 0..shown.len() {
        let there = blocks.iter().filter(|block| is_border[at] && shown[at..].starts_with(block));
        let ends: Vec<usize> = there.map(|block| at + block.len()).collect();
        ends.into_iter().for_each(|end| is_border[end] = true);
    }
    assert!(is_border[shown.len()], "{shown:?} of {blocks:?}");
}

/// What the input says, and what it has brought about.
struct Recipe<'a> {
    input: Input<'a>,
    /// The number that the next entry has, if nothing else is said.
    next: u64,
    blocks: Vec<Vec<WalEntry>>,
}

impl Recipe<'_> {
    /// Any number, or mostly `usual`.
    fn number(&mut self, usual: u64) -> u64 {
        match self.input.small() {
            0..224 => usual,
            far @ 224..240 => usual.wrapping_add(far as u64).wrapping_sub(232),
            _ => {
                let mut bytes = [0; 8];
                bytes.iter_mut().for_each(|byte| *byte = self.input.byte().unwrap_or(0));
                u64::from_le_bytes(bytes)
            }
        }
    }

    /// A file, most often a segment.
    fn file(&mut self, number: u64) -> Vec<u8> {
        let marker: Marker = [number as u8; MARKER];
        let mut out = Vec::new();
        if self.input.small() < 240 {
            let header = Header {
                collection: if self.input.small() < 250 { "a" } else { "b" }.to_owned(),
                number: self.number(number),
                first: self.number(self.next).clamp(self.next, MOST),
                created: self.number(1_700_000_000_000),
                marker,
            };
            self.next = header.first;
            out = header.encode();
        }
        while let Some(kind) = self.input.byte() {
            match kind % 10 {
                0..=3 => self.block(&mut out, &marker),
                4 => {
                    let space = SHORTEST_FILLER + self.input.small() as u64;
                    let start = out.len();
                    out.extend_from_slice(&format::filler_head(space));
                    out.extend_from_slice(self.input.bytes());
                    out.resize(start + space as usize - MARKER, 0);
                    out.extend_from_slice(&marker);
                }
                5 => {
                    let claimed = self.number(SHORTEST_FILLER).max(SHORTEST_FILLER);
                    out.extend_from_slice(&format::filler_head(claimed));
                }
                6 => out.extend_from_slice(&format::end_mark(&marker)),
                7 => out.extend_from_slice(self.input.bytes()),
                8 => {
                    let start = out.len();
                    self.block(&mut out, &marker);
                    let left = self.input.small().min(out.len() - start);
                    out.truncate(start + left);
                }
                _ => break,
            }
        }
        out
    }

    fn block(&mut self, out: &mut Vec<u8>, marker: &Marker) {
        let first = self.number(self.next).clamp(1, MOST - 3);
        let durable = self.number(first - 1).min(MOST);
        let (mut batch, mut entries) = (Batch::default(), Vec::new());
        for sequence in first..=first + self.input.small() as u64 % 3 {
            let id = String::from_utf8_lossy(self.input.bytes()).into_owned();
            let op = Op::of((self.input.small() % 3) as u8).expect("one of three");
            let payload = self.input.bytes();
            let is_text = std::str::from_utf8(payload).is_ok_and(|text| text.len() % 2 == 1);
            let entry = EntryRef { id: &id, op, timestamp: sequence as i64, is_text, payload };
            batch.push(entry);
            entries.push(WalEntry::new(sequence, entry));
        }
        format::put_block(out, marker, &batch, first, durable);
        self.next = self.next.max(first + entries.len() as u64);
        self.blocks.push(entries);
    }
}
