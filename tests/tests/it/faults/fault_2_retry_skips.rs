//! The retry loop with one operation in flight, under a kill: success means that every one was reduced.

use pccl_core::api::{ReduceOp, ReduceRequest, Tag};

use crate::harness::{Process, join, master, wait_for_world};

#[test]
fn success_of_the_retry_loop_means_every_operation_was_reduced() {
    let (_master, address) = master();
    std::thread::scope(|threads| {
        let victim = std::sync::Mutex::new(None);
        for rank in 0..2 {
            let (address, victim) = (&address, &victim);
            threads.spawn(move || {
                let peer = join(address, 2);
                if rank == 0 {
                    // It joins only the first few tags, then is killed while ours are in flight.
                    *victim.lock().unwrap() = Some(Process::start("eight", address));
                }
                wait_for_world(&peer, 3);
                let mut data: Vec<Vec<f32>> =
                    (0..8).map(|_| vec![1.0; crate::harness::EIGHT_LEN]).chain((8..24).map(|_| vec![1.0; 1000])).collect();
                let mut requests: Vec<_> = data
                    .iter_mut()
                    .enumerate()
                    .map(|(tag, data)| ReduceRequest::in_place(data, ReduceOp::Sum, Tag(tag as u64)))
                    .collect();
                let killer = (rank == 0).then(|| {
                    let victim = victim.lock().unwrap().take();
                    threads.spawn(move || {
                        std::thread::sleep(std::time::Duration::from_millis(60));
                        victim.into_iter().for_each(Process::kill);
                    })
                });
                peer.all_reduce_multiple_with_retry(&mut requests, 1).unwrap();
                for (tag, data) in data.iter().enumerate() {
                    let sum = data[0];
                    assert!(sum == 2.0 || sum == 3.0, "tag {tag} was reported reduced, but holds {sum}");
                    assert!(data.iter().all(|v| *v == sum), "tag {tag} was reduced in part");
                }
                // The victim never calls these: only the two of us can have reduced them.
                assert!(data[8..].iter().all(|data| data[0] == 2.0));
                if let Some(killer) = killer {
                    killer.join().unwrap();
                }
            });
        }
    });
}
