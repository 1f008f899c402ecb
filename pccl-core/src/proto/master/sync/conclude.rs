//! The end of a transfer: everybody has said what became of it.

use crate::proto::master::Master;
use crate::types::{GroupId, SyncOutcome};

impl Master {
    /// Nobody is waited for any more. Where some could not have it all call again, and find it at more peers by then.
    ///
    /// Nobody is put out for it: that one peer finds nobody who sends it says not whose fault that is, and a peer that lies could
    /// have others put out.
    pub(super) fn conclude(&mut self, group: GroupId) {
        let Some(transfer) = self.syncs.transfer(group) else { return };
        let revision = transfer.revision;
        let outcome = match transfer.failed.first_key_value() {
            None => SyncOutcome::Synchronized { revision },
            Some((first, failure)) => SyncOutcome::Aborted {
                text: format!("peer {first} cannot have the elected content: {failure}"),
            },
        };
        self.end_sync(group, outcome);
    }
}
