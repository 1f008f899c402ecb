//! What travels, and what is there afterwards.

use pccl_core::api::{Condition, DType, Memory, SharedState, SyncInfo};

use super::{Model, POPULAR, crew, each, pattern, state, synchronize};
use crate::harness::master;

const BLOCK_BYTES: u64 = 256 << 10;

fn infos(outcomes: Vec<pccl_core::api::Result<SyncInfo>>) -> Vec<SyncInfo> {
    outcomes.into_iter().map(Result::unwrap).collect()
}

#[test]
fn a_newcomer_gets_the_state_from_all_who_hold_it() {
    let (_master, address) = master();
    let crew = crew(&address, 3);
    let of = |seed: u32| -> Model { vec![("w", pattern(8 << 20, seed)), ("b", pattern(1000, seed + 1))] };
    let mut models = vec![of(1), of(1), of(9)];
    let brings = [(41, POPULAR), (41, POPULAR), (0, POPULAR)];
    let infos = infos(synchronize(&crew, &mut models, &brings));
    let total = 4 * ((8 << 20) + 1000);
    assert_eq!((infos[2].rx_bytes, infos[2].tx_bytes), (total, 0));
    assert!(infos.iter().all(|info| info.revision == 41));
    assert!(infos[0].tx_bytes > 0 && infos[1].tx_bytes > 0, "one holder sent everything: {infos:?}");
    assert_eq!(infos[0].tx_bytes + infos[1].tx_bytes, total);
    assert!(models.iter().all(|model| *model == of(1)));
    // Once more, one step on: everybody has it.
    let again = synchronize(&crew, &mut models, &[(42, POPULAR); 3]);
    let nothing = SyncInfo { revision: 42, tx_bytes: 0, rx_bytes: 0 };
    assert!(again.iter().all(|outcome| *outcome == Ok(nothing)), "{again:?}");
    let stats = crew[2].stats();
    assert_eq!((stats.syncs, stats.counters.state_bytes_received), (2, total));
}

#[test]
fn of_one_element_that_differs_one_block_travels() {
    let (_master, address) = master();
    let crew = crew(&address, 3);
    let mut models: Vec<Model> = (0..3).map(|_| vec![("w", pattern(4 << 20, 1))]).collect();
    models[1][0].1[(3 << 20) + 7] ^= 1;
    let infos = infos(synchronize(&crew, &mut models, &[(0, POPULAR); 3]));
    assert_eq!(infos.iter().map(|info| info.rx_bytes).collect::<Vec<_>>(), [0, BLOCK_BYTES, 0]);
    assert_eq!(infos.iter().map(|info| info.tx_bytes).sum::<u64>(), BLOCK_BYTES);
    assert!(models[1] == models[0] && models[0] == vec![("w", pattern(4 << 20, 1))]);
}

#[test]
fn the_content_that_most_hold_wins_and_of_equals_that_of_the_lowest_rank() {
    let (_master, address) = master();
    let crew = crew(&address, 4);
    let of = |seeds: [u32; 4]| seeds.map(|seed| -> Model { vec![("w", pattern(3000, seed))] });
    for (revision, (seeds, winner)) in
        [([1, 2, 2, 3], 2), ([3, 3, 4, 4], 3), ([8, 7, 6, 5], 8)].into_iter().enumerate()
    {
        let mut models = of(seeds);
        let outcomes = synchronize(&crew, &mut models, &[(revision as u64, POPULAR); 4]);
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert!(models.iter().all(|model| *model == of([winner; 4])[0]), "{seeds:?}");
    }
}

#[test]
fn every_type_the_empty_and_thousands_of_small_ones() {
    let (_master, address) = master();
    let crew = crew(&address, 2);
    let names: Vec<String> = (0..3000).map(|n| format!("layer.{n}.weight")).collect();
    let outcomes = each(&crew, &mut [Model::new(), Model::new()], |rank, peer, _| {
        let fill = if rank == 0 { 0x5A } else { 0xA5 };
        let mut large: Vec<Vec<u64>> =
            DType::ALL.iter().map(|_| vec![u64::from_le_bytes([fill; 8]); 50_000]).collect();
        let mut small: Vec<[u8; 5]> = names.iter().map(|_| [fill; 5]).collect();
        let mut state = SharedState::new(0);
        for (dtype, data) in DType::ALL.into_iter().zip(&mut large) {
            let count = size_of_val(data.as_slice()) / dtype.size_bytes();
            state = state.memory_tensor(dtype.name(), dtype, count, Memory::in_place(data), false);
        }
        for (name, data) in names.iter().zip(&mut small) {
            state = state.tensor(name, data);
        }
        let info =
            peer.synchronize_shared_state(&mut state.tensor::<f32>("nothing", &mut []), POPULAR).unwrap();
        assert!(large.iter().flatten().all(|word| word.to_le_bytes() == [0x5A; 8]), "a type was not sent");
        assert!(small.iter().all(|bytes| *bytes == [0x5A; 5]));
        info
    });
    let total = 12 * 400_000 + 3000 * 5;
    assert_eq!((outcomes[0].tx_bytes, outcomes[1].rx_bytes), (total, total));
}

#[test]
fn what_may_differ_stays_where_it_is_current_and_goes_to_the_outdated() {
    let (_master, address) = master();
    let crew = crew(&address, 3);
    let mut models: Vec<Model> =
        (0..3).map(|rank| vec![("w", pattern(500, 1)), ("rng", pattern(500, 10 + rank))]).collect();
    let revisions = [3, 3, 2];
    let outcomes = each(&crew, &mut models, |rank, peer, model| {
        let [(_, w), (_, rng)] = &mut model[..] else { unreachable!("two tensors") };
        let mut state = SharedState::new(revisions[rank]).tensor("w", w).tensor_that_may_differ("rng", rng);
        peer.synchronize_shared_state(&mut state, POPULAR).map(|info| (info, state.conditions()))
    });
    assert_eq!(models[0][1].1, pattern(500, 10));
    assert_eq!(models[1][1].1, pattern(500, 11));
    assert_eq!(models[2][1].1, pattern(500, 10));
    assert_eq!(outcomes[2].as_ref().unwrap().1, [Condition::Kept, Condition::Elected]);
    assert_eq!(outcomes[1].as_ref().unwrap().1, [Condition::Kept, Condition::Kept]);
}

#[test]
fn peers_may_name_their_tensors_in_any_order() {
    let (_master, address) = master();
    let crew = crew(&address, 2);
    let mut models: Vec<Model> = vec![
        vec![("a", pattern(9, 1)), ("b", pattern(9, 2))],
        vec![("b", pattern(9, 3)), ("a", pattern(9, 4))],
    ];
    let outcomes = each(&crew, &mut models, |_, peer, model| {
        let mut state = state(0, model);
        peer.synchronize_shared_state(&mut state, POPULAR).map(|_| state.conditions())
    });
    assert_eq!(outcomes[1], Ok(vec![Condition::Elected; 2]));
    assert_eq!(models[1], vec![("b", pattern(9, 2)), ("a", pattern(9, 1))]);
}
