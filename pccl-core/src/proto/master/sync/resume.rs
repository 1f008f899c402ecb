//! A restarted master settles the synchronizations it finds.
//!
//! An outcome that anybody saw holds for all who were in that one. One that was under way has succeeded if all who are
//! back hold the content, and is aborted otherwise. Offers that nothing became of count as if just made.

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::master::Master;
use crate::types::{GroupId, PeerId, SyncNumber, SyncOutcome};
use crate::wire::message::{MasterMessage, PeerMessage, Resume, ResumedSync};

type Reports<'a> = [(PeerId, &'a Resume)];

/// Those who are back in an election, and those who only offered.
struct Found<'a> {
    elected: Vec<(PeerId, SyncNumber, &'a ResumedSync)>,
    offered: Vec<(PeerId, &'a Resume, &'a ResumedSync)>,
}

impl<'a> Found<'a> {
    fn of(reports: &Reports<'a>) -> Found<'a> {
        let mut found = Found { elected: Vec::new(), offered: Vec::new() };
        for (id, report) in reports {
            let Some(sync) = &report.sync else { continue };
            match sync.elected {
                Some((number, _)) => found.elected.push((*id, number, sync)),
                None => found.offered.push((*id, report, sync)),
            }
        }
        found
    }
}

impl Master {
    /// Every number that is drawn from here on is new to everybody who is back.
    pub(in crate::proto::master) fn resume_sync_number<'a>(
        &mut self,
        reports: impl Iterator<Item = &'a Resume>,
    ) {
        let numbers = reports.flat_map(|report| {
            let elected = report.sync.as_ref().and_then(|sync| sync.elected).map(|(number, _)| number);
            let last = report.sync_last.as_ref().map(|(number, _)| *number);
            let synced = report.synced.map(|(number, _)| number);
            [Some(report.sync_number), elected, last, synced]
        });
        self.syncs.number = numbers.flatten().fold(self.syncs.number, SyncNumber::max);
    }

    /// `held` has what came while the others were awaited.
    pub(in crate::proto::master) fn resume_sync(
        &mut self,
        group: GroupId,
        reports: &Reports<'_>,
        held: &[(PeerId, PeerMessage)],
    ) {
        if let Some((_, revision)) = reports.iter().filter_map(|(_, r)| r.synced).max() {
            self.syncs.expected.insert(group, revision.saturating_add(1));
        }
        let outcomes = reports.iter().filter_map(|(_, r)| r.sync_last.as_ref());
        let outcomes: BTreeMap<SyncNumber, &SyncOutcome> =
            outcomes.map(|(n, outcome)| (*n, outcome)).collect();
        let found = Found::of(reports);
        let mut open = Vec::new();
        for (id, number, sync) in &found.elected {
            match outcomes.get(number) {
                Some(outcome) => self.tell_end(*id, *number, outcome),
                None => open.push((*id, *number, *sync)),
            }
        }
        if open.is_empty() {
            self.resume_offers(&found, outcomes.last_key_value().map(|(n, outcome)| (*n, *outcome)));
        } else {
            self.settle_open(group, &found, &open, reports.len(), held);
        }
    }

    /// An election was held, and nobody knows how it ended.
    fn settle_open(
        &mut self,
        group: GroupId,
        found: &Found<'_>,
        open: &[(PeerId, SyncNumber, &ResumedSync)],
        present: usize,
        held: &[(PeerId, PeerMessage)],
    ) {
        let said: BTreeSet<(PeerId, SyncNumber)> =
            held.iter().filter_map(|(from, m)| done(*from, m)).collect();
        let first = open.first().and_then(|(_, _, sync)| sync.elected);
        let same = open.iter().all(|(_, _, sync)| sync.elected == first);
        let all_done = open.iter().all(|(id, number, sync)| sync.done || said.contains(&(*id, *number)));
        let outcome = match first {
            Some((_, revision)) if same && all_done && open.len() == present && present > 1 => {
                SyncOutcome::Synchronized { revision }
            }
            _ => SyncOutcome::Aborted { text: "the master was restarted in the middle of it".to_owned() },
        };
        for (id, number, _) in open {
            self.tell_end(*id, *number, &outcome);
        }
        let number = open.iter().map(|(_, number, _)| *number).max().unwrap_or_default();
        // While some were in it nobody was admitted: those who had not heard of the election were in it too.
        for (id, report, _) in &found.offered {
            let number = if report.sync_number < number { number } else { self.syncs.next_number() };
            self.tell_end(*id, number, &outcome);
        }
        self.sync_has_ended(group, number, outcome);
    }

    /// Nothing was decided that not somebody knows. `last`: the latest of it.
    fn resume_offers(&mut self, found: &Found<'_>, last: Option<(SyncNumber, &SyncOutcome)>) {
        for (id, report, sync) in &found.offered {
            match last {
                // A member heard the latest number there was when it was admitted: it was in every later one.
                Some((number, outcome)) if report.sync_number < number => self.tell_end(*id, number, outcome),
                _ => self.on_sync_offer(*id, sync.offer),
            }
        }
    }

    fn tell_end(&mut self, to: PeerId, number: SyncNumber, outcome: &SyncOutcome) {
        self.send(to, MasterMessage::SyncEnded { number, outcome: outcome.clone() });
    }
}

fn done(from: PeerId, message: &PeerMessage) -> Option<(PeerId, SyncNumber)> {
    match message {
        PeerMessage::SyncDone { number, failed: None } => Some((from, *number)),
        _ => None,
    }
}
