//! The attributes of a file that gets another content: its mode, its owner, its access control list
//! and what users have set stay, through power cuts, through failures, and if they are changed
//! meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod common;

use holdfast::error::{Code, ErrorKind};
use holdfast::fs::{ACCESS_LIST, ExtendedAttributes};
use holdfast::payload::Payload;
use holdfast::write::{Durability, Options, WriteRequest};
use holdfast_sim::{Attributes, Fault, Model, OperationKind, SimFs};

use common::{DURABILITIES, write};

const FILE: &str = "/box/file";
const OLD: &[u8] = b"old";
const NEW: &[u8] = b"new content";

const OWN: Attributes = Attributes { mode: 0o660, uid: 1000, gid: 1000 };

/// `user::rw-,user:1001:rw-,group::---,mask::rw-,other::---`
fn list() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (0x01_u16, 6_u16, u32::MAX),
        (0x02, 6, 1001),
        (0x04, 0, u32::MAX),
        (0x10, 6, u32::MAX),
        (0x20, 0, u32::MAX),
    ] {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&rights.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn disk(keeps_order: bool) -> SimFs {
    let fs = SimFs::new();
    fs.set_keeps_order(keeps_order);
    fs.put_file_with(FILE, OLD, OWN).unwrap();
    fs
}

fn disk_with_list(keeps_order: bool) -> SimFs {
    let fs = disk(keeps_order);
    fs.put_extended(FILE, ACCESS_LIST, Some(&list())).unwrap();
    fs.put_extended(FILE, "user.note", Some(b"kept")).unwrap();
    fs
}

fn request(durability: Durability) -> WriteRequest {
    let options = Options { durability, attempts: 1, ..Options::default() };
    WriteRequest { path: FILE.into(), payload: Payload::Owned(NEW.to_vec()), options }
}

/// The number of the operation that renames the temp file.
fn rename_in(fs: &SimFs) -> u64 {
    let log = fs.log();
    log.iter().find(|performed| performed.kind == OperationKind::Rename).unwrap().number
}

/// The mode and the extended attributes of the new file, or nothing if the old one is there.
fn new_file(fs: &SimFs) -> Option<(u32, ExtendedAttributes)> {
    let content = fs.read_file(FILE).unwrap();
    assert!(*content == NEW || *content == OLD, "torn");
    (*content == NEW).then(|| (fs.inspect(FILE).unwrap().mode, fs.extended(FILE).unwrap()))
}

#[test]
fn what_is_forbidden_at_any_moment_before_the_rename_stays_forbidden() {
    let mut moments = 0;
    for keeps_order in [false, true] {
        for durability in DURABILITIES {
            let fs = disk(keeps_order);
            write(&fs, &request(durability)).unwrap();
            for moment in 1..rename_in(&fs) {
                let fs = disk(keeps_order);
                let private = Attributes { mode: 0o600, ..OWN };
                let forbid = move |fs: &SimFs, _: &_| fs.put_file_with(FILE, OLD, private).unwrap();
                fs.inject(Fault::intrude(forbid).at(moment));
                write(&fs, &request(durability)).unwrap();
                let at = format!("{durability:?}, before operation {moment}:\n{}", fs.log_text());
                assert_eq!(fs.inspect(FILE).unwrap().mode, 0o600, "{at}");
                if durability == Durability::Full {
                    for model in [Model::StrictPosix, Model::OrderedMetadata] {
                        if keeps_order && model == Model::StrictPosix {
                            continue;
                        }
                        for state in fs.crash_states(model, 1000) {
                            let found = new_file(&state.fs).map(|(mode, _)| mode);
                            assert_eq!(found, Some(0o600), "{}\n{at}", state.description);
                        }
                    }
                }
                moments += 1;
            }
        }
    }
    println!("{moments} moments");
    assert!(moments > 60);
}

#[test]
fn an_owner_that_is_changed_meanwhile_stays() {
    let fs = disk(true);
    fs.set_user(0, 0);
    let given = Attributes { uid: 1001, gid: 1002, ..OWN };
    let give = move |fs: &SimFs, _: &_| fs.put_file_with(FILE, OLD, given).unwrap();
    fs.inject(Fault::intrude(give).of(OperationKind::AwaitWriteBack));
    write(&fs, &request(Durability::Full)).unwrap();
    let found = fs.inspect(FILE).unwrap();
    assert_eq!((found.uid, found.gid, found.mode), (1001, 1002, 0o660));
}

#[test]
fn a_list_that_is_set_meanwhile_is_kept() {
    let fs = disk(false);
    let set = |fs: &SimFs, _: &_| fs.put_extended(FILE, ACCESS_LIST, Some(&list())).unwrap();
    fs.inject(Fault::intrude(set).of(OperationKind::SyncFile));
    write(&fs, &request(Durability::Full)).unwrap();
    assert_eq!(fs.extended(FILE).unwrap().access_list(), Some(list().as_slice()));
}

#[test]
fn a_power_cut_leaves_the_new_content_only_with_the_list_of_the_old() {
    let mut states = 0;
    for keeps_order in [false, true] {
        let models: &[Model] = match keeps_order {
            true => &[Model::OrderedMetadata],
            false => Model::ALL,
        };
        for durability in [Durability::File, Durability::Full] {
            let fs = disk_with_list(keeps_order);
            write(&fs, &request(durability)).unwrap();
            let count = fs.count();
            assert_eq!(new_file(&fs).unwrap().1, disk_with_list(false).extended(FILE).unwrap());
            for moment in 1..=count + 1 {
                let fs = disk_with_list(keeps_order);
                fs.inject(Fault::power_off().at(moment).for_ever());
                let outcome = write(&fs, &request(durability));
                assert_eq!(outcome.is_ok(), moment > count);
                for model in models {
                    for state in fs.crash_states(*model, 1000) {
                        states += 1;
                        let Some((mode, extended)) = new_file(&state.fs) else { continue };
                        let at = &state.description;
                        assert_eq!(mode, 0o660, "{at}");
                        assert_eq!(extended.access_list(), Some(list().as_slice()), "{at}");
                        assert_eq!(extended.get("user.note".as_ref()), Some(b"kept".as_slice()));
                    }
                }
            }
        }
    }
    println!("{states} states");
    assert!(states > 100);
}

#[test]
fn what_cannot_be_kept_opens_the_file_to_nobody() {
    for code in [Code::EPERM, Code::EACCES, Code::ENOTSUP, Code::EINVAL] {
        let fs = disk_with_list(true);
        fs.inject(Fault::fail(code).of(OperationKind::SetExtended).for_ever());
        write(&fs, &request(Durability::Full)).unwrap();
        // The group had no access: its bits were the mask.
        assert_eq!(new_file(&fs), Some((0o600, ExtendedAttributes::default())), "{code:?}");
    }
}

#[test]
fn a_list_that_cannot_be_set_for_lack_of_space_fails_the_write() {
    for kind in [OperationKind::Extended, OperationKind::FileExtended, OperationKind::SetExtended] {
        let fs = disk_with_list(true);
        fs.inject(Fault::fail(Code::ENOSPC).of(kind).for_ever());
        let error = write(&fs, &request(Durability::Full)).unwrap_err();
        let ErrorKind::System(failure) = &error.kind else { panic!("{error}") };
        assert_eq!(failure.code(), Some(Code::ENOSPC));
        assert!(!error.committed);
        assert_eq!(new_file(&fs), None);
        assert_eq!(fs.list("/box").unwrap().len(), 1);
    }
}

#[test]
fn a_mode_that_is_asked_for_is_the_mask_of_the_list() {
    let fs = disk_with_list(true);
    let mut request = request(Durability::Full);
    request.options.mode = Some(0o640);
    write(&fs, &request).unwrap();
    let (mode, extended) = new_file(&fs).unwrap();
    assert_eq!(mode, 0o640);
    let mut narrower = list();
    narrower[4 + 3 * 8 + 2] = 4;
    assert_eq!(extended.access_list(), Some(narrower.as_slice()));
    assert_eq!(extended.get("user.note".as_ref()), Some(b"kept".as_slice()));
}

#[test]
fn a_mode_that_the_file_system_does_not_keep_is_an_error_where_less_was_asked_for() {
    let fs = disk(true);
    let open = |mode: u32| {
        move |fs: &SimFs, path: &std::path::Path| {
            let attributes = Attributes { mode, ..OWN };
            fs.put_file_with(path, NEW, attributes).unwrap();
        }
    };
    for (asked, has, is_kept) in [(0o600, 0o755, false), (0o755, 0o755, true), (0o777, 0o755, true)]
    {
        let mut request = request(Durability::Full);
        request.options.mode = Some(asked);
        // What the file system makes of it: nothing, and the file has the mode that all have.
        fs.inject(Fault::intrude(open(has)).of(OperationKind::FileExtended));
        fs.inject(Fault::ignore().of(OperationKind::SetMode));
        let outcome = write(&fs, &request);
        fs.repair();
        assert_eq!(outcome.is_ok(), is_kept, "{asked:o}: {outcome:?}");
        if let Err(error) = outcome {
            let ErrorKind::System(failure) = &error.kind else { panic!("{error}") };
            assert_eq!((failure.code(), failure.syscall), (Some(Code::ENOTSUP), "fchmod"));
            assert_eq!(failure.path.as_deref(), Some(FILE.as_ref()));
            assert_eq!(fs.list("/box").unwrap().len(), 1);
        }
    }
}

#[test]
fn a_file_without_anything_extended_costs_three_looks_more() {
    let fs = disk(true);
    write(&fs, &request(Durability::Full)).unwrap();
    let counts = |kind| fs.log().iter().filter(|performed| performed.kind == kind).count();
    assert_eq!(counts(OperationKind::Extended), 1);
    assert_eq!(counts(OperationKind::FileExtended), 1);
    assert_eq!(counts(OperationKind::SetExtended), 0);
    let fs = SimFs::new();
    fs.put_dir("/box").unwrap();
    write(&fs, &request(Durability::Full)).unwrap();
    let extended =
        [OperationKind::Extended, OperationKind::FileExtended, OperationKind::SetExtended];
    assert!(
        !fs.log().iter().any(|performed| extended.contains(&performed.kind)),
        "{}",
        fs.log_text()
    );
}
