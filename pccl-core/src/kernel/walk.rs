//! The loops, compiled once for each path of `Cpu`; on aarch64 the baseline has vectors already.

use super::cpu::Cpu;
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

pub fn into_op<T: Element>(cpu: Cpu, op: ReduceOp, acc: &mut [u8], other: &[u8]) {
    match op {
        ReduceOp::Sum | ReduceOp::Avg => into::<T, Add>(cpu, acc, other),
        ReduceOp::Prod => into::<T, Mul>(cpu, acc, other),
        ReduceOp::Max => into::<T, Max>(cpu, acc, other),
        ReduceOp::Min => into::<T, Min>(cpu, acc, other),
    }
}

pub fn pair_op<T: Element>(cpu: Cpu, op: ReduceOp, out: &mut [u8], a: &[u8], b: &[u8]) {
    match op {
        ReduceOp::Sum | ReduceOp::Avg => pair::<T, Add>(cpu, out, a, b),
        ReduceOp::Prod => pair::<T, Mul>(cpu, out, a, b),
        ReduceOp::Max => pair::<T, Max>(cpu, out, a, b),
        ReduceOp::Min => pair::<T, Min>(cpu, out, a, b),
    }
}

/// A loop, compiled for each path. Never inlined: see `StandardFloatMode`. With `@path` the body has the path as a value
/// of that name, of a type that is a `Path`.
macro_rules! for_each_cpu {
    ($(#[$doc:meta])* pub fn $name:ident<$($generic:ident: $bound:ident),*>($($arg:ident: $type:ty),*) $body:block) => {
        for_each_cpu! { $(#[$doc])* pub fn $name<$($generic: $bound),*>(@_path, $($arg: $type),*) $body }
    };
    ($(#[$doc:meta])* pub fn $name:ident<$($generic:ident: $bound:ident),*>(@$path:ident, $($arg:ident: $type:ty),*) $body:block) => {
        $(#[$doc])*
        #[inline(never)]
        pub fn $name<$($generic: $bound),*>(cpu: Cpu, $($arg: $type),*) {
            #[inline(always)]
            fn on<P: $crate::kernel::path::Path, $($generic: $bound),*>($path: P, $($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,f16c")]
            fn with_avx2<$($generic: $bound),*>(path: $crate::kernel::path::Avx2, $($arg: $type),*) {
                on::<_, $($generic),*>(path, $($arg),*);
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            fn with_avx512<$($generic: $bound),*>(path: $crate::kernel::path::Avx512, $($arg: $type),*) {
                on::<_, $($generic),*>(path, $($arg),*);
            }

            match cpu {
                Cpu::Baseline(path) => on::<_, $($generic),*>(path, $($arg),*),
                // SAFETY: there is an `Avx2`, so the CPU has what its `detect` asks for: the features above, and no fewer.
                #[cfg(target_arch = "x86_64")]
                Cpu::Avx2(path) => unsafe { with_avx2::<$($generic),*>(path, $($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Cpu::Avx512(path) => unsafe { with_avx512::<$($generic),*>(path, $($arg),*) },
            }
        }
    };
}

for_each_cpu! {
    pub fn into<T: Element, C: Combine>(acc: &mut [u8], other: &[u8]) {
        for (acc, &other) in T::cells_mut(acc).iter_mut().zip(T::cells(other)) {
            *acc = C::combine(T::load(*acc), T::load(other)).store();
        }
    }
}

for_each_cpu! {
    pub fn pair<T: Element, C: Combine>(out: &mut [u8], a: &[u8], b: &[u8]) {
        let operands = T::cells(a).iter().zip(T::cells(b));
        for (out, (&a, &b)) in T::cells_mut(out).iter_mut().zip(operands) {
            *out = C::combine(T::load(a), T::load(b)).store();
        }
    }
}

for_each_cpu! {
    pub fn average<T: Element>(buf: &mut [u8], world_size: u64) {
        let divisor = T::divisor(world_size);
        for cell in T::cells_mut(buf) {
            *cell = T::load(*cell).divided_by(divisor).store();
        }
    }
}
