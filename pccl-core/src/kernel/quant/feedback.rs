//! Error feedback: arithmetic that keeps what it loses, in memory of the elements' type beside the elements.
//!
//! What is kept is never infinite and never NaN: it ends at the largest number of the type, and a loss that is no finite
//! number counts as 0, as does what somebody else has left there.

use super::form::{AsBf16, AsF16, Narrow};
use super::work::Work;
use crate::kernel::cpu::{Cpu, Level};
use crate::kernel::element::Element;
use crate::kernel::float_mode::StandardFloatMode;
use crate::types::DType;

/// An element as it lies in memory, and the float that it is computed in.
pub trait Number {
    type Cell: Element;
    type Wide: Work;
    const LARGEST: Self::Wide;
    fn widen(cell: Self::Cell) -> Self::Wide;
    fn narrow(number: Self::Wide) -> Self::Cell;
}

macro_rules! as_it_is {
    ($type:ident) => {
        impl Number for $type {
            type Cell = $type;
            type Wide = $type;
            const LARGEST: $type = $type::MAX;

            #[inline(always)]
            fn widen(cell: $type) -> $type {
                cell
            }

            #[inline(always)]
            fn narrow(number: $type) -> $type {
                if number.is_nan() { <$type as Work>::NAN } else { number }
            }
        }
    };
}

as_it_is!(f32);
as_it_is!(f64);

macro_rules! widened {
    ($type:ident, $largest:expr) => {
        impl Number for $type {
            type Cell = u16;
            type Wide = f32;
            const LARGEST: f32 = $largest;

            #[inline(always)]
            fn widen(cell: u16) -> f32 {
                <$type as Narrow>::widen(cell)
            }

            #[inline(always)]
            fn narrow(number: f32) -> u16 {
                <$type as Narrow>::narrow(number)
            }
        }
    };
}

widened!(AsF16, 65_504.0);
widened!(AsBf16, f32::from_bits(0x7f7f_0000));

/// Runs an expression with `$t` standing for the `Number` of a type of floats.
macro_rules! for_number {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            DType::F16 => for_number!(@ $t = AsF16, $body),
            DType::BF16 => for_number!(@ $t = AsBf16, $body),
            DType::F64 => for_number!(@ $t = f64, $body),
            _ => for_number!(@ $t = f32, $body),
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
    for_number!(dtype, T => settle::<T>(cpu, sums, owed));
}

/// `sums += others`, as `kernel::reduce_into`; 16-bit floats keep what that loses.
pub(super) fn add_on(cpu: Cpu, dtype: DType, sums: &mut [u8], others: &[u8], owed: &mut [u8]) {
    for_number!(dtype, T => add::<T>(cpu, sums, others, owed));
}

/// `owed += (exact − sent) · times`.
pub(super) fn keep_on(cpu: Cpu, dtype: DType, exact: &[u8], sent: &[u8], times: u64, owed: &mut [u8]) {
    for_number!(dtype, T => keep::<T>(cpu, exact, sent, times, owed));
}

#[inline(always)]
fn within<T: Number>(number: T::Wide) -> T::Wide {
    let number = if number < T::LARGEST { number } else { T::LARGEST };
    let least = T::LARGEST.negated();
    if number > least { number } else { least }
}

#[inline(always)]
fn finite_or_zero<W: Work>(number: W) -> W {
    if number.is_finite() { number } else { W::ZERO }
}

/// What is owed once this is lost besides.
#[inline(always)]
fn owed_with<T: Number>(owed: T::Cell, lost: T::Wide) -> T::Cell {
    T::narrow(within::<T>(finite_or_zero(T::widen(owed)) + finite_or_zero(lost)))
}

for_each_cpu! {
    pub fn settle<T: Number>(sums: &mut [u8], owed: &mut [u8]) {
        for (sum, owed) in T::Cell::cells_mut(sums).iter_mut().zip(T::Cell::cells_mut(owed)) {
            let own = T::widen(T::Cell::load(*sum));
            let due = finite_or_zero(T::widen(T::Cell::load(*owed)));
            let exact = own + due;
            let number = T::narrow(if own.is_finite() { within::<T>(exact) } else { exact });
            // In this order nothing is lost of it.
            let own_is_larger = own.magnitude() > due.magnitude();
            let (larger, smaller) = if own_is_larger { (own, due) } else { (due, own) };
            let lost = (larger - T::widen(number)) + smaller;
            *sum = number.store();
            *owed = T::narrow(finite_or_zero(lost)).store();
        }
    }
}

for_each_cpu! {
    pub fn add<T: Number>(sums: &mut [u8], others: &[u8], owed: &mut [u8]) {
        let sums = T::Cell::cells_mut(sums).iter_mut().zip(T::Cell::cells(others));
        for ((sum, &other), owed) in sums.zip(T::Cell::cells_mut(owed)) {
            let exact = T::widen(T::Cell::load(*sum)) + T::widen(T::Cell::load(other));
            let number = T::narrow(exact);
            *sum = number.store();
            *owed = owed_with::<T>(T::Cell::load(*owed), exact - T::widen(number)).store();
        }
    }
}

for_each_cpu! {
    pub fn divide<T: Number>(sums: &mut [u8], owed: &mut [u8], by: f32) {
        let by = T::Wide::of_single(by);
        for (sum, owed) in T::Cell::cells_mut(sums).iter_mut().zip(T::Cell::cells_mut(owed)) {
            let whole = T::widen(T::Cell::load(*sum));
            let number = T::narrow(whole / by);
            *sum = number.store();
            *owed = owed_with::<T>(T::Cell::load(*owed), whole - T::widen(number) * by).store();
        }
    }
}

for_each_cpu! {
    pub fn keep<T: Number>(exact: &[u8], sent: &[u8], times: u64, owed: &mut [u8]) {
        let times = T::Wide::of(times as f64);
        let pairs = T::Cell::cells(exact).iter().zip(T::Cell::cells(sent));
        for ((&exact, &sent), owed) in pairs.zip(T::Cell::cells_mut(owed)) {
            let lost = (T::widen(T::Cell::load(exact)) - T::widen(T::Cell::load(sent))) * times;
            *owed = owed_with::<T>(T::Cell::load(*owed), lost).store();
        }
    }
}
