//! Atomic writes on a disk that is unplugged at every moment: whatever a power cut may
//! leave, the target is the old file or the new one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use holdfast::error::Code;
use holdfast::fs::FileSystem;
use holdfast::write::Durability;
use holdfast_sim::{Fault, Model, OperationKind, SimFs};

use common::{
    DURABILITIES, Promise, Version, WalkResult, WriteCase, walk, write, write_case, write_cases,
};

fn walk_all(durability: Durability) -> WalkResult {
    let mut walked = WalkResult::default();
    for case in write_cases() {
        walked.add(walk(&case, durability, Model::ALL, &|_| {}, &write));
    }
    println!(
        "{durability:?}: power off at {} moments, {} crash states",
        walked.moments, walked.states
    );
    walked
}

#[test]
fn a_process_that_dies_leaves_the_old_file_or_the_new_one_and_one_temp_at_most() {
    walk_all(Durability::None).assert_kept();
}

#[test]
fn a_power_cut_leaves_the_old_file_or_the_new_one_when_the_file_is_synced() {
    walk_all(Durability::File).assert_kept();
}

#[test]
fn a_power_cut_leaves_the_new_file_once_a_full_write_was_acknowledged() {
    walk_all(Durability::Full).assert_kept();
}

#[test]
fn a_file_that_takes_several_writes_by_its_size_is_never_torn() {
    let large: Vec<u8> = (0..(16 << 20) + 3).map(|n: u32| (n >> 8) as u8 | 1).collect();
    for name in ["a new file", "an existing file"] {
        let case = WriteCase { new: large.clone(), ..write_case(name) };
        let walked = walk(&case, Durability::Full, Model::ALL, &|_| {}, &write);
        println!("{name}, 16 MiB: {} crash states", walked.states);
        walked.assert_kept();
    }
}

#[test]
fn an_acknowledged_write_is_not_undone_by_the_next_one() {
    let first = write_case("a new file");
    let second = WriteCase { new: b"newer content".to_vec(), ..first.clone() };
    let mut states = 0;
    for moment in 1.. {
        let fs = first.disk();
        write(&fs, &first.request(Durability::Full)).unwrap();
        let before = fs.count();
        fs.inject(Fault::power_off().at(moment));
        let outcome = write(&fs, &second.request(Durability::Full));
        for model in Model::ALL {
            for state in fs.crash_states(*model, common::MOST) {
                states += 1;
                let content = state.fs.read_file(first.target).unwrap();
                let is_known = *content == second.new || *content == first.new && outcome.is_err();
                assert!(is_known, "{moment} {}\n{}", state.description, fs.log_text());
            }
        }
        if fs.count() - before < moment {
            break;
        }
    }
    println!("a second write: {states} crash states");
}

#[test]
fn whatever_a_crash_leaves_can_be_written_again() {
    let mut states = 0;
    for case in write_cases() {
        let promise = Promise::new(&case);
        let operations = case.undisturbed(Durability::Full).count();
        for moment in 1..=operations + 1 {
            let fs = case.disk();
            fs.inject(Fault::power_off().at(moment));
            let _ = write(&fs, &case.request(Durability::Full));
            let killed = fs.after_kill();
            let cut = Model::ALL.iter().flat_map(|model| fs.crash_states(*model, common::MOST));
            for left in cut.map(|state| state.fs).chain([killed]) {
                states += 1;
                let temps = promise.temps(&left).unwrap();
                let is_made =
                    case.options.create_only && promise.version(&left) == Ok(Version::New);
                let again = write(&left, &case.request(Durability::Full));
                // One that only makes the file finds its own, and nothing is changed.
                assert_eq!(again.is_err(), is_made, "{}", case.name);
                assert_eq!(promise.version(&left), Ok(Version::New));
                if is_made {
                    continue;
                }
                assert_eq!(promise.temps(&left), Ok(temps), "an orphan stays for recovery");
                // What the killed process did not sync must not spoil what is synced now.
                for model in Model::ALL {
                    if case.options.make_dirs && *model == Model::StrictPosix {
                        // See the next test.
                        continue;
                    }
                    let (versions, _) = promise.after_power_cut(&left, *model).unwrap();
                    let is_new = versions.iter().all(|version| *version == Version::New);
                    assert!(is_new, "{}: {model:?}\n{}", case.name, left.log_text());
                }
            }
        }
    }
    println!("written again after {states} crashes");
}

