//! The real file system on Windows.
//!
//! Most of this runs under Wine too. Where Wine is known to behave differently from
//! Windows, the test says so and holds only Windows to the promise.

#![cfg(windows)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::AsRawHandle;
use std::path::Path;

use holdfast::error::Code;
use holdfast::fs::os::{DirHandle, FileHandle, Os};
use holdfast::fs::{DirUse, FileKind, FileSystem};
use holdfast::json_update;
use holdfast::payload::Chunk;
use holdfast::write::Durability;
use windows_sys::Win32::Storage::FileSystem::{
    LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx,
};
use windows_sys::Win32::System::IO::{OVERLAPPED, OVERLAPPED_0, OVERLAPPED_0_0};

fn open(path: &Path) -> DirHandle {
    Os.open_dir(path, DirUse::NamesAndSync).unwrap()
}

fn place() -> (tempfile::TempDir, DirHandle) {
    let place = tempfile::tempdir().unwrap();
    let dir = open(place.path());
    (place, dir)
}

fn make(dir: &DirHandle, name: &str, content: &[u8]) -> FileHandle {
    let file = Os.create_new(dir, OsStr::new(name), 0o644).unwrap();
    assert_eq!(Os.write(&file, Chunk::Slice(content)).unwrap(), content.len());
    file
}

fn replace(dir: &DirHandle, file: &FileHandle, from: &str, to: &str) -> io::Result<()> {
    Os.rename(dir, file, OsStr::new(from), OsStr::new(to))
}

fn code<T>(outcome: io::Result<T>) -> Code {
    let error = outcome.err().expect("an error");
    Code::of(&error).unwrap_or_else(|| panic!("an error with a name: {error:?}"))
}

fn names(path: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    names
}

fn is_wine() -> bool {
    unsafe extern "system" {
        fn GetModuleHandleA(name: *const u8) -> *const u8;
        fn GetProcAddress(module: *const u8, name: *const u8) -> *const u8;
    }
    // SAFETY: both names end with a zero, and the module stays loaded.
    unsafe {
        let kernel = GetModuleHandleA(c"ntdll.dll".as_ptr().cast());
        !GetProcAddress(kernel, c"wine_get_version".as_ptr().cast()).is_null()
    }
}

#[test]
fn a_new_file_holds_what_was_written_to_it() {
    let (place, dir) = place();
    let file = make(&dir, "new", b"one ");
    assert_eq!(Os.write(&file, Chunk::Slice(b"two")).unwrap(), 3);
    Os.report_write_errors(&file).unwrap();
    Os.sync_file(&file).unwrap();
    let known = Os.file_metadata(&file).unwrap();
    assert_eq!((known.size, known.kind), (7, FileKind::File));
    assert_eq!(Os.metadata(&dir, OsStr::new("new")).unwrap(), known);
    assert_eq!(fs::read(place.path().join("new")).unwrap(), b"one two");
}

#[test]
fn reading_does_not_move_the_place_where_the_next_write_goes() {
    let (place, dir) = place();
    let file = make(&dir, "new", b"abcdef");
    let mut buffer = [0; 4];
    assert_eq!(Os.read(&file, &mut buffer, 1).unwrap(), 4);
    assert_eq!(&buffer, b"bcde");
    assert_eq!(Os.write(&file, Chunk::Slice(b"gh")).unwrap(), 2);
    assert_eq!(Os.read(&file, &mut buffer, 6).unwrap(), 2);
    assert_eq!(&buffer[..2], b"gh");
    assert_eq!(Os.read(&file, &mut buffer, 8).unwrap(), 0, "at the end");
    assert_eq!(Os.read(&file, &mut buffer, 1 << 40).unwrap(), 0, "far behind the end");
    assert_eq!(Os.write(&file, Chunk::Slice(b"")).unwrap(), 0);
    assert_eq!(fs::read(place.path().join("new")).unwrap(), b"abcdefgh");
}

