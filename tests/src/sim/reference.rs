//! What a result must be, computed by nothing but a plain loop.

use half::{bf16, f16};
use pccl_core::types::{DType, OpDescriptor, Quantization, ReduceOp};

use super::rng::{Rng, mix_all};

/// The contribution of whoever has `seed`.
///
/// Floats are small multiples of powers of two, so that sums and products of up to eight are exact in every
/// type and order; with an odd seed they are not, so that the order shows.
pub fn input(seed: u64, descriptor: &OpDescriptor) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes = Vec::with_capacity(descriptor.size_bytes() as usize);
    for _ in 0..descriptor.count {
        let raw = rng.next();
        let float = match descriptor.op {
            _ if seed & 1 == 1 => 0.5 + (raw >> 40) as f64 / (1u64 << 24) as f64,
            ReduceOp::Prod => [-2.0, -1.0, -0.5, 0.5, 1.0, 2.0][(raw % 6) as usize],
            _ => (raw % 33) as f64 - 16.0,
        };
        match descriptor.dtype {
            DType::F16 => bytes.extend(f16::from_f64(float).to_le_bytes()),
            DType::BF16 => bytes.extend(bf16::from_f64(float).to_le_bytes()),
            DType::F32 => bytes.extend((float as f32).to_le_bytes()),
            DType::F64 => bytes.extend(float.to_le_bytes()),
            whole => bytes.extend(&raw.to_le_bytes()[..whole.size_bytes()]),
        }
    }
    bytes
}

/// Whether inputs of this seed family are exact in floats, too.
pub fn input_seed(parts: &[u64], exact: bool) -> u64 {
    mix_all(parts) & !1 | u64::from(!exact)
}

/// Why `result` is not what reducing `inputs` must give, to which `residuals` are added.
pub fn check(
    descriptor: &OpDescriptor,
    inputs: &[Vec<u8>],
    residuals: &[Vec<u8>],
    exact: bool,
    result: &[u8],
) -> Result<(), String> {
    let size = descriptor.dtype.size_bytes();
    let quantized = quantization_bound(descriptor, inputs, residuals);
    for (at, got) in result.chunks_exact(size).enumerate() {
        let column = inputs.iter().map(|input| &input[at * size..(at + 1) * size]);
        let right = match float(descriptor.dtype, got) {
            None => whole(descriptor, column.clone()) == got,
            Some(got) => {
                let owed = residuals.iter().map(|residual| &residual[at * size..(at + 1) * size]);
                let want = float_reference(descriptor, column.clone(), owed);
                let exact = exact && descriptor.op != ReduceOp::Avg && quantized == 0.0;
                if exact {
                    got == want
                } else {
                    (got - want).abs() <= tolerance(descriptor, want) + quantized
                }
            }
        };
        if !right {
            let column: Vec<&[u8]> = column.collect();
            return Err(format!("element {at} of {descriptor} is {got:02x?}, from {column:02x?}"));
        }
    }
    Ok(())
}

/// The most by which quantization may move an element: each of up to N encodings on its way is of a sum that is at most the
/// sum of the largest magnitudes.
fn quantization_bound(descriptor: &OpDescriptor, inputs: &[Vec<u8>], residuals: &[Vec<u8>]) -> f64 {
    let step = match descriptor.quantization {
        Quantization::None => return 0.0,
        Quantization::MinMax(DType::U16 | DType::I16)
        | Quantization::ZeroPointScale(DType::U16 | DType::I16) => 1.0 / 65535.0,
        Quantization::MinMax(_) | Quantization::ZeroPointScale(_) => 1.0 / 255.0,
        Quantization::Bits4 => 1.0 / 15.0,
        Quantization::Float8E4M3 => 1.0 / 16.0,
        Quantization::Float8E5M2 => 1.0 / 8.0,
        Quantization::Float16 => 2f64.powi(-11),
        Quantization::BFloat16 => 2f64.powi(-8),
    };
    let size = descriptor.dtype.size_bytes();
    let largest = |input: &Vec<u8>| {
        let numbers = input.chunks_exact(size).filter_map(|bytes| float(descriptor.dtype, bytes));
        numbers.fold(0.0, |largest: f64, number| largest.max(number.abs()))
    };
    let sum: f64 = inputs.iter().chain(residuals).map(largest).sum();
    let encodings = inputs.len() as i32;
    f64::from(encodings) * (step * sum * (1.0 + step).powi(encodings) + tolerance(descriptor, sum))
}

fn tolerance(descriptor: &OpDescriptor, want: f64) -> f64 {
    let relative = match descriptor.dtype {
        DType::BF16 => 0.04,
        DType::F16 => 0.006,
        DType::F32 => 2e-6,
        _ => 1e-14,
    };
    want.abs() * relative + f64::EPSILON
}

