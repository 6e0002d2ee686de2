//! Empty directories, files of a caller, and temp files ([`also_remove`]) that are removed when the process ends: by itself, by a
//! signal that asks it to end (`SIGHUP`, `SIGINT`, `SIGQUIT`, `SIGTERM`) or by `SIGABRT`. After a
//! `SIGKILL` they stay.
//!
//! Signal handlers are installed only for signals that would end the process anyway, and still do:
//! the handler removes what is to be removed, restores the earlier action, and raises the signal
//! again. A program that has a handler of its own, before or after, keeps it, and its directories and
//! files are removed when it ends by itself.

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, Once, OnceLock};

use crate::fs::FileId;
use crate::mutex::guard;

/// Removes what is at a path, if it is still to be removed. A signal handler calls it, so it makes
/// system calls that are allowed there, and does nothing else.
pub(crate) type RemoveFile = fn(&CStr);

const SIGNALS: [c_int; 5] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGABRT, libc::SIGTERM];

/// The actions before our handlers; null where our handler is not installed.
static BEFORE: [AtomicPtr<libc::sigaction>; SIGNALS.len()] =
    [const { AtomicPtr::new(ptr::null_mut()) }; SIGNALS.len()];

/// One directory or file. Entries are used again and never freed, because a handler may be reading
/// them.
#[derive(Debug)]
struct ExitEntry {
    /// The thread that takes the path out, by an atomic exchange, owns it.
    path: AtomicPtr<c_char>,
    /// The [`RemoveFile`] of a file; null for a directory, which has an identity.
    remove: AtomicPtr<()>,
    device: AtomicU64,
    inode: AtomicU64,
    process: AtomicU64,
    next: *const ExitEntry,
}

// SAFETY: all that changes is atomic, and `next` is set once, before others see the entry.
unsafe impl Sync for ExitEntry {}

static FIRST: AtomicPtr<ExitEntry> = AtomicPtr::new(ptr::null_mut());

/// Marks an entry that is being filled or emptied.
static TAKEN: c_char = 0;

fn taken() -> *mut c_char {
    ptr::addr_of!(TAKEN).cast_mut()
}

/// Has a directory or a file removed at the end of the process, for as long as this lives.
#[derive(Debug)]
pub struct RemoveAtExit(&'static ExitEntry);

impl RemoveAtExit {
    /// For the empty directory with this id. `None` when the path cannot be told to the system.
    pub fn of(path: &Path, id: FileId) -> Option<RemoveAtExit> {
        let inode = u64::try_from(id.inode).ok()?;
        let entry = RemoveAtExit::entry(path, |entry| {
            entry.device.store(id.device, Ordering::Relaxed);
            entry.inode.store(inode, Ordering::Relaxed);
            entry.remove.store(ptr::null_mut(), Ordering::Relaxed);
        })?;
        watch_signals();
        Some(entry)
    }

    /// For a file that `remove` removes. Signals are watched if `is_watched`: a caller with many
    /// files need not ask for it with each of them.
    pub(crate) fn file(path: &Path, remove: RemoveFile, is_watched: bool) -> Option<RemoveAtExit> {
        let entry = RemoveAtExit::entry(path, |entry| {
            entry.remove.store(remove as *mut (), Ordering::Relaxed);
        })?;
        if is_watched {
            watch_signals();
        }
        Some(entry)
    }

    fn entry(path: &Path, fill: impl FnOnce(&ExitEntry)) -> Option<RemoveAtExit> {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        let entry = free_entry();
        fill(entry);
        entry.process.store(std::process::id().into(), Ordering::Relaxed);
        entry.path.store(path.into_raw(), Ordering::Release);
        remove_at_exit();
        Some(RemoveAtExit(entry))
    }
}

/// What removes other things.
static OTHERS: OnceLock<fn()> = OnceLock::new();

/// Has something else removed, too, by a function that does only what a signal handler may do. There
/// is one such function.
pub(super) fn also_remove(remove: fn()) {
    let _ = OTHERS.set(remove);
    remove_at_exit();
    watch_signals();
}

fn remove_at_exit() {
    static AT_EXIT: Once = Once::new();
    // SAFETY: `at_exit` takes nothing and does not unwind. That it cannot be registered only means
    // that what is there stays, to become stale.
    AT_EXIT.call_once(|| unsafe {
        libc::atexit(at_exit);
    });
}

impl Drop for RemoveAtExit {
    fn drop(&mut self) {
        let entry = self.0;
        let path = entry.path.swap(taken(), Ordering::AcqRel);
        if !path.is_null() && path != taken() {
            // SAFETY: it comes from `CString::into_raw`, and the exchange has made it ours.
            drop(unsafe { CString::from_raw(path) });
        }
        entry.path.store(ptr::null_mut(), Ordering::Release);
        guard(&FREE).push(entry);
    }
}

/// Entries that are not used. Signal handlers do not look here.
static FREE: Mutex<Vec<&ExitEntry>> = Mutex::new(Vec::new());

/// An unused entry, marked as taken.
fn free_entry() -> &'static ExitEntry {
    if let Some(entry) = guard(&FREE).pop() {
        entry.path.store(taken(), Ordering::Relaxed);
        return entry;
    }
    let entry = Box::leak(Box::new(ExitEntry {
        path: AtomicPtr::new(taken()),
        remove: AtomicPtr::new(ptr::null_mut()),
        device: AtomicU64::new(0),
        inode: AtomicU64::new(0),
        process: AtomicU64::new(0),
        next: ptr::null(),
    }));
    loop {
        let first = FIRST.load(Ordering::Acquire);
        entry.next = first;
        let own = ptr::from_mut(entry);
        if FIRST.compare_exchange(first, own, Ordering::Release, Ordering::Relaxed).is_ok() {
            // SAFETY: it is leaked, and from here on only read.
            return unsafe { &*own };
        }
    }
}

