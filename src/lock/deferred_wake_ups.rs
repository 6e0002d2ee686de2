//! What waits until a thread has handed out all the locks that it has.

use std::cell::RefCell;
use std::sync::Arc;

use super::queue::Queue;

thread_local! {
    /// While this thread hands out locks: the queues to look after when it has done so.
    static TO_PUMP: RefCell<Option<Vec<Arc<Queue>>>> = const { RefCell::new(None) };
}

/// A thread that hands out locks. Dropping the outermost one looks after what has come of it.
pub(super) struct DeferredWakeUps {
    is_outermost: bool,
}

impl DeferredWakeUps {
    pub(super) fn begin() -> DeferredWakeUps {
        let is_outermost = !DeferredWakeUps::is_under_way();
        if is_outermost {
            let _ = TO_PUMP.try_with(|queues| queues.replace(Some(Vec::new())));
        }
        DeferredWakeUps { is_outermost }
    }

    pub(super) fn is_under_way() -> bool {
        TO_PUMP.try_with(|queues| queues.borrow().is_some()).unwrap_or(false)
    }

    pub(super) fn then_pump(queue: &Arc<Queue>) {
        let _ = TO_PUMP.try_with(|queues| {
            if let Some(queues) = &mut *queues.borrow_mut() {
                queues.push(Arc::clone(queue));
            }
        });
    }

    fn next() -> Option<Arc<Queue>> {
        TO_PUMP.try_with(|queues| queues.borrow_mut().as_mut().and_then(Vec::pop)).ok().flatten()
    }
}

impl Drop for DeferredWakeUps {
    fn drop(&mut self) {
        if self.is_outermost {
            while let Some(queue) = DeferredWakeUps::next() {
                queue.pump();
            }
            let _ = TO_PUMP.try_with(|queues| queues.replace(None));
        }
    }
}
