//! Calls whose file is not known yet, by the name that they give it.
//!
//! Finding out which file a path means takes system calls, on whichever thread is free. Calls that
//! name it alike stay together until it is found, in the order in which they were made, so that
//! none overtakes another on the way to its queue: the first one of a name has its file looked for,
//! the others join it.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// Calls that wait until their file is known. It is kept under a mutex, and looks for nothing
/// itself.
pub(crate) struct UnresolvedCalls<N, C> {
    groups: HashMap<N, Vec<C>>,
}

impl<N, C> Default for UnresolvedCalls<N, C> {
    fn default() -> UnresolvedCalls<N, C> {
        UnresolvedCalls { groups: HashMap::new() }
    }
}

impl<N: Eq + Hash, C> UnresolvedCalls<N, C> {
    /// Takes a call in. `true` for the first one of its name: who made it has the file looked for.
    pub(crate) fn join(&mut self, name: N, call: C) -> bool {
        match self.groups.entry(name) {
            Entry::Occupied(mut group) => {
                group.get_mut().push(call);
                false
            }
            Entry::Vacant(group) => {
                group.insert(vec![call]);
                true
            }
        }
    }

    /// Whether no file is being looked for.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The calls that wait under this name. `None` when its file is not being looked for.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, name: &Q) -> Option<&[C]>
    where
        N: Borrow<Q>,
    {
        self.groups.get(name).map(Vec::as_slice)
    }

    /// Takes the calls of this name out. Calls that come meanwhile still join, and are taken by the
    /// next of these; [`UnresolvedCalls::end_if_empty`] ends it.
    pub(crate) fn take_some<Q: Eq + Hash + ?Sized>(&mut self, name: &Q) -> Vec<C>
    where
        N: Borrow<Q>,
    {
        self.groups.get_mut(name).map(std::mem::take).unwrap_or_default()
    }

    /// Ends the look-up of a name under which no call waits. Whether it has ended.
    pub(crate) fn end_if_empty<Q: Eq + Hash + ?Sized>(&mut self, name: &Q) -> bool
    where
        N: Borrow<Q>,
    {
        let is_over = self.groups.get(name).is_none_or(Vec::is_empty);
        if is_over {
            self.groups.remove(name);
        }
        is_over
    }

    /// Takes the calls of this name out; the next call of this name is a first one.
    pub(crate) fn take<Q: Eq + Hash + ?Sized>(&mut self, name: &Q) -> Vec<C>
    where
        N: Borrow<Q>,
    {
        self.groups.remove(name).unwrap_or_default()
    }

    /// Takes the calls of all names out.
    pub(crate) fn take_all(&mut self) -> Vec<C> {
        std::mem::take(&mut self.groups).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_one_name_stay_together_in_order_until_their_file_is_found() {
        let mut calls = UnresolvedCalls::<String, u32>::default();
        assert!(calls.join("a".to_owned(), 1));
        assert!(calls.join("b".to_owned(), 2));
        assert!(!calls.join("a".to_owned(), 3));
        assert_eq!(calls.get("a"), Some([1, 3].as_slice()));
        // While the first ones go to their queue, later ones wait behind them.
        assert_eq!(calls.take_some("a"), [1, 3]);
        assert!(!calls.join("a".to_owned(), 4));
        assert!(!calls.end_if_empty("a"));
        assert_eq!(calls.take_some("a"), [4]);
        assert!(calls.end_if_empty("a"));
        assert_eq!(calls.get("a"), None);
        assert!(calls.join("a".to_owned(), 5));
        assert_eq!(calls.take("a"), [5]);
        assert!(calls.join("a".to_owned(), 6));
        let mut all = calls.take_all();
        all.sort_unstable();
        assert_eq!(all, [2, 6]);
    }
}
