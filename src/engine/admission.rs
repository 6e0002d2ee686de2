//! Limits how many temp files are open on one device at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use crate::mutex::guard;

/// Lets so many writes have a temp file on one device at a time, so that a slow disk does not
/// use up the files that a process may have open. The others keep nothing open meanwhile.
pub(super) struct Admission<T> {
    most: usize,
    devices: Mutex<HashMap<u64, Device<T>>>,
}

struct Device<T> {
    inside: usize,
    outside: VecDeque<T>,
}

impl<T> Admission<T> {
    pub(super) fn new(most: usize) -> Admission<T> {
        Admission { most, devices: Mutex::default() }
    }

    /// Gives the item back if it may go on now, and keeps it until there is room otherwise.
    pub(super) fn enter(&self, device: u64, item: T) -> Option<T> {
        let mut devices = guard(&self.devices);
        let device =
            devices.entry(device).or_insert_with(|| Device { inside: 0, outside: VecDeque::new() });
        if device.inside < self.most {
            device.inside += 1;
            return Some(item);
        }
        device.outside.push_back(item);
        None
    }

    /// Makes room. Whoever is given may go on in its stead.
    pub(super) fn leave(&self, device: u64) -> Option<T> {
        let mut devices = guard(&self.devices);
        let place = devices.get_mut(&device)?;
        let next = place.outside.pop_front();
        if next.is_none() {
            place.inside = place.inside.saturating_sub(1);
            if place.inside == 0 {
                devices.remove(&device);
            }
        }
        next
    }

    /// Takes those out of all that wait for which this is so.
    pub(super) fn take_if(&self, mut is_so: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for device in guard(&self.devices).values_mut() {
            let all = std::mem::take(&mut device.outside);
            let (so, others): (Vec<T>, Vec<T>) = all.into_iter().partition(|item| is_so(item));
            device.outside = others.into();
            taken.extend(so);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_inside_and_the_others_follow_in_order() {
        let admission = Admission::new(2);
        assert_eq!(admission.enter(1, "a"), Some("a"));
        assert_eq!(admission.enter(1, "b"), Some("b"));
        assert_eq!(admission.enter(1, "c"), None);
        assert_eq!(admission.enter(1, "d"), None);
        assert_eq!(admission.enter(2, "elsewhere"), Some("elsewhere"));
        assert_eq!(admission.take_if(|item| *item == "c"), ["c"]);
        assert_eq!(admission.leave(1), Some("d"));
        assert_eq!(admission.leave(1), None);
        assert_eq!(admission.enter(1, "e"), Some("e"));
        assert_eq!(admission.enter(1, "f"), None);
    }
}
