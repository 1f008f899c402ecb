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
                Some("integers are reduced without error, which quantization would spoil; use none")
            }
            Quantization::MinMax(code) | Quantization::ZeroPointScale(code)
                if !matches!(code, DType::U8 | DType::I8 | DType::U16 | DType::I16) =>
            {
                Some("the quantized type is one of u8, i8, u16 and i16")
            }
            _ if halves && dtype != DType::F32 => Some("f16 and bf16 stand for f32 only"),
            _ if op == ReduceOp::Prod && !halves => Some(
                "a product multiplies each element's error by all other factors, so the error must be relative to \
                     the element, down to the least; that of f16 and bf16 is",
            ),
            _ => None,
        }
    }
}

/// Elements of a block, but for the last one of a span. With 4 bits a header weighs more, and so does an outlier.
pub const MAX_BLOCK_ELEMENTS: usize = 2048;
const BLOCK_ELEMENTS_OF_4_BITS: usize = 1024;

/// Lengths on the wire, of what `refusal` has nothing against.
impl Quantization {
    /// Of a full block.
    pub const fn block_elements(self) -> usize {
        if matches!(self, Quantization::Bits4) { BLOCK_ELEMENTS_OF_4_BITS } else { MAX_BLOCK_ELEMENTS }
    }

    /// What a block begins with.
    pub fn header_bytes(self, dtype: DType) -> usize {
        let number = if dtype == DType::F64 { 8 } else { 4 };
        match self {
            Quantization::None | Quantization::Float16 | Quantization::BFloat16 => 0,
            Quantization::Float8E4M3 | Quantization::Float8E5M2 => number,
            Quantization::MinMax(_) | Quantization::ZeroPointScale(_) | Quantization::Bits4 => 2 * number,
        }
    }

    /// What so many elements of one block travel as. Never more than their own bytes.
    pub fn block_wire_bytes(self, dtype: DType, elements: usize) -> usize {
        let plain = elements * dtype.size_bytes();
        let codes = match self {
            Quantization::None => return plain,
            Quantization::MinMax(code) | Quantization::ZeroPointScale(code) => elements * code.size_bytes(),
            Quantization::Bits4 => elements.div_ceil(2),
            Quantization::Float8E4M3 | Quantization::Float8E5M2 => elements,
            Quantization::Float16 | Quantization::BFloat16 => 2 * elements,
        };
        (self.header_bytes(dtype) + codes).min(plain)
    }

    /// What so many elements travel as, the first of them being the first of a block.
    pub fn wire_bytes(self, dtype: DType, count: u64) -> u64 {
        let of_block = self.block_elements() as u64;
        let whole = self.block_wire_bytes(dtype, self.block_elements()) as u64;
        let rest = self.block_wire_bytes(dtype, (count % of_block) as usize) as u64;
        (count / of_block).saturating_mul(whole).saturating_add(rest)
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

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: [DType; 4] = [DType::U8, DType::I8, DType::U16, DType::I16];

    fn all() -> Vec<Quantization> {
        let grids =
            DType::ALL.into_iter().flat_map(|d| [Quantization::MinMax(d), Quantization::ZeroPointScale(d)]);
        let others = [
            Quantization::None,
            Quantization::Bits4,
            Quantization::Float8E4M3,
            Quantization::Float8E5M2,
            Quantization::Float16,
            Quantization::BFloat16,
        ];
        grids.chain(others).collect()
    }

    /// Written down a second time, as a table: a word of the reason, or none.
    fn expected(quantization: Quantization, dtype: DType, op: ReduceOp) -> Option<&'static str> {
        let floats = [DType::F16, DType::BF16, DType::F32, DType::F64].contains(&dtype);
        let is_product = op == ReduceOp::Prod;
        match quantization {
            Quantization::None => None,
            _ if !floats => Some("integers"),
            Quantization::Float16 | Quantization::BFloat16 => {
                (dtype != DType::F32).then_some("stand for f32")
            }
            Quantization::MinMax(code) | Quantization::ZeroPointScale(code) if !CODES.contains(&code) => {
                Some("u8, i8, u16 and i16")
            }
            _ => is_product.then_some("product"),
        }
    }

    #[test]
    fn what_cannot_be_quantized_is_refused_with_its_reason() {
        for quantization in all() {
            for (dtype, op) in DType::ALL.into_iter().flat_map(|d| ReduceOp::ALL.map(|op| (d, op))) {
                let reason = quantization.refusal(dtype, op);
                match expected(quantization, dtype, op) {
                    None => assert_eq!(reason, None, "{quantization}, {op} of {dtype}"),
                    Some(word) => {
                        assert!(
                            reason.is_some_and(|reason| reason.contains(word)),
                            "{quantization}, {op} of {dtype}: {reason:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn feedback_is_for_sums_of_what_loses_something() {
        for quantization in all() {
            for op in ReduceOp::ALL {
                let is_sum = matches!(op, ReduceOp::Sum | ReduceOp::Avg);
                let may = is_sum && quantization != Quantization::None;
                assert_eq!(quantization.feedback_refusal(op).is_none(), may, "{quantization}, {op}");
            }
        }
    }
}
