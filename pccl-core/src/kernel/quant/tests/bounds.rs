//! How far a number may be from what its code stands for: the bounds of `docs/QUANTIZATION.md`.

use super::*;

/// Largest relative error of rounding to a float of so many bits of precision.
fn unit(dtype: DType) -> f64 {
    2f64.powi(match dtype {
        DType::F16 => -11,
        DType::BF16 => -8,
        DType::F32 => -24,
        _ => -53,
    })
}

/// The least subnormal.
fn least(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2f64.powi(-24),
        DType::BF16 => 2f64.powi(-133),
        DType::F32 => 2f64.powi(-149),
        _ => f64::from_bits(1),
    }
}

/// Of the type that a block is computed in.
fn work_unit(dtype: DType) -> f64 {
    unit(if dtype == DType::F64 { DType::F64 } else { DType::F32 })
}

fn work_least(dtype: DType) -> f64 {
    least(if dtype == DType::F64 { DType::F64 } else { DType::F32 })
}

/// From here on there is no bound: no number, or infinite once it is rounded to a type that ends before.
fn end(quantization: Quantization) -> f64 {
    match quantization {
        Quantization::Float16 => 65520.0,
        Quantization::BFloat16 => 2f64.powi(128) - 2f64.powi(119),
        _ => f64::INFINITY,
    }
}

/// The bound for each number of a block.
fn bounds(dtype: DType, quantization: Quantization, block: &[f64]) -> Vec<f64> {
    let codec = Codec::of(dtype, quantization).unwrap();
    let largest = block.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let rounding = 4.0 * unit(dtype) * largest + least(dtype);
    match quantization {
        Quantization::Float16 => block.iter().map(|x| x.abs() * 2f64.powi(-11) + 2f64.powi(-25)).collect(),
        Quantization::BFloat16 => {
            block.iter().map(|x| x.abs() * 2f64.powi(-8) + least(DType::BF16)).collect()
        }
        Quantization::Float8E4M3 | Quantization::Float8E5M2 => {
            let (relative, subnormal) =
                if quantization == Quantization::Float8E4M3 { (-4, -10) } else { (-3, -17) };
            let power = 2.0 * largest / oracle::float8_largest(quantization);
            let power = power.max(2f64.powi(if dtype == DType::F64 { -1022 } else { -126 }));
            let of = |x: &f64| {
                (x.abs() * 2f64.powi(relative)).max(power * 2f64.powi(subnormal)) * (1.0 + 1e-6) + rounding
            };
            block.iter().map(of).collect()
        }
        _ => {
            let top = f64::from(codec.top());
            let zero = if codec.has_zero { 0.0 } else { f64::INFINITY };
            let low = block.iter().fold(zero, |low, x| low.min(*x));
            let high = block.iter().fold(-zero, |high, x| high.max(*x));
            // Halves first: a range may be twice what there is.
            let half_step = high / 2.0 / top - low / 2.0 / top;
            let arithmetic = 8.0 * work_unit(dtype) * top * half_step + top * work_least(dtype);
            vec![half_step + arithmetic + rounding; block.len()]
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn no_number_is_farther_from_its_code_than_the_bound(cpu in a_path(), (dtype, quantization, elements) in a_case()) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let of = |x: &f64| if x.abs() < end(quantization) { *x } else { 1.0 };
        let numbers: Vec<f64> = oracle::numbers(dtype, &elements).iter().map(of).collect();
        let elements = bytes_of(dtype, &numbers);
        let wire = encoded(cpu, &codec, &elements);
        let back = oracle::numbers(dtype, &decoded(cpu, &codec, &wire, elements.len()));
        let of_block = codec.block_elements();
        for (block, back) in numbers.chunks(of_block).zip(back.chunks(of_block)) {
            let bounds = bounds(dtype, quantization, block);
            for ((x, back), bound) in block.iter().zip(back).zip(&bounds) {
                prop_assert!((x / 2.0 - back / 2.0).abs() <= bound / 2.0, "{quantization} of {dtype}: {x:e} came as {back:e}, bound {bound:e}");
            }
        }
    }
}

/// The bound is not idle: uniform numbers come near it, and no nearer than a third on average.
#[test]
fn the_bound_is_tight() {
    let numbers: Vec<f64> =
        (0..2048u32).map(|i| f64::from(i.wrapping_mul(2_654_435_761)) / 2f64.powi(32)).collect();
    for quantization in [Quantization::MinMax(DType::U8), Quantization::ZeroPointScale(DType::I8)] {
        let codec = Codec::of(DType::F32, quantization).unwrap();
        let elements = bytes_of(DType::F32, &numbers);
        let wire = encoded(Cpu::best(), &codec, &elements);
        let back = oracle::numbers(DType::F32, &decoded(Cpu::best(), &codec, &wire, elements.len()));
        let errors: Vec<f64> = numbers.iter().zip(&back).map(|(a, b)| (a - b).abs()).collect();
        let worst = errors.iter().fold(0.0f64, |worst, error| worst.max(*error));
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        let bound = bounds(DType::F32, quantization, &numbers)[0];
        assert!(worst > 0.95 * bound && mean < 0.55 * bound, "{worst} and {mean} of {bound}");
    }
}
