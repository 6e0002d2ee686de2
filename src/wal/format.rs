//! The bytes of a segment: an Avro object container file, as `docs/formats.md` describes it.
//!
//! Everything here works on memory. The `apache-avro` crate is not used: it writes blocks when
//! its own buffer is full, always in their shortest form, and reads past a block that it
//! cannot take only by giving up, whereas here a block is exactly one batch, the unused rest
//! of a file is an empty block with a length of fixed width, and damage has to be told from
//! the end. The tests read what is written here with it.

use super::batch::{Batch, EntryRef, Op};

/// The first bytes of every Avro object container file.
const MAGIC: &[u8] = b"Obj\x01";

/// The version of what is described in `docs/formats.md`.
pub const VERSION: &str = "1";

/// The length of the marker that ends every block. It is random, and so names the segment.
pub const MARKER: usize = 16;

/// The identity of a segment.
pub type Marker = [u8; MARKER];

/// The most bytes that the objects of one block have. Their length then takes at most four
/// bytes, so that no data block looks like a [`filler_head`], which has five.
pub const LARGEST_BLOCK: usize = (1 << 26) - 1;

/// The largest sequence number: Avro's `long` is signed.
pub const LAST_SEQUENCE: u64 = i64::MAX as u64;

/// The length of the start of the empty block that spans unused space: its count, which is 0,
/// and its size in five bytes.
pub const FILLER_HEAD: usize = 6;

/// The shortest empty block of that kind.
pub const SHORTEST_FILLER: u64 = (FILLER_HEAD + MARKER) as u64;

/// The longest space that one such block spans.
pub const LONGEST_FILLER: u64 = 1 << 33;

/// The length of the empty block that says: here the segment ends, and all before it was on the
/// disk when this was written. It is the shortest empty block that Avro knows.
pub const END: usize = 2 + MARKER;

/// The longest head of a block that is read: two numbers of at most ten bytes.
pub const LONGEST_HEAD: usize = 20;

/// More than any header needs.
pub const LONGEST_HEADER: usize = 4096;

/// The bytes of the checksum field.
const CHECKSUM: usize = 4;

/// The fewest bytes of an entry: the checksum, and one for each other field and for the length
/// of the id.
pub(super) const SHORTEST_ENTRY: usize = CHECKSUM + 7;

/// The schema of the entries. Its text is a part of the format.
pub const SCHEMA: &str = concat!(
    r#"{"type":"record","name":"Entry","namespace":"holdfast.wal","fields":["#,
    r#"{"name":"sequence","type":"long"},"#,
    r#"{"name":"lag","type":"long"},"#,
    r#"{"name":"id","type":"string"},"#,
    r#"{"name":"op","type":{"type":"enum","name":"Op","symbols":["insert","update","delete"]}},"#,
    r#"{"name":"timestamp","type":"long"},"#,
    r#"{"name":"payload","type":["bytes","string"]},"#,
    r#"{"name":"checksum","type":{"type":"fixed","name":"Checksum","size":4}}]}"#
);

mod key {
    pub(super) const SCHEMA: &str = "avro.schema";
    pub(super) const CODEC: &str = "avro.codec";
    pub(super) const VERSION: &str = "holdfast.version";
    pub(super) const COLLECTION: &str = "holdfast.collection";
    pub(super) const SEGMENT: &str = "holdfast.segment";
    pub(super) const FIRST: &str = "holdfast.first";
    pub(super) const CREATED: &str = "holdfast.created";
    pub(super) const CHECKSUM: &str = "holdfast.checksum";
}

// ── Numbers ───────────────────────────────────────────────────────────────────────────────

/// Appends a `long`: zig-zag, seven bits a byte, the lowest first.
pub fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    if rest < 0x80 {
        out.push(rest as u8);
        return;
    }
    if rest < 1 << 56 {
        // Eight groups of seven bits, each with a place for its `more`, as one word.
        let lower = rest & 0x0FFF_FFFF;
        let upper = (rest >> 28) << 32;
        let word = lower | upper;
        let word = word & 0x0000_3FFF_0000_3FFF | (word & 0x0FFF_C000_0FFF_C000) << 2;
        let word = word & 0x007F_007F_007F_007F | (word & 0x3F80_3F80_3F80_3F80) << 1;
        let length = long_length(value);
        let more = 0x8080_8080_8080_8080 & ((1 << (8 * (length - 1))) - 1);
        let start = out.len();
        out.extend_from_slice(&(word | more).to_le_bytes());
        out.truncate(start + length);
        return;
    }
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// How many bytes [`put_long`] takes.
fn long_length(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Reads a `long` from the front: the value and how many bytes it took. `None` when there are
/// too few bytes or too many.
fn long(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7F);
        if index == 9 && *byte > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            let value = (value >> 1) as i64 ^ -((value & 1) as i64);
            return Some((value, index + 1));
        }
    }
    None
}

