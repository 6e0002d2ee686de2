use std::fs::{self, OpenOptions};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsHandle;

use std::mem::offset_of;
use std::os::windows::io::{BorrowedHandle, OwnedHandle};
use std::path::Path;

use windows_sys::Win32::Foundation::*;
use windows_sys::Win32::Storage::FileSystem::*;

use super::information::hash_of;
use super::names::names_in;
use super::*;
use crate::error::Code;

fn dir(path: &Path) -> fs::File {
    OpenOptions::new().access_mode(0).custom_flags(FILE_FLAG_BACKUP_SEMANTICS).open(path).unwrap()
}

fn make(dir: &fs::File, name: &str) -> OwnedHandle {
    let opening = Opening {
        access: GENERIC_READ | GENERIC_WRITE | DELETE,
        disposition: windows_sys::Wdk::Storage::FileSystem::FILE_CREATE,
        options: 0,
        attributes: FILE_ATTRIBUTE_NORMAL,
    };
    let file = open_at(dir.as_handle(), &Name::new(name.as_ref()).unwrap(), &opening).unwrap();
    assert_eq!(write(file.as_handle(), name.as_ptr(), name.len(), 0).unwrap(), name.len());
    file
}

#[test]
fn every_way_to_rename_replaces_a_file_or_is_unknown() {
    for replacing in [Replacing::Any, Replacing::Writable, Replacing::Closed] {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("target");
        fs::write(&target, "old").unwrap();
        let dir = dir(place.path());
        let file = make(&dir, "temp");
        let name = Name::new("target".as_ref()).unwrap();
        match rename_at(file.as_handle(), dir.as_handle(), &name, replacing) {
            Ok(()) => assert_eq!(fs::read(&target).unwrap(), b"temp"),
            Err(error) => assert!(is_unknown(&error), "{error:?}"),
        }
    }
}

#[test]
fn a_move_by_paths_replaces_a_file_while_the_new_one_is_open() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("target");
    fs::write(&target, "old").unwrap();
    let dir = dir(place.path());
    let file = make(&dir, "temp");
    let path = final_path(dir.as_handle()).unwrap();
    let refused = move_file(&path.join("temp"), &path.join("target"), false).unwrap_err();
    assert_eq!(Code::of(&refused), Some(Code::EEXIST));
    assert_eq!(fs::read(&target).unwrap(), b"old");
    move_file(&path.join("temp"), &path.join("target"), true).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"temp");
    let moved = fs::File::open(&target).unwrap();
    let inode = |file: BorrowedHandle<'_>| id_of(file).unwrap().inode;
    assert_eq!(inode(moved.as_handle()), inode(file.as_handle()));
}

#[test]
fn a_dir_is_listed_by_its_handle() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("file"), "").unwrap();
    let dir = dir(place.path());
    let own = reopen_dir(dir.as_handle(), FILE_LIST_DIRECTORY).unwrap();
    assert_eq!(names(own.as_handle()).unwrap(), ["file"]);
    assert!(names(own.as_handle()).unwrap().is_empty(), "listed to the end");
}

#[test]
fn a_broken_listing_is_not_read_beyond_its_end() {
    let room = offset_of!(FILE_FULL_DIR_INFO, FileName);
    let entry = |next: u32, length: u32| {
        let mut entry = vec![0; room];
        entry[..4].copy_from_slice(&next.to_ne_bytes());
        let at = offset_of!(FILE_FULL_DIR_INFO, FileNameLength);
        entry[at..at + 4].copy_from_slice(&length.to_ne_bytes());
        entry.extend([b'a', 0, b'b', 0]);
        entry
    };
    assert_eq!(names_in(&entry(0, 4)).unwrap(), ["ab"]);
    let two = [entry(room as u32 + 4, 2), entry(0, 4)].concat();
    assert_eq!(names_in(&two).unwrap(), ["a", "ab"]);
    for broken in [entry(0, 6), entry(1 << 20, 4), entry(u32::MAX, 4), Vec::new()] {
        assert_eq!(names_in(&broken), None);
    }
}

#[test]
fn the_path_of_an_open_file_is_told_whatever_its_length() {
    let place = tempfile::tempdir().unwrap();
    let top = final_path(dir(place.path()).as_handle()).unwrap();
    for length in [1, 200, 255] {
        for depth in 1..=6 {
            let mut deep = top.clone();
            deep.extend(std::iter::repeat_n("d".repeat(length), depth));
            fs::create_dir_all(&deep).unwrap();
            match final_path(dir(&deep).as_handle()) {
                Ok(path) => assert_eq!(path, deep),
                // Wine has room for 260 characters. Windows does not answer this.
                Err(error) => assert!(is(&error, ERROR_MORE_DATA), "{error:?}"),
            }
        }
    }
}

#[test]
fn a_file_is_told_from_others_by_its_path_where_it_has_no_number() {
    let (one, other) = (Path::new(r"\\?\C:\one"), Path::new(r"\\?\C:\other"));
    assert_eq!(hash_of(one), hash_of(one));
    assert_ne!(hash_of(one), hash_of(other));
}
