use proptest::prelude::*;

use super::*;

fn peer(index: usize) -> PeerId {
    let mut id = [0; 16];
    // Ids sort against the order, so that nothing can depend on their order unnoticed.
    id[..8].copy_from_slice(&(u64::MAX - index as u64).to_be_bytes());
    PeerId(id)
}

fn peers(count: usize) -> Vec<PeerId> {
    (0..count).map(peer).collect()
}

fn pairs(unlinked: &[(usize, usize)]) -> Vec<(PeerId, PeerId)> {
    unlinked.iter().map(|&(a, b)| (peer(a), peer(b))).collect()
}

fn is_unlinked(unlinked: &[(PeerId, PeerId)], a: PeerId, b: PeerId) -> bool {
    unlinked.contains(&(a, b)) || unlinked.contains(&(b, a))
}

fn ring_closes(order: &[PeerId], unlinked: &[(PeerId, PeerId)]) -> bool {
    order.len() == 1
        || (0..order.len()).all(|i| !is_unlinked(unlinked, order[i], order[(i + 1) % order.len()]))
}

/// Whether any order at all closes: every permutation is tried.
fn some_ring_closes(rest: &mut Vec<PeerId>, order: &mut Vec<PeerId>, unlinked: &[(PeerId, PeerId)]) -> bool {
    if rest.is_empty() {
        return ring_closes(order, unlinked);
    }
    (0..rest.len()).any(|i| {
        order.push(rest.remove(i));
        let closes = some_ring_closes(rest, order, unlinked);
        rest.insert(i, order.pop().unwrap());
        closes
    })
}

/// Which peers `from` reaches, by naive spreading.
fn reached(members: &[PeerId], unlinked: &[(PeerId, PeerId)], from: PeerId) -> Vec<PeerId> {
    let mut set = vec![from];
    for _ in members {
        for &peer in members {
            if !set.contains(&peer) && set.iter().any(|&s| !is_unlinked(unlinked, s, peer)) {
                set.push(peer);
            }
        }
    }
    set
}

fn check(members: &[PeerId], unlinked: &[(PeerId, PeerId)], exact: bool) {
    let found = order(members, unlinked);
    let mut sorted = found.order.clone();
    sorted.sort();
    let mut all = members.to_vec();
    all.sort();
    assert_eq!(sorted, all, "an order is a permutation");
    let parts: Vec<usize> = members.iter().map(|&m| reached(members, unlinked, m).len()).collect();
    let largest = parts.iter().copied().max().unwrap_or(0);
    match &found.kind {
        OrderKind::ClosedRing => assert!(ring_closes(&found.order, unlinked)),
        OrderKind::Connected => {
            assert_eq!(largest, members.len());
            assert_eq!(found.order, members);
            assert!(!exact || !some_ring_closes(&mut members.to_vec(), &mut vec![], unlinked));
        }
        OrderKind::Disconnected { without } => {
            assert!(largest < members.len());
            assert_eq!(found.order, members);
            let first = members[parts.iter().position(|&p| p == largest).unwrap()];
            let kept = reached(members, unlinked, first);
            let expected: Vec<PeerId> = members.iter().copied().filter(|m| !kept.contains(m)).collect();
            assert_eq!(without, &expected);
        }
    }
    if ring_closes(members, unlinked) {
        assert_eq!(found.order, members, "an order that closes stays");
    }
}

#[test]
fn every_graph_of_up_to_five_members_gets_what_brute_force_says() {
    for size in 1..=5 {
        let all: Vec<(usize, usize)> = (0..size).flat_map(|a| (a + 1..size).map(move |b| (a, b))).collect();
        for mask in 0..1u32 << all.len() {
            let chosen: Vec<_> =
                all.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1).map(|(_, &p)| p).collect();
            check(&peers(size), &pairs(&chosen), true);
        }
    }
}

#[test]
fn an_empty_group_and_a_group_of_one_are_rings() {
    assert_eq!(order(&[], &[]), Order { order: vec![], kind: OrderKind::ClosedRing });
    assert_eq!(order(&peers(1), &[]).kind, OrderKind::ClosedRing);
}

