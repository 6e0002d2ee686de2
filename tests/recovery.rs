//! What a recovery decides, case by case.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::any::Any;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::time::{Duration, SystemTime};

use holdfast::error::Code;
use holdfast::error::ErrorKind;
use holdfast::recovery::{self, ActionKind, Options, RecoveryAction, RecoveryRequest};
use holdfast::temp_name;
use holdfast::transaction;
use holdfast::transaction::fingerprint::Fingerprint;
use holdfast::transaction::names::{RecordKind, TransactionId};
use holdfast::transaction::record::{Record, RecordMember};
use holdfast::write::{Control, Format};
use holdfast_sim::{Attributes, Fault, OperationKind, SimFs};
use xxhash_rust::xxh3::xxh3_128;

const FILE: &str = "/dir/state.json";
const TEMP: &str = "/dir/.state.json.0123456789abcdef.tmp";
const OTHER: &str = "/dir/.state.json.fedcba9876543210.tmp";
const UUID: &str = "/dir/.state.json.123e4567-e89b-12d3-a456-426614174000.tmp";
const LEGACY: &str = "/dir/state.json.tmp";
const BACKUP: &str = "/dir/state.json.bak";
const GOOD: &[u8] = b"{\"turn\": 1}";
const NEW: &[u8] = b"{\"turn\": 2}";
const TORN: &[u8] = b"{\"turn\": ";

/// Long after everything on a simulated disk was changed.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

type Taken = Result<Option<Box<dyn Any>>, ErrorKind>;

fn free(_: &Path) -> Taken {
    Ok(Some(Box::new(())))
}

fn disk(files: &[(&str, &[u8])]) -> SimFs {
    let fs = SimFs::new();
    fs.put_dir("/dir").unwrap();
    for (path, content) in files {
        fs.put_file(path, content).unwrap();
    }
    fs
}

fn recover(fs: &SimFs, path: &str, options: Options) -> Vec<RecoveryAction> {
    let request = RecoveryRequest { path: path.into(), options, now: now() };
    let actions = recovery::recover(fs, &request, &free, &Control::default()).unwrap();
    assert_eq!(fs.open_handles(), (0, 0));
    actions
}

/// On Windows names are added to a path by the system's separator.
fn kinds(actions: &[RecoveryAction]) -> Vec<(&'static str, ActionKind)> {
    let shown = |path: &Path| path.to_str().unwrap().replace(MAIN_SEPARATOR, "/").leak() as &str;
    actions.iter().map(|action| (shown(&action.path), action.kind)).collect()
}

fn named(fs: &SimFs) -> Vec<RecoveryAction> {
    recover(fs, FILE, Options::default())
}

fn files(fs: &SimFs) -> Vec<String> {
    let names = fs.list("/dir").unwrap();
    names.into_iter().map(|name| name.into_string().unwrap()).collect()
}

fn read(fs: &SimFs, path: &str) -> Vec<u8> {
    fs.read_file(path).unwrap().to_vec()
}

// ── The four cases ────────────────────────────────────────────────────────────────────────

#[test]
fn a_whole_temp_file_becomes_the_missing_file_that_was_named() {
    for temp in [TEMP, UUID, LEGACY] {
        let fs = disk(&[(temp, NEW)]);
        assert_eq!(kinds(&named(&fs)), [(temp, ActionKind::Promoted)]);
        assert_eq!(files(&fs), ["state.json"]);
        assert_eq!(read(&fs, FILE), NEW);
        assert_eq!(kinds(&named(&fs)), []);
    }
}

#[test]
fn the_newest_whole_temp_file_becomes_the_file_and_the_others_go() {
    let fs = disk(&[(TEMP, GOOD), (OTHER, NEW), (UUID, TORN)]);
    fs.set_modified(TEMP, at(10)).unwrap();
    fs.set_modified(OTHER, at(20)).unwrap();
    fs.set_modified(UUID, at(30)).unwrap();
    let actions = named(&fs);
    assert_eq!(actions[0].kind, ActionKind::Promoted);
    assert_eq!(actions[0].to.as_deref(), Some(Path::new(FILE)));
    assert_eq!(files(&fs), ["state.json"]);
    assert_eq!(read(&fs, FILE), NEW);
}

#[test]
fn what_is_not_whole_or_a_bare_scalar_is_never_promoted() {
    for content in [TORN, b"", b" \n", b"12", b"\"text\"", b"true", b"{}x", b"{\"\xff\":1}"] {
        let fs = disk(&[(TEMP, content), (LEGACY, content)]);
        let actions = named(&fs);
        assert_eq!(kinds(&actions), [(TEMP, ActionKind::Removed), (LEGACY, ActionKind::Removed)]);
        assert_eq!(files(&fs), Vec::<String>::new(), "{}", content.escape_ascii());
    }
}

#[test]
fn without_promote_a_temp_file_of_a_missing_file_is_removed() {
    let fs = disk(&[(TEMP, NEW)]);
    let options = Options { promote: Some(false), ..Options::default() };
    assert_eq!(kinds(&recover(&fs, FILE, options)), [(TEMP, ActionKind::Removed)]);
    let fs = disk(&[(TEMP, NEW)]);
    assert_eq!(kinds(&recover(&fs, "/dir", Options::default())), [(TEMP, ActionKind::Removed)]);
    assert_eq!(files(&fs), Vec::<String>::new());
    let fs = disk(&[(TEMP, NEW)]);
    let options = Options { promote: Some(true), ..Options::default() };
    assert_eq!(kinds(&recover(&fs, "/dir", options)), [(TEMP, ActionKind::Promoted)]);
}

