use proptest::prelude::*;

use super::codec::{Codec, Errors};
use super::fused::Unfinished;
use crate::kernel::cpu::Cpu;
use crate::kernel::float_mode::imp;
use crate::kernel::tests::interesting;
use crate::kernel::{finish_average, reduce_into, reduce_pair};
use crate::types::{DType, Quantization, ReduceOp};

mod bounds;
mod feedback;
mod golden;
mod oracle;
mod specified;

const FLOATS: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];
const CODES: [DType; 4] = [DType::U8, DType::I8, DType::U16, DType::I16];

/// Every way to quantize elements of a type.
fn all_of(dtype: DType) -> Vec<Quantization> {
    let grids =
        CODES.into_iter().flat_map(|code| [Quantization::MinMax(code), Quantization::ZeroPointScale(code)]);
    let others = [
        Quantization::Bits4,
        Quantization::Float8E4M3,
        Quantization::Float8E5M2,
        Quantization::Float16,
        Quantization::BFloat16,
    ];
    grids.chain(others).filter(|q| q.refusal(dtype, ReduceOp::Sum).is_none()).collect()
}

fn a_way() -> impl Strategy<Value = (DType, Quantization)> {
    let all: Vec<_> =
        FLOATS.into_iter().flat_map(|dtype| all_of(dtype).into_iter().map(move |q| (dtype, q))).collect();
    prop::sample::select(all)
}

fn a_path() -> impl Strategy<Value = Cpu> {
    prop::sample::select(Cpu::all_here())
}

/// Bytes of a number, rounded to the type.
fn of_number(dtype: DType, number: f64) -> Vec<u8> {
    match dtype {
        DType::F16 => half::f16::from_f64(number).to_le_bytes().to_vec(),
        DType::BF16 => half::bf16::from_f64(number).to_le_bytes().to_vec(),
        DType::F32 => (number as f32).to_le_bytes().to_vec(),
        _ => number.to_le_bytes().to_vec(),
    }
}

fn bytes_of(dtype: DType, numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| of_number(dtype, *number)).collect()
}

/// Spans of one character each: smooth ones of any scale, with an offset, with zeros, and arbitrary bits.
fn a_span(dtype: DType, count: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    let exponents = match dtype {
        DType::F16 => -24..15i32,
        DType::F64 => -1070..1023,
        _ => -148..127,
    };
    let odd = prop::sample::select(interesting(dtype));
    let odd_percent = prop::sample::select(vec![0u32, 0, 0, 1, 30, 100]);
    let offset = prop_oneof![Just(0.0), -2.0..2.0f64, Just(1000.0)];
    let unit = prop::collection::vec((-1.0..1.0f64, 0..100u32, odd, any::<bool>()), count);
    (exponents, odd_percent, offset, unit).prop_map(move |(exponent, odd_percent, offset, unit)| {
        let of = |(number, percent, odd, sparse): (f64, u32, u64, bool)| {
            if percent < odd_percent {
                return odd.to_le_bytes()[..dtype.size_bytes()].to_vec();
            }
            let number = if sparse && offset == 0.0 { 0.0 } else { number + offset };
            of_number(dtype, number * 2f64.powi(exponent))
        };
        unit.into_iter().flat_map(of).collect()
    })
}

fn encoded(cpu: Cpu, codec: &Codec, elements: &[u8]) -> Vec<u8> {
    let count = elements.len() / codec.dtype.size_bytes();
    let mut wire = vec![0xa5; codec.wire_bytes(count as u64) as usize];
    codec.encode_on(cpu, elements, &mut wire);
    wire
}

fn decoded(cpu: Cpu, codec: &Codec, wire: &[u8], len: usize) -> Vec<u8> {
    let mut elements = vec![0xa5; len];
    codec.decode_on(cpu, wire, &mut elements);
    elements
}

fn by_oracle(dtype: DType, quantization: Quantization, elements: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let codec = Codec::of(dtype, quantization).unwrap();
    let (mut wire, mut back) = (Vec::new(), Vec::new());
    for block in elements.chunks(codec.block_elements() * dtype.size_bytes()) {
        let encoded = oracle::encode_block(dtype, quantization, block);
        back.extend(oracle::decode_block(dtype, quantization, &encoded, block.len() / dtype.size_bytes()));
        wire.extend(encoded);
    }
    (wire, back)
}

/// From nothing to several blocks, and every rest of a vector between.
fn a_count() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0usize..80, 2 => 0usize..2100, 1 => 2040usize..5000]
}

fn a_case() -> impl Strategy<Value = (DType, Quantization, Vec<u8>)> {
    (a_way(), a_count()).prop_flat_map(|((dtype, quantization), count)| {
        (Just(dtype), Just(quantization), a_span(dtype, count))
    })
}

