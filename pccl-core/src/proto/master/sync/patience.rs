//! Answers that are the library's alone, whatever the program does: who does not give them in time holds up its group, and
//! is put out.
//!
//! There are two: the description of tensors that are on offer, and the word of a peer that holds already what was elected. How
//! long a peer may receive is nothing the master can judge: it takes as long as it takes, and a peer to which nothing comes any
//! more says so itself. It is named in the log.

use super::Stage;
use crate::limits::SYNC_ANSWER_MS;
use crate::proto::master::Master;
use crate::proto::master::io::Event;
use crate::types::{PeerId, Time};

impl Master {
    /// Puts out who owes such an answer for too long: for as long as a whole peer may be silent, at least.
    pub(in crate::proto::master) fn expire_syncs(&mut self, now: Time) {
        let patience_us = SYNC_ANSWER_MS.max(u64::from(self.config.silence_ms)) * 1000;
        let mut overdue: Vec<(PeerId, &str)> = Vec::new();
        let mut events: Vec<Event> = Vec::new();
        for (group, sync) in &mut self.syncs.groups {
            match &mut sync.stage {
                Stage::Collecting(describing) => {
                    let asked = describing.awaited().filter(|(_, heard)| now.since_us(**heard) > patience_us);
                    overdue
                        .extend(asked.map(|(id, _)| (id, "was asked to describe its tensors, and does not")));
                }
                Stage::Moving(transfer) => {
                    let waited_us = now.since_us(transfer.since);
                    if waited_us > patience_us {
                        let silent = transfer.silent();
                        overdue.extend(silent.map(|id| (id, "holds what was elected, and does not say so")));
                    }
                    if waited_us >= transfer.tell_at_us {
                        transfer.tell_at_us *= 2;
                        let (number, seconds) = (transfer.number, waited_us / 1_000_000);
                        let awaited = transfer.awaited().collect();
                        events.push(Event::StateAwaited { group: *group, number, awaited, seconds });
                    }
                }
            }
        }
        events.into_iter().for_each(|event| self.event(event));
        for (id, what) in overdue {
            self.kick(id, format!("shared state: this peer {what} within {} s", patience_us / 1_000_000));
        }
    }

    /// We did not listen: everybody has all the time again.
    pub(in crate::proto::master) fn restart_sync_patience(&mut self, now: Time) {
        for sync in self.syncs.groups.values_mut() {
            match &mut sync.stage {
                Stage::Collecting(describing) => {
                    if let Some((_, heard)) = describing.awaited() {
                        *heard = now;
                    }
                }
                Stage::Moving(transfer) => transfer.since = now,
            }
        }
    }
}
