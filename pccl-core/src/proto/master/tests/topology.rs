//! `optimize_topology`: what is measured, what becomes of it, and what a peer that goes, lies or is late can do.

use super::*;
use crate::limits::{FIGURE_FRESH_MS, MAX_CONTROL_QUEUE_BYTES, PROBE_REPORT_MS};
use crate::types::{GroupInfo, Heard, ProbeOrder, ProbeReport, RoundTrip, Sent};

const OPTIMIZE: Call = Call::Phase(PhaseCall::OptimizeTopology);

impl World {
    /// So many members, with the same rate between all of them.
    pub(super) fn measured(n: usize) -> World {
        let mut world = World::of(n);
        for (a, b) in pairs(n) {
            world.rates.insert((a, b), 1_000_000);
        }
        world
    }

    pub(super) fn probe(&mut self, n: usize, order: ProbeOrder) {
        self.probes.push((n, order.clone()));
        if self.mute.contains(&n) {
            return;
        }
        let report = self.report(n, &order);
        self.peers[n].handle(peer::Input::Probed(report), self.now);
    }

    fn report(&self, n: usize, order: &ProbeOrder) -> ProbeReport {
        let place = |id: &PeerId| self.peers.iter().position(|peer| peer.id() == *id).unwrap();
        let rate = |from: &PeerId| self.rates.get(&(place(from), n)).copied().unwrap_or(0);
        let heard = order.from.iter().map(|from| Heard { from: *from, bytes_per_second: rate(from) });
        let round_trips = order.to.iter().map(|to| RoundTrip { to: *to, rtt_us: 1000 });
        let rate_to = |to: &PeerId| self.rates.get(&(n, place(to))).copied().unwrap_or(0);
        let sent = order.to.iter().map(|to| Sent { to: *to, bytes_per_second: rate_to(to) });
        ProbeReport {
            number: order.number,
            heard: heard.collect(),
            round_trips: round_trips.collect(),
            sent: sent.collect(),
        }
    }

    pub(super) fn optimize(&mut self, who: &[usize]) -> Vec<WorkId> {
        who.iter().map(|n| self.call(*n, OPTIMIZE)).collect()
    }

    pub(super) fn assert_optimized(&self, who: &[usize], works: &[WorkId]) {
        for (n, work) in who.iter().zip(works) {
            assert_eq!(self.outcome(*n, *work), Some(Ok(Done::Optimized)), "peer {n}");
        }
    }

    pub(super) fn order(&self) -> Vec<usize> {
        let order = &self.master.epoch().groups[0].order;
        order.iter().map(|id| self.peers.iter().position(|peer| peer.id() == *id).unwrap()).collect()
    }

    pub(super) fn is_planned(&self) -> bool {
        self.master.epoch().groups[0].planned.is_some()
    }

    /// Rounds in which anybody was told to measure.
    fn rounds(&self) -> usize {
        self.probes.iter().map(|(_, order)| order.number).collect::<std::collections::BTreeSet<_>>().len()
    }
}

pub(super) fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |a| (0..n).filter(move |b| *b != a).map(move |b| (a, b)))
}

#[test]
fn what_was_measured_makes_the_order() {
    let mut world = World::measured(4);
    // A ring over slow pairs only, unless it goes 0, 2, 1, 3.
    for (a, b) in pairs(4) {
        let fast = [(0, 2), (2, 1), (1, 3), (3, 0)].contains(&(a, b));
        world.rates.insert((a, b), if fast { 100_000_000 } else { 100_000 });
    }
    let before = world.master.epoch().epoch;
    let works = world.optimize(&[0, 1, 2, 3]);
    world.assert_optimized(&[0, 1, 2, 3], &works);
    assert_eq!(world.order(), [0, 2, 1, 3]);
    assert!(world.is_planned());
    assert_eq!(world.master.epoch().epoch, before.next(), "one epoch for it");
    // Three rounds of pairs, and one of everybody.
    assert_eq!(world.rounds(), 4);
    for (n, order) in world.probes.iter().take(12) {
        assert_eq!((order.to.len(), order.from.len(), order.rounds), (1, 1, 4), "peer {n}");
    }
}

#[test]
fn what_is_fresh_is_not_measured_again() {
    let mut world = World::measured(3);
    world.optimize(&[0, 1, 2]);
    let rounds = world.rounds();
    let epoch = world.master.epoch().clone();
    let plans = world.plans;
    let works = world.optimize(&[0, 1, 2]);
    world.assert_optimized(&[0, 1, 2], &works);
    assert_eq!(world.plans, plans, "no search, neither in the call nor beside it");
    assert_eq!(
        (world.rounds(), world.master.epoch()),
        (rounds, &epoch),
        "nothing new: no round and no epoch"
    );
    world.pass(FIGURE_FRESH_MS);
    let works = world.optimize(&[0, 1, 2]);
    world.assert_optimized(&[0, 1, 2], &works);
    assert_eq!(world.rounds(), 2 * rounds);
}