#[test]
fn memory_of_the_caller_is_written_and_memory_that_is_gone_is_an_error() {
    let (place, dir) = place();
    let file = make(&dir, "new", b"<");
    let memory = vec![b'x'; 100_000];
    let there = Chunk::Memory { address: memory.as_ptr().expose_provenance(), length: 100_000 };
    assert_eq!(Os.write(&file, there).unwrap(), 100_000);
    let gone = Chunk::Memory { address: 0x1_0000 - 16, length: 8 };
    assert_eq!(code(Os.write(&file, gone)), Code::EFAULT);
    assert_eq!(Os.write(&file, Chunk::Slice(b">")).unwrap(), 1);
    let written = fs::read(place.path().join("new")).unwrap();
    assert_eq!(
        (written.len(), written.first(), written.last()),
        (100_002, Some(&b'<'), Some(&b'>'))
    );
}

#[test]
fn an_existing_file_is_opened_for_reading_and_keeps_nobody_out() {
    use std::os::windows::fs::OpenOptionsExt;
    const READ_AND_WRITE: u32 = 3;
    let (place, dir) = place();
    let path = place.path().join("file");
    fs::write(&path, "content").unwrap();
    let writer = fs::OpenOptions::new().write(true).share_mode(READ_AND_WRITE).open(&path);
    let file = Os.open(&dir, OsStr::new("file")).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(Os.read(&file, &mut buffer, 3).unwrap(), 4);
    assert_eq!(&buffer[..4], b"tent");
    assert_eq!(Os.file_metadata(&file).unwrap(), Os.metadata(&dir, OsStr::new("file")).unwrap());
    assert_eq!(code(Os.write(&file, Chunk::Slice(b"x"))), Code::EPERM);
    drop(writer.unwrap());
    fs::create_dir(place.path().join("folder")).unwrap();
    assert_eq!(code(Os.open(&dir, OsStr::new("folder"))), Code::EISDIR);
    assert_eq!(code(Os.open(&dir, OsStr::new("missing"))), Code::ENOENT);
    assert_eq!(code(Os.open(&dir, OsStr::new("file:stream"))), Code::EINVAL);
}

#[test]
fn a_name_that_is_taken_is_not_opened() {
    let (place, dir) = place();
    drop(make(&dir, "file", b"kept"));
    fs::create_dir(place.path().join("folder")).unwrap();
    for name in ["file", "FILE", "folder"] {
        assert_eq!(code(Os.create_new(&dir, OsStr::new(name), 0o644)), Code::EEXIST, "{name}");
    }
    assert_eq!(fs::read(place.path().join("file")).unwrap(), b"kept");
}

#[test]
fn a_dangling_link_is_a_name_that_is_taken() {
    let (place, dir) = place();
    let link = place.path().join("link");
    // Needs a privilege on Windows; Wine says that it has made the link and has not.
    let made = std::os::windows::fs::symlink_file("nowhere", &link);
    if made.is_err() || fs::symlink_metadata(&link).is_err() {
        return;
    }
    assert_eq!(Os.metadata(&dir, OsStr::new("link")).unwrap().kind, FileKind::Link);
    assert_eq!(Os.read_link(&dir, OsStr::new("link")).unwrap(), Path::new("nowhere"));
    assert_eq!(code(Os.create_new(&dir, OsStr::new("link"), 0o644)), Code::EEXIST);
    assert_eq!(code(Os.open(&dir, OsStr::new("link"))), Code::ELOOP);
    Os.remove(&dir, OsStr::new("link")).unwrap();
    assert!(names(place.path()).is_empty());
}

#[test]
fn a_file_that_is_no_link_cannot_be_read_as_one() {
    let (_place, dir) = place();
    drop(make(&dir, "file", b""));
    assert_eq!(code(Os.read_link(&dir, OsStr::new("file"))), Code::EINVAL);
}

#[test]
fn names_that_would_lead_elsewhere_are_refused() {
    let (place, dir) = place();
    for name in ["", ".", "..", "a/b", r"a\b", r"..\a", "file:stream", "C:a", "a\0b"] {
        let name = OsStr::new(name);
        assert_eq!(code(Os.create_new(&dir, name, 0o644)), Code::EINVAL, "{name:?}");
        assert_eq!(code(Os.metadata(&dir, name)), Code::EINVAL, "{name:?}");
        assert_eq!(code(Os.remove(&dir, name)), Code::EINVAL, "{name:?}");
        assert_eq!(code(Os.read_link(&dir, name)), Code::EINVAL, "{name:?}");
    }
    let file = make(&dir, "temp", b"");
    assert_eq!(code(replace(&dir, &file, "temp", "a:b")), Code::EINVAL);
    assert_eq!(code(replace(&dir, &file, "temp", r"..\a")), Code::EINVAL);
    assert_eq!(names(place.path()), ["temp"]);
}

