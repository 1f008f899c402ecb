//! What a `harness::Process` does. In an ordinary run there is no role, and nothing happens.

use pccl_core::api::{ReduceOp, Tag};

use crate::harness;

#[test]
fn role() {
    let Some((role, address)) = harness::role() else { return };
    let communicator = harness::connect(&address, 2);
    match role.as_str() {
        // Takes part in eight operations at once, for ever.
        "eight" => loop {
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
        },
        other => panic!("there is no role {other:?}"),
    }
}
