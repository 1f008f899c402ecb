//! What the documentation says in words of blocks that are out of the ordinary.

use super::*;

/// The wire, and what comes back, on every path.
fn there_and_back(dtype: DType, quantization: Quantization, numbers: &[f64]) -> Vec<f64> {
    let codec = Codec::of(dtype, quantization).unwrap();
    let elements = bytes_of(dtype, numbers);
    let mut results: Vec<Vec<u8>> = Cpu::all_here()
        .into_iter()
        .map(|cpu| decoded(cpu, &codec, &encoded(cpu, &codec, &elements), elements.len()))
        .collect();
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{quantization} of {dtype}");
    oracle::numbers(dtype, &results.remove(0))
}

fn each_way(mut act: impl FnMut(DType, Quantization)) {
    FLOATS.into_iter().for_each(|dtype| all_of(dtype).into_iter().for_each(|q| act(dtype, q)));
}

fn is_grid(quantization: Quantization) -> bool {
    matches!(quantization, Quantization::MinMax(_) | Quantization::ZeroPointScale(_) | Quantization::Bits4)
}

#[test]
fn nothing_travels_as_nothing() {
    each_way(|dtype, quantization| {
        let codec = Codec::of(dtype, quantization).unwrap();
        assert_eq!(codec.wire_bytes(0), 0);
        assert!(there_and_back(dtype, quantization, &[]).is_empty());
    });
}

#[test]
fn one_element_comes_back_as_it_was_where_it_travels_as_itself() {
    each_way(|dtype, quantization| {
        let codec = Codec::of(dtype, quantization).unwrap();
        if codec.header_bytes() > 0 {
            assert_eq!(codec.wire_bytes(1), dtype.size_bytes() as u64);
            assert_eq!(
                there_and_back(dtype, quantization, &[0.1]),
                oracle::numbers(dtype, &of_number(dtype, 0.1))
            );
        }
    });
}

/// How many elements of a span travel as they are: the table of the documentation.
#[test]
fn short_blocks_travel_as_they_are() {
    let most = |dtype: DType, quantization| {
        let codec = Codec::of(dtype, quantization).unwrap();
        (0..3000).take_while(|count| codec.wire_bytes(*count) == count * dtype.size_bytes() as u64).count()
            - 1
    };
    let of_8 = Quantization::ZeroPointScale(DType::I8);
    let of_16 = Quantization::MinMax(DType::U16);
    let table = [
        (of_8, [8, 8, 2, 2]),
        (of_16, [2999, 2999, 4, 2]),
        (Quantization::Bits4, [5, 5, 2, 2]),
        (Quantization::Float8E4M3, [4, 4, 1, 1]),
    ];
    for (quantization, counts) in table {
        for (dtype, count) in FLOATS.into_iter().zip(counts) {
            assert_eq!(most(dtype, quantization), count, "{quantization} of {dtype}");
        }
    }
}

#[test]
fn the_sign_of_zero_is_lost_in_integer_codes_and_in_marked_blocks() {
    each_way(|dtype, quantization| {
        let mut numbers = vec![1.0; 100];
        numbers[7] = -0.0;
        let keeps = |numbers: &[f64]| {
            let back = there_and_back(dtype, quantization, numbers);
            back[7] == 0.0 && back[7].is_sign_negative()
        };
        let codec = Codec::of(dtype, quantization).unwrap();
        let as_they_are = codec.wire_bytes(100) == 100 * dtype.size_bytes() as u64;
        let has_no_header = codec.header_bytes() == 0;
        assert_eq!(keeps(&numbers), as_they_are || !is_grid(quantization), "{quantization} of {dtype}");
        numbers[8] = f64::NAN;
        assert_eq!(keeps(&numbers), as_they_are || has_no_header, "{quantization} of {dtype}, marked");
    });
}

/// The least subnormals, of which a 65535th is none: the middle of the block, or 0 where 0 has a code.
#[test]
fn where_the_step_is_0_there_is_the_middle_or_0() {
    let unit = f64::from(f32::from_bits(1));
    let numbers: Vec<f64> = (0..513).map(|i| unit * f64::from(i)).collect();
    for (quantization, expected) in
        [(Quantization::MinMax(DType::U16), 256.0 * unit), (Quantization::ZeroPointScale(DType::U16), 0.0)]
    {
        let back = there_and_back(DType::F32, quantization, &numbers);
        assert!(back.iter().all(|x| *x == expected), "{quantization}");
    }
}

