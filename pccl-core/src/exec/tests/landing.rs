//! What an operation costs that is not time: copies, calls of the system, pieces, grants. A change that adds one
//! is seen here without a clock.

use super::world::{Shape, World, expected, inputs, key};
use crate::obs::Counters;
use crate::types::{DType, OpDescriptor, ReduceOp, ScheduleChoice};
use crate::wire::frame::{FRAME_HEADER_BYTES, TRAILER_BYTES};

/// A payload that cuts into three chunks of four pieces, of three segments each.
const COUNT: u64 = 3 * 4 * 3 * 16;
const SEGMENT_BYTES: usize = 16 * 8;
const DESCRIPTOR: fn() -> OpDescriptor = || OpDescriptor::plain(COUNT, DType::U64, ReduceOp::Sum);

/// Three peers over links that take all they are given at once. Also how many reads found something.
fn counted(schedule: ScheduleChoice, budget_bytes: usize, in_place: bool) -> (Vec<Counters>, usize) {
    let shape = Shape {
        world_size: 3,
        schedule,
        budget_bytes,
        piece_bytes: 3 * SEGMENT_BYTES as u32,
        segment_bytes: SEGMENT_BYTES,
        pump_budget_bytes: 1 << 20,
        step: 1 << 20,
        capacity: 1 << 20,
        ..Shape::default()
    };
    let mut world = World::new(shape);
    let inputs = inputs(DESCRIPTOR(), 3, 3);
    world.start_all(key(1, 5, 0), DESCRIPTOR(), &inputs, in_place);
    world.run();
    world.commit(key(1, 5, 0), &expected(DESCRIPTOR(), &inputs));
    let reads = world.pipes.values().map(|pipe| pipe.borrow().reads).sum();
    (world.hosts.iter().map(|host| host.engine.counters().clone()).collect(), reads)
}

fn sum(counters: &[Counters], of: impl Fn(&Counters) -> u64) -> u64 {
    counters.iter().map(of).sum()
}

/// Each piece of each chunk goes to the owner, or on towards it, twice, and comes back twice.
const PIECES: u64 = 12 * 4;
/// A window for all that comes ahead of its turn.
const PLENTY: usize = 1 << 20;

#[test]
fn every_byte_crosses_a_link_once_lands_once_and_is_added_once() {
    let payload = COUNT * 8;
    // To each sender one grant; in a mesh without windows a named one as well for each piece's second child.
    let (ring, mesh) = (ScheduleChoice::Ring, ScheduleChoice::Mesh);
    for (schedule, budget, op_grants, piece_grants) in
        [(ring, 0, 3, 0), (mesh, 0, 6, 12), (mesh, PLENTY, 6, 0)]
    {
        for in_place in [false, true] {
            let (all, _) = counted(schedule, budget, in_place);
            assert_eq!(sum(&all, |c| c.pieces_sent), PIECES, "{schedule:?}");
            assert_eq!(sum(&all, |c| c.pieces_received), PIECES, "{schedule:?}");
            let grants = op_grants + piece_grants;
            assert_eq!(sum(&all, |c| c.grants_sent), grants, "{schedule:?}");
            assert_eq!(sum(&all, |c| c.grants_received), grants, "{schedule:?}");
            // What is added beside the own input: two contributions to each element.
            assert_eq!(sum(&all, |c| c.bytes_reduced), 2 * payload, "{schedule:?}");
            // Out of place nothing is ever copied; in place each element is saved once by each peer.
            let copied = if in_place { 3 * payload } else { 0 };
            assert_eq!(sum(&all, |c| c.bytes_copied), copied, "{schedule:?}");
            // On the links: the payload four times, framed by segment, and the grants; nothing else.
            let frames = PIECES * 3 * (FRAME_HEADER_BYTES + TRAILER_BYTES) as u64;
            let bytes = 4 * payload + frames + grants * FRAME_HEADER_BYTES as u64;
            assert_eq!(sum(&all, |c| c.bytes_written), bytes, "{schedule:?}");
            assert_eq!(sum(&all, |c| c.bytes_read), bytes, "{schedule:?}");
        }
    }
}

#[test]
fn a_segment_leaves_with_one_call_of_the_system_and_comes_with_at_most_two() {
    for schedule in [ScheduleChoice::Ring, ScheduleChoice::Mesh] {
        let (all, reads) = counted(schedule, PLENTY, true);
        let segments = 3 * PIECES;
        let grants = sum(&all, |c| c.grants_sent);
        let writes = sum(&all, |c| c.writes);
        assert!((segments..=segments + grants).contains(&writes), "{schedule:?}: {writes} writes");
        // Not `Counters::reads`: those that found nothing count there, and the test looks at each link all the time.
        assert!(reads as u64 <= 2 * segments + grants, "{schedule:?}: {reads} reads found something");
    }
}
