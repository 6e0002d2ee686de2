//! The names and words of system errors, as Node's users know them.
//!
//! Node takes them from libuv; this table has the same names and texts, and some that
//! libuv lacks (`EDQUOT`, `ESTALE`…). On Windows, where the system has numbers of its
//! own, each maps to the name that libuv gives it.

use std::io;

macro_rules! codes {
    ($($name:ident = $text:literal;)*) => {
        /// A system error by its POSIX name.
        #[allow(missing_docs, clippy::upper_case_acronyms)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($name,)* }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The name, `"ENOSPC"`.
            pub fn name(self) -> &'static str {
                match self { $(Code::$name => stringify!($name),)* }
            }

            /// What it means, in libuv's words: `"no space left on device"`.
            pub fn text(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            #[cfg(unix)]
            fn raw(self) -> i32 {
                match self { $(Code::$name => libc::$name,)* }
            }
        }
    };
}

codes! {
    E2BIG = "argument list too long";
    EACCES = "permission denied";
    EAGAIN = "resource temporarily unavailable";
    EBADF = "bad file descriptor";
    EBUSY = "resource busy or locked";
    ECANCELED = "operation canceled";
    EDEADLK = "resource deadlock avoided";
    EDQUOT = "disk quota exceeded";
    EEXIST = "file already exists";
    EFAULT = "bad address in system call argument";
    EFBIG = "file too large";
    EHOSTDOWN = "host is down";
    EHOSTUNREACH = "host is unreachable";
    EILSEQ = "illegal byte sequence";
    EINTR = "interrupted system call";
    EINVAL = "invalid argument";
    EIO = "i/o error";
    EISDIR = "illegal operation on a directory";
    ELOOP = "too many symbolic links encountered";
    EMFILE = "too many open files";
    EMLINK = "too many links";
    ENAMETOOLONG = "name too long";
    ENETDOWN = "network is down";
    ENETUNREACH = "network is unreachable";
    ENFILE = "file table overflow";
    ENODEV = "no such device";
    ENOENT = "no such file or directory";
    ENOLCK = "no locks available";
    ENOMEM = "not enough memory";
    ENOSPC = "no space left on device";
    ENOSYS = "function not implemented";
    ENOTCONN = "socket is not connected";
    ENOTDIR = "not a directory";
    ENOTEMPTY = "directory not empty";
    ENOTSUP = "operation not supported on socket";
    ENXIO = "no such device or address";
    EOVERFLOW = "value too large for defined data type";
    EPERM = "operation not permitted";
    EPIPE = "broken pipe";
    EROFS = "read-only file system";
    ESPIPE = "invalid seek";
    ESTALE = "stale file handle";
    ETIMEDOUT = "connection timed out";
    ETXTBSY = "text file is busy";
    EXDEV = "cross-device link not permitted";
}

impl Code {
    /// The code of an error that the system reported, if it has a name here.
    #[cold]
    #[inline(never)]
    pub fn of(error: &io::Error) -> Option<Code> {
        error.raw_os_error().and_then(Code::from_raw)
    }

    /// An error as the system would report it.
    pub fn error(self) -> io::Error {
        io::Error::from_raw_os_error(self.raw())
    }

    #[cfg(unix)]
    fn from_raw(raw: i32) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.raw() == raw)
    }
}
