//! Windows' error numbers and the POSIX names that Node's users know them by.

use windows_sys::Win32::Foundation::*;

use super::Code;

/// Each number with its name. The first number of a name stands for it when an error is
/// made from a name.
///
/// The numbers that libuv knows have the names that libuv 1.x, which is in Node, gives
/// them, with these exceptions: `ERROR_NOACCESS` is a bad address (libuv: EACCES), and
/// `ERROR_DIRECTORY` says that something is no directory (libuv: ENOENT, kept there for old
/// callers). `ERROR_NETNAME_DELETED` and `ERROR_BROKEN_PIPE` have names in libuv that
/// POSIX file operations do not have; here they get the nearest. The second list of a line
/// has numbers that libuv leaves unknown.
#[rustfmt::skip]
const NAMES: &[(Code, &[WIN32_ERROR], &[WIN32_ERROR])] = &[
    (Code::E2BIG, &[ERROR_META_EXPANSION_TOO_LONG], &[]),
    (Code::EACCES, &[WSAEACCES, ERROR_ELEVATION_REQUIRED, ERROR_CANT_ACCESS_FILE], &[]),
    (Code::EAGAIN, &[WSAEWOULDBLOCK], &[]),
    (Code::EBADF, &[ERROR_INVALID_HANDLE, ERROR_INVALID_FLAGS], &[]),
    (Code::EBUSY, &[ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION, ERROR_PIPE_BUSY],
        &[ERROR_BUSY, ERROR_DELETE_PENDING, ERROR_USER_MAPPED_FILE]),
    (Code::ECANCELED, &[ERROR_OPERATION_ABORTED, WSAEINTR], &[]),
    (Code::EDEADLK, &[], &[ERROR_POSSIBLE_DEADLOCK]),
    (Code::EDQUOT, &[], &[ERROR_DISK_QUOTA_EXCEEDED]),
    (Code::EEXIST, &[ERROR_FILE_EXISTS, ERROR_ALREADY_EXISTS], &[]),
    (Code::EFAULT, &[ERROR_NOACCESS, ERROR_BUFFER_OVERFLOW, WSAEFAULT],
        &[ERROR_INVALID_USER_BUFFER]),
    (Code::EFBIG, &[], &[ERROR_FILE_TOO_LARGE]),
    (Code::EHOSTUNREACH, &[ERROR_HOST_UNREACHABLE, WSAEHOSTUNREACH], &[ERROR_BAD_NETPATH]),
    (Code::EILSEQ, &[], &[ERROR_NO_UNICODE_TRANSLATION]),
    (Code::EINVAL, &[ERROR_INVALID_PARAMETER, ERROR_INSUFFICIENT_BUFFER, ERROR_INVALID_DATA,
        ERROR_SYMLINK_NOT_SUPPORTED, WSAEINVAL], &[ERROR_NOT_A_REPARSE_POINT]),
    (Code::EIO, &[ERROR_IO_DEVICE, ERROR_BEGINNING_OF_MEDIA, ERROR_BUS_RESET, ERROR_CRC,
        ERROR_DEVICE_DOOR_OPEN, ERROR_DEVICE_REQUIRES_CLEANING, ERROR_DISK_CORRUPT,
        ERROR_EOM_OVERFLOW, ERROR_FILEMARK_DETECTED, ERROR_GEN_FAILURE,
        ERROR_INVALID_BLOCK_LENGTH, ERROR_NO_DATA_DETECTED, ERROR_NO_SIGNAL_SENT,
        ERROR_OPEN_FAILED, ERROR_SETMARK_DETECTED, ERROR_SIGNAL_REFUSED],
        &[ERROR_SEEK, ERROR_SECTOR_NOT_FOUND, ERROR_WRITE_FAULT, ERROR_READ_FAULT]),
    (Code::EISDIR, &[], &[ERROR_DIRECTORY_NOT_SUPPORTED]),
    // What reading or writing an open directory answers.
    (Code::EISDIR, &[ERROR_INVALID_FUNCTION], &[]),
    (Code::ELOOP, &[ERROR_CANT_RESOLVE_FILENAME], &[ERROR_STOPPED_ON_SYMLINK]),
    (Code::EMFILE, &[ERROR_TOO_MANY_OPEN_FILES, WSAEMFILE], &[]),
    (Code::EMLINK, &[], &[ERROR_TOO_MANY_LINKS]),
    (Code::ENAMETOOLONG, &[ERROR_FILENAME_EXCED_RANGE], &[]),
    (Code::ENETDOWN, &[], &[ERROR_NO_NETWORK, ERROR_NETNAME_DELETED, ERROR_DEV_NOT_EXIST,
        ERROR_UNEXP_NET_ERR, WSAENETDOWN]),
    (Code::ENETUNREACH, &[ERROR_NETWORK_UNREACHABLE, WSAENETUNREACH], &[]),
    (Code::ENODEV, &[], &[ERROR_BAD_UNIT]),
    (Code::ENOENT, &[ERROR_FILE_NOT_FOUND, ERROR_PATH_NOT_FOUND, ERROR_BAD_PATHNAME,
        ERROR_ENVVAR_NOT_FOUND, ERROR_INVALID_NAME, ERROR_INVALID_DRIVE,
        ERROR_INVALID_REPARSE_DATA, ERROR_MOD_NOT_FOUND], &[ERROR_BAD_NET_NAME]),
    (Code::ENOMEM, &[ERROR_NOT_ENOUGH_MEMORY, ERROR_OUTOFMEMORY],
        &[ERROR_NO_SYSTEM_RESOURCES, ERROR_WORKING_SET_QUOTA, ERROR_PAGEFILE_QUOTA,
        ERROR_COMMITMENT_LIMIT, ERROR_NOT_ENOUGH_QUOTA]),
    (Code::ENOSPC, &[ERROR_DISK_FULL, ERROR_HANDLE_DISK_FULL, ERROR_CANNOT_MAKE,
        ERROR_EA_TABLE_FULL, ERROR_END_OF_MEDIA], &[ERROR_DISK_RESOURCES_EXHAUSTED]),
    (Code::ENOSYS, &[], &[ERROR_CALL_NOT_IMPLEMENTED]),
    (Code::ENOTCONN, &[ERROR_NOT_CONNECTED, WSAENOTCONN], &[]),
    (Code::ENOTDIR, &[ERROR_DIRECTORY], &[]),
    (Code::ENOTEMPTY, &[ERROR_DIR_NOT_EMPTY], &[]),
    (Code::ENOTSUP, &[ERROR_NOT_SUPPORTED], &[]),
    (Code::ENXIO, &[], &[ERROR_NOT_READY]),
    (Code::EOVERFLOW, &[], &[ERROR_ARITHMETIC_OVERFLOW]),
    (Code::EPERM, &[ERROR_ACCESS_DENIED, ERROR_PRIVILEGE_NOT_HELD], &[]),
    (Code::EPIPE, &[ERROR_NO_DATA, ERROR_BAD_PIPE, ERROR_PIPE_NOT_CONNECTED, WSAESHUTDOWN,
        ERROR_BROKEN_PIPE], &[]),
    (Code::EROFS, &[ERROR_WRITE_PROTECT], &[]),
    (Code::ESPIPE, &[], &[ERROR_SEEK_ON_DEVICE]),
    // 'The volume has been altered so that the opened file is no longer valid.'
    (Code::ESTALE, &[], &[ERROR_FILE_INVALID]),
    (Code::ETIMEDOUT, &[ERROR_SEM_TIMEOUT, WSAETIMEDOUT], &[ERROR_TIMEOUT]),
    (Code::EXDEV, &[ERROR_NOT_SAME_DEVICE], &[]),
];

