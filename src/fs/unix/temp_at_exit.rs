//! Temp files that are removed when a signal ends the process that has made them.
//!
//! A handler may run at any moment, in any thread, while the others go on. So each temp file has a
//! slot, in memory that is never freed, which says in which directory it is and what it is called;
//! the handler removes by that name, which is random, so that nothing else ever has it. A name is
//! noted before the file is made. Noting it takes no system call and no memory of its own.

use std::cell::UnsafeCell;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use super::remove_at_exit::also_remove;

/// The longest name that a slot has room for; no file system of Linux takes a longer one.
const LONGEST_NAME: usize = 255;

/// How many slots are made at a time.
const SLOTS: usize = 64;

/// What a slot is at. The thread that takes one from one state to the next, by an atomic exchange,
/// owns it meanwhile.
const FREE: u32 = 0;
/// A name is being noted.
const FILLING: u32 = 1;
/// The file may be made at any moment.
const MAKING: u32 = 2;
/// The file is there.
const MADE: u32 = 3;
/// The file stays, whatever becomes of the process.
const KEPT: u32 = 4;
/// A handler has removed the file.
const TAKEN: u32 = 5;

struct Slot {
    state: AtomicU32,
    /// The thread that makes the file.
    thread: AtomicUsize,
    file: UnsafeCell<NotedFile>,
}

struct NotedFile {
    dir: RawFd,
    /// Ends with a zero.
    name: [u8; LONGEST_NAME + 1],
}

// SAFETY: what is in the cell is written only in the state `FILLING`, by the thread that has brought
// the slot into it, and read only by the handler that has brought it into the state `TAKEN`.
unsafe impl Sync for Slot {}

impl Slot {
    const fn new() -> Slot {
        Slot {
            state: AtomicU32::new(FREE),
            thread: AtomicUsize::new(0),
            file: UnsafeCell::new(NotedFile { dir: -1, name: [0; LONGEST_NAME + 1] }),
        }
    }

    fn changes(&self, from: u32, to: u32) -> bool {
        let order = (Ordering::SeqCst, Ordering::Relaxed);
        self.state.compare_exchange(from, to, order.0, order.1).is_ok()
    }
}

/// Slots that are never freed.
struct Block {
    slots: [Slot; SLOTS],
    next: AtomicPtr<Block>,
}

impl Block {
    const fn new() -> Block {
        Block { slots: [const { Slot::new() }; SLOTS], next: AtomicPtr::new(ptr::null_mut()) }
    }
}

static FIRST: Block = Block::new();

/// Where the next search for a free slot begins.
static CURSOR: AtomicUsize = AtomicUsize::new(0);

/// The process that the slots belong to: a child between `fork` and `exec` has a copy of them.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Whether a handler removes the files: what a thread makes now is of use to none.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Has a temp file removed if a signal ends the process, for as long as this lives.
#[derive(Debug)]
pub struct TempAtExit(&'static Slot);

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({})", self.state.load(Ordering::Relaxed))
    }
}

impl TempAtExit {
    /// Notes a name under which a file is about to be made. `None` for a name that is too long for
    /// any file.
    pub(super) fn note(dir: BorrowedFd<'_>, name: &OsStr) -> Option<TempAtExit> {
        let name = name.as_bytes();
        if name.len() > LONGEST_NAME {
            return None;
        }
        static SET_UP: Once = Once::new();
        SET_UP.call_once(|| {
            PROCESS.store(std::process::id(), Ordering::Relaxed);
            also_remove(remove_all);
        });
        let slot = free_slot();
        // SAFETY: the slot is in the state `FILLING`, into which this thread has brought it.
        let noted = unsafe { &mut *slot.file.get() };
        noted.dir = dir.as_raw_fd();
        noted.name.fill(0);
        noted.name.iter_mut().zip(name).for_each(|(place, byte)| *place = *byte);
        slot.thread.store(this_thread(), Ordering::Relaxed);
        slot.state.store(MAKING, Ordering::SeqCst);
        // Either the handler sees that a file is about to be made, or this sees the handler.
        wait_for_the_end();
        Some(TempAtExit(slot))
    }

    /// The file has been made, or is not.
    pub fn made(&self) {
        self.0.changes(MAKING, MADE);
    }

