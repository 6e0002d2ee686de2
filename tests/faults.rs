//! Atomic writes on a disk on which something goes wrong: every operation, once and for
//! ever, with every kind of error. What the call reports is always true.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use holdfast::error::Code;
use holdfast::error::{Error, ErrorKind};
use holdfast::write::Durability;
use holdfast_sim::{Fault, ForeignLock, Model, OperationKind, SimFs};

use common::{
    DURABILITIES, OLD, Promise, Version, WriteCase, count_of, write, write_case, write_cases,
};

/// What is retried, as the specification lists it.
const RETRIED: [Code; 12] = [
    Code::ENOSPC,
    Code::EDQUOT,
    Code::EAGAIN,
    Code::EBUSY,
    Code::EIO,
    Code::EMFILE,
    Code::ENFILE,
    Code::ENOMEM,
    Code::ETIMEDOUT,
    Code::ENETDOWN,
    Code::ENETUNREACH,
    Code::ESTALE,
];

fn code(error: &Error) -> Option<Code> {
    match &error.kind {
        ErrorKind::System(failure) => failure.code(),
        _ => None,
    }
}

/// The results of runs under faults.
#[derive(Default)]
struct Tally {
    runs: usize,
    succeeded: usize,
    committed: usize,
    states: usize,
    complaints: Vec<String>,
}

impl Tally {
    fn report(&self, what: &str) {
        println!(
            "{what}: {} runs, {} succeeded, {} failed after the rename, {} crash states",
            self.runs, self.succeeded, self.committed, self.states
        );
        if let Some(first) = self.complaints.first() {
            panic!("{} complaints, the first one:\n{first}", self.complaints.len());
        }
    }
}

/// Whether the crash states of a write that left the old file are looked at. There are
/// many when several attempts left their temp files half removed, and they are the same
/// whatever the error was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PowerCuts {
    Always,
    AfterSuccess,
}

/// Whether an operation that fails so is worth another attempt.
fn is_retried(kind: &str, with: Code) -> bool {
    // Windows reports this for a rename onto a file that another process has open for the moment.
    let is_in_use =
        cfg!(windows) && kind == "rename" && [Code::EPERM, Code::EACCES].contains(&with);
    RETRIED.contains(&with) || is_in_use
}

/// Runs a case under faults and checks that the outcome is true.
fn check(
    tally: &mut Tally,
    promise: &Promise<'_>,
    case: &WriteCase,
    durability: Durability,
    faults: &[Fault],
) -> (SimFs, Result<(), Error>) {
    check_with(PowerCuts::Always, tally, promise, case, durability, faults)
}