/// Takes values off the front of bytes.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn long(&mut self) -> Option<i64> {
        let (value, length) = long(self.0)?;
        self.take(length)?;
        Some(value)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.long()?).ok()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

// ── The header ────────────────────────────────────────────────────────────────────────────

/// What the header of a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The collection that the segment belongs to.
    pub collection: String,
    /// The number of the segment in its collection. The first is 1.
    pub number: u64,
    /// No entry in it has a lower sequence number.
    pub first: u64,
    /// When it was made, in milliseconds since 1970.
    pub created: u64,
    /// Its identity.
    pub marker: Marker,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let (number, created) = (self.number.to_string(), self.created.to_string());
        // As long as it can get: it may be filled in later, and moves nothing then.
        let first = format!("{:020}", self.first);
        let entries = [
            (key::SCHEMA, SCHEMA),
            (key::CODEC, "null"),
            (key::VERSION, VERSION),
            (key::COLLECTION, &self.collection),
            (key::SEGMENT, &number),
            (key::FIRST, &first),
            (key::CREATED, &created),
        ];
        put_long(&mut out, entries.len() as i64 + 1);
        for (name, value) in entries {
            put_bytes(&mut out, name.as_bytes());
            put_bytes(&mut out, value.as_bytes());
        }
        put_bytes(&mut out, key::CHECKSUM.as_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&out), &self.marker);
        put_bytes(&mut out, format!("{checksum:08x}").as_bytes());
        put_long(&mut out, 0);
        out.extend_from_slice(&self.marker);
        out
    }

    /// Reads a header and says how long it is.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for people.
    pub fn decode(bytes: &[u8]) -> Result<(Header, usize), &'static str> {
        const SHORT: &str = "the header is cut short or no header of Avro";
        let mut cursor = Cursor(bytes);
        if cursor.take(MAGIC.len()) != Some(MAGIC) {
            return Err("the file does not start like an Avro file");
        }
        let mut header = Header {
            collection: String::new(),
            number: 0,
            first: 0,
            created: 0,
            marker: [0; MARKER],
        };
        let (mut schema, mut codec, mut version) = ("", "", "");
        let mut found = None;
        let count = cursor.long().ok_or(SHORT)?;
        for _ in 0..count {
            let name = cursor.text().ok_or(SHORT)?;
            let covered = bytes.len() - cursor.0.len();
            let value = cursor.text().ok_or(SHORT)?;
            let number = || value.parse::<u64>().map_err(|_| "a number in the header is none");
            match name {
                key::SCHEMA => schema = value,
                key::CODEC => codec = value,
                key::VERSION => version = value,
                key::COLLECTION => header.collection = value.to_owned(),
                key::SEGMENT => header.number = number()?,
                key::FIRST => header.first = number()?,
                key::CREATED => header.created = number()?,
                key::CHECKSUM => found = Some((covered, value)),
                _ => return Err("the header has a field that this version does not know"),
            }
        }
        if cursor.long() != Some(0) {
            return Err(SHORT);
        }
        let marker = cursor.take(MARKER).ok_or(SHORT)?;
        header.marker = marker.try_into().map_err(|_| SHORT)?;
        let (covered, found) = found.ok_or("the header has no checksum")?;
        let covered = bytes.get(..covered).ok_or(SHORT)?;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(covered), marker);
        if found != format!("{checksum:08x}") {
            return Err("the checksum of the header does not fit");
        }
        if header.number > LAST_SEQUENCE || header.first > LAST_SEQUENCE {
            return Err("a number in the header is out of range");
        }
        if version != VERSION {
            return Err("the segment has a version that this holdfast does not know");
        }
        if schema != SCHEMA || codec != "null" {
            return Err("the schema of the segment is not that of its version");
        }
        let length = bytes.len() - cursor.0.len();
        // Whatever the parts mean, there is one way to write them.
        if bytes.get(..length) != Some(header.encode().as_slice()) {
            return Err("the header is not as holdfast writes it");
        }
        Ok((header, length))
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

