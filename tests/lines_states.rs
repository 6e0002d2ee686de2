//! Appends to a file of lines, on a disk that is unplugged at every moment and on which every
//! operation fails: what was there stays, the lines of an append are there together or not at all,
//! what was acknowledged is there, and what is cut off is kept.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::ffi::OsStr;
use std::path::Path;

use holdfast::error::Code;
use holdfast::fs::os::Os;
use holdfast::fs::{Dir, DirUse};
use holdfast::lines::format::{LineKind, Mark};
use holdfast::lines::{AppendError, LineOptions, append};
use holdfast::write::forget_failed_sync;
use holdfast_sim::{Fault, Model, OperationKind, SimFs};

use common::{MOST, on_another_thread};

const FILE: &str = "/dir/log.jsonl";

/// Lines that are appended together, in the form of the file.
fn packed(lines: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let mark = match index {
            0 if lines.len() == 1 && line.as_bytes()[0].is_ascii_digit() => b" ",
            0 if lines.len() == 1 => &b""[..],
            0 => Mark::Begin.bytes(),
            _ if index + 1 == lines.len() => Mark::End.bytes(),
            _ => Mark::Middle.bytes(),
        };
        bytes.extend([mark, line.as_bytes(), b"\n"].concat());
    }
    bytes
}

/// What a reader of the file takes for lines: JSON, and no part of an append that is not whole.
fn visible(content: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut run: Option<Vec<String>> = None;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let is_cut = !line.ends_with(b"\n");
        let length = line.iter().rposition(|byte| *byte != 0).map_or(line.len(), |at| at + 1);
        // Zeros may stand for a newline that was to follow.
        let text = if is_cut { &line[..length] } else { &line[..line.len() - 1] };
        let is_good = serde_json::from_slice::<serde_json::Value>(text).is_ok();
        let is_cut_number =
            is_cut && text.starts_with(b" ") && text.last().is_some_and(u8::is_ascii_digit);
        let own = || String::from_utf8(text.trim_ascii().to_vec()).unwrap();
        match (Mark::of(text), is_good && !is_cut_number) {
            (_, false) => run = None,
            (None, true) => {
                run = None;
                found.push(own());
            }
            (Some(Mark::Begin), true) => run = Some(vec![own()]),
            (Some(mark), true) => {
                run = run.map(|run| [run, vec![own()]].concat());
                if mark == Mark::End {
                    found.extend(run.take().unwrap_or_default());
                }
            }
        }
    }
    found
}

fn content(fs: &SimFs) -> Vec<u8> {
    fs.read_file(FILE).map(|content| content.to_vec()).unwrap_or_default()
}

fn lines(fs: &SimFs) -> Vec<String> {
    visible(&content(fs))
}

fn options(is_durable: bool) -> LineOptions {
    LineOptions { is_durable, mode: 0o666, kind: LineKind::Json }
}

fn write(fs: &SimFs, lines: &[&str], is_durable: bool) -> Result<(), AppendError> {
    append(fs, Path::new(FILE), None, &packed(lines), options(is_durable))?.sync()
}

/// All that has been moved, one after the other.
fn torn(fs: &SimFs) -> Vec<Vec<u8>> {
    let is_torn = |path: &std::path::PathBuf| path.to_string_lossy().contains(".torn-");
    let paths = fs.paths().into_iter().filter(is_torn);
    paths.map(|path| fs.read_file(path).unwrap().to_vec()).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// They may be there.
    Committed,
    Failed,
}

fn outcome(done: &Result<(), AppendError>) -> Outcome {
    match done {
        Ok(()) => Outcome::Done,
        Err(error) if error.committed => Outcome::Committed,
        Err(_) => Outcome::Failed,
    }
}

/// What the file has before, and which lines of it are to stay.
#[derive(Clone, Copy, Debug)]
struct Before {
    content: Option<&'static [u8]>,
    stay: &'static [&'static str],
    /// What is moved.
    torn: &'static [u8],
}

