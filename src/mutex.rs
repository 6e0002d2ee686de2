//! The mutexes inside holdfast.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a mutex, whatever has become of those who had it before.
///
/// Nothing that runs under one can panic and leave what it guards half changed.
pub(crate) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
