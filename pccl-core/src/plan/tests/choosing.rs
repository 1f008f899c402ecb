//! Which schedule, why, and when two peers mean the same.

use std::sync::Arc;

use super::{bytes, group, info};
use crate::limits::NEAR_RTT_US;
use crate::plan::chunks::{equal_share, piece_bytes, piece_elements};
use crate::plan::{PlanError, Reason, Schedule, choose, fallbacks, plan};
use crate::types::{
    Cost, DType, EpochInfo, ForestKind, GroupInfo, OpDescriptor, PackedTree, PeerId, Planned, PlannedForest,
    Quantization, ReduceOp, ScheduleChoice,
};
use proptest::prelude::*;

fn chosen(
    group: &GroupInfo,
    schedule: ScheduleChoice,
    size_bytes: u64,
) -> Result<(Schedule, Reason), PlanError> {
    choose(group, &EpochInfo { schedule, ..info(8) }, &bytes(size_bytes))
}

#[test]
fn tiny_payloads_are_sent_whole_to_everybody() {
    let auto = |world_size, piece_bytes, size_bytes| {
        choose(&group(world_size, &[]), &info(piece_bytes), &bytes(size_bytes)).unwrap()
    };
    // One frame; a share of what all others get; a piece.
    for (world_size, piece_bytes, limit_bytes) in [
        (2, 1 << 18, 32 << 10),
        (17, 1 << 18, 32 << 10),
        (33, 1 << 18, 16 << 10),
        (1024, 1 << 18, 512),
        (3, 64, 64),
    ] {
        let tiny = Reason::TinyPayload { size_bytes: limit_bytes, limit_bytes };
        assert_eq!(auto(world_size, piece_bytes, limit_bytes), (Schedule::Small, tiny));
        assert_eq!(auto(world_size, piece_bytes, limit_bytes + 1).0, Schedule::Mesh);
    }
    let lacks_a_diagonal = choose(&group(5, &[(1, 3)]), &info(64), &bytes(1));
    assert_eq!(lacks_a_diagonal, Ok((Schedule::Ring, Reason::MeshLacksLink(1, 3))));
    for choice in [ScheduleChoice::Ring, ScheduleChoice::Mesh] {
        let forced = choose(&group(3, &[]), &EpochInfo { schedule: choice, ..info(64) }, &bytes(1));
        assert_eq!(forced.unwrap().1, Reason::Forced);
    }
}

#[test]
fn small_payloads_use_the_mesh_and_large_ones_the_ring() {
    let limit_bytes = 5 * (64 << 10);
    let small = Reason::SmallPayload { size_bytes: limit_bytes, limit_bytes };
    let large = Reason::LargePayload { size_bytes: limit_bytes + 1, limit_bytes };
    let group = group(5, &[]);
    assert_eq!(chosen(&group, ScheduleChoice::Auto, limit_bytes), Ok((Schedule::Mesh, small)));
    assert_eq!(chosen(&group, ScheduleChoice::Auto, limit_bytes + 1), Ok((Schedule::Ring, large)));
}

#[test]
fn two_peers_use_the_mesh_at_any_size() {
    let two = Ok((Schedule::Mesh, Reason::WorldOfTwo));
    assert_eq!(chosen(&group(2, &[]), ScheduleChoice::Auto, 1 << 40), two);
}

#[test]
fn over_a_wide_area_the_mesh_is_used_at_any_size() {
    let far = |rtt_us| GroupInfo { rtt_us, ..group(5, &[]) };
    let wide = Ok((Schedule::Mesh, Reason::WideArea { rtt_us: 4096 }));
    assert_eq!(chosen(&far(4096), ScheduleChoice::Auto, 1 << 30), wide);
    for near in [0, 64, NEAR_RTT_US] {
        let (schedule, reason) = chosen(&far(near), ScheduleChoice::Auto, 1 << 30).unwrap();
        assert!(schedule == Schedule::Ring && matches!(reason, Reason::LargePayload { .. }));
    }
    let forced = Ok((Schedule::Ring, Reason::Forced));
    assert_eq!(chosen(&far(4096), ScheduleChoice::Ring, 1 << 30), forced);
    let gap = GroupInfo { rtt_us: 4096, ..group(5, &[(1, 3)]) };
    let lacks = Ok((Schedule::Ring, Reason::MeshLacksLink(1, 3)));
    assert_eq!(chosen(&gap, ScheduleChoice::Auto, 1 << 30), lacks);
    let about = Reason::WideArea { rtt_us: 131_072 }.to_string();
    assert_eq!(about, "a round trip of about 132 ms: paths between pairs count");
}