const BEFORE: &[Before] = &[
    Before { content: None, stay: &[], torn: b"" },
    Before { content: Some(b""), stay: &[], torn: b"" },
    Before { content: Some(b"{\"old\":1}\n"), stay: &["{\"old\":1}"], torn: b"" },
    Before { content: Some(b"{\"old\":1}"), stay: &["{\"old\":1}"], torn: b"" },
    Before { content: Some(b"{\"old\":1}\n{\"cut\":"), stay: &["{\"old\":1}"], torn: b"{\"cut\":" },
    Before { content: Some(b"7\r\n8\r\n"), stay: &["7", "8"], torn: b"" },
    Before { content: Some(b"1\n\0\0\0\0"), stay: &["1"], torn: b"\0\0\0\0" },
    Before { content: Some(b"1\n {\"x\0\0\0}\n"), stay: &["1"], torn: b" {\"x\0\0\0}\n" },
    Before {
        content: Some(b"1\n \t \t[2]\n \t\t [3]\n"),
        stay: &["1"],
        torn: b" \t \t[2]\n \t\t [3]\n",
    },
    Before { content: Some(b"1\n \t \t[2]\n[3"), stay: &["1"], torn: b" \t \t[2]\n[3" },
    Before { content: Some(b"1\n \t \t[2]\n \t\t\t3"), stay: &["1"], torn: b" \t \t[2]\n \t\t\t3" },
    Before {
        content: Some(b"1\n \t\t [2]\n \t\t\t3\n"),
        stay: &["1"],
        torn: b" \t\t [2]\n \t\t\t3\n",
    },
    Before {
        content: Some(b"1\n\0\0 \t[2]\n \t\t\t[3]\n"),
        stay: &["1"],
        torn: b"\0\0 \t[2]\n \t\t\t[3]\n",
    },
    Before { content: Some(b"1\n 12"), stay: &["1"], torn: b" 12" },
    Before { content: Some(b"1\n# a note"), stay: &["1"], torn: b"" },
];

const FIRST: &[&str] = &["{\"first\":1}", "[2]", "\"three\""];
const SECOND: &[&str] = &["42"];
const PROBE: &[&str] = &["{\"probe\":1}"];

struct Run {
    fs: SimFs,
    outcomes: [Outcome; 2],
}

fn disk(before: &Before, keeps_order: bool) -> SimFs {
    let fs = SimFs::new();
    fs.put_file("/dir/bystander", b"not yours").unwrap();
    if let Some(content) = before.content {
        fs.put_file(FILE, content).unwrap();
    }
    fs.set_keeps_order(keeps_order);
    fs
}

fn run(before: &Before, is_durable: bool, keeps_order: bool, faults: &[Fault]) -> Run {
    let fs = disk(before, keeps_order);
    for fault in faults {
        fs.inject(fault.clone());
    }
    let first = outcome(&write(&fs, FIRST, is_durable));
    let second = outcome(&write(&fs, SECOND, is_durable));
    Run { fs, outcomes: [first, second] }
}

/// Whether these lines follow in order what is found, as the outcomes allow it.
fn check_lines(
    found: &[String],
    before: &Before,
    outcomes: [Outcome; 2],
    is_sure: bool,
) -> Result<(), String> {
    let Some(rest) =
        found.strip_prefix(&before.stay.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()[..])
    else {
        return Err(format!("{found:?} does not begin with what was there"));
    };
    let mut rest = rest;
    for (lines, outcome) in [FIRST, SECOND].into_iter().zip(outcomes) {
        let own: Vec<String> = lines.iter().map(|it| (*it).to_owned()).collect();
        let is_there = rest.starts_with(&own);
        if is_there {
            rest = &rest[own.len()..];
        }
        match outcome {
            Outcome::Done if !is_there && is_sure => {
                return Err(format!("{lines:?} was acknowledged, but {found:?}"));
            }
            Outcome::Failed if is_there && is_sure => {
                return Err(format!("{lines:?} was refused, but {found:?}"));
            }
            _ => {}
        }
    }
    match rest {
        [] => Ok(()),
        rest => Err(format!("{rest:?} is neither there as a whole nor gone, in {found:?}")),
    }
}

