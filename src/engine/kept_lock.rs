//! A lock that a write holds: between two attempts other processes may have it.

use crate::lock::LockGuard;
use crate::threads::task::TakeAgain;
use crate::write::Kept;

impl Kept for LockGuard {
    fn give_back(&self) {
        LockGuard::give_back(self);
    }

    fn take_again(&self) -> TakeAgain {
        LockGuard::take_again(self)
    }
}
