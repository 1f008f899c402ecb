//! How many connections a pair has, and what is told of them. Peer 1 dials first; it is lower than the other, peer 2.

use super::*;
use crate::limits::MAX_POOL_CONNECTIONS;
use crate::types::{Heard, ProbeReport, Sent};

const OTHER: PeerId = PeerId([2; 16]);
const POOL_BY_PATH: u16 = 32;

fn up_over(rtt_us: u32, pool: u16, dialled: bool) -> Input {
    Input::LinkUp { peer: OTHER, generation: 1, dialled, rtt_us, pool }
}

/// Peer 1, whose first connections, one of each end, are there and look as long as this.
fn linked(pool: u16, rtt_us: u32) -> Peer {
    let mut peer = linking(1, pool);
    assert_eq!(dialled(&mut peer), 1);
    peer.handle(up_over(rtt_us, POOL_BY_PATH, false), Time(0));
    peer.handle(up_over(rtt_us, POOL_BY_PATH, true), Time(0));
    peer
}

/// All dials succeed; how many there were.
fn all_succeed(peer: &mut Peer, rtt_us: u32, pool: u16) -> u16 {
    let (mut all, mut due) = (0, dialled(peer));
    while due > 0 {
        all += due;
        for _ in 0..due {
            peer.handle(up_over(rtt_us, pool, true), Time(0));
        }
        due = dialled(peer);
    }
    all
}

#[test]
fn a_path_that_looked_long_at_the_first_connection_gets_no_large_pool() {
    let mut short = linked(0, 6_000);
    assert_eq!(all_succeed(&mut short, 60, 8), 6);
    // The shell has looked again before the others came.
    let mut looked_at = linked(0, 6_000);
    looked_at.handle(Input::PathLength { peer: OTHER, rtt_us: 60, pool: 8 }, Time(0));
    assert_eq!(all_succeed(&mut looked_at, 60, 8), 6);
    let mut long = linked(0, 80_000);
    assert_eq!(all_succeed(&mut long, 80_000, POOL_BY_PATH), POOL_BY_PATH - 2);
    let mut as_told = linked(12, 6_000);
    assert_eq!(all_succeed(&mut as_told, 60, 8), 12 - 2, "the program's word is not doubted");
}

#[test]
fn a_measured_path_gets_the_connections_that_its_rate_needs() {
    let report = |heard, sent| ProbeReport {
        number: 1,
        heard: vec![Heard { from: OTHER, bytes_per_second: heard }],
        round_trips: Vec::new(),
        sent: vec![Sent { to: OTHER, bytes_per_second: sent }],
    };
    for (heard, sent, descriptors, expected) in [
        (0, 0, 512, 8),
        (125_000_000, 0, 512, 8),
        (1_250_000_000, 0, 512, 34),
        (0, 1_250_000_000, 512, 34),
        (u64::MAX, u64::MAX, 512, MAX_POOL_CONNECTIONS),
        (1_250_000_000, 0, 20, 20),
    ] {
        let mut peer = linking(1, 0);
        assert_eq!(dialled(&mut peer), 1);
        peer.config.max_data_connections = descriptors;
        peer.handle(up_over(80_000, 8, false), Time(0));
        peer.handle(up_over(80_000, 8, true), Time(0));
        assert_eq!(2 + all_succeed(&mut peer, 80_000, 8), 8);
        peer.handle(Input::Probed(report(heard, sent)), Time(0));
        let more = all_succeed(&mut peer, 80_000, 8);
        assert_eq!(8 + more, expected, "{heard} heard, {sent} sent");
    }
    // The other end has a second to itself.
    let mut higher = linking(3, 0);
    for _ in 0..8 {
        higher.handle(up_over(80_000, 8, false), Time(0));
    }
    dialled(&mut higher);
    higher.handle(Input::Probed(report(1_250_000_000, 0)), Time(0));
    assert_eq!(dialled(&mut higher), 0);
    higher.on_deadline(Time(1_000_000));
    assert!(dialled(&mut higher) > 0);
    // Whoever says how many there are to be is not asked.
    let mut as_told = linking(1, 2);
    as_told.handle(up_over(80_000, 8, false), Time(0));
    as_told.handle(up_over(80_000, 8, true), Time(0));
    dialled(&mut as_told);
    as_told.handle(Input::Probed(report(1_250_000_000, 0)), Time(0));
    assert_eq!(dialled(&mut as_told), 0);
}

#[test]
fn a_connection_less_is_told_again_once_the_pool_was_whole_in_between() {
    let told = |peer: &mut Peer| {
        let logs = std::iter::from_fn(|| peer.poll_output());
        logs.filter(|o| matches!(o, Output::Log { text, .. } if text.contains("one data connection"))).count()
    };
    let fails = |peer: &mut Peer, at: Time| {
        peer.handle(Input::DialFailed { peer: OTHER, generation: 1, reason: "no".into() }, at);
    };
    let mut peer = linking(1, 4);
    peer.handle(up_over(60, 8, false), Time(0));
    peer.handle(up_over(60, 8, true), Time(0));
    fails(&mut peer, Time(0));
    fails(&mut peer, Time(0));
    assert_eq!(told(&mut peer), 1, "two are missing, which is told once");
    let later = Time(0).plus_ms(RELINK_RETRY_MS);
    peer.on_deadline(later);
    peer.handle(up_over(60, 8, true), later);
    fails(&mut peer, later);
    assert_eq!(told(&mut peer), 0, "it is not whole yet");
    let whole = later.plus_ms(RELINK_RETRY_MS);
    peer.on_deadline(whole);
    peer.handle(up_over(60, 8, true), whole);
    fails(&mut peer, whole);
    assert_eq!(told(&mut peer), 1);
}

#[test]
fn the_master_hears_of_a_shorter_path_where_its_figure_changes() {
    let told = |peer: &mut Peer| -> Vec<u32> {
        let outputs = drain(peer).into_iter();
        let told = outputs.filter_map(|output| match output {
            Output::Send(PeerMessage::LinkUp { rtt_us, .. }) => Some(rtt_us),
            _ => None,
        });
        told.collect()
    };
    let mut peer = linking(1, 4);
    peer.handle(up_over(6_000, 8, true), Time(0));
    peer.handle(up_over(6_000, 8, false), Time(0));
    assert_eq!(told(&mut peer), [6_000]);
    for (rtt_us, expected) in [(5_000, vec![]), (60, vec![60]), (50, vec![]), (7_000, vec![])] {
        peer.handle(Input::PathLength { peer: OTHER, rtt_us, pool: 8 }, Time(0));
        assert_eq!(told(&mut peer), expected);
    }
    peer.handle(up_over(20, 8, false), Time(0));
    assert_eq!(told(&mut peer), [20]);
    peer.handle(Input::PathLength { peer: PeerId([9; 16]), rtt_us: 1, pool: 8 }, Time(0));
    assert!(told(&mut peer).is_empty(), "of whom nothing is known");
}