/// A directory that is there when a write begins is taken for durable. Where metadata is
/// ordered, the sync of the file makes it so. POSIX alone does not promise that: if another
/// process made the directory and died, or did not sync it, its name is not synced.
#[test]
fn a_dir_that_a_killed_process_made_is_as_durable_as_the_file_system_keeps_order() {
    let case = write_case("with one new folder");
    let promise = Promise::new(&case);
    let fs = case.disk();
    fs.make_dir("/a".as_ref()).unwrap();
    let killed = fs.after_kill();
    write(&killed, &case.request(Durability::Full)).unwrap();
    let versions = |model| promise.after_power_cut(&killed, model).unwrap().0;
    assert_eq!(versions(Model::OrderedMetadata), BTreeSet::from([Version::New]));
    let either = BTreeSet::from([Version::Old, Version::New]);
    assert_eq!(versions(Model::StrictPosix), either);
}

// ── The same walk finds what it is there to find ──────────────────────────────────────────

/// The write_cases whose promise a mutation breaks.
fn broken(durability: Durability, models: &[Model], prepare: &dyn Fn(&SimFs)) -> Vec<&'static str> {
    write_cases()
        .iter()
        .filter(|case| !walk(case, durability, models, prepare, &write).violations.is_empty())
        .map(|case| case.name)
        .collect()
}

fn all_names() -> Vec<&'static str> {
    write_cases().iter().map(|case| case.name).collect()
}

#[test]
fn leaving_out_the_sync_of_the_file_is_noticed_everywhere() {
    let leave_out = |fs: &SimFs| {
        fs.inject(Fault::ignore().of(OperationKind::SyncFile).for_ever());
    };
    for durability in [Durability::File, Durability::Full] {
        for model in Model::ALL {
            // An empty file has no bytes to lose, and a mode only if it was changed after
            // the creation and may reach the disk after the rename.
            let has_to_sync = |name: &&str| match *name {
                "a new empty file" => false,
                "an existing file made empty" => *model == Model::StrictPosix,
                _ => true,
            };
            let broken = broken(durability, &[*model], &leave_out);
            let expected: Vec<&str> = all_names().into_iter().filter(has_to_sync).collect();
            assert_eq!(broken, expected, "{durability:?} {model:?}");
        }
    }
}

#[test]
fn leaving_out_the_sync_of_the_dir_is_noticed_everywhere() {
    for model in Model::ALL {
        let mut found = Vec::new();
        for case in write_cases() {
            let dir = Path::new(case.target).parent().unwrap();
            let leave_out = |fs: &SimFs| {
                fs.inject(Fault::ignore().of(OperationKind::SyncDir).on(dir).for_ever());
            };
            let walked = walk(&case, Durability::Full, &[*model], &leave_out, &write);
            if !walked.violations.is_empty() {
                found.push(case.name);
            }
        }
        assert_eq!(found, all_names(), "{model:?}");
    }
}

#[test]
fn leaving_out_the_sync_of_any_new_dirs_parent_is_noticed() {
    for (name, parents) in [
        ("with one new folder", ["/"].as_slice()),
        ("with two new folders", &["/", "/a"]),
        ("with three new folders", &["/", "/a", "/a/b"]),
        ("with a new folder in an old one", &["/dir"]),
    ] {
        for parent in parents {
            let leave_out = |fs: &SimFs| {
                fs.inject(Fault::ignore().of(OperationKind::SyncDir).on(parent).for_ever());
            };
            let strict = [Model::StrictPosix];
            let walked = walk(&write_case(name), Durability::Full, &strict, &leave_out, &write);
            assert!(!walked.violations.is_empty(), "{name}, sync of {parent} left out");
        }
    }
}