fn check_with(
    power_cuts: PowerCuts,
    tally: &mut Tally,
    promise: &Promise<'_>,
    case: &WriteCase,
    durability: Durability,
    faults: &[Fault],
) -> (SimFs, Result<(), Error>) {
    let fs = case.disk();
    for fault in faults {
        fs.inject(fault.clone());
    }
    case.shorten_writes(&fs);
    let outcome = write(&fs, &case.request(durability));
    tally.runs += 1;

    let mut complaints: Vec<String> = Vec::new();
    let expected = match &outcome {
        Ok(()) => {
            tally.succeeded += 1;
            Version::New
        }
        Err(error) if error.committed => {
            tally.committed += 1;
            Version::New
        }
        Err(_) => Version::Old,
    };
    match promise.version(&fs) {
        Ok(version) if version == expected => {}
        Ok(version) => complaints.push(format!("the target is {version:?}, not {expected:?}")),
        Err(complaint) => complaints.push(complaint),
    }
    match promise.temps(&fs) {
        Ok(temps) => complaints.extend(
            temps
                .iter()
                .filter(|temp| !may_be_left(&fs, temp))
                .map(|temp| format!("{} is left", temp.display())),
        ),
        Err(complaint) => complaints.push(complaint),
    }
    if fs.open_handles() != (0, 0) {
        complaints.push(format!("open handles: {:?}", fs.open_handles()));
    }
    complaints.extend(synced_again(&fs));

    let possible = match (&outcome, durability) {
        (_, Durability::None) if expected == Version::New => None,
        (Err(_), _) if power_cuts == PowerCuts::AfterSuccess => None,
        (Ok(()), Durability::Full) => Some(BTreeSet::from([Version::New])),
        (_, _) if expected == Version::Old => Some(BTreeSet::from([Version::Old])),
        _ => Some(BTreeSet::from([Version::Old, Version::New])),
    };
    if let Some(possible) = possible {
        // A disk that keeps order is not one that may do anything that POSIX allows.
        let models = if case.keeps_order { &[Model::OrderedMetadata] } else { Model::ALL };
        for model in models {
            match promise.after_power_cut(&fs, *model) {
                Ok((versions, count)) => {
                    tally.states += count;
                    if !versions.is_subset(&possible) {
                        complaints.push(format!("{model:?} may leave {versions:?}"));
                    }
                }
                Err(complaint) => complaints.push(complaint),
            }
        }
    }
    tally.complaints.extend(complaints.into_iter().map(|complaint| {
        format!(
            "{} ({durability:?}): {complaint}\nfaults: {faults:?}\nthe call: {outcome:?}\n\
             in memory:\n{}\n{}",
            case.name,
            fs.describe(),
            last_lines(&fs.log_text(), 80)
        )
    }));
    (fs, outcome)
}

fn last_lines(text: &str, most: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(most)..].join("\n")
}

/// A temp file may be left only if removing it failed, and it was tried.
fn may_be_left(fs: &SimFs, temp: &Path) -> bool {
    fs.log().iter().any(|performed| {
        performed.kind == OperationKind::Remove
            && performed.path == temp
            && performed.error.is_some()
    })
}

/// A file or directory whose sync has failed must not be synced again: success would say
/// nothing. A directory may, for what was changed in it since.
fn synced_again(fs: &SimFs) -> Option<String> {
    let mut failed = HashSet::new();
    for performed in fs.log() {
        if performed.kind == OperationKind::SyncFile {
            if failed.contains(&performed.path) {
                return Some(format!("{} is synced again", performed.path.display()));
            }
            if performed.error.is_some_and(|error| error != "EINTR") {
                failed.insert(performed.path);
            }
        }
    }
    None
}

/// How many operations a case takes when nothing goes wrong.
fn operations(case: &WriteCase, durability: Durability) -> u64 {
    case.undisturbed(durability).count()
}

type Spread = fn(Fault) -> Fault;

/// Once; for ever, but only operations of that kind; for ever.
const SPREADS: [Spread; 3] = [|fault| fault, Fault::for_ever_alike, Fault::for_ever];

// ── Every operation fails ─────────────────────────────────────────────────────────────────

fn fail_every_operation(with: Code, power_cuts: PowerCuts) -> Tally {
    fail_every_operation_of(write_cases(), with, power_cuts)
}

fn fail_every_operation_of(
    write_cases: Vec<WriteCase>,
    with: Code,
    power_cuts: PowerCuts,
) -> Tally {
    let mut tally = Tally::default();
    for case in write_cases {
        let promise = Promise::new(&case);
        for durability in DURABILITIES {
            for number in 1..=operations(&case, durability) {
                for spread in SPREADS {
                    let fault = spread(Fault::fail(with).at(number));
                    let faults = [fault];
                    let (_, outcome) =
                        check_with(power_cuts, &mut tally, &promise, &case, durability, &faults);
                    if let Err(error) = outcome {
                        let attempts = attempts_expected(&error);
                        // A rename was refused that may pass, and then something that does not.
                        let is_second = is_retried("rename", with)
                            && !RETRIED.contains(&with)
                            && error.attempts == 2;
                        if error.attempts != attempts && !is_second {
                            let made = error.attempts;
                            tally.complaints.push(format!(
                                "{}: {made} attempts, not {attempts}: {error:?}",
                                case.name
                            ));
                        }
                    }
                }
            }
        }
    }
    tally
}

