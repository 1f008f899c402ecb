//! The end of a transfer: everybody has said what became of it.

use std::collections::BTreeSet;

use super::transfer::Linked;
use crate::proto::master::Master;
use crate::proto::master::election::names;
use crate::types::{FetchFailure, GroupId, PeerId, SyncOutcome};

impl Master {
    /// Nobody is waited for any more. Where some could not have it all call again, and find it at more peers by then. But
    /// not without end: who finds nobody that sends it in two transfers in a row has to go. Or those who were to send
    /// it, if nobody has received it from them and they are fewer than those who complain: it is them or the others.
    pub(super) fn conclude(&mut self, group: GroupId) {
        let before = self.syncs.in_vain.get(&group).cloned().unwrap_or_default();
        let Some(info) = self.info.group(group) else { return };
        let linked = Linked::of(info);
        let Some(transfer) = self.syncs.transfer(group) else { return };
        let revision = transfer.revision;
        let Some((first, failure)) = transfer.failed.first_key_value() else {
            return self.end_sync(group, SyncOutcome::Synchronized { revision });
        };
        let text = format!("peer {first} cannot have the elected content: {failure}");
        let finds_nobody = transfer.failed.iter().filter(|(_, f)| matches!(f, FetchFailure::NoSource { .. }));
        let in_vain: BTreeSet<PeerId> = finds_nobody.map(|(peer, _)| *peer).collect();
        let twice: Vec<(PeerId, String)> =
            in_vain.intersection(&before).map(|peer| (*peer, transfer.failed[peer].to_string())).collect();
        if twice.is_empty() {
            self.syncs.in_vain.insert(group, in_vain);
            return self.end_sync(group, SyncOutcome::Aborted { text });
        }
        let is_source = |peer: &PeerId| transfer.sources.iter().any(|source| source.peer == *peer);
        let nobody_received = transfer.holders.keys().all(is_source);
        let asked = |source: &PeerId| in_vain.iter().all(|peer| linked.holds(*peer, *source));
        let sources: Vec<PeerId> = transfer.sources.iter().map(|s| s.peer).filter(asked).collect();
        if nobody_received && !sources.is_empty() && sources.len() < in_vain.len() {
            let complain: Vec<PeerId> = in_vain.into_iter().collect();
            for source in sources {
                let text = format!(
                    "shared state: {} received from this peer something else than what it had offered, or nothing; its \
                     tensors are not to change during the call",
                    names(&complain)
                );
                self.kick(source, text);
            }
            self.syncs.in_vain.remove(&group);
            return self.end_sync(group, SyncOutcome::Aborted { text });
        }
        for (peer, text) in twice {
            let text =
                format!("shared state: twice in a row this peer could not have what was elected: {text}");
            self.kick(peer, text);
        }
        // The epoch without them ends it.
    }
}