#[test]
fn leaving_out_the_sync_of_the_file_system_is_noticed_where_a_parent_cannot_be_listed() {
    let leave_out = |fs: &SimFs| {
        fs.inject(Fault::ignore().of(OperationKind::SyncFilesystem).for_ever());
    };
    let broken = broken(Durability::Full, &[Model::StrictPosix], &leave_out);
    assert_eq!(broken, ["with a new folder in one that cannot be listed"]);
}

#[test]
fn a_disk_that_loses_bytes_without_a_word_does_not_get_the_rename() {
    for case in write_cases().into_iter().filter(|case| !case.new.is_empty()) {
        for durability in DURABILITIES {
            let fs = case.disk();
            fs.inject(Fault::ignore().of(OperationKind::Write).for_ever());
            let before = common::look(&fs, case.target);
            let error = write(&fs, &case.request(durability)).unwrap_err();
            assert!(!error.committed, "{}", case.name);
            assert!(common::look(&fs, case.target) == before, "{}", case.name);
        }
    }
}

#[test]
fn leaving_out_mode_or_owner_is_noticed() {
    for (kind, name) in [
        (OperationKind::SetMode, "an existing file that becomes private"),
        (OperationKind::SetMode, "a program that runs as its owner, written by root"),
        (OperationKind::SetOwner, "somebody's private file, written by root"),
        (OperationKind::SetOwner, "a new file given to somebody"),
    ] {
        let leave_out = |fs: &SimFs| fs.inject(Fault::ignore().of(kind).for_ever());
        for durability in DURABILITIES {
            let walked = walk(&write_case(name), durability, Model::ALL, &leave_out, &write);
            assert!(!walked.violations.is_empty(), "{name}, without {}", kind.name());
        }
    }
}

#[test]
fn renaming_before_the_sync_of_the_file_is_noticed() {
    let sync_late = |fs: &SimFs| {
        fs.inject(Fault::ignore().of(OperationKind::SyncFile).for_ever());
        let sync = |fs: &SimFs, _: &Path| drop(fs.sync_filesystem());
        fs.inject(Fault::intrude(sync).of(OperationKind::SyncDir));
    };
    for model in Model::ALL {
        let case = write_case("an existing file");
        let walked = walk(&case, Durability::Full, &[*model], &sync_late, &write);
        assert!(!walked.violations.is_empty(), "{model:?}");
        // It is the order that is noticed: in the end everything is synced.
        let is_about_the_end = |violation: &String| violation.contains("acknowledged");
        assert!(!walked.violations.iter().any(is_about_the_end), "{model:?}");
    }
}

// ── The shorter way, where metadata is kept in order ──────────────────────────────────────

/// Makes the disk tell that it keeps its metadata in order.
fn ordered(fs: &SimFs) {
    fs.set_keeps_order(true);
}

#[test]
fn one_sync_after_the_rename_is_enough_where_metadata_is_kept_in_order() {
    let mut walked = WalkResult::default();
    for case in write_cases() {
        let models = [Model::OrderedMetadata];
        for durability in [Durability::File, Durability::Full] {
            walked.add(walk(&case, durability, &models, &ordered, &write));
        }
    }
    assert!(walked.violations.is_empty(), "{}", walked.violations[0]);
    println!("one sync: power off at {} moments, {} crash states", walked.moments, walked.states);
}

#[test]
fn one_sync_after_the_rename_waits_once_and_syncs_no_dir() {
    let case = write_case("an existing file");
    let fs = case.disk();
    ordered(&fs);
    write(&fs, &case.request(Durability::Full)).unwrap();
    let kinds = [OperationKind::AwaitWriteBack, OperationKind::SyncFile, OperationKind::SyncDir];
    let counts = kinds.map(|kind| fs.log().iter().filter(|done| done.kind == kind).count());
    assert_eq!(counts, [1, 1, 0]);
}

