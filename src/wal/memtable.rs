//! The newest entry of each id, in memory.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use super::batch::{Batch, Entry, EntryRef, Op, id_of, op_of, pack, unpack};

/// What an entry takes beside its packed bytes, about.
const OVERHEAD: usize = 96;

/// So many replaced entries are kept in the order without another thought.
const LEAST: usize = 1024;

/// How many tables the entries are spread over. A table that grows is copied in one go, and
/// whoever appends next would wait for that.
const SHARDS: usize = 64;

/// The entries of one collection. A deleted id stays until a checkpoint passes it: whoever
/// flushes the memtable has to hear of it.
///
/// Whole batches come in at once, by [`Memtable::announce`], and are sorted in afterwards, at
/// the latest when somebody reads: who appends need not wait for that.
pub(super) struct Memtable {
    hasher: RandomState,
    shards: Vec<HashTable<Held>>,
    /// Every entry that came in, in the order of the numbers. One that another of the same id
    /// has replaced stays here for a while: it counts only while its number is in a shard.
    order: VecDeque<Place>,
    len: usize,
    bytes: usize,
    /// Batches that are not sorted in yet, with the numbers of their first entries.
    announced: VecDeque<(u64, Arc<Batch>)>,
}

struct Held {
    hash: u64,
    sequence: u64,
    /// As a [`Batch`] has it: one piece of memory for all of an entry.
    packed: Box<[u8]>,
}

/// Where an entry is found.
struct Place {
    sequence: u64,
    hash: u64,
}

impl Default for Memtable {
    fn default() -> Memtable {
        Memtable {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            order: VecDeque::new(),
            len: 0,
            bytes: 0,
            announced: VecDeque::new(),
        }
    }
}

/// The shard of a hash. Its lowest and highest bits are what the tables themselves go by.
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

fn held_at<'a>(shards: &'a [HashTable<Held>], place: &Place) -> Option<&'a Held> {
    shards.get(shard_of(place.hash))?.find(place.hash, |held| held.sequence == place.sequence)
}

impl Memtable {
    /// Takes a batch in. Batches come in the order of their numbers.
    pub(super) fn announce(&mut self, first: u64, batch: Arc<Batch>) {
        self.announced.push_back((first, batch));
    }

    /// Sorts in the next batch that has been announced, if there is one.
    pub(super) fn settle_next(&mut self) -> bool {
        let Some((first, batch)) = self.announced.pop_front() else { return false };
        for (sequence, packed) in (first..).zip(batch.pieces()) {
            self.put(sequence, packed.into());
        }
        true
    }

    fn settle(&mut self) {
        while self.settle_next() {}
    }

    /// How many bytes have been announced and are not sorted in.
    pub(super) fn backlog(&self) -> usize {
        self.announced.iter().map(|(_, batch)| batch.bytes()).sum()
    }

    /// Takes an entry in. Entries come in the order of their numbers.
    pub(super) fn insert(&mut self, sequence: u64, entry: EntryRef<'_>) {
        let mut packed = Vec::new();
        if pack(&mut packed, entry).is_some() {
            self.put(sequence, packed.into());
        }
    }

    fn put(&mut self, sequence: u64, packed: Box<[u8]>) {
        let Some(id) = id_of(&packed) else { return };
        let hash = self.hasher.hash_one(id);
        let Some(shard) = self.shards.get_mut(shard_of(hash)) else { return };
        self.bytes += OVERHEAD + packed.len();
        let is_same = |held: &Held| held.hash == hash && id_of(&held.packed) == Some(id);
        let slot = shard.entry(hash, is_same, |held| held.hash);
        let held = Held { hash, sequence, packed };
        self.order.push_back(Place { sequence, hash });
        match slot {
            Slot::Vacant(slot) => {
                slot.insert(held);
                self.len += 1;
            }
            Slot::Occupied(mut slot) => {
                let old = std::mem::replace(slot.get_mut(), held);
                self.bytes -= OVERHEAD + old.packed.len();
                if self.order.len() > 2 * self.len + LEAST {
                    let shards = &self.shards;
                    self.order.retain(|place| held_at(shards, place).is_some());
                }
            }
        }
    }

    /// The newest entry of an id, unless that is its deletion.
    pub(super) fn get(&mut self, id: &str) -> Option<Entry> {
        self.settle();
        let hash = self.hasher.hash_one(id.as_bytes());
        let is_same = |held: &Held| id_of(&held.packed) == Some(id.as_bytes());
        let held = self.shards.get(shard_of(hash))?.find(hash, is_same)?;
        let entry = unpack(&mut &*held.packed).filter(|entry| entry.op != Op::Delete)?;
        Some(Entry::new(held.sequence, entry))
    }

    /// Packs the entries after `after`, in the order of their numbers, until `most` bytes are
    /// reached or there are no more up to `until`. The answer is the number of the last one
    /// that was looked at, or `None` when nothing is left.
    pub(super) fn pack(
        &mut self,
        out: &mut Vec<u8>,
        (after, until): (u64, u64),
        most: usize,
        with_deletions: bool,
    ) -> Option<u64> {
        self.settle();
        let mut last = None;
        if after >= until {
            return None;
        }
        let start = self.order.partition_point(|place| place.sequence <= after);
        for place in self.order.range(start..) {
            if place.sequence > until {
                break;
            }
            let Some(Held { sequence, packed, .. }) = held_at(&self.shards, place) else {
                continue;
            };
            if last.is_some() && out.len() + size_of::<u64>() + packed.len() > most {
                return last;
            }
            last = Some(*sequence);
            if with_deletions || op_of(packed) != Some(Op::Delete) {
                out.extend_from_slice(&sequence.to_le_bytes());
                out.extend_from_slice(packed);
            }
        }
        last
    }

    /// Drops the entries up to a number, at most so many. The answer is whether there are more
    /// to drop.
    pub(super) fn release(&mut self, up_to: u64, most: usize) -> bool {
        self.settle();
        let all = self.order.partition_point(|place| place.sequence <= up_to);
        for Place { sequence, hash } in self.order.drain(..all.min(most)) {
            let Some(shard) = self.shards.get_mut(shard_of(hash)) else { continue };
            if let Ok(slot) = shard.find_entry(hash, |held| held.sequence == sequence) {
                let (held, _) = slot.remove();
                self.bytes -= OVERHEAD + held.packed.len();
                self.len -= 1;
            }
        }
        if all > most {
            return true;
        }
        // Memory that a flush was to free is given back.
        for shard in &mut self.shards {
            if shard.capacity() > 4 * shard.len() {
                shard.shrink_to_fit(|held| held.hash);
            }
        }
        if self.order.capacity() > 4 * self.order.len() {
            self.order.shrink_to_fit();
        }
        false
    }

    pub(super) fn len(&mut self) -> usize {
        self.settle();
        self.len
    }

    /// How much memory it takes, about.
    pub(super) fn bytes(&mut self) -> usize {
        self.settle();
        self.bytes
    }

    /// The same without sorting anything in, so that an entry which replaces another may count
    /// beside it.
    pub(super) fn most_bytes(&self) -> usize {
        let announced =
            self.announced.iter().map(|(_, batch)| batch.bytes() + OVERHEAD * batch.len());
        self.bytes + announced.sum::<usize>()
    }
}
