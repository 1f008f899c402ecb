//! How fast the kernels are beside plain loops of the same traffic: `cargo bench -p pccl-core --bench kernels`.
//!
//! GB/s of payload (one operand), medians; "hot" is one span of 64 KiB over and over, "cold" 128 MiB span by span. Each
//! sample is taken in turns with one of the plain loop, and the ratio is the median of theirs. A name as an argument
//! (`-- f32`) keeps the rows of that type alone.

use std::hint::black_box;
use std::time::Instant;

use pccl_core::kernel::{finish_average, reduce_into, reduce_pair};
use pccl_core::types::{DType, ReduceOp};

const SPAN_BYTES: usize = 64 << 10;
const COLD_BYTES: usize = 128 << 20;
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
    println!("| what | hot GB/s | cold GB/s | × plain, hot | × plain, cold |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let copy = |out: &mut [u8], a: &[u8], _: &[u8]| out.copy_from_slice(a);
    for (name, plain) in PLAIN {
        row(name, measure(&mut spans, plain, copy));
    }
    let crc = |_: &mut [u8], a: &[u8], _: &[u8]| {
        black_box(crc32fast::hash(a));
    };
    row("CRC-32 (crc32fast)", measure(&mut spans, crc, read));
    for dtype in DType::ALL {
        if only.as_ref().is_none_or(|only| *only == dtype.to_string()) {
            of_dtype(dtype, &mut spans);
        }
    }
}

/// Loops that do next to nothing with the loads and stores of a kernel. These rows stand beside a plain copy.
const PLAIN: [(&str, Loop); 4] = [
    ("read", read),
    ("`acc ^= a`", plain_into),
    ("`out = a ^ b`", plain_pair),
    ("`acc ^= 5`", plain_in_place),
];

type Loop = fn(&mut [u8], &[u8], &[u8]);

fn read(_: &mut [u8], a: &[u8], _: &[u8]) {
    black_box(wide(a).iter().fold([0; 4], xor));
}

fn plain_into(out: &mut [u8], a: &[u8], _: &[u8]) {
    for (out, a) in wide_mut(out).iter_mut().zip(wide(a)) {
        *out = xor(*out, a);
    }
}

fn plain_pair(out: &mut [u8], a: &[u8], b: &[u8]) {
    for (out, (a, b)) in wide_mut(out).iter_mut().zip(wide(a).iter().zip(wide(b))) {
        *out = xor(*a, b);
    }
}

fn plain_in_place(out: &mut [u8], _: &[u8], _: &[u8]) {
    for out in wide_mut(out) {
        *out = xor(*out, &[5; 4]);
    }
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

fn of_dtype(dtype: DType, spans: &mut Spans) {
    for span in [&mut spans.out, &mut spans.a, &mut spans.b] {
        fill(dtype, span);
    }
    for op in [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min] {
        let kernel = |out: &mut [u8], a: &[u8], _: &[u8]| reduce_into(op, dtype, out, a);
        row(&format!("{dtype} {op}, `reduce_into`"), measure(spans, kernel, plain_into));
    }
    let kernel = |out: &mut [u8], a: &[u8], b: &[u8]| reduce_pair(ReduceOp::Sum, dtype, out, a, b);
    row(&format!("{dtype} sum, `reduce_pair`"), measure(spans, kernel, plain_pair));
    fill(dtype, &mut spans.out);
    let kernel = |out: &mut [u8], _: &[u8], _: &[u8]| finish_average(dtype, out, 3);
    row(&format!("{dtype}, `finish_average`"), measure(spans, kernel, plain_in_place));
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

trait Kernel: FnMut(&mut [u8], &[u8], &[u8]) {}
impl<F: FnMut(&mut [u8], &[u8], &[u8])> Kernel for F {}

/// One kernel beside its plain loop.
struct Beside {
    gb_per_s: f64,
    ratio: f64,
}

/// Hot, then cold.
fn measure(spans: &mut Spans, mut kernel: impl Kernel, mut plain: impl Kernel) -> [Beside; 2] {
    let hot = in_turns(|plainly| match plainly {
        false => run_hot(spans, &mut kernel),
        true => run_hot(spans, &mut plain),
    });
    let cold = in_turns(|plainly| match plainly {
        false => run_cold(spans, &mut kernel),
        true => run_cold(spans, &mut plain),
    });
    [hot, cold]
}

fn run_hot(spans: &mut Spans, kernel: &mut impl Kernel) -> f64 {
    let start = Instant::now();
    for _ in 0..HOT_ROUNDS {
        let out = black_box(&mut spans.out[..SPAN_BYTES]);
        kernel(out, black_box(&spans.a[..SPAN_BYTES]), black_box(&spans.b[..SPAN_BYTES]));
    }
    (HOT_ROUNDS * SPAN_BYTES) as f64 / 1e9 / start.elapsed().as_secs_f64()
}

fn run_cold(spans: &mut Spans, kernel: &mut impl Kernel) -> f64 {
    let start = Instant::now();
    let operands = spans.a.chunks(SPAN_BYTES).zip(spans.b.chunks(SPAN_BYTES));
    for (out, (a, b)) in spans.out.chunks_mut(SPAN_BYTES).zip(operands) {
        kernel(black_box(out), black_box(a), black_box(b));
    }
    COLD_BYTES as f64 / 1e9 / start.elapsed().as_secs_f64()
}

/// `run` says its GB/s: of the kernel, or of the plain loop.
fn in_turns(mut run: impl FnMut(bool) -> f64) -> Beside {
    run(true);
    let (mut speeds, mut ratios) = ([0.0; SAMPLES], [0.0; SAMPLES]);
    for (speed, ratio) in speeds.iter_mut().zip(&mut ratios) {
        *speed = run(false);
        *ratio = *speed / run(true);
    }
    Beside { gb_per_s: median(speeds), ratio: median(ratios) }
}

fn median(mut samples: [f64; SAMPLES]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[SAMPLES / 2]
}

fn row(what: &str, [hot, cold]: [Beside; 2]) {
    let (speeds, ratios) = ([hot.gb_per_s, cold.gb_per_s], [hot.ratio, cold.ratio]);
    println!("| {what} | {:.1} | {:.1} | {:.2} | {:.2} |", speeds[0], speeds[1], ratios[0], ratios[1]);
}
