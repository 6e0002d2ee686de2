//! The newest entry of each id, in memory.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use super::batch::{Batch, EntryRef, Op, WalEntry, id_of, op_of, pack, unpack};

/// What an entry takes beside its packed bytes, about.
const OVERHEAD: usize = 96;

/// How many replaced entries may always stay in the order.
const MOST_REPLACED: usize = 1024;

/// A batch of fewer entries is not worth keeping: each gets memory of its own.
const SMALL_BATCH: usize = 4;

/// How many tables the entries are spread over. A table that grows is copied in one go, and the
/// next append would wait for that.
const SHARDS: usize = 64;

/// The entries of one collection. A deleted id stays until a checkpoint passes it: a flush of the
/// memtable has to report it.
///
/// Whole batches come in at once, by [`Memtable::add_pending`], and are applied afterwards, at
/// the latest by the next read: an append need not wait for that.
pub(super) struct Memtable {
    hasher: RandomState,
    shards: Vec<HashTable<MemtableEntry>>,
    /// Every entry that came in, in the order of the numbers. One that another of the same id
    /// has replaced stays here for a while: it counts only while its number is in a shard.
    order: VecDeque<OrderKey>,
    len: usize,
    bytes: usize,
    /// The batches that entries lie in, in the order of their numbers.
    batches: VecDeque<SharedBatch>,
    /// How many of them are dissolved.
    dissolved: usize,
    /// Batches that are not applied yet, with the numbers of their first entries.
    pending: VecDeque<(u64, Arc<Batch>)>,
}

struct MemtableEntry {
    hash: u64,
    sequence: u64,
    packed: PackedEntry,
}

/// An entry as a [`Batch`] has it.
enum PackedEntry {
    /// In the batch that it came with, from here on.
    InBatch(u32),
    /// In memory of its own.
    Owned(Box<[u8]>),
}

/// A batch that entries lie in. To give each its own memory would cost more than all else that
/// is done to them here.
struct SharedBatch {
    /// The number of its first entry.
    first: u64,
    /// `None` when it is dissolved: each entry that is left has memory of its own.
    batch: Option<Arc<Batch>>,
    /// How many of its bytes are in use. It is dissolved when that is less than half.
    used: usize,
}

/// What an entry is found by, in the order of the numbers.
struct OrderKey {
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
            batches: VecDeque::new(),
            dissolved: 0,
            pending: VecDeque::new(),
        }
    }
}

/// The memory that is an entry's alone.
fn own_bytes(packed: &PackedEntry) -> usize {
    match packed {
        PackedEntry::Owned(packed) => packed.len(),
        PackedEntry::InBatch(_) => 0,
    }
}

/// The shard of a hash. Its lowest and highest bits are what the tables themselves go by.
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

fn entry_at<'a>(
    shards: &'a [HashTable<MemtableEntry>],
    key: &OrderKey,
) -> Option<&'a MemtableEntry> {
    shards.get(shard_of(key.hash))?.find(key.hash, |entry| entry.sequence == key.sequence)
}

/// Where the batch is that the entry with this number came with.
fn batch_index(batches: &VecDeque<SharedBatch>, sequence: u64) -> Option<usize> {
    batches.partition_point(|shared| shared.first <= sequence).checked_sub(1)
}

fn packed_of<'a>(batches: &'a VecDeque<SharedBatch>, entry: &'a MemtableEntry) -> Option<&'a [u8]> {
    match &entry.packed {
        PackedEntry::Owned(packed) => Some(packed),
        PackedEntry::InBatch(at) => {
            let shared = batches.get(batch_index(batches, entry.sequence)?)?;
            shared.batch.as_ref()?.piece(*at as usize)
        }
    }
}

impl Memtable {
    /// Takes a batch in. Batches come in the order of their numbers.
    pub(super) fn add_pending(&mut self, first: u64, batch: Arc<Batch>) {
        self.pending.push_back((first, batch));
    }