fn float(dtype: DType, bytes: &[u8]) -> Option<f64> {
    match (dtype, bytes) {
        (DType::F16, &[a, b]) => Some(f16::from_le_bytes([a, b]).to_f64()),
        (DType::BF16, &[a, b]) => Some(bf16::from_le_bytes([a, b]).to_f64()),
        (DType::F32, bytes) => bytes.try_into().ok().map(|bytes| f64::from(f32::from_le_bytes(bytes))),
        (DType::F64, bytes) => bytes.try_into().ok().map(f64::from_le_bytes),
        _ => None,
    }
}

fn float_reference<'a>(
    descriptor: &OpDescriptor,
    column: impl Iterator<Item = &'a [u8]>,
    owed: impl Iterator<Item = &'a [u8]>,
) -> f64 {
    let values: Vec<f64> = column.filter_map(|bytes| float(descriptor.dtype, bytes)).collect();
    let first = values[0];
    let rest = values[1..].iter().copied();
    let owed: f64 = owed.filter_map(|bytes| float(descriptor.dtype, bytes)).sum();
    match descriptor.op {
        ReduceOp::Sum => rest.fold(first, |a, b| a + b) + owed,
        ReduceOp::Avg => (rest.fold(first, |a, b| a + b) + owed) / values.len() as f64,
        ReduceOp::Prod => rest.fold(first, |a, b| a * b),
        ReduceOp::Max => rest.fold(first, f64::max),
        ReduceOp::Min => rest.fold(first, f64::min),
    }
}

/// Integers: computed in 128 bits and cut back to the type, which is what wrapping means.
fn whole<'a>(descriptor: &OpDescriptor, column: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let size = descriptor.dtype.size_bytes();
    let signed = matches!(descriptor.dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    let widen = |bytes: &[u8]| {
        let negative = signed && bytes[size - 1] & 0x80 != 0;
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        wide[..size].copy_from_slice(bytes);
        i128::from_le_bytes(wide)
    };
    let cut = |value: i128| value.to_le_bytes()[..size].to_vec();
    let values: Vec<i128> = column.map(widen).collect();
    let rest = values[1..].iter().copied();
    let first = values[0];
    match descriptor.op {
        ReduceOp::Sum => cut(rest.fold(first, i128::wrapping_add)),
        ReduceOp::Avg => {
            let sum = widen(&cut(rest.fold(first, i128::wrapping_add)));
            cut(sum / values.len() as i128)
        }
        ReduceOp::Prod => cut(rest.fold(first, i128::wrapping_mul)),
        ReduceOp::Max => cut(rest.fold(first, i128::max)),
        ReduceOp::Min => cut(rest.fold(first, i128::min)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_sum_passes_and_one_wrong_bit_does_not() {
        let descriptor = OpDescriptor::plain(2, DType::I16, ReduceOp::Avg);
        let inputs = [vec![0xfd, 0xff, 9, 0], vec![0xfe, 0xff, 2, 0]];
        // (−3 − 2) / 2 = −2 (towards zero), (9 + 2) / 2 = 5
        let mut result = vec![0xfe, 0xff, 5, 0];
        assert_eq!(check(&descriptor, &inputs, &[], true, &result), Ok(()));
        result[2] ^= 1;
        assert!(check(&descriptor, &inputs, &[], true, &result).is_err());
    }

    #[test]
    fn what_is_owed_belongs_to_the_sum() {
        let quantization = Quantization::MinMax(DType::U16);
        let descriptor = OpDescriptor { quantization, ..OpDescriptor::plain(1, DType::F32, ReduceOp::Avg) };
        let bytes = |number: f32| number.to_le_bytes().to_vec();
        let (inputs, residuals) = ([bytes(1.0), bytes(2.0)], [bytes(0.5)]);
        assert_eq!(check(&descriptor, &inputs, &residuals, false, &bytes(1.75)), Ok(()));
        assert!(check(&descriptor, &inputs, &residuals, false, &bytes(1.5)).is_err());
    }

    #[test]
    fn exact_floats_add_up_exactly_in_every_type() {
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            let descriptor = OpDescriptor::plain(3, dtype, ReduceOp::Sum);
            let inputs: Vec<Vec<u8>> = (0..8).map(|peer| input(peer * 2, &descriptor)).collect();
            let size = dtype.size_bytes();
            for at in 0..3 {
                let column: Vec<f64> = inputs
                    .iter()
                    .filter_map(|input| float(dtype, &input[at * size..(at + 1) * size]))
                    .collect();
                assert!(column.iter().all(|value| value.fract() == 0.0 && value.abs() <= 16.0));
            }
        }
    }
}