#[test]
fn a_backup_becomes_the_missing_file() {
    let fs = disk(&[(BACKUP, GOOD)]);
    assert_eq!(kinds(&named(&fs)), [(BACKUP, ActionKind::Restored)]);
    assert_eq!(read(&fs, FILE), GOOD);
    // Such as it is, if there is nothing better.
    let fs = disk(&[(BACKUP, TORN)]);
    assert_eq!(kinds(&named(&fs)), [(BACKUP, ActionKind::Restored)]);
    assert_eq!(read(&fs, FILE), TORN);
}

#[test]
fn of_a_backup_and_a_temp_file_the_newer_one_that_is_whole_becomes_the_file() {
    for (temp, time, expected) in [(NEW, 20, NEW), (NEW, 5, GOOD), (TORN, 20, GOOD)] {
        let fs = disk(&[(BACKUP, GOOD), (LEGACY, temp)]);
        fs.set_modified(BACKUP, at(10)).unwrap();
        fs.set_modified(LEGACY, at(time)).unwrap();
        named(&fs);
        assert_eq!(read(&fs, FILE), expected);
        assert_eq!(files(&fs), ["state.json"]);
    }
}

#[test]
fn what_is_beside_a_good_file_is_removed() {
    let fs = disk(&[(FILE, GOOD), (TEMP, NEW), (UUID, TORN), (LEGACY, NEW), (BACKUP, NEW)]);
    let actions = named(&fs);
    assert!(actions.iter().all(|action| action.kind == ActionKind::Removed), "{actions:?}");
    assert_eq!(actions.last().unwrap().path, Path::new(BACKUP), "the backup goes last");
    assert_eq!(files(&fs), ["state.json"]);
    assert_eq!(read(&fs, FILE), GOOD);
}

#[test]
fn a_backup_goes_only_after_the_file_is_durable() {
    let fs = disk(&[(FILE, GOOD), (BACKUP, NEW)]);
    fs.inject(Fault::fail(Code::EIO).of(OperationKind::SyncFile));
    assert_eq!(kinds(&named(&fs)), [(BACKUP, ActionKind::Failed)]);
    assert_eq!(read(&fs, BACKUP), NEW);
}

#[test]
fn a_corrupt_file_is_kept_aside_and_what_is_good_restored() {
    for corrupt in [TORN, b"", b"\n"] {
        for source in [TEMP, UUID, LEGACY, BACKUP] {
            let fs = disk(&[(source, NEW)]);
            let attributes = Attributes { mode: 0o640, uid: 1000, gid: 1000 };
            fs.put_file_with(FILE, corrupt, attributes).unwrap();
            let actions = named(&fs);
            assert_eq!(
                kinds(&actions),
                [(FILE, ActionKind::SetAside), (source, ActionKind::Restored)]
            );
            let aside = actions[0].to.clone().unwrap();
            assert_eq!(aside, PathBuf::from(format!("{FILE}.corrupt-1700000000001")));
            assert_eq!(fs.read_file(aside).unwrap().as_slice(), corrupt);
            assert_eq!(read(&fs, FILE), NEW);
            assert_eq!(fs.inspect(FILE).unwrap().mode, 0o640, "{source}");
            assert_eq!(kinds(&named(&fs)), []);
        }
    }
}

#[test]
fn a_corrupt_file_is_never_kept_in_the_place_of_another() {
    let taken = format!("{FILE}.corrupt-1700000000001");
    let fs = disk(&[(FILE, TORN), (BACKUP, GOOD), (&taken, b"an older one")]);
    let actions = named(&fs);
    assert_eq!(actions[0].to, Some(PathBuf::from(format!("{FILE}.corrupt-1700000000002"))));
    assert_eq!(read(&fs, &taken), b"an older one");
}

#[test]
fn a_corrupt_file_with_nothing_good_stays_and_so_does_its_backup() {
    let fs = disk(&[(FILE, TORN), (BACKUP, TORN), (TEMP, TORN)]);
    let expected =
        [(FILE, ActionKind::Left), (TEMP, ActionKind::Removed), (BACKUP, ActionKind::Left)];
    assert_eq!(kinds(&named(&fs)), expected);
    let fs = disk(&[(FILE, TORN)]);
    assert_eq!(kinds(&named(&fs)), [(FILE, ActionKind::Left)]);
}

#[test]
fn a_backup_that_create_backup_made_is_not_restored_by_itself() {
    let own = format!("{FILE}.1699999999999.backup");
    let fs = disk(&[(FILE, TORN), (&own, GOOD)]);
    assert_eq!(kinds(&named(&fs)), [(FILE, ActionKind::Left)]);
    assert_eq!(read(&fs, FILE), TORN);
}

#[test]
fn only_json_is_judged_unless_everything_is_to_be() {
    let text = "/dir/notes.txt";
    let backup = "/dir/notes.txt.bak";
    for validate in [None, Some(Format::Json)] {
        let fs = disk(&[(text, b"not json"), (backup, GOOD)]);
        let actions = recover(&fs, text, Options { validate, ..Options::default() });
        match validate {
            None => assert_eq!(kinds(&actions), [(backup, ActionKind::Removed)]),
            Some(_) => {
                assert_eq!(
                    kinds(&actions),
                    [(text, ActionKind::SetAside), (backup, ActionKind::Restored)]
                );
            }
        }
    }
    // An empty file is as good as its backup only if that is empty, too.
    let fs = disk(&[(text, b""), (backup, b"text")]);
    assert_eq!(kinds(&recover(&fs, text, Options::default())), [(backup, ActionKind::Left)]);
    let fs = disk(&[(text, b""), (backup, b"")]);
    assert_eq!(kinds(&recover(&fs, text, Options::default())), [(backup, ActionKind::Removed)]);
}

