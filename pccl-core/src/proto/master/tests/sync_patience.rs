//! Members that do not answer: who holds up its group, for how long, and who does not.

use super::syncs::{Brought, key, popular, synchronized};
use super::*;

/// Some members; what peer `mute` says is up to the test, but for its heartbeats.
struct Silence {
    world: World,
    mute: usize,
    works: Vec<(usize, WorkId)>,
}

fn odd(count: u64, digest: u8) -> Brought {
    let mut brought = popular(0, 1);
    brought.keys = vec![key("a", DType::U8, count, false), key("b", DType::U8, 1, false)];
    (brought.offer.size_bytes, brought.offer.keys) = (count + 1, Digest([digest; 16]));
    brought
}

impl Silence {
    fn of(mute: usize, brought: &[Brought]) -> Silence {
        let mut world = World::of(brought.len());
        world.moves_bytes = false;
        world.dead[mute] = true;
        let mut works = Vec::new();
        for (n, brought) in brought.iter().enumerate() {
            if n == mute {
                let conn = world.conn_of[n].expect("connected");
                let message = PeerMessage::SyncOffer { offer: brought.offer };
                world.master.handle(Input::Message { conn, message }, world.now);
                world.run();
            } else {
                works.push((n, world.sync(n, brought)));
            }
        }
        Silence { world, mute, works }
    }

    fn says(&mut self, message: PeerMessage) {
        if let Some(conn) = self.world.conn_of[self.mute] {
            self.world.master.handle(Input::Message { conn, message }, self.world.now);
            self.world.run();
        }
    }

    /// It lives, and says nothing else.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.world.pass(1_000);
            self.says(PeerMessage::Heartbeat);
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
        let mut silence = Silence::of(mute, &[0, 1, 2, 3].map(brought));
        silence.pass(9);
        assert_eq!(silence.put_out(), None);
        // Whoever describes takes its time.
        let page = |first, last, at: usize| PeerMessage::SyncKeys {
            first,
            last,
            keys: vec![brought(mute).keys[at].clone()],
        };
        silence.says(page(0, false, 0));
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
    let mut silence = Silence::of(0, &[popular(0, 1), popular(0, 1), popular(0, 2)]);
    silence.world.state_done(2, None);
    silence.pass(9);
    assert_eq!(silence.put_out(), None);
    silence.pass(3);
    assert!(
        silence.put_out().is_some_and(|out| out.contains("does not say so")),
        "{:?}",
        silence.world.events
    );
    for (n, work) in silence.works {
        assert_eq!(silence.world.outcome(n, work), synchronized(0), "{:?}", silence.world.events);
    }
}

/// A slow link looks the same from here. Its own library gives up when nothing comes any more.
#[test]
fn whoever_receives_is_waited_for() {
    let mut silence = Silence::of(2, &[popular(0, 1), popular(0, 1), popular(0, 2)]);
    silence.pass(120);
    assert_eq!(silence.put_out(), None);
    assert!(silence.works.iter().all(|(n, work)| silence.world.outcome(*n, *work).is_none()));
    let number = silence.world.begun[&0][0].0.number;
    silence.says(PeerMessage::SyncDone { number, failed: None });
    for (n, work) in silence.works {
        assert_eq!(silence.world.outcome(n, work), synchronized(0));
    }
}

#[test]
fn time_in_which_the_master_did_not_listen_does_not_count() {
    let mut silence = Silence::of(0, &[popular(0, 1), popular(0, 1), popular(0, 2)]);
    silence.world.now = silence.world.now.plus_ms(3_600_000);
    let now = silence.world.now;
    silence.world.master.on_deadline(now);
    silence.world.run();
    silence.pass(9);
    assert_eq!(silence.put_out(), None, "{:?}", silence.world.events);
    silence.pass(3);
    assert!(silence.put_out().is_some());
}