/// A ring of 1 ms and 3 ns a byte, a mesh of 2 ms and 2 ns, and stars of 9 ms and 1 ns.
fn measured(world_size: u16, unlinked: &[(u16, u16)]) -> GroupInfo {
    let cost = |latency_us, ps_per_byte| Cost { latency_us, ps_per_byte };
    let parents = vec![1; world_size.into()];
    let (reduce_parents, broadcast_parents) = (parents.clone(), parents);
    let trees = vec![PackedTree { owner: 1, share: 1, reduce_parents, broadcast_parents }];
    let forest = Some(PlannedForest { kind: ForestKind::Packed, cost: cost(9000, 1000), trees });
    let planned = Planned { ring: cost(1000, 3000), mesh: cost(2000, 2000), forest };
    GroupInfo { planned: Some(Arc::new(planned)), ..group(world_size, unlinked) }
}

fn without_forest(group: &GroupInfo) -> GroupInfo {
    let planned = Planned { forest: None, ..(**group.planned.as_ref().unwrap()).clone() };
    GroupInfo { planned: Some(Arc::new(planned)), ..group.clone() }
}

#[test]
fn in_a_measured_network_the_least_predicted_time_decides() {
    let auto = |group: &GroupInfo, size_bytes| chosen(group, ScheduleChoice::Auto, size_bytes).unwrap();
    let group = measured(5, &[]);
    let reason = |ring: u64, mesh: u64, forest: u64| Reason::Predicted {
        ring_us: Some(ring * 100),
        mesh_us: Some(mesh * 100),
        forest: Some((ForestKind::Packed, forest * 100)),
    };
    assert_eq!(auto(&group, 100_000), (Schedule::Ring, reason(13, 22, 91)));
    assert_eq!(auto(&group, 1_000_000).0, Schedule::Mesh, "equal times: the simplest");
    assert_eq!(auto(&group, 2_000_000), (Schedule::Mesh, reason(70, 60, 110)));
    assert_eq!(auto(&group, 10_000_000), (Schedule::Packed, reason(310, 220, 190)));
    assert_eq!(auto(&without_forest(&group), 10_000_000).0, Schedule::Mesh);
    let text = auto(&group, 10_000_000).1.to_string();
    assert_eq!(text, "predicted times: ring 31.0 ms, mesh 22.0 ms, packed 19.0 ms");
    let tiny = choose(&group, &info(1 << 18), &bytes(4096)).unwrap();
    assert!(matches!(tiny, (Schedule::Small, Reason::TinyPayload { .. })));
    assert_eq!(auto(&measured(2, &[]), 1 << 30).0, Schedule::Packed);
}

#[test]
fn what_is_quantized_counts_as_what_travels() {
    let group = measured(5, &[]);
    let plain = OpDescriptor::plain(2_500_000, DType::F32, ReduceOp::Sum);
    let of = |group: &GroupInfo, quantization| {
        choose(group, &info(8), &OpDescriptor { quantization, ..plain }).unwrap()
    };
    assert_eq!(of(&group, Quantization::None).0, Schedule::Packed, "10 MB");
    let (schedule, reason) = of(&group, Quantization::MinMax(DType::U8));
    let bytes = plain.count + plain.count.div_ceil(2048) * 8;
    let Reason::Predicted { ring_us, .. } = reason else { panic!("{reason}") };
    assert_eq!((schedule, ring_us), (Schedule::Mesh, Some(1_000 + bytes * 3 / 1000)));
    // Nobody has measured: 5 × 64 KiB are 327,680 bytes.
    let near = GroupInfo { planned: None, ..group };
    let few = OpDescriptor { count: 100_000, ..plain };
    let quantized = OpDescriptor { quantization: Quantization::Float8E4M3, ..few };
    assert_eq!(choose(&near, &info(8), &few).unwrap().0, Schedule::Ring);
    assert_eq!(choose(&near, &info(8), &quantized).unwrap().0, Schedule::Mesh);
}

