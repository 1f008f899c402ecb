//! Forests against what no forest can beat.

use super::network::Network;
use super::packing::{Packing, Trees, gathered, pack};
use super::test_networks::{Effort, KINDS, Kind, network, optimize, steps};
use super::{Figures, price};
use crate::types::{ForestKind, Rank};

const STEPS: u64 = 60_000_000;

fn in_order(figures: &Figures) -> Network {
    Network::new(figures, &(0..figures.members()).collect::<Vec<_>>())
}

/// Each pair's and machine's load in bytes a second fits what it carries.
fn assert_fits(network: &Network, packing: &Packing) {
    let size = network.size;
    let mut loads = vec![0.0; size * size];
    for (pair, rate) in &packing.trees {
        for rank in (0..size).filter(|&rank| rank != pair.owner) {
            loads[rank * size + pair.reduce[rank]] += rate;
            loads[pair.broadcast[rank] * size + rank] += rate;
        }
    }
    let fits = |load: f64, rate: f64| load <= rate * 1.0001;
    for at in 0..size {
        let up: f64 = loads[at * size..(at + 1) * size].iter().sum();
        let down: f64 = (0..size).map(|from| loads[from * size + at]).sum();
        assert!(fits(up, network.up[at]) && fits(down, network.down[at]));
        assert!((0..size).all(|to| fits(loads[at * size + to], network.rates[at * size + to])));
    }
}

/// The bound is the program's own proof: all capacity at its prices, over the length of the shortest tree.
#[test]
fn forests_come_within_fifteen_percent_of_the_flow_bound() {
    for members in [4, 5, 8, 12, 16] {
        for (seed, kind) in KINDS.into_iter().enumerate() {
            let figures = network(kind, members, seed as u64 + 1);
            let found = optimize(&figures, Effort { steps: STEPS, seed: 1 });
            let network = Network::new(&figures, &found.order);
            let packing = pack(&network, Trees::Any, &mut steps(STEPS)).unwrap();
            assert_fits(&network, &packing);
            let forest = found.planned.forest.unwrap();
            assert_eq!(forest.check(members, &[]), Ok(()));
            let part = 1e12 / packing.bound / forest.cost.ps_per_byte as f64;
            assert!(part > 1.0 / 1.15 && part <= 1.0, "{kind:?} {members}: {part}");
        }
    }
}

/// Three machines, all paths equal, then one uplink slow.
#[test]
fn the_bound_is_what_a_hand_finds() {
    let mut figures = Figures::new(3);
    for a in 0..3 {
        for b in (0..3).filter(|&b| b != a) {
            figures.set_bandwidth(a, b, 100e6);
            figures.set_delay(a, b, 1000);
        }
    }
    // Each tree pair takes 4 of the 6 directed pairs once: 150 MB/s in all.
    let packing = pack(&in_order(&figures), Trees::Any, &mut steps(STEPS)).unwrap();
    assert!((150e6..150e6 * 1.04).contains(&packing.bound), "{}", packing.bound);
    // A machine that sends 20 MB/s sends each payload once.
    figures.set_up(1, 20e6);
    let packing = pack(&in_order(&figures), Trees::Any, &mut steps(STEPS)).unwrap();
    assert!((20e6..20e6 * 1.04).contains(&packing.bound), "{}", packing.bound);
}

#[test]
fn stars_with_shares_are_as_good_as_a_program_over_stars_can_make_them() {
    // Machine 0 sends a tenth of the others: it had better own nothing.
    let mut figures = Figures::new(4);
    for a in 0..4 {
        for b in (0..4).filter(|&b| b != a) {
            figures.set_bandwidth(a, b, 1e9);
            figures.set_delay(a, b, 100);
        }
        figures.set_up(a, if a == 0 { 10e6 } else { 100e6 });
    }
    let packing = pack(&in_order(&figures), Trees::Stars, &mut steps(STEPS)).unwrap();
    assert_fits(&in_order(&figures), &packing);
    let rate: f64 = packing.trees.iter().map(|(_, rate)| rate).sum();
    assert!(rate > 9.5e6, "{rate}: machine 0 sends its own contribution and no more");
    let equal = price(&figures, &[0, 1, 2, 3]).mesh.ps_per_byte;
    assert!(equal > 140_000, "equal shares take 1.5 payloads out of it: {equal}");
}

#[test]
fn where_all_is_equal_there_is_no_forest_beside_the_mesh() {
    let mut figures = Figures::new(5);
    for a in 0..5 {
        for b in (0..5).filter(|&b| b != a) {
            figures.set_bandwidth(a, b, 50e6);
            figures.set_delay(a, b, 20_000);
        }
    }
    assert_eq!(optimize(&figures, Effort { steps: STEPS, seed: 1 }).planned.forest, None);
}

#[test]
fn pairs_without_a_link_carry_nothing() {
    let mut figures = network(Kind::Pairs, 7, 2);
    (2..7).for_each(|other| figures.unlink(0, other));
    figures.unlink(3, 4);
    let found = optimize(&figures, Effort { steps: STEPS, seed: 1 });
    let place = |member: usize| found.order.iter().position(|&at| at == member).unwrap() as Rank;
    let mut unlinked: Vec<(Rank, Rank)> = (2..7).map(|other| (place(0), place(other))).collect();
    unlinked.push((place(3), place(4)));
    let mut unlinked: Vec<_> = unlinked.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
    unlinked.sort_unstable();
    let forest = found.planned.forest.unwrap();
    assert_eq!((forest.kind, forest.check(7, &unlinked)), (ForestKind::Packed, Ok(())));
    figures.unlink(0, 1);
    assert_eq!(optimize(&figures, Effort { steps: STEPS, seed: 1 }).planned.forest, None, "nobody reaches 0");
}

/// What larger groups get, held against the program where both can be had.
#[test]
fn gathered_forests_are_not_far_behind() {
    for kind in KINDS {
        let network = in_order(&network(kind, 10, 4));
        let bound = pack(&network, Trees::Any, &mut steps(STEPS)).unwrap().bound;
        let packing = gathered(&network, Trees::Any, 64, &mut steps(4_000_000)).unwrap();
        assert_fits(&network, &packing);
        let part = packing.trees.iter().map(|(_, rate)| rate).sum::<f64>() / bound;
        assert!(part > 0.7, "{kind:?}: {part}");
    }
}
