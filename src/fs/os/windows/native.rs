//! The system calls, each behind a function that is safe to call.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::mem::{offset_of, size_of};
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem::{
    FILE_DIRECTORY_FILE, FILE_INFORMATION_CLASS, FILE_OPEN, FILE_RENAME_IGNORE_READONLY_ATTRIBUTE,
    FILE_RENAME_POSIX_SEMANTICS, FILE_RENAME_REPLACE_IF_EXISTS, FILE_SYNCHRONOUS_IO_NONALERT,
    FileRenameInformation, FileRenameInformationEx, NTCREATEFILE_CREATE_DISPOSITION,
    NTCREATEFILE_CREATE_OPTIONS, NtCreateFile, NtSetInformationFile,
};
use windows_sys::Win32::Foundation::*;
use windows_sys::Win32::Storage::FileSystem::*;
use windows_sys::Win32::System::IO::{IO_STATUS_BLOCK, OVERLAPPED, OVERLAPPED_0, OVERLAPPED_0_0};

use crate::errno::Code;
use crate::fs::FileId;

/// The longest name in UTF-16 units, on every Windows file system.
const LONGEST_NAME: usize = 255;

/// The most that one call reads or writes: network redirectors refuse very large ones.
const LARGEST_TRANSFER: usize = 16 << 20;

/// A name in a folder, as the kernel takes it.
pub(super) struct Name {
    units: Vec<u16>,
}

impl Name {
    /// Refuses what would not be a name in the folder: with a separator in it, or a colon,
    /// which leads to a stream of another file.
    pub(super) fn new(name: &OsStr) -> io::Result<Name> {
        let units: Vec<u16> = name.encode_wide().collect();
        let is_foreign =
            |unit: &u16| [0, u16::from(b'/'), u16::from(b'\\'), u16::from(b':')].contains(unit);
        if units.is_empty() || name == "." || name == ".." || units.iter().any(is_foreign) {
            return Err(Code::EINVAL.error());
        }
        if units.len() > LONGEST_NAME {
            return Err(Code::ENAMETOOLONG.error());
        }
        Ok(Name { units })
    }

    fn bytes(&self) -> u16 {
        // At most 2 × 255, as `new` makes sure.
        (self.units.len() * size_of::<u16>()) as u16
    }
}

/// How a name is opened.
pub(super) struct Opening {
    pub(super) access: FILE_ACCESS_RIGHTS,
    pub(super) disposition: NTCREATEFILE_CREATE_DISPOSITION,
    pub(super) options: NTCREATEFILE_CREATE_OPTIONS,
    pub(super) attributes: FILE_FLAGS_AND_ATTRIBUTES,
}

/// Opens or makes a file by its name in a folder. A link is followed unless the options
/// hold `FILE_OPEN_REPARSE_POINT`. Everybody else may do to the file what they like
/// meanwhile.
pub(super) fn open_at(
    folder: BorrowedHandle<'_>,
    name: &Name,
    opening: &Opening,
) -> io::Result<OwnedHandle> {
    let text = UNICODE_STRING {
        Length: name.bytes(),
        MaximumLength: name.bytes(),
        Buffer: name.units.as_ptr().cast_mut(),
    };
    let object = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as u32,
        RootDirectory: folder.as_raw_handle(),
        ObjectName: &text,
        // As all of Win32 opens files; folders that tell upper from lower case still do.
        Attributes: OBJ_CASE_INSENSITIVE,
        SecurityDescriptor: null(),
        SecurityQualityOfService: null(),
    };
    let mut handle = null_mut();
    let mut answer = IO_STATUS_BLOCK::default();
    // SAFETY: `text` and `object` point at memory that outlives the call, which only
    // reads it; `handle` and `answer` are written by it and belong to this frame. The
    // file is opened for synchronous use, so nothing is written after the return.
    let status = unsafe {
        NtCreateFile(
            &mut handle,
            opening.access | SYNCHRONIZE,
            &object,
            &mut answer,
            null(),
            opening.attributes,
            FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
            opening.disposition,
            opening.options | FILE_SYNCHRONOUS_IO_NONALERT,
            null(),
            0,
        )
    };
    check_status(status)?;
    // SAFETY: the call succeeded, so this is an open handle, and nobody else has it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// Opens a folder once more, wherever it is now.
