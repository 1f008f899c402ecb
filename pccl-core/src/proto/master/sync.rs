//! The synchronization of a group's shared state as the master sees it: who has offered what, who won, who is done.

use super::Master;
use crate::types::PeerId;
use crate::wire::message::PeerMessage;

impl Master {
    pub(super) fn on_sync_message(&mut self, from: PeerId, message: PeerMessage) {
        let text = format!("{}: shared state is not in this version of the master", super::name(&message));
        self.kick(from, text);
    }
}
