//! A disk in memory whose flush takes a given time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fuser::ReplyEmpty;

use crate::delay::Delay;
use crate::file_system::Storage;

#[derive(Debug)]
pub struct Slow {
    /// Untouched zeroes take no memory.
    bytes: Mutex<Vec<u8>>,
    flush: Delay,
}

impl Slow {
    /// `size` zero bytes.
    pub fn new(size: usize, delay: Duration) -> Slow {
        Slow { bytes: Mutex::new(vec![0; size]), flush: Delay::new(delay) }
    }
}

impl Storage for Slow {
    // Writes stay in the page cache until the device is flushed, as in the cache of a disk.
    const CACHED: bool = true;

    fn read(&self, offset: usize, into: &mut [u8]) {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        into.copy_from_slice(&bytes[offset..offset + into.len()]);
    }

    fn write(&self, offset: usize, data: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes[offset..offset + data.len()].copy_from_slice(data);
    }

    fn flush(&self, reply: ReplyEmpty) {
        self.flush.send(reply);
    }
}