/// One attempt when the error is not one that may pass, or came after the rename; all of
/// them otherwise, for a fault that lasts.
fn attempts_expected(error: &Error) -> u32 {
    let passes = match &error.kind {
        ErrorKind::System(failure) => {
            failure.code().is_some_and(|code| is_retried(failure.syscall, code))
        }
        _ => false,
    };
    if passes && !error.committed { 3 } else { 1 }
}

#[test]
fn any_operation_finds_the_disk_full() {
    fail_every_operation(Code::ENOSPC, PowerCuts::AfterSuccess).report("ENOSPC");
}

#[test]
fn any_operation_meets_an_input_output_error() {
    fail_every_operation(Code::EIO, PowerCuts::AfterSuccess).report("EIO");
    let some = ["an existing file", "with two new folders", "a new empty file"].map(write_case);
    let tally = fail_every_operation_of(some.into(), Code::EIO, PowerCuts::Always);
    tally.report("EIO and a power cut");
}

#[test]
fn any_operation_exceeds_the_quota() {
    fail_every_operation(Code::EDQUOT, PowerCuts::AfterSuccess).report("EDQUOT");
}

#[test]
fn any_operation_is_not_permitted() {
    fail_every_operation(Code::EACCES, PowerCuts::Always).report("EACCES");
}

#[test]
fn any_operation_is_interrupted_and_one_that_always_is_ends_all_the_same() {
    let tally = fail_every_operation(Code::EINTR, PowerCuts::Always);
    tally.report("EINTR");
    // One interruption of anything is not visible.
    let mut tally = Tally::default();
    for case in write_cases() {
        let promise = Promise::new(&case);
        for durability in DURABILITIES {
            for number in 1..=operations(&case, durability) {
                let fault = Fault::fail(Code::EINTR).at(number);
                let (fs, outcome) = check(&mut tally, &promise, &case, durability, &[fault]);
                outcome.unwrap();
                assert_eq!(count_of(&fs, OperationKind::CreateNew), {
                    let created = fs.log().into_iter().filter(|performed| {
                        performed.kind == OperationKind::CreateNew && performed.error.is_some()
                    });
                    1 + created.count()
                });
            }
        }
    }
    tally.report("one EINTR");
}

#[test]
fn any_two_operations_fail() {
    let mut tally = Tally::default();
    for name in ["an existing file", "with two new folders", "a new file given to somebody"] {
        let case = write_case(name);
        let promise = Promise::new(&case);
        for durability in DURABILITIES {
            let first_attempt = operations(&case, durability);
            for first in 1..=first_attempt {
                // The second one may come in what follows the first, two attempts on.
                for second in first + 1..=first + 2 * first_attempt + 4 {
                    for (one, other) in [
                        (Code::EIO, Code::EIO),
                        (Code::ENOSPC, Code::EACCES),
                        (Code::EACCES, Code::EINTR),
                    ] {
                        let faults = [Fault::fail(one).at(first), Fault::fail(other).at(second)];
                        let _ = check(&mut tally, &promise, &case, durability, &faults);
                    }
                }
            }
        }
    }
    tally.report("two faults");
}

#[test]
fn a_dir_whose_name_could_not_be_made_durable_is_not_taken_for_durable() {
    let sync_fails = || Fault::fail(Code::EIO).of(OperationKind::SyncDir).on("/");
    let mut tally = Tally::default();
    for name in ["with one new folder", "with two new folders", "with three new folders"] {
        let case = write_case(name);
        let promise = Promise::new(&case);
        for faults in [
            vec![sync_fails()],
            // Nor can it be removed.
            vec![sync_fails(), Fault::fail(Code::EIO).of(OperationKind::RemoveDir).for_ever()],
            vec![sync_fails(), Fault::fail(Code::EBUSY).of(OperationKind::RemoveDir).for_ever()],
            // It is there, although making it seemed to fail.
            vec![Fault::fail_after(Code::EIO).of(OperationKind::MakeDir), sync_fails()],
        ] {
            let _ = check(&mut tally, &promise, &case, Durability::Full, &faults);
        }
    }
    tally.report("folders that are not durable");
}