#[test]
fn a_byte_order_mark_is_no_damage() {
    let marked = b"\xEF\xBB\xBF {\"turn\": 1}";
    let fs = disk(&[(FILE, marked), (BACKUP, NEW)]);
    assert_eq!(kinds(&named(&fs)), [(BACKUP, ActionKind::Removed)]);
    let fs = disk(&[(LEGACY, marked)]);
    assert_eq!(kinds(&named(&fs)), [(LEGACY, ActionKind::Promoted)]);
}

// ── What is an orphan ─────────────────────────────────────────────────────────────────────

#[test]
fn a_temp_file_whose_lock_is_held_is_left() {
    let fs = disk(&[(FILE, GOOD), (TEMP, NEW)]);
    let lock = fs.hold_lock(TEMP).unwrap();
    assert_eq!(kinds(&named(&fs)), [(TEMP, ActionKind::Left)]);
    drop(lock);
    assert_eq!(kinds(&named(&fs)), [(TEMP, ActionKind::Removed)]);
}

#[test]
fn a_temp_file_that_is_young_is_left_and_not_even_opened() {
    for temp in [TEMP, UUID, LEGACY] {
        let fs = disk(&[(temp, NEW)]);
        fs.set_modified(temp, now() - Duration::from_millis(59_999)).unwrap();
        assert_eq!(kinds(&named(&fs)), [(temp, ActionKind::Left)]);
        assert_eq!(common::count_of(&fs, OperationKind::OpenToChange), 0);
        let options = Options { min_age: Duration::ZERO, ..Options::default() };
        assert_eq!(kinds(&recover(&fs, FILE, options)), [(temp, ActionKind::Promoted)]);
        // A clock that has been set back makes nothing old.
        let fs = disk(&[(temp, NEW)]);
        fs.set_modified(temp, now() + Duration::from_secs(1)).unwrap();
        assert_eq!(kinds(&named(&fs)), [(temp, ActionKind::Left)]);
    }
}

/// A temp file as holdfast names it.
fn own_temp() -> &'static str {
    format!("/dir/{}", temp_name::new_name("state.json".as_ref()).display()).leak()
}

#[test]
fn a_fresh_temp_file_of_ours_is_dealt_with_at_once_if_its_lock_is_free() {
    for modified in [now(), now() - Duration::from_secs(1), now() + Duration::from_secs(1)] {
        for path in [FILE, "/dir"] {
            let temp = own_temp();
            let fs = disk(&[(FILE, GOOD), (temp, NEW)]);
            fs.set_modified(temp, modified).unwrap();
            let lock = fs.hold_lock(temp).unwrap();
            assert_eq!(kinds(&recover(&fs, path, Options::default())), [(temp, ActionKind::Left)]);
            drop(lock);
            // Where not every process sees the lock, its age decides.
            fs.set_sees_all_locks(false);
            assert_eq!(kinds(&recover(&fs, path, Options::default())), [(temp, ActionKind::Left)]);
            fs.set_sees_all_locks(true);
            let removed = [(temp, ActionKind::Removed)];
            assert_eq!(kinds(&recover(&fs, path, Options::default())), removed);
            assert_eq!(files(&fs), ["state.json"]);
        }
    }
    let temp = own_temp();
    let fs = disk(&[(temp, NEW)]);
    fs.set_modified(temp, now()).unwrap();
    assert_eq!(kinds(&named(&fs)), [(temp, ActionKind::Promoted)]);
}

#[test]
fn digits_without_a_check_keep_their_minute() {
    let own = own_temp();
    let mut other = own.to_owned();
    // The last digit before `.tmp`.
    let at = other.len() - 5;
    let digit = if &other[at..=at] == "0" { "1" } else { "0" };
    other.replace_range(at..=at, digit);
    let fs = disk(&[(FILE, GOOD), (&other, NEW)]);
    fs.set_modified(&other, now()).unwrap();
    assert_eq!(named(&fs)[0].kind, ActionKind::Left);
    fs.set_modified(&other, now() - Duration::from_secs(60)).unwrap();
    assert_eq!(named(&fs)[0].kind, ActionKind::Removed);
}

#[test]
fn a_time_far_in_the_future_counts_as_old_if_the_lock_is_free() {
    for temp in [TEMP, UUID, LEGACY] {
        let fs = disk(&[(FILE, GOOD), (temp, NEW)]);
        fs.set_modified(temp, now() + Duration::from_secs(86_400)).unwrap();
        let lock = fs.hold_lock(temp).unwrap();
        assert_eq!(kinds(&named(&fs)), [(temp, ActionKind::Left)]);
        drop(lock);
        assert_eq!(kinds(&named(&fs)), [(temp, ActionKind::Removed)]);
    }
}

#[test]
fn json_lines_and_json_with_comments_are_no_damage() {
    for good in [
        "{\"a\": 1}\n{\"a\": 2}\n",
        "{\"a\": 1}\r\n\r\n[2]\r\n3",
        "// settings\n{\n  \"turn\": 1, // one\n  /* two */ \"list\": [1, 2,],\n}\n",
        "{\"turn\": 1,}",
    ] {
        for path in [FILE, "/dir"] {
            for temp in [TEMP, LEGACY] {
                let fs = disk(&[(FILE, good.as_bytes()), (temp, b"{\"a\": 1}")]);
                let options = Options { legacy: true, ..Options::default() };
                assert_eq!(kinds(&recover(&fs, path, options)), [(temp, ActionKind::Removed)]);
                assert_eq!(read(&fs, FILE), good.as_bytes());
            }
        }
    }
}

