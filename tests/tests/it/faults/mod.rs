//! The faults of the reference that ours must not have. One file each; the numbers are those of the list in
//! `docs/GUARANTEES.md`.

mod fault_1_input_lost_in_abort;
mod fault_2_retry_skips;
mod fault_3_two_byte_tensors;
mod fault_4_disagreement;
mod fault_5_garbage;
mod fault_6_newcomers;
mod fault_7_deadlock_and_restart;

#[cfg(target_os = "linux")]
pub use fault_5_garbage::crowds_at_both_ports;
