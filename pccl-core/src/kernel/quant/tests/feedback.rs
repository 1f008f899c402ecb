//! Arithmetic that keeps what it loses.

use super::*;
use crate::kernel::quant::feedback;

fn after_owing(dtype: DType, own: &[f64], owed: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut results: Vec<(Vec<u8>, Vec<u8>)> = Cpu::all_here()
        .into_iter()
        .map(|cpu| {
            let (mut sums, mut owed) = (bytes_of(dtype, own), bytes_of(dtype, owed));
            feedback::add_owed_on(cpu, dtype, &mut sums, &mut owed);
            (sums, owed)
        })
        .collect();
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{dtype}");
    let (sums, owed) = results.remove(0);
    (oracle::numbers(dtype, &sums), oracle::numbers(dtype, &owed))
}

#[test]
fn a_sum_that_is_finite_stays_so_and_the_rest_is_still_owed() {
    let (sums, owed) = after_owing(DType::F16, &[64_000.0, -64_000.0, 65_504.0], &[4_000.0, -4_000.0, 1.0]);
    assert_eq!((sums, owed), (vec![65_504.0, -65_504.0, 65_504.0], vec![2_496.0, -2_496.0, 1.0]));
    for dtype in FLOATS {
        let largest = largest_of(dtype);
        let (sums, owed) = after_owing(dtype, &[largest, -largest, largest], &[largest, -largest, -largest]);
        assert_eq!((sums, owed), (vec![largest, -largest, 0.0], vec![largest, -largest, 0.0]), "{dtype}");
    }
}

#[test]
fn what_is_no_number_is_not_owed() {
    for dtype in FLOATS {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let (sums, owed) = after_owing(dtype, &[1.5; 3], &odd);
        assert_eq!((sums, owed), (vec![1.5; 3], vec![0.0; 3]), "{dtype}");
        let (sums, owed) = after_owing(dtype, &odd, &[0.25; 3]);
        assert!(sums[0].is_nan() && sums[1..] == odd[1..] && owed == [0.0; 3], "{dtype}: {sums:?}");
    }
}

#[test]
fn sixteen_bits_keep_what_adding_and_dividing_round_away() {
    // Of 256 + 0.75 a bf16 has 256, and of 1024 + 0.75 an f16 has 1025.
    for (dtype, own, sum, owed) in [(DType::BF16, 256.0, 256.0, 0.75), (DType::F16, 1024.0, 1025.0, -0.25)] {
        let codec = Codec::of(dtype, Quantization::Bits4).unwrap();
        // A single element travels as it is.
        let (mut sums, mut kept) = (bytes_of(dtype, &[own]), bytes_of(dtype, &[0.0]));
        codec.add_keeping(&mut sums, &bytes_of(dtype, &[0.75]), &mut kept);
        assert_eq!(oracle::numbers(dtype, &sums), [sum]);
        assert_eq!(oracle::numbers(dtype, &kept), [owed]);
        let (mut sums, mut kept) = (bytes_of(dtype, &[own]), bytes_of(dtype, &[0.0]));
        feedback::finish_average_keeping(dtype, &mut sums, &mut kept, 3);
        let third = oracle::numbers(dtype, &sums)[0];
        assert!(third != own / 3.0);
        assert_eq!(oracle::numbers(dtype, &kept), [own - 3.0 * third]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn adding_and_keeping_gives_the_sums_of_adding_alone(
        cpu in a_path(), (dtype, quantization, own, theirs) in two_spans(), owed in any::<[u8; 64]>(),
    ) {
        let codec = Codec::of(dtype, quantization).unwrap();
        let wire = encoded(cpu, &codec, &theirs);
        let before: Vec<u8> = owed.iter().copied().cycle().take(own.len()).collect();
        let (mut expected, mut found, mut kept) = (own.clone(), own.clone(), before.clone());
        codec.reduce_into_on(cpu, ReduceOp::Sum, &mut expected, &wire);
        codec.add_keeping_on(cpu, &mut found, &wire, &mut kept);
        prop_assert_eq!(&found, &expected);
        let (mut again, mut kept_again) = (own, before);
        codec.add_keeping(&mut again, &wire, &mut kept_again);
        prop_assert_eq!(kept_again, kept);
    }

    /// What was there and what was owed is what is there and what is still owed, but for the rounding of the latter.
    #[test]
    fn nothing_is_lost_by_adding_what_is_owed(
        cpu in a_path(), dtype in prop::sample::select(FLOATS.to_vec()),
        pairs in prop::collection::vec((any::<u64>(), any::<u64>(), -1.0..1.0f64, -1.0..1.0f64, any::<bool>()), 0..70),
    ) {
        let size = dtype.size_bytes();
        let cell = |bits: u64, number: f64, odd: bool| {
            if odd { bits.to_le_bytes()[..size].to_vec() } else { of_number(dtype, number) }
        };
        let mut sums: Vec<u8> = pairs.iter().flat_map(|p| cell(p.0, p.2 * 100.0, p.4)).collect();
        let mut owed: Vec<u8> = pairs.iter().flat_map(|p| cell(p.1, p.3, p.4)).collect();
        let (own, due) = (oracle::numbers(dtype, &sums), oracle::numbers(dtype, &owed));
        feedback::add_owed_on(cpu, dtype, &mut sums, &mut owed);
        let (sums, owed) = (oracle::numbers(dtype, &sums), oracle::numbers(dtype, &owed));
        let unit = bounds::unit(dtype);
        for i in 0..own.len() {
            let due = if due[i].is_finite() { due[i] } else { 0.0 };
            prop_assert!(owed[i].is_finite());
            if own[i].is_finite() {
                prop_assert!(sums[i].is_finite());
                // Halves: the whole may be beyond the largest f64.
                let off = (own[i] / 2.0 - sums[i] / 2.0) + (due / 2.0 - owed[i] / 2.0);
                let rounding = unit * owed[i].abs() + 2f64.powi(-23) * owed[i].abs() + bounds::least(dtype);
                // Of f64 the sum here rounds as well.
                let here = 2f64.powi(-52) * (own[i].abs() / 2.0 + due.abs() / 2.0);
                prop_assert!(off.abs() <= rounding + here, "{dtype}: {} and {due} as {} and {}", own[i], sums[i], owed[i]);
            } else {
                prop_assert!(!sums[i].is_finite() && owed[i] == 0.0);
            }
        }
    }
}
