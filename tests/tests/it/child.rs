//! What a `harness::Process` does. In an ordinary run there is no role, and nothing happens.

use pccl_core::api::{ReduceOp, Tag};

#[cfg(target_os = "linux")]
use crate::clean_exit;
use crate::harness;

#[test]
fn role() {
    let Some((role, address)) = harness::role() else { return };
    match role.as_str() {
        #[cfg(target_os = "linux")]
        "clean-exit" => clean_exit::leaves_nothing_behind(),
        #[cfg(target_os = "linux")]
        "fork" => clean_exit::forks(),
        #[cfg(target_os = "linux")]
        "crowds" => crate::faults::crowds_at_both_ports(),
        "eight" => eight(&address),
        "damage" => crate::abort::damaged_frames(),
        "damaged-hello" => crate::abort::damaged_hellos(),
        "two-troubles" => crate::abort::two_troubles_on_one_pair(),
        "state-peer" => crate::state::state_peer(&address),
        "victim" => crate::abort::victim(&address),
        #[cfg(target_os = "linux")]
        "memory-victim" => crate::abort::memory_victim(&address),
        #[cfg(target_os = "linux")]
        "returned-memory" => crate::abort::returned_memory(&address),
        #[cfg(target_os = "linux")]
        "until-broken" => crate::abort::until_broken(&address),
        #[cfg(target_os = "linux")]
        "gibibyte" => crate::memory::a_gibibyte(&address),
        #[cfg(target_os = "linux")]
        "three-in-a-mesh" => crate::memory::three_in_a_mesh(&address),
        "in-time" => crate::no_deadlock::in_time(&address),
        "schedule" => crate::schedules::forced(&address),
        "no-link" => crate::schedules::a_pair_has_no_link(&address),
        "measurer" => crate::topology::measurer(&address),
        "no-such-schedule" => crate::schedules::there_is_no_such_schedule(),
        #[cfg(target_os = "linux")]
        threads if threads.starts_with("threads:") => crate::figures::counts_threads(threads, &address),
        other => panic!("there is no role {other:?}"),
    }
}

/// Takes part in eight operations at once, for ever.
fn eight(address: &str) {
    let communicator = harness::connect(address, 2);
    loop {
        let mut data = vec![vec![1.0f32; harness::EIGHT_LEN]; 8];
        communicator.scope(|scope| {
            let works: Vec<_> = data
                .iter_mut()
                .enumerate()
                .map(|(tag, data)| scope.all_reduce_in_place(data, ReduceOp::Sum, Tag(tag as u64)))
                .collect();
            for work in works {
                // Whatever becomes of it: this process is here to be killed.
                let _ = work.and_then(|work| work.wait());
            }
        });
    }
}
