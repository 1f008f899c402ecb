//! Error feedback: arithmetic that keeps what it loses, in memory of the elements' type beside the elements.
//!
//! What is kept is never infinite and never NaN: it ends at the largest number of the type, and a loss that is no finite
//! number counts as 0, as does what somebody else has left there.

use super::form::{AsBf16, AsF16, Form};
use super::work::Work;
use crate::kernel::cpu::Cpu;
use crate::kernel::float_mode::StandardFloatMode;
use crate::kernel::path::LANES;
use crate::types::DType;

/// Runs an expression with `$t` standing for the `Form` of a type of floats.
macro_rules! for_form {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            DType::F16 => for_form!(@ $t = AsF16, $body),
            DType::BF16 => for_form!(@ $t = AsBf16, $body),
            DType::F64 => for_form!(@ $t = f64, $body),
            _ => for_form!(@ $t = f32, $body),
        }
    };
    (@ $t:ident = $type:ty, $body:expr) => {{
        type $t = $type;
        $body
    }};
}

/// Whether additions lose enough to keep it: with 8 bits of mantissa as much as a code of 8 bits does.
pub(super) fn loses_in_sums(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// `sums += owed`; what that loses is what is still owed. A finite sum stays finite: beyond the largest number the rest is
/// owed.
pub fn add_owed(dtype: DType, sums: &mut [u8], owed: &mut [u8]) {
    add_owed_on(Cpu::best(), dtype, sums, owed);
}

/// Divides final sums, as `kernel::finish_average`; 16-bit floats keep what that loses, times the world size.
pub fn finish_average_keeping(dtype: DType, sums: &mut [u8], owed: &mut [u8], world_size: u64) {
    if loses_in_sums(dtype) {
        let _mode = StandardFloatMode::enter();
        let by = world_size as f32;
        match dtype {
            DType::F16 => divide::<AsF16>(Cpu::best(), sums, owed, by),
            _ => divide::<AsBf16>(Cpu::best(), sums, owed, by),
        }
    } else {
        crate::kernel::finish_average(dtype, sums, world_size);
    }
}

pub(super) fn add_owed_on(cpu: Cpu, dtype: DType, sums: &mut [u8], owed: &mut [u8]) {
    assert_eq!(sums.len(), owed.len(), "the residual is not as long as the elements");
    let _mode = StandardFloatMode::enter();
    for_form!(dtype, T => settle::<T>(cpu, sums, owed));
}

/// `sums += others`, as `kernel::reduce_into`; 16-bit floats keep what that loses.
pub(super) fn add_on(cpu: Cpu, dtype: DType, sums: &mut [u8], others: &[u8], owed: &mut [u8]) {
    for_form!(dtype, T => add::<T>(cpu, sums, others, owed));
}

/// `owed += (exact − sent) · times`.
pub(super) fn keep_on(cpu: Cpu, dtype: DType, exact: &[u8], sent: &[u8], times: u64, owed: &mut [u8]) {
    for_form!(dtype, T => keep::<T>(cpu, exact, sent, times, owed));
}

#[inline(always)]
fn within<T: Form>(number: T::Work) -> T::Work {
    let number = if number < T::LARGEST { number } else { T::LARGEST };
    let least = T::LARGEST.negated();
    if number > least { number } else { least }
}

#[inline(always)]
fn finite_or_zero<W: Work>(number: W) -> W {
    if number.is_finite() { number } else { W::ZERO }
}

/// What is owed once this is lost besides: a number of the type's range, whatever stood there.
#[inline(always)]
fn sum_owed<T: Form>(owed: T::Work, lost: T::Work) -> T::Work {
    within::<T>(finite_or_zero(owed) + finite_or_zero(lost))
}

#[inline(always)]
fn owed_with<T: Form>(owed: T::Cell, lost: T::Work) -> T::Cell {
    T::store(sum_owed::<T>(T::load(owed), lost))
}

for_each_cpu! {
    pub fn settle<T: Form>(sums: &mut [u8], owed: &mut [u8]) {
        for (sum, owed) in T::cells_mut(sums).iter_mut().zip(T::cells_mut(owed)) {
            let own = T::load(*sum);
            let due = finite_or_zero(T::load(*owed));
            let exact = own + due;
            let number = T::store(if own.is_finite() { within::<T>(exact) } else { exact });
            // In this order nothing is lost of it.
            let own_is_larger = own.magnitude() > due.magnitude();
            let (larger, smaller) = if own_is_larger { (own, due) } else { (due, own) };
            let lost = (larger - T::load(number)) + smaller;
            *sum = number;
            *owed = T::store(finite_or_zero(lost));
        }
    }
}

for_each_cpu! {
    pub fn add<T: Form>(sums: &mut [u8], others: &[u8], owed: &mut [u8]) {
        let sums = T::cells_mut(sums).iter_mut().zip(T::cells(others));
        for ((sum, &other), owed) in sums.zip(T::cells_mut(owed)) {
            let exact = T::load(*sum) + T::load(other);
            let number = T::store(exact);
            *sum = number;
            *owed = owed_with::<T>(*owed, exact - T::load(number));
        }
    }
}

for_each_cpu! {
    pub fn divide<T: Form>(sums: &mut [u8], owed: &mut [u8], by: f32) {
        let by = T::Work::of_single(by);
        for (sum, owed) in T::cells_mut(sums).iter_mut().zip(T::cells_mut(owed)) {
            let whole = T::load(*sum);
            let number = T::store(whole / by);
            *sum = number;
            *owed = owed_with::<T>(*owed, whole - T::load(number) * by);
        }
    }
}

for_each_cpu! {
    pub fn keep<T: Form>(@path, exact: &[u8], sent: &[u8], times: u64, owed: &mut [u8]) {
        let times = T::Work::of(times as f64);
        let (exact, last_exact) = T::cells(exact).as_chunks::<LANES>();
        let (sent, last_sent) = T::cells(sent).as_chunks::<LANES>();
        let (owed, last_owed) = T::cells_mut(owed).as_chunks_mut::<LANES>();
        for ((exact, sent), owed) in exact.iter().zip(sent).zip(owed) {
            let (exact, sent) = (T::load_lanes(path, exact), T::load_lanes(path, sent));
            let mut sums = T::load_lanes(path, owed);
            for lane in 0..LANES {
                sums[lane] = sum_owed::<T>(sums[lane], (exact[lane] - sent[lane]) * times);
            }
            T::store_lanes(path, &sums, owed);
        }
        for ((&exact, &sent), owed) in last_exact.iter().zip(last_sent).zip(last_owed) {
            *owed = owed_with::<T>(*owed, (T::load(exact) - T::load(sent)) * times);
        }
    }
}