// ── Blocks ────────────────────────────────────────────────────────────────────────────────

/// The start of the empty block that spans `space` bytes, its marker included; `space` is
/// between [`SHORTEST_FILLER`] and [`LONGEST_FILLER`].
pub fn filler_head(space: u64) -> [u8; FILLER_HEAD] {
    let size = zigzag(space.saturating_sub(SHORTEST_FILLER) as i64);
    let mut head = [0_u8; FILLER_HEAD];
    for (index, byte) in head.iter_mut().skip(1).enumerate() {
        let more = if index + 2 < FILLER_HEAD { 0x80 } else { 0 };
        *byte = (size >> (7 * index)) as u8 & 0x7F | more;
    }
    head
}

/// The empty block that ends a segment.
pub fn end_mark(marker: &Marker) -> [u8; END] {
    let mut end = [0_u8; END];
    end.iter_mut().skip(2).zip(marker).for_each(|(place, byte)| *place = *byte);
    end
}

/// The bytes that `batch` takes as the objects of a block, at most.
pub fn most_bytes(batch: &Batch) -> usize {
    batch.bytes() + batch.len() * LONGEST_FIELDS
}

/// Beside id and payload an entry has: sequence, lag and time at up to ten bytes each, op and
/// payload kind at one, two lengths of up to five, and the checksum.
const LONGEST_FIELDS: usize = 10 + 10 + 5 + 1 + 10 + 1 + 5 + CHECKSUM;

/// Appends the block of a batch. `first` is the sequence number of its first entry; `durable`
/// is the highest one of the collection that is surely on the disk, which is lower.
///
/// The batch fits: [`most_bytes`] is at most [`LARGEST_BLOCK`].
pub fn put_block(out: &mut Vec<u8>, marker: &Marker, batch: &Batch, first: u64, durable: u64) {
    let most = most_bytes(batch);
    out.reserve(LONGEST_HEAD + most + MARKER);
    put_long(out, batch.len() as i64);
    // How long the size will be is nearly always known before what it is.
    let guess = long_length(most as i64);
    let size_at = out.len();
    out.resize(size_at + guess, 0);
    let objects = out.len();
    let mut checksum = seed(marker, first, batch.len() as u64);
    // Mostly the same in the whole batch.
    let mut timestamp = (None, Vec::new());
    for (entry, sequence) in batch.parts().zip(first as i64..) {
        let start = out.len();
        put_long(out, sequence);
        put_long(out, sequence - durable as i64);
        put_bytes(out, entry.id);
        put_long(out, i64::from(entry.op));
        if timestamp.0 != Some(entry.timestamp) {
            timestamp.0 = Some(entry.timestamp);
            timestamp.1.clear();
            put_long(&mut timestamp.1, entry.timestamp);
        }
        out.extend_from_slice(&timestamp.1);
        put_long(out, i64::from(entry.kind));
        put_bytes(out, entry.payload);
        checksum = crc32c::crc32c_append(checksum, out.get(start..).unwrap_or_default());
        out.extend_from_slice(&checksum.to_le_bytes());
    }
    let mut size = Vec::new();
    put_long(&mut size, (out.len() - objects) as i64);
    out.splice(size_at..objects, size);
    out.extend_from_slice(marker);
}

/// What the checksums of a block start from: which segment it is in, where in the log, and how
/// many objects it has.
fn seed(marker: &Marker, first: u64, count: u64) -> u32 {
    let seed = crc32c::crc32c(marker);
    let seed = crc32c::crc32c_append(seed, &first.to_le_bytes());
    crc32c::crc32c_append(seed, &count.to_le_bytes())
}

/// What the first bytes of a block say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A batch: its count, and the lengths of this head and of the objects.
    Data {
        /// How many objects.
        count: u64,
        /// The length of count and size.
        head: usize,
        /// The length of the objects.
        size: usize,
    },
    /// Unused space, of so many bytes with its marker.
    Filler(u64),
    /// The end of the segment, if its marker follows.
    End,
    /// None of these.
    Nothing,
}

