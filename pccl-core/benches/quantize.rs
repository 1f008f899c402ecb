//! How fast elements are quantized, beside reading and copying them: `cargo bench -p pccl-core --bench quantize`, and
//! `-- "f32, 4 bits"` for the lines that contain this.
//!
//! GB/s of elements, medians; "hot" is one span of 256 KiB over and over, "cold" 64 MiB span by span, as the engine does it:
//! codes are made of cold elements and written hot, and hot codes are added to cold elements. "× memory" is beside a plain loop
//! that moves the same elements and does nothing with them: reads them for `encode`, `encode_sum` (a contribution is added to
//! them and the sum encoded) and where errors are kept (of a copy, in a residual that is hot), writes them for `decode`, does
//! both for `reduce_into`, and both twice for `in place`.

use std::hint::black_box;
use std::time::Instant;

use pccl_core::kernel::quant::{Codec, Errors, Unfinished};
use pccl_core::types::{DType, Quantization, ReduceOp};

const SPAN_BYTES: usize = 256 << 10;
const COLD_BYTES: usize = 64 << 20;
const HOT_ROUNDS: usize = 200;
const SAMPLES: usize = 5;

const WAYS: [Quantization; 8] = [
    Quantization::MinMax(DType::U8),
    Quantization::ZeroPointScale(DType::U8),
    Quantization::MinMax(DType::U16),
    Quantization::Bits4,
    Quantization::Float8E4M3,
    Quantization::Float8E5M2,
    Quantization::Float16,
    Quantization::BFloat16,
];

fn main() {
    println!("| what | hot GB/s | cold GB/s | × memory, cold |");
    println!("| --- | ---: | ---: | ---: |");
    let mut elements = vec![0; COLD_BYTES];
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        for quantization in WAYS {
            if quantization.refusal(dtype, ReduceOp::Sum).is_some() {
                continue;
            }
            let Some(codec) = Codec::of(dtype, quantization) else { continue };
            let name = format!("{dtype}, {quantization}");
            let rows = [
                "encode",
                "decode",
                "reduce_into",
                "encode_sum",
                "in place, there and back",
                "encode, keeping errors",
            ]
            .map(|kernel| format!("{name}: {kernel}"));
            if !rows.iter().any(|row| is_wanted(row)) {
                continue;
            }
            let count = (SPAN_BYTES / dtype.size_bytes()) as u64;
            let mut wire = vec![0; codec.wire_bytes(count) as usize];
            fill(dtype, &mut elements);
            row(&rows[0], &mut elements, read, |span| {
                codec.encode(span, &mut wire);
            });
            row(&rows[1], &mut elements, write, |span| {
                codec.decode(&wire, span);
            });
            fill(dtype, &mut elements);
            let twice = |span: &mut [u8]| (0..2).for_each(|_| change(span));
            row(&rows[4], &mut elements, twice, |span| {
                let len = codec.encode_in_place(span);
                black_box(&span[..len]);
                codec.decode_in_place(span);
            });
            fill(dtype, &mut elements);
            row(&rows[2], &mut elements, change, |span| {
                codec.reduce_into(ReduceOp::Sum, span, &wire);
            });
            // Or zeros would have become subnormal numbers, which are slow.
            fill(dtype, &mut elements);
            let mut travels = vec![0; SPAN_BYTES];
            row(&rows[3], &mut elements, read, |span| {
                let sum = Unfinished { piece: &mut travels, before: Some(span), divide_by: None };
                codec.encode_sum(ReduceOp::Sum, sum, 0..SPAN_BYTES, &wire);
            });
            let mut kept = vec![0; SPAN_BYTES];
            row(&rows[5], &mut elements, read, |span| {
                travels.copy_from_slice(span);
                kept.fill(0);
                let errors = Errors { kept: &mut kept, times: 1 };
                black_box(codec.encode_in_place_with_errors(&mut travels, errors));
            });
        }
    }
}

fn is_wanted(what: &str) -> bool {
    // cargo adds an option of its own.
    std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).all(|part| what.contains(&part))
}

fn read(span: &mut [u8]) {
    let words: &[[u64; 4]] = bytemuck::cast_slice(span);
    black_box(words.iter().fold([0; 4], |a, b| std::array::from_fn(|i| a[i] ^ b[i])));
}

/// With ordinary stores, as the kernels have them: memory that is filled with one byte is written without being fetched first.
fn write(span: &mut [u8]) {
    let words: &mut [[u64; 4]] = bytemuck::cast_slice_mut(span);
    for (i, word) in words.iter_mut().enumerate() {
        *word = [i as u64; 4];
    }
}

fn change(span: &mut [u8]) {
    let words: &mut [[u64; 4]] = bytemuck::cast_slice_mut(span);
    for word in words {
        *word = std::array::from_fn(|i| word[i] ^ 5);
    }
}

fn row(what: &str, elements: &mut [u8], mut plain: impl FnMut(&mut [u8]), mut kernel: impl FnMut(&mut [u8])) {
    if !is_wanted(what) {
        return;
    }
    kernel(&mut elements[..SPAN_BYTES]);
    let hot = median(|| {
        let start = Instant::now();
        for _ in 0..HOT_ROUNDS {
            kernel(black_box(&mut elements[..SPAN_BYTES]));
        }
        (HOT_ROUNDS * SPAN_BYTES) as f64 / 1e9 / start.elapsed().as_secs_f64()
    });
    let mut cold = |act: &mut dyn FnMut(&mut [u8])| {
        let start = Instant::now();
        elements.chunks_mut(SPAN_BYTES).for_each(|span| act(black_box(span)));
        COLD_BYTES as f64 / 1e9 / start.elapsed().as_secs_f64()
    };
    let (mut speeds, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        let of_kernel = cold(&mut kernel);
        speeds.push(of_kernel);
        ratios.push(of_kernel / cold(&mut plain));
    }
    let middle = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[SAMPLES / 2]
    };
    println!("| {what} | {hot:.1} | {:.1} | {:.2} |", middle(speeds), middle(ratios));
}

fn median(mut sample: impl FnMut() -> f64) -> f64 {
    let mut all: Vec<f64> = (0..SAMPLES).map(|_| sample()).collect();
    all.sort_by(f64::total_cmp);
    all[SAMPLES / 2]
}

/// Numbers from −1 to 1.
fn fill(dtype: DType, bytes: &mut [u8]) {
    let mut state = 1u64;
    for cell in bytes.chunks_exact_mut(dtype.size_bytes()) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        match dtype {
            DType::F16 => cell.copy_from_slice(&half::f16::from_f64(number).to_le_bytes()),
            DType::BF16 => cell.copy_from_slice(&half::bf16::from_f64(number).to_le_bytes()),
            DType::F32 => cell.copy_from_slice(&(number as f32).to_le_bytes()),
            _ => cell.copy_from_slice(&number.to_le_bytes()),
        }
    }
}