/// Two spans of one length.
fn two_spans() -> impl Strategy<Value = (DType, Quantization, Vec<u8>, Vec<u8>)> {
    (a_way(), a_count()).prop_flat_map(|((dtype, quantization), count)| {
        (Just(dtype), Just(quantization), a_span(dtype, count), a_span(dtype, count))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn every_path_gives_the_bytes_that_the_rule_says(cpu in a_path(), (dtype, quantization, elements) in a_case()) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let (wire, back) = by_oracle(dtype, quantization, &elements);
        prop_assert_eq!(encoded(cpu, &codec, &elements), &wire[..], "{} of {}", quantization, dtype);
        prop_assert_eq!(decoded(cpu, &codec, &wire, elements.len()), back, "{} of {}", quantization, dtype);
    }

    #[test]
    fn alignment_changes_nothing(
        cpu in a_path(), (dtype, quantization, elements) in a_case(), offsets in (0usize..9, 0usize..9),
    ) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let expected = encoded(cpu, &codec, &elements);
        let shifted = [vec![0; offsets.0], elements.clone()].concat();
        let mut wire = vec![0xa5; offsets.1 + expected.len() + 3];
        let end = wire.len() - 3;
        codec.encode_on(cpu, &shifted[offsets.0..], &mut wire[offsets.1..end]);
        prop_assert_eq!(&wire[offsets.1..end], &expected[..]);
        prop_assert!(wire[..offsets.1].iter().chain(&wire[end..]).all(|byte| *byte == 0xa5));
    }

    #[test]
    fn parts_that_are_cut_where_blocks_end_give_the_same(
        cpu in a_path(), (dtype, quantization, elements) in a_case(), cut in 0usize..6,
    ) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let whole = encoded(cpu, &codec, &elements);
        let cut_wire = (cut * codec.block_wire_bytes()).min(whole.len());
        let at = codec.elements_at(cut_wire).min(elements.len());
        let at = if cut_wire == whole.len() { elements.len() } else { at };
        let parts = [encoded(cpu, &codec, &elements[..at]), encoded(cpu, &codec, &elements[at..])].concat();
        prop_assert_eq!(parts, whole);
    }

    #[test]
    fn in_place_is_as_from_one_place_to_another(cpu in a_path(), (dtype, quantization, elements) in a_case()) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let wire = encoded(cpu, &codec, &elements);
        let mut span = elements.clone();
        prop_assert_eq!(codec.encode_in_place_on(cpu, &mut span, None), wire.len());
        prop_assert_eq!(&span[..wire.len()], &wire[..]);
        codec.decode_in_place_on(cpu, &mut span);
        prop_assert_eq!(span, decoded(cpu, &codec, &wire, elements.len()));
    }

    #[test]
    fn reducing_is_decoding_and_then_reducing(
        cpu in a_path(),
        op in prop::sample::select(ReduceOp::ALL.to_vec()),
        (dtype, quantization, own, theirs) in two_spans(),
    ) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let wire = encoded(cpu, &codec, &theirs);
        let theirs = decoded(cpu, &codec, &wire, theirs.len());
        let (mut expected, mut found) = (own.clone(), own.clone());
        reduce_into(op, dtype, &mut expected, &theirs);
        codec.reduce_into_on(cpu, op, &mut found, &wire);
        prop_assert_eq!(&found, &expected);
        reduce_pair(op, dtype, &mut expected, &own, &theirs);
        found.fill(0);
        codec.reduce_pair_on(cpu, op, &mut found, &own, &wire);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn sums_that_are_encoded_at_once_are_sums_and_then_encoded(
        cpu in a_path(),
        op in prop::sample::select(ReduceOp::ALL.to_vec()),
        (dtype, quantization, own, theirs) in two_spans(),
        stands_in_piece: bool, world_size in prop::option::of(1u64..9), cut in 0usize..4,
    ) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let wire = encoded(cpu, &codec, &theirs);
        let mut expected = own.clone();
        codec.reduce_into_on(cpu, op, &mut expected, &wire);
        if let Some(world_size) = world_size {
            finish_average(dtype, &mut expected, world_size);
        }
        let len = codec.encode_in_place_on(cpu, &mut expected, None);

        let mut piece = if stands_in_piece { own.clone() } else { vec![0xa5; own.len()] };
        let before = (!stands_in_piece).then_some(&own[..]);
        let cut_wire = (cut * codec.block_wire_bytes()).min(wire.len());
        let at = if cut_wire == wire.len() { own.len() } else { codec.elements_at(cut_wire) };
        for (elements, wire) in [(0..at, &wire[..cut_wire]), (at..own.len(), &wire[cut_wire..])] {
            if !elements.is_empty() {
                let sum = Unfinished { piece: &mut piece, before, divide_by: world_size };
                codec.encode_sum_on(cpu, op, sum, elements, wire);
            }
        }
        prop_assert_eq!(&piece[..len], &expected[..len]);
    }

    #[test]
    fn errors_grow_by_what_was_there_less_what_was_sent(
        cpu in a_path(), (dtype, quantization, elements) in a_case(), times in 1u64..5,
        owed in any::<[u8; 64]>(),
    ) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let (mut span, mut kept) = (elements.clone(), owed.iter().copied().cycle().take(elements.len()).collect::<Vec<u8>>());
        let before = oracle::numbers(dtype, &kept);
        codec.encode_in_place_on(cpu, &mut span, Some(Errors { kept: &mut kept, times }));
        codec.decode_in_place_on(cpu, &mut span);
        let exact = oracle::numbers(dtype, &elements);
        let sent = oracle::numbers(dtype, &span);
        let single = |x: f64| if dtype == DType::F64 { x } else { f64::from(x as f32) };
        let finite = |x: f64| if x.is_finite() { x } else { 0.0 };
        let largest = largest_of(dtype);
        let expected: Vec<f64> = exact.iter().zip(&sent).zip(&before)
            .map(|((exact, sent), before)| (single(single(exact - sent) * times as f64), before))
            .map(|(error, before)| single(finite(*before) + finite(error)).clamp(-largest, largest))
            .collect();
        // By way of f32, which these are: from f64 `half` looks at the upper bits only.
        let rounded = |number: &f64| match dtype {
            DType::F16 => half::f16::from_f32(*number as f32).to_le_bytes().to_vec(),
            DType::BF16 => half::bf16::from_f32(*number as f32).to_le_bytes().to_vec(),
            _ => of_number(dtype, *number),
        };
        prop_assert_eq!(kept, expected.iter().flat_map(rounded).collect::<Vec<u8>>());
    }

    #[test]
    fn the_modes_of_the_host_program_change_no_bits(cpu in a_path(), (dtype, quantization, elements) in a_case()) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let run = || {
            let mut span = elements.clone();
            let len = codec.encode_in_place_on(cpu, &mut span, None);
            let wire = span[..len].to_vec();
            codec.decode_in_place_on(cpu, &mut span);
            (wire, span)
        };
        let expected = run();
        let host = imp::read();
        imp::write(imp::FLUSH_AND_ROUND_UP);
        let under_other_modes = run();
        imp::write(host);
        prop_assert_eq!(under_other_modes, expected);
    }

    #[test]
    fn whatever_arrives_gives_elements(
        cpu in a_path(), (dtype, quantization) in a_way(), count in 0usize..300, seed in any::<[u8; 16]>(),
    ) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let wire: Vec<u8> = seed.iter().copied().cycle().take(codec.wire_bytes(count as u64) as usize).collect();
        let elements = decoded(cpu, &codec, &wire, count * dtype.size_bytes());
        prop_assert_eq!(&elements, &decoded(Cpu::best(), &codec, &wire, elements.len()));
        let blocks = wire.chunks(codec.block_wire_bytes()).zip(elements.chunks(codec.block_elements() * dtype.size_bytes()));
        for (wire, elements) in blocks {
            let count = elements.len() / dtype.size_bytes();
            let expected = oracle::decode_block(dtype, quantization, wire, count);
            // Codes that are 16-bit floats stand for themselves, whichever NaN they are.
            let canonical = |bytes: &[u8]| bytes_of(dtype, &oracle::numbers(dtype, bytes).iter().map(|x| if x.is_nan() { f64::NAN } else { *x }).collect::<Vec<_>>());
            if codec.header_bytes() == 0 {
                prop_assert_eq!(canonical(elements), canonical(&expected));
            } else {
                prop_assert_eq!(elements, expected);
            }
        }
    }

    /// Headers of any two numbers, whole ones or bits: what no sound sender writes is the same bits on every path too.
    #[test]
    fn a_header_that_no_sound_sender_writes_gives_finite_elements_or_the_canonical_nan(
        cpu in a_path(), (dtype, quantization) in a_way(), codes in any::<[u8; 16]>(), count in 8usize..100,
        numbers in prop::collection::vec(
            prop_oneof![any::<f64>(), (-300..300i32).prop_map(|e| 2f64.powi(e)), -10.0..300.0f64, prop::sample::select(
                vec![0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e38, -1e38, 1e30],
            )],
            2,
        ),
    ) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let mut wire: Vec<u8> =
            codes.iter().copied().cycle().take(codec.wire_bytes(count as u64) as usize).collect();
        if wire.len() == count * dtype.size_bytes() || codec.header_bytes() == 0 {
            return Ok(());
        }
        let of = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let header = bytes_of(of, &numbers);
        let header_bytes = codec.header_bytes();
        wire[..header_bytes].copy_from_slice(&header[..header_bytes]);
        let elements = decoded(cpu, &codec, &wire, count * dtype.size_bytes());
        prop_assert_eq!(&elements, &oracle::decode_block(dtype, quantization, &wire, count));
        let is_marked = wire[header_bytes - 1] & 0x80 != 0;
        prop_assert!(is_marked || oracle::numbers(dtype, &elements).iter().all(|x| !x.is_infinite()));
    }
}

fn largest_of(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 65504.0,
        DType::BF16 => half::bf16::MAX.to_f64(),
        DType::F32 => f32::MAX.into(),
        _ => f64::MAX,
    }
}