#[test]
fn any_operation_takes_effect_and_reports_an_error() {
    let mut tally = Tally::default();
    for case in write_cases() {
        let promise = Promise::new(&case);
        for durability in DURABILITIES {
            for number in 1..=operations(&case, durability) {
                for code in [Code::EIO, Code::EINTR, Code::EACCES, Code::ETIMEDOUT] {
                    let fault = Fault::fail_after(code).at(number);
                    let _ = check(&mut tally, &promise, &case, durability, &[fault]);
                }
            }
        }
    }
    tally.report("errors after the effect");
}

#[test]
fn a_rename_that_took_place_but_reports_an_error_counts_as_done() {
    let mut tally = Tally::default();
    for case in write_cases() {
        let promise = Promise::new(&case);
        for durability in DURABILITIES {
            for code in [Code::EIO, Code::EINTR, Code::ETIMEDOUT, Code::ENOENT, Code::EACCES] {
                for spread in [SPREADS[0], SPREADS[1]] {
                    let fault = spread(Fault::fail_after(code).of(OperationKind::Rename));
                    let (_, outcome) = check(&mut tally, &promise, &case, durability, &[fault]);
                    assert!(outcome.is_ok(), "{}: {outcome:?}", case.name);
                }
            }
        }
    }
    tally.report("renames that report an error");
}

#[test]
fn a_rename_that_took_place_is_never_denied_whatever_fails_next() {
    let case = write_case("an existing file");
    let promise = Promise::new(&case);
    let mut tally = Tally::default();
    for durability in DURABILITIES {
        for first in [Code::EIO, Code::EACCES] {
            for second in [Code::EIO, Code::EACCES] {
                for after in 1..=4 {
                    let rename = position_of(&case, durability, OperationKind::Rename);
                    let faults = [
                        Fault::fail_after(first).at(rename),
                        Fault::fail(second).at(rename + after),
                    ];
                    let _ = check(&mut tally, &promise, &case, durability, &faults);
                }
            }
        }
    }
    tally.report("a rename that reports an error, and another error");
}

/// The number of the first operation of a kind when nothing goes wrong.
fn position_of(case: &WriteCase, durability: Durability, kind: OperationKind) -> u64 {
    let log = case.undisturbed(durability).log();
    log.into_iter().find(|performed| performed.kind == kind).unwrap().number
}

#[test]
fn any_write_takes_a_part_only() {
    let mut tally = Tally::default();
    for case in write_cases() {
        let promise = Promise::new(&case);
        for durability in DURABILITIES {
            for most in 1..=case.new.len() {
                for number in 1..=case.new.len().div_ceil(most) as u64 {
                    for spread in SPREADS {
                        let fault = spread(Fault::short_write(most).at(number));
                        let (_, outcome) = check(&mut tally, &promise, &case, durability, &[fault]);
                        assert!(outcome.is_ok(), "{}: {outcome:?}", case.name);
                    }
                }
            }
        }
    }
    tally.report("short writes");
}

#[test]
fn a_disk_that_takes_nothing_without_an_error_does_not_hang_the_write() {
    let mut tally = Tally::default();
    for case in write_cases().into_iter().filter(|case| !case.new.is_empty()) {
        let promise = Promise::new(&case);
        for durability in DURABILITIES {
            let fault = Fault::short_write(0).for_ever();
            let (_, outcome) = check(&mut tally, &promise, &case, durability, &[fault]);
            assert!(!outcome.unwrap_err().committed);
        }
    }
    tally.report("writes of nothing");
}