pub(super) fn reopen_folder(
    folder: BorrowedHandle<'_>,
    access: FILE_ACCESS_RIGHTS,
) -> io::Result<OwnedHandle> {
    let itself = Name { units: Vec::new() };
    let opening =
        Opening { access, disposition: FILE_OPEN, options: FILE_DIRECTORY_FILE, attributes: 0 };
    open_at(folder, &itself, &opening)
}

/// The names in a folder, from where its handle has been listed to before.
pub(super) fn names(folder: BorrowedHandle<'_>) -> io::Result<Vec<OsString>> {
    // Aligned as the structures in it are. Network redirectors take no larger one.
    let mut room = vec![0_u64; (64 << 10) / size_of::<u64>()];
    let bytes = room.len() * size_of::<u64>();
    let mut names = Vec::new();
    loop {
        // SAFETY: `room` has as many bytes as the call is told.
        let outcome = check(unsafe {
            GetFileInformationByHandleEx(
                folder.as_raw_handle(),
                FileFullDirectoryInfo,
                room.as_mut_ptr().cast(),
                bytes as u32,
            )
        });
        match outcome {
            // The second is what an empty folder without '.' and '..' answers.
            Err(error) if is(&error, ERROR_NO_MORE_FILES) || is(&error, ERROR_FILE_NOT_FOUND) => {
                return Ok(names);
            }
            outcome => outcome?,
        }
        // SAFETY: these are the bytes of `room`, which are numbers of any value.
        let entries = unsafe { std::slice::from_raw_parts(room.as_ptr().cast::<u8>(), bytes) };
        let listed = names_in(entries).ok_or_else(|| error_of(ERROR_INVALID_DATA))?;
        names.extend(listed.into_iter().filter(|name| name != "." && name != ".."));
    }
}

/// The names in a chain of `FILE_FULL_DIR_INFO`. `None` if it leads out of the buffer.
fn names_in(mut entries: &[u8]) -> Option<Vec<OsString>> {
    let number = |entry: &[u8], at: usize| {
        let bytes = entry.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_ne_bytes(*bytes)).ok()
    };
    let mut names = Vec::new();
    loop {
        let length = number(entries, offset_of!(FILE_FULL_DIR_INFO, FileNameLength))?;
        let name = entries.get(offset_of!(FILE_FULL_DIR_INFO, FileName)..)?.get(..length)?;
        let units = name.chunks_exact(size_of::<u16>());
        let units: Vec<u16> =
            units.filter_map(|unit| Some(u16::from_ne_bytes(*unit.first_chunk()?))).collect();
        names.push(OsString::from_wide(&units));
        match number(entries, offset_of!(FILE_FULL_DIR_INFO, NextEntryOffset))? {
            0 => return Some(names),
            next => entries = entries.get(next..)?,
        }
    }
}

/// How a rename treats what has the name already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Replacing {
    /// As POSIX does, read-only or not (Windows 10 1809 and later, NTFS).
    Any,
    /// As POSIX does, but not if it is read-only (Windows 10 1607 and later, NTFS).
    Writable,
    /// Only if nobody has it open (every Windows and file system).
    Closed,
    /// Not at all (every Windows and file system).
    Nothing,
}

/// Gives an open file a name in a folder.
pub(super) fn rename_at(
    file: BorrowedHandle<'_>,
    folder: BorrowedHandle<'_>,
    name: &Name,
    replacing: Replacing,
) -> io::Result<()> {
    /// `FILE_RENAME_INFORMATION` with room for the longest name.
    #[repr(C)]
    struct Rename {
        flags: u32,
        folder: HANDLE,
        name_bytes: u32,
        name: [u16; LONGEST_NAME],
    }
    let posix = FILE_RENAME_REPLACE_IF_EXISTS | FILE_RENAME_POSIX_SEMANTICS;
    let (class, flags): (FILE_INFORMATION_CLASS, u32) = match replacing {
        Replacing::Any => (FileRenameInformationEx, posix | FILE_RENAME_IGNORE_READONLY_ATTRIBUTE),
        Replacing::Writable => (FileRenameInformationEx, posix),
        // A BOOLEAN here, in the first byte.
        Replacing::Closed => (FileRenameInformation, 1),
        Replacing::Nothing => (FileRenameInformation, 0),
    };
    let mut rename = Rename {
        flags,
        folder: folder.as_raw_handle(),
        name_bytes: name.bytes().into(),
        name: [0; LONGEST_NAME],
    };
    for (to, from) in rename.name.iter_mut().zip(&name.units) {
        *to = *from;
    }
    let mut answer = IO_STATUS_BLOCK::default();
    // SAFETY: `rename` has the layout that both classes ask for, with the name's length
    // in bytes within its room; the handles are open while they are borrowed.
    let status = unsafe {
        NtSetInformationFile(
            file.as_raw_handle(),
            &mut answer,
            (&raw const rename).cast(),
            size_of::<Rename>() as u32,
            class,
        )
    };
    check_status(status)
}

