//! The synchronization of the group's shared state, as one of its members makes it.

mod offer;

use std::sync::Arc;

use self::offer::{check_offer, pages};
use super::io::{Done, Output, SyncInfo};
use super::ops::shortened_text;
use super::sync_state::{SYNC_TABLE, SyncEvent, SyncState};
use super::{Peer, usage};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{
    Election, FetchFailure, Needs, Offer, Source, SyncNumber, SyncOutcome, TensorKey, WorkId,
};
use crate::wire::message::{MasterMessage, PeerMessage, ResumedSync};

const CALL: &str = "synchronize_shared_state";

/// The call under way.
#[derive(Debug)]
struct InSync {
    work: WorkId,
    offer: Offer,
    keys: Arc<[TensorKey]>,
    state: SyncState,
    /// The number of the election and the revision that won, once it was held.
    elected: Option<(SyncNumber, u64)>,
}

impl InSync {
    fn step(&mut self, event: SyncEvent) -> bool {
        let next = crate::proto::table::step(SYNC_TABLE, self.state, event);
        self.state = next.unwrap_or(self.state);
        next.is_ok()
    }
}

#[derive(Debug, Default)]
pub(super) struct Syncs {
    call: Option<InSync>,
    /// The highest number heard of in this membership, at first that of before it: it and older ones have ended, or are
    /// the call's.
    pub number: SyncNumber,
    /// The latest outcome: a restarted master may need it for those who missed it.
    pub last: Option<(SyncNumber, SyncOutcome)>,
    /// The latest one that succeeded, and its revision.
    pub synced: Option<(SyncNumber, u64)>,
}

impl Syncs {
    pub fn resumed(&self) -> Option<ResumedSync> {
        let call = self.call.as_ref()?;
        let done = call.state == SyncState::Held;
        Some(ResumedSync { offer: call.offer, elected: call.elected, done })
    }

    fn elected(&mut self, number: SyncNumber) -> Option<&mut InSync> {
        self.call.as_mut().filter(|call| call.elected.is_some_and(|(elected, _)| elected == number))
    }
}

impl Peer {
    pub(super) fn call_synchronize(
        &mut self,
        work: WorkId,
        offer: Offer,
        keys: Arc<[TensorKey]>,
    ) -> Result<()> {
        self.must_be_member(CALL)?;
        self.must_not_be_in_phase(CALL)?;
        if self.syncs.call.is_some() {
            return Err(usage(format!("{CALL}: this peer is in {CALL} already")));
        }
        if let Some(tags) = self.ops.tags_in_flight() {
            return Err(Error::new(
                ErrorKind::PendingAsyncOps,
                format!("{CALL}: operations are in flight ({tags}); await them first"),
            ));
        }
        check_offer(&offer, &keys)?;
        self.must_have_company()?;
        self.syncs.call = Some(InSync { work, offer, keys, state: SyncState::Offered, elected: None });
        self.send(PeerMessage::SyncOffer { offer });
        Ok(())
    }

    pub(super) fn must_not_be_in_sync(&self, what: &str) -> Result<()> {
        match self.syncs.call {
            Some(_) => Err(usage(format!("{what}: this peer is in {CALL}"))),
            None => Ok(()),
        }
    }

    /// While the master is away this is kept for the resume message.
    pub(super) fn on_state_done(&mut self, number: SyncNumber, failed: Option<FetchFailure>) {
        let event = if failed.is_none() { SyncEvent::ContentHere } else { SyncEvent::CannotFetch };
        if self.syncs.elected(number).is_some_and(|call| call.step(event)) {
            self.send(PeerMessage::SyncDone { number, failed });
        } else {
            self.log(format!("news of {number}, for which nothing is fetched here"));
        }
    }

    pub(super) fn on_sync_message(&mut self, message: MasterMessage) {
        match message {
            MasterMessage::SyncDescribe => self.on_sync_describe(),
            MasterMessage::SyncElected { election } => self.on_sync_elected(*election),
            MasterMessage::SyncSource { number, source } => self.on_sync_source(number, source),
            MasterMessage::SyncEnded { number, outcome } => self.on_sync_ended(number, outcome),
            _ => {}
        }
    }