/// After a crash: what a reader finds at once, and after the next append has repaired the file.
fn check_crashed(
    fs: &SimFs,
    before: &Before,
    outcomes: [Outcome; 2],
    is_sure: bool,
) -> Result<(), String> {
    // Durable ones are there; a failed one may come back, whole, but an append without syncs has
    // promised nothing.
    let seen = outcomes.map(|it| if it == Outcome::Failed { Outcome::Committed } else { it });
    check_lines(&lines(fs), before, seen, is_sure)?;
    let old = content(fs);
    // It is another process that goes on.
    if let Ok(found) = fs.inspect(FILE) {
        forget_failed_sync(found.id);
    }
    write(fs, PROBE, true).map_err(|error| format!("cannot go on: {}", error.kind))?;
    let mut found = lines(fs);
    if found.pop().as_deref() != Some(PROBE[0]) {
        return Err(format!("the next line is not the last one: {found:?}"));
    }
    check_lines(&found, before, seen, is_sure)?;
    let new = content(fs);
    let common = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let cut = &old[common..];
    // A newline may have been added where the tail was cut, or the next line begins alike.
    let is_kept = |copy: &Vec<u8>| copy.ends_with(cut);
    if !cut.is_empty() && !torn(fs).iter().any(is_kept) {
        return Err(format!("{cut:?} is lost"));
    }
    Ok(())
}

fn complain(complaints: &mut Vec<String>, run: &Run, what: &str, error: String) {
    complaints.push(format!(
        "{what}: {:?}: {error}\n{}\n{}",
        run.outcomes,
        run.fs.describe(),
        run.fs.log_text()
    ));
}

fn assert_none(complaints: &[String]) {
    if let Some(first) = complaints.first() {
        panic!("{} complaints, the first one:\n{first}", complaints.len());
    }
}

#[test]
fn lines_are_there_together_or_not_at_all_after_a_power_cut_at_every_moment() {
    let mut states = 0;
    let mut complaints = Vec::new();
    for before in BEFORE {
        for (is_durable, keeps_order) in [(false, false), (true, false), (true, true)] {
            for moment in 1.. {
                let done = run(before, is_durable, keeps_order, &[Fault::power_off().at(moment)]);
                let is_over = done.fs.count() < moment;
                for model in Model::ALL {
                    if keeps_order && *model != Model::OrderedMetadata {
                        continue;
                    }
                    let cut = done.fs.crash_states(*model, MOST);
                    assert!(cut.complete, "more crash states than are looked at");
                    for state in cut {
                        states += 1;
                        if let Err(error) =
                            check_crashed(&state.fs, before, done.outcomes, is_durable)
                        {
                            let what = format!(
                                "{before:?}, {model:?}, durable: {is_durable}, cut at {moment}: {}",
                                state.description
                            );
                            complain(&mut complaints, &done, &what, error);
                        }
                    }
                }
                if done.fs.open_handles() != (0, 0) {
                    complain(&mut complaints, &done, "handles", String::new());
                }
                if is_over {
                    assert_eq!(done.outcomes, [Outcome::Done; 2]);
                    break;
                }
            }
        }
    }
    assert_none(&complaints);
    assert!(states > 1000, "{states}");
}

