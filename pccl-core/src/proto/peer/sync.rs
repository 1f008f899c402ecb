//! The synchronization of the group's shared state, as one of its members makes it.

use std::sync::Arc;

use super::{Peer, usage};
use crate::error::Result;
use crate::types::{Offer, SyncNumber, TensorKey, WorkId};
use crate::wire::message::MasterMessage;

impl Peer {
    pub(super) fn call_synchronize(&mut self, _: WorkId, _: Offer, _: Arc<[TensorKey]>) -> Result<()> {
        Err(usage("synchronize_shared_state is not in this version yet".to_owned()))
    }

    pub(super) fn on_state_done(&mut self, number: SyncNumber, _: Option<String>) {
        self.log(format!("news of {number}, which this peer is not in"));
    }

    pub(super) fn on_sync_message(&mut self, _: MasterMessage) {
        self.log("a message about a shared state, in which this peer has no part".to_owned());
    }
}