/// Renames by paths, in one step.
pub(super) fn move_file(from: &Path, to: &Path, replaces: bool) -> io::Result<()> {
    let (from, to) = (terminated(from), terminated(to));
    let replacing = if replaces { MOVEFILE_REPLACE_EXISTING } else { 0 };
    let flags = replacing | MOVEFILE_WRITE_THROUGH;
    // SAFETY: both strings end with a zero and outlive the call.
    check(unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), flags) })
}

fn terminated(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

/// A structure that the system fills or takes, by its class.
///
/// # Safety
///
/// The class must be the one whose structure this is, and every bit pattern a value of it.
pub(super) unsafe trait Information: Default {
    /// The class.
    const CLASS: FILE_INFO_BY_HANDLE_CLASS;
}

// SAFETY: the structure of FileBasicInfo; integers only.
unsafe impl Information for FILE_BASIC_INFO {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileBasicInfo;
}

// SAFETY: the structure of FileAttributeTagInfo; integers only.
unsafe impl Information for FILE_ATTRIBUTE_TAG_INFO {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileAttributeTagInfo;
}

// SAFETY: the structure of FileIdInfo; integers only.
unsafe impl Information for FILE_ID_INFO {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileIdInfo;
}

// SAFETY: the structure of FileDispositionInfoEx; an integer.
unsafe impl Information for FILE_DISPOSITION_INFO_EX {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileDispositionInfoEx;
}

// SAFETY: the structure of FileEndOfFileInfo; an integer.
unsafe impl Information for FILE_END_OF_FILE_INFO {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileEndOfFileInfo;
}

/// `FILE_DISPOSITION_INFO`, whose flag is a byte to the system.
#[repr(C)]
#[derive(Default)]
pub(super) struct Disposition {
    /// 1 to delete.
    pub(super) delete: u8,
}

// SAFETY: the structure of FileDispositionInfo; a byte.
unsafe impl Information for Disposition {
    const CLASS: FILE_INFO_BY_HANDLE_CLASS = FileDispositionInfo;
}

/// Asks for one kind of information about an open file.
pub(super) fn get<T: Information>(file: BorrowedHandle<'_>) -> io::Result<T> {
    let mut information = T::default();
    let bytes = size_of::<T>() as u32;
    // SAFETY: `information` is the class's own structure with its size, and whatever the
    // system puts into it is a value of its type, as `Information` demands.
    check(unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            T::CLASS,
            (&raw mut information).cast(),
            bytes,
        )
    })?;
    Ok(information)
}

/// Sets one kind of information of an open file.
pub(super) fn set<T: Information>(file: BorrowedHandle<'_>, information: &T) -> io::Result<()> {
    let bytes = size_of::<T>() as u32;
    // SAFETY: `information` is the class's own structure with its size, and is only read.
    check(unsafe {
        SetFileInformationByHandle(
            file.as_raw_handle(),
            T::CLASS,
            std::ptr::from_ref(information).cast(),
            bytes,
        )
    })
}

/// The general information about an open file.
pub(super) fn general(file: BorrowedHandle<'_>) -> io::Result<BY_HANDLE_FILE_INFORMATION> {
    let mut information = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: `information` is the structure that the call fills.
    check(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &mut information) })?;
    Ok(information)
}

