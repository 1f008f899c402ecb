//! How far a number may be from what its code stands for: the bounds of `docs/QUANTIZATION.md`.

use super::*;

/// Largest relative error of rounding to a float of so many bits of precision.
pub fn unit(dtype: DType) -> f64 {
    2f64.powi(match dtype {
        DType::F16 => -11,
        DType::BF16 => -8,
        DType::F32 => -24,
        _ => -53,
    })
}

/// The least subnormal.
pub fn least(dtype: DType) -> f64 {
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

/// The bound for each number of a block. What is no number has none: it comes back as it was.
pub fn bounds(dtype: DType, quantization: Quantization, block: &[f64]) -> Vec<f64> {
    let codec = Codec::of(dtype, quantization).unwrap();
    let finite = || block.iter().copied().filter(|x| x.is_finite());
    let largest = finite().fold(0.0, |most: f64, x| most.max(x.abs()));
    let rounding = 4.0 * unit(dtype) * largest + least(dtype);
    match quantization {
        Quantization::Float16 => block.iter().map(|x| x.abs() * 2f64.powi(-11) + 2f64.powi(-25)).collect(),
        Quantization::BFloat16 => {
            block.iter().map(|x| x.abs() * 2f64.powi(-8) + least(DType::BF16)).collect()
        }
        Quantization::Float8E4M3 | Quantization::Float8E5M2 => {
            let (relative, subnormal) =
                if quantization == Quantization::Float8E4M3 { (-4, -10) } else { (-3, -17) };
            let least_normal = 2f64.powi(if dtype == DType::F64 { -1022 } else { -126 });
            let power = (2.0 * largest / oracle::float8_largest(quantization)).max(least_normal);
            let of = |x: &f64| {
                let code = (x.abs() * 2f64.powi(relative)).max(power * 2f64.powi(subnormal));
                code * (1.0 + 2f64.powi(-20)) + rounding
            };
            block.iter().map(of).collect()
        }
        _ => {
            let is_marked = block.iter().any(|x| !x.is_finite());
            let top = f64::from(codec.top()) - if is_marked { 3.0 } else { 0.0 };
            let zero = if codec.has_zero { 0.0 } else { f64::INFINITY };
            let (low, high) = (finite().fold(zero, f64::min), finite().fold(-zero, f64::max));
            // Halves first: a range may be twice what there is.
            let half_step = if low > high { 0.0 } else { high / 2.0 / top - low / 2.0 / top };
            let arithmetic = 8.0 * work_unit(dtype) * top * half_step + top * work_least(dtype);
            vec![half_step + arithmetic + rounding; block.len()]
        }
    }
}

/// Whether a number is within its bound; what is none must be the same again, and what is beyond the end infinite.
fn is_within(x: f64, back: f64, bound: f64, end: f64) -> bool {
    if x.is_finite() && x.abs() < end {
        // Halves: they may be as far apart as there are numbers.
        return (x / 2.0 - back / 2.0).abs() <= bound / 2.0;
    }
    x.is_nan() && back.is_nan() || back.is_infinite() && back.is_sign_negative() == x.is_sign_negative()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_number_is_farther_from_its_code_than_the_bound(cpu in a_path(), (dtype, quantization, elements) in a_case()) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let numbers = oracle::numbers(dtype, &elements);
        let wire = encoded(cpu, &codec, &elements);
        let back = oracle::numbers(dtype, &decoded(cpu, &codec, &wire, elements.len()));
        let of_block = codec.block_elements();
        for (block, back) in numbers.chunks(of_block).zip(back.chunks(of_block)) {
            let bounds = bounds(dtype, quantization, block);
            for ((&x, &back), bound) in block.iter().zip(back).zip(bounds) {
                prop_assert!(is_within(x, back, bound, end(quantization)), "{quantization} of {dtype}: {x:e} came as {back:e}, bound {bound:e}");
            }
        }
    }
}

/// The bounds are not idle: among uniform numbers one comes near its own, and they are no nearer than half of it on average.
/// In a block with a NaN too, which has three codes fewer.
#[test]
fn the_bounds_are_tight() {
    let uniform: Vec<f64> =
        (0..2048u32).map(|i| f64::from(i.wrapping_mul(2_654_435_761)) / 2f64.powi(32)).collect();
    let with_nan = [&[f64::NAN], &uniform[1..]].concat();
    for dtype in [DType::F32, DType::F64] {
        for quantization in all_of(dtype) {
            for numbers in [&uniform, &with_nan] {
                let codec = Codec::of(dtype, quantization).unwrap();
                let elements = bytes_of(dtype, numbers);
                let numbers = oracle::numbers(dtype, &elements);
                let wire = encoded(Cpu::best(), &codec, &elements);
                let back = oracle::numbers(dtype, &decoded(Cpu::best(), &codec, &wire, elements.len()));
                let (mut worst, mut sum, mut count) = (0.0f64, 0.0, 0.0);
                for (block, back) in
                    numbers.chunks(codec.block_elements()).zip(back.chunks(codec.block_elements()))
                {
                    for ((x, back), bound) in block.iter().zip(back).zip(bounds(dtype, quantization, block)) {
                        if x.is_finite() {
                            let part = (x - back).abs() / bound;
                            (worst, sum, count) = (worst.max(part), sum + part, count + 1.0);
                        }
                    }
                }
                // fp8 e5m2 has no number that is off by more than 8 / 9 of an eighth.
                let least = 0.85;
                assert!(
                    worst > least && sum / count < 0.55,
                    "{quantization} of {dtype}: {worst}, {}",
                    sum / count
                );
            }
        }
    }
}
