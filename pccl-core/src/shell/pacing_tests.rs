use super::*;
#[cfg(target_os = "linux")]
use crate::shell::node::Output;
#[cfg(target_os = "linux")]
use crate::shell::pairs::tests::{PEER, connected, with_bbr};

const CONNECTIONS: u64 = 8;

/// A pair that is looked at again and again.
struct Path {
    pacing: Pacing,
    look: Look,
}

impl Path {
    fn new() -> Path {
        let look = Look { at: Time(1_000_000), connections: CONNECTIONS, sent: Sent::default() };
        Path { pacing: Pacing::default(), look }
    }

    /// Until the next look it carries so many bytes a second, if it may, and is busy for so many percent of the time.
    fn carries(&mut self, bytes_per_s: u64, busy_percent: u64) -> Option<u64> {
        let allowed = self.pacing.share(CONNECTIONS).map_or(u64::MAX, |share| share * CONNECTIONS);
        self.look.at = self.look.at.plus_ms(LOOK_MS);
        self.look.sent.acked_bytes += bytes_per_s.min(allowed) * LOOK_MS / 1000;
        self.look.sent.busy_us += CONNECTIONS * LOOK_MS * 1000 * busy_percent / 100;
        self.pacing.look(self.look)
    }

    fn share(&self) -> u64 {
        self.pacing.share(CONNECTIONS).unwrap()
    }
}

/// One of which 80 MB a second are known.
fn known() -> Path {
    let mut path = Path::new();
    assert_eq!(path.pacing.begin(path.look), None, "nothing is known");
    for _ in 1..LEARNING_LOOKS {
        assert_eq!(path.carries(80_000_000, 100), None, "it is being learnt");
        assert!(path.pacing.is_on);
    }
    path.carries(80_000_000, 100);
    path
}

#[test]
fn what_got_through_is_shared_out_and_a_little_more() {
    let mut path = known();
    let shares: Vec<u64> = (0..80)
        .map(|_| {
            path.carries(80_000_000, 100);
            path.share()
        })
        .collect();
    let probes = shares.iter().filter(|share| **share == 12_500_000).count();
    assert!((8..=12).contains(&probes), "one look of eight asks for more: {probes}");
    assert_eq!(shares.iter().filter(|share| **share == 10_500_000).count(), shares.len() - probes);
}

#[test]
fn a_path_that_has_become_faster_is_found_out_and_one_that_has_become_slower_too() {
    let mut path = known();
    let looks = (1..).find(|_| {
        path.carries(640_000_000, 100);
        path.pacing.best() == 640_000_000
    });
    assert!(looks.is_some_and(|looks| looks <= 20), "eight times as fast, in looks: {looks:?}");
    let looks = (1..).find(|_| {
        path.carries(20_000_000, 100);
        path.pacing.best() == 20_000_000
    });
    assert!(
        looks.is_some_and(|looks| looks <= 2 * PERIOD_MS / LOOK_MS + 1),
        "a fraction, in looks: {looks:?}"
    );
}

#[test]
fn what_is_lost_on_the_way_does_not_keep_a_low_estimate_low() {
    let mut path = known();
    // A tenth of what is allowed does not get through, whatever that is.
    let looks = (1..1000).find(|_| {
        let allowed = path.share() * CONNECTIONS;
        path.carries(160_000_000.min(allowed * 9 / 10), 100);
        path.pacing.best() == 160_000_000
    });
    assert!(looks.is_some_and(|looks| looks <= 60), "{looks:?}");
}

#[test]
fn a_pair_that_has_pauses_is_not_held_up_by_its_path_and_what_is_known_of_it_stays() {
    let mut path = known();
    assert_eq!(path.carries(1_000_000, 50), None);
    assert!(!path.pacing.is_on);
    assert!(path.pacing.begin(path.look).is_some(), "from the first byte of the next burst");
}

