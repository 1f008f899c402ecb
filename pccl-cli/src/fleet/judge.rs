//! Puts the reports of all peers together and says whether the run kept its promises.

use std::collections::BTreeMap;

use super::pattern::Instance;
use super::report::Step;

/// Problems kept in words; further ones are counted.
const MAX_PROBLEMS: usize = 20;

/// Peers considered as the reason of a missing report: every combination of them is tried.
const MAX_SUSPECTS: usize = 16;

/// Knows which peers there were and what each reported. Holds no process and asks no clock.
#[derive(Debug, Default)]
pub struct Judge {
    /// Successful instances that not all who took part have reported yet.
    open: BTreeMap<Instance, Seen>,
    /// Peers that ended or were told to, by number: (value, when).
    ended: BTreeMap<u32, (u32, u64)>,
    pub tally: Tally,
    /// Call to return of each operation, mean over its peers, with its world size.
    pub durations: Vec<(u32, u64)>,
}

/// What a summary counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations that succeeded.
    pub operations: u64,
    /// Calls that returned `Aborted`, over all peers.
    pub aborted_calls: u64,
    /// Results compared with what they must be.
    pub results_checked: u64,
    pub wrong_results: u64,
    /// Pairs of peers whose bits were compared.
    pub parity_checks: u64,
    pub parity_failures: u64,
    pub problems: Vec<String>,
    pub problem_count: u64,
}

#[derive(Debug)]
struct Seen {
    reporters: Vec<u32>,
    values: u32,
    start_us: u64,
    took_us: u64,
    checked: u64,
    checksum: u32,
}

impl Judge {
    pub fn problem(&mut self, text: String) {
        self.tally.problem_count += 1;
        if self.tally.problems.len() < MAX_PROBLEMS {
            self.tally.problems.push(text);
        }
    }

    /// From now on this peer's reports may be missing.
    pub fn ended(&mut self, number: u32, value: u32, at_us: u64) {
        self.ended.insert(number, (value, at_us));
    }

    pub fn step(&mut self, number: u32, value: u32, step: &Step) {
        self.tally.results_checked += 1;
        if let Some(wrong) = &step.wrong {
            self.tally.wrong_results += 1;
            self.problem(format!("wrong result at peer {number}: {wrong}"));
            return;
        }
        let new = !self.open.contains_key(&step.instance);
        let seen = self.open.entry(step.instance).or_insert(Seen {
            reporters: Vec::new(),
            values: 0,
            start_us: step.start_us,
            took_us: 0,
            checked: step.checked,
            checksum: step.checksum,
        });
        let (other, differs) = (seen.reporters.first().copied(), seen.checksum != step.checksum);
        let comparable = !new && seen.checked == step.checked;
        seen.reporters.push(number);
        seen.values += value;
        seen.start_us = seen.start_us.min(step.start_us);
        seen.took_us += step.took_us();
        if new {
            self.tally.operations += 1;
        }
        if comparable {
            self.tally.parity_checks += 1;
            if differs {
                self.tally.parity_failures += 1;
                let other = other.unwrap_or(number);
                self.problem(format!(
                    "peers {other} and {number} hold different bits of {:?}",
                    step.instance
                ));
            }
        }
        self.close_if_complete(&step.instance);
    }

    fn close_if_complete(&mut self, instance: &Instance) {
        let Some(seen) = self.open.get(instance) else { return };
        if (seen.reporters.len() as u32) < instance.world {
            return;
        }
        let (values, took_us) = (seen.values, seen.took_us);
        self.open.remove(instance);
        self.durations.push((instance.world, took_us / u64::from(instance.world.max(1))));
        if values != instance.value {
            self.problem(format!("{instance:?} is not the sum of those who reported it: they have {values}"));
        }
    }

    /// All processes have ended: what is still incomplete must be explained by peers that ended meanwhile.
    pub fn close(&mut self) {
        for (instance, seen) in std::mem::take(&mut self.open) {
            let missing = instance.world as usize - seen.reporters.len();
            let gone = self.ended_after(&seen);
            if !some_add_up(&gone, missing, instance.value.wrapping_sub(seen.values)) {
                self.problem(format!(
                    "{instance:?} succeeded at peers {:?} only, and those who ended do not explain it",
                    seen.reporters
                ));
            }
        }
    }

    /// The values of those who ended next after the operation began, without having reported it.
    fn ended_after(&self, seen: &Seen) -> Vec<u32> {
        let mut gone: Vec<(u64, u32)> = self
            .ended
            .iter()
            .filter(|(number, (_, at_us))| *at_us >= seen.start_us && !seen.reporters.contains(number))
            .map(|(_, (value, at_us))| (*at_us, *value))
            .collect();
        gone.sort_unstable();
        gone.into_iter().take(MAX_SUSPECTS).map(|(_, value)| value).collect()
    }