/// It may be damaged, or a line of a log may just be missing its end: what is less is no mending.
#[test]
fn nothing_is_set_aside_for_a_temp_file_that_has_less() {
    let large = format!("{{\"a\": 1}}\n{{\"b\": \"{}\"}}\n{{\"c\": ", "x".repeat(3_000_000));
    for (file, temp) in [
        // JSON lines whose last one is cut off.
        ("{\"a\": 1}\n{\"a\": 2}\n{\"a", "{\"a\": 1}"),
        ("{\"a\": 1}\n{\"a\": 2}\n{\"a", "{\"b\": 777777}"),
        (large.as_str(), "{\"a\": 1}"),
        // A comment, and no end.
        ("// settings\n{\"turn\": 1, \"list\": [1", "{\"turn\": 1}"),
        // Whatever it is, it begins with what would replace it.
        ("{\"turn\": 1}garbage", "{\"turn\": 1}"),
    ] {
        for path in [FILE, "/dir"] {
            let fs = disk(&[(FILE, file.as_bytes()), (TEMP, temp.as_bytes())]);
            let actions = recover(&fs, path, Options::default());
            assert_eq!(kinds(&actions), [(FILE, ActionKind::Left), (TEMP, ActionKind::Left)]);
            assert_eq!(read(&fs, FILE), file.as_bytes());
            assert_eq!(files(&fs), [".state.json.0123456789abcdef.tmp", "state.json"]);
        }
    }
    // What has more mends it, and damage that is like nothing else is mended by what is whole.
    for (file, temp) in [
        ("{\"a\": 1}\n{\"a\": 2}\n{\"a", "{\"a\": 1, \"b\": \"more than there was\"}"),
        ("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "{\"turn\": 1}"),
    ] {
        let fs = disk(&[(FILE, file.as_bytes()), (TEMP, temp.as_bytes())]);
        assert_eq!(
            kinds(&named(&fs)),
            [(FILE, ActionKind::SetAside), (TEMP, ActionKind::Restored)]
        );
        assert_eq!(read(&fs, FILE), temp.as_bytes());
    }
}

#[test]
fn what_has_to_be_json_by_the_callers_word_is_not_replaced_by_less_either() {
    let lines = b"{\"a\": 1}\n{\"a\": 2}\n";
    let fs = disk(&[(FILE, lines), (TEMP, b"{\"a\": 1}")]);
    let options = Options { validate: Some(Format::Json), ..Options::default() };
    let actions = recover(&fs, FILE, options);
    assert_eq!(kinds(&actions), [(FILE, ActionKind::Left), (TEMP, ActionKind::Left)]);
    assert_eq!(read(&fs, FILE), lines);
}

#[test]
fn without_the_check_a_file_that_is_there_is_good() {
    for content in [TORN, b"{\"a\": 1}\n{\"a", b"anything"] {
        for path in [FILE, "/dir"] {
            let fs = disk(&[(FILE, content), (TEMP, NEW)]);
            let options = Options { checks_json: false, ..Options::default() };
            assert_eq!(kinds(&recover(&fs, path, options)), [(TEMP, ActionKind::Removed)]);
            assert_eq!(read(&fs, FILE), content);
        }
    }
}

#[test]
fn a_corrupt_file_with_nothing_beside_it_is_reported_in_a_dir_too() {
    let fs = disk(&[
        (FILE, TORN),
        ("/dir/empty.json", b""),
        ("/dir/good.json", GOOD),
        ("/dir/lines.JSON", b"{}\n{}\n"),
        ("/dir/note", b"no JSON"),
        ("/dir/state.json.corrupt-1", TORN),
        ("/dir/state.json.1.backup", TORN),
        ("/dir/below/other.json", TORN),
    ]);
    fs.put_dir("/dir/folder.json").unwrap();
    fs.put_link("/dir/link.json", "note").unwrap();
    let before = fs.paths();
    let left = |paths: &[&'static str]| -> Vec<_> {
        paths.iter().map(|path| (*path, ActionKind::Left)).collect()
    };
    let reported = |options| kinds(&recover(&fs, "/dir", options));
    assert_eq!(reported(Options::default()), left(&["/dir/empty.json", FILE]));
    let recursive = Options { recursive: true, ..Options::default() };
    let all = ["/dir/empty.json", FILE, "/dir/below/other.json"];
    assert_eq!(reported(recursive), left(&all));
    assert_eq!(reported(Options { checks_json: false, ..Options::default() }), []);
    let everything = Options { validate: Some(Format::Json), ..Options::default() };
    let all = ["/dir/empty.json", "/dir/lines.JSON", "/dir/note", FILE];
    assert_eq!(reported(everything), left(&all));
    assert_eq!(fs.paths(), before);
}

#[test]
fn a_writer_that_comes_in_between_keeps_its_file() {
    for path in [FILE, "/dir"] {
        // Whatever stands under the name by the time it is locked is not what was looked at.
        let fs = disk(&[(FILE, GOOD), (TEMP, NEW)]);
        let replace = |fs: &SimFs, _: &Path| {
            fs.take_away(TEMP).unwrap();
            fs.put_file(TEMP, b"another").unwrap();
        };
        fs.inject(Fault::intrude(replace).of(OperationKind::TryLock));
        assert_eq!(kinds(&recover(&fs, path, Options::default())), []);
        assert_eq!(read(&fs, TEMP), b"another");
    }
}

#[test]
fn nothing_is_overwritten_by_what_is_promoted() {
    for source in [TEMP, LEGACY, BACKUP] {
        let fs = disk(&[(source, NEW)]);
        let write = |fs: &SimFs, _: &Path| fs.put_file(FILE, b"[\"theirs\"]").unwrap();
        fs.inject(Fault::intrude(write).of(OperationKind::RenameNew));
        assert_eq!(kinds(&named(&fs)), [(source, ActionKind::Left)]);
        assert_eq!(read(&fs, FILE), b"[\"theirs\"]");
        assert_eq!(read(&fs, source), NEW);
    }
}

#[test]
fn a_file_that_is_written_while_it_is_set_aside_is_put_back() {
    let fs = disk(&[(FILE, TORN), (BACKUP, GOOD)]);
    let write = |fs: &SimFs, _: &Path| {
        fs.take_away(FILE).unwrap();
        fs.put_file(FILE, b"[\"theirs\"]").unwrap();
    };
    fs.inject(Fault::intrude(write).of(OperationKind::RenameNew));
    assert_eq!(kinds(&named(&fs)), [(BACKUP, ActionKind::Left)]);
    assert_eq!(files(&fs), ["state.json", "state.json.bak"]);
    assert_eq!(read(&fs, FILE), b"[\"theirs\"]");
}

#[test]
fn a_file_whose_lock_is_held_is_not_changed() {
    let fs = disk(&[(FILE, TORN), (TEMP, NEW), ("/dir/.other.0123456789abcdef.tmp", TORN)]);
    let held = |_: &Path| -> Taken { Ok(None) };
    let request = RecoveryRequest { path: "/dir".into(), options: Options::default(), now: now() };
    let actions = recovery::recover(&fs, &request, &held, &Control::default()).unwrap();
    let expected =
        [("/dir/.other.0123456789abcdef.tmp", ActionKind::Removed), (TEMP, ActionKind::Left)];
    assert_eq!(kinds(&actions), expected);
}

#[test]
fn what_is_found_after_the_lock_was_taken_decides() {
    let fs = disk(&[(FILE, TORN), (TEMP, NEW)]);
    let own = fs.clone();
    let late = move |_: &Path| -> Taken {
        own.put_file(FILE, GOOD).unwrap();
        Ok(Some(Box::new(())))
    };
    let request = RecoveryRequest { path: "/dir".into(), options: Options::default(), now: now() };
    let actions = recovery::recover(&fs, &request, &late, &Control::default()).unwrap();
    assert_eq!(kinds(&actions), [(TEMP, ActionKind::Removed)]);
    assert_eq!(read(&fs, FILE), GOOD);
}

#[test]
fn what_another_user_left_in_a_shared_dir_becomes_nothing() {
    let foreign = Attributes { mode: 0o666, uid: 2000, gid: 2000 };
    for (dir, user, is_taken) in [
        (Attributes { mode: 0o1777, uid: 0, gid: 0 }, 1000, false),
        (Attributes { mode: 0o1777, uid: 0, gid: 0 }, 0, false),
        (Attributes { mode: 0o1777, uid: 2000, gid: 0 }, 1000, true),
        (Attributes { mode: 0o777, uid: 0, gid: 0 }, 1000, true),
    ] {
        for source in [TEMP, BACKUP, LEGACY] {
            let fs = disk(&[(FILE, b"")]);
            fs.put_dir_with("/dir", dir).unwrap();
            fs.put_file_with(source, NEW, foreign).unwrap();
            fs.set_user(user, user);
            named(&fs);
            assert_eq!(read(&fs, FILE) == NEW, is_taken, "{dir:?}, {user}");
        }
    }
}

// ── Directories ───────────────────────────────────────────────────────────────────────────────

/// A crash leaves no intent that is damaged, so it cannot be told what it stood for.
#[test]
fn a_damaged_intent_of_a_transaction_is_reported_and_left_with_what_belongs_to_it() {
    let fs = disk(&[
        (FILE, GOOD),
        ("/dir/.state.json.0123456789abcdef.0.txn", NEW),
        ("/dir/.holdfast.0123456789abcdef.intent", NEW),
    ]);
    let before = fs.paths();
    let actions = recover(&fs, "/dir", Options::default());
    assert_eq!(actions.len(), 1);
    assert_eq!(actions[0].kind, ActionKind::Left);
    assert_eq!(actions[0].path, Path::new("/dir/.holdfast.0123456789abcdef.intent"));
    assert_eq!(fs.paths(), before);
}

fn of(content: &[u8]) -> Fingerprint {
    Fingerprint { size: content.len() as u64, hash: xxh3_128(content) }
}

/// A transaction of these files, decided or not, whose first directory is the first one here.
fn put_record(fs: &SimFs, kind: RecordKind, here: usize, dirs: &[&str], members: &[RecordMember]) {
    let id = TransactionId(1);
    let home = fs.inspect(dirs[0]).unwrap().id.inode;
    let path = Path::new(dirs[here]).join(transaction::names::record(id, kind));
    let dirs = dirs.iter().map(PathBuf::from).collect();
    let record = Record { id, home, here, dirs, ways: Vec::new(), members: members.to_vec() };
    fs.put_file(path, &record.encode().unwrap()).unwrap();
}

/// One of its files was damaged while it was waiting to be put into its place. Whether another is
/// to be there is still for the transaction to say, and not for what lies beside it.
#[test]
fn a_file_of_a_transaction_that_cannot_be_finished_is_left_to_it() {
    let staged = "/dir/.other.json.0000000000000001.1.txn";
    let member = |name: &str, before: Option<&[u8]>, after| RecordMember {
        dir: 0,
        name: name.into(),
        before: before.map(of),
        after,
    };
    let members =
        [member("state.json", Some(GOOD), None), member("other.json", None, Some(of(NEW)))];
    for path in ["/dir", FILE] {
        let fs = disk(&[(BACKUP, GOOD), (TEMP, NEW), (staged, TORN)]);
        put_record(&fs, RecordKind::Intent, 0, &["/dir"], &members);
        let before = fs.paths();
        let options = || Options { legacy: true, promote: Some(true), ..Options::default() };
        for _ in 0..2 {
            let actions = recover(&fs, path, options());
            assert!(actions.iter().all(|action| action.kind == ActionKind::Left), "{actions:?}");
            assert_eq!(fs.paths(), before);
        }
        // Once the content is whole it is finished, and what is beside the file is judged.
        fs.put_file(staged, NEW).unwrap();
        recover(&fs, path, options());
        assert_eq!(read(&fs, "/dir/other.json"), NEW);
        recover(&fs, path, options());
        assert!(files(&fs).iter().all(|name| !name.contains("holdfast")), "{:?}", files(&fs));
    }
}

/// What bears the same id and is decided is another transaction, or something unknown.
#[test]
fn a_record_that_is_not_decided_does_not_take_a_decision_in_another_dir_back() {
    let fs = disk(&[(FILE, GOOD)]);
    fs.put_dir("/other").unwrap();
    let member =
        RecordMember { dir: 0, name: "gone.json".into(), before: Some(of(GOOD)), after: None };
    put_record(&fs, RecordKind::Prepared, 0, &["/dir", "/other"], std::slice::from_ref(&member));
    put_record(&fs, RecordKind::Intent, 0, &["/other"], &[member]);
    let intent = "/other/.holdfast.0000000000000001.intent";
    let kept = read(&fs, intent);
    recover(&fs, "/dir", Options::default());
    assert_eq!(files(&fs), ["state.json"]);
    assert_eq!(read(&fs, intent), kept);
}

#[test]
fn in_a_dir_only_own_names_are_touched_unless_it_says_legacy() {
    let bystanders: &[(&str, &[u8])] = &[
        ("/dir/state.json", GOOD),
        ("/dir/state.json.tmp", NEW),
        ("/dir/state.json.bak", NEW),
        ("/dir/.state.json.lock", b""),
        ("/dir/.state.json.0123456789abcdeF.tmp", NEW),
        ("/dir/.state.json.0123456789abcde.tmp", NEW),
        ("/dir/..0123456789abcdef.tmp", NEW),
        ("/dir/.0123456789abcdef.tmp", NEW),
        ("/dir/state.json.0123456789abcdef.tmp", NEW),
        ("/dir/state.json.1.backup", NEW),
        ("/dir/state.json.corrupt-1", TORN),
    ];
    let fs = disk(bystanders);
    fs.put_dir("/dir/.folder.0123456789abcdef.tmp").unwrap();
    fs.put_link("/dir/.link.0123456789abcdef.tmp", "state.json").unwrap();
    let before = fs.paths();
    assert_eq!(kinds(&recover(&fs, "/dir", Options::default())), []);
    assert_eq!(fs.paths(), before);

    // No file, so no record, whichever user made it.
    let (dir, link) =
        ("/dir/.holdfast.0123456789abcdef.intent", "/dir/.holdfast.fedcba9876543210.prepared");
    let fs = disk(&[(FILE, GOOD)]);
    fs.put_dir(dir).unwrap();
    fs.put_link(link, "state.json").unwrap();
    let before = fs.paths();
    let actions = recover(&fs, "/dir", Options::default());
    assert_eq!(kinds(&actions), [(dir, ActionKind::Left), (link, ActionKind::Left)]);
    assert_eq!(kinds(&named(&fs)), []);
    assert_eq!(fs.paths(), before);

    // What a transaction has left is completed by its own rules; a record that is none is left.
    let record = "/dir/.holdfast.0123456789abcdef.intent";
    let staged = "/dir/.state.json.0123456789abcdef.0.txn";
    let fs = disk(&[(FILE, GOOD), (record, NEW), (staged, NEW)]);
    let before = fs.paths();
    assert_eq!(kinds(&recover(&fs, "/dir", Options::default())), [(record, ActionKind::Left)]);
    assert_eq!(fs.paths(), before);

    let fs = disk(&[(FILE, GOOD), (LEGACY, NEW), (BACKUP, NEW), ("/dir/lost.bak", GOOD)]);
    let options = Options { legacy: true, ..Options::default() };
    let actions = recover(&fs, "/dir", options);
    let expected = [
        ("/dir/lost.bak", ActionKind::Restored),
        (LEGACY, ActionKind::Removed),
        (BACKUP, ActionKind::Removed),
    ];
    assert_eq!(kinds(&actions), expected);
    assert_eq!(files(&fs), ["lost", "state.json"]);
}

#[test]
fn dirs_below_are_dealt_with_when_that_is_wanted() {
    let below = "/dir/a/b/.x.0123456789abcdef.tmp";
    let fs = disk(&[(FILE, GOOD), (TEMP, NEW), (below, TORN)]);
    fs.put_link("/dir/link", "/elsewhere").unwrap();
    fs.put_file("/elsewhere/.x.0123456789abcdef.tmp", TORN).unwrap();
    assert_eq!(kinds(&recover(&fs, "/dir", Options::default())), [(TEMP, ActionKind::Removed)]);
    let options = Options { recursive: true, ..Options::default() };
    assert_eq!(kinds(&recover(&fs, "/dir", options)), [(below, ActionKind::Removed)]);
    assert!(fs.read_file("/elsewhere/.x.0123456789abcdef.tmp").is_ok());
}

#[test]
fn one_bad_entry_does_not_hide_the_others() {
    let (dark, closed) = ("/dir/a.dark", "/dir/.b.json.0123456789abcdef.tmp");
    let fs = disk(&[(FILE, GOOD), (TEMP, NEW)]);
    let foreign = Attributes { mode: 0, uid: 2000, gid: 2000 };
    fs.put_dir_with(dark, foreign).unwrap();
    fs.put_file_with(closed, NEW, foreign).unwrap();
    let options = Options { recursive: true, ..Options::default() };
    let actions = recover(&fs, "/dir", options);
    let expected =
        [(closed, ActionKind::Failed), (TEMP, ActionKind::Removed), (dark, ActionKind::Failed)];
    assert_eq!(kinds(&actions), expected);
    let ErrorKind::System(failure) = &actions[0].error.as_ref().unwrap().kind else { panic!() };
    assert_eq!(failure.code(), Some(Code::EACCES));
    assert_eq!(failure.path.as_deref(), Some(Path::new(closed)));
}

#[test]
fn a_name_that_was_cut_short_is_not_mistaken_for_another_file() {
    // As the first versions have cut it.
    let long = "n".repeat(240) + ".json";
    let temp = format!("/dir/.{}.{:016x}.tmp", &long[..233], 7);
    let file = format!("/dir/{long}");
    let fs = disk(&[(&temp, NEW)]);
    assert_eq!(
        kinds(&recover(&fs, &file, Options::default())),
        [(temp.as_str(), ActionKind::Left)]
    );
    let options = Options { promote: Some(true), ..Options::default() };
    assert_eq!(kinds(&recover(&fs, "/dir", options)), [(temp.as_str(), ActionKind::Left)]);
    assert_eq!(
        kinds(&recover(&fs, "/dir", Options::default())),
        [(temp.as_str(), ActionKind::Removed)]
    );
}

#[test]
fn a_temp_file_whose_name_was_shortened_is_known_by_the_hash_in_it() {
    let long = "n".repeat(240) + ".json";
    for limit in [255, 143] {
        let name = |number| {
            let within = |number| holdfast::temp_name::name_within(long.as_ref(), number, limit);
            Path::new("/dir").join(within(number)).into_os_string().into_string().unwrap()
        };
        let (temp, other) = (name(7), name(8));
        let file = format!("/dir/{long}");
        let actions = kinds_of_recovery(&[(&temp, NEW)], &file, Options::default());
        assert_eq!(actions, [(temp.clone(), ActionKind::Promoted)]);
        let options = Options { promote: Some(true), ..Options::default() };
        // Nothing says what the file is called.
        let actions = kinds_of_recovery(&[(&temp, NEW)], "/dir", options.clone());
        assert_eq!(actions, [(temp.clone(), ActionKind::Left)]);
        // The file is there, and so is another one that begins alike.
        let alike = file.replace("n.json", "m.json");
        let disk = [(temp.as_str(), NEW), (&other, TORN), (&file, TORN), (&alike, NEW)];
        let actions = kinds_of_recovery(&disk, "/dir", options);
        assert!(actions.contains(&(temp.clone(), ActionKind::Restored)), "{actions:?}");
        assert!(actions.contains(&(other, ActionKind::Removed)), "{actions:?}");
    }
}

fn kinds_of_recovery(
    files: &[(&str, &[u8])],
    path: &str,
    options: Options,
) -> Vec<(String, ActionKind)> {
    let fs = disk(files);
    let actions = recover(&fs, path, options);
    kinds(&actions).into_iter().map(|(path, kind)| (path.to_owned(), kind)).collect()
}

#[test]
fn thousands_of_orphans_of_one_file_are_dealt_with_without_opening_them_all() {
    for (dry_run, whole) in [(false, 1500), (true, 1500), (false, 0)] {
        let fs = disk(&[(BACKUP, TORN)]);
        fs.set_modified(BACKUP, at(1)).unwrap();
        let temp = |number: u64| {
            let name = holdfast::temp_name::name_with("state.json".as_ref(), number);
            Path::new("/dir").join(name)
        };
        for number in 0..2000 {
            // The newest are torn; of the whole ones each says what it is.
            let text = format!("{{\"number\": {number}}}");
            let text = if number < whole { text.as_bytes() } else { TORN };
            fs.put_file(temp(number), text).unwrap();
            fs.set_modified(temp(number), at(10 + number)).unwrap();
        }
        let most = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for number in 1..=50 {
            let most = most.clone();
            let look = move |fs: &SimFs, _: &Path| {
                let (open, _) = fs.open_handles();
                most.fetch_max(open, std::sync::atomic::Ordering::Relaxed);
            };
            fs.inject(Fault::intrude(look).of(OperationKind::TryLock).at(number));
        }
        let actions = recover(&fs, FILE, Options { dry_run, ..Options::default() });
        assert!(most.load(std::sync::atomic::Ordering::Relaxed) <= 40);
        let count = |act| actions.iter().filter(|action| action.kind == act).count();
        assert_eq!((count(ActionKind::Left), count(ActionKind::Failed)), (0, 0));
        if whole == 0 {
            // Then the backup has to do, such as it is.
            assert_eq!((count(ActionKind::Restored), count(ActionKind::Removed)), (1, 2000));
            assert_eq!(read(&fs, FILE), TORN);
            continue;
        }
        let promoted = actions.iter().find(|action| action.kind == ActionKind::Promoted).unwrap();
        assert_eq!(promoted.path, temp(1499));
        assert_eq!((count(ActionKind::Promoted), count(ActionKind::Restored)), (1, 0));
        assert!(count(ActionKind::Removed) >= 2000, "{}", count(ActionKind::Removed));
        if !dry_run {
            assert_eq!(read(&fs, FILE), b"{\"number\": 1499}");
            assert_eq!(files(&fs), ["state.json"]);
        }
    }
}

// ── The rest ──────────────────────────────────────────────────────────────────────────────

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let scenes: &[&[(&str, &[u8])]] = &[
        &[(TEMP, NEW), (OTHER, TORN), (BACKUP, GOOD)],
        &[(FILE, TORN), (TEMP, NEW), (BACKUP, GOOD)],
        &[(FILE, GOOD), (LEGACY, NEW), (BACKUP, GOOD)],
        &[(FILE, TORN), (LEGACY, TORN), (BACKUP, TORN)],
    ];
    for scene in scenes {
        let fs = disk(scene);
        let before = fs.describe();
        let options = Options { dry_run: true, ..Options::default() };
        let said = recover(&fs, FILE, options);
        assert_eq!(fs.describe(), before);
        for kind in [OperationKind::SyncFile, OperationKind::SyncDir, OperationKind::Write] {
            assert_eq!(common::count_of(&fs, kind), 0);
        }
        let done = named(&fs);
        assert_eq!(kinds(&said), kinds(&done));
    }
}