#[test]
fn a_file_that_need_not_be_the_new_one_waits_for_no_flush_where_metadata_is_ordered() {
    for (keeps_order, reuses_freed, expected) in
        [(true, false, [1, 0, 0]), (true, true, [1, 1, 0]), (false, false, [0, 1, 0])]
    {
        let case = write_case("an existing file");
        let fs = case.disk();
        fs.set_keeps_order(keeps_order);
        fs.set_reuses_freed(reuses_freed);
        write(&fs, &case.request(Durability::File)).unwrap();
        let kinds =
            [OperationKind::AwaitWriteBack, OperationKind::SyncFile, OperationKind::SyncDir];
        assert_eq!(kinds.map(|kind| common::count_of(&fs, kind)), expected);
    }
}

#[test]
fn one_sync_after_the_rename_would_not_do_where_posix_is_all_that_is_promised() {
    for durability in [Durability::File, Durability::Full] {
        let broken = broken(durability, &[Model::StrictPosix], &ordered);
        assert!(broken.contains(&"an existing file"), "{broken:?}");
        assert!(broken.contains(&"a new file"), "{broken:?}");
    }
}

#[test]
fn leaving_out_either_step_of_the_shorter_way_is_noticed() {
    for (kind, durability) in [
        (OperationKind::AwaitWriteBack, Durability::File),
        (OperationKind::AwaitWriteBack, Durability::Full),
        (OperationKind::SyncFile, Durability::Full),
    ] {
        let leave_out = |fs: &SimFs| {
            ordered(fs);
            fs.inject(Fault::ignore().of(kind).for_ever());
        };
        let broken = broken(durability, &[Model::OrderedMetadata], &leave_out);
        // Without bytes there is nothing to write back.
        let needs_it = |name: &&str| kind == OperationKind::SyncFile || !name.contains("empty");
        let expected: Vec<&str> = all_names().into_iter().filter(needs_it).collect();
        assert_eq!(broken, expected, "{kind:?}");
    }
}

/// Another process may write as soon as the new content is in place, before the last sync of
/// this write, and may die before its own. Whichever write was acknowledged, the content before
/// both does not come back.
#[test]
fn a_write_that_is_replaced_before_its_last_sync_is_not_undone() {
    let case = write_case("an existing file");
    let newer = WriteCase { new: b"newer content".to_vec(), ..case.clone() };
    let mut states = 0;
    for (keeps_order, skips_nameless, dies) in
        (0..8).map(|bits| (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0))
    {
        let fs = case.disk();
        fs.set_keeps_order(keeps_order);
        fs.set_skips_nameless(skips_nameless);
        let last = if keeps_order { OperationKind::SyncFile } else { OperationKind::SyncDir };
        let next = newer.request(Durability::Full);
        let intrude = move |fs: &SimFs, _: &Path| {
            if dies {
                fs.inject(Fault::ignore().of(last));
            }
            common::on_another_thread(|| write(fs, &next)).unwrap();
        };
        fs.inject(Fault::intrude(intrude).of(last));
        write(&fs, &case.request(Durability::Full)).unwrap();
        assert_eq!(**fs.read_file(case.target).unwrap(), *newer.new, "{}", fs.log_text());
        let models = if keeps_order { &[Model::OrderedMetadata] } else { Model::ALL };
        for state in models.iter().flat_map(|model| fs.crash_states(*model, common::MOST)) {
            states += 1;
            let content = state.fs.read_file(case.target).unwrap();
            let is_so = *content == newer.new || dies && *content == case.new;
            assert!(is_so, "{}\n{}", state.description, fs.log_text());
        }
    }
    println!("replaced before the last sync: {states} crash states");
}

// ── Where freed blocks are used again at once ─────────────────────────────────────────────

/// Whether the disk keeps its metadata in order, and the models of what it may do then.
const ORDERS: [(bool, &[Model]); 2] = [(true, &[Model::OrderedMetadata]), (false, Model::ALL)];

#[test]
fn what_is_replaced_keeps_its_blocks_until_its_replacement_is_on_the_disk() {
    let mut walked = WalkResult::default();
    for (keeps_order, models) in ORDERS {
        let reuses_freed = |fs: &SimFs| {
            fs.set_keeps_order(keeps_order);
            fs.set_reuses_freed(true);
        };
        for durability in [Durability::File, Durability::Full] {
            for case in write_cases() {
                walked.add(walk(&case, durability, models, &reuses_freed, &write));
            }
        }
    }
    walked.assert_kept();
    println!(
        "freed blocks are used again: power off at {} moments, {} crash states",
        walked.moments, walked.states
    );
}