/// Which file this is.
pub(super) fn id_of(file: BorrowedHandle<'_>) -> io::Result<FileId> {
    let id = match get::<FILE_ID_INFO>(file) {
        Ok(id) => FileId {
            device: id.VolumeSerialNumber,
            inode: u128::from_le_bytes(id.FileId.Identifier),
        },
        Err(error) if is_unknown(&error) => {
            let general = general(file)?;
            FileId {
                device: general.dwVolumeSerialNumber.into(),
                inode: wide(general.nFileIndexHigh, general.nFileIndexLow).into(),
            }
        }
        Err(error) => return Err(error),
    };
    // These stand for 'no number'. Taken at their word, all files would be one, and a
    // failed rename would look as if it had happened. There the name tells them apart.
    if [0, u128::from(u64::MAX), u128::MAX].contains(&id.inode) {
        let path = final_path(file)?;
        return Ok(FileId { inode: hash_of(&path), ..id });
    }
    Ok(id)
}

fn hash_of(path: &Path) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, path).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// A number that comes in two halves.
pub(super) fn wide(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Where an open file is now, without links, in the form that has no length limit.
pub(super) fn final_path(file: BorrowedHandle<'_>) -> io::Result<PathBuf> {
    let mut units: Vec<u16> = vec![0; 512];
    loop {
        let room = u32::try_from(units.len()).unwrap_or(u32::MAX);
        // SAFETY: the buffer has room for as many units as the call is told.
        let length = unsafe {
            GetFinalPathNameByHandleW(
                file.as_raw_handle(),
                units.as_mut_ptr(),
                room,
                FILE_NAME_OPENED | VOLUME_NAME_DOS,
            )
        };
        if length == 0 {
            return Err(io::Error::last_os_error());
        }
        let length = length as usize;
        if let Some(path) = units.get(..length)
            && length < units.len()
        {
            return Ok(OsString::from_wide(path).into());
        }
        // Too small: the length that is needed, its terminating zero included.
        units.resize(length.max(units.len() * 2), 0);
    }
}

/// Whether the file system keeps a journal of what happens to names (NTFS, ReFS).
pub(super) fn has_journal(file: BorrowedHandle<'_>) -> bool {
    let mut name = [0_u16; 32];
    // SAFETY: the buffer has room for as many units as the call is told, and null is
    // allowed for everything that is not asked for.
    let known = unsafe {
        GetVolumeInformationByHandleW(
            file.as_raw_handle(),
            null_mut(),
            0,
            null_mut(),
            null_mut(),
            null_mut(),
            name.as_mut_ptr(),
            name.len() as u32,
        )
    };
    let is = |journalled: &str| {
        journalled.encode_utf16().chain([0]).eq(name.iter().copied().take(journalled.len() + 1))
    };
    known != 0 && (is("NTFS") || is("ReFS"))
}

/// Takes a lock on one byte for this handle alone, without waiting.
pub(super) fn lock(file: BorrowedHandle<'_>, offset: u64) -> io::Result<()> {
    let mut place = overlapped(offset);
    let flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    // SAFETY: the file is opened for synchronous use, so the call is over when it
    // returns, and `place` with it.
    check(unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &mut place) })
}

/// Writes at `offset`, from memory that need not be there: see the safety remark.
pub(super) fn write(
    file: BorrowedHandle<'_>,
    address: *const u8,
    length: usize,
    offset: u64,
) -> io::Result<usize> {
    let mut place = overlapped(offset);
    let mut written = 0;
    // SAFETY: only the kernel reads the memory, and it answers with an error for
    // addresses that are not mapped; no reference to memory that may be gone is ever
    // made. The file is opened for synchronous use, so the call is over when it returns.
    check(unsafe {
        WriteFile(file.as_raw_handle(), address, transfer(length), &mut written, &mut place)
    })?;
    Ok(written as usize)
}

/// Reads from `offset`.
pub(super) fn read(file: BorrowedHandle<'_>, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut place = overlapped(offset);
    let mut count = 0;
    let room = transfer(buffer.len());
    // SAFETY: `buffer` has at least that much room, and the call is over when it returns,
    // because the file is opened for synchronous use.
    let outcome = check(unsafe {
        ReadFile(file.as_raw_handle(), buffer.as_mut_ptr(), room, &mut count, &mut place)
    });
    match outcome {
        Err(error) if is(&error, ERROR_HANDLE_EOF) => Ok(0),
        Err(error) => Err(error),
        Ok(()) => Ok(count as usize),
    }
}

