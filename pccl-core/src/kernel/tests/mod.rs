use proptest::prelude::*;

use super::cpu::Cpu;
use super::division::Divisor;
use super::float_mode::imp;
use super::path::{LANES, Path};
use super::*;

mod oracle;

/// Bit patterns on which kernels go wrong: zeros, subnormals, extremes, infinities, NaNs of all kinds.
pub fn interesting(dtype: DType) -> Vec<u64> {
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

/// Two spans of equal length: from nothing to several rounds of the widest loop, and every rest between.
fn operands() -> impl Strategy<Value = (DType, Vec<u8>, Vec<u8>)> {
    (a_dtype(), prop_oneof![0usize..70, 0usize..300])
        .prop_flat_map(|(dtype, count)| (Just(dtype), elements(dtype, count), elements(dtype, count)))
}

/// The span, `offset` bytes into a longer one.
fn misaligned(bytes: &[u8], offset: usize) -> Vec<u8> {
    [vec![0xa5; offset], bytes.to_vec(), vec![0xa5; 3]].concat()
}

fn a_path() -> impl Strategy<Value = Cpu> {
    prop::sample::select(Cpu::all_here())
}

fn reduced(cpu: Cpu, op: ReduceOp, dtype: DType, a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut acc = a.to_vec();
    reduce_into_on(cpu, op, dtype, &mut acc, b);
    acc
}

fn averaged(cpu: Cpu, dtype: DType, sums: &[u8], world_size: u64) -> Vec<u8> {
    let mut averages = sums.to_vec();
    finish_average_on(cpu, dtype, &mut averages, world_size);
    averages
}

/// What the oracle makes of two spans.
fn combined(op: ReduceOp, dtype: DType, a: &[u8], b: &[u8]) -> Vec<u8> {
    let size = dtype.size_bytes();
    a.chunks(size).zip(b.chunks(size)).flat_map(|(a, b)| oracle::combine(op, dtype, a, b)).collect()
}

#[test]
fn the_product_takes_the_best_path() {
    assert_eq!(Cpu::all_here().last(), Some(&Cpu::best()));
}

/// All pairs stand in one span, so that vectors see them, and each once more alone, as the rest of a span.
#[test]
fn every_pair_of_interesting_elements_gives_what_the_oracle_says() {
    for dtype in DType::ALL {
        let size = dtype.size_bytes();
        let all: Vec<[u8; 8]> = interesting(dtype).iter().map(|bits| bits.to_le_bytes()).collect();
        let a: Vec<u8> = all.iter().flat_map(|a| a[..size].repeat(all.len())).collect();
        let b = all.iter().flat_map(|b| b[..size].to_vec()).collect::<Vec<u8>>().repeat(all.len());
        for op in ReduceOp::ALL {
            let expected = combined(op, dtype, &a, &b);
            for cpu in Cpu::all_here() {
                let found = reduced(cpu, op, dtype, &a, &b);
                for at in (0..a.len()).step_by(size) {
                    let (a, b, expected) = (&a[at..at + size], &b[at..at + size], &expected[at..at + size]);
                    assert_eq!(&found[at..at + size], expected, "{cpu:?}: {op} of {dtype} {a:02x?} {b:02x?}");
                    assert_eq!(
                        reduced(cpu, op, dtype, a, b),
                        expected,
                        "{cpu:?}: {op} of {dtype} {a:02x?} {b:02x?}"
                    );
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
        let expected = &expected.to_le_bytes()[..size];
        for cpu in Cpu::all_here() {
            for op in ReduceOp::ALL {
                assert_eq!(reduced(cpu, op, dtype, &nan[..size], &one[..size]), expected);
                assert_eq!(reduced(cpu, op, dtype, &one[..size], &nan[..size]), expected);
            }
            assert_eq!(averaged(cpu, dtype, &nan[..size], 1), expected);
        }
    }
}

/// Every f16 and bf16 there is, with operands that make it overflow, vanish, round and cancel.
#[test]
fn every_16_bit_float_gives_the_same_bits_on_every_path() {
    for dtype in [DType::F16, DType::BF16] {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for other in interesting(dtype) {
            let other = (other as u16).to_le_bytes().repeat(all.len() / 2);
            for op in ReduceOp::ALL {
                let baseline = reduced(Cpu::all_here()[0], op, dtype, &all, &other);
                for cpu in Cpu::all_here() {
                    assert!(reduced(cpu, op, dtype, &all, &other) == baseline, "{cpu:?}: {op} of {dtype}");
                }
            }
        }
        for world_size in [1, 2, 3, 7, 1024, u64::MAX] {
            let baseline = averaged(Cpu::all_here()[0], dtype, &all, world_size);
            for cpu in Cpu::all_here() {
                assert!(
                    averaged(cpu, dtype, &all, world_size) == baseline,
                    "{cpu:?}: {dtype} by {world_size}"
                );
            }
        }
    }
}

#[test]
fn dividing_by_multiplication_is_dividing() {
    for divisor in 1..=300u64 {
        let narrow = Divisor::<u8>::new(divisor);
        for number in 0..=u8::MAX {
            assert_eq!(
                u64::from(narrow.divide(number)),
                u64::from(number) / divisor,
                "{number} by {divisor}"
            );
        }
    }
    let at_borders = [1, 2, 3, 5, 7, 255, 256, 641, 32767, 32768, 32769, 65535, 65536, 65537, u64::MAX];
    for divisor in at_borders {
        let divide = Divisor::<u16>::new(divisor);
        for number in 0..=u16::MAX {
            assert_eq!(
                u64::from(divide.divide(number)),
                u64::from(number) / divisor,
                "{number} by {divisor}"
            );
        }
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

/// Every 16-bit float, and those around every border between two, on each path.
#[test]
fn lanes_by_instructions_are_those_on_bits() {
    fn check<P: Path>(path: P) {
        let halves: Vec<[u8; 2]> = (0..=u16::MAX).map(u16::to_le_bytes).collect();
        let (halves, _) = halves.as_chunks::<LANES>();
        for halves in halves {
            for (half, single) in halves.iter().zip(path.widen_f16(halves)) {
                let bits = u16::from_le_bytes(*half);
                let expected = float16::f16_to_f32(bits);
                let same = single.to_bits() == expected.to_bits() || single.is_nan() && expected.is_nan();
                assert!(same, "{bits:04x} became {single}");
            }
        }
        let singles: Vec<f32> = around_every_half().map(f32::from_bits).collect();
        let (singles, rest) = singles.as_chunks::<LANES>();
        assert!(rest.is_empty());
        for singles in singles {
            for (single, half) in singles.iter().zip(path.narrow_f16(singles)) {
                assert_eq!(
                    u16::from_le_bytes(half),
                    float16::f32_to_f16(*single),
                    "{:08x}",
                    single.to_bits()
                );
            }
        }
    }
    for cpu in Cpu::all_here() {
        match cpu {
            Cpu::Baseline(path) => check(path),
            #[cfg(target_arch = "x86_64")]
            Cpu::Avx2(path) => check(path),
            #[cfg(target_arch = "x86_64")]
            Cpu::Avx512(path) => check(path),
        }
    }
}

/// Bits of f32: the middle between each bf16 and the next, the same of f16, and their neighbours.
fn around_every_half() -> impl Iterator<Item = u32> {
    (0..=u16::MAX).flat_map(|bits| {
        let (middle, of_f16) =
            ((u32::from(bits) << 16) + 0x8000, half::f16::from_bits(bits).to_f32().to_bits());
        [middle - 1, middle, middle + 1, of_f16 + 0xfff, of_f16 + 0x1000, of_f16 + 0x1001]
    })
}

#[test]
fn a_number_as_bf16_is_what_any_f32_would_be() {
    for single in around_every_half().map(f32::from_bits).filter(|single| !single.is_nan()) {
        assert_eq!(float16::number_to_bf16(single), float16::f32_to_bf16(single), "{:08x}", single.to_bits());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn spans_give_what_the_oracle_says_at_any_alignment(
        cpu in a_path(),
        op in an_op(),
        (dtype, a, b) in operands(),
        offsets in (0usize..9, 0usize..9, 0usize..9),
    ) {
        let expected = combined(op, dtype, &a, &b);
        let mut acc = misaligned(&a, offsets.0);
        let other = misaligned(&b, offsets.1);
        let b_span = offsets.1..offsets.1 + b.len();
        reduce_into_on(cpu, op, dtype, &mut acc[offsets.0..offsets.0 + a.len()], &other[b_span.clone()]);
        prop_assert_eq!(&acc, &misaligned(&expected, offsets.0));

        let mut out = misaligned(&vec![0; a.len()], offsets.2);
        let first = misaligned(&a, offsets.0);
        let (out_span, a_span) = (offsets.2..offsets.2 + a.len(), offsets.0..offsets.0 + a.len());
        reduce_pair_on(cpu, op, dtype, &mut out[out_span], &first[a_span], &other[b_span]);
        prop_assert_eq!(&out, &misaligned(&expected, offsets.2));
    }

    #[test]
    fn averages_are_what_the_oracle_says(
        cpu in a_path(),
        (dtype, sums) in a_dtype().prop_flat_map(|dtype| (Just(dtype), elements(dtype, 0..200))),
        world_size in prop_oneof![1u64..1025, any::<u64>().prop_map(|n| n.max(1))],
    ) {
        let expected: Vec<u8> = sums.chunks(dtype.size_bytes())
            .flat_map(|sum| oracle::average(dtype, sum, world_size))
            .collect();
        prop_assert_eq!(averaged(cpu, dtype, &sums, world_size), expected);
    }

    #[test]
    fn wide_integers_are_divided_as_by_division(
        numbers in prop::collection::vec(prop_oneof![any::<u64>(), prop::sample::select(interesting(DType::U64))], 20),
        divisor in prop_oneof![any::<u64>(), 1..2000u64, (0..64u32).prop_map(|bits| 1 << bits)].prop_map(|d| d.max(1)),
        off_by in 0..3u64,
    ) {
        let divisor = divisor.wrapping_add(off_by).wrapping_sub(1).max(1);
        for number in numbers.iter().flat_map(|n| [*n, n - n % divisor, (n - n % divisor).wrapping_sub(1)]) {
            prop_assert_eq!(Divisor::<u64>::new(divisor).divide(number), number / divisor);
            let narrow = Divisor::<u32>::new(divisor).divide(number as u32);
            prop_assert_eq!(u64::from(narrow), u64::from(number as u32) / divisor);
        }
    }

    #[test]
    fn results_do_not_depend_on_where_a_span_is_cut(
        cpu in a_path(),
        op in an_op(),
        (dtype, a, b) in operands(),
        cut in 0usize..300,
    ) {
        let cut = (cut * dtype.size_bytes()).min(a.len());
        let parts = [reduced(cpu, op, dtype, &a[..cut], &b[..cut]), reduced(cpu, op, dtype, &a[cut..], &b[cut..])];
        prop_assert_eq!(parts.concat(), reduced(cpu, op, dtype, &a, &b));
    }

    #[test]
    fn operands_may_change_places(cpu in a_path(), op in an_op(), (dtype, a, b) in operands()) {
        prop_assert_eq!(reduced(cpu, op, dtype, &a, &b), reduced(cpu, op, dtype, &b, &a));
    }

    #[test]
    fn the_modes_of_the_host_program_change_no_bits_and_are_restored(
        cpu in a_path(),
        op in an_op(),
        (dtype, a, b) in operands(),
        world_size in 1u64..100,
    ) {
        let run = || {
            let sum = reduced(cpu, op, dtype, &a, &b);
            let mut pair = vec![0; a.len()];
            reduce_pair_on(cpu, op, dtype, &mut pair, &a, &b);
            (averaged(cpu, dtype, &sum, world_size), pair)
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