#[test]
fn the_longest_name_is_taken_and_one_more_character_is_not() {
    let (place, dir) = place();
    let (longest, longer) = ("n".repeat(255), "n".repeat(256));
    let file = make(&dir, "temp", b"long");
    assert_eq!(code(replace(&dir, &file, "temp", &longer)), Code::ENAMETOOLONG);
    assert_eq!(code(Os.metadata(&dir, OsStr::new(&longer))), Code::ENAMETOOLONG);
    replace(&dir, &file, "temp", &longest).unwrap();
    assert_eq!(names(place.path()), [longest.as_str()]);
}

#[test]
fn names_need_not_be_valid_unicode() {
    let (place, dir) = place();
    let name = OsString::from_wide(&[0x61, 0xD800, 0x62]);
    let Ok(file) = Os.create_new(&dir, &name, 0o644) else {
        // Wine keeps names in UTF-8 on the disk.
        assert!(is_wine());
        return;
    };
    Os.write(&file, Chunk::Slice(b"odd")).unwrap();
    assert_eq!(names(place.path()), [name.as_os_str()]);
    Os.remove(&dir, &name).unwrap();
}

#[test]
fn names_of_devices_and_names_that_end_in_dots_are_files() {
    let (place, dir) = place();
    for name in ["nul", "con.txt", "dot."] {
        let file = make(&dir, "temp", b"file");
        replace(&dir, &file, "temp", name).unwrap();
        assert_eq!(Os.metadata(&dir, OsStr::new(name)).unwrap().size, 4, "{name}");
    }
    assert_eq!(names(place.path()), ["con.txt", "dot.", "nul"]);
}

#[test]
fn a_rename_takes_the_place_of_the_old_file() {
    let (place, dir) = place();
    fs::write(place.path().join("target"), "old").unwrap();
    let old = Os.metadata(&dir, OsStr::new("target")).unwrap();
    let file = make(&dir, "temp", b"new");
    let before = Os.file_metadata(&file).unwrap();
    assert_ne!(before.id, old.id);
    replace(&dir, &file, "temp", "target").unwrap();
    Os.sync_dir(&dir, Some(&file)).unwrap();
    assert_eq!(Os.metadata(&dir, OsStr::new("target")).unwrap().id, before.id);
    assert_eq!(code(Os.metadata(&dir, OsStr::new("temp"))), Code::ENOENT);
    assert_eq!(fs::read(place.path().join("target")).unwrap(), b"new");
    assert_eq!(names(place.path()), ["target"]);
}

#[test]
fn a_rename_needs_no_old_file_and_a_short_name_is_long_enough() {
    let (place, dir) = place();
    let file = make(&dir, "temp", b"new");
    replace(&dir, &file, "temp", "x").unwrap();
    assert_eq!(names(place.path()), ["x"]);
}

#[test]
fn a_rename_is_not_stopped_by_a_reader_of_the_old_file() {
    let (place, dir) = place();
    fs::write(place.path().join("target"), "old").unwrap();
    let mut reader = fs::File::open(place.path().join("target")).unwrap();
    let file = make(&dir, "temp", b"new");
    match replace(&dir, &file, "temp", "target") {
        Ok(()) => {
            assert_eq!(fs::read(place.path().join("target")).unwrap(), b"new");
            let mut seen = String::new();
            reader.read_to_string(&mut seen).unwrap();
            assert_eq!(seen, "old");
        }
        // Wine, and file systems without POSIX renames. Retried by the layer above.
        outcome => {
            assert!(is_wine());
            assert_eq!(code(outcome), Code::EPERM);
            drop(reader);
            replace(&dir, &file, "temp", "target").unwrap();
        }
    }
    assert_eq!(names(place.path()), ["target"]);
}

