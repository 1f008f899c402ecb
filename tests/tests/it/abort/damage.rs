//! One flipped bit anywhere on a data connection: never a wrong sum, and the log says what and who.

use pccl_core::api::ScheduleChoice;
use pccl_core::wire::frame::FrameKind;

use crate::harness::{Process, until};
use crate::journal::Journal;
use crate::proxy::{Act, At, Crew, Fired, Part, Seed, Wire};

/// Not grants of pieces: with windows for all, as here, there are none. They have a header like any other.
const PARTS: [Part; 10] = [
    Part::Header(FrameKind::OpGrant),
    Part::Header(FrameKind::Reduce),
    Part::Payload(FrameKind::Reduce),
    Part::Trailer(FrameKind::Reduce),
    Part::Header(FrameKind::Broadcast),
    Part::Payload(FrameKind::Broadcast),
    Part::Trailer(FrameKind::Broadcast),
    Part::Header(FrameKind::Eager),
    Part::Payload(FrameKind::Eager),
    Part::Trailer(FrameKind::Eager),
];

/// What the log may call damage of this part.
fn names(part: Part) -> &'static [&'static str] {
    match part {
        Part::Header(_) => &["no data frame begins here", "the header of a data frame arrived damaged"],
        Part::Payload(_) => &["a segment of all-reduce"],
        Part::Trailer(_) => &["a segment of all-reduce", "void mark of a data frame is"],
        Part::Hello | Part::Answer => {
            &["the hello arrived damaged", "does not speak the pccl protocol", "speaks version"]
        }
    }
}

fn names_damage(line: &str, fired: Fired) -> bool {
    names(fired.part).iter().any(|name| line.contains(name))
}

fn assert_names_damage(line: &str, fired: Fired) {
    assert!(names_damage(line, fired), "{fired:?}: {line}");
}

/// Reduces until the trouble that was ordered has come.
fn reduce_until_it_fired(crew: &Crew, len: usize, tags: std::ops::Range<u64>) -> Fired {
    for tag in tags {
        crew.reduce(len, tag, tag.is_multiple_of(2));
        if let Some(fired) = crew.wire.fired() {
            return fired;
        }
    }
    panic!("there was nothing to damage");
}

pub fn damaged_frames() {
    let journal = Journal::begin();
    let mut told_by_master = 0;
    for seed in Seed::each(2 * PARTS.len() as u64) {
        let mut dice = seed.dice();
        let (part, again) =
            (PARTS[seed.number() as usize % PARTS.len()], seed.number() as usize / PARTS.len());
        let ring = again % 2 == 1;
        let (schedule, len) = match part {
            Part::Header(FrameKind::Eager)
            | Part::Payload(FrameKind::Eager)
            | Part::Trailer(FrameKind::Eager) => (ScheduleChoice::Auto, 1000),
            _ if ring => (ScheduleChoice::Ring, 60_000),
            _ => (ScheduleChoice::Mesh, 60_000),
        };
        let crew = Crew::new(3, Wire::default(), |master| master.schedule(schedule));
        crew.reduce(1000, 0, true);
        let at = At::Part(part, dice.below(4) as usize);
        crew.wire.arm(at, Act::Flip(dice.below(1 << 22) as usize), None);
        let fired = reduce_until_it_fired(&crew, len, 1..20);
        assert_eq!(fired.part, part);

        let (from, to) = (fired.from.to_string(), fired.to.to_string());
        assert_names_damage(&journal.line(&[&format!("data link to peer {from} lost: ")]), fired);
        // The master tells what it heard from both ends in time: the other one only knows that the link was closed.
        told_by_master += usize::from(names_damage(&journal.line(&["WARN link", &from, &to]), fired));
        crew.update();
        crew.reduce(60_000, 30, false);
        drop(crew);
        journal.forget();
    }
    assert!(told_by_master > 0, "the master never names the damage");
}

pub fn damaged_hellos() {
    let journal = Journal::begin();
    for seed in Seed::each(8) {
        let mut dice = seed.dice();
        let part = [Part::Hello, Part::Answer][seed.number() as usize % 2];
        let wire = Wire::default();
        // Three pairs, both ends of each dial: at least six hellos, of which the last ones may come when a pair has
        // long been in use.
        wire.arm(At::Part(part, dice.below(6) as usize), Act::Flip(dice.below(1 << 20) as usize), None);
        let crew = Crew::new(3, wire, |master| master);
        let mut tag = 0;
        let mut reduce_and_update = || {
            tag += 1;
            crew.reduce(60_000, tag, tag == 2);
            crew.update();
        };
        until("a hello was damaged", || {
            reduce_and_update();
            crew.wire.fired().is_some()
        });
        (0..2).for_each(|_| reduce_and_update());
        let fired = crew.wire.fired().expect("until then");
        let line = match part {
            Part::Hello => journal.line(&["data port: 127.0.0.1"]),
            _ => journal.line(&["data ", &format!("to peer {}", fired.from)]),
        };
        assert_names_damage(&line, fired);
        drop(crew);
        journal.forget();
    }
}

pub fn two_troubles_on_one_pair() {
    let journal = Journal::begin();
    let crew = Crew::new(3, Wire::default(), |master| master.schedule(ScheduleChoice::Mesh));
    let (a, b) = (crew.wire.peer(0), crew.wire.peer(2));
    let mut tag = 0;
    let mut reduce_and_update = || {
        tag += 1;
        crew.reduce(60_000, tag, true);
        crew.update();
    };
    for _ in 0..2 {
        // After the first time the pair is linked anew, and adopted by an update.
        crew.wire.arm(At::Part(Part::Payload(FrameKind::Reduce), 0), Act::Flip(7), Some((a, b)));
        until("the pair is used", || {
            reduce_and_update();
            crew.wire.fired().is_some()
        });
    }
    let carried = crew.wire.payload(a, b);
    (0..20).for_each(|_| reduce_and_update());
    assert_eq!(crew.wire.payload(a, b), carried, "schedules avoid the pair");
    journal.line(&["WARN", "group 0: no ring", "have no link", &a.to_string(), &b.to_string(), "trees"]);
}

#[test]
fn a_damaged_byte_of_a_frame_never_reaches_a_result_and_the_log_names_damage_and_peers() {
    assert!(Process::start("damage", "-").succeeds());
}

#[test]
fn a_damaged_hello_keeps_nobody_out_and_the_log_names_it() {
    assert!(Process::start("damaged-hello", "-").succeeds());
}

#[test]
fn after_the_second_trouble_on_one_pair_schedules_avoid_it() {
    assert!(Process::start("two-troubles", "-").succeeds());
}
