//! Pairs, and that their index agrees with them.

use proptest::prelude::*;

use super::*;

const GROUP: GroupId = GroupId(1);

fn id(n: u8) -> PeerId {
    PeerId([n; 16])
}

fn key(a: u8, b: u8) -> PairKey {
    pair_key(id(a), id(b))
}

fn linking() -> Pairs {
    let mut pairs = Pairs::default();
    pairs.add(GROUP, key(1, 2), [false; 2], Time(5_000));
    pairs
}

#[test]
fn a_pair_in_order_has_no_timer_and_is_not_odd() {
    let mut pairs = linking();
    assert_eq!((pairs.next_deadline(), pairs.odd(GROUP).count()), (Some(Time(5_000)), 1));
    pairs.link_up(id(1), id(2), 0, 0);
    assert_eq!(pairs.state(id(1), id(2)), PairState::Linking);
    assert_eq!(pairs.link_up(id(2), id(1), 0, 0), Change::Resolved(PairState::Up));
    assert_eq!((pairs.next_deadline(), pairs.odd(GROUP).count()), (None, 0));
    pairs.link_down(id(2), id(1), 0, "reset".into(), Time(7_000));
    assert_eq!(pairs.odd(GROUP).count(), 1, "a pair with trouble is remembered");
    assert_eq!(pairs.expired(Time(7_000).plus_ms(LINK_LOSS_GRACE_MS)), Some((key(1, 2), true)));
}

#[test]
fn the_longest_round_trip_is_of_those_that_count_and_by_the_end_that_was_not_disturbed() {
    let mut pairs = linking();
    pairs.add(GROUP, key(1, 3), [false; 2], Time(5_000));
    for (from, to, rtt_us) in [(1, 2, 90), (2, 1, 4_000), (1, 3, 0), (3, 1, 70_000)] {
        pairs.link_up(id(from), id(to), 0, rtt_us);
    }
    assert_eq!(pairs.longest_rtt_us(GROUP, |_| true), 131_072);
    assert_eq!(pairs.longest_rtt_us(GROUP, |peer| peer != id(3)), 128);
    assert_eq!(pairs.longest_rtt_us(GroupId(0), |_| true), 0);
    pairs.relink(key(1, 3), [false; 2], Time(0), Time(9_000));
    assert_eq!(pairs.longest_rtt_us(GROUP, |_| true), 128, "without a link there is no figure");
    pairs.forget(id(1), [id(2), id(3)].into_iter());
    assert_eq!((pairs.longest_rtt_us(GROUP, |_| true), pairs.next_deadline()), (0, None));
}

proptest! {
    /// Whatever happens to pairs, the index says what looking at all of them says.
    #[test]
    fn the_index_agrees_with_the_pairs(steps in prop::collection::vec((0u8..8, 1u8..5, 1u8..5, any::<u32>()), 0..60)) {
        let mut pairs = Pairs::default();
        for (at, (step, a, b, figure)) in steps.into_iter().enumerate() {
            let (now, generation) = (Time(at as u64 * 7_000), figure % 3);
            if a == b {
                continue;
            }
            let until = now.plus_ms(50);
            match step {
                0 => pairs.add(GROUP, key(a, b), [figure % 5 == 0, false], until),
                1 => drop(pairs.link_up(id(a), id(b), generation, figure)),
                2 => drop(pairs.link_failed(id(a), id(b), generation, "no".into())),
                3 => drop(pairs.link_down(id(a), id(b), generation, "lost".into(), now)),
                4 => pairs.relink(key(a, b), [false; 2], now, until),
                5 => pairs.resume(GROUP, key(a, b), usize::from(a > b), generation, figure),
                6 => pairs.forget(id(a), [id(b)].into_iter()),
                _ => while pairs.expired(now).is_some_and(|(key, lost)| { if lost { pairs.give_up(key, "no") } true }) {},
            }
            let odd: Vec<PairKey> = pairs.odd(GROUP).map(|(key, _)| key).collect();
            let looked_at: Vec<PairKey> =
                pairs.pairs.iter().filter(|(_, p)| !p.in_order()).map(|(key, _)| *key).collect();
            prop_assert_eq!(odd, looked_at);
            let up = pairs.pairs.values().filter(|p| p.state() == PairState::Up);
            let longest = up.map(Pair::rtt_us).max().unwrap_or(0);
            let longest = if longest == 0 { 0 } else { longest.min(1 << 31).next_power_of_two() };
            prop_assert_eq!(pairs.longest_rtt_us(GROUP, |_| true), longest);
            for (time, key) in &pairs.index.timers {
                prop_assert!(pairs.pairs[key].times().any(|t| t == *time));
            }
        }
    }
}

#[test]
fn a_round_trip_that_is_told_again_is_news_where_it_makes_the_pair_near() {
    let mut pairs = linking();
    pairs.link_up(id(1), id(2), 0, 9_000);
    assert_eq!(pairs.link_up(id(2), id(1), 0, 6_000), Change::Resolved(PairState::Up));
    assert_eq!(pairs.link_up(id(1), id(2), 0, 5_000), Change::Nothing);
    assert_eq!(pairs.link_up(id(1), id(2), 0, 1_000), Change::Distance);
    assert_eq!(pairs.link_up(id(2), id(1), 0, 60), Change::Nothing, "it was near");
}
