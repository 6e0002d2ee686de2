//! A sparse array of bytes.

use std::collections::HashMap;

pub const PAGE: usize = 4096;

/// Pages that were never written are zero and take no memory.
#[derive(Debug, Default, Clone)]
pub struct Pages {
    pages: HashMap<usize, Box<[u8]>>,
}

impl Pages {
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        for (page, within, part) in parts(offset, into.len()) {
            let into = &mut into[part];
            match self.pages.get(&page) {
                Some(bytes) => into.copy_from_slice(&bytes[within..within + into.len()]),
                None => into.fill(0),
            }
        }
    }

    pub fn write(&mut self, offset: usize, data: &[u8]) {
        for (page, within, part) in parts(offset, data.len()) {
            let data = &data[part];
            let bytes = self.pages.entry(page).or_insert_with(|| vec![0; PAGE].into());
            bytes[within..within + data.len()].copy_from_slice(data);
        }
    }
}

/// Splits `length` bytes from `offset` at the bounds of pages: the page, the offset in it, and the
/// range of the bytes.
pub fn parts(
    offset: usize,
    length: usize,
) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done;
        let part = done..length.min(done + PAGE - at % PAGE);
        done = part.end;
        (!part.is_empty()).then_some((at / PAGE, at % PAGE, part))
    })
}
