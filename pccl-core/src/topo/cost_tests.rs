//! The cost model, against times worked out by hand.

use super::test_networks::{Effort, Kind, network, optimize};
use super::{Figures, Shape, predict, price};
use crate::types::{Cost, PackedTree, Rank};

const MB: f64 = 1e6;

/// All pairs of 100 MB/s and 10 ms.
fn even(members: usize) -> Figures {
    let mut figures = Figures::new(members);
    for a in 0..members {
        for b in (0..members).filter(|&b| b != a) {
            figures.set_bandwidth(a, b, 100.0 * MB);
            figures.set_delay(a, b, 10_000);
        }
    }
    figures
}

fn in_order(members: usize) -> Vec<usize> {
    (0..members).collect()
}

/// A piece of 256 KiB takes 2622 µs over 100 MB/s.
const HOP_US: u32 = 10_000 + 2_622;

fn about(cost: Cost, latency_us: u32, ps_per_byte: u64) {
    assert!(cost.latency_us.abs_diff(latency_us) <= 10, "{cost:?}, not {latency_us}");
    assert!(cost.ps_per_byte.abs_diff(ps_per_byte) <= 2, "{cost:?}, not {ps_per_byte}");
}

#[test]
fn a_ring_puts_almost_two_payloads_on_each_path_and_has_two_rounds_of_hops() {
    let planned = price(&even(4), &in_order(4));
    about(planned.ring, 10_000 + 6 * HOP_US, 15_000);
}

#[test]
fn a_mesh_puts_two_shares_on_each_path_and_has_two_hops() {
    let planned = price(&even(4), &in_order(4));
    about(planned.mesh, 10_000 + 2 * HOP_US, 5_000);
}

#[test]
fn a_machines_own_link_limits_both_alike() {
    let mut figures = even(4);
    figures.set_up(2, 50.0 * MB);
    let planned = price(&figures, &in_order(4));
    assert_eq!((planned.ring.ps_per_byte, planned.mesh.ps_per_byte), (30_000, 30_000));
    let mut figures = even(4);
    figures.set_down(0, 25.0 * MB);
    assert_eq!(price(&figures, &in_order(4)).mesh.ps_per_byte, 60_000);
}

#[test]
fn one_bad_direction_is_what_a_mesh_waits_for_and_a_ring_goes_around() {
    let figures = network(Kind::BadPair, 4, 1);
    let found = optimize(&figures, Effort { steps: 1000, seed: 1 });
    let (mesh, ring) = (found.planned.mesh.ps_per_byte, found.planned.ring.ps_per_byte);
    assert!(mesh > 20 * ring, "{mesh} {ring}");
}

#[test]
fn a_pair_without_a_link_is_no_part_of_any_schedule() {
    let mut figures = even(4);
    figures.unlink(0, 2);
    let planned = price(&figures, &in_order(4));
    assert_eq!(planned.mesh, Cost::NEVER);
    about(planned.ring, 10_000 + 6 * HOP_US, 15_000);
    figures.unlink(3, 0);
    assert_eq!(price(&figures, &in_order(4)).ring, Cost::NEVER);
}

#[test]
fn what_nobody_measured_counts_as_bad_as_the_worst_that_somebody_did() {
    let mut figures = Figures::new(3);
    figures.set_bandwidth(0, 1, 100.0 * MB);
    figures.set_bandwidth(1, 0, 10.0 * MB);
    figures.set_delay(0, 1, 1_000);
    figures.set_delay(0, 2, 30_000);
    figures.set_bandwidth(1, 2, f64::NAN);
    figures.set_bandwidth(2, 1, -1.0);
    let planned = price(&figures, &in_order(3));
    // Two thirds of a payload over 10 MB/s; a piece there takes 26.2 ms.
    about(planned.mesh, 30_000 + 2 * (30_000 + 26_214), 66_667);
    let nothing = price(&Figures::new(3), &in_order(3));
    about(nothing.mesh, 50_000 + 2 * (50_000 + 20_972), 53_334);
}

#[test]
fn the_order_decides_which_paths_a_ring_uses() {
    let mut figures = even(4);
    figures.set_bandwidth(0, 1, 1.0 * MB);
    let cost = |order: &[usize]| price(&figures, order).ring.ps_per_byte;
    assert_eq!(cost(&[0, 1, 2, 3]), 1_500_000);
    assert_eq!(cost(&[3, 2, 1, 0]), 15_000);
}

#[test]
fn a_forests_time_follows_its_shares_and_depth() {
    let star = |owner: Rank, share| PackedTree {
        owner,
        share,
        reduce_parents: vec![owner; 3],
        broadcast_parents: vec![owner; 3],
    };
    let trees = [star(0, 3), star(1, 1)];
    let time_us = |size_bytes| predict(&even(3), &in_order(3), Shape::Forest(&trees), size_bytes);
    // Both owners' parts cross between them in each direction: a whole payload.
    assert_eq!(time_us(100_000_000) - time_us(0), 1_000_000);
    let chain =
        PackedTree { owner: 0, share: 1, reduce_parents: vec![0, 0, 1], broadcast_parents: vec![0, 0, 1] };
    let deep = predict(&even(3), &in_order(3), Shape::Forest(&[chain]), 0);
    assert!(deep.abs_diff(u64::from(10_000 + 4 * HOP_US)) < 10, "{deep}");
    let ring = predict(&even(3), &in_order(3), Shape::Ring, 1 << 20);
    assert!(predict(&even(3), &in_order(3), Shape::Mesh, 1 << 20) < ring);
}