/// Removes all of them. It does only what a signal handler may do: system calls and atomic
/// operations.
fn remove_all() {
    if let Some(remove) = OTHERS.get() {
        remove();
    }
    // SAFETY: it takes nothing and cannot fail.
    let process = unsafe { libc::getpid() };
    let mut at: *const ExitEntry = FIRST.load(Ordering::Acquire);
    // SAFETY: entries are never freed.
    while let Some(entry) = unsafe { at.as_ref() } {
        at = entry.next;
        let path = entry.path.load(Ordering::Acquire);
        if path.is_null() || path == taken() {
            continue;
        }
        // A child between `fork` and `exec` may share this memory.
        if i64::try_from(entry.process.load(Ordering::Relaxed)) != Ok(process.into()) {
            continue;
        }
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        // The memory of the path is not freed: the process ends.
        if entry.path.compare_exchange(path, taken(), order.0, order.1).is_err() {
            continue;
        }
        let remove = entry.remove.load(Ordering::Relaxed);
        if !remove.is_null() {
            // SAFETY: what is not null there is a `RemoveFile`, and the path is as below.
            unsafe { std::mem::transmute::<*mut (), RemoveFile>(remove)(CStr::from_ptr(path)) };
            continue;
        }
        // SAFETY: the path ends with a zero byte and is ours by the exchange.
        let named = unsafe { CStr::from_ptr(path) };
        // A system call and no more. That of the C library has small numbers for files on some systems
        // of 32 bits, and fails where the number of a file is large.
        let Ok(found) = rustix::fs::lstat(named) else { continue };
        // The fields' types differ between the Unixes.
        #[allow(clippy::unnecessary_cast)]
        let (device, inode) = (found.st_dev as u64, found.st_ino as u64);
        if device == entry.device.load(Ordering::Relaxed)
            && inode == entry.inode.load(Ordering::Relaxed)
        {
            // SAFETY: as above.
            unsafe { libc::rmdir(path) };
        }
    }
}

extern "C" fn at_exit() {
    remove_all();
}

extern "C" fn on_signal(signal: c_int) {
    remove_all();
    let index = SIGNALS.iter().position(|known| *known == signal);
    let before = index.and_then(|index| BEFORE.get(index));
    let before = before.map_or(ptr::null_mut(), |before| before.load(Ordering::Acquire));
    // SAFETY: what was there before came from `sigaction` and is never freed; null changes
    // nothing, but then this handler would not have been called. The signal is held back until
    // this function returns.
    unsafe {
        libc::sigaction(signal, before, ptr::null_mut());
        libc::raise(signal);
    }
}

/// Installs our handlers for the signals that would end the process. To be called again when the
/// program has removed a handler of its own.
pub fn watch_signals() {
    if !is_needed() {
        return;
    }
    SIGNALS.iter().zip(&BEFORE).for_each(|(signal, before)| watch(*signal, before));
}

/// Whether there is anything to remove, or may be.
fn is_needed() -> bool {
    if OTHERS.get().is_some() {
        return true;
    }
    let mut at: *const ExitEntry = FIRST.load(Ordering::Acquire);
    // SAFETY: entries are never freed.
    while let Some(entry) = unsafe { at.as_ref() } {
        if !entry.path.load(Ordering::Acquire).is_null() {
            return true;
        }
        at = entry.next;
    }
    false
}

/// Installs our handler if the signal would end the process.
fn watch(signal: c_int, before: &AtomicPtr<libc::sigaction>) {
    // SAFETY: all zeros is a valid value of this structure: the default action, no flags, an
    // empty set.
    let mut known: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: it only asks, and `known` has room for the answer.
    if unsafe { libc::sigaction(signal, ptr::null(), &raw mut known) } != 0 {
        return;
    }
    // A handler that is called only once is Node's, which resets the terminal and lets the process
    // end, or that of another copy of this code.
    let is_deadly = known.sa_sigaction == libc::SIG_DFL
        || (known.sa_sigaction != libc::SIG_IGN && known.sa_flags & libc::SA_RESETHAND != 0);
    if !is_deadly || known.sa_sigaction == on_signal as *const () as libc::sighandler_t {
        return;
    }
    before.store(Box::into_raw(Box::new(known)), Ordering::Release);
    // SAFETY: as above.
    let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
    ours.sa_sigaction = on_signal as *const () as libc::sighandler_t;
    ours.sa_flags = libc::SA_RESETHAND;
    // SAFETY: both point to structures that outlive the calls.
    unsafe {
        libc::sigfillset(&raw mut ours.sa_mask);
        libc::sigaction(signal, &raw const ours, ptr::null_mut());
    }
}
