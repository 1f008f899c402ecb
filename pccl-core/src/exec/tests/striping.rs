//! What goes to a peer goes over whichever of its links is free.

use super::world::{Shape, World, expected, inputs, key};
use crate::types::{DType, LinkId, OpDescriptor, ReduceOp, ScheduleChoice};
use crate::wire::frame::FRAME_HEADER_BYTES;

const LINKS: usize = 4;

fn shapes() -> Vec<(Shape, OpDescriptor)> {
    let large = OpDescriptor::plain(400, DType::U32, ReduceOp::Sum);
    let of = |world_size, schedule| Shape { world_size, schedule, links_per_pair: LINKS, ..Shape::default() };
    vec![
        (of(2, ScheduleChoice::Mesh), large),
        (of(3, ScheduleChoice::Ring), large),
        // Contributions ahead of their turns are granted one by one.
        (Shape { budget_bytes: 0, ..of(4, ScheduleChoice::Mesh) }, large),
        (of(3, ScheduleChoice::Auto), OpDescriptor::plain(8, DType::U32, ReduceOp::Sum)),
    ]
}

/// Ranks 0 and 1 have these links, by the id of the direction from 0 to 1.
fn links_of_first_pair(world: &World) -> Vec<LinkId> {
    let pairs = world.shape.world_size * (world.shape.world_size - 1) / 2;
    (0..LINKS).map(|nth| LinkId((2 * nth * pairs) as u64)).collect()
}

fn stand(world: &World, direction: LinkId, at: Option<usize>) {
    world.pipes[&direction].borrow_mut().stands_at = at;
}

#[test]
fn what_a_link_that_stands_still_has_not_begun_to_send_goes_over_the_others() {
    for (shape, descriptor) in shapes() {
        for seed in 0..10 {
            let mut world = World::new(Shape { seed, ..shape.clone() });
            let links = links_of_first_pair(&world);
            // One way or the other, all but one.
            let standing: Vec<LinkId> = links[1..].iter().map(|link| LinkId(link.0 + seed % 2)).collect();
            standing.iter().for_each(|link| stand(&world, *link, Some(0)));
            let inputs = inputs(descriptor, shape.world_size, 1);
            for seq in 0..3 {
                world.start_all(key(1, 0, seq), descriptor, &inputs, seq == 1);
                world.run();
                world.commit(key(1, 0, seq), &expected(descriptor, &inputs));
            }
            assert!(
                world.hosts.iter().all(|host| host.engine.next_deadline().is_none()),
                "nothing waits there"
            );

            // They are used again as soon as they take something.
            standing.iter().for_each(|link| stand(&world, *link, None));
            world.start_all(key(1, 0, 3), descriptor, &inputs, false);
            world.run();
            world.commit(key(1, 0, 3), &expected(descriptor, &inputs));
            let used = standing.iter().any(|link| world.pipes[link].borrow().total > 0);
            assert!(used || descriptor.count < 100, "{:?}", shape.schedule);
        }
    }
}

#[test]
fn grants_behind_one_that_was_sent_whole_go_over_the_others_too() {
    for (shape, descriptor) in shapes() {
        let mut done = 0;
        for nth in 0..2 * LINKS {
            let mut world = World::new(Shape { seed: nth as u64, ..shape.clone() });
            let link = LinkId(links_of_first_pair(&world)[nth / 2].0 + nth as u64 % 2);
            stand(&world, link, Some(FRAME_HEADER_BYTES));
            let inputs = inputs(descriptor, shape.world_size, 1);
            world.start_all(key(1, 0, 0), descriptor, &inputs, true);
            world.run();
            // Where that was the header of a piece, the piece is begun, and stays.
            done += usize::from(world.hosts.iter().all(|host| host.done.contains(&key(1, 0, 0))));
            stand(&world, link, None);
            world.run();
            world.commit(key(1, 0, 0), &expected(descriptor, &inputs));
        }
        assert!(done > 0, "{:?}", shape.schedule);
    }
}
