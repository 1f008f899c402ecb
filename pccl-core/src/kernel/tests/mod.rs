use proptest::prelude::*;

use super::float_mode::imp;
use super::*;

mod oracle;

/// Bit patterns on which kernels go wrong: zeros, subnormals, extremes, infinities, NaNs of all kinds.
fn interesting(dtype: DType) -> Vec<u64> {
    let top = match dtype {
        DType::F16 => vec![0x7c00, 0x7bff, 0x03ff, 0x0400, 0x7c01, 0x7e00, 0x7fff, 0x3c00, 0x3c01, 0x1400],
        DType::BF16 => vec![0x7f80, 0x7f7f, 0x007f, 0x0080, 0x7f81, 0x7fc0, 0x7fff, 0x3f80, 0x3f81, 0x3b80],
        DType::F32 => vec![
            0x7f80_0000,
            0x7f7f_ffff,
            0x007f_ffff,
            0x0080_0000,
            0x7f80_0001,
            0x7fc0_0000,
            0x7fff_ffff,
            0x3f80_0000,
            0x3f80_0001,
            0x3300_0000,
        ],
        DType::F64 => vec![
            0x7ff0 << 48,
            (0x7ff0 << 48) - 1,
            (1 << 52) - 1,
            1 << 52,
            (0x7ff0 << 48) + 1,
            0x7ff8 << 48,
            u64::MAX >> 1,
            0x3ff0 << 48,
            (0x3ff0 << 48) + 1,
            0x3ca0 << 48,
        ],
        _ => vec![2, 3, 100, 255],
    };
    let sign = 1 << (dtype.size_bytes() * 8 - 1);
    let mut patterns = vec![0, 1];
    patterns.extend(top);
    let signed: Vec<u64> = patterns.iter().map(|pattern| pattern ^ sign).collect();
    patterns.extend(signed);
    patterns.extend([sign - 1, sign - 2, u64::MAX]);
    patterns
}

/// Elements of arbitrary and of interesting bits, as bytes.
fn elements(dtype: DType, count: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    let one = prop_oneof![any::<u64>(), prop::sample::select(interesting(dtype))];
    prop::collection::vec(one, count).prop_map(move |all| {
        all.iter().flat_map(|bits| bits.to_le_bytes()[..dtype.size_bytes()].to_vec()).collect()
    })
}

fn a_dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(DType::ALL.to_vec())
}

fn an_op() -> impl Strategy<Value = ReduceOp> {
    prop::sample::select(ReduceOp::ALL.to_vec())
}

/// Two spans of equal length.
fn operands() -> impl Strategy<Value = (DType, Vec<u8>, Vec<u8>)> {
    (a_dtype(), 0usize..70)
        .prop_flat_map(|(dtype, count)| (Just(dtype), elements(dtype, count), elements(dtype, count)))
}

/// The span, `offset` bytes into a longer one.
fn misaligned(bytes: &[u8], offset: usize) -> Vec<u8> {
    [vec![0xa5; offset], bytes.to_vec(), vec![0xa5; 3]].concat()
}

fn reduced(op: ReduceOp, dtype: DType, a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut acc = a.to_vec();
    reduce_into(op, dtype, &mut acc, b);
    acc
}

#[test]
fn every_pair_of_interesting_elements_gives_what_the_oracle_says() {
    for dtype in DType::ALL {
        let size = dtype.size_bytes();
        let all = interesting(dtype);
        for &a in &all {
            for &b in &all {
                let (a, b) = (&a.to_le_bytes()[..size], &b.to_le_bytes()[..size]);
                for op in ReduceOp::ALL {
                    let expected = oracle::combine(op, dtype, a, b);
                    assert_eq!(reduced(op, dtype, a, b), expected, "{op} of {dtype} {a:02x?} {b:02x?}");
                }
            }
        }
    }
}

#[test]
fn every_nan_comes_out_as_the_one_of_its_type() {
    let canonical: [(DType, u64, u64); 4] = [
        (DType::F16, 0xfc01, 0x7e00),
        (DType::BF16, 0xff81, 0x7fc0),
        (DType::F32, 0xff80_0001, 0x7fc0_0000),
        (DType::F64, 0xfff0_0000_0000_0001, 0x7ff8_0000_0000_0000),
    ];
    for (dtype, nan, expected) in canonical {
        let size = dtype.size_bytes();
        let (nan, one) = (nan.to_le_bytes(), 1u64.to_le_bytes());
        for op in ReduceOp::ALL {
            assert_eq!(reduced(op, dtype, &nan[..size], &one[..size]), &expected.to_le_bytes()[..size]);
            assert_eq!(reduced(op, dtype, &one[..size], &nan[..size]), &expected.to_le_bytes()[..size]);
        }
        let mut average = nan[..size].to_vec();
        finish_average(dtype, &mut average, 1);
        assert_eq!(average, &expected.to_le_bytes()[..size]);
    }
}

#[test]
fn integer_averages_truncate_towards_zero_at_any_world_size() {
    let average = |dtype, value: i64, world_size| {
        let mut bytes = value.to_le_bytes();
        finish_average(dtype, &mut bytes, world_size);
        i64::from_le_bytes(bytes)
    };
    assert_eq!(average(DType::I64, -7, 2), -3);
    assert_eq!(average(DType::I64, i64::MIN, 1), i64::MIN);
    assert_eq!(average(DType::I64, i64::MIN, u64::MAX), 0);
    assert_eq!(average(DType::U64, -1, 1024), (u64::MAX / 1024) as i64);
    let mut narrow = [0x80, 0x81, 0xff, 7];
    finish_average(DType::I8, &mut narrow, 128);
    assert_eq!(narrow, [0xff, 0, 0, 0]);
    finish_average(DType::U8, &mut [200], 300);
}

