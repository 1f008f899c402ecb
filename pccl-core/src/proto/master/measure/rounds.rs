//! Who sends to whom in which round: a tournament.

use std::collections::BTreeSet;

use crate::types::PeerId;

/// A directed pair.
pub type Flow = (PeerId, PeerId);

/// All directed pairs of a group that `wanted` names, in rounds in which nobody sends to two, or hears from two. In round
/// `r` a member sends to the one `r` places further: as many rounds as there are others, whoever sends also hears, as in
/// an operation.
pub fn tournament(members: &[PeerId], wanted: impl Fn(PeerId, PeerId) -> bool) -> Vec<Vec<Flow>> {
    let size = members.len();
    let round = |r: usize| {
        let flow = |i: usize| (members[i], members[(i + r) % size]);
        (0..size).map(flow).filter(|(from, to)| wanted(*from, *to)).collect()
    };
    (1..size).map(round).filter(|flows: &Vec<Flow>| !flows.is_empty()).collect()
}

/// These flows in as few rounds as come about by taking each into the first where both its ends are free.
pub fn packed(flows: &[Flow]) -> Vec<Vec<Flow>> {
    let mut rounds: Vec<(Vec<Flow>, BTreeSet<PeerId>, BTreeSet<PeerId>)> = Vec::new();
    for &(from, to) in flows {
        let free = rounds
            .iter_mut()
            .find(|(_, sending, hearing)| !sending.contains(&from) && !hearing.contains(&to));
        match free {
            Some((round, sending, hearing)) => {
                round.push((from, to));
                sending.insert(from);
                hearing.insert(to);
            }
            None => rounds.push((vec![(from, to)], [from].into(), [to].into())),
        }
    }
    rounds.into_iter().map(|(round, ..)| round).collect()
}

/// Groups measure at the same time, as they run their operations at the same time.
pub fn together(groups: Vec<Vec<Vec<Flow>>>) -> Vec<Vec<Flow>> {
    let count = groups.iter().map(Vec::len).max().unwrap_or(0);
    let mut rounds = vec![Vec::new(); count];
    for group in groups {
        for (round, flows) in rounds.iter_mut().zip(group) {
            round.extend(flows);
        }
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(count: u8) -> Vec<PeerId> {
        (0..count).map(|n| PeerId([n; 16])).collect()
    }

    fn assert_nobody_twice(rounds: &[Vec<Flow>]) {
        for round in rounds {
            let sending: BTreeSet<PeerId> = round.iter().map(|(from, _)| *from).collect();
            let hearing: BTreeSet<PeerId> = round.iter().map(|(_, to)| *to).collect();
            assert_eq!((sending.len(), hearing.len()), (round.len(), round.len()), "{round:?}");
        }
    }

    #[test]
    fn a_tournament_has_every_directed_pair_once() {
        for size in 0..=17u8 {
            let rounds = tournament(&peers(size), |_, _| true);
            assert_nobody_twice(&rounds);
            let flows: Vec<Flow> = rounds.concat();
            let different: BTreeSet<Flow> = flows.iter().copied().collect();
            assert!(flows.iter().all(|(from, to)| from != to));
            let (size, pairs) = (usize::from(size), usize::from(size) * usize::from(size.saturating_sub(1)));
            assert_eq!((flows.len(), different.len()), (pairs, pairs));
            assert_eq!(rounds.len(), size.saturating_sub(1));
        }
    }

    #[test]
    fn what_is_known_costs_no_round() {
        let members = peers(5);
        let only = (members[1], members[4]);
        assert_eq!(tournament(&members, |from, to| (from, to) == only), [vec![only]]);
        assert_eq!(tournament(&members, |_, _| false), Vec::<Vec<Flow>>::new());
    }

    #[test]
    fn left_over_flows_are_packed() {
        let all: Vec<Flow> = tournament(&peers(6), |from, to| from.0[0] < 3 && to.0[0] != 4).concat();
        let rounds = packed(&all);
        assert_nobody_twice(&rounds);
        let (mut before, mut after) = (all, rounds.concat());
        before.sort_unstable();
        after.sort_unstable();
        assert_eq!(before, after);
    }

    #[test]
    fn groups_measure_at_the_same_time() {
        let (a, b) = (tournament(&peers(4), |_, _| true), tournament(&peers(3), |_, _| true));
        let rounds = together(vec![a.clone(), b.clone()]);
        assert_eq!(rounds.len(), 3);
        assert_eq!(rounds[1], [a[1].clone(), b[1].clone()].concat());
        assert_eq!(rounds[2], a[2]);
    }
}
