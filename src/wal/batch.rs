//! Entries on their way in and out, packed into one piece of memory each way, so that a batch
//! is one allocation and crosses to and from JavaScript in one piece.

/// What an entry does to its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// It is new.
    Insert = 0,
    /// It has another payload.
    Update = 1,
    /// It is gone.
    Delete = 2,
}

impl Op {
    /// The operation with this number in the format.
    pub fn of(number: u8) -> Option<Op> {
        [Op::Insert, Op::Update, Op::Delete].into_iter().find(|op| *op as u8 == number)
    }
}

/// An entry, looked at where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// What it is about.
    pub id: &'a str,
    /// What it does.
    pub op: Op,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Whether the payload was given as text, and comes back as such.
    pub is_text: bool,
    /// The payload; UTF-8 if it is text.
    pub payload: &'a [u8],
}

/// An entry as it comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalEntry {
    /// Its number in the log.
    pub sequence: u64,
    /// What it is about.
    pub id: String,
    /// What it does.
    pub op: Op,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Whether the payload was given as text.
    pub is_text: bool,
    /// The payload.
    pub payload: Vec<u8>,
}

impl WalEntry {
    /// Makes one that owns its memory.
    pub fn new(sequence: u64, entry: EntryRef<'_>) -> WalEntry {
        let EntryRef { id, op, timestamp, is_text, payload } = entry;
        let (id, payload) = (id.to_owned(), payload.to_vec());
        WalEntry { sequence, id, op, timestamp, is_text, payload }
    }

    /// The same, to be looked at.
    pub fn as_ref(&self) -> EntryRef<'_> {
        let WalEntry { id, op, timestamp, is_text, payload, .. } = self;
        EntryRef { id, op: *op, timestamp: *timestamp, is_text: *is_text, payload }
    }
}

/// The fixed part of a packed entry: two lengths, the time, the operation, the kind of payload.
const FIXED: usize = 4 + 4 + 8 + 1 + 1;

/// Entries that are appended as one, all or none.
///
/// Packed one after the other, numbers little-endian: length of the id (4 bytes), length of
/// the payload (4), time in milliseconds since 1970 (8, signed), operation (1: 0 insert,
/// 1 update, 2 delete), payload kind (1: 0 bytes, 1 UTF-8 text), id, payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    packed: Vec<u8>,
    count: usize,
}

impl Batch {
    /// Takes packed entries. `None` if they are not packed as described.
    pub fn from_packed(packed: Vec<u8>) -> Option<Batch> {
        let mut rest = packed.as_slice();
        let mut count = 0;
        while !rest.is_empty() {
            let entry = unpack(&mut rest)?;
            if entry.is_text && std::str::from_utf8(entry.payload).is_err() {
                return None;
            }
            count += 1;
        }
        Some(Batch { packed, count })
    }

    /// Adds an entry. What is longer than 4 GiB is not taken.
    pub fn push(&mut self, entry: EntryRef<'_>) {
        if pack(&mut self.packed, entry).is_some() {
            self.count += 1;
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How much memory the entries take.
    pub fn bytes(&self) -> usize {
        self.packed.len()
    }

    /// The entries.
    pub fn entries(&self) -> impl Iterator<Item = EntryRef<'_>> {
        let mut rest = self.packed.as_slice();
        std::iter::from_fn(move || unpack(&mut rest))
    }

    /// The entries, part by part: they have been looked at before.
    pub(super) fn parts(&self) -> impl Iterator<Item = Parts<'_>> {
        let mut rest = self.packed.as_slice();
        std::iter::from_fn(move || Parts::take(&mut rest))
    }

    /// The entries, each as it is packed, with the places where they start.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let piece = self.piece(at)?;
            let start = at;
            at += piece.len();
            Some((start, piece))
        })
    }

    /// The entry that starts at this place, as it is packed.
    pub(super) fn piece(&self, at: usize) -> Option<&[u8]> {
        let rest = self.packed.get(at..)?;
        let (id, payload) = lengths(rest)?;
        rest.get(..FIXED + id + payload)
    }
}

/// The lengths of id and payload of a packed entry.
fn lengths(packed: &[u8]) -> Option<(usize, usize)> {
    let (id, rest) = packed.split_first_chunk::<4>()?;
    let payload = rest.first_chunk::<4>()?;
    Some((u32::from_le_bytes(*id) as usize, u32::from_le_bytes(*payload) as usize))
}

/// The id of a packed entry.
pub(super) fn id_of(packed: &[u8]) -> Option<&[u8]> {
    let (id, _) = lengths(packed)?;
    packed.get(FIXED..)?.get(..id)
}

/// What a packed entry does.
pub(super) fn op_of(packed: &[u8]) -> Option<Op> {
    Op::of(*packed.get(FIXED - 2)?)
}

/// Appends a packed entry.
pub(super) fn pack(out: &mut Vec<u8>, entry: EntryRef<'_>) -> Option<()> {
    let id = u32::try_from(entry.id.len()).ok()?;
    let payload = u32::try_from(entry.payload.len()).ok()?;
    out.reserve(FIXED + entry.id.len() + entry.payload.len());
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&payload.to_le_bytes());
    out.extend_from_slice(&entry.timestamp.to_le_bytes());
    out.extend_from_slice(&[entry.op as u8, u8::from(entry.is_text)]);
    out.extend_from_slice(entry.id.as_bytes());
    out.extend_from_slice(entry.payload);
    Some(())
}

/// Appends an entry as it goes out: its sequence number in eight bytes, little-endian, and
/// then as a [`Batch`] has it.
pub fn pack_with_sequence(out: &mut Vec<u8>, sequence: u64, entry: EntryRef<'_>) {
    let start = out.len();
    out.extend_from_slice(&sequence.to_le_bytes());
    if pack(out, entry).is_none() {
        out.truncate(start);
    }
}

/// An entry as it is packed, part by part.
pub(super) struct Parts<'a> {
    pub(super) id: &'a [u8],
    pub(super) op: u8,
    pub(super) timestamp: i64,
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Takes an entry off the front.
    fn take(rest: &mut &'a [u8]) -> Option<Parts<'a>> {
        let (fixed, variable) = rest.split_at_checked(FIXED)?;
        let (id, fixed) = fixed.split_first_chunk::<4>()?;
        let (payload, fixed) = fixed.split_first_chunk::<4>()?;
        let (timestamp, fixed) = fixed.split_first_chunk::<8>()?;
        let &[op, kind] = fixed else { return None };
        let (id, variable) = variable.split_at_checked(u32::from_le_bytes(*id) as usize)?;
        let (payload, variable) =
            variable.split_at_checked(u32::from_le_bytes(*payload) as usize)?;
        *rest = variable;
        Some(Parts { id, op, timestamp: i64::from_le_bytes(*timestamp), kind, payload })
    }
}

/// Takes an entry off the front.
pub(super) fn unpack<'a>(rest: &mut &'a [u8]) -> Option<EntryRef<'a>> {
    let mut behind = *rest;
    let Parts { id, op, timestamp, kind, payload } = Parts::take(&mut behind)?;
    let entry = EntryRef {
        id: std::str::from_utf8(id).ok()?,
        op: Op::of(op)?,
        timestamp,
        is_text: match kind {
            0 => false,
            1 => true,
            _ => return None,
        },
        payload,
    };
    *rest = behind;
    Some(entry)
}