    /// Bus bandwidth of each complete operation, bytes a second: 2(N−1)/N × size / time, so that 1 is what
    /// each peer's own connection carries, whatever the world size.
    pub fn bus_bandwidths(&self, size_bytes: u64) -> Vec<f64> {
        self.durations.iter().map(|&(world, us)| bus_bandwidth(world, size_bytes, us)).collect()
    }

    pub fn all_good(&self) -> bool {
        self.tally.problem_count == 0
    }
}

pub fn bus_bandwidth(world: u32, size_bytes: u64, took_us: u64) -> f64 {
    let n = f64::from(world.max(1));
    2.0 * (n - 1.0) / n * size_bytes as f64 / (took_us.max(1) as f64 / 1e6)
}

/// Whether some `count` of the values add up to `sum`.
fn some_add_up(values: &[u32], count: usize, sum: u32) -> bool {
    match (count, values) {
        (0, _) => sum == 0,
        (_, []) => false,
        (_, [first, rest @ ..]) => {
            sum.checked_sub(*first).is_some_and(|left| some_add_up(rest, count - 1, left))
                || some_add_up(rest, count, sum)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(world: u32, value: u32, nonce: u32, checksum: u32) -> Step {
        let instance = Instance { world, value, counter: 1, nonce: [nonce; 4] };
        Step { instance, epoch: 1, start_us: 100, end_us: 1_100, checked: 64, checksum, wrong: None }
    }

    #[test]
    fn an_operation_that_all_report_alike_counts_once_and_is_good() {
        let mut judge = Judge::default();
        for (number, value) in [(1, 10), (2, 20), (3, 30)] {
            judge.step(number, value, &step(3, 60, 5, 9));
        }
        judge.close();
        assert!(judge.all_good(), "{:?}", judge.tally);
        let tally = &judge.tally;
        assert_eq!((tally.operations, tally.results_checked, tally.parity_checks), (1, 3, 2));
        assert_eq!(judge.durations, [(3, 1_000)]);
    }

    #[test]
    fn different_bits_are_a_parity_failure() {
        let mut judge = Judge::default();
        judge.step(1, 10, &step(2, 30, 5, 9));
        judge.step(2, 20, &step(2, 30, 5, 8));
        assert_eq!(judge.tally.parity_failures, 1);
        assert!(judge.tally.problems[0].contains("peers 1 and 2 hold different bits"));
    }

    #[test]
    fn a_wrong_sum_is_a_wrong_result() {
        let mut judge = Judge::default();
        judge.step(1, 10, &Step { wrong: Some("1 element".into()), ..step(2, 30, 5, 9) });
        assert_eq!(judge.tally.wrong_results, 1);
        assert!(!judge.all_good());
    }

    #[test]
    fn a_success_that_a_living_peer_did_not_see_breaks_agreement() {
        let mut judge = Judge::default();
        judge.step(1, 10, &step(2, 30, 5, 9));
        judge.close();
        assert!(judge.tally.problems[0].contains("succeeded at peers [1] only"));
    }

    #[test]
    fn a_peer_killed_meanwhile_need_not_have_reported() {
        let mut judge = Judge::default();
        judge.step(1, 10, &step(2, 30, 5, 9));
        judge.ended(2, 20, 500);
        judge.close();
        assert!(judge.all_good(), "{:?}", judge.tally);
    }

    #[test]
    fn a_peer_killed_before_or_with_another_value_explains_nothing() {
        for (value, at_us) in [(20, 50), (21, 500)] {
            let mut judge = Judge::default();
            judge.step(1, 10, &step(2, 30, 5, 9));
            judge.ended(2, value, at_us);
            judge.close();
            assert_eq!(judge.tally.problem_count, 1);
        }
    }

    #[test]
    fn members_that_do_not_add_up_to_the_sum_are_noticed() {
        let mut judge = Judge::default();
        judge.step(1, 10, &step(2, 31, 5, 9));
        judge.step(2, 20, &step(2, 31, 5, 9));
        assert!(judge.tally.problems[0].contains("is not the sum of those who reported it"));
    }

    #[test]
    fn bus_bandwidth_counts_what_a_peers_own_connection_carries() {
        assert_eq!(bus_bandwidth(2, 1_000_000, 1_000_000), 1e6);
        assert_eq!(bus_bandwidth(4, 1_000_000, 500_000), 3e6);
        assert_eq!(bus_bandwidth(1, 1_000_000, 500_000), 0.0);
    }
}
