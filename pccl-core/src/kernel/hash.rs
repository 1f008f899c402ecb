//! The hash that tells contents apart: XXH3 of 128 bits with seed 0 (algorithm and test vectors: Yann Collet's
//! xxHash). Why this one: ADR 12. A digest's bytes are the number, little-endian.

use twox_hash::xxhash3_128;

use crate::types::Digest;

/// Of these bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(xxhash3_128::Hasher::oneshot(bytes).to_le_bytes())
}

/// The same, of bytes that come one after the other.
#[derive(Default)]
pub struct Hasher(xxhash3_128::Hasher);

impl Hasher {
    pub fn add(&mut self, bytes: &[u8]) -> &mut Hasher {
        self.0.write(bytes);
        self
    }

    pub fn digest(&self) -> Digest {
        Digest(self.0.finish_128().to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the reference implementation's own list of values.
    #[test]
    fn it_is_xxh3_128() {
        assert_eq!(u128::from_le_bytes(digest(b"").0), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
        let mut hasher = Hasher::default();
        assert_eq!(hasher.digest(), digest(b""));
        hasher.add(b"one part ").add(b"").add(b"and another");
        assert_eq!(hasher.digest(), digest(b"one part and another"));
        assert_ne!(hasher.digest(), digest(b"one part and anotheR"));
    }
}
