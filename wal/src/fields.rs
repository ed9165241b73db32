//! Little-endian fields, one after the other, in a buffer of fixed size: how every header is coded.
//!
//! Running over the end is a bug of the format's own code, never of the input: buffers have
//! constant size.

/// As many zeros as the largest header has bytes.
static ZEROS: [u8; 4096] = [0; 4096];

/// Writes fields in order.
pub(crate) struct FieldWriter<'a> {
    rest: &'a mut [u8],
}

impl<'a> FieldWriter<'a> {
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self { rest: buffer }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let rest = std::mem::take(&mut self.rest);
        let (now, later) = rest.split_at_mut(bytes.len());
        now.copy_from_slice(bytes);
        self.rest = later;
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.bytes(&value.to_le_bytes());
    }

    /// Fills what is left, up to the last `keep` bytes, with zeros.
    pub(crate) fn zeros_until_last(&mut self, keep: usize) {
        let count = self.rest.len().checked_sub(keep).expect("the layout leaves room");
        let rest = std::mem::take(&mut self.rest);
        let (now, later) = rest.split_at_mut(count);
        now.fill(0);
        self.rest = later;
    }
}

/// Reads fields in order.
pub(crate) struct FieldReader<'a> {
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    pub(crate) fn new(buffer: &'a [u8]) -> Self {
        Self { rest: buffer }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let (now, later) = self.rest.split_first_chunk().expect("headers have constant size");
        self.rest = later;
        *now
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(crate) fn u128(&mut self) -> u128 {
        u128::from_le_bytes(self.array())
    }

    /// Says whether all that is left, up to the last `keep` bytes, is zero.
    pub(crate) fn only_zeros_until_last(&mut self, keep: usize) -> bool {
        let count = self.rest.len().checked_sub(keep).expect("the layout leaves room");
        let (now, later) = self.rest.split_at(count);
        self.rest = later;
        // One comparison instead of a loop: a segment header has 4,000 such bytes, and tests run
        // unoptimized.
        ZEROS.get(..count).is_some_and(|zeros| zeros == now)
    }
}