// ── A disk that fills up ──────────────────────────────────────────────────────────────────

#[test]
fn keeps_the_old_file_when_the_disk_fills_up_at_any_byte() {
    for case in write_cases() {
        let promise = Promise::new(&case);
        for durability in DURABILITIES {
            for free in 0..=case.new.len() {
                let fs = case.disk();
                case.shorten_writes(&fs);
                fs.set_free_space(Some(free as u64));
                let outcome = write(&fs, &case.request(durability));
                let at = format!("{} ({durability:?}), {free} bytes free", case.name);
                if free == case.new.len() {
                    assert!(outcome.is_ok(), "{at}: {outcome:?}");
                    assert_eq!(promise.version(&fs), Ok(Version::New), "{at}");
                } else {
                    let error = outcome.unwrap_err();
                    assert_eq!(code(&error), Some(Code::ENOSPC), "{at}");
                    assert_eq!((error.attempts, error.committed), (3, false), "{at}");
                    assert_eq!(promise.version(&fs), Ok(Version::Old), "{at}");
                }
                assert_eq!(promise.temps(&fs), Ok(Vec::new()), "{at}");
                assert_eq!(fs.open_handles(), (0, 0), "{at}");
            }
        }
    }
}

#[test]
fn succeeds_when_space_is_freed_between_attempts() {
    let case = write_case("an existing file");
    let fs = case.disk();
    fs.set_free_space(Some(4));
    fs.inject(Fault::intrude(|fs, _| fs.set_free_space(Some(100))).of(OperationKind::Remove));
    write(&fs, &case.request(Durability::Full)).unwrap();
    assert_eq!(Promise::new(&case).version(&fs), Ok(Version::New));
    assert_eq!(count_of(&fs, OperationKind::CreateNew), 2);
}

// ── What is retried ───────────────────────────────────────────────────────────────────────

#[test]
fn retries_the_errors_that_may_pass_and_no_others() {
    let case = write_case("an existing file");
    let promise = Promise::new(&case);
    let mut tally = Tally::default();
    for kind in [
        OperationKind::OpenDir,
        OperationKind::CreateNew,
        OperationKind::Write,
        OperationKind::FileMetadata,
        OperationKind::SyncFile,
        OperationKind::Rename,
    ] {
        for with in Code::ALL {
            let fault = Fault::fail(*with).of(kind);
            let lasting = fault.clone().for_ever();
            let (_, outcome) = check(&mut tally, &promise, &case, Durability::Full, &[lasting]);
            let error = outcome.unwrap_err();
            let at = format!("{} fails with {}", kind.name(), with.name());
            let is_retried = is_retried(kind.name(), *with);
            let expected = if is_retried { 3 } else { 1 };
            assert_eq!((error.attempts, error.committed), (expected, false), "{at}");
            assert_eq!(code(&error), Some(*with), "{at}");

            let (fs, outcome) = check(&mut tally, &promise, &case, Durability::Full, &[fault]);
            let passes = is_retried
                || *with == Code::EINTR
                // A taken name is not the end.
                || kind == OperationKind::CreateNew && *with == Code::EEXIST;
            assert_eq!(outcome.is_ok(), passes, "{at}: {outcome:?}");
            if is_retried && kind != OperationKind::OpenDir {
                assert_eq!(count_of(&fs, OperationKind::CreateNew), 2, "{at}");
            }
        }
    }
    tally.report("every code there is");
}

#[test]
fn a_failed_sync_of_the_dir_is_reported_at_once_and_not_repeated() {
    let case = write_case("an existing file");
    let promise = Promise::new(&case);
    let mut tally = Tally::default();
    for with in Code::ALL.iter().filter(|code| **code != Code::EINTR) {
        let fault = Fault::fail(*with).of(OperationKind::SyncDir);
        let (fs, outcome) = check(&mut tally, &promise, &case, Durability::Full, &[fault]);
        let error = outcome.unwrap_err();
        assert_eq!((error.attempts, error.committed), (1, true), "{}", with.name());
        assert_eq!(count_of(&fs, OperationKind::SyncDir), 1);
        assert_eq!(count_of(&fs, OperationKind::CreateNew), 1);
    }
    tally.report("failed syncs of the folder");
}

