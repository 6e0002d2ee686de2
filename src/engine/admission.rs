//! Limits how many temp files are open on one device at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use crate::mutex::guard;

/// Admits so many writes to one device at a time, so that a slow disk does not use up the files
/// that a process may have open. The waiting ones keep nothing open.
pub(super) struct Admission<T> {
    most: usize,
    devices: Mutex<HashMap<u64, DeviceAdmission<T>>>,
}

struct DeviceAdmission<T> {
    admitted: usize,
    waiting: VecDeque<T>,
}

impl<T> Admission<T> {
    pub(super) fn new(most: usize) -> Admission<T> {
        Admission { most, devices: Mutex::default() }
    }

    /// Returns the item if it is admitted now, and otherwise keeps it until there is room. At the
    /// moment not more than `most` are admitted.
    pub(super) fn enter(&self, device: u64, most: usize, item: T) -> Option<T> {
        let mut devices = guard(&self.devices);
        let device = devices
            .entry(device)
            .or_insert_with(|| DeviceAdmission { admitted: 0, waiting: VecDeque::new() });
        if device.admitted < self.most.min(most) {
            device.admitted += 1;
            return Some(item);
        }
        device.waiting.push_back(item);
        None
    }

    /// Makes room. An item that is returned is admitted instead.
    pub(super) fn leave(&self, device: u64) -> Option<T> {
        let mut devices = guard(&self.devices);
        let admission = devices.get_mut(&device)?;
        let next = admission.waiting.pop_front();
        if next.is_none() {
            admission.admitted = admission.admitted.saturating_sub(1);
            if admission.admitted == 0 {
                devices.remove(&device);
            }
        }
        next
    }

    /// Whether more than one is admitted.
    pub(super) fn is_shared(&self, device: u64) -> bool {
        guard(&self.devices).get(&device).is_some_and(|device| device.admitted > 1)
    }

    /// Takes the waiting items out for which this is so.
    pub(super) fn take_if(&self, mut is_so: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for device in guard(&self.devices).values_mut() {
            let all = std::mem::take(&mut device.waiting);
            let (so, others): (Vec<T>, Vec<T>) = all.into_iter().partition(|item| is_so(item));
            device.waiting = others.into();
            taken.extend(so);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_admitted_and_the_others_follow_in_order() {
        let admission = Admission::new(2);
        assert_eq!(admission.enter(1, 9, "a"), Some("a"));
        assert_eq!(admission.enter(1, 9, "b"), Some("b"));
        assert_eq!(admission.enter(1, 9, "c"), None);
        assert_eq!(admission.enter(1, 9, "d"), None);
        assert_eq!(admission.enter(2, 9, "elsewhere"), Some("elsewhere"));
        assert_eq!(admission.take_if(|item| *item == "c"), ["c"]);
        assert_eq!(admission.leave(1), Some("d"));
        assert_eq!(admission.leave(1), None);
        assert_eq!(admission.enter(1, 9, "e"), Some("e"));
        assert_eq!(admission.enter(1, 9, "f"), None);
        assert_eq!(admission.enter(3, 1, "g"), Some("g"));
        assert_eq!(admission.enter(3, 1, "h"), None);
    }
}
