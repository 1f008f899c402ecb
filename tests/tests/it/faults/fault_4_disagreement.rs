//! Peers that disagree on one tag: an error at each, with both descriptions; never a hang, never a wrong sum.

use pccl_core::api::{Communicator, DType, ErrorKind, OpDescriptor, ReduceOp, Tag};
use pccl_core::mem::Buffers;

use crate::harness::{join, master, reduce};

/// Both peers' views of one tag; rank 0's first.
fn pairs() -> Vec<(&'static str, OpDescriptor, OpDescriptor)> {
    let f32s = |count, op| OpDescriptor::plain(count, DType::F32, op);
    vec![
        ("count", f32s(1000, ReduceOp::Sum), f32s(1001, ReduceOp::Sum)),
        ("count, much", f32s(1, ReduceOp::Sum), f32s(5_000_000, ReduceOp::Sum)),
        ("width", f32s(1000, ReduceOp::Sum), OpDescriptor::plain(1000, DType::F64, ReduceOp::Sum)),
        (
            "type of one width",
            f32s(1000, ReduceOp::Sum),
            OpDescriptor::plain(1000, DType::I32, ReduceOp::Sum),
        ),
        ("operation", f32s(1000, ReduceOp::Sum), f32s(1000, ReduceOp::Max)),
    ]
}

fn start(peer: &Communicator, descriptor: OpDescriptor) -> ErrorKind {
    let mut memory = vec![7u8; descriptor.size_bytes() as usize];
    let at = memory.as_mut_ptr();
    // SAFETY: `memory` outlives the wait below and is used by nobody else meanwhile.
    let buffers = unsafe { Buffers::new(at, at, memory.len()) }.unwrap();
    let error = peer.all_reduce_buffers(buffers, descriptor, Tag(1)).unwrap().wait().unwrap_err();
    assert!(memory.iter().all(|byte| *byte == 7), "the input was changed");
    let descriptions = error.reason.matches(" announced ").count();
    assert_eq!(descriptions, 2, "both descriptions belong into the text: {error}");
    error.kind
}

#[test]
fn peers_that_disagree_on_an_operation_get_an_error_with_both_descriptions() {
    let (_master, address) = master();
    std::thread::scope(|threads| {
        for rank in 0..2 {
            let address = &address;
            threads.spawn(move || {
                let peer = join(address, 2);
                for (what, low, high) in pairs() {
                    // Who is first in the order takes the first description.
                    let mine = if peer.rank() == 0 { low } else { high };
                    assert_eq!(start(&peer, mine), ErrorKind::InvalidArgument, "{what} (thread {rank})");
                    let mut data = vec![1.0f32; 100];
                    reduce(&peer, &mut data, 1);
                    assert!(data.iter().all(|sum| *sum == 2.0), "the tag is of no use after a disagreement");
                }
            });
        }
    });
}
