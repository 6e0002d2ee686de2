//! The bytes of one file: those in memory, those on the disk, and what a power cut may
//! make of the difference.

use std::ops::Range;
use std::sync::Arc;

/// Bytes that several states of the disk share.
pub(super) type Bytes = Arc<Vec<u8>>;

/// The content of one file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// What every process reads.
    cached: Bytes,
    /// What is surely on the disk.
    durable: Bytes,
    /// Where the system failed to write `cached` and forgot about it: a sync skips these
    /// bytes and succeeds. Writing them again is the only cure.
    unsyncable: Vec<Range<usize>>,
}

/// What a power cut may make of a file.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub(super) bytes: Bytes,
    pub(super) description: String,
}

impl Content {
    /// Bytes that are on the disk.
    pub(super) fn all_durable(bytes: Bytes) -> Content {
        Content { cached: Arc::clone(&bytes), durable: bytes, unsyncable: Vec::new() }
    }

    pub(super) fn cached(&self) -> &Bytes {
        &self.cached
    }

    pub(super) fn durable(&self) -> &Bytes {
        &self.durable
    }

    pub(super) fn len(&self) -> usize {
        self.cached.len()
    }

    /// Puts bytes at a position; a gap before it reads as zeros.
    pub(super) fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        let cached = Arc::make_mut(&mut self.cached);
        if cached.len() < end {
            cached.resize(end, 0);
        }
        if let Some(place) = cached.get_mut(position..end) {
            place.copy_from_slice(bytes);
        }
        self.unsyncable = self
            .unsyncable
            .iter()
            .flat_map(|range| {
                [range.start..range.end.min(position), range.start.max(end)..range.end]
            })
            .filter(|range| !range.is_empty())
            .collect();
    }

    /// Cuts the file, or lengthens it with zeros.
    pub(super) fn set_len(&mut self, length: usize) {
        Arc::make_mut(&mut self.cached).resize(length, 0);
        self.unsyncable = self
            .unsyncable
            .iter()
            .map(|range| range.start..range.end.min(length))
            .filter(|range| !range.is_empty())
            .collect();
    }

    /// What the disk holds once everything has been written to it that the system still
    /// knows it has to write.
    pub(super) fn written_back(&self) -> Bytes {
        if self.unsyncable.is_empty() {
            return Arc::clone(&self.cached);
        }
        let mut bytes = Vec::clone(&self.cached);
        for range in &self.unsyncable {
            for index in range.clone() {
                if let Some(byte) = bytes.get_mut(index) {
                    *byte = self.durable.get(index).copied().unwrap_or_default();
                }
            }
        }
        Arc::new(bytes)
    }

    /// A sync that succeeds. Says whether there was anything to write.
    pub(super) fn sync(&mut self) -> bool {
        let bytes = self.written_back();
        if same(&bytes, &self.durable) {
            return false;
        }
        self.durable = bytes;
        true
    }

    /// A sync that fails: what could not be written counts as written from now on.
    pub(super) fn sync_failed(&mut self) {
        self.unsyncable = differences(&self.durable, &self.cached);
    }

    /// Everything becomes durable, by decree.
    pub(super) fn make_durable(&mut self) {
        self.durable = Arc::clone(&self.cached);
        self.unsyncable.clear();
    }

    /// What a power cut may leave, each once, if `base` is what is surely on the disk.
    /// The first is `base`; the second, if there is one, is the newest content in full.
    pub(super) fn variants(&self, base: &Bytes) -> Vec<Variant> {
        let mut variants = vec![Variant {
            bytes: Arc::clone(base),
            description: format!("as on the disk, {} bytes", base.len()),
        }];
        if same(base, &self.cached) {
            return variants;
        }
        variants.push(Variant {
            bytes: Arc::clone(&self.cached),
            description: format!("new in full, {} bytes", self.cached.len()),
        });
        let mut offer = |bytes: Vec<u8>, description: String| {
            if variants.iter().all(|variant| *variant.bytes != bytes) {
                variants.push(Variant { bytes: Arc::new(bytes), description });
            }
        };

        let new = self.cached.as_slice();
        let kept = base.len().min(new.len());
        let middle = kept + (new.len() - kept) / 2;
        for length in [kept, middle, new.len().saturating_sub(1)] {
            if (kept..new.len()).contains(&length) {
                let bytes = new.get(..length).unwrap_or_default().to_vec();
                offer(bytes, format!("cut to {length} of {} bytes", new.len()));
            }
        }
        for range in [kept..new.len(), middle..new.len(), kept..middle] {
            let mut bytes = new.to_vec();
            if let Some(part) = bytes.get_mut(range.clone()) {
                part.fill(0);
            }
            offer(bytes, format!("zeros at {range:?} of {} bytes", new.len()));
        }

        // What stood there before is either replaced or not, byte by byte; zeros cannot
        // come from anywhere.
        let old = base.get(..kept).unwrap_or_default();
        let changed = differences(old, new.get(..kept).unwrap_or_default());
        if let (Some(first), Some(last)) = (changed.first(), changed.last()) {
            let middle = first.start + (last.end - first.start) / 2;
            for range in [0..kept, middle..kept, 0..middle] {
                let mut bytes = new.to_vec();
                if let (Some(part), Some(old)) =
                    (bytes.get_mut(range.clone()), old.get(range.clone()))
                {
                    part.copy_from_slice(old);
                }
                offer(bytes, format!("not overwritten at {range:?}"));
            }
            self.sectors_replaced_or_not(base, &changed, &mut offer);
        }
        // A file that was cut has its new length or the old one, whatever else it has.
        if base.len() > new.len() {
            let mut longer = new.to_vec();
            longer.extend_from_slice(base.get(new.len()..).unwrap_or_default());
            offer(longer, format!("not cut, {} bytes", base.len()));
        }
        variants
    }
}