#[test]
fn a_failed_append_is_taken_back_or_says_that_it_may_be_there() {
    let mut complaints = Vec::new();
    let mut runs = 0;
    // A new file, a whole one, one without newline, and one with a tail that is moved.
    for before in [0, 2, 3, 4].map(|index| &BEFORE[index]) {
        for is_durable in [false, true] {
            let count = run(before, is_durable, false, &[]).fs.count();
            for number in 1..=count {
                let mut faults = Vec::new();
                for code in [Code::EIO, Code::ENOSPC] {
                    let once = Fault::fail(code).at(number);
                    let after = Fault::fail_after(code).at(number);
                    faults.push(vec![once.clone()]);
                    faults.push(vec![once.clone(), Fault::short_write(7).for_ever()]);
                    faults.extend(
                        [once.clone().for_ever(), once.for_ever_alike()].map(|it| vec![it]),
                    );
                    faults.extend([after.clone(), after.for_ever()].map(|it| vec![it]));
                }
                faults.push(vec![Fault::fail(Code::EINTR).at(number)]);
                faults.push(vec![Fault::fail_after(Code::EINTR).at(number)]);
                for faults in faults {
                    let done = run(before, is_durable, false, &faults);
                    runs += 1;
                    let left = done.fs.after_kill();
                    let result = check_lines(&lines(&left), before, done.outcomes, true)
                        .and_then(|()| check_crashed(&left, before, done.outcomes, true));
                    if let Err(error) = result {
                        let what = format!("{before:?}, {faults:?}");
                        complain(&mut complaints, &done, &what, error);
                    }
                }
            }
        }
    }
    assert_none(&complaints);
    assert!(runs > 1000, "{runs}");
}

#[test]
fn what_a_crash_has_left_is_moved_and_nothing_else_is_touched() {
    for before in BEFORE {
        let done = run(before, true, false, &[]);
        assert_eq!(done.outcomes, [Outcome::Done; 2], "{before:?}");
        let copies = torn(&done.fs);
        match before.torn {
            b"" => assert!(copies.is_empty(), "{before:?}: {copies:?}"),
            torn => assert_eq!(copies, [torn.to_vec()], "{before:?}"),
        }
        let old = before.content.unwrap_or_default();
        let kept = &old[..old.len() - before.torn.len()];
        let newline: &[u8] =
            if kept.last().is_none_or(|last| *last == b'\n') { b"" } else { b"\n" };
        assert_eq!(
            content(&done.fs),
            [kept, newline, &packed(FIRST), &packed(SECOND)].concat(),
            "{before:?}"
        );
    }
}

#[test]
fn every_truncation_and_every_zeroed_tail_of_a_file_is_repaired_without_touching_a_whole_append() {
    let appends: [&[&str]; 4] =
        [&["{\"a\":[1,2]}", "\"b\\n\""], &["12345"], &["null"], &["[true]", "6", "{}"]];
    let whole: Vec<u8> = appends.iter().flat_map(|lines| packed(lines)).collect();
    let all = visible(&whole);
    assert_eq!(all.len(), 7);
    // The number of whole lines after each append, and how long the file is then.
    let mut ends = vec![(0, 0)];
    for lines in appends {
        let (count, length) = *ends.last().unwrap();
        ends.push((count + lines.len(), length + packed(lines).len()));
    }
    for zeros in [0, 1, 5] {
        for length in 0..=whole.len() {
            let fs = SimFs::new();
            fs.put_dir("/dir").unwrap();
            let left = [&whole[..length], &vec![0; zeros][..]].concat();
            fs.put_file(FILE, &left).unwrap();
            write(&fs, PROBE, true).unwrap();
            let mut found = lines(&fs);
            assert_eq!(found.pop().as_deref(), Some(PROBE[0]), "{length}");
            let (count, end) = *ends.iter().rev().find(|(_, end)| *end <= length).unwrap();
            // All but the newline is there: it gets its newline. A number may be the beginning of one.
            let is_next = ends.iter().find(|(_, next)| *next == length + 1);
            let is_number = left[end..].starts_with(b" 1");
            let next = is_next.filter(|_| !is_number).map(|(next, _)| *next);
            assert_eq!(found, all[..next.unwrap_or(count)], "{length} bytes and {zeros} zeros");
            let moved = if next.is_some() { &left[length..] } else { &left[end..] };
            match moved {
                [] => assert!(torn(&fs).is_empty(), "{length}"),
                moved => assert_eq!(torn(&fs), [moved.to_vec()], "{length} and {zeros} zeros"),
            }
        }
    }
}