#[test]
fn nothing_is_longer_than_the_elements_and_full_blocks_are_as_short_as_they_should_be() {
    each_way(|dtype, quantization| {
        let codec = Codec::of(dtype, quantization).unwrap();
        let mut before = 0;
        for count in 0..=2 * 2048 {
            let wire = codec.wire_bytes(count);
            assert!(wire >= before && wire <= count * dtype.size_bytes() as u64, "{quantization} of {dtype}");
            before = wire;
        }
    });
    let of = |dtype, quantization| Codec::of(dtype, quantization).unwrap().wire_bytes(1 << 20);
    assert_eq!(of(DType::F32, Quantization::MinMax(DType::U8)), (1 << 20) + 512 * 8);
    assert_eq!(of(DType::F64, Quantization::ZeroPointScale(DType::I16)), (2 << 20) + 512 * 16);
    assert_eq!(of(DType::F32, Quantization::Bits4), (1 << 19) + 1024 * 8);
    assert_eq!(of(DType::F32, Quantization::Float8E5M2), (1 << 20) + 512 * 4);
    assert_eq!(of(DType::F32, Quantization::BFloat16), 2 << 20);
    assert_eq!(of(DType::F16, Quantization::MinMax(DType::U16)), 2 << 20, "16 bits of 16: the elements");
}

#[test]
fn equal_elements_come_back_exactly() {
    each_way(|dtype, quantization| {
        for value in [0.0, 1.0, -1.0, 0.1, -300.7, 6e4, 1e-7, -1e-40] {
            let value = oracle::numbers(dtype, &of_number(dtype, value))[0];
            let back = there_and_back(dtype, quantization, &[value; 100]);
            if is_grid(quantization) {
                assert!(
                    back.iter().all(|x| *x == value),
                    "{quantization} of {dtype}: {value:e} as {:e}",
                    back[0]
                );
            }
        }
    });
}

#[test]
fn zero_has_a_code_where_it_is_promised() {
    let numbers: Vec<f64> =
        (0..500).map(|i| if i % 3 == 0 { 0.0 } else { f64::from(i) * 0.37 - 50.0 }).collect();
    each_way(|dtype, quantization| {
        let back = there_and_back(dtype, quantization, &numbers);
        if !matches!(quantization, Quantization::MinMax(_)) {
            assert!(back.iter().step_by(3).all(|x| *x == 0.0), "{quantization} of {dtype}");
        }
    });
}

#[test]
fn what_is_no_number_arrives_as_what_it_was_and_leaves_the_others_as_good_as_whole() {
    let mut numbers: Vec<f64> = (0..600).map(|i| f64::from(i % 97) * 0.5 - 20.0).collect();
    let odd = [(3, f64::NAN), (70, f64::INFINITY), (71, f64::NEG_INFINITY), (599, f64::NAN), (0, -0.0)];
    for (at, value) in odd {
        numbers[at] = value;
    }
    each_way(|dtype, quantization| {
        let back = there_and_back(dtype, quantization, &numbers);
        let numbers = oracle::numbers(dtype, &bytes_of(dtype, &numbers));
        let bounds = bounds::bounds(dtype, quantization, &numbers);
        for ((x, back), bound) in numbers.iter().zip(&back).zip(bounds) {
            let same = x.is_nan() && back.is_nan() || x == back || (x - back).abs() <= bound;
            assert!(same, "{quantization} of {dtype}: {x} as {back}");
        }
    });
}

#[test]
fn blocks_without_a_single_number_come_back() {
    each_way(|dtype, quantization| {
        let numbers = [[f64::NAN; 50], [f64::INFINITY; 50], [f64::NEG_INFINITY; 50]].concat();
        let back = there_and_back(dtype, quantization, &numbers);
        assert!(back[..50].iter().all(|x| x.is_nan()));
        assert_eq!(back[50..], numbers[50..], "{quantization} of {dtype}");
    });
}

