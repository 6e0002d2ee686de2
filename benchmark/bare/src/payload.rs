//! The bytes of file number `index` in round `round`: the same as in `../../harness/payload.js`, so
//! that the suite can verify what was written.

/// `size` bytes: a line that says which they are, and a filling.
pub fn payload(round: u32, index: usize, size: usize) -> Vec<u8> {
    let mut bytes = vec![b'a' + (index % 26) as u8; size];
    let line = format!("{round}:{index}\n");
    let length = line.len().min(size);
    bytes[..length].copy_from_slice(&line.as_bytes()[..length]);
    bytes
}
