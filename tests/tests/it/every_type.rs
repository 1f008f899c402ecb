//! Every type and every operation over real sockets, in place and not: the same bits at every peer, and for
//! what is exact the bits they must be.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use pccl_core::api::{Communicator, DType, OpDescriptor, Quantization, ReduceInfo, ReduceOp, Tag};
use pccl_core::kernel;
use pccl_core::kernel::quant::Codec;
use pccl_core::mem::Buffers;

use crate::harness::{connect, master, wait_for_world};

const PEERS: usize = 3;
/// Fewer elements than peers, a few, and more than one piece of every type.
const COUNTS: [usize; 3] = [2, 1001, 300_000];

/// Bytes that are valid numbers of every type, NaN and infinity among them.
fn input(peer: usize, bytes: usize) -> Vec<u8> {
    let mut state = peer as u64 + 1;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn reduce(peer: &Communicator, descriptor: OpDescriptor, input: &[u8], in_place: bool) -> Vec<u8> {
    reduce_and_tell(peer, descriptor, input, in_place).0
}

fn reduce_and_tell(
    peer: &Communicator,
    descriptor: OpDescriptor,
    input: &[u8],
    in_place: bool,
) -> (Vec<u8>, ReduceInfo) {
    let mut send = input.to_vec();
    let mut recv = vec![0; if in_place { 0 } else { input.len() }];
    let target = if in_place { send.as_mut_ptr() } else { recv.as_mut_ptr() };
    let source = if in_place { target.cast_const() } else { send.as_ptr() };
    // SAFETY: both vectors outlive the wait and are not touched before it returns.
    let buffers = unsafe { Buffers::new(source, target, input.len()) }.unwrap();
    let info = peer.all_reduce_buffers(buffers, descriptor, Tag(1)).unwrap().wait().unwrap();
    if in_place {
        (send, info)
    } else {
        assert!(send == input, "an out-of-place operation has changed its input");
        (recv, info)
    }
}

/// Where order does not matter: integers, and the greatest and least of floats.
fn exact(descriptor: &OpDescriptor, bytes: usize) -> Option<Vec<u8>> {
    let float = matches!(descriptor.dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64);
    let selects = matches!(descriptor.op, ReduceOp::Min | ReduceOp::Max);
    if float && !selects {
        return None;
    }
    let mut result = input(0, bytes);
    for peer in 1..PEERS {
        kernel::reduce_into(descriptor.op, descriptor.dtype, &mut result, &input(peer, bytes));
    }
    if descriptor.op == ReduceOp::Avg {
        kernel::finish_average(descriptor.dtype, &mut result, PEERS as u64);
    }
    Some(result)
}

#[test]
fn every_type_and_operation_gives_the_same_bits_at_every_peer() {
    let (_master, address) = master();
    let results: Mutex<Vec<Vec<Vec<u8>>>> = Mutex::default();
    let cases = || {
        let ops = DType::ALL.into_iter().flat_map(|dtype| ReduceOp::ALL.map(|op| (dtype, op)));
        ops.enumerate().map(|(i, (dtype, op))| {
            let count = COUNTS[i % COUNTS.len()];
            (OpDescriptor::plain(count as u64, dtype, op), count * dtype.size_bytes())
        })
    };
    std::thread::scope(|threads| {
        for _ in 0..PEERS {
            threads.spawn(|| {
                let peer = connect(&address, 2);
                wait_for_world(&peer, PEERS as u32);
                let rank = usize::from(peer.rank());
                let mut mine = Vec::new();
                for (descriptor, bytes) in cases() {
                    let input = input(rank, bytes);
                    let result = reduce(&peer, descriptor, &input, false);
                    assert!(
                        result == reduce(&peer, descriptor, &input, true),
                        "{descriptor}: in place differs"
                    );
                    mine.push(result);
                }
                results.lock().unwrap().push(mine);
            });
        }
    });
    let results = results.into_inner().unwrap();
    for (i, (descriptor, bytes)) in cases().enumerate() {
        assert!(
            results.iter().all(|peer| peer[i] == results[0][i]),
            "{descriptor}: peers hold different bits"
        );
        if let Some(expected) = exact(&descriptor, bytes) {
            assert!(results[0][i] == expected, "{descriptor}: a wrong result");
        }
    }
}

const QUANTIZED: [Quantization; 5] = [
    Quantization::MinMax(DType::U8),
    Quantization::ZeroPointScale(DType::I16),
    Quantization::Bits4,
    Quantization::Float8E4M3,
    Quantization::BFloat16,
];

/// Over real sockets: the same bits everywhere, in place and not, fewer bytes, and sums near the exact ones.
#[test]
fn quantized_sums_are_the_same_bits_at_every_peer_and_near_the_exact_ones() {
    let (_master, address) = master();
    let results: Mutex<Vec<Vec<Vec<u8>>>> = Mutex::default();
    let number = |peer: usize, i: usize| (i * 7919 % 1000) as f32 / 1000.0 * (peer + 1) as f32;
    let sent_in_all: Vec<AtomicU64> =
        (0..QUANTIZED.len() * COUNTS.len()).map(|_| AtomicU64::default()).collect();
    let received_in_all = AtomicU64::default();
    let cases = || QUANTIZED.into_iter().flat_map(|quantization| COUNTS.map(|count| (quantization, count)));
    std::thread::scope(|threads| {
        for _ in 0..PEERS {
            threads.spawn(|| {
                let peer = connect(&address, 2);
                wait_for_world(&peer, PEERS as u32);
                let rank = usize::from(peer.rank());
                let reduced = cases().map(|(quantization, count)| {
                    let plain = OpDescriptor::plain(count as u64, DType::F32, ReduceOp::Sum);
                    let descriptor = OpDescriptor { quantization, ..plain };
                    let input: Vec<u8> = (0..count).flat_map(|i| number(rank, i).to_le_bytes()).collect();
                    let (result, info) = reduce_and_tell(&peer, descriptor, &input, false);
                    assert!(
                        result == reduce(&peer, descriptor, &input, true),
                        "{descriptor}: in place differs"
                    );
                    assert_eq!(info.group_world_size, PEERS as u32);
                    sent_in_all[cases().position(|case| case == (quantization, count)).unwrap()]
                        .fetch_add(info.tx_bytes, Ordering::Relaxed);
                    received_in_all.fetch_add(info.rx_bytes, Ordering::Relaxed);
                    result
                });
                let mine = reduced.collect();
                results.lock().unwrap().push(mine);
            });
        }
    });
    let sent: Vec<u64> = sent_in_all.iter().map(|sent| sent.load(Ordering::Relaxed)).collect();
    assert_eq!(sent.iter().sum::<u64>(), received_in_all.load(Ordering::Relaxed));
    for ((quantization, count), sent) in cases().zip(sent) {
        // Every element goes up to its owner and down again over N - 1 pairs; of a small operation N times N - 1. Spans
        // are cut into chunks and pieces, each of which has a short block at its end, and so a header more.
        let codec = Codec::of(DType::F32, quantization).unwrap();
        let times = (PEERS * (PEERS - 1)) as u64;
        let whole = codec.wire_bytes(count as u64);
        let of_trees = 2 * (PEERS - 1) as u64 * whole;
        let headers = 64 * times;
        let expected = sent == times * whole || (of_trees..=of_trees + headers).contains(&sent);
        assert!(expected, "{quantization}, {count} elements: {sent} bytes, {whole} once");
    }
    let results = results.into_inner().unwrap();
    for (case, (quantization, count)) in cases().enumerate() {
        assert!(results.iter().all(|peer| peer[case] == results[0][case]), "{quantization}: different bits");
        // Sums of up to 6 whose parts are encoded up to three times.
        let most = match quantization {
            Quantization::ZeroPointScale(_) => 0.001,
            Quantization::Bits4 => 1.0,
            Quantization::Float8E4M3 => 1.2,
            _ => 0.08,
        };
        let (cells, _) = results[0][case].as_chunks::<4>();
        assert_eq!(cells.len(), count);
        for (i, cell) in cells.iter().enumerate() {
            let exact: f32 = (0..PEERS).map(|peer| number(peer, i)).sum();
            let error = (f32::from_le_bytes(*cell) - exact).abs();
            assert!(error <= most, "{quantization}: element {i} of {count} is {error} off");
        }
    }
}