#[test]
fn no_number_becomes_infinite() {
    for dtype in FLOATS {
        let largest = match dtype {
            DType::F16 => 65504.0,
            DType::BF16 => half::bf16::MAX.to_f64(),
            DType::F32 => f32::MAX.into(),
            _ => f64::MAX,
        };
        for quantization in all_of(dtype) {
            if quantization == Quantization::Float16 || quantization == Quantization::BFloat16 {
                continue;
            }
            let mut numbers: Vec<f64> = (0..200).map(|i| largest * (f64::from(i) / 100.0 - 1.0)).collect();
            numbers.push(largest);
            let near: Vec<f64> = (0..200).map(|i| largest * (1.0 - f64::from(i % 7) * 0.0005)).collect();
            for numbers in [numbers, near] {
                let back = there_and_back(dtype, quantization, &numbers);
                assert!(back.iter().all(|x| x.is_finite()), "{quantization} of {dtype}");
                assert!(*back.last().unwrap() > 0.8 * largest, "{quantization} of {dtype}");
            }
        }
    }
}

#[test]
fn beyond_f16_and_bf16_is_infinite_and_nan_is_the_canonical_one() {
    let back = there_and_back(DType::F32, Quantization::Float16, &[65519.0, 65520.0, -1e9, 1e-9]);
    assert_eq!(back, [65504.0, f64::INFINITY, f64::NEG_INFINITY, 0.0]);
    let first_beyond = f32::from_bits(0x7f7f_8000);
    assert_eq!(f64::from(first_beyond), 2f64.powi(128) - 2f64.powi(119));
    let numbers = [first_beyond.next_down(), first_beyond, -first_beyond].map(f64::from);
    let back = there_and_back(DType::F32, Quantization::BFloat16, &numbers);
    assert_eq!(back, [half::bf16::MAX.to_f64(), f64::INFINITY, f64::NEG_INFINITY]);
    let codec = Codec::of(DType::F32, Quantization::BFloat16).unwrap();
    let wire = encoded(Cpu::best(), &codec, &0xff80_0001u32.to_le_bytes());
    assert_eq!(wire, [0xc0, 0x7f]);
}

#[test]
fn subnormals_keep_their_differences_while_a_step_is_at_least_one_of_them() {
    let unit = f64::from(f32::from_bits(1));
    let numbers: Vec<f64> = (0..512).map(|i| unit * f64::from(i)).collect();
    for quantization in all_of(DType::F32).into_iter().filter(|q| is_grid(*q) && *q != Quantization::Bits4) {
        let back = there_and_back(DType::F32, quantization, &numbers);
        let of_8_bits = Codec::of(DType::F32, quantization).unwrap().top() == 255;
        // A 65535th of the range is none, so there is only the middle, or 0.
        let most = if of_8_bits { 2.0 } else { 511.0 };
        for (x, back) in numbers.iter().zip(&back) {
            assert!((x - back).abs() <= most * unit, "{quantization}: {} as {}", x / unit, back / unit);
        }
    }
}

#[test]
fn signed_codes_are_the_unsigned_ones_with_the_sign_bit_turned() {
    let numbers: Vec<f64> = (0..300).map(|i| f64::from(i) * 0.7 - 90.0).collect();
    let elements = bytes_of(DType::F32, &numbers);
    let of = |quantization| encoded(Cpu::best(), &Codec::of(DType::F32, quantization).unwrap(), &elements);
    let (unsigned, signed) = (of(Quantization::MinMax(DType::U8)), of(Quantization::MinMax(DType::I8)));
    assert_eq!(unsigned[..8], signed[..8]);
    assert!(unsigned[8..].iter().zip(&signed[8..]).all(|(u, s)| u ^ 0x80 == *s));
}

/// A block of all of them, beside what the formats say, with a step of 1/4.
#[test]
fn each_code_of_8_bit_floats_stands_for_its_number() {
    for (dtype, quantization) in FLOATS
        .into_iter()
        .flat_map(|dtype| [(dtype, Quantization::Float8E4M3), (dtype, Quantization::Float8E5M2)])
    {
        let codec = Codec::of(dtype, quantization).unwrap();
        let step =
            if dtype == DType::F64 { 0.25f64.to_le_bytes().to_vec() } else { 0.25f32.to_le_bytes().to_vec() };
        let wire: Vec<u8> = step.into_iter().chain(0..=255).collect();
        let expected: Vec<u8> = (0..=255u8)
            .map(|code| oracle::float8(quantization, code) * 0.25)
            .flat_map(|number| of_number(dtype, number))
            .collect();
        for cpu in Cpu::all_here() {
            assert_eq!(
                decoded(cpu, &codec, &wire, expected.len()),
                expected,
                "{quantization} of {dtype}, {cpu:?}"
            );
        }
    }
}
