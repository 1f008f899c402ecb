//! Which plan a group has in the end: of calls that are disturbed, and of searches that end late.

use super::topology::pairs;
use super::*;
use crate::limits::{FIGURE_FRESH_MS, MAX_MEASURE_RESTARTS};
use crate::types::{GroupInfo, Heard};

impl World {
    fn break_link(&mut self, a: usize, b: usize) {
        for (n, other) in [(a, b), (b, a)] {
            let lost = peer::Input::LinkLost { peer: id(other), reason: "reset".into(), others_left: 0 };
            self.peers[n].handle(lost, self.now);
        }
        self.pass(100);
    }

    /// Breaks one link after the other until the call of peer 0 has come to an end; says how many it took.
    fn break_links_until(&mut self, work: WorkId) -> u32 {
        let all: Vec<(usize, usize)> = pairs(self.peers.len()).filter(|(a, b)| a < b).collect();
        for (broken, (a, b)) in (0..).zip(all) {
            if self.outcome(0, work).is_some() {
                return broken;
            }
            self.break_link(a, b);
        }
        panic!("it never ends");
    }

    /// Peer `to` has got this much from peer `from`.
    fn observe(&mut self, from: usize, to: usize, bytes_per_second: u64) {
        let heard = vec![Heard { from: id(from), bytes_per_second }];
        self.peers[to].handle(peer::Input::Observed(heard), self.now);
        self.run();
    }

    /// So many that the search never comes to an end, few steps for it, and figures of which each more look finds better rings.
    fn rough() -> World {
        let mut world = World::measured(16);
        world.master.config.plan_steps = 20_000;
        for (a, b) in pairs(16) {
            world.rates.insert((a, b), 1_000_000 + (a * 7919 + b * 104_729) as u64 % 997 * 100_000);
        }
        world
    }
}

#[test]
fn links_that_keep_breaking_do_not_keep_a_call_for_ever() {
    let all: Vec<usize> = (0..7).collect();
    let mut world = World::measured(7);
    world.optimize(&all);
    world.pass(FIGURE_FRESH_MS);
    world.mute.extend(0..7);
    let works = world.optimize(&all);
    assert_eq!(world.break_links_until(works[0]), MAX_MEASURE_RESTARTS + 1);
    world.assert_optimized(&all, &works);

    // Not even the search for a plan is left in peace.
    let mut world = World::measured(7);
    world.plans_at_once = 0;
    let works = world.optimize(&all);
    assert_eq!(world.break_links_until(works[0]), 2 * MAX_MEASURE_RESTARTS + 1);
    assert_eq!(world.kind(0, works[0]), Some(ErrorKind::TopologyOptimizationFailed));
    assert_eq!(world.master.epoch().world_size(), 7, "and it costs nobody anything else");
}

#[test]
fn what_the_background_finds_is_taken_up_by_the_next_update() {
    let all: Vec<usize> = (0..16).collect();
    let mut world = World::rough();
    world.plans_at_once = 1;
    world.optimize(&all);
    let before = world.master.epoch().clone();
    let found = world.held_plans.pop().expect("a search in the background");
    world.master.handle(found, world.now);
    world.run();
    assert_eq!(world.master.epoch(), &before, "not at once");
    world.update(&all);
    let (then, now) = (&before.groups[0], &world.master.epoch().groups[0]);
    let least = |group: &GroupInfo| group.planned.as_ref().unwrap().least_us(1 << 28);
    assert!(least(now) < least(then), "{} {}", least(now), least(then));
}

#[test]
fn what_was_found_for_other_figures_is_not_taken_up() {
    let all: Vec<usize> = (0..16).collect();
    let mut world = World::rough();
    world.plans_at_once = 1;
    world.optimize(&all);
    let before = world.master.epoch().clone();
    let rate = world.rates[&(0, 1)];
    world.observe(0, 1, rate * 2);
    let found = world.held_plans.pop().unwrap();
    world.master.handle(found, world.now);
    world.run();
    world.update(&all);
    assert_eq!(world.master.epoch(), &before);
}