#[test]
fn predicted_times_count_only_of_what_can_run() {
    let lacks_a_diagonal = measured(5, &[(0, 3)]);
    let (schedule, reason) = chosen(&lacks_a_diagonal, ScheduleChoice::Auto, 2_000_000).unwrap();
    assert!(schedule == Schedule::Ring && matches!(reason, Reason::Predicted { mesh_us: None, .. }));
    assert_eq!(chosen(&lacks_a_diagonal, ScheduleChoice::Auto, 4).unwrap().0, Schedule::Ring);
    let no_ring = measured(5, &[(2, 3)]);
    let (schedule, reason) = chosen(&no_ring, ScheduleChoice::Auto, 4).unwrap();
    assert!(schedule == Schedule::Packed && matches!(reason, Reason::Predicted { ring_us: None, .. }));
    assert_eq!(reason.to_string(), "predicted times: packed 9.0 ms");
    let neither = chosen(&without_forest(&no_ring), ScheduleChoice::Auto, 1 << 30);
    assert_eq!(neither, Ok((Schedule::Trees, Reason::RingLacksLink(2, 3))));
}

#[test]
fn the_masters_setting_wins_over_predictions() {
    let forced = |group: &GroupInfo, choice| chosen(group, choice, 1 << 30).unwrap();
    let group5 = measured(5, &[]);
    assert_eq!(forced(&group5, ScheduleChoice::Ring), (Schedule::Ring, Reason::Forced));
    assert_eq!(forced(&group5, ScheduleChoice::Mesh), (Schedule::Mesh, Reason::Forced));
    assert_eq!(forced(&group5, ScheduleChoice::Packed), (Schedule::Packed, Reason::Forced));
    assert_eq!(forced(&without_forest(&group5), ScheduleChoice::Packed).0, Schedule::Mesh);
    assert_eq!(forced(&group(5, &[]), ScheduleChoice::Packed).0, Schedule::Ring);
}

#[test]
fn the_digest_tells_forests_apart() {
    let base = measured(3, &[]);
    let of = |group: &GroupInfo| {
        let info = EpochInfo { schedule: ScheduleChoice::Packed, ..info(64) };
        plan(group, &info, 2, &bytes(500)).unwrap().digest
    };
    let changed = |change: fn(&mut PackedTree)| {
        let mut planned = (**base.planned.as_ref().unwrap()).clone();
        change(&mut planned.forest.as_mut().unwrap().trees[0]);
        of(&GroupInfo { planned: Some(Arc::new(planned)), ..base.clone() })
    };
    let digests = [
        of(&base),
        changed(|tree| tree.share = 2),
        changed(|tree| tree.reduce_parents[0] = 2),
        changed(|tree| tree.broadcast_parents[0] = 2),
    ];
    assert!((0..4).all(|a| (0..a).all(|b| digests[a] != digests[b])), "{digests:?}");
    let mut planned = (**base.planned.as_ref().unwrap()).clone();
    planned.ring.latency_us += 1;
    assert_eq!(of(&GroupInfo { planned: Some(Arc::new(planned)), ..base.clone() }), digests[0]);
}

#[test]
fn the_masters_setting_wins_where_it_can() {
    let linked = group(5, &[]);
    assert_eq!(chosen(&linked, ScheduleChoice::Mesh, 1 << 30), Ok((Schedule::Mesh, Reason::Forced)));
    assert_eq!(chosen(&linked, ScheduleChoice::Ring, 1), Ok((Schedule::Ring, Reason::Forced)));
    let lacks_a_diagonal = group(5, &[(1, 3)]);
    assert_eq!(chosen(&lacks_a_diagonal, ScheduleChoice::Ring, 1), Ok((Schedule::Ring, Reason::Forced)));
}