#[test]
fn makes_as_many_attempts_as_it_was_allowed() {
    for attempts in 1..=5 {
        let mut case = write_case("a new file");
        case.options.attempts = attempts;
        let fs = case.disk();
        fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncFile).for_ever());
        let error = write(&fs, &case.request(Durability::File)).unwrap_err();
        assert_eq!(error.attempts, attempts);
        assert_eq!(count_of(&fs, OperationKind::SyncFile), attempts as usize);
        assert!(fs.list("/dir").unwrap().iter().eq(["bystander"]));
    }
}

#[test]
fn an_owner_that_cannot_be_kept_is_no_error() {
    let case = write_case("somebody's private file, written by root");
    let fs = case.disk();
    fs.inject(Fault::fail(Code::EPERM).of(OperationKind::SetOwner).for_ever());
    write(&fs, &case.request(Durability::Full)).unwrap();
    assert_eq!(*fs.read_file(case.target).unwrap(), case.new);
    assert_eq!(fs.inspect(case.target).unwrap().mode, case.attributes.mode);
    assert_eq!(fs.inspect(case.target).unwrap().uid, 0);
}

#[test]
fn an_owner_that_was_asked_for_and_cannot_be_set_is_an_error_for_root_only() {
    let case = write_case("a new file given to somebody");
    for (user, outcome) in [(0, Some(Code::EPERM)), (1000, None)] {
        let fs = case.disk();
        fs.set_user(user, user);
        fs.inject(Fault::fail(Code::EPERM).of(OperationKind::SetOwner).for_ever());
        let error = write(&fs, &case.request(Durability::Full)).err();
        assert_eq!(error.as_ref().and_then(code), outcome);
        assert_eq!(
            fs.inspect(case.target).ok().map(|file| file.uid),
            match outcome {
                Some(_) => None,
                None => Some(user),
            }
        );
    }
}

// ── Another process ─────────────────────────────────────────────────────────────────────────

/// The locks that sweepers hold until the end.
type Held = Arc<Mutex<Vec<ForeignLock>>>;

#[test]
fn the_temp_file_is_locked_from_its_first_byte_until_it_is_the_target() {
    let case = write_case("an existing file");
    let fs = case.disk();
    let seen: Arc<Mutex<BTreeMap<PathBuf, bool>>> = Arc::default();
    for kind in [
        OperationKind::Write,
        OperationKind::SetMode,
        OperationKind::SyncFile,
        OperationKind::Rename,
        OperationKind::SyncDir,
    ] {
        let seen = Arc::clone(&seen);
        let look = move |fs: &SimFs, path: &Path| {
            let file = if kind == OperationKind::SyncDir { path.join("note") } else { path.into() };
            let locked = fs.is_locked(file).unwrap();
            seen.lock().unwrap().insert(kind.name().into(), locked);
        };
        fs.inject(Fault::intrude(look).of(kind));
    }
    write(&fs, &case.request(Durability::Full)).unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= 4, "{seen:?}");
    assert!(seen.values().all(|locked| *locked), "{seen:?}");
    assert!(!fs.is_locked(case.target).unwrap());
}

#[test]
fn a_sweeper_that_comes_before_the_lock_costs_a_new_start() {
    let case = write_case("an existing file");
    for durability in DURABILITIES {
        let fs = case.disk();
        let held = Held::default();
        let holds = Arc::clone(&held);
        let sweep = move |fs: &SimFs, path: &Path| {
            holds.lock().unwrap().push(fs.hold_lock(path).unwrap());
            fs.take_away(path).unwrap();
        };
        fs.inject(Fault::intrude(sweep).of(OperationKind::TryLock));
        write(&fs, &case.request(durability)).unwrap();
        assert_eq!(Promise::new(&case).version(&fs), Ok(Version::New));
        assert_eq!(Promise::new(&case).temps(&fs), Ok(Vec::new()));
        assert_eq!(count_of(&fs, OperationKind::CreateNew), 2);
        assert_eq!(fs.open_handles(), (0, 0));
    }
}

