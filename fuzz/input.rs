//! Reads the input of a fuzzer piece by piece. Past its end there are only zeros.

pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A number below 256.
    pub(crate) fn small(&mut self) -> usize {
        self.byte().unwrap_or(0).into()
    }

    /// Up to 255 bytes.
    #[allow(dead_code, reason = "not every fuzzer needs it")]
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let length = self.small().min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }
}