    /// Applies the next pending batch, if there is one.
    pub(super) fn apply_next(&mut self) -> bool {
        let Some((first, batch)) = self.pending.pop_front() else { return false };
        if batch.len() < SMALL_BATCH {
            for (sequence, (_, packed)) in (first..).zip(batch.pieces()) {
                self.put(sequence, packed, PackedEntry::Owned(packed.into()), sequence);
            }
            return true;
        }
        self.bytes += batch.bytes();
        let (used, kept) = (batch.bytes(), Some(Arc::clone(&batch)));
        self.batches.push_back(SharedBatch { first, batch: kept, used });
        for (sequence, (at, packed)) in (first..).zip(batch.pieces()) {
            // No batch has 4 GiB.
            self.put(sequence, packed, PackedEntry::InBatch(at as u32), first);
        }
        self.dissolve_if_sparse(first);
        true
    }

    fn apply_pending(&mut self) {
        while self.apply_next() {}
    }

    /// How many bytes are pending.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.iter().map(|(_, batch)| batch.bytes()).sum()
    }

    /// Takes an entry in. Entries come in the order of their numbers.
    pub(super) fn insert(&mut self, sequence: u64, entry: EntryRef<'_>) {
        let mut packed = Vec::new();
        if pack(&mut packed, entry).is_some() {
            let own = PackedEntry::Owned(packed.as_slice().into());
            self.put(sequence, &packed, own, sequence);
        }
    }

    /// `first` is the number of the first entry of the batch that is being applied. That batch is
    /// not dissolved before its last entry.
    fn put(&mut self, sequence: u64, bytes: &[u8], packed: PackedEntry, first: u64) {
        let Some(id) = id_of(bytes) else { return };
        let hash = self.hasher.hash_one(id);
        let Some(shard) = self.shards.get_mut(shard_of(hash)) else { return };
        self.bytes += OVERHEAD + own_bytes(&packed);
        let batches = &self.batches;
        let is_same = |entry: &MemtableEntry| {
            entry.hash == hash && packed_of(batches, entry).and_then(id_of) == Some(id)
        };
        let slot = shard.entry(hash, is_same, |entry| entry.hash);
        let entry = MemtableEntry { hash, sequence, packed };
        self.order.push_back(OrderKey { sequence, hash });
        match slot {
            Slot::Vacant(slot) => {
                slot.insert(entry);
                self.len += 1;
            }
            Slot::Occupied(mut slot) => {
                let old = std::mem::replace(slot.get_mut(), entry);
                self.subtract(&old);
                if old.sequence < first {
                    self.dissolve_if_sparse(old.sequence);
                }
                if self.order.len() > 2 * self.len + MOST_REPLACED {
                    let shards = &self.shards;
                    self.order.retain(|key| entry_at(shards, key).is_some());
                }
            }
        }
    }

    /// Subtracts the memory of an entry that is no longer in a shard.
    fn subtract(&mut self, entry: &MemtableEntry) {
        self.bytes -= OVERHEAD + own_bytes(&entry.packed);
        let PackedEntry::InBatch(at) = entry.packed else { return };
        let Some(index) = batch_index(&self.batches, entry.sequence) else { return };
        let Some(shared) = self.batches.get_mut(index) else { return };
        let Some(batch) = &shared.batch else { return };
        shared.used -= batch.piece(at as usize).map_or(0, <[u8]>::len);
        if shared.used == 0 {
            self.dissolve(index);
        }
    }

    /// Dissolves the batch that the entry with this number came with, if too little of it is in
    /// use.
    fn dissolve_if_sparse(&mut self, sequence: u64) {
        if let Some(index) = batch_index(&self.batches, sequence)
            && let Some(SharedBatch { batch: Some(batch), used, .. }) = self.batches.get(index)
            && *used < batch.bytes() / 2
        {
            self.dissolve(index);
        }
    }

    /// Gives the entries that still lie in a batch memory of their own.
    fn dissolve(&mut self, index: usize) {
        let Some(shared) = self.batches.get_mut(index) else { return };
        let Some(batch) = shared.batch.take() else { return };
        let (first, used) = (shared.first, std::mem::take(&mut shared.used));
        self.bytes = self.bytes + used - batch.bytes();
        for (sequence, (_, packed)) in (first..).zip(batch.pieces()).filter(|_| used > 0) {
            let Some(id) = id_of(packed) else { continue };
            let hash = self.hasher.hash_one(id);
            let Some(shard) = self.shards.get_mut(shard_of(hash)) else { continue };
            if let Some(entry) = shard.find_mut(hash, |entry| entry.sequence == sequence) {
                entry.packed = PackedEntry::Owned(packed.into());
            }
        }
        self.dissolved += 1;
        if 2 * self.dissolved > self.batches.len() {
            self.batches.retain(|shared| shared.batch.is_some());
            self.dissolved = 0;
        }
    }

    /// The newest entry of an id, unless that is its deletion.
    pub(super) fn get(&mut self, id: &str) -> Option<WalEntry> {
        self.apply_pending();
        let hash = self.hasher.hash_one(id.as_bytes());
        let is_same = |entry: &MemtableEntry| {
            packed_of(&self.batches, entry).and_then(id_of) == Some(id.as_bytes())
        };
        let entry = self.shards.get(shard_of(hash))?.find(hash, is_same)?;
        let unpacked = unpack(&mut packed_of(&self.batches, entry)?)?;
        (unpacked.op != Op::Delete).then(|| WalEntry::new(entry.sequence, unpacked))
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
        self.apply_pending();
        let mut last = None;
        if after >= until {
            return None;
        }
        let start = self.order.partition_point(|key| key.sequence <= after);
        for key in self.order.range(start..) {
            if key.sequence > until {
                break;
            }
            let Some(entry) = entry_at(&self.shards, key) else { continue };
            let Some(packed) = packed_of(&self.batches, entry) else { continue };
            let MemtableEntry { sequence, .. } = entry;
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

    /// Drops the entries up to a number, at most `most` of them. The answer is whether there are
    /// more to drop.
    pub(super) fn release(&mut self, up_to: u64, most: usize) -> bool {
        self.apply_pending();
        let all = self.order.partition_point(|key| key.sequence <= up_to);
        for _ in 0..all.min(most) {
            let Some(OrderKey { sequence, hash }) = self.order.pop_front() else { break };
            let Some(shard) = self.shards.get_mut(shard_of(hash)) else { continue };
            if let Ok(slot) = shard.find_entry(hash, |entry| entry.sequence == sequence) {
                let (entry, _) = slot.remove();
                self.subtract(&entry);
                self.len -= 1;
            }
        }
        if all > most {
            return true;
        }
        // The batch that was released in part.
        self.dissolve_if_sparse(up_to);
        // A flush is to free memory.
        for shard in &mut self.shards {
            if shard.capacity() > 4 * shard.len() {
                shard.shrink_to_fit(|entry| entry.hash);
            }
        }
        if self.order.capacity() > 4 * self.order.len() {
            self.order.shrink_to_fit();
        }
        if self.batches.capacity() > 4 * self.batches.len() {
            self.batches.shrink_to_fit();
        }
        false
    }

    pub(super) fn len(&mut self) -> usize {
        self.apply_pending();
        self.len
    }

    /// How much memory it takes, about.
    pub(super) fn bytes(&mut self) -> usize {
        self.apply_pending();
        self.bytes
    }

    /// The same without applying anything, so that an entry which replaces another may count
    /// beside it.
    pub(super) fn most_bytes(&self) -> usize {
        let pending = self.pending.iter().map(|(_, batch)| batch.bytes() + OVERHEAD * batch.len());
        self.bytes + pending.sum::<usize>()
    }
}
