//! What `stats` tells, from outside: counts that need no clock, links as they are, and threads.

use pccl_core::api::{Communicator, Counters, ErrorKind, LinkStats, ReduceOp, ScheduleChoice, Tag};
use pccl_core::limits::{DEFAULT_NOTSENT_LOWAT_BYTES, FAR_SEGMENT_BYTES, MAX_SEGMENT_BYTES};
use pccl_core::wire::frame::{FRAME_HEADER_BYTES, TRAILER_BYTES};

use crate::harness::{connect, loopback, master, master_with, reduce, until, wait_for_world};

/// Of a chunk, in pieces of the default size.
const PIECES: u64 = 4;
const PIECE_BYTES: u64 = 256 << 10;

/// What `work` yields at each peer of a run.
fn at_all<T: Send>(
    world: u32,
    make: impl Fn() -> Communicator + Sync,
    work: impl Fn(&Communicator) -> T + Sync,
) -> Vec<T> {
    let met = std::sync::Barrier::new(world as usize);
    std::thread::scope(|threads| {
        let peer = || {
            let peer = make();
            wait_for_world(&peer, world);
            let outcome = work(&peer);
            met.wait();
            outcome
        };
        let peers: Vec<_> = (0..world).map(|_| threads.spawn(peer)).collect();
        peers.into_iter().map(|peer| peer.join().unwrap()).collect()
    })
}

/// The counts of each peer after its first operation, of `PIECES` a chunk, out of place.
fn of_one_operation(world: u32, schedule: ScheduleChoice) -> Vec<Counters> {
    let (_master, address) = master_with(|master| master.schedule(schedule));
    at_all(
        world,
        || connect(&address, 2),
        |peer| {
            let send = vec![1.0f32; (u64::from(world) * PIECES * PIECE_BYTES / 4) as usize];
            let mut recv = vec![0.0; send.len()];
            peer.all_reduce(&send, &mut recv, ReduceOp::Sum, Tag(1)).unwrap();
            peer.stats().counters
        },
    )
}

#[test]
fn an_operation_moves_what_its_plan_says_and_copies_nothing() {
    use ScheduleChoice::{Mesh, Ring};
    for (world, schedule) in [(2, Ring), (2, Mesh), (3, Ring), (3, Mesh)] {
        let all = of_one_operation(world, schedule);
        let others = u64::from(world) - 1;
        for counters in &all {
            let about = format!("world {world}, {schedule:?}: {counters:?}");
            // Towards the owners and back, each peer sends all chunks but one, each way.
            assert_eq!(counters.pieces_sent, 2 * others * PIECES, "{about}");
            assert_eq!(counters.pieces_received, 2 * others * PIECES, "{about}");
            assert_eq!(counters.bytes_copied, 0, "{about}");
            assert_eq!(counters.bytes_reduced, others * PIECES * PIECE_BYTES, "{about}");
            assert_eq!(
                (counters.voids_sent, counters.stale_frames, counters.links_lost),
                (0, 0, 0),
                "{about}"
            );
            // Besides payload there are headers and trailers, nothing else. A near link takes a piece in one segment,
            // one that a busy machine made look far in several.
            let framed = counters.bytes_written
                - counters.pieces_sent * PIECE_BYTES
                - counters.grants_sent * FRAME_HEADER_BYTES as u64;
            let around = (FRAME_HEADER_BYTES + TRAILER_BYTES) as u64;
            let segments = framed / around;
            assert_eq!(framed % around, 0, "{about}");
            let per_piece =
                PIECE_BYTES.div_ceil(MAX_SEGMENT_BYTES as u64)..=PIECE_BYTES / FAR_SEGMENT_BYTES as u64;
            assert!(per_piece.contains(&segments.div_ceil(counters.pieces_sent)), "{about}");
            // Several may leave together, and a full socket takes part of one: bounds, no counts. A part is at least
            // a few KiB.
            assert!(counters.writes < 32 * counters.pieces_sent + 32, "{about}");
            assert!(counters.reads < 128 * counters.pieces_sent + 256, "{about}");
        }
        let grants = |of: fn(&Counters) -> u64| all.iter().map(of).sum::<u64>();
        // One for each that sends to a peer.
        let by_nature = if schedule == Ring || world == 2 { 1 } else { others };
        // With a window for each child nobody waits to be told of a turn.
        assert_eq!(grants(|c| c.grants_sent), u64::from(world) * by_nature, "{schedule:?}");
        assert_eq!(grants(|c| c.grants_sent), grants(|c| c.grants_received), "{schedule:?}");
    }
}

