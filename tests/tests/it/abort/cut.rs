//! Connections that end, or stand still, in the middle of an operation.

use pccl_core::api::ScheduleChoice;

use crate::harness::until;
use crate::proxy::{Act, At, Crew, Seed, Wire};

const SCHEDULES: [ScheduleChoice; 3] = [ScheduleChoice::Ring, ScheduleChoice::Mesh, ScheduleChoice::Auto];

#[test]
fn a_connection_cut_after_any_number_of_bytes_aborts_everywhere_and_the_retry_gives_the_sum() {
    let (mut cuts, mut aborts) = (0, 0);
    for seed in Seed::each(9) {
        let mut dice = seed.dice();
        let number = seed.number() as usize;
        let schedule = SCHEDULES[number % 3];
        let crew = Crew::new(2 + number / 3 % 2, Wire::default(), |master| master.schedule(schedule));
        let len = [500, 30_000, 200_000][dice.below(3) as usize];
        // The byte that is lost, of all that an undisturbed operation takes.
        crew.wire.arm(At::Byte(u64::MAX), Act::Cut(0), None);
        crew.reduce(len, 0, true);
        let whole = crew.wire.passed();
        for cut in 1..=3 {
            crew.wire.arm(At::Byte(dice.below(whole)), Act::Cut(0), None);
            let in_place = dice.below(2) == 0;
            // An operation that goes round a pair may take fewer bytes than the first one: then the next is cut.
            for round in 0.. {
                aborts += crew.reduce(len, 100 * cut + round, in_place);
                if crew.wire.fired().is_some() {
                    break;
                }
                assert!(round < 20, "nothing was cut");
            }
            cuts += 1;
            crew.update();
        }
        assert_eq!(
            crew.peers[0].world_size() as usize,
            crew.peers.len(),
            "no peer has to go for a link's end"
        );
    }
    assert!(2 * aborts >= cuts, "of {cuts} cuts only {aborts} were seen by an operation");
}

/// Through the whole product: master, sockets, linking anew. A run for each, as a pair that is cut again and again is given
/// time. The engine's own tests cut after every byte.
#[test]
fn a_small_operation_cut_after_each_fifth_of_its_bytes_aborts_and_the_retry_gives_the_sum() {
    let crew = || Crew::new(2, Wire::default(), |master| master);
    let undisturbed = crew();
    undisturbed.wire.arm(At::Byte(u64::MAX), Act::Cut(0), None);
    undisturbed.reduce(2, 0, true);
    let whole = undisturbed.wire.passed();
    let (mut cuts, mut aborts) = (0, 0);
    for cut in (0..whole).step_by(5) {
        let crew = crew();
        crew.wire.arm(At::Byte(cut), Act::Cut(0), None);
        aborts += crew.reduce(2, 1 + cut, cut % 2 == 0);
        cuts += 1;
        assert!(crew.wire.fired().is_some(), "byte {cut} of {whole} did not pass");
        crew.update();
    }
    assert!(2 * aborts >= cuts, "of {cuts} cuts only {aborts} were seen by an operation");
}

#[test]
fn operations_of_all_sizes_in_flight_at_once_survive_cuts_and_damage() {
    let mut fired = 0;
    for seed in Seed::each(4) {
        let mut dice = seed.dice();
        let world = 3 + seed.number() as usize % 2;
        let crew = Crew::new(world, Wire::default(), |master| master);
        crew.wire.arm(At::Byte(u64::MAX), Act::Cut(0), None);
        crew.reduce_many(0);
        let whole = crew.wire.passed();
        for round in 1..=4 {
            let act = match dice.below(2) {
                0 => Act::Cut(0),
                _ => Act::Flip(dice.below(1 << 20) as usize),
            };
            crew.wire.arm(At::Byte(dice.below(whole)), act, None);
            crew.reduce_many(round);
            fired += usize::from(crew.wire.fired().is_some());
            if dice.below(2) == 0 {
                crew.update();
            }
        }
    }
    assert!(fired > 0, "there was no trouble");
}

#[test]
fn a_pair_whose_link_was_cut_carries_payload_again_after_an_update() {
    let crew = Crew::new(3, Wire::default(), |master| master.schedule(ScheduleChoice::Mesh));
    let (a, b) = (crew.wire.peer(0), crew.wire.peer(1));
    crew.wire.arm(At::Byte(0), Act::Cut(0), Some((a, b)));
    crew.reduce(30_000, 0, true);
    assert!(crew.wire.fired().is_some());
    let before = crew.wire.payload(a, b);
    let mut tag = 0;
    until("the pair is used again", || {
        tag += 1;
        crew.update();
        crew.reduce(30_000, tag, true);
        crew.wire.payload(a, b) > before
    });
}

#[test]
fn a_link_that_stands_still_aborts_the_operation_and_the_retry_goes_round_it() {
    // A link counts as standing still after the silence time: here it is the subject.
    let crew =
        Crew::new(3, Wire::default(), |master| master.schedule(ScheduleChoice::Mesh).silence_ms(3_000));
    crew.reduce(1000, 0, true);
    crew.wire.hold(crew.wire.peer(0), crew.wire.peer(1));
    // A mesh, so that every pair has payload to carry; and so much that no buffer on the way takes it all.
    let aborts = crew.reduce(4 << 20, 1, true);
    assert!(aborts >= 1);
    assert!(crew.wire.release() > 0, "nothing was held back");
    crew.reduce(1000, 2, false);
}