#[test]
fn a_mesh_that_lacks_a_link_becomes_a_ring() {
    let expected = Ok((Schedule::Ring, Reason::MeshLacksLink(1, 3)));
    assert_eq!(chosen(&group(5, &[(1, 3)]), ScheduleChoice::Mesh, 1), expected);
    assert_eq!(chosen(&group(5, &[(1, 3)]), ScheduleChoice::Auto, 1), expected);
}

#[test]
fn a_ring_that_lacks_a_link_becomes_trees() {
    for choice in [ScheduleChoice::Auto, ScheduleChoice::Ring, ScheduleChoice::Mesh] {
        let closing = Ok((Schedule::Trees, Reason::RingLacksLink(0, 4)));
        assert_eq!(chosen(&group(5, &[(0, 4)]), choice, 1), closing);
        let inner = Ok((Schedule::Trees, Reason::RingLacksLink(2, 3)));
        assert_eq!(chosen(&group(5, &[(0, 2), (2, 3)]), choice, 1 << 30), inner);
    }
}

#[test]
fn without_a_way_or_a_partner_there_is_no_plan() {
    let split = group(4, &[(0, 2), (0, 3), (1, 2), (1, 3)]);
    let disconnected = PlanError::Disconnected { unreachable: 2 };
    assert_eq!(chosen(&split, ScheduleChoice::Auto, 9), Err(disconnected));
    assert_eq!(plan(&split, &info(8), 1, &bytes(9)), Err(disconnected));
    assert_eq!(
        chosen(&group(2, &[(0, 1)]), ScheduleChoice::Auto, 9),
        Err(PlanError::Disconnected { unreachable: 1 })
    );
    assert_eq!(plan(&group(1, &[]), &info(8), 0, &bytes(9)), Err(PlanError::Alone));
    assert_eq!(
        plan(&group(3, &[]), &info(8), 3, &bytes(9)),
        Err(PlanError::NoSuchRank { rank: 3, world_size: 3 })
    );
}

#[test]
fn pairs_of_ranks_that_do_not_exist_change_nothing() {
    assert_eq!(
        chosen(&group(3, &[(1, 9), (2, 3)]), ScheduleChoice::Mesh, 1),
        Ok((Schedule::Mesh, Reason::Forced))
    );
}

#[test]
fn reasons_read_as_sentences() {
    assert_eq!(Reason::MeshLacksLink(1, 3).to_string(), "no mesh, as ranks 1 and 3 have no link");
    let small = Reason::SmallPayload { size_bytes: 4, limit_bytes: 8 };
    assert_eq!(small.to_string(), "4 bytes are at most 8: latency counts");
}

#[test]
fn a_digest_tells_everything_apart_that_a_plan_follows_from() {
    let base = OpDescriptor::plain(1000, DType::F32, ReduceOp::Sum);
    let group3 = group(4, &[]);
    let mut swapped = group3.clone();
    swapped.order.swap(0, 1);
    let mut stranger = group3.clone();
    stranger.order[3] = PeerId([9; 16]);
    let ring = EpochInfo { schedule: ScheduleChoice::Ring, ..info(64) };
    let quantized = |quantization| OpDescriptor { quantization, ..base };
    let cases = [
        (&group3, info(64), base),
        (&swapped, info(64), base),
        (&stranger, info(64), base),
        (&group(4, &[(0, 2)]), info(64), base),
        (&group(4, &[(1, 3)]), info(64), base),
        (&group(4, &[(1, 2)]), info(64), base),
        (&group3, ring, base),
        (&group3, info(128), base),
        (&group3, info(64), OpDescriptor { count: 1001, ..base }),
        (&group3, info(64), OpDescriptor { op: ReduceOp::Avg, ..base }),
        (&group3, info(64), OpDescriptor { dtype: DType::I32, ..base }),
        (&group3, info(64), quantized(Quantization::MinMax(DType::U8))),
        (&group3, info(64), quantized(Quantization::MinMax(DType::U16))),
        (&group3, info(64), quantized(Quantization::ZeroPointScale(DType::U8))),
    ];
    let mut digests: Vec<u32> = Vec::new();
    for (group, info, descriptor) in &cases {
        let of_each: Vec<u32> =
            (0..4).map(|rank| plan(group, info, rank, descriptor).unwrap().digest).collect();
        assert!(of_each.iter().all(|&digest| digest == of_each[0]), "all members mean the same");
        digests.push(of_each[0]);
    }
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), cases.len());
}

