//! One number for "the same operation in the same way".

use super::Schedule;
use crate::types::{DType, GroupInfo, OpDescriptor, Quantization};

/// CRC-32 of a canonical form of everything a plan follows from. Travels with grants and frames.
pub fn digest(group: &GroupInfo, schedule: Schedule, piece_elements: u64, descriptor: &OpDescriptor) -> u32 {
    let (quantization, quantized) = match descriptor.quantization {
        Quantization::None => (0, DType::U8),
        Quantization::MinMax(dtype) => (1, dtype),
        Quantization::ZeroPointScale(dtype) => (2, dtype),
        Quantization::Bits4 => (3, DType::U8),
        Quantization::Float8E4M3 => (4, DType::U8),
        Quantization::Float8E5M2 => (5, DType::U8),
        Quantization::Float16 => (6, DType::U8),
        Quantization::BFloat16 => (7, DType::U8),
    };
    let code = match schedule {
        Schedule::Ring => 0,
        Schedule::Mesh => 1,
        Schedule::Trees => 2,
        Schedule::Small => 3,
        Schedule::Packed => 4,
    };
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[descriptor.dtype as u8, descriptor.op as u8, quantization, quantized as u8, code]);
    for number in [descriptor.count, piece_elements, u64::from(group.group.0), group.order.len() as u64] {
        crc.update(&number.to_le_bytes());
    }
    for peer in &group.order {
        crc.update(&peer.0);
    }
    for &(a, b) in &group.unlinked {
        crc.update(&a.to_le_bytes());
        crc.update(&b.to_le_bytes());
    }
    let planned = group.planned.as_ref().filter(|_| schedule == Schedule::Packed);
    for tree in planned.and_then(|planned| planned.forest.as_ref()).iter().flat_map(|forest| &forest.trees) {
        crc.update(&tree.owner.to_le_bytes());
        crc.update(&tree.share.to_le_bytes());
        for parent in tree.reduce_parents.iter().chain(&tree.broadcast_parents) {
            crc.update(&parent.to_le_bytes());
        }
    }
    crc.finalize()
}
