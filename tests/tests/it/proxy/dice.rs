//! Random numbers from a seed that is printed when the test fails.

/// SplitMix64.
pub struct Dice(u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

/// Prints how to repeat the test with this seed alone, if it fails.
pub struct Seed(u64);

impl Seed {
    /// Those of a test run, the first `PCCL_FAULT_SEEDS`, or the one of `PCCL_FAULT_SEED`.
    pub fn each(count: u64) -> impl Iterator<Item = Seed> {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let count = number("PCCL_FAULT_SEEDS").unwrap_or(count);
        number("PCCL_FAULT_SEED").map_or(0..count, |seed| seed..seed + 1).map(Seed)
    }

    pub fn number(&self) -> u64 {
        self.0
    }

    pub fn dice(&self) -> Dice {
        Dice(self.0)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat it: PCCL_FAULT_SEED={}", self.0);
        }
    }
}
