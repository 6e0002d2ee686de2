//! What one environment has open, by the numbers that JavaScript knows it by.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::descriptors::Permit;
use crate::fs::os::Os;
use crate::lock::LockGuard;
use crate::lock::lockfile::LockfileGuard;
use crate::mutex::guard;
use crate::vocabulary::FileKey;
use crate::wal::{AppendQueue, Consumer, Replay};
use crate::write::Stream;

/// Items by their numbers. The table is empty, and stays so, once the environment ends.
pub(super) struct HandleTable<T> {
    state: Mutex<HandleState<T>>,
}

struct HandleState<T> {
    last: u32,
    items: HashMap<u32, T>,
    closed: bool,
}

impl<T> Default for HandleTable<T> {
    fn default() -> HandleTable<T> {
        let state = HandleState { last: 0, items: HashMap::new(), closed: false };
        HandleTable { state: Mutex::new(state) }
    }
}

impl<T> HandleTable<T> {
    fn lock(&self) -> MutexGuard<'_, HandleState<T>> {
        guard(&self.state)
    }

    /// A number that no item has.
    pub(super) fn number(&self) -> u32 {
        let mut state = self.lock();
        loop {
            state.last = state.last.wrapping_add(1);
            if !state.items.contains_key(&state.last) {
                return state.last;
            }
        }
    }

    /// Keeps an item. `None` when the environment has ended; the item is dropped then.
    pub(super) fn keep(&self, item: T) -> Option<u32> {
        let number = self.number();
        self.put(number, item).then_some(number)
    }

    /// Keeps an item under a number that it has had, or that was reserved for it.
    pub(super) fn put(&self, number: u32, item: T) -> bool {
        let mut state = self.lock();
        if state.closed {
            // Dropping an item may do more, which must not be under the mutex: a lock passes to its
            // next holder, a stream removes its temp file.
            drop(state);
            drop(item);
            return false;
        }
        state.items.insert(number, item);
        true
    }

    /// Takes an item out. `None` if that has been done already.
    pub(super) fn take(&self, number: u32) -> Option<T> {
        self.lock().items.remove(&number)
    }

    /// What `look` finds in those of these items that are still kept.
    pub(super) fn look<R>(&self, numbers: &[u32], mut look: impl FnMut(u32, &T) -> R) -> Vec<R> {
        let state = self.lock();
        numbers
            .iter()
            .filter_map(|number| state.items.get(number).map(|item| look(*number, item)))
            .collect()
    }

    /// Takes everything out, and keeps nothing from now on.
    pub(super) fn close(&self) -> Vec<T> {
        let mut state = self.lock();
        state.closed = true;
        std::mem::take(&mut state.items).into_values().collect()
    }
}

impl<T: Clone> HandleTable<T> {
    /// A clone of an item.
    pub(super) fn get(&self, number: u32) -> Option<T> {
        self.lock().items.get(&number).cloned()
    }
}

/// A log that is open. If it still is when the environment ends, it is left as a crash would leave it,
/// and its lock is released when no more is written.
#[derive(Clone)]
pub(super) struct OpenWal {
    pub(super) path: PathBuf,
    pub(super) queue: AppendQueue<Os>,
}

/// A stream that is open, and the permit to keep its files open.
pub(super) struct OpenStream {
    pub(super) stream: Stream<Os>,
    pub(super) permit: Permit,
}

/// A replay of a log that has started.
pub(super) struct OpenReplay {
    pub(super) path: PathBuf,
    pub(super) replay: Replay<Os>,
}

/// A consumer that is open, and its lock.
pub(super) struct OpenConsumer {
    pub(super) path: PathBuf,
    pub(super) consumer: Consumer<Os>,
    pub(super) _guard: LockGuard,
}

/// The lock directories that one environment holds, each in a mutex for the call that uses it at
/// the moment. They are released at the latest when the environment ends.
pub(super) type LockfileHandles = HandleTable<Arc<Mutex<Option<LockfileGuard>>>>;

impl LockfileHandles {
    pub(super) fn keep_lock(&self, lock: LockfileGuard) -> Option<u32> {
        self.keep(Arc::new(Mutex::new(Some(lock))))
    }

    pub(super) fn take_lock(&self, number: u32) -> Option<LockfileGuard> {
        let lock = self.take(number)?;
        guard(&lock).take()
    }

    pub(super) fn keys(&self, numbers: &[u32]) -> Vec<FileKey> {
        // Not under the mutex of the table: a call may be using one of them.
        let locks = self.look(numbers, |_, lock| Arc::clone(lock));
        let key = |lock: &Arc<Mutex<Option<LockfileGuard>>>| {
            guard(lock).as_ref().map(|lock| lock.key().clone())
        };
        locks.iter().filter_map(key).collect()
    }

    /// Takes everything out. What is kept from now on is released at once.
    pub(super) fn take_all(&self) -> Vec<LockfileGuard> {
        self.close().iter().filter_map(|lock| guard(lock).take()).collect()
    }
}