/// Reads the head of a block from up to [`LONGEST_HEAD`] bytes.
pub fn head(bytes: &[u8]) -> Head {
    let Some((count, count_length)) = long(bytes) else { return Head::Nothing };
    let rest = bytes.get(count_length..).unwrap_or_default();
    let Some((size, size_length)) = long(rest) else { return Head::Nothing };
    let Ok(size) = u64::try_from(size) else { return Head::Nothing };
    if count_length != long_length(count) {
        return Head::Nothing;
    }
    let is_shortest = size_length == long_length(size as i64);
    match count {
        0 if is_shortest && size == 0 => Head::End,
        0 if count_length + size_length == FILLER_HEAD => {
            // Five bytes hold the length of the longest filler and more.
            let space = size + SHORTEST_FILLER;
            if space <= LONGEST_FILLER { Head::Filler(space) } else { Head::Nothing }
        }
        1.. if is_shortest && (1..=LARGEST_BLOCK as u64).contains(&size) => {
            if count as u64 > size / SHORTEST_ENTRY as u64 {
                return Head::Nothing;
            }
            let head = count_length + size_length;
            Head::Data { count: count as u64, head, size: size as usize }
        }
        _ => Head::Nothing,
    }
}

/// What is known of a block that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The sequence number of its first entry.
    pub first: u64,
    /// How many entries it has; their numbers follow each other.
    pub count: u64,
    /// The highest sequence number of the collection that was surely on the disk before this
    /// block was written.
    pub durable: u64,
    /// The encoded entries.
    objects: &'a [u8],
}

impl<'a> Block<'a> {
    /// Checks the objects of a block, each byte of them. `None` if it is not one of this
    /// segment, whole and unchanged.
    pub fn check(marker: &Marker, count: u64, objects: &'a [u8]) -> Option<Block<'a>> {
        let mut cursor = Cursor(objects);
        let mut checksum = 0;
        let mut block = None;
        for index in 0..count {
            let start = objects.len() - cursor.0.len();
            let entry = stored(&mut cursor)?;
            let end = objects.len() - cursor.0.len();
            let (first, durable) = match block {
                Some((first, durable)) => (first, durable),
                None => {
                    checksum = seed(marker, entry.sequence, count);
                    *block.insert((entry.sequence, entry.durable))
                }
            };
            if entry.sequence != first + index || entry.durable != durable {
                return None;
            }
            checksum = crc32c::crc32c_append(checksum, objects.get(start..end)?);
            if cursor.take(CHECKSUM)? != checksum.to_le_bytes() {
                return None;
            }
        }
        let (first, durable) = block?;
        cursor.0.is_empty().then_some(Block { first, count, durable, objects })
    }

    /// The sequence number of its last entry.
    pub fn last(&self) -> u64 {
        self.first + (self.count - 1)
    }

    /// The entries, with their sequence numbers.
    pub fn entries(&self) -> impl Iterator<Item = (u64, EntryRef<'a>)> + use<'a> {
        let mut cursor = Cursor(self.objects);
        std::iter::from_fn(move || {
            let stored = stored(&mut cursor)?;
            cursor.take(CHECKSUM)?;
            Some((stored.sequence, stored.entry))
        })
    }
}

struct Stored<'a> {
    sequence: u64,
    durable: u64,
    entry: EntryRef<'a>,
}

/// One object, up to its checksum.
fn stored<'a>(cursor: &mut Cursor<'a>) -> Option<Stored<'a>> {
    let sequence = u64::try_from(cursor.long()?).ok()?;
    let lag = u64::try_from(cursor.long()?).ok()?;
    let id = cursor.text()?;
    let op = Op::of(u8::try_from(cursor.long()?).ok()?)?;
    let timestamp = cursor.long()?;
    let is_text = match cursor.long()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let payload = cursor.bytes()?;
    // What was on the disk before comes before; and after the last number there is none.
    if sequence >= LAST_SEQUENCE - LARGEST_BLOCK as u64 || lag == 0 || lag > sequence {
        return None;
    }
    if is_text && std::str::from_utf8(payload).is_err() {
        return None;
    }
    let durable = sequence - lag;
    Some(Stored { sequence, durable, entry: EntryRef { id, op, timestamp, is_text, payload } })
}
