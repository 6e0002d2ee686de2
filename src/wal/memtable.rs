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

/// A batch of so few entries is not worth keeping: each gets memory of its own.
const FEW: usize = 4;

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
    /// The batches that entries lie in, in the order of their numbers.
    lots: VecDeque<Lot>,
    /// How many of them are given up.
    given_up: usize,
    /// Batches that are not sorted in yet, with the numbers of their first entries.
    announced: VecDeque<(u64, Arc<Batch>)>,
}

struct Held {
    hash: u64,
    sequence: u64,
    packed: Packed,
}

/// An entry as a [`Batch`] has it.
enum Packed {
    /// In the batch that it came with, from here on.
    At(u32),
    /// In memory of its own.
    Own(Box<[u8]>),
}

/// A batch that entries lie in. To give each its own memory would cost more than all else that
/// is done to them here.
struct Lot {
    /// The number of its first entry.
    first: u64,
    /// `None` when it is given up.
    batch: Option<Arc<Batch>>,
    /// How many of its bytes are in use. It is given up when that is less than half.
    used: usize,
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
            lots: VecDeque::new(),
            given_up: 0,
            announced: VecDeque::new(),
        }
    }
}

/// The memory that is an entry's alone.
fn own_bytes(packed: &Packed) -> usize {
    match packed {
        Packed::Own(packed) => packed.len(),
        Packed::At(_) => 0,
    }
}

/// The shard of a hash. Its lowest and highest bits are what the tables themselves go by.
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

fn held_at<'a>(shards: &'a [HashTable<Held>], place: &Place) -> Option<&'a Held> {
    shards.get(shard_of(place.hash))?.find(place.hash, |held| held.sequence == place.sequence)
}

/// Where the batch is that the entry with this number came with.
fn lot_of(lots: &VecDeque<Lot>, sequence: u64) -> Option<usize> {
    lots.partition_point(|lot| lot.first <= sequence).checked_sub(1)
}

fn packed_of<'a>(lots: &'a VecDeque<Lot>, held: &'a Held) -> Option<&'a [u8]> {
    match &held.packed {
        Packed::Own(packed) => Some(packed),
        Packed::At(at) => {
            let lot = lots.get(lot_of(lots, held.sequence)?)?;
            lot.batch.as_ref()?.piece(*at as usize)
        }
    }
}

impl Memtable {
    /// Takes a batch in. Batches come in the order of their numbers.
    pub(super) fn announce(&mut self, first: u64, batch: Arc<Batch>) {
        self.announced.push_back((first, batch));
    }