#[test]
fn what_operations_got_is_not_measured_again() {
    let mut world = World::measured(3);
    world.optimize(&[0, 1, 2]);
    world.pass(FIGURE_FRESH_MS);
    world.probes.clear();
    for n in 0..3 {
        let others = (0..3).filter(|other| *other != n);
        let heard = others.map(|other| Heard { from: id(other), bytes_per_second: 900_000 }).collect();
        world.peers[n].handle(peer::Input::Observed(heard), world.now);
    }
    let works = world.optimize(&[0, 1, 2]);
    world.assert_optimized(&[0, 1, 2], &works);
    assert!(
        world.probes.iter().all(|(_, order)| order.to.len() == 2),
        "one round of everybody: {:?}",
        world.probes
    );
}

#[test]
fn only_a_newcomers_links_are_measured() {
    let mut world = World::measured(3);
    world.optimize(&[0, 1, 2]);
    world.join(0);
    world.update(&[0, 1, 2]);
    assert!(!world.is_planned(), "not all of it is known");
    for n in 0..3 {
        world.rates.extend([((3, n), 500_000), ((n, 3), 500_000)]);
    }
    world.probes.clear();
    let works = world.optimize(&[0, 1, 2, 3]);
    world.assert_optimized(&[0, 1, 2, 3], &works);
    let together = world.probes.iter().filter(|(_, order)| order.to.len() > 1).count();
    assert_eq!(together, 4, "with somebody new, what own links carry is new");
    let pairs: usize = world.probes.iter().map(|(_, order)| order.to.len()).filter(|len| *len == 1).sum();
    assert_eq!(pairs, 6);
    assert!(world.is_planned());
}

#[test]
fn nobody_is_admitted() {
    let mut world = World::measured(2);
    let connect = world.join(0);
    let works = world.optimize(&[0, 1]);
    world.assert_optimized(&[0, 1], &works);
    assert_eq!(world.outcome(2, connect), None);
    assert_eq!(world.master.epoch().world_size(), 2);
}

#[test]
fn alone_there_is_nothing_to_measure() {
    let mut world = World::of(1);
    let works = world.optimize(&[0]);
    let Some(Err(error)) = world.outcome(0, works[0]) else { panic!("it should have failed") };
    assert_eq!(error.kind, ErrorKind::InvalidUsage);
    // It says so before it asks the master: its next call is not one ahead.
    let update = world.update(&[0]);
    assert_eq!(world.outcome(0, update[0]), Some(Ok(Done::Updated)));
}

#[test]
fn whoever_waits_alone_in_the_end_is_told() {
    let mut world = World::measured(2);
    let work = world.call(0, OPTIMIZE);
    world.kill(1);
    let Some(Err(error)) = world.outcome(0, work) else { panic!("it should have failed") };
    assert_eq!(error.kind, ErrorKind::TopologyOptimizationFailed);
    let update = world.update(&[0]);
    assert_eq!(world.outcome(0, update[0]), Some(Ok(Done::Updated)), "both count phases alike");
}

#[test]
fn a_death_in_a_round_costs_the_others_that_round() {
    let mut world = World::measured(4);
    world.mute.insert(3);
    let works = world.optimize(&[0, 1, 2, 3]);
    assert_eq!(world.outcome(0, works[0]), None, "peer 3 has not reported");
    world.kill(3);
    world.assert_optimized(&[0, 1, 2], &works[..3]);
    assert!(world.is_planned());
    assert_eq!(world.master.epoch().world_size(), 3);
}

#[test]
fn silence_about_a_measurement_puts_nobody_out() {
    let mut world = World::measured(4);
    world.mute.insert(2);
    let works = world.optimize(&[0, 1, 2, 3]);
    // It costs one round, whatever there is left to measure.
    world.pass(PROBE_REPORT_MS);
    world.assert_optimized(&[0, 1, 2, 3], &works);
    assert_eq!(world.master.epoch().world_size(), 4);
    assert!(world.is_planned());
    assert_eq!(world.probes.iter().filter(|(n, _)| *n == 2).count(), 1);
}

#[test]
fn a_pair_that_told_nothing_is_tried_once_more() {
    let mut world = World::measured(3);
    world.rates.remove(&(1, 2));
    let works = world.optimize(&[0, 1, 2]);
    world.assert_optimized(&[0, 1, 2], &works);
    let tries = world.probes.iter().filter(|(n, order)| *n == 1 && order.to == [id(2)]).count();
    assert_eq!(tries, 2);
    assert!(world.is_planned());
}