fn links_of_two(pool: u16, congestion: &str) -> Vec<LinkStats> {
    let (_master, address) = master();
    let make = || {
        let builder = Communicator::builder(&address).listen(loopback()).pool(pool);
        let peer = builder.tcp_congestion(congestion).build().unwrap();
        peer.connect().unwrap();
        peer
    };
    at_all(2, make, |peer| {
        let wanted = if pool == 0 { 8 } else { u32::from(pool) };
        until("the pool is whole", || {
            peer.stats().links.first().is_some_and(|link| link.connections >= wanted)
        });
        reduce(peer, &mut [1.0; 100_000], 1);
        let stats = peer.stats();
        assert_eq!(stats.links.len(), 1);
        assert_eq!(stats.links[0].rank, Some(1 - peer.rank()));
        stats.links[0].clone()
    })
}

#[test]
fn a_pool_counts_the_connections_of_both_ends_and_is_eight_on_a_short_path() {
    for pool in [1, 2, 5, 0] {
        for link in links_of_two(pool, "auto") {
            let wanted = if pool == 0 { 8 } else { u32::from(pool) };
            assert_eq!(link.connections, wanted, "{link:?}");
            assert!(link.tx_bytes > 400_000 / 2 && link.rx_bytes > 400_000 / 2, "{link:?}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_hosts_own_congestion_control_is_used_on_a_short_path_and_another_one_on_demand() {
    let own = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap();
    for (wanted, expected) in [("auto", own.trim()), ("reno", "reno")] {
        for link in links_of_two(2, wanted) {
            assert_eq!(link.congestion, expected);
            assert_eq!(link.notsent_lowat_bytes, DEFAULT_NOTSENT_LOWAT_BYTES);
            assert!(link.send_buffer_bytes > 0, "{link:?}");
            assert!(link.rtt_us > 0 && link.rtt_now_us > 0, "{link:?}");
            assert_eq!(link.pace_bytes_per_s, None, "it is no wide-area path");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_congestion_control_that_is_not_to_be_had_is_an_error_that_names_what_is() {
    let (_master, address) = master();
    let peer = Communicator::builder(&address).tcp_congestion("carrier-pigeon").build().unwrap();
    let error = peer.connect().unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.reason.contains("carrier-pigeon") && error.reason.contains("reno"), "{error}");
}

/// A process with one communicator: its role is `threads:WORLD:POOL`.
#[cfg(target_os = "linux")]
pub fn counts_threads(role: &str, address: &str) {
    let mut numbers = role.split(':').skip(1).map(|number| number.parse::<u16>().unwrap());
    let (world, pool) = (numbers.next().unwrap(), numbers.next().unwrap());
    let peer = connect(address, pool);
    takes_part(&peer, world.into(), pool.into());
    // The harness's, this one, and the communicator's: whatever the number of peers and connections.
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert_eq!(threads, 3, "world {world}, pool {pool}");
}

#[cfg(target_os = "linux")]
fn takes_part(peer: &Communicator, world: u32, pool: u32) {
    wait_for_world(peer, world);
    reduce(peer, &mut [1.0; 100_000], 1);
    until("all pools are whole", || {
        let links = peer.stats().links;
        links.len() == world as usize - 1 && links.iter().all(|link| link.connections >= pool)
    });
    reduce(peer, &mut [1.0; 100_000], 2);
}

#[test]
#[cfg(target_os = "linux")]
fn threads_do_not_grow_with_peers_and_connections() {
    for (world, pool) in [(2, 1), (2, 8), (8, 1), (8, 8)] {
        let (_master, address) = master();
        let child = crate::harness::Process::start(&format!("threads:{world}:{pool}"), &address);
        std::thread::scope(|threads| {
            for _ in 1..world {
                threads.spawn(|| takes_part(&connect(&address, pool as u16), world, pool));
            }
        });
        assert!(child.succeeds(), "world {world}, pool {pool}");
    }
}
