//! Reproducible random bytes, for tests that look for panics.

/// An xorshift generator: the same seed, the same bytes, on every machine.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Up to `max` bytes; zeros are as frequent as in real messages.
    pub(crate) fn bytes(&mut self, max: usize) -> Vec<u8> {
        let len = self.below(max + 1);
        (0..len)
            .map(|_| match self.below(4) {
                0 => 0,
                1 => b"aSPCM\x01\x02\x05"[self.below(8)],
                _ => self.next() as u8,
            })
            .collect()
    }
}