// Numbers from Winsock's range that file operations over the network can answer.
const WSAEINTR: WIN32_ERROR = 10004;
const WSAEACCES: WIN32_ERROR = 10013;
const WSAEFAULT: WIN32_ERROR = 10014;
const WSAEINVAL: WIN32_ERROR = 10022;
const WSAEMFILE: WIN32_ERROR = 10024;
const WSAEWOULDBLOCK: WIN32_ERROR = 10035;
const WSAENETDOWN: WIN32_ERROR = 10050;
const WSAENETUNREACH: WIN32_ERROR = 10051;
const WSAENOTCONN: WIN32_ERROR = 10057;
const WSAESHUTDOWN: WIN32_ERROR = 10058;
const WSAETIMEDOUT: WIN32_ERROR = 10060;
const WSAEHOSTUNREACH: WIN32_ERROR = 10065;

/// The bit that Windows keeps free of its own numbers, for those of applications. A code
/// that Windows has no number for (`EINTR`, `ENFILE`, `ENOLCK`…) is this bit and its
/// place in [`Code::ALL`]. Only errors made from a [`Code`] have such numbers.
const APPLICATION: i32 = 1 << 29;

impl Code {
    /// The number that stands for a code. [`Code::from_raw`] gives the code back.
    pub(super) fn raw(self) -> i32 {
        NAMES
            .iter()
            .filter(|(name, _, _)| *name == self)
            .find_map(|(_, known, unknown)| known.iter().chain(*unknown).next())
            .and_then(|number| i32::try_from(*number).ok())
            .unwrap_or(APPLICATION | self as i32)
    }

    /// The name of an error number, if it has one.
    pub(super) fn from_raw(raw: i32) -> Option<Code> {
        let raw = u32::try_from(raw).ok()?;
        let application = APPLICATION.unsigned_abs();
        if raw & application != 0 {
            let place = usize::try_from(raw & !application).ok()?;
            return Code::ALL.get(place).copied();
        }
        NAMES
            .iter()
            .find(|(_, known, unknown)| known.contains(&raw) || unknown.contains(&raw))
            .map(|(name, _, _)| *name)
    }
}
