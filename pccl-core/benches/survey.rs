//! How fast a shared state is hashed beside reading it: `cargo bench -p pccl-core --bench survey`.
//!
//! GB/s, medians of samples taken in turns; the ratio is the median of theirs. 2 × reading is what the goal is
//! measured by: a ratio over 0.5 is faster than reading everything twice.

use std::hint::black_box;
use std::time::Instant;

use pccl_core::limits::STATE_BLOCK_BYTES;
use pccl_core::mem::{self, Memory};
use pccl_core::state::Tensors;
use pccl_core::types::{DType, TensorKey};

const SAMPLES: usize = 7;

fn main() {
    println!("| tensors | threads | survey GB/s | reading GB/s | ratio |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (what, count, size) in [("one of 1 GiB", 1, 1 << 30), ("10,000 of 64 KiB", 10_000, 64 << 10)] {
        for threads in [1, cores] {
            row(what, count, size, threads);
        }
    }
}

fn row(what: &str, count: usize, size: usize, threads: usize) {
    // Not zeros: pages nobody has written are all the same one.
    let mut data: Vec<Vec<u8>> = (0..count).map(|n| vec![n as u8 | 1; size]).collect();
    let bytes = (count * size) as f64;
    let mut samples: Vec<(f64, f64)> = Vec::new();
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        read(&data, threads);
        let reading = begun.elapsed().as_secs_f64();
        let memory: Vec<Memory<'_>> = data.iter_mut().map(|d| Memory::in_place(d.as_mut_slice())).collect();
        let survey = mem::lend(|lending| {
            let key = |n: usize| TensorKey {
                name: format!("t{n}"),
                dtype: DType::U8,
                count: size as u64,
                may_differ: false,
            };
            let given = memory.iter().enumerate();
            // Each is lent once, and the names differ.
            let given = given.map(|(n, m)| (key(n), lending.memory(m).expect("nobody has it"))).collect();
            let tensors = Tensors::new(given).expect("names differ");
            let begun = Instant::now();
            black_box(tensors.survey(STATE_BLOCK_BYTES, threads));
            begun.elapsed().as_secs_f64()
        });
        samples.push((bytes / survey / 1e9, bytes / reading / 1e9));
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let survey = median(samples.iter().map(|(survey, _)| *survey).collect());
    let reading = median(samples.iter().map(|(_, reading)| *reading).collect());
    let ratio = median(samples.iter().map(|(survey, reading)| survey / reading).collect());
    println!("| {what} | {threads} | {survey:.1} | {reading:.1} | {ratio:.2} |");
}

/// Every byte once, by as many threads.
fn read(data: &[Vec<u8>], threads: usize) {
    let pieces: Vec<&[u8]> = data.iter().flat_map(|d| d.chunks(4 << 20)).collect();
    std::thread::scope(|scope| {
        for part in pieces.chunks(pieces.len().div_ceil(threads)) {
            scope.spawn(move || {
                part.iter().for_each(|bytes| {
                    let (words, _) = bytes.as_chunks::<32>();
                    let sum = words.iter().fold([0u64; 4], |mut sum, word| {
                        let (lanes, _) = word.as_chunks::<8>();
                        sum.iter_mut().zip(lanes).for_each(|(sum, lane)| *sum ^= u64::from_le_bytes(*lane));
                        sum
                    });
                    black_box(sum);
                });
            });
        }
    });
}