    /// Sorts in the next batch that has been announced, if there is one.
    pub(super) fn settle_next(&mut self) -> bool {
        let Some((first, batch)) = self.announced.pop_front() else { return false };
        if batch.len() < FEW {
            for (sequence, (_, packed)) in (first..).zip(batch.pieces()) {
                self.put(sequence, packed, Packed::Own(packed.into()), sequence);
            }
            return true;
        }
        self.bytes += batch.bytes();
        let (used, kept) = (batch.bytes(), Some(Arc::clone(&batch)));
        self.lots.push_back(Lot { first, batch: kept, used });
        for (sequence, (at, packed)) in (first..).zip(batch.pieces()) {
            // No batch has 4 GiB.
            self.put(sequence, packed, Packed::At(at as u32), first);
        }
        self.give_up_if_sparse(first);
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
            let own = Packed::Own(packed.as_slice().into());
            self.put(sequence, &packed, own, sequence);
        }
    }

    /// `first` is the number of the first entry of the batch that is being sorted in. That is
    /// not given up before its last entry.
    fn put(&mut self, sequence: u64, bytes: &[u8], packed: Packed, first: u64) {
        let Some(id) = id_of(bytes) else { return };
        let hash = self.hasher.hash_one(id);
        let Some(shard) = self.shards.get_mut(shard_of(hash)) else { return };
        self.bytes += OVERHEAD + own_bytes(&packed);
        let lots = &self.lots;
        let is_same =
            |held: &Held| held.hash == hash && packed_of(lots, held).and_then(id_of) == Some(id);
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
                self.drop_held(&old);
                if old.sequence < first {
                    self.give_up_if_sparse(old.sequence);
                }
                if self.order.len() > 2 * self.len + LEAST {
                    let shards = &self.shards;
                    self.order.retain(|place| held_at(shards, place).is_some());
                }
            }
        }
    }

    /// Takes what an entry has taken off the books.
    fn drop_held(&mut self, held: &Held) {
        self.bytes -= OVERHEAD + own_bytes(&held.packed);
        let Packed::At(at) = held.packed else { return };
        let Some(index) = lot_of(&self.lots, held.sequence) else { return };
        let Some(lot) = self.lots.get_mut(index) else { return };
        let Some(batch) = &lot.batch else { return };
        lot.used -= batch.piece(at as usize).map_or(0, <[u8]>::len);
        if lot.used == 0 {
            self.give_up(index);
        }
    }

    /// Gives up the batch that the entry with this number came with, if too little of it is in
    /// use.
    fn give_up_if_sparse(&mut self, sequence: u64) {
        if let Some(index) = lot_of(&self.lots, sequence)
            && let Some(Lot { batch: Some(batch), used, .. }) = self.lots.get(index)
            && *used < batch.bytes() / 2
        {
            self.give_up(index);
        }
    }

    /// Gives the entries that still lie in a batch memory of their own.
    fn give_up(&mut self, index: usize) {
        let Some(lot) = self.lots.get_mut(index) else { return };
        let Some(batch) = lot.batch.take() else { return };
        let (first, used) = (lot.first, std::mem::take(&mut lot.used));
        self.bytes = self.bytes + used - batch.bytes();
        for (sequence, (_, packed)) in (first..).zip(batch.pieces()).filter(|_| used > 0) {
            let Some(id) = id_of(packed) else { continue };
            let hash = self.hasher.hash_one(id);
            let Some(shard) = self.shards.get_mut(shard_of(hash)) else { continue };
            if let Some(held) = shard.find_mut(hash, |held| held.sequence == sequence) {
                held.packed = Packed::Own(packed.into());
            }
        }
        self.given_up += 1;
        if 2 * self.given_up > self.lots.len() {
            self.lots.retain(|lot| lot.batch.is_some());
            self.given_up = 0;
        }
    }

    /// The newest entry of an id, unless that is its deletion.
    pub(super) fn get(&mut self, id: &str) -> Option<Entry> {
        self.settle();
        let hash = self.hasher.hash_one(id.as_bytes());
        let is_same =
            |held: &Held| packed_of(&self.lots, held).and_then(id_of) == Some(id.as_bytes());
        let held = self.shards.get(shard_of(hash))?.find(hash, is_same)?;
        let entry =
            unpack(&mut packed_of(&self.lots, held)?).filter(|entry| entry.op != Op::Delete)?;
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
            let Some(held) = held_at(&self.shards, place) else { continue };
            let Some(packed) = packed_of(&self.lots, held) else { continue };
            let Held { sequence, .. } = held;
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
        for _ in 0..all.min(most) {
            let Some(Place { sequence, hash }) = self.order.pop_front() else { break };
            let Some(shard) = self.shards.get_mut(shard_of(hash)) else { continue };
            if let Ok(slot) = shard.find_entry(hash, |held| held.sequence == sequence) {
                let (held, _) = slot.remove();
                self.drop_held(&held);
                self.len -= 1;
            }
        }
        if all > most {
            return true;
        }
        // The one that was released in part.
        self.give_up_if_sparse(up_to);
        // Memory that a flush was to free is given back.
        for shard in &mut self.shards {
            if shard.capacity() > 4 * shard.len() {
                shard.shrink_to_fit(|held| held.hash);
            }
        }
        if self.order.capacity() > 4 * self.order.len() {
            self.order.shrink_to_fit();
        }
        if self.lots.capacity() > 4 * self.lots.len() {
            self.lots.shrink_to_fit();
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