#[test]
fn a_sweeper_that_removes_the_name_and_is_gone_costs_a_new_start() {
    let case = write_case("an existing file");
    let fs = case.disk();
    let sweep = |fs: &SimFs, path: &Path| fs.take_away(path).unwrap();
    fs.inject(Fault::intrude(sweep).of(OperationKind::TryLock));
    write(&fs, &case.request(Durability::Full)).unwrap();
    assert_eq!(Promise::new(&case).version(&fs), Ok(Version::New));
    assert_eq!(count_of(&fs, OperationKind::CreateNew), 2);
}

#[test]
fn a_sweeper_that_only_looks_leaves_no_orphan_behind() {
    // One that holds the lock for a moment, finds the file too young and lets it be.
    let case = write_case("an existing file");
    let fs = case.disk();
    let held = Held::default();
    let holds = Arc::clone(&held);
    let look = move |fs: &SimFs, path: &Path| {
        holds.lock().unwrap().push(fs.hold_lock(path).unwrap());
    };
    fs.inject(Fault::intrude(look).of(OperationKind::TryLock));
    write(&fs, &case.request(Durability::Full)).unwrap();
    assert_eq!(Promise::new(&case).version(&fs), Ok(Version::New));
    assert_eq!(Promise::new(&case).temps(&fs), Ok(Vec::new()), "{}", fs.log_text());
}

#[test]
fn sweepers_that_always_hold_the_lock_do_not_hang_the_write() {
    let case = write_case("an existing file");
    let fs = case.disk();
    let held = Held::default();
    let holds = Arc::clone(&held);
    let sweep = move |fs: &SimFs, path: &Path| {
        holds.lock().unwrap().push(fs.hold_lock(path).unwrap());
        fs.take_away(path).unwrap();
    };
    fs.inject(Fault::intrude(sweep).of(OperationKind::TryLock).for_ever());
    let error = write(&fs, &case.request(Durability::Full)).unwrap_err();
    assert!(!error.committed);
    assert_eq!(Promise::new(&case).version(&fs), Ok(Version::Old));
    assert_eq!(fs.open_handles(), (0, 0));
}

#[test]
fn the_outcome_is_true_when_another_process_removes_the_temp_file_at_any_moment() {
    let mut tally = Tally::default();
    for case in write_cases() {
        let promise = Promise::new(&case);
        for durability in DURABILITIES {
            for number in 1..=operations(&case, durability) {
                let vandal = |fs: &SimFs, _: &Path| {
                    let is_temp = |path: &PathBuf| path.extension().is_some_and(|end| end == "tmp");
                    for temp in fs.paths().into_iter().filter(is_temp) {
                        fs.take_away(temp).unwrap();
                    }
                };
                let fault = Fault::intrude(vandal).at(number);
                let _ = check(&mut tally, &promise, &case, durability, &[fault]);
            }
        }
    }
    tally.report("a vandal");
}

#[test]
fn refuses_a_dir_that_takes_the_targets_name_meanwhile() {
    let case = write_case("an existing file");
    let fs = case.disk();
    let swap = |fs: &SimFs, _: &Path| {
        fs.take_away("/dir/note").unwrap();
        fs.put_dir("/dir/note").unwrap();
    };
    fs.inject(Fault::intrude(swap).of(OperationKind::Rename));
    let error = write(&fs, &case.request(Durability::Full)).unwrap_err();
    assert_eq!((code(&error), error.attempts), (Some(Code::EISDIR), 1));
    assert_eq!(fs.list("/dir").unwrap(), ["bystander", "note"]);
}

