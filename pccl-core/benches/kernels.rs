//! How fast the kernels are beside plain loops of the same traffic: `cargo bench -p pccl-core --bench kernels`.
//!
//! GB/s of payload (one operand), medians; "hot" is one span of 64 KiB over and over, "cold" 256 MiB span by span.
//! A name as an argument (`-- f32`) keeps the rows of that type alone.

use std::hint::black_box;
use std::time::Instant;

use pccl_core::kernel::{finish_average, reduce_into, reduce_pair};
use pccl_core::types::{DType, ReduceOp};

const SPAN_BYTES: usize = 64 << 10;
const COLD_BYTES: usize = 256 << 20;
const HOT_ROUNDS: usize = 256;
const SAMPLES: usize = 5;

/// Three spans of one length each: result, operand, operand.
struct Spans {
    out: Vec<u8>,
    a: Vec<u8>,
    b: Vec<u8>,
}

fn main() {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let mut spans = Spans { out: vec![1; COLD_BYTES], a: vec![1; COLD_BYTES], b: vec![1; COLD_BYTES] };
    println!(
        "| what | hot GB/s | cold GB/s | of the plain loop's, hot | cold |\n| --- | --- | --- | --- | --- |"
    );
    let plain = plain_loops(&mut spans);
    let crc = measure(&mut spans, |_, a, _| {
        black_box(crc32fast::hash(a));
    });
    row("CRC-32 (crc32fast)", crc, plain.read);
    for dtype in DType::ALL {
        if only.as_ref().is_none_or(|only| *only == dtype.to_string()) {
            of_dtype(dtype, &mut spans, &plain);
        }
    }
}

type Speed = [f64; 2];

/// Loops that do next to nothing with the same loads and stores.
struct Plain {
    read: Speed,
    into: Speed,
    pair: Speed,
    in_place: Speed,
}

fn plain_loops(spans: &mut Spans) -> Plain {
    let copy = measure(spans, |out, a, _| out.copy_from_slice(a));
    row("copy", copy, copy);
    let read = measure(spans, |_, a, _| {
        black_box(wide(a).iter().fold([0; 4], xor));
    });
    row("read", read, read);
    let into = measure(spans, |out, a, _| {
        for (out, a) in wide_mut(out).iter_mut().zip(wide(a)) {
            *out = xor(*out, a);
        }
    });
    row("plain `acc ^= a`", into, into);
    let pair = measure(spans, |out, a, b| {
        for (out, (a, b)) in wide_mut(out).iter_mut().zip(wide(a).iter().zip(wide(b))) {
            *out = xor(*a, b);
        }
    });
    row("plain `out = a ^ b`", pair, pair);
    let in_place = measure(spans, |out, _, _| {
        for out in wide_mut(out) {
            *out = xor(*out, &[5; 4]);
        }
    });
    row("plain `acc ^= 5`", in_place, in_place);
    Plain { read, into, pair, in_place }
}

type Wide = [u64; 4];

fn xor(a: Wide, b: &Wide) -> Wide {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// Large vectors begin where words may.
fn wide(bytes: &[u8]) -> &[Wide] {
    bytemuck::cast_slice(bytes)
}

fn wide_mut(bytes: &mut [u8]) -> &mut [Wide] {
    bytemuck::cast_slice_mut(bytes)
}

fn of_dtype(dtype: DType, spans: &mut Spans, plain: &Plain) {
    for span in [&mut spans.out, &mut spans.a, &mut spans.b] {
        fill(dtype, span);
    }
    for op in [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min] {
        let speed = measure(spans, |out, a, _| reduce_into(op, dtype, out, a));
        row(&format!("{dtype} {op}, `reduce_into`"), speed, plain.into);
    }
    let speed = measure(spans, |out, a, b| reduce_pair(ReduceOp::Sum, dtype, out, a, b));
    row(&format!("{dtype} sum, `reduce_pair`"), speed, plain.pair);
    fill(dtype, &mut spans.out);
    let speed = measure(spans, |out, _, _| finish_average(dtype, out, 3));
    row(&format!("{dtype}, `finish_average`"), speed, plain.in_place);
}

/// Numbers from 1 up to 2 for floats, any for integers: nothing subnormal.
fn fill(dtype: DType, bytes: &mut [u8]) {
    let (one, mantissa): (u64, u64) = match dtype {
        DType::F16 => (0x3c00, 0x3ff),
        DType::BF16 => (0x3f80, 0x7f),
        DType::F32 => (0x3f80_0000, 0x7f_ffff),
        DType::F64 => (0x3ff0 << 48, (1 << 52) - 1),
        _ => (0, u64::MAX),
    };
    let mut state = 1u64;
    for cell in bytes.chunks_exact_mut(dtype.size_bytes()) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = one | (state >> 8 & mantissa);
        cell.copy_from_slice(&bits.to_le_bytes()[..cell.len()]);
    }
}

/// GB/s hot and cold.
fn measure(spans: &mut Spans, mut kernel: impl FnMut(&mut [u8], &[u8], &[u8])) -> Speed {
    let Spans { out, a, b } = spans;
    let hot = median(HOT_ROUNDS * SPAN_BYTES, || {
        for _ in 0..HOT_ROUNDS {
            let out = black_box(&mut out[..SPAN_BYTES]);
            kernel(out, black_box(&a[..SPAN_BYTES]), black_box(&b[..SPAN_BYTES]));
        }
    });
    let cold = median(COLD_BYTES, || {
        let operands = a.chunks(SPAN_BYTES).zip(b.chunks(SPAN_BYTES));
        for (out, (a, b)) in out.chunks_mut(SPAN_BYTES).zip(operands) {
            kernel(black_box(out), black_box(a), black_box(b));
        }
    });
    [hot, cold]
}

fn median(bytes: usize, mut run: impl FnMut()) -> f64 {
    run();
    let mut speeds = [0.0; SAMPLES];
    for speed in &mut speeds {
        let start = Instant::now();
        run();
        *speed = bytes as f64 / 1e9 / start.elapsed().as_secs_f64();
    }
    speeds.sort_by(f64::total_cmp);
    speeds[SAMPLES / 2]
}

fn row(what: &str, speed: Speed, plain: Speed) {
    let [hot, cold] = speed;
    println!("| {what} | {hot:.1} | {cold:.1} | {:.2} | {:.2} |", hot / plain[0], cold / plain[1]);
}
