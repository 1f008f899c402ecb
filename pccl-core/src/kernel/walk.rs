//! The loops, compiled for the baseline CPU and, on x86_64, once more for AVX2.

use super::element::Element;
use crate::types::ReduceOp;

/// One of the element's operations, as a type, so that each loop has it inlined.
pub trait Combine {
    fn combine<T: Element>(a: T, b: T) -> T;
}

macro_rules! combine {
    ($name:ident, $operation:ident) => {
        struct $name;
        impl Combine for $name {
            #[inline(always)]
            fn combine<T: Element>(a: T, b: T) -> T {
                a.$operation(b)
            }
        }
    };
}

combine!(Add, add);
combine!(Mul, mul);
combine!(Max, max);
combine!(Min, min);

pub fn into_op<T: Element>(op: ReduceOp, acc: &mut [u8], other: &[u8]) {
    match op {
        ReduceOp::Sum | ReduceOp::Avg => into::<T, Add>(acc, other),
        ReduceOp::Prod => into::<T, Mul>(acc, other),
        ReduceOp::Max => into::<T, Max>(acc, other),
        ReduceOp::Min => into::<T, Min>(acc, other),
    }
}

pub fn pair_op<T: Element>(op: ReduceOp, out: &mut [u8], a: &[u8], b: &[u8]) {
    match op {
        ReduceOp::Sum | ReduceOp::Avg => pair::<T, Add>(out, a, b),
        ReduceOp::Prod => pair::<T, Mul>(out, a, b),
        ReduceOp::Max => pair::<T, Max>(out, a, b),
        ReduceOp::Min => pair::<T, Min>(out, a, b),
    }
}

/// A loop, compiled for the best CPU at hand. Never inlined: see `StandardFloatMode`.
macro_rules! for_this_cpu {
    (pub fn $name:ident<$($generic:ident: $bound:ident),*>($($arg:ident: $type:ty),*) $body:block) => {
        #[inline(never)]
        pub fn $name<$($generic: $bound),*>($($arg: $type),*) {
            #[inline(always)]
            fn any_cpu<$($generic: $bound),*>($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn with_avx2<$($generic: $bound),*>($($arg: $type),*) {
                    any_cpu::<$($generic),*>($($arg),*);
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the CPU has just been found to have AVX2.
                    return unsafe { with_avx2::<$($generic),*>($($arg),*) };
                }
            }
            any_cpu::<$($generic),*>($($arg),*);
        }
    };
}

for_this_cpu! {
    pub fn into<T: Element, C: Combine>(acc: &mut [u8], other: &[u8]) {
        for (acc, &other) in T::cells_mut(acc).iter_mut().zip(T::cells(other)) {
            *acc = C::combine(T::load(*acc), T::load(other)).store();
        }
    }
}

for_this_cpu! {
    pub fn pair<T: Element, C: Combine>(out: &mut [u8], a: &[u8], b: &[u8]) {
        let operands = T::cells(a).iter().zip(T::cells(b));
        for (out, (&a, &b)) in T::cells_mut(out).iter_mut().zip(operands) {
            *out = C::combine(T::load(a), T::load(b)).store();
        }
    }
}

for_this_cpu! {
    pub fn average<T: Element>(buf: &mut [u8], world_size: u64) {
        for cell in T::cells_mut(buf) {
            *cell = T::load(*cell).divided_by(world_size).store();
        }
    }
}