/// Every f16 and bf16 there is, and the f32 around each border between two of them.
#[test]
fn conversions_of_16_bit_floats_agree_with_an_independent_implementation() {
    use float16::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    for bits in 0..=u16::MAX {
        assert!(same(f16_to_f32(bits), half::f16::from_bits(bits).to_f32()));
        assert!(same(bf16_to_f32(bits), half::bf16::from_bits(bits).to_f32()));
        let middle = (u32::from(bits) << 16) + 0x8000;
        let of_f16 = half::f16::from_bits(bits).to_f32().to_bits();
        for near in [middle - 1, middle, middle + 1, of_f16 + 0xfff, of_f16 + 0x1000, of_f16 + 0x1001] {
            let value = f32::from_bits(near);
            let expected = if value.is_nan() { 0x7e00 } else { half::f16::from_f32(value).to_bits() };
            assert_eq!(f32_to_f16(value), expected, "f16 of {near:08x}");
            let expected = if value.is_nan() { 0x7fc0 } else { half::bf16::from_f32(value).to_bits() };
            assert_eq!(f32_to_bf16(value), expected, "bf16 of {near:08x}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn spans_give_what_the_oracle_says_at_any_alignment(
        op in an_op(),
        (dtype, a, b) in operands(),
        offsets in (0usize..9, 0usize..9, 0usize..9),
    ) {
        let size = dtype.size_bytes();
        let expected: Vec<u8> = a.chunks(size).zip(b.chunks(size))
            .flat_map(|(a, b)| oracle::combine(op, dtype, a, b))
            .collect();
        let mut acc = misaligned(&a, offsets.0);
        let other = misaligned(&b, offsets.1);
        let b_span = offsets.1..offsets.1 + b.len();
        reduce_into(op, dtype, &mut acc[offsets.0..offsets.0 + a.len()], &other[b_span.clone()]);
        prop_assert_eq!(&acc, &misaligned(&expected, offsets.0));

        let mut out = misaligned(&vec![0; a.len()], offsets.2);
        let first = misaligned(&a, offsets.0);
        let (out_span, a_span) = (offsets.2..offsets.2 + a.len(), offsets.0..offsets.0 + a.len());
        reduce_pair(op, dtype, &mut out[out_span], &first[a_span], &other[b_span]);
        prop_assert_eq!(&out, &misaligned(&expected, offsets.2));
    }

    #[test]
    fn averages_are_what_the_oracle_says(
        (dtype, sums) in a_dtype().prop_flat_map(|dtype| (Just(dtype), elements(dtype, 0..70))),
        world_size in prop_oneof![1u64..1025, any::<u64>().prop_map(|n| n.max(1))],
    ) {
        let expected: Vec<u8> = sums.chunks(dtype.size_bytes())
            .flat_map(|sum| oracle::average(dtype, sum, world_size))
            .collect();
        let mut averages = sums.clone();
        finish_average(dtype, &mut averages, world_size);
        prop_assert_eq!(averages, expected);
    }

    #[test]
    fn results_do_not_depend_on_where_a_span_is_cut(op in an_op(), (dtype, a, b) in operands(), cut in 0usize..70) {
        let cut = (cut * dtype.size_bytes()).min(a.len());
        let parts = [reduced(op, dtype, &a[..cut], &b[..cut]), reduced(op, dtype, &a[cut..], &b[cut..])];
        prop_assert_eq!(parts.concat(), reduced(op, dtype, &a, &b));
    }

    #[test]
    fn operands_may_change_places(op in an_op(), (dtype, a, b) in operands()) {
        prop_assert_eq!(reduced(op, dtype, &a, &b), reduced(op, dtype, &b, &a));
    }

    #[test]
    fn the_modes_of_the_host_program_change_no_bits_and_are_restored(
        op in an_op(),
        (dtype, a, b) in operands(),
        world_size in 1u64..100,
    ) {
        let run = || {
            let mut sum = reduced(op, dtype, &a, &b);
            finish_average(dtype, &mut sum, world_size);
            let mut pair = vec![0; a.len()];
            reduce_pair(op, dtype, &mut pair, &a, &b);
            (sum, pair)
        };
        let expected = run();
        let host = imp::read();
        imp::write(imp::FLUSH_AND_ROUND_UP);
        let under_other_modes = run();
        let after = imp::read();
        imp::write(host);
        prop_assert_eq!(after, imp::FLUSH_AND_ROUND_UP);
        prop_assert_eq!(under_other_modes, expected);
    }
}

/// The test above would prove nothing if the modes did not matter here.
#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn the_modes_do_change_bits_outside_of_kernels() {
    use std::hint::black_box;
    let host = imp::read();
    imp::write(imp::FLUSH_AND_ROUND_UP);
    let flushed = black_box(f32::from_bits(3)) + black_box(f32::from_bits(3));
    let rounded_up = black_box(1f32) + black_box(f32::MIN_POSITIVE);
    let (flushed, rounded_up) = (black_box(flushed), black_box(rounded_up));
    imp::write(host);
    assert_eq!(flushed.to_bits(), 0);
    assert!(rounded_up.to_bits() > 1f32.to_bits());
}