#[test]
fn a_file_that_is_kept_from_being_deleted_makes_the_rename_fail_for_the_moment() {
    use std::os::windows::fs::OpenOptionsExt;
    const READ_AND_WRITE: u32 = 3;
    let (place, dir) = place();
    let target = place.path().join("target");
    fs::write(&target, "old").unwrap();
    let scanner = fs::OpenOptions::new().read(true).share_mode(READ_AND_WRITE).open(&target);
    let scanner = scanner.unwrap();
    let file = make(&dir, "temp", b"new");
    let failed = code(replace(&dir, &file, "temp", "target"));
    assert!(matches!(failed, Code::EPERM | Code::EACCES | Code::EBUSY), "{failed:?}");
    assert_eq!(fs::read(&target).unwrap(), b"old");
    drop(scanner);
    replace(&dir, &file, "temp", "target").unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"new");
}

#[test]
fn a_rename_over_a_dir_is_refused_as_such() {
    let (place, dir) = place();
    fs::create_dir(place.path().join("empty")).unwrap();
    fs::create_dir_all(place.path().join("full/inner")).unwrap();
    let file = make(&dir, "temp", b"new");
    for name in ["empty", "full"] {
        let error = replace(&dir, &file, "temp", name).unwrap_err();
        assert_eq!(Code::of(&error), Some(Code::EISDIR), "{name}: {error:?}");
    }
    assert_eq!(names(place.path()), ["empty", "full", "temp"]);
    assert_eq!(Os.metadata(&dir, OsStr::new("full")).unwrap().kind, FileKind::Dir);
}

#[test]
fn a_read_only_file_is_replaced_and_removed() {
    let (place, dir) = place();
    let target = place.path().join("target");
    fs::write(&target, "old").unwrap();
    let mut permissions = fs::metadata(&target).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&target, permissions).unwrap();
    assert_eq!(Os.metadata(&dir, OsStr::new("target")).unwrap().mode, 0o444);
    let file = make(&dir, "temp", b"new");
    Os.set_mode(&file, 0o444).unwrap();
    replace(&dir, &file, "temp", "target").unwrap();
    drop(file);
    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert_eq!(Os.metadata(&dir, OsStr::new("target")).unwrap().mode, 0o444);
    Os.remove(&dir, OsStr::new("target")).unwrap();
    assert!(names(place.path()).is_empty());
}

#[test]
fn the_mode_keeps_whether_the_owner_may_write() {
    let (_place, dir) = place();
    let file = Os.create_new(&dir, OsStr::new("temp"), 0o444).unwrap();
    let mode = || Os.file_metadata(&file).unwrap().mode;
    assert_eq!(mode(), 0o444);
    assert_eq!(Os.write(&file, Chunk::Slice(b"still")).unwrap(), 5);
    Os.sync_file(&file).unwrap();
    for (asked, seen) in [
        (0o644, 0o666),
        (0o600, 0o666),
        (0o400, 0o444),
        (0o444, 0o444),
        (0o555, 0o444),
        (0o755, 0o666),
    ] {
        Os.set_mode(&file, asked).unwrap();
        assert_eq!(mode(), seen, "{asked:o}");
        let known = mode();
        Os.set_mode(&file, known).unwrap();
        assert_eq!(mode(), known);
    }
    Os.set_owner(&file, Some(1), Some(1)).unwrap();
    let known = Os.file_metadata(&file).unwrap();
    assert_eq!((known.uid, known.gid, known.size), (0, 0, 5));
}

#[test]
fn setting_the_mode_leaves_the_other_attributes_and_the_times() {
    use std::os::windows::fs::MetadataExt;
    use std::time::{Duration, SystemTime};
    let (place, dir) = place();
    let file = make(&dir, "temp", b"x");
    let path = place.path().join("temp");
    let then = SystemTime::now() - Duration::from_secs(1000);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_modified(then).unwrap();
    let before = fs::metadata(&path).unwrap();
    Os.set_mode(&file, 0o444).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.last_write_time(), before.last_write_time());
    assert_eq!(after.creation_time(), before.creation_time());
    const READ_ONLY: u32 = 1;
    const NORMAL: u32 = 128;
    let others = |attributes: u32| attributes & !(READ_ONLY | NORMAL);
    assert_eq!(others(after.file_attributes()), others(before.file_attributes()));
    Os.set_mode(&file, 0o644).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().file_attributes(), before.file_attributes());
}