#[test]
fn a_flipped_byte_never_costs_a_line_before_it_or_the_next_one() {
    let whole = [packed(&["{\"a\":1}"]), packed(&["[2]", "[3]"]), packed(&["\"four\""])].concat();
    let all = visible(&whole);
    for at in 0..whole.len() {
        for flip in [0x01, 0x20, 0x80, 0xff] {
            let fs = SimFs::new();
            let mut left = whole.clone();
            left[at] ^= flip;
            fs.put_dir("/dir").unwrap();
            fs.put_file(FILE, &left).unwrap();
            write(&fs, PROBE, true).unwrap();
            let found = lines(&fs);
            assert_eq!(found.last().map(String::as_str), Some(PROBE[0]), "{at} {flip}");
            // Those of the appends that end before it.
            let before = visible(&whole[..at]).len();
            let ended = visible(
                &whole
                    [..whole[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |it| it + 1)],
            );
            assert!(before >= ended.len());
            assert_eq!(found.get(..ended.len()), all.get(..ended.len()), "{at} {flip}");
            let mut bytes = content(&fs);
            for copy in torn(&fs) {
                bytes.extend(copy);
            }
            assert!(bytes.len() >= left.len(), "{at} {flip}: bytes are lost");
        }
    }
}

#[test]
fn what_other_programs_append_meanwhile_stays() {
    const OTHER: &[u8] = b"{\"other\":1}\n";
    fn intrusion() -> Fault {
        Fault::intrude(|fs: &SimFs, _: &Path| {
            let fs = fs.clone();
            on_another_thread(move || {
                let dir = Dir::open(&fs, Path::new("/dir"), DirUse::Names).unwrap();
                let file = dir.open_to_append(OsStr::new("log.jsonl")).unwrap();
                let (_, count) = file.append(OTHER).unwrap();
                assert_eq!(count, OTHER.len());
            });
        })
        .of(OperationKind::WriteAt)
    }
    // The other program acts before the write, or between two pieces of it; then the disk may be full.
    for at in [1, 2, 3] {
        for fails in [false, true] {
            let fs = SimFs::new();
            fs.put_file(FILE, b"0\n").unwrap();
            fs.inject(intrusion().at(at));
            let full = Fault::fail(Code::ENOSPC).of(OperationKind::WriteAt).at(at + 3);
            if fails {
                fs.inject(full);
            }
            fs.inject(Fault::short_write(12).for_ever());
            let done = outcome(&write(&fs, FIRST, false));
            let found = lines(&fs);
            let own: Vec<&str> =
                found.iter().map(String::as_str).filter(|it| FIRST.contains(it)).collect();
            assert_eq!(
                found.iter().filter(|it| *it == "{\"other\":1}").count(),
                1,
                "{at}: {found:?}\n{}",
                fs.log_text()
            );
            assert_eq!(found[0], "0");
            match done {
                Outcome::Done => assert_eq!(own, FIRST, "{at}"),
                _ => assert!(own.is_empty(), "{at}: {found:?}"),
            }
            assert_eq!(found.len(), 2 + own.len(), "{found:?}");
        }
    }
}

#[test]
fn a_file_whose_sync_has_failed_takes_no_durable_lines_until_it_is_another() {
    let fs = SimFs::new();
    fs.put_file(FILE, b"0\n").unwrap();
    fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncData));
    let failed = write(&fs, &["1"], true).unwrap_err();
    assert!(failed.committed);
    let refused = write(&fs, &["2"], true).unwrap_err();
    assert!(!refused.committed);
    assert_eq!(lines(&fs), ["0", "1"]);
    // Who asks for no durability is not concerned.
    write(&fs, &["3"], false).unwrap();
    fs.take_away(FILE).unwrap();
    write(&fs, &["4"], true).unwrap();
    assert_eq!(lines(&fs), ["4"]);
}

#[test]
fn lines_of_text_are_never_cut_for_want_of_a_newline() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "no JSON").unwrap();
    let options = LineOptions { is_durable: true, mode: 0o666, kind: LineKind::Text };
    append(&Os, &path, None, b"more\n", options).unwrap().sync().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "no JSON\nmore\n");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
