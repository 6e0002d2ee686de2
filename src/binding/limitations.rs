//! Tells every environment what file systems cannot do.

use std::sync::Mutex;

use crate::fs::{FoundLimitation, found_limitations, set_limitation_hook};
use crate::mutex::guard;

/// Takes what was found to an environment, and says whether that still exists.
type Listener = Box<dyn Fn(&FoundLimitation) -> bool + Send>;

static LISTENERS: Mutex<Vec<Listener>> = Mutex::new(Vec::new());

/// Tells a new environment what has been found, and from now on what is found.
pub(super) fn tell_limitations_to(listener: impl Fn(&FoundLimitation) -> bool + Send + 'static) {
    set_limitation_hook(|found| guard(&LISTENERS).retain(|tell| tell(found)));
    let mut listeners = guard(&LISTENERS);
    // Under the mutex, so that nothing is missed. What is told twice is logged once.
    let is_there = found_limitations().iter().all(&listener);
    if is_there {
        listeners.push(Box::new(listener));
    }
}