#[test]
fn what_an_epoch_says_of_other_things_is_not_in_the_digest() {
    let base = plan(&group(3, &[]), &info(64), 0, &bytes(9)).unwrap().digest;
    let later = EpochInfo { phase_seq: 7, epoch: crate::types::Epoch(9), ..info(64) };
    assert_eq!(plan(&group(3, &[]), &later, 0, &bytes(9)).unwrap().digest, base);
}

#[test]
fn a_piece_has_at_least_one_element_and_its_number_fits() {
    assert_eq!(piece_elements(64, &OpDescriptor::plain(9, DType::F64, ReduceOp::Sum)), 8);
    assert_eq!(piece_elements(0, &OpDescriptor::plain(9, DType::F64, ReduceOp::Sum)), 1);
    assert_eq!(piece_elements(8, &bytes(1 << 40)), 257);
}

proptest! {
    #[test]
    fn shares_tile_any_payload_and_differ_by_one_at_most(count in any::<u64>(), world_size in 1u16..1024) {
        let shares: Vec<_> = (0..world_size).map(|owner| equal_share(count, world_size, owner)).collect();
        let mut end = 0;
        for &(first, elements) in &shares {
            prop_assert_eq!(first, end);
            end += elements;
            prop_assert!(elements.abs_diff(count / u64::from(world_size)) <= 1);
        }
        prop_assert_eq!(end, count);
    }
}

#[test]
fn what_gives_way_for_want_of_a_link_is_said_with_the_pairs_names() {
    assert_eq!(fallbacks(&group(5, &[]), &info(8)), [""; 0]);
    let diagonal = group(5, &[(1, 3)]);
    let line = "group 0: no mesh, as ranks 1 and 3 have no link (peers 4d000000 and e7000000): ring";
    assert_eq!(fallbacks(&diagonal, &info(8)), [line]);
    let ring = EpochInfo { schedule: ScheduleChoice::Ring, ..info(8) };
    assert_eq!(fallbacks(&diagonal, &ring), [""; 0], "a ring needs no diagonal");
    let line =
        "group 0: no ring, as its neighbours 0 and 4 have no link (peers 00000000 and 34010000): trees";
    assert_eq!(fallbacks(&group(5, &[(0, 4)]), &ring), [line]);
}

#[test]
fn near_peers_cut_large_shares_into_longer_pieces() {
    let (small, large) = (bytes((64 << 20) - 1), bytes(64 << 20));
    assert_eq!(piece_bytes(256 << 10, true, 4, &large), 1 << 20);
    assert_eq!(piece_bytes(256 << 10, true, 4, &small), 256 << 10);
    assert_eq!(piece_bytes(256 << 10, false, 4, &large), 256 << 10);
    assert_eq!(piece_bytes(4 << 20, true, 1, &bytes(1 << 40)), 4 << 20);
}

#[test]
fn far_peers_cut_a_share_into_a_piece_for_each_connection() {
    let pieces = |size_bytes| piece_bytes(256 << 10, false, 4, &bytes(size_bytes));
    assert_eq!(pieces(1 << 20), 32 << 10);
    assert_eq!(pieces(3 << 20), 96 << 10);
    assert_eq!(pieces((3 << 20) + 4), 112 << 10, "nothing is left over for a ninth piece");
    assert_eq!(pieces(1000), 32 << 10, "and no less");
    for large in [8 << 20, 1 << 40, u64::MAX] {
        assert_eq!(pieces(large), 256 << 10, "the setting is the most");
    }
    assert_eq!(piece_bytes(64, false, 4, &bytes(1 << 20)), 64, "also where it is less than that");
}