#[test]
fn what_cannot_be_looked_at_at_all_is_an_error() {
    let fs = disk(&[]);
    fs.put_link("/dir/loop", "loop").unwrap();
    for (path, code) in [("/missing/file", Code::ENOENT), ("/dir/loop", Code::ELOOP)] {
        let request =
            RecoveryRequest { path: path.into(), options: Options::default(), now: now() };
        let error = recovery::recover(&fs, &request, &free, &Control::default()).unwrap_err();
        let ErrorKind::System(failure) = error else { panic!("{error}") };
        assert_eq!(failure.code(), Some(code));
    }
    let control = Control::default();
    control.cancel();
    let fs = disk(&[(TEMP, TORN)]);
    let request = RecoveryRequest { path: "/dir".into(), options: Options::default(), now: now() };
    let error = recovery::recover(&fs, &request, &free, &control).unwrap_err();
    assert!(matches!(error, ErrorKind::Cancelled));
    assert!(fs.read_file(TEMP).is_ok());
}

#[test]
fn what_is_cancelled_in_the_middle_of_a_file_is_said_to_be() {
    for count in [1, 100] {
        let fs = disk(&[]);
        for number in 0..count {
            let name = holdfast::temp_name::name_with("state.json".as_ref(), number);
            fs.put_file(Path::new("/dir").join(name), NEW).unwrap();
        }
        let control = std::sync::Arc::new(Control::default());
        let own = control.clone();
        fs.inject(
            Fault::intrude(move |_, _| own.cancel()).of(OperationKind::TryLock).at(count / 2 + 1),
        );
        let request =
            RecoveryRequest { path: FILE.into(), options: Options::default(), now: now() };
        let outcome = recovery::recover(&fs, &request, &free, &control);
        assert!(matches!(outcome, Err(ErrorKind::Cancelled)), "{count}: {outcome:?}");
    }
}