#[test]
fn an_existing_file_keeps_its_bytes_while_the_write_is_under_way() {
    let case = write_case("an existing file");
    let fs = case.disk();
    let look = |fs: &SimFs, _: &Path| assert_eq!(*fs.read_file("/dir/note").unwrap(), OLD);
    let renames = operations(&case, Durability::Full);
    for number in 1..renames {
        fs.inject(Fault::intrude(look).at(number));
    }
    write(&fs, &case.request(Durability::Full)).unwrap();
}

#[test]
fn any_operation_of_the_shorter_way_fails() {
    // What is done where the file system keeps metadata in order.
    let mut tally = Tally::default();
    for mut case in write_cases() {
        case.keeps_order = true;
        let promise = Promise::new(&case);
        for number in 1..=operations(&case, Durability::Full) {
            for spread in SPREADS {
                for code in [Code::EIO, Code::ENOSPC, Code::EINTR] {
                    let fault = spread(Fault::fail(code).at(number));
                    let _ = check(&mut tally, &promise, &case, Durability::Full, &[fault]);
                }
            }
        }
    }
    tally.report("the shorter way");
}

// ── Files that are only made ──────────────────────────────────────────────────────────────

/// Another program makes the file before any operation of a write that replaces none: it stays, and the
/// call is told so. What the write has made itself is never taken for another's.
#[test]
fn a_file_that_is_made_meanwhile_is_never_replaced() {
    const THEIRS: &[u8] = b"theirs";
    let case = write_case("a new file that replaces none");
    let mut refused = 0;
    for durability in DURABILITIES {
        let undisturbed = case.undisturbed(durability);
        for number in 1..=undisturbed.count() {
            let fs = case.disk();
            let put = |fs: &SimFs, _: &Path| {
                if fs.read_file("/dir/note").is_err() {
                    fs.put_file("/dir/note", THEIRS).unwrap();
                }
            };
            fs.inject(Fault::intrude(put).at(number));
            let outcome = write(&fs, &case.request(durability));
            let content = fs.read_file("/dir/note").unwrap();
            match &outcome {
                Ok(()) => {
                    assert_eq!(*content, case.new, "{durability:?}, before operation {number}")
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(code(error), Some(Code::EEXIST), "before operation {number}");
                    assert!(!error.committed && error.attempts == 1);
                    assert_eq!(*content, THEIRS, "before operation {number}");
                }
            }
            let names = common::look(&fs, "/dir/note").map(|_| fs.paths().len());
            assert_eq!(names, Some(undisturbed.paths().len()), "before operation {number}");
        }
    }
    assert!(refused > 3 * DURABILITIES.len(), "{refused}");
}

/// Whatever fails, and however often it is tried again: a file that is there already stays as it is.
#[test]
fn a_file_that_is_there_is_never_replaced_by_one_that_is_only_made() {
    let like = write_case("a new file that replaces none");
    let case = WriteCase { set: |fs| fs.put_file("/dir/note", OLD).unwrap(), ..like };
    let mut runs = 0;
    for number in 1.. {
        let mut is_over = false;
        for with in [Code::EIO, Code::EAGAIN, Code::ENOSPC, Code::EEXIST, Code::ENOENT] {
            let once = Fault::fail(with).at(number);
            for fault in [once.clone(), once.for_ever_alike(), Fault::fail_after(with).at(number)] {
                let fs = case.disk();
                fs.inject(fault.clone());
                let outcome = write(&fs, &case.request(Durability::Full));
                runs += 1;
                assert!(outcome.is_err_and(|error| !error.committed), "{fault:?}");
                assert_eq!(*fs.read_file("/dir/note").unwrap(), OLD, "{fault:?}");
                assert_eq!(fs.open_handles(), (0, 0));
                is_over = fs.count() < number;
            }
        }
        if is_over {
            break;
        }
    }
    println!("{runs} runs");
}