#[test]
fn of_two_that_cannot_reach_each_other_the_later_one_goes() {
    let found = order(&peers(2), &pairs(&[(0, 1)]));
    assert_eq!(found.kind, OrderKind::Disconnected { without: vec![peer(1)] });
}

#[test]
fn pairs_that_name_strangers_change_nothing() {
    let found = order(&peers(3), &pairs(&[(0, 7), (8, 9)]));
    assert_eq!(found, Order { order: peers(3), kind: OrderKind::ClosedRing });
}

#[test]
fn one_missing_link_between_neighbours_is_repaired_in_any_world() {
    for size in 4..40 {
        for a in 0..size {
            let unlinked = pairs(&[(a, (a + 1) % size)]);
            assert_eq!(order(&peers(size), &unlinked).kind, OrderKind::ClosedRing);
            check(&peers(size), &unlinked, false);
        }
    }
}

#[test]
fn a_hub_alone_is_connected_but_no_ring() {
    let size = 30;
    let spokes: Vec<(usize, usize)> = (1..size).flat_map(|a| (a + 1..size).map(move |b| (a, b))).collect();
    assert_eq!(order(&peers(size), &pairs(&spokes)).kind, OrderKind::Connected);
}

#[test]
fn the_petersen_graph_is_no_ring_until_one_member_leaves() {
    let edges = |a: usize, b: usize| {
        let (outer, inner) = (a < 5 && b < 5, a >= 5 && b >= 5);
        let steps = (b % 5 + 5 - a % 5) % 5;
        outer && (steps == 1 || steps == 4)
            || inner && (steps == 2 || steps == 3)
            || !outer && !inner && steps == 0
    };
    let missing: Vec<(usize, usize)> =
        (0..10).flat_map(|a| (a + 1..10).map(move |b| (a, b))).filter(|&(a, b)| !edges(a, b)).collect();
    assert_eq!(missing.len(), 45 - 15);
    assert_eq!(order(&peers(10), &pairs(&missing)).kind, OrderKind::Connected);
    let found = order(&peers(9), &pairs(&missing));
    assert_eq!(found.kind, OrderKind::ClosedRing);
    check(&peers(9), &pairs(&missing), false);
}

#[test]
fn the_search_ends_where_no_ring_exists_and_every_member_has_links() {
    // Two cliques that share one member: connected, all degrees high, no Hamiltonian cycle.
    let between: Vec<(usize, usize)> = (1..15).flat_map(|a| (15..30).map(move |b| (a, b))).collect();
    assert_eq!(order(&peers(30), &pairs(&between)).kind, OrderKind::Connected);
}

#[test]
fn a_thousand_members_with_many_missing_links_form_a_ring() {
    let size = 1000;
    // Nobody has a link to the next 20 in the given order.
    let unlinked: Vec<(usize, usize)> =
        (0..size).flat_map(|a| (1..=20).map(move |step| (a, (a + step) % size))).collect();
    assert_eq!(order(&peers(size), &pairs(&unlinked)).kind, OrderKind::ClosedRing);
}

proptest! {
    #[test]
    fn graphs_of_six_and_seven_get_what_brute_force_says(
        size in 6usize..=7,
        lost in prop::collection::vec((0usize..7, 0usize..7), 0..18),
    ) {
        let lost: Vec<_> = lost.into_iter().filter(|&(a, b)| a != b && a < size && b < size).collect();
        check(&peers(size), &pairs(&lost), true);
    }

    #[test]
    fn larger_graphs_get_a_sound_and_repeatable_order(
        size in 8usize..24,
        lost in prop::collection::vec((0usize..24, 0usize..24), 0..60),
    ) {
        let lost: Vec<_> = lost.into_iter().filter(|&(a, b)| a != b && a < size && b < size).collect();
        let (members, unlinked) = (peers(size), pairs(&lost));
        check(&members, &unlinked, false);
        let reversed: Vec<_> = unlinked.iter().rev().map(|&(a, b)| (b, a)).collect();
        prop_assert_eq!(order(&members, &unlinked), order(&members, &reversed));
    }
}
