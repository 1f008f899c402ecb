//! Members that do not answer: who holds up its group, for how long, and who does not.

use super::syncs::{Brought, key, popular, synchronized};
use super::*;

/// Some members; what the mute ones say is up to the test, but for their heartbeats.
struct Silence {
    world: World,
    mute: Vec<usize>,
    works: Vec<(usize, WorkId)>,
}

fn odd(count: u64, digest: u8) -> Brought {
    let mut brought = popular(0, 1);
    brought.keys = vec![key("a", DType::U8, count, false), key("b", DType::U8, 1, false)];
    (brought.offer.size_bytes, brought.offer.keys) = (count + 1, Digest([digest; 16]));
    brought
}

impl Silence {
    fn of(mute: &[usize], brought: &[Brought]) -> Silence {
        let mut world = World::of(brought.len());
        world.moves_bytes = false;
        let mut silence = Silence { world, mute: mute.to_vec(), works: Vec::new() };
        mute.iter().for_each(|n| silence.world.dead[*n] = true);
        silence.offer(brought);
        silence
    }

    /// All call.
    fn offer(&mut self, brought: &[Brought]) {
        self.works.clear();
        for (n, brought) in brought.iter().enumerate() {
            if self.mute.contains(&n) {
                self.says(n, PeerMessage::SyncOffer { offer: brought.offer });
            } else {
                self.works.push((n, self.world.sync(n, brought)));
            }
        }
    }

    fn says(&mut self, n: usize, message: PeerMessage) {
        if let Some(conn) = self.world.conn_of[n] {
            self.world.master.handle(Input::Message { conn, message }, self.world.now);
            self.world.run();
        }
    }

    /// They live, and say nothing else.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.world.pass(1_000);
            self.mute.clone().into_iter().for_each(|n| self.says(n, PeerMessage::Heartbeat));
        }
    }

    fn assert_all_synchronized(&self) {
        for (n, work) in &self.works {
            assert_eq!(self.world.outcome(*n, *work), synchronized(0), "{:?}", self.world.events);
        }
    }

    fn put_out(&self) -> Option<&String> {
        self.world.events.iter().find(|event| event.contains("kicked"))
    }
}

#[test]
fn whoever_does_not_describe_its_tensors_is_put_out_and_the_rest_go_on() {
    for mute in [0, 1] {
        let brought = |n| if n == 1 { odd(3, 2) } else { odd(4, 1) };
        let mut silence = Silence::of(&[mute], &[0, 1, 2, 3].map(brought));
        silence.pass(9);
        assert_eq!(silence.put_out(), None);
        // Whoever describes takes its time.
        let page = |first, last, at: usize| PeerMessage::SyncKeys {
            first,
            last,
            keys: vec![brought(mute).keys[at].clone()],
        };
        silence.says(mute, page(0, false, 0));
        silence.pass(9);
        assert_eq!(silence.put_out(), None);
        silence.pass(3);
        let out = silence.put_out().expect("it holds up the others");
        assert!(out.contains(&id(mute).to_string()) && out.contains("describe its tensors"), "{out}");
        for (n, work) in silence.works {
            match n {
                1 => assert!(silence.world.kind(1, work).is_some(), "the odd one has to go"),
                _ => {
                    assert_eq!(silence.world.outcome(n, work), synchronized(0), "{:?}", silence.world.events)
                }
            }
        }
    }
}

#[test]
fn whoever_holds_what_was_elected_and_does_not_say_so_is_put_out_and_the_rest_go_on() {
    let mut silence = Silence::of(&[0], &[popular(0, 1), popular(0, 1), popular(0, 2)]);
    silence.world.state_done(2, None);
    silence.pass(9);
    assert_eq!(silence.put_out(), None);
    silence.pass(3);
    assert!(
        silence.put_out().is_some_and(|out| out.contains("does not say so")),
        "{:?}",
        silence.world.events
    );
    silence.assert_all_synchronized();
}

#[test]
fn all_who_hold_it_and_do_not_say_so_are_put_out_at_once() {
    let mut silence =
        Silence::of(&[0, 2], &[popular(0, 1), popular(0, 1), popular(0, 1), popular(0, 2), popular(0, 1)]);
    silence.world.state_done(3, None);
    silence.pass(12);
    let out = silence
        .world
        .events
        .iter()
        .filter(|event| event.starts_with("peer") && event.contains("does not say so"))
        .count();
    assert_eq!(out, 2, "{:?}", silence.world.events);
    silence.assert_all_synchronized();
}

#[test]
fn nobody_is_put_out_sooner_than_for_silence() {
    let mut silence = Silence::of(&[0], &[popular(0, 1), popular(0, 1), popular(0, 2)]);
    silence.world.master.config.silence_ms = 20_000;
    silence.world.state_done(2, None);
    silence.pass(19);
    assert_eq!(silence.put_out(), None);
    silence.pass(3);
    assert!(silence.put_out().is_some_and(|out| out.contains("within 20 s")), "{:?}", silence.world.events);
    silence.assert_all_synchronized();
}

#[test]
fn after_a_restart_of_the_master_everybody_has_all_the_time_again() {
    let brought = [popular(0, 1), popular(0, 1), popular(0, 2)];
    let mut silence = Silence::of(&[0], &brought);
    silence.pass(9);
    silence.world.dead[0] = false;
    silence.world.restart_master();
    silence.world.pass(2_000);
    silence.world.dead[0] = true;
    let aborted = |(n, work): &(usize, WorkId)| silence.world.kind(*n, *work) == Some(ErrorKind::Aborted);
    assert!(silence.works.iter().all(aborted), "a transfer does not outlive its master");
    silence.offer(&brought);
    silence.world.state_done(2, None);
    silence.pass(9);
    assert_eq!(silence.put_out(), None);
    silence.pass(3);
    assert!(
        silence.put_out().is_some_and(|out| out.contains("does not say so")),
        "{:?}",
        silence.world.events
    );
    silence.assert_all_synchronized();
}

/// A slow link looks the same from here. Its own library gives up when nothing comes any more.
#[test]
fn whoever_receives_is_waited_for() {
    let mut silence = Silence::of(&[2], &[popular(0, 1), popular(0, 1), popular(0, 2)]);
    silence.pass(59);
    let awaited = |silence: &Silence| {
        let named = format!("the others have waited for peer {}", id(2));
        silence.world.events.iter().filter(|event| event.ends_with(&named)).count()
    };
    assert_eq!(awaited(&silence), 0);
    silence.pass(5 * 60);
    assert_eq!((silence.put_out(), awaited(&silence)), (None, 3), "after one minute, two and four");
    assert!(silence.works.iter().all(|(n, work)| silence.world.outcome(*n, *work).is_none()));
    let number = silence.world.begun[&0][0].0.number;
    silence.says(2, PeerMessage::SyncDone { number, failed: None });
    silence.assert_all_synchronized();
}

#[test]
fn time_in_which_the_master_did_not_listen_does_not_count() {
    let mut silence = Silence::of(&[0], &[popular(0, 1), popular(0, 1), popular(0, 2)]);
    silence.world.now = silence.world.now.plus_ms(3_600_000);
    let now = silence.world.now;
    silence.world.master.on_deadline(now);
    silence.world.run();
    silence.pass(9);
    assert_eq!(silence.put_out(), None, "{:?}", silence.world.events);
    silence.pass(3);
    assert!(silence.put_out().is_some());
}