    fn on_sync_describe(&mut self) {
        let offered = self.syncs.call.as_ref().filter(|call| call.state == SyncState::Offered);
        let Some(keys) = offered.map(|call| call.keys.clone()) else {
            return self.log("asked for the tensors of a shared state that is not on offer here".to_owned());
        };
        for page in pages(&keys) {
            self.send(page);
        }
    }

    fn on_sync_elected(&mut self, election: Election) {
        let number = election.number;
        let is_new = number > self.syncs.number;
        let offered = |call: &&mut InSync| is_new && call.state == SyncState::Offered;
        let Some(call) = self.syncs.call.as_mut().filter(offered) else {
            return self.log(format!("the election of {number}, which this peer is not in"));
        };
        let needs = call.offer.needs(election.revision, election.content, election.full);
        let lacks = needs != Needs::Nothing;
        call.step(if lacks { SyncEvent::ElectedOther } else { SyncEvent::ElectedSame });
        call.elected = Some((number, election.revision));
        let work = call.work;
        self.syncs.number = number;
        self.outputs.push_back(Output::BeginSync { work, election: Arc::new(election), needs });
        if !lacks {
            self.send(PeerMessage::SyncDone { number, failed: None });
        }
    }

    fn on_sync_source(&mut self, number: SyncNumber, source: Source) {
        match self.syncs.elected(number).map(|call| call.state) {
            Some(SyncState::Fetching) => self.outputs.push_back(Output::AddSource { number, source }),
            // It came too late to be of use: our end of the transfer is on its way to the master.
            Some(_) => {}
            None => self.log(format!("a source for {number}, which this peer is not in")),
        }
    }

    fn on_sync_ended(&mut self, number: SyncNumber, outcome: SyncOutcome) {
        let newer = number > self.syncs.number;
        if self.syncs.call.is_none() && newer {
            // A newcomer hears how far the run is.
            self.syncs.number = number;
            return;
        }
        let ends = |call: &InSync| call.elected.map_or(newer, |(elected, _)| elected == number);
        if !self.syncs.call.as_ref().is_some_and(ends) {
            return self.log(format!("the end of {number}, which this peer is not in"));
        }
        let Some(mut call) = self.syncs.call.take() else { return };
        self.syncs.number = number;
        self.syncs.last = Some((number, shortened(outcome.clone())));
        if let SyncOutcome::Synchronized { revision } = outcome {
            self.syncs.synced = Some((number, revision));
        }
        let synchronized = matches!(outcome, SyncOutcome::Synchronized { .. });
        let legal = call.step(if synchronized { SyncEvent::Synchronize } else { SyncEvent::GiveUp });
        let done = match outcome {
            SyncOutcome::Synchronized { revision } if legal => {
                Ok(Done::Synchronized(SyncInfo { revision, ..SyncInfo::default() }))
            }
            SyncOutcome::Synchronized { .. } => Err(Error::new(
                ErrorKind::Internal,
                format!("the master ended {number} as a success, but its content is not here"),
            )),
            SyncOutcome::NothingOffered { text } => Err(Error::new(ErrorKind::NoSharedStateAvailable, text)),
            SyncOutcome::Aborted { text } => {
                let text =
                    format!("{CALL} ({number}) was aborted: {text}; call again, it goes on where it stood");
                Err(Error::new(ErrorKind::Aborted, text))
            }
            SyncOutcome::Deadlocked { text } => Err(usage(text)),
        };
        self.outputs.push_back(Output::EndSync { work: call.work });
        self.complete(call.work, done);
    }

    /// The membership is over, and with it everything a master may want to know.
    pub(super) fn end_sync(&mut self, kind: ErrorKind, reason: &str) {
        if let Some(call) = std::mem::take(&mut self.syncs).call {
            self.outputs.push_back(Output::EndSync { work: call.work });
            self.complete(call.work, Err(Error::new(kind, format!("{CALL} ended: {reason}"))));
        }
    }
}

fn shortened(mut outcome: SyncOutcome) -> SyncOutcome {
    match &mut outcome {
        SyncOutcome::Synchronized { .. } => {}
        SyncOutcome::NothingOffered { text }
        | SyncOutcome::Aborted { text }
        | SyncOutcome::Deadlocked { text } => shortened_text(text),
    }
    outcome
}