/// Takes the lock of a temp file through another handle.
fn lock_from_outside(file: &fs::File) -> bool {
    const LOCKED_BYTE: u64 = 1 << 62;
    let mut place = OVERLAPPED {
        Anonymous: OVERLAPPED_0 {
            Anonymous: OVERLAPPED_0_0 { Offset: 0, OffsetHigh: (LOCKED_BYTE >> 32) as u32 },
        },
        ..OVERLAPPED::default()
    };
    let flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    // SAFETY: the file is open and not for overlapped use, so the call ends here.
    unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &mut place) != 0 }
}

#[test]
fn a_lock_is_held_until_the_file_is_closed_and_keeps_nobody_from_the_content() {
    let (place, dir) = place();
    let file = make(&dir, "temp", b"content");
    assert!(Os.try_lock(&file).unwrap());
    let path = place.path().join("temp");
    let mut other = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    assert!(!lock_from_outside(&other));
    let mut seen = [0; 3];
    other.read_exact(&mut seen).unwrap();
    other.write_all(b"T").unwrap();
    Os.write(&file, Chunk::Slice(b"!")).unwrap();
    replace(&dir, &file, "temp", "target").unwrap();
    assert!(!lock_from_outside(&other), "a rename does not free it");
    drop(file);
    assert!(lock_from_outside(&other));
    assert_eq!(fs::read(place.path().join("target")).unwrap(), b"conTent!");
}

#[test]
fn a_lock_that_somebody_else_holds_is_not_waited_for() {
    let (place, dir) = place();
    let file = make(&dir, "temp", b"");
    let sweeper = fs::File::open(place.path().join("temp")).unwrap();
    assert!(lock_from_outside(&sweeper));
    assert!(!Os.try_lock(&file).unwrap());
    drop(sweeper);
    assert!(Os.try_lock(&file).unwrap());
}

#[test]
fn a_removed_file_is_gone_although_it_is_open() {
    let (place, dir) = place();
    let file = make(&dir, "temp", b"lost");
    assert!(Os.try_lock(&file).unwrap());
    Os.remove(&dir, OsStr::new("temp")).unwrap();
    if !is_wine() {
        assert_eq!(code(Os.metadata(&dir, OsStr::new("temp"))), Code::ENOENT);
        assert!(names(place.path()).is_empty());
    }
    drop(file);
    assert_eq!(code(Os.metadata(&dir, OsStr::new("temp"))), Code::ENOENT);
    assert!(names(place.path()).is_empty());
    assert_eq!(code(Os.remove(&dir, OsStr::new("temp"))), Code::ENOENT);
}

#[test]
fn removing_a_dir_as_a_file_is_refused() {
    let (place, dir) = place();
    fs::create_dir(place.path().join("folder")).unwrap();
    assert_eq!(code(Os.remove(&dir, OsStr::new("folder"))), Code::EISDIR);
    assert_eq!(names(place.path()), ["folder"]);
}

#[test]
fn a_dir_is_known_by_its_identity_whatever_the_path() {
    let (place, dir) = place();
    fs::create_dir(place.path().join("inner")).unwrap();
    let known = Os.dir_metadata(&dir).unwrap();
    assert_eq!(known.kind, FileKind::Dir);
    let around = place.path().join("inner").join("..");
    assert_eq!(Os.dir_metadata(&open(&around)).unwrap().id, known.id);
    let upper = place.path().to_str().unwrap().to_uppercase();
    assert_eq!(Os.dir_metadata(&open(Path::new(&upper))).unwrap().id, known.id);
    let inner = Os.metadata(&dir, OsStr::new("inner")).unwrap();
    assert_eq!(inner.kind, FileKind::Dir);
    assert_ne!(inner.id, known.id);
    assert_eq!(inner.id.device, known.id.device);
    let opened = open(&place.path().join("inner"));
    assert_eq!(Os.dir_metadata(&opened).unwrap().id, inner.id);
}