/// Writes everything that the system holds back of an open file, and empties the disk's
/// own cache.
pub(super) fn flush(file: BorrowedHandle<'_>) -> io::Result<()> {
    // SAFETY: the handle is open while it is borrowed.
    check(unsafe { FlushFileBuffers(file.as_raw_handle()) })
}

fn transfer(length: usize) -> u32 {
    length.min(LARGEST_TRANSFER) as u32
}

fn overlapped(offset: u64) -> OVERLAPPED {
    OVERLAPPED {
        Anonymous: OVERLAPPED_0 {
            Anonymous: OVERLAPPED_0_0 { Offset: offset as u32, OffsetHigh: (offset >> 32) as u32 },
        },
        ..OVERLAPPED::default()
    }
}

fn check(succeeded: windows_sys::core::BOOL) -> io::Result<()> {
    if succeeded == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Win32's number for what the kernel answered. The usual translation calls three things
/// 'access denied' that have better names.
fn check_status(status: NTSTATUS) -> io::Result<()> {
    if status >= 0 {
        return Ok(());
    }
    let error = match status {
        STATUS_DELETE_PENDING => ERROR_DELETE_PENDING,
        STATUS_FILE_IS_A_DIRECTORY => ERROR_DIRECTORY_NOT_SUPPORTED,
        // SAFETY: the function only looks the number up.
        status => unsafe { RtlNtStatusToDosError(status) },
    };
    Err(error_of(error))
}

/// An error with one of Win32's numbers.
pub(super) fn error_of(number: WIN32_ERROR) -> io::Error {
    io::Error::from_raw_os_error(number.cast_signed())
}

/// Whether an error has this number.
pub(super) fn is(error: &io::Error, number: WIN32_ERROR) -> bool {
    error.raw_os_error() == Some(number.cast_signed())
}

/// Whether the system or the file system does not know the operation, so that an older
/// way of doing it may work.
pub(super) fn is_unknown(error: &io::Error) -> bool {
    const UNKNOWN: [WIN32_ERROR; 5] = [
        ERROR_INVALID_FUNCTION,
        ERROR_NOT_SUPPORTED,
        ERROR_INVALID_PARAMETER,
        ERROR_CALL_NOT_IMPLEMENTED,
        ERROR_INVALID_LEVEL,
    ];
    UNKNOWN.iter().any(|number| is(error, *number))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::os::windows::fs::OpenOptionsExt;
    use std::os::windows::io::AsHandle;

    use super::*;

    fn folder(path: &Path) -> fs::File {
        OpenOptions::new()
            .access_mode(0)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
            .open(path)
            .unwrap()
    }

    fn make(folder: &fs::File, name: &str) -> OwnedHandle {
        let opening = Opening {
            access: GENERIC_READ | GENERIC_WRITE | DELETE,
            disposition: windows_sys::Wdk::Storage::FileSystem::FILE_CREATE,
            options: 0,
            attributes: FILE_ATTRIBUTE_NORMAL,
        };
        let file =
            open_at(folder.as_handle(), &Name::new(name.as_ref()).unwrap(), &opening).unwrap();
        assert_eq!(write(file.as_handle(), name.as_ptr(), name.len(), 0).unwrap(), name.len());
        file
    }

    #[test]
    fn every_way_to_rename_replaces_a_file_or_is_unknown() {
        for replacing in [Replacing::Any, Replacing::Writable, Replacing::Closed] {
            let place = tempfile::tempdir().unwrap();
            let target = place.path().join("target");
            fs::write(&target, "old").unwrap();
            let folder = folder(place.path());
            let file = make(&folder, "temp");
            let name = Name::new("target".as_ref()).unwrap();
            match rename_at(file.as_handle(), folder.as_handle(), &name, replacing) {
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
        let folder = folder(place.path());
        let file = make(&folder, "temp");
        let path = final_path(folder.as_handle()).unwrap();
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
    fn a_folder_is_listed_by_its_handle() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        let folder = folder(place.path());
        let own = reopen_folder(folder.as_handle(), FILE_LIST_DIRECTORY).unwrap();
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
        let top = final_path(folder(place.path()).as_handle()).unwrap();
        for length in [1, 200, 255] {
            for depth in 1..=6 {
                let mut deep = top.clone();
                deep.extend(std::iter::repeat_n("d".repeat(length), depth));
                fs::create_dir_all(&deep).unwrap();
                match final_path(folder(&deep).as_handle()) {
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
}
