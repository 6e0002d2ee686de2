//! How long a process may go on with a lock once it has had its turn.

use std::time::{Duration, Instant};

/// Handing a lock over to another process takes as long as many short critical sections: that
/// process has to wake up. So a process that has the lock may take it again, before the processes
/// that have tickets, for this long. A process waits for a time slice, and what was begun in it,
/// longer for each process before it.
const TIME_SLICE: Duration = Duration::from_millis(1);

/// The time in which a process may go on with a lock for writing.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeSlice {
    began: Instant,
}

impl TimeSlice {
    /// It begins when the process gets the lock in its turn.
    pub(super) fn begin() -> TimeSlice {
        TimeSlice { began: Instant::now() }
    }

    /// Whether it may take the lock again.
    pub(super) fn goes_on(self) -> bool {
        self.began.elapsed() < TIME_SLICE
    }
}