#[test]
fn a_path_that_is_no_dir_is_not_opened() {
    let (place, dir) = place();
    drop(make(&dir, "file", b""));
    for purpose in [DirUse::Names, DirUse::NamesAndSync] {
        let file = place.path().join("file");
        assert_eq!(code(Os.open_dir(&file, purpose)), Code::ENOTDIR);
        let missing = place.path().join("missing");
        assert_eq!(code(Os.open_dir(&missing, purpose)), Code::ENOENT);
        let below = place.path().join("missing/below");
        assert_eq!(code(Os.open_dir(&below, purpose)), Code::ENOENT);
    }
}

#[test]
fn dirs_are_made_and_removed() {
    let (place, dir) = place();
    let inner = place.path().join("inner");
    Os.make_dir(&inner).unwrap();
    Os.sync_dir(&dir, None).unwrap();
    assert_eq!(names(place.path()), ["inner"], "a sync leaves nothing behind");
    assert_eq!(code(Os.make_dir(&inner)), Code::EEXIST);
    assert_eq!(code(Os.make_dir(Path::new(r"C:\"))), Code::EEXIST);
    assert_eq!(code(Os.make_dir(&place.path().join("missing/below"))), Code::ENOENT);
    fs::write(inner.join("file"), "").unwrap();
    assert_eq!(code(Os.remove_dir(&inner)), Code::ENOTEMPTY);
    fs::remove_file(inner.join("file")).unwrap();
    Os.remove_dir(&inner).unwrap();
    assert!(names(place.path()).is_empty());
}

#[test]
fn a_dir_that_was_opened_for_names_is_synced_through_a_file() {
    let (place, _) = place();
    let dir = Os.open_dir(place.path(), DirUse::Names).unwrap();
    let file = make(&dir, "temp", b"new");
    replace(&dir, &file, "temp", "target").unwrap();
    Os.sync_dir(&dir, Some(&file)).unwrap();
    Os.sync_dir(&dir, None).unwrap();
    assert_eq!(names(place.path()), ["target"]);
}

/// Windows flushes only for those who may write, and what a transaction replaces, or an update
/// leaves as it is, is opened for reading.
#[test]
fn a_file_that_is_open_for_reading_is_synced_where_it_may_be_written() {
    let (place, dir) = place();
    drop(make(&dir, "file", b"old"));
    let file = Os.open(&dir, OsStr::new("file")).unwrap();
    Os.sync_file(&file).unwrap();
    Os.sync_data(&file).unwrap();
    Os.sync_dir(&Os.open_dir(place.path(), DirUse::Names).unwrap(), Some(&file)).unwrap();
    json_update::sync_unchanged(&Os, &place.path().join("file"), true, Durability::Full).unwrap();
    if is_wine() {
        // Wine looks for the file by the path that it was opened by, and opens what is read-only.
        return;
    }
    fs::rename(place.path().join("file"), place.path().join("moved")).unwrap();
    Os.sync_file(&file).unwrap();
    Os.set_mode(&Os.open_to_change(&dir, OsStr::new("moved")).unwrap(), 0o444).unwrap();
    assert_eq!(code(Os.sync_file(&file)), Code::EPERM);
}

#[test]
fn an_open_dir_does_not_keep_others_from_renaming_and_removing_it() {
    let (place, _) = place();
    let (here, there) = (place.path().join("here"), place.path().join("there"));
    fs::create_dir(&here).unwrap();
    let dir = open(&here);
    fs::rename(&here, &there).unwrap();
    // What follows happens in the directory that was opened, wherever it is now.
    fs::create_dir(&here).unwrap();
    let file = make(&dir, "temp", b"new");
    assert_eq!(names(&there), ["temp"]);
    if is_wine() {
        // Wine looks for the directory by its old path when something in it is renamed.
        return;
    }
    replace(&dir, &file, "temp", "target").unwrap();
    Os.sync_dir(&dir, Some(&file)).unwrap();
    drop(file);
    assert_eq!(names(&there), ["target"]);
    assert!(names(&here).is_empty());
    Os.remove(&dir, OsStr::new("target")).unwrap();
    fs::remove_dir(&there).unwrap();
    drop(dir);
    assert_eq!(names(place.path()), ["here"]);
}

#[test]
fn paths_may_be_longer_than_260_characters() {
    let (place, _) = place();
    let mut deep = place.path().to_owned();
    while deep.as_os_str().len() < 400 {
        deep.push("a folder with a rather long name");
        Os.make_dir(&deep).unwrap();
    }
    let dir = open(&deep);
    let file = make(&dir, "temp", b"deep");
    Os.sync_file(&file).unwrap();
    replace(&dir, &file, "temp", "target").unwrap();
    Os.sync_dir(&dir, Some(&file)).unwrap();
    assert_eq!(fs::read(deep.join("target")).unwrap(), b"deep");
    drop(file);
    Os.remove(&dir, OsStr::new("target")).unwrap();
    assert!(names(&deep).is_empty());
}

#[test]
fn threads_share_an_open_dir() {
    let (place, dir) = place();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let dir = &dir;
            scope.spawn(move || {
                for round in 0..25 {
                    let temp = format!("temp {thread}");
                    let content = format!("{thread} {round}");
                    let file = make(dir, &temp, content.as_bytes());
                    assert!(Os.try_lock(&file).unwrap());
                    replace(dir, &file, &temp, &format!("target {thread}")).unwrap();
                    Os.sync_dir(dir, Some(&file)).unwrap();
                }
            });
        }
    });
    assert_eq!(names(place.path()).len(), 8);
    for thread in 0..8 {
        let path = place.path().join(format!("target {thread}"));
        assert_eq!(fs::read_to_string(path).unwrap(), format!("{thread} 24"));
    }
}

#[test]
fn every_code_survives_as_an_error_of_the_system() {
    for code in Code::ALL {
        let error = code.error();
        assert_eq!(Code::of(&error), Some(*code), "{error:?}");
    }
}

#[test]
fn errors_of_windows_have_the_names_that_node_gives_them() {
    use Code::*;
    #[rustfmt::skip]
    let expected = [
        (2, ENOENT), (3, ENOENT), (4, EMFILE), (5, EPERM), (6, EBADF), (8, ENOMEM), (17, EXDEV),
        (19, EROFS), (32, EBUSY), (33, EBUSY), (39, ENOSPC), (50, ENOTSUP), (80, EEXIST),
        (87, EINVAL), (112, ENOSPC), (121, ETIMEDOUT), (123, ENOENT), (145, ENOTEMPTY),
        (183, EEXIST), (206, ENAMETOOLONG), (998, EFAULT), (1117, EIO), (1231, ENETUNREACH),
        (1314, EPERM), (1921, ELOOP),
    ];
    for (number, code) in expected {
        assert_eq!(Code::of(&io::Error::from_raw_os_error(number)), Some(code), "{number}");
    }
    assert_eq!(Code::of(&io::Error::from_raw_os_error(-1)), None);
    assert_eq!(Code::of(&io::Error::from_raw_os_error(9_999_999)), None);
    assert_eq!(Code::of(&io::Error::from_raw_os_error((1 << 29) | 0xFFFF)), None);
}

#[test]
fn errors_that_std_sorts_by_kind_are_sorted_alike() {
    use io::ErrorKind;
    for (code, kind) in [
        (Code::ENOENT, ErrorKind::NotFound),
        (Code::EEXIST, ErrorKind::AlreadyExists),
        (Code::EPERM, ErrorKind::PermissionDenied),
        (Code::EACCES, ErrorKind::PermissionDenied),
        (Code::ENOSPC, ErrorKind::StorageFull),
        (Code::EROFS, ErrorKind::ReadOnlyFilesystem),
        (Code::ETIMEDOUT, ErrorKind::TimedOut),
    ] {
        assert_eq!(code.error().kind(), kind, "{code:?}");
    }
}

#[test]
fn a_name_that_is_taken_is_not_renamed_to() {
    let (place, dir) = place();
    let rename_new =
        |file: &FileHandle, to: &str| Os.rename_new(&dir, file, OsStr::new("temp"), OsStr::new(to));
    fs::write(place.path().join("file"), "old").unwrap();
    fs::create_dir(place.path().join("folder")).unwrap();
    let file = make(&dir, "temp", b"new");
    for taken in ["file", "FILE", "folder"] {
        assert_eq!(code(rename_new(&file, taken)), Code::EEXIST, "{taken}");
    }
    assert_eq!(code(rename_new(&file, "a:b")), Code::EINVAL);
    assert_eq!(names(place.path()), ["file", "folder", "temp"]);
    assert_eq!(fs::read(place.path().join("file")).unwrap(), b"old");
    rename_new(&file, "target").unwrap();
    assert_eq!(names(place.path()), ["file", "folder", "target"]);
    assert_eq!(fs::read(place.path().join("target")).unwrap(), b"new");
}

#[test]
fn one_of_many_that_want_a_name_gets_it() {
    let (place, dir) = place();
    let winners: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let dir = &dir;
                scope.spawn(move || {
                    let temp = format!("temp {thread}");
                    let file = make(dir, &temp, temp.as_bytes());
                    match Os.rename_new(dir, &file, OsStr::new(&temp), OsStr::new("target")) {
                        Ok(is_named) => usize::from(is_named),
                        Err(error) => {
                            assert_eq!(Code::of(&error), Some(Code::EEXIST), "{error:?}");
                            0
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(winners, 1);
    assert_eq!(names(place.path()).len(), 8);
    assert!(fs::read(place.path().join("target")).unwrap().starts_with(b"temp "));
}

#[test]
fn a_dir_is_listed_whatever_it_was_opened_for_and_as_often_as_asked() {
    let (place, _) = place();
    for purpose in [DirUse::Names, DirUse::NamesAndSync] {
        let dir = Os.open_dir(place.path(), purpose).unwrap();
        let listed = || {
            let mut listed = Os.names(&dir).unwrap();
            listed.sort();
            listed
        };
        fs::create_dir_all(place.path().join("folder/inner")).unwrap();
        drop(make(&dir, ".hidden.tmp", b""));
        drop(make(&dir, "Größe 🦀", b""));
        assert_eq!(listed(), [".hidden.tmp", "Größe 🦀", "folder"]);
        Os.remove(&dir, OsStr::new(".hidden.tmp")).unwrap();
        assert_eq!(listed(), ["Größe 🦀", "folder"]);
        Os.remove(&dir, OsStr::new("Größe 🦀")).unwrap();
        fs::remove_dir_all(place.path().join("folder")).unwrap();
        assert!(listed().is_empty());
    }
}

#[test]
fn a_dir_with_many_long_names_is_listed_whole_by_many_at_once() {
    let (place, dir) = place();
    let long = "n".repeat(200);
    let mut expected: Vec<OsString> =
        (0..500).map(|number| format!("{long} {number:03}").into()).collect();
    expected.sort();
    for name in &expected {
        fs::write(place.path().join(name), "").unwrap();
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut listed = Os.names(&dir).unwrap();
                listed.sort();
                assert_eq!(listed, expected);
            });
        }
    });
}

#[test]
fn the_time_of_the_last_change_is_told() {
    use std::time::{Duration, SystemTime};
    let (place, dir) = place();
    drop(make(&dir, "file", b"x"));
    let path = place.path().join("file");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let modified = || Os.modified(&dir, OsStr::new("file")).unwrap();
    assert_eq!(modified(), fs::metadata(&path).unwrap().modified().unwrap());
    let day = Duration::from_secs(86_400);
    let fraction = Duration::from_nanos(123_456_700);
    for time in [
        SystemTime::UNIX_EPOCH + 20_000 * day + fraction,
        SystemTime::UNIX_EPOCH + day,
        SystemTime::UNIX_EPOCH - 300 * day + fraction,
    ] {
        file.set_modified(time).unwrap();
        assert_eq!(modified(), time);
    }
    fs::create_dir(place.path().join("folder")).unwrap();
    assert!(Os.modified(&dir, OsStr::new("folder")).unwrap() > SystemTime::now() - day);
    assert_eq!(code(Os.modified(&dir, OsStr::new("missing"))), Code::ENOENT);
}

#[test]
fn copying_is_left_to_reading_and_writing() {
    let (_place, dir) = place();
    let (source, into) = (make(&dir, "source", b"content"), make(&dir, "into", b""));
    assert!(!Os.clone_content(&source, &into).unwrap());
    assert_eq!(Os.copy(&source, 0, &into, 7).unwrap(), None);
    assert_eq!(Os.file_metadata(&into).unwrap().size, 0);
}