#[test]
fn a_run_that_takes_the_place_of_another_counts_its_own_phases() {
    let mut world = World::measured(2);
    world.mute.extend([0, 1]);
    world.optimize(&[0, 1]);
    world.restart_master();
    world.pass(10_000);
    // The round of the call that was under way is over long ago; everybody still counts alike.
    world.mute.clear();
    world.pass(4 * PROBE_REPORT_MS);
    let update = world.update(&[0, 1]);
    assert_eq!(world.outcome(0, update[0]), Some(Ok(Done::Updated)));
    assert_eq!(world.master.epoch().world_size(), 2);
}

#[test]
fn a_late_report_is_of_no_use_and_no_harm() {
    let mut world = World::measured(2);
    world.mute.insert(1);
    world.optimize(&[0, 1]);
    let (_, order) = world.probes.iter().find(|(n, _)| *n == 1).cloned().unwrap();
    world.pass(PROBE_REPORT_MS);
    let late = world.report(1, &order);
    world.peers[1].handle(peer::Input::Probed(late), world.now);
    world.run();
    world.pass(PROBE_REPORT_MS);
    assert_eq!(world.master.epoch().world_size(), 2);
    assert!(!world.master.figures_tell(id(0), id(1)), "it came after its round");
}

#[test]
fn where_nothing_can_be_measured_the_run_goes_on_as_it_is() {
    let mut world = World::of(3);
    let epoch = world.master.epoch().clone();
    let works = world.optimize(&[0, 1, 2]);
    for (n, work) in works.iter().enumerate() {
        let Some(Err(error)) = world.outcome(n, *work) else { panic!("it should have failed") };
        assert_eq!(error.kind, ErrorKind::TopologyOptimizationFailed);
    }
    assert_eq!(world.master.epoch(), &epoch);
    let update = world.update(&[0, 1, 2]);
    assert_eq!(world.outcome(2, update[2]), Some(Ok(Done::Updated)));
}

#[test]
fn a_liar_tells_of_its_own_links_only() {
    let mut world = World::measured(3);
    world.mute.insert(2);
    world.optimize(&[0, 1, 2]);
    // Says at each opportunity that nothing comes from 0 to 1, and that it has heard from itself.
    for _ in 0..10 {
        let orders: Vec<ProbeOrder> =
            world.probes.drain(..).filter(|(n, _)| *n == 2).map(|(_, order)| order).collect();
        for order in orders {
            let mut report = world.report(2, &order);
            let lie = |from| Heard { from, bytes_per_second: u64::MAX };
            report.heard.extend([lie(id(2)), Heard { from: id(0), bytes_per_second: 1 }]);
            report.round_trips.push(RoundTrip { to: id(2), rtt_us: 0 });
            world.peers[2].handle(peer::Input::Probed(report), world.now);
            world.run();
        }
    }
    assert!(!world.master.figures_tell(id(2), id(2)));
    assert!(world.master.figures_tell(id(0), id(1)));
    assert!(world.is_planned());
}

#[test]
fn a_part_of_a_measured_group_is_priced_without_a_measurement() {
    let mut world = World::measured(4);
    world.optimize(&[0, 1, 2, 3]);
    let planned = world.master.epoch().groups[0].planned.clone();
    world.kill(3);
    world.probes.clear();
    assert!(world.is_planned());
    assert_ne!(world.master.epoch().groups[0].planned, planned, "three are not four");
    assert_eq!(world.probes, [], "and nobody measures outside of the call");
}

#[test]
fn a_restarted_master_keeps_what_was_chosen_and_measures_for_whoever_waits() {
    let mut world = World::measured(3);
    world.optimize(&[0, 1, 2]);
    let planned = world.master.epoch().groups[0].planned.clone();
    world.restart_master();
    world.pass(10_000);
    let update = world.update(&[0, 1, 2]);
    assert_eq!(world.outcome(0, update[0]), Some(Ok(Done::Updated)));
    assert_eq!(world.master.epoch().groups[0].planned, planned);

    world.mute.insert(1);
    let works = world.optimize(&[0, 1, 2]);
    assert_eq!(world.outcome(0, works[0]), None);
    world.mute.clear();
    world.restart_master();
    world.pass(10_000);
    world.assert_optimized(&[0, 1, 2], &works);
}

#[test]
fn other_calls_are_ruled_out_meanwhile() {
    let mut world = World::measured(2);
    let optimize = world.call(0, OPTIMIZE);
    let update = world.call(1, Call::Phase(PhaseCall::UpdateTopology));
    for (n, work) in [(0, optimize), (1, update)] {
        let Some(Err(error)) = world.outcome(n, work) else { panic!("calls that never meet") };
        assert_eq!(error.kind, ErrorKind::InvalidUsage);
        assert!(error.reason.contains("optimize_topology"), "{}", error.reason);
    }
    let works = world.optimize(&[0, 1]);
    world.assert_optimized(&[0, 1], &works);
}

