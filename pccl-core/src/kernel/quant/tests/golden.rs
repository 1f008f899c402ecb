//! Encoded blocks, pinned byte by byte: two builds that encode differently have the same protocol version and the same
//! digest of an operation, and each would take the other's codes for its own. A change here is a new protocol version.
//! `PCCL_BLESS=1 cargo test -p pccl-core golden` writes them anew.

use std::fmt::Write;

use super::*;

const BLESSED: &str = include_str!("golden.txt");

/// Spans by name. Exact in f64, and rounded to the type once.
fn spans(dtype: DType) -> [(&'static str, Vec<f64>); 6] {
    let smooth =
        |count: u32| (0..count).map(|i| f64::from(i * 7919 % 1000) / 256.0 - 1.5).collect::<Vec<f64>>();
    let mut marked = smooth(11);
    (marked[2], marked[5], marked[7], marked[8]) = (f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0);
    let largest = largest_of(dtype);
    let unit = bounds::least(dtype);
    [
        ("smooth", smooth(20)),
        ("with what is no number", marked),
        ("subnormal", (0..20).map(|i| f64::from(i * 7 % 20) * unit).collect()),
        ("huge", (0..20).map(|i| largest * (f64::from(i * 7 % 20) / 9.5 - 1.0)).collect()),
        ("all equal", vec![-0.625; 20]),
        ("short", smooth(3)),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn written() -> String {
    let mut text = String::new();
    for dtype in FLOATS {
        for quantization in all_of(dtype) {
            let codec = Codec::of(dtype, quantization).unwrap();
            writeln!(text, "{dtype}, {quantization}").unwrap();
            for (name, numbers) in spans(dtype) {
                let wire = encoded(Cpu::best(), &codec, &bytes_of(dtype, &numbers));
                writeln!(text, "  {name}: {}", hex(&wire)).unwrap();
            }
            // Of several blocks; where they are cut shows in the check sum.
            let numbers: Vec<f64> =
                (0..5000u32).map(|i| f64::from(i * 7919 % 10_007) / 1024.0 - 3.0).collect();
            let wire = encoded(Cpu::best(), &codec, &bytes_of(dtype, &numbers));
            writeln!(text, "  5000 elements: {} bytes, CRC-32 {:08x}", wire.len(), crc32fast::hash(&wire))
                .unwrap();
        }
    }
    text
}

#[test]
fn encoded_blocks_are_the_golden_ones() {
    let written = written();
    if std::env::var_os("PCCL_BLESS").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kernel/quant/tests/golden.txt");
        return std::fs::write(file, written).unwrap();
    }
    for (written, blessed) in written.lines().zip(BLESSED.lines()) {
        assert_eq!(written, blessed, "what travels has changed: a new version of the protocol");
    }
    assert_eq!(written.lines().count(), BLESSED.lines().count());
}
