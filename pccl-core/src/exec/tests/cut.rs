//! A connection that is cut, after each byte it ever carries.

use super::pipe::PipeRef;
use super::world::{Shape, World, expected, inputs, key};
use crate::types::{DType, Epoch, LinkId, OpDescriptor, OpKey, Rank, ReduceOp, ScheduleChoice};

const OLD: fn() -> OpKey = || key(1, 3, 0);
const DESCRIPTOR: fn() -> OpDescriptor = || OpDescriptor::plain(7, DType::I16, ReduceOp::Sum);

fn started(shape: &Shape, in_place: bool) -> (World, Vec<Vec<u8>>) {
    let mut world = World::new(shape.clone());
    let inputs = inputs(DESCRIPTOR(), shape.world_size, 1);
    world.start_all(OLD(), DESCRIPTOR(), &inputs, in_place);
    (world, inputs)
}

/// The ends of a link, by the id of either direction: links are numbered in the order of `World::new`.
fn ends(shape: &Shape, link: LinkId) -> (usize, usize) {
    let n = shape.world_size;
    let linked = |(a, b): &(usize, usize)| !shape.unlinked.contains(&(*a as Rank, *b as Rank));
    let pairs = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).filter(linked);
    pairs.cycle().nth(link.0 as usize / 2).unwrap()
}

/// What every survivor owes its program: no `Done` for a result it does not hold, the input back, and no write
/// afterwards. Then, over a new link, the sum.
fn abort_and_retry(world: &mut World, inputs: &[Vec<u8>], cut: (usize, usize), in_place: bool, what: &str) {
    let sum = expected(DESCRIPTOR(), inputs);
    for (rank, input) in inputs.iter().enumerate() {
        let memory = &world.memory[&(rank, OLD())];
        assert!(
            !world.hosts[rank].done.contains(&OLD()) || memory.result() == sum,
            "{what}: rank {rank} lies"
        );
        let stopped = world.hosts[rank].engine.stop(OLD());
        assert!(stopped.is_some(), "{what}: rank {rank}");
        assert_eq!(world.memory[&(rank, OLD())].input(), input, "{what}: rank {rank}");
    }
    let left: Vec<Vec<u8>> =
        (0..inputs.len()).map(|rank| world.memory[&(rank, OLD())].result().to_vec()).collect();
    let lost: Vec<usize> = world.hosts.iter().map(|host| host.lost.len()).collect();
    let at_ends = (0..inputs.len()).map(|rank| usize::from(rank == cut.0 || rank == cut.1));
    assert_eq!(lost, at_ends.collect::<Vec<_>>(), "{what}: links lost by rank");

    let new = key(2, 3, 0);
    for host in &mut world.hosts {
        host.lost.clear();
        host.engine.enter_epoch(Epoch(2));
    }
    world.connect(cut.0, cut.1);
    world.start_all(new, DESCRIPTOR(), inputs, in_place);
    world.run();
    world.commit(new, &sum);
    for (rank, result) in left.iter().enumerate() {
        assert_eq!(
            world.memory[&(rank, OLD())].result(),
            result,
            "{what}: rank {rank} written to after its stop"
        );
    }
}

/// Cuts every direction of every link after each of its bytes, and before the first (or after every `stride`).
fn cut_everywhere(name: &str, shape: &Shape, in_place: bool, loses: bool, stride: usize) {
    let (mut whole, _) = started(shape, in_place);
    whole.run();
    assert!(whole.hosts.iter().all(|host| host.done.contains(&OLD())), "{name}: nothing was cut yet");
    let totals: Vec<(LinkId, usize)> =
        whole.pipes.iter().map(|(link, pipe)| (*link, pipe.borrow().total)).collect();
    for (link, total) in totals {
        for at in (0..total).step_by(stride) {
            let shape = Shape { seed: at as u64, step: 40 + at % 90, ..shape.clone() };
            let what = format!("{name}, in place: {in_place}, {link:?} cut at {at}, loses: {loses}");
            let mut world = World::new(shape.clone());
            let pipe: &PipeRef = &world.pipes[&link];
            pipe.borrow_mut().cut_at = Some(at);
            pipe.borrow_mut().cut_loses = loses;
            let inputs = inputs(DESCRIPTOR(), shape.world_size, 1);
            world.start_all(OLD(), DESCRIPTOR(), &inputs, in_place);
            world.run();
            let all_done = world.hosts.iter().all(|host| host.done.contains(&OLD()));
            assert!(!all_done, "{what}: all are done without the rest of the bytes");
            abort_and_retry(&mut world, &inputs, ends(&shape, link), in_place, &what);
        }
    }
}

fn shapes() -> Vec<(&'static str, Shape)> {
    let base = Shape { piece_bytes: 8, segment_bytes: 8, ..Shape::default() };
    let three = Shape { world_size: 3, ..base.clone() };
    let auto = ScheduleChoice::Auto;
    vec![
        ("ring of two", base.clone()),
        ("auto of two", Shape { schedule: auto, ..base }),
        ("ring of three", three.clone()),
        ("mesh of three", Shape { schedule: ScheduleChoice::Mesh, ..three.clone() }),
        ("auto of three", Shape { schedule: auto, ..three.clone() }),
        ("small of two", Shape { schedule: auto, piece_bytes: 64, world_size: 2, ..three.clone() }),
        ("small of three", Shape { schedule: auto, piece_bytes: 64, ..three.clone() }),
        ("trees of three", Shape { unlinked: vec![(0, 2)], ..three }),
    ]
}

#[test]
fn a_cut_after_any_byte_leaves_every_input_intact_and_a_retry_over_a_new_link_gives_the_sum() {
    for (name, shape) in shapes() {
        cut_everywhere(name, &shape, true, true, 1);
        cut_everywhere(name, &shape, false, true, 1);
    }
}

#[test]
fn a_cut_that_lets_through_what_was_under_way_does_no_more_harm() {
    for (name, shape) in shapes() {
        cut_everywhere(name, &shape, true, false, 7);
    }
}
