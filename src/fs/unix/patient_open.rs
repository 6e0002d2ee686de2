//! Opens that wait for a lease.
//!
//! A file may be under a lease: an NFS server has lent it to a client, samba to a Windows program. The
//! kernel asks for it back at the first open, and a plain open waits until it is given back (for
//! 45 seconds at most, /proc/sys/fs/lease-break-time). Opens of holdfast must not wait for a pipe
//! that has taken the file's place, so they do not wait in the kernel, which answers `EAGAIN`
//! meanwhile: they ask again. For a pipe that answer is never given.

use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::threads::blocking;

/// Longer than any system waits.
const LONGEST_WAIT: Duration = Duration::from_secs(90);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// The pauses, in milliseconds, after which an open is repeated that fails with `EINVAL`. CIFS answers so now
/// and then while another client replaces the file.
const PAUSES: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Opens an existing file without waiting in the kernel, again and again while it is under a lease.
pub(crate) fn open_patiently<T>(mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let opened = open();
    match opened {
        Err(Errno::AGAIN) => blocking(|| wait(open)),
        Err(Errno::INVAL) => while_invalid(open),
        opened => opened,
    }
}

/// Opens or makes a file, again while the system calls that invalid.
pub(crate) fn while_invalid<T>(mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut opened = open();
    for pause in PAUSES {
        if !matches!(opened, Err(Errno::INVAL)) {
            break;
        }
        thread::sleep(Duration::from_millis(pause));
        opened = open();
    }
    opened
}

fn wait<T>(mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let (begun, mut pause) = (Instant::now(), Duration::from_millis(1));
    loop {
        thread::sleep(pause);
        match open() {
            Err(Errno::AGAIN) if begun.elapsed() < LONGEST_WAIT => {}
            opened => return opened,
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}