    /// From now on the file stays. `false` if it has been removed, because the process is about to
    /// end.
    pub fn keep(&self) -> bool {
        self.0.changes(MADE, KEPT) || self.0.state.load(Ordering::SeqCst) == KEPT
    }
}

impl Drop for TempAtExit {
    fn drop(&mut self) {
        for state in [MADE, MAKING, KEPT] {
            if self.0.changes(state, FREE) {
                return;
            }
        }
    }
}

fn this_thread() -> usize {
    // SAFETY: it takes nothing and cannot fail. The type is a number, or a pointer, by platform.
    unsafe { libc::pthread_self() as usize }
}

/// A slot that nothing uses, in the state `FILLING`.
fn free_slot() -> &'static Slot {
    let start = CURSOR.fetch_add(1, Ordering::Relaxed);
    let mut block: &'static Block = &FIRST;
    loop {
        for index in 0..SLOTS {
            if let Some(slot) = block.slots.get((start + index) % SLOTS)
                && slot.changes(FREE, FILLING)
            {
                return slot;
            }
        }
        block = block_after(block);
    }
}

fn block_after(block: &'static Block) -> &'static Block {
    // SAFETY: blocks are never freed.
    if let Some(next) = unsafe { block.next.load(Ordering::Acquire).as_ref() } {
        return next;
    }
    let new = Box::into_raw(Box::new(Block::new()));
    let order = (Ordering::AcqRel, Ordering::Acquire);
    match block.next.compare_exchange(ptr::null_mut(), new, order.0, order.1) {
        // SAFETY: it has just been made, and is never freed.
        Ok(_) => unsafe { &*new },
        Err(other) => {
            // SAFETY: no other thread has seen it.
            drop(unsafe { Box::from_raw(new) });
            // SAFETY: as above: it is not null, and never freed.
            unsafe { &*other }
        }
    }
}

/// Waits for as long as a handler may be at work: then the process ends. Should it live on, this
/// goes on as if nothing had happened.
fn wait_for_the_end() {
    const PAUSES: u32 = 100;
    if !IS_ENDING.load(Ordering::SeqCst) {
        return;
    }
    for _ in 0..PAUSES {
        std::thread::sleep(Duration::from_millis(10));
    }
    IS_ENDING.store(false, Ordering::SeqCst);
}

/// Removes all temp files. It does only what a signal handler may do: system calls and atomic
/// operations.
fn remove_all() {
    // SAFETY: it takes nothing and cannot fail.
    let process = unsafe { libc::getpid() };
    if u32::try_from(process) != Ok(PROCESS.load(Ordering::Relaxed)) {
        return;
    }
    IS_ENDING.store(true, Ordering::SeqCst);
    let own = this_thread();
    let mut at: *const Block = &raw const FIRST;
    // SAFETY: blocks are never freed.
    while let Some(block) = unsafe { at.as_ref() } {
        block.slots.iter().for_each(|slot| remove(slot, own));
        at = block.next.load(Ordering::Acquire);
    }
}

fn remove(slot: &Slot, own: usize) {
    // A file that another thread is about to make is waited for, or it would be made when its name
    // has been removed. This thread is in the handler: what it was about to make it has made, or
    // never will.
    const PAUSES: u32 = 50;
    for _ in 0..PAUSES {
        let is_own = slot.thread.load(Ordering::Relaxed) == own;
        if slot.state.load(Ordering::SeqCst) != MAKING || is_own {
            break;
        }
        let pause = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        // SAFETY: the pause outlives the call, and nothing is asked for in return.
        unsafe { libc::nanosleep(&raw const pause, ptr::null_mut()) };
    }
    if !slot.changes(MADE, TAKEN) && !slot.changes(MAKING, TAKEN) {
        return;
    }
    // SAFETY: the slot is in the state `TAKEN`, into which this thread has brought it, so that no
    // other thread writes to it. The name ends with a zero. Should the directory have been closed
    // meanwhile, there is nothing of that name wherever the number leads.
    unsafe {
        let file = slot.file.get().cast_const();
        libc::unlinkat((*file).dir, (&raw const (*file).name).cast(), 0);
    }
}