/// What another file may have written by the time of a power cut: a JSON text as long as these
/// bytes, so that it may be taken for what was there, in all of their place or in half of it.
pub(super) fn add_foreign(variants: &mut Vec<Variant>, base: &Bytes) {
    let mut foreign = vec![b' '; base.len()];
    match foreign.as_mut_slice() {
        [] => return,
        [only] => *only = b'7',
        [first, .., last] => (*first, *last) = (b'{', b'}'),
    }
    let half = base.len() / 2;
    let mut half_foreign = Vec::clone(base);
    if let (Some(part), Some(bytes)) = (half_foreign.get_mut(half..), foreign.get(half..)) {
        part.copy_from_slice(bytes);
    }
    for (bytes, what) in [(foreign, "bytes of another file"), (half_foreign, "half another file's")]
    {
        if variants.iter().all(|variant| *variant.bytes != bytes) {
            variants.push(Variant { bytes: Arc::new(bytes), description: what.to_owned() });
        }
    }
}

/// What a disk replaces in one piece, if it is not torn.
const SECTOR: usize = 512;

/// Of how many sectors every combination is listed.
const FEW: usize = 4;

impl Content {
    /// What is written over other bytes replaces them sector by sector, in any order, and one
    /// sector in mid-write is torn.
    fn sectors_replaced_or_not(
        &self,
        base: &Bytes,
        changed: &[Range<usize>],
        offer: &mut impl FnMut(Vec<u8>, String),
    ) {
        let mut sectors: Vec<usize> = changed
            .iter()
            .flat_map(|range| range.start / SECTOR..=(range.end.max(1) - 1) / SECTOR)
            .collect();
        sectors.dedup();
        let kept = base.len().min(self.cached.len());
        let without = |missing: &dyn Fn(usize) -> bool| {
            let mut bytes = Vec::clone(&self.cached);
            for sector in sectors.iter().filter(|sector| missing(**sector)) {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(kept);
                if let (Some(part), Some(old)) =
                    (bytes.get_mut(range.clone()), base.get(range.clone()))
                {
                    part.copy_from_slice(old);
                }
            }
            bytes
        };
        let count = sectors.len();
        if count <= FEW {
            for choice in 0..1_usize << count {
                let missing = |sector: usize| {
                    let place = sectors.iter().position(|other| *other == sector);
                    place.is_some_and(|place| choice >> place & 1 == 1)
                };
                offer(without(&missing), format!("sectors not replaced: choice {choice:b}"));
            }
        } else {
            for (place, only) in sectors.iter().enumerate() {
                offer(without(&|sector| sector == *only), format!("without sector {only}"));
                offer(without(&|sector| sector != *only), format!("only sector {only}"));
                if place > 0 {
                    offer(without(&|sector| sector >= *only), format!("sectors before {only}"));
                    offer(without(&|sector| sector < *only), format!("sectors from {only}"));
                }
            }
        }
        for torn in &sectors {
            let middle = torn * SECTOR + SECTOR / 2;
            for (range, half) in
                [(torn * SECTOR..middle, "first"), (middle..(torn + 1) * SECTOR, "second")]
            {
                let range = range.start.min(kept)..range.end.min(kept);
                for (mut bytes, others) in
                    [(Vec::clone(&self.cached), "new"), (without(&|sector| sector != *torn), "old")]
                {
                    if let (Some(part), Some(old)) =
                        (bytes.get_mut(range.clone()), base.get(range.clone()))
                    {
                        part.copy_from_slice(old);
                    }
                    offer(bytes, format!("{half} half of sector {torn} old, the others {others}"));
                }
            }
        }
    }
}

fn same(one: &Bytes, other: &Bytes) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

/// Where two contents differ; a byte that only one of them has differs.
fn differences(one: &[u8], other: &[u8]) -> Vec<Range<usize>> {
    let common = one.len().min(other.len());
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut add = |range: Range<usize>| match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    };
    for (index, _) in one.iter().zip(other).enumerate().filter(|(_, (a, b))| a != b) {
        add(index..index + 1);
    }
    let longest = one.len().max(other.len());
    if common < longest {
        add(common..longest);
    }
    ranges
}