#[test]
fn a_look_across_a_change_of_the_pool_says_nothing() {
    let mut path = known();
    let before = path.share();
    path.look.connections = 4;
    assert_eq!(path.carries(500_000_000, 100), Some(2 * before), "the same shared out among four");
    assert_eq!(path.pacing.best(), 80_000_000);
}

/// Writes all that the connections take, and tells the loop that they take no more, as the engine would.
#[cfg(target_os = "linux")]
fn fill(peer_loop: &Rc<PeerLoop>) {
    let links = peer_loop.links.borrow().clone();
    for (link, watch) in links {
        while watch.stream.try_write(&[7; 64 << 10]).is_ok() {}
        peer_loop.perform(Output::WatchWritable { link });
    }
}

/// Reads this much of what has come, or all.
#[cfg(target_os = "linux")]
fn drain(others: &[tokio::net::TcpStream], all: bool) {
    for other in others {
        while other.try_read(&mut [0; 64 << 10]).is_ok_and(|bytes| bytes > 0 && all) {}
    }
}

/// What the system limits the connections to.
#[cfg(target_os = "linux")]
fn limits(peer_loop: &PeerLoop) -> Vec<Option<u64>> {
    let pairs = peer_loop.pairs.borrow();
    pairs[&PEER].links.values().map(|watch| crate::net::pacing::limit_in_force(&watch.stream)).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_sockets_of_a_pair_are_limited_while_it_is_held_up_and_no_longer() {
    use tokio::task::{spawn_local, yield_now};

    let Some(peer_loop) = with_bbr() else { return };
    if !crate::net::tcp_info::is_recent_linux() {
        return eprintln!("SKIPPED: this system does not tell what connections have carried");
    }
    let others = connected(&peer_loop, 3, 80_000).await;
    let stats = || peer_loop.observe().links[0].pace_bytes_per_s;
    let is_on = || peer_loop.pairs.borrow()[&PEER].pacing.is_on;
    let links = peer_loop.links.borrow().clone();
    let work = async {
        spawn_local(peer_loop.clone().keep_pace());
        peer_loop.moving.set(1);
        for (link, watch) in &links {
            watch.stream.writable().await.unwrap();
            peer_loop.perform(Output::WatchWritable { link: *link });
        }
        assert!(!is_on(), "all have room, which only those who watch them do not know yet");
        for (link, watch) in links.clone() {
            spawn_local(peer_loop.clone().watch(link, watch));
        }
        peer_loop.moving.set(0);
        fill(&peer_loop);
        assert!(!is_on(), "no call of the program sends this");
        peer_loop.moving.set(1);
        // Some looks long nothing is limited.
        fill(&peer_loop);
        assert_eq!((limits(&peer_loop), stats()), (vec![None; 3], None));
        while limits(&peer_loop).contains(&None) {
            drain(&others, false);
            fill(&peer_loop);
            yield_now().await;
        }
        let limited = limits(&peer_loop);
        assert!(limited.iter().all(|limit| *limit == limited[0]), "{limited:?}");
        assert_eq!(stats(), limited[0].map(|limit| 3 * limit));

        // The call is over.
        peer_loop.pace_no_more();
        assert_eq!((limits(&peer_loop), stats()), (vec![None; 3], None));

        // What is known holds from the first moment of the next call, until the other end has taken everything.
        while limits(&peer_loop).contains(&None) {
            fill(&peer_loop);
            yield_now().await;
        }
        while limits(&peer_loop) != [None; 3] {
            drain(&others, true);
            yield_now().await;
        }
        assert_eq!(stats(), None);

        // A path that turns out to be short is limited by nothing any more.
        while limits(&peer_loop).contains(&None) {
            fill(&peer_loop);
            yield_now().await;
        }
        peer_loop.paths_looked_at.set(Time(0));
        peer_loop.look_at_paths();
        let is_short = peer_loop.pairs.borrow()[&PEER].rtt_us < crate::limits::WIDE_AREA_RTT_US;
        assert!(!is_short || limits(&peer_loop) == [None; 3]);
    };
    tokio::task::LocalSet::new().run_until(work).await;
}
