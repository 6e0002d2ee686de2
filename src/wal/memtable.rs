//! The newest entry of each id, in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::batch::{Entry, EntryRef, Op, pack_with_sequence, packed_length};

/// What an entry takes beside its id and payload, about.
const OVERHEAD: usize = 160;

/// So many replaced entries are kept in the order without another thought.
const LEAST: usize = 1024;

/// The entries of one collection. A deleted id stays until a checkpoint passes it: whoever
/// flushes the memtable has to hear of it.
#[derive(Default)]
pub(super) struct Memtable {
    by_id: HashMap<Arc<str>, Held>,
    /// Every entry that came in, in the order of the numbers. One that another of the same id
    /// has replaced stays here for a while: it counts only while `by_id` has its number.
    order: VecDeque<(u64, Arc<str>)>,
    bytes: usize,
}

struct Held {
    sequence: u64,
    op: Op,
    timestamp: i64,
    is_text: bool,
    payload: Box<[u8]>,
}

impl Held {
    fn look<'a>(&'a self, id: &'a str) -> EntryRef<'a> {
        let Held { op, timestamp, is_text, ref payload, .. } = *self;
        EntryRef { id, op, timestamp, is_text, payload }
    }
}

fn is_newest(by_id: &HashMap<Arc<str>, Held>, sequence: u64, id: &str) -> bool {
    by_id.get(id).is_some_and(|held| held.sequence == sequence)
}

impl Memtable {
    /// Takes an entry in. Entries come in the order of their numbers.
    pub(super) fn insert(&mut self, sequence: u64, entry: EntryRef<'_>) {
        let EntryRef { id, op, timestamp, is_text, payload } = entry;
        let held = Held { sequence, op, timestamp, is_text, payload: payload.into() };
        self.bytes += OVERHEAD + id.len() + payload.len();
        if let Some(place) = self.by_id.get_mut(id) {
            let old = std::mem::replace(place, held);
            self.bytes -= OVERHEAD + id.len() + old.payload.len();
            if let Some((name, _)) = self.by_id.get_key_value(id) {
                self.order.push_back((sequence, Arc::clone(name)));
            }
            if self.order.len() > 2 * self.by_id.len() + LEAST {
                let by_id = &self.by_id;
                self.order.retain(|(sequence, id)| is_newest(by_id, *sequence, id));
            }
        } else {
            let name: Arc<str> = id.into();
            self.order.push_back((sequence, Arc::clone(&name)));
            self.by_id.insert(name, held);
        }
    }

    /// The newest entry of an id, unless that is its deletion.
    pub(super) fn get(&self, id: &str) -> Option<Entry> {
        let held = self.by_id.get(id).filter(|held| held.op != Op::Delete)?;
        Some(Entry::new(held.sequence, held.look(id)))
    }

    /// Packs the entries after `after`, in the order of their numbers, until `most` bytes are
    /// reached or there are no more up to `until`. The answer is the number of the last one
    /// that was looked at, or `None` when nothing is left.
    pub(super) fn pack(
        &self,
        out: &mut Vec<u8>,
        (after, until): (u64, u64),
        most: usize,
        with_deletions: bool,
    ) -> Option<u64> {
        let mut last = None;
        if after >= until {
            return None;
        }
        let start = self.order.partition_point(|(sequence, _)| *sequence <= after);
        for (sequence, id) in self.order.range(start..) {
            if *sequence > until {
                break;
            }
            let Some(held) = self.by_id.get(id).filter(|held| held.sequence == *sequence) else {
                continue;
            };
            let entry = held.look(id);
            if last.is_some() && out.len() + packed_length(entry) > most {
                return last;
            }
            last = Some(*sequence);
            if with_deletions || held.op != Op::Delete {
                pack_with_sequence(out, *sequence, entry);
            }
        }
        last
    }

    /// Drops the entries up to a number.
    pub(super) fn release(&mut self, up_to: u64) {
        let end = self.order.partition_point(|(sequence, _)| *sequence <= up_to);
        for (sequence, id) in self.order.drain(..end) {
            if is_newest(&self.by_id, sequence, &id)
                && let Some(held) = self.by_id.remove(&id)
            {
                self.bytes -= OVERHEAD + id.len() + held.payload.len();
            }
        }
        // Memory that a flush was to free is given back.
        if self.by_id.capacity() > 4 * self.by_id.len() {
            self.by_id.shrink_to_fit();
            self.order.shrink_to_fit();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How much memory it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
