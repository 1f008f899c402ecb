use super::*;
use crate::net::congestion::Congestion;
use crate::shell::peer_links::tests::peer_loop;
use crate::types::Time;
use tokio::net::{TcpListener, TcpStream};

/// Connections of one pair, over loopback, and their other ends.
pub(in crate::shell) async fn connected(of: &PeerLoop, count: u64, rtt_us: u32) -> Vec<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut others = Vec::new();
    for link in 0..count {
        let (ours, theirs) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let watch = Watch::new(Rc::new(ours.unwrap()), PEER, Rc::default());
        of.join_pair(LinkId(link), &Rc::new(watch), rtt_us);
        others.push(theirs.unwrap().0);
    }
    others
}

pub(in crate::shell) const PEER: PeerId = PeerId([1; 16]);

/// One that gives long paths bbr, where this process may choose it.
pub(in crate::shell) fn with_bbr() -> Option<Rc<PeerLoop>> {
    if let Err(error) = Congestion::new("bbr") {
        eprintln!("SKIPPED: {error}");
        return None;
    }
    let mut peer_loop = peer_loop("127.0.0.1:1".into());
    let only = Rc::get_mut(&mut peer_loop).expect("nobody else has it yet");
    only.data.congestion = Congestion::ByPath { paced: true };
    Some(peer_loop)
}

fn congestion(of: &PeerLoop) -> Vec<String> {
    of.pairs.borrow()[&PEER].links.values().map(|watch| in_force(&watch.stream)).collect()
}

#[test]
fn only_connections_that_withstand_loss_are_paced_and_only_on_long_paths() {
    for (may_be, rtt_us, names, expected) in [
        (true, 80_000, ["bbr", "bbr"], true),
        (false, 80_000, ["bbr", "bbr"], false),
        (true, WIDE_AREA_RTT_US, ["bbr", "bbr"], true),
        (true, WIDE_AREA_RTT_US - 1, ["bbr", "bbr"], false),
        (true, 0, ["bbr", "bbr"], false),
        (true, 80_000, ["bbr", "cubic"], false),
    ] {
        assert_eq!(is_paced(may_be, rtt_us, &names.map(String::from)), expected, "{rtt_us} µs, {names:?}");
    }
}

#[test]
fn paths_that_are_not_near_are_looked_at_again() {
    for (rtt_us, expected) in [(0, false), (1, true), (NEAR_RTT_US, true), (NEAR_RTT_US + 1, false)] {
        assert_eq!(is_settled(rtt_us), expected, "{rtt_us} µs");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_least_round_trip_of_a_pair_decides_for_all_its_connections() {
    let Some(peer_loop) = with_bbr() else { return };
    let own = congestion_of_a_fresh_one().await;
    let _others = connected(&peer_loop, 2, 6_000).await;
    assert_eq!(congestion(&peer_loop), ["bbr", "bbr"], "it looks far");
    // A third one, of which a shorter time is known.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let watch = Rc::new(Watch::new(Rc::new(stream), PEER, Rc::default()));
    let (rtt_us, pool) = peer_loop.join_pair(LinkId(2), &watch, 60);
    assert_eq!((rtt_us, pool), (60, 8));
    assert_eq!(congestion(&peer_loop), [&*own, &*own, &*own]);
}

/// As after a busy moment: what the system found when the connections were made was far more than what it finds later.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_path_that_looked_long_is_measured_again_when_a_call_begins() {
    let Some(peer_loop) = with_bbr() else { return };
    let own = congestion_of_a_fresh_one().await;
    let _others = connected(&peer_loop, 2, u32::MAX).await;
    assert_eq!(congestion(&peer_loop), ["bbr", "bbr"]);
    peer_loop.look_at_paths();
    assert_eq!(congestion(&peer_loop), ["bbr", "bbr"], "not each time");
    peer_loop.paths_looked_at.set(Time(0));
    peer_loop.look_at_paths();
    let known_us = peer_loop.pairs.borrow()[&PEER].rtt_us;
    assert!(known_us < u32::MAX, "what the system knows");
    if known_us < WIDE_AREA_RTT_US {
        assert_eq!(congestion(&peer_loop), [&*own, &*own]);
    }
    // With its last connection the pair is forgotten.
    peer_loop.forget_link(LinkId(0));
    assert_eq!(peer_loop.pairs.borrow()[&PEER].links.len(), 1);
    peer_loop.forget_link(LinkId(1));
    assert!(peer_loop.pairs.borrow().is_empty() && peer_loop.links.borrow().is_empty());
}

#[cfg(target_os = "linux")]
async fn congestion_of_a_fresh_one() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    in_force(&TcpStream::connect(listener.local_addr().unwrap()).await.unwrap())
}