#[test]
fn a_plan_that_waits_for_its_epoch_gives_way_to_a_better_one_only() {
    let all: Vec<usize> = (0..16).collect();
    let pending = || {
        let mut world = World::rough();
        world.plans_at_once = 1;
        world.optimize(&all);
        let found = world.held_plans.pop().unwrap();
        world.master.handle(found, world.now);
        world.plans_at_once = usize::MAX;
        world.run();
        world
    };
    let mut updated = pending();
    updated.update(&all);
    let mut world = pending();
    let plan = |world: &World| world.master.epoch().groups[0].planned.clone();
    assert_ne!(plan(&world), plan(&updated));
    // Another plan is looked for, and not for long.
    world.master.config.plan_steps = 1;
    let rate = world.rates[&(0, 1)];
    world.observe(0, 1, rate + rate / 100);
    let plans = world.plans;
    let works = world.optimize(&all);
    world.assert_optimized(&all, &works);
    assert!(world.plans > plans);
    assert_eq!((world.order(), plan(&world)), (updated.order(), plan(&updated)));
}

#[test]
fn a_little_noise_is_no_reason_for_an_epoch() {
    let mut world = World::measured(4);
    world.optimize(&[0, 1, 2, 3]);
    world.kill(3);
    let epoch = world.master.epoch().clone();
    assert!(epoch.groups[0].planned.is_some(), "priced by what is known");
    world.observe(0, 1, 1_010_000);
    let plans = world.plans;
    let works = world.optimize(&[0, 1, 2]);
    world.assert_optimized(&[0, 1, 2], &works);
    assert!(world.plans > plans, "it was thought over");
    assert_eq!(world.master.epoch(), &epoch);
}

/// Two peers of a run that nothing was committed in are measured when those of an older run come back.
fn an_older_run_comes_back(measuring: impl Fn(&mut World)) -> World {
    let mut world = World::measured(2);
    for (a, b) in pairs(4) {
        world.rates.insert((a, b), 1_000_000);
    }
    (world.dead[0], world.dead[1]) = (true, true);
    world.restart_master();
    world.join(0);
    world.join(0);
    world.update(&[2]);
    assert_eq!(world.master.epoch().world_size(), 2);
    measuring(&mut world);
    let works = world.optimize(&[2, 3]);
    assert_eq!(world.outcome(2, works[0]), None, "it is under way");
    (world.dead[0], world.dead[1]) = (false, false);
    world.pass(3_000);
    let members: Vec<PeerId> = world.master.epoch().groups[0].order.clone();
    assert!(members.contains(&id(0)) && members.contains(&id(1)), "{:?}", world.events);
    for work in [(2, works[0]), (3, works[1])] {
        assert!(matches!(world.outcome(work.0, work.1), Some(Err(_))), "it ended with its run");
    }
    world
}

#[test]
fn a_run_that_makes_room_for_another_leaves_its_round() {
    let mut world = an_older_run_comes_back(|world| world.mute.extend([2, 3]));
    world.mute.clear();
    assert!(!world.probes.is_empty());
    let works = world.optimize(&[0, 1]);
    world.assert_optimized(&[0, 1], &works);
    assert!(world.is_planned());
}

#[test]
fn a_run_that_makes_room_for_another_leaves_its_plan() {
    let mut world = an_older_run_comes_back(|world| world.plans_at_once = 0);
    let epoch = world.master.epoch().clone();
    let late = world.held_plans.pop().expect("it was being made");
    world.master.handle(late, world.now);
    world.run();
    assert_eq!(world.master.epoch(), &epoch);
    world.plans_at_once = usize::MAX;
    let works = world.optimize(&[0, 1]);
    world.assert_optimized(&[0, 1], &works);
    assert!(world.is_planned());
}
