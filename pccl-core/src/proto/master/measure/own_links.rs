//! What a machine's own link carries, told from a round in which everybody sends to everybody. `docs/TOPOLOGY.md` says
//! what such a round shows and what it does not.

/// A flow that gets less than this part of what it gets alone is held up by something that it shares.
const HELD_UP: f64 = 0.8;
/// What arrives of what went out differs by no more than this part from what does of most of a sender's flows.
const BORNE_OUT: f64 = 0.7;

/// One flow over a machine's own link, in bytes a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shared {
    pub alone: f64,
    pub together: f64,
    /// What the machine itself says of it, where `together` is another's word.
    pub sent: Option<f64>,
}

/// What the flows over one machine's uplink, or its downlink, tell of it.
#[derive(Clone, Debug, Default)]
pub struct OwnLink {
    told: Vec<Shared>,
    due: usize,
}

impl OwnLink {
    /// None: it told nothing.
    pub fn add(&mut self, flow: Option<Shared>) {
        self.due += 1;
        self.told.extend(flow);
    }

    /// Most of the flows told something.
    pub fn is_told(&self) -> bool {
        self.told.len() * 2 > self.due || self.due == 0
    }

    /// What it carried, if it was what held most of the flows up. One that is slower even alone than those shares is
    /// held up by its own path and says nothing, but what it carried counts.
    pub fn limit(mut self) -> Option<f64> {
        self.bear_out();
        let is_held_up = |flow: &&Shared| flow.together < HELD_UP * flow.alone;
        let (held_up, free): (Vec<&Shared>, Vec<&Shared>) = self.told.iter().partition(is_held_up);
        let share = median(held_up.iter().map(|flow| flow.together))?;
        let against = free.iter().filter(|flow| flow.together * HELD_UP > share).count();
        // One flow alone shares with nobody.
        if held_up.len() < 2 || held_up.len() <= against {
            return None;
        }
        let sum: f64 = self.told.iter().map(|flow| flow.together).sum();
        // It has carried what its flows got alone, too.
        let alone = median(self.told.iter().map(|flow| flow.alone))?;
        Some(sum.max(alone))
    }

    /// Nobody's uplink is what one other makes it: a receiver's word counts as far as the sender's leaves room for it. More
    /// goes out than arrives while queues on the way fill, but of all flows alike.
    fn bear_out(&mut self) {
        let parts = self.told.iter().filter_map(|flow| flow.sent.map(|sent| flow.together / sent));
        let Some(arrives) = median(parts) else { return };
        for flow in &mut self.told {
            if let Some(expected) = flow.sent.map(|sent| arrives * sent) {
                flow.together = flow.together.clamp(BORNE_OUT * expected, expected / BORNE_OUT);
            }
        }
    }
}

/// The lower one of two.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    let middle = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(flows: &[(f64, f64)]) -> Option<f64> {
        let mut link = OwnLink::default();
        flows.iter().for_each(|&(alone, together)| link.add(Some(Shared { alone, together, sent: None })));
        link.limit()
    }

    #[test]
    fn it_is_a_limit_where_it_holds_most_of_its_flows_up() {
        type Row<'a> = (&'a [(f64, f64)], Option<f64>, &'a str);
        let table: &[Row<'_>] = &[
            (&[(100.0, 50.0), (100.0, 50.0)], Some(100.0), "it is shared out"),
            (&[(100.0, 95.0), (100.0, 95.0)], None, "nothing holds it up"),
            (&[(100.0, 50.0), (100.0, 100.0)], None, "one word against another"),
            (&[(100.0, 33.0)], None, "alone"),
            (&[], None, "nobody"),
            (
                &[(100.0, 30.0), (100.0, 30.0), (100.0, 30.0), (100.0, 100.0)],
                Some(190.0),
                "one is held up by nothing, or says so",
            ),
            (
                &[(10.0, 10.0), (10.0, 10.0), (10.0, 10.0), (100.0, 35.0), (100.0, 35.0)],
                Some(100.0),
                "paths slower than the share say nothing, and carry their part",
            ),
            (&[(10.0, 10.0), (10.0, 10.0), (100.0, 80.0)], None, "no two show that they share"),
            (&[(100.0, 20.0), (100.0, 20.0)], Some(100.0), "it has carried 100 before"),
        ];
        for (flows, expected, why) in table {
            assert_eq!(limit(flows), *expected, "{why}");
        }
    }

    #[test]
    fn most_of_the_flows_have_to_tell() {
        let mut link = OwnLink::default();
        assert!(link.is_told(), "there are none");
        link.add(None);
        assert!(!link.is_told());
        let flow = Shared { alone: 1.0, together: 1.0, sent: None };
        link.add(Some(flow));
        assert!(!link.is_told());
        link.add(Some(flow));
        assert!(link.is_told());
    }

    #[test]
    fn a_receivers_word_moves_a_senders_flow_by_little() {
        // Half of what goes out arrives, of all flows; and one peer says what it likes.
        let with = |told: f64| {
            let mut link = OwnLink::default();
            for together in [50.0, 50.0, 40.0, told] {
                link.add(Some(Shared { alone: 120.0, together, sent: Some(100.0) }));
            }
            link.limit().expect("all are held up")
        };
        for (told, expected) in [(50.0, 190.0), (1e-3, 140.0 + 28.0), (1e12, 140.0 + 50.0 / BORNE_OUT)] {
            assert!((with(told) - expected).abs() < 1e-6, "{told}: {}", with(told));
        }
    }
}