#[test]
fn a_replaced_file_that_is_closed_too_soon_is_noticed() {
    for (keeps_order, models) in ORDERS {
        let reuses_freed = |fs: &SimFs| {
            fs.set_keeps_order(keeps_order);
            fs.set_reuses_freed_silently();
        };
        let replaces = |name: &&str| {
            let fs = write_case(name).disk();
            let has_bytes = |path| fs.read_file(path).is_ok_and(|bytes| !bytes.is_empty());
            has_bytes(write_case(name).target) && !name.contains("in place of a link")
        };
        let expected: Vec<&str> = all_names().into_iter().filter(replaces).collect();
        assert!(expected.contains(&"an existing file"));
        for durability in [Durability::File, Durability::Full] {
            let broken = broken(durability, models, &reuses_freed);
            assert_eq!(broken, expected, "{durability:?}, in order: {keeps_order}");
        }
    }
}

#[test]
fn nothing_is_opened_or_synced_more_where_freed_blocks_are_kept() {
    for durability in DURABILITIES {
        let case = write_case("an existing file");
        let counts = |reuses_freed: bool| {
            let fs = case.disk();
            ordered(&fs);
            fs.set_reuses_freed(reuses_freed);
            write(&fs, &case.request(durability)).unwrap();
            let kinds =
                [OperationKind::OpenToKeep, OperationKind::SyncFile, OperationKind::SyncDir];
            kinds.map(|kind| common::count_of(&fs, kind))
        };
        assert_eq!(
            counts(false),
            [0, usize::from(durability == Durability::Full), 0],
            "{durability:?}"
        );
        // Nothing is promised without a sync, and it takes one to know that what is replaced may go.
        let syncs = usize::from(durability != Durability::None);
        assert_eq!(counts(true), [syncs, syncs, 0], "{durability:?}");
    }
}

/// A process may have no more files open than some number, and then does not replace what it
/// cannot keep.
#[test]
fn a_file_that_cannot_be_kept_is_not_replaced() {
    for code in [Code::EMFILE, Code::EACCES, Code::EIO] {
        for keeps_order in [true, false] {
            let case = write_case("an existing file");
            let fs = case.disk();
            fs.set_keeps_order(keeps_order);
            fs.set_reuses_freed(true);
            fs.inject(Fault::fail(code).of(OperationKind::OpenToKeep).for_ever());
            let error = write(&fs, &case.request(Durability::Full)).unwrap_err();
            assert!(!error.committed, "{error:?}");
            let is_retried = code != Code::EACCES;
            assert_eq!(error.attempts, if is_retried { 3 } else { 1 }, "{error:?}");
            assert_eq!(Promise::new(&case).version(&fs), Ok(Version::Old));
            assert_eq!(Promise::new(&case).temps(&fs), Ok(vec![]));
            assert_eq!(fs.open_handles(), (0, 0));
        }
    }
}

/// The last sync fails, and a power cut follows: what was replaced is free by then.
#[test]
fn a_failed_last_sync_leaves_no_name_of_what_was_replaced() {
    for (keeps_order, models) in ORDERS {
        let case = write_case("an existing file");
        let fs = case.disk();
        fs.set_keeps_order(keeps_order);
        fs.set_reuses_freed(true);
        let last = if keeps_order { OperationKind::SyncFile } else { OperationKind::SyncDir };
        fs.inject(Fault::fail(Code::EINVAL).of(last));
        let error = write(&fs, &case.request(Durability::Full)).unwrap_err();
        assert!(error.committed, "{error:?}");
        assert_eq!(fs.open_handles(), (0, 0));
        for model in models {
            let (versions, _) = Promise::new(&case).after_power_cut(&fs, *model).unwrap();
            assert_eq!(versions, BTreeSet::from([Version::New]), "{model:?}\n{}", fs.log_text());
        }
    }
}