#[test]
fn groups_are_measured_at_the_same_time() {
    let mut world = World::of(2);
    for n in 2..4 {
        world.join(7);
        world.update(&(0..n).collect::<Vec<_>>());
    }
    for (a, b) in [(0, 1), (2, 3)] {
        world.rates.extend([((a, b), 1000), ((b, a), 1000)]);
    }
    let works = world.optimize(&[0, 1, 2, 3]);
    world.assert_optimized(&[0, 1, 2, 3], &works);
    assert_eq!(world.rounds(), 1);
    assert!(world.master.epoch().groups.iter().all(|group| group.planned.is_some()));
}

/// What the master answers somebody who only looks, and whether it then hangs up.
fn look(world: &mut World) -> (Vec<crate::wire::message::MasterMessage>, bool) {
    let conn = ConnId(1_000_000);
    world.master.handle(Input::Connected { conn, from: IpAddr::V4(Ipv4Addr::LOCALHOST) }, world.now);
    world.master.handle(Input::Message { conn, message: PeerMessage::Inspect }, world.now);
    let (mut said, mut closed) = (Vec::new(), false);
    while let Some(output) = world.master.poll_output() {
        match output {
            Output::Send { message: MasterMessage::Welcome { .. }, .. } => {}
            Output::Send { conn: to, message } if to == conn => said.push(message),
            Output::Close { conn: of } if of == conn => closed = true,
            other => world.on_master_output(other),
        }
    }
    (said, closed)
}

#[test]
fn whoever_looks_is_told_and_joins_nothing() {
    let mut world = World::measured(3);
    world.join(0);
    let (said, closed) = look(&mut world);
    let [MasterMessage::Run { report }] = &said[..] else { panic!("{said:?}") };
    assert_eq!((report.rows, report.peers_pending, report.addresses.len()), (0, 1, 3), "nothing is measured");
    assert!(closed);

    world.optimize(&[0, 1, 2]);
    let (said, closed) = look(&mut world);
    let Some(MasterMessage::Run { report }) = said.first() else { panic!("{said:?}") };
    assert_eq!((report.rows, said.len()), (3, 4));
    assert_eq!(&report.epoch, world.master.epoch());
    for (message, peer) in said[1..].iter().zip(&report.epoch.groups[0].order) {
        let MasterMessage::Figures { row } = message else { panic!("{message:?}") };
        assert_eq!(
            (row.peer, row.bytes_per_second.iter().filter(|rate| **rate == 1_000_000).count()),
            (*peer, 2)
        );
        assert_eq!(row.rtt_us.iter().filter(|rtt| **rtt == 1000).count(), 2);
    }
    assert!(closed);
    assert_eq!(world.master.kept().connections, 4, "it is forgotten");
}

#[test]
fn the_figures_of_the_largest_run_are_told_as_far_as_they_fit() {
    for peers in [500usize, 1024] {
        let mut world = World::new();
        let peer = |n: usize| PeerId((n as u128).to_be_bytes());
        let order: Vec<PeerId> = (0..peers).map(peer).collect();
        for from in &order {
            for to in order.iter().filter(|to| *to != from) {
                world.master.measuring.figures.measured((*from, *to), 1_000_000, Time(0));
            }
        }
        let (group, since) = (GroupId(0), Epoch(1));
        let (unlinked, rtt_us, planned) = (Vec::new(), 0, None);
        world.master.info.groups = vec![GroupInfo { group, since, order, unlinked, rtt_us, planned }];
        world.master.info.epoch = since;
        let (said, closed) = look(&mut world);
        assert!(closed);
        let Some(MasterMessage::Run { report }) = said.first() else { panic!("no report") };
        assert_eq!(said.len(), 1 + report.rows as usize);
        assert_eq!((report.rows + report.rows_left_out) as usize, peers);
        assert_eq!(report.rows_left_out > 0, peers == 1024);
        let mut bytes = Vec::new();
        said.iter().for_each(|message| crate::wire::encode_master(message, &mut bytes).unwrap());
        assert!(bytes.len() <= MAX_CONTROL_QUEUE_BYTES, "{peers} peers: {} bytes", bytes.len());
    }
}

#[test]
fn a_member_that_only_looks_breaks_the_rules() {
    let mut world = World::of(2);
    let conn = world.conn_of[1].unwrap();
    world.master.handle(Input::Message { conn, message: PeerMessage::Inspect }, world.now);
    world.run();
    assert!(world.events.iter().any(|event| event.contains("kicked: inspect after")), "{:?}", world.events);
}
