//! Those who wait for what is appended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::mutex::guard;
use crate::wal::follow::Signal;

/// Those who follow a collection, by its name.
#[derive(Default)]
pub(super) struct Followers {
    /// How many there are, or have been a moment ago. An append looks no further than this.
    count: AtomicUsize,
    signals: Mutex<HashMap<String, Vec<Weak<Signal>>>>,
}

impl Followers {
    /// Tells those who follow a collection. What they are to see is visible already: the order of the
    /// two, and of the count and the look of one who begins to follow, is the same for every thread.
    pub(super) fn appended(&self, collection: &str) {
        if self.count.load(Ordering::SeqCst) > 0 {
            let signals = guard(&self.signals).get(collection).cloned().unwrap_or_default();
            signals.iter().filter_map(Weak::upgrade).for_each(|signal| signal.notify());
        }
    }

    /// Tells all: nothing is appended any more.
    pub(super) fn closed(&self) {
        let signals = guard(&self.signals).values().flatten().cloned().collect::<Vec<_>>();
        signals.iter().filter_map(Weak::upgrade).for_each(|signal| signal.notify());
    }

    pub(super) fn add(&self, collection: &str, signal: &Arc<Signal>) {
        let mut signals = guard(&self.signals);
        for list in signals.values_mut() {
            list.retain(|each| each.strong_count() > 0);
        }
        signals.retain(|_, list| !list.is_empty());
        signals.entry(collection.to_owned()).or_default().push(Arc::downgrade(signal));
        self.count.store(signals.values().map(Vec::len).sum(), Ordering::SeqCst);
    }
}
