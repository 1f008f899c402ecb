//! What travels instead of the elements, and of what.

use std::fmt;

use super::{DType, ReduceOp};

/// What is sent instead of the elements. The numbers behind the first three are those of the C API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantization {
    None,
    /// Integers of this type, spread evenly from the least to the greatest element of each block.
    MinMax(DType),
    /// The same, with a code that stands for 0 exactly.
    ZeroPointScale(DType),
    /// As `ZeroPointScale`, with 4 bits an element.
    Bits4,
    /// 8-bit floats with 3 bits of mantissa, and a power of two for each block.
    Float8E4M3,
    /// 8-bit floats with 2 bits of mantissa, and a power of two for each block.
    Float8E5M2,
    /// f32 as f16.
    Float16,
    /// f32 as bf16.
    BFloat16,
}

impl Quantization {
    /// As the bindings number them: the algorithm, and the integers it makes, which only the first two have.
    pub fn from_codes(algorithm: u8, integers: Option<DType>) -> Option<Quantization> {
        Some(match (algorithm, integers) {
            (0, _) => Quantization::None,
            (1, Some(integers)) => Quantization::MinMax(integers),
            (2, Some(integers)) => Quantization::ZeroPointScale(integers),
            (3, _) => Quantization::Bits4,
            (4, _) => Quantization::Float8E4M3,
            (5, _) => Quantization::Float8E5M2,
            (6, _) => Quantization::Float16,
            (7, _) => Quantization::BFloat16,
            _ => return None,
        })
    }

    /// Why an operation cannot be quantized so; `None` if it can.
    pub fn refusal(self, dtype: DType, op: ReduceOp) -> Option<&'static str> {
        let is_float = matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
        let halves = matches!(self, Quantization::Float16 | Quantization::BFloat16);
        match self {
            Quantization::None => None,
            _ if !is_float => {
                Some("integers are sums without error, which quantization would spoil; use none")
            }
            Quantization::MinMax(code) | Quantization::ZeroPointScale(code)
                if !matches!(code, DType::U8 | DType::I8 | DType::U16 | DType::I16) =>
            {
                Some("the quantized type is one of u8, i8, u16 and i16")
            }
            _ if halves && dtype != DType::F32 => Some("f16 and bf16 stand for f32 only"),
            _ if op == ReduceOp::Prod && !halves => {
                Some("a product multiplies each element's error by all the other factors: nothing bounds it")
            }
            _ => None,
        }
    }
}

impl Quantization {
    /// Why an operation cannot have error feedback; `None` if it can.
    pub fn feedback_refusal(self, op: ReduceOp) -> Option<&'static str> {
        match (self, op) {
            (Quantization::None, _) => Some("nothing is lost where nothing is quantized"),
            (_, ReduceOp::Sum | ReduceOp::Avg) => None,
            _ => Some(
                "what one sum lost can be added to the next one: of a minimum, maximum or product it cannot",
            ),
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Quantization::None => f.write_str("unquantized"),
            Quantization::MinMax(dtype) => write!(f, "min-max {dtype}"),
            Quantization::ZeroPointScale(dtype) => write!(f, "zero-point-scale {dtype}"),
            Quantization::Bits4 => f.write_str("4 bits"),
            Quantization::Float8E4M3 => f.write_str("fp8 e4m3"),
            Quantization::Float8E5M2 => f.write_str("fp8 e5m2"),
            Quantization::Float16 => f.write_str("f16 on the wire"),
            Quantization::BFloat16 => f.write_str("bf16 on the wire"),
        }
    }
}