#[test]
fn a_file_behind_a_link_is_recovered_where_it_is() {
    let fs = disk(&[(TEMP, NEW)]);
    fs.put_link("/link.json", FILE).unwrap();
    assert_eq!(
        kinds(&recover(&fs, "/link.json", Options::default())),
        [(TEMP, ActionKind::Promoted)]
    );
    assert_eq!(read(&fs, FILE), NEW);
}

#[test]
fn a_dir_that_cannot_be_listed_still_gives_what_has_a_known_name() {
    let fs = disk(&[]);
    let unlisted = Attributes { mode: 0o333, uid: 1000, gid: 1000 };
    fs.put_dir_with("/dark", unlisted).unwrap();
    fs.put_file("/dark/state.json.bak", GOOD).unwrap();
    let actions = recover(&fs, "/dark/state.json", Options::default());
    let expected = [("/dark", ActionKind::Failed), ("/dark/state.json.bak", ActionKind::Restored)];
    assert_eq!(kinds(&actions), expected);
}

#[test]
fn a_recovery_that_was_cut_off_is_finished_by_the_next_one_in_the_dir() {
    // The corrupt file is aside, and its successor, a moment old by now, not in place yet.
    let aside = format!("{FILE}.corrupt-1700000000000");
    let fs = disk(&[(&aside, TORN), (TEMP, NEW)]);
    fs.set_modified(TEMP, now() - Duration::from_secs(1)).unwrap();
    let before = fs.after_kill();
    assert_eq!(kinds(&recover(&fs, "/dir", Options::default())), [(TEMP, ActionKind::Restored)]);
    // Without the one that was set aside it is an ordinary temp file, and a young one.
    before.take_away(&aside).unwrap();
    assert_eq!(kinds(&recover(&before, "/dir", Options::default())), [(TEMP, ActionKind::Left)]);
}
