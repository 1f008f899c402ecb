//! Who comes and who goes.

use std::net::{IpAddr, SocketAddr};

use super::io::{ConnId, Event, Output};
use super::pairs::{Change, PairState, pair_key};
use super::{Conn, Master, Peer, PeerEvent, PeerState};
use crate::limits;
use crate::types::{GroupId, PeerId, Time};
use crate::wire::message::{Join, MasterMessage, PeerAddress};

impl Master {
    pub(super) fn on_connected(&mut self, conn: ConnId, from: IpAddr) {
        self.conns.insert(conn, Conn { from, peer: None, heard: self.seen });
        let message = MasterMessage::Welcome {
            incarnation: self.config.incarnation,
            run: self.run,
            token: self.config.token,
            heartbeat_ms: self.config.heartbeat_ms,
            silence_ms: self.config.silence_ms,
        };
        self.outputs.push_back(Output::Send { conn, message });
    }

    pub(super) fn on_join(&mut self, conn: ConnId, join: Join) {
        if self.peers.contains_key(&join.peer) {
            return self.refuse(conn, false, format!("a peer with id {} is already here", join.peer));
        }
        if self.peers.len() >= limits::MAX_PEERS {
            return self.refuse(conn, false, format!("the run has its {} peers", limits::MAX_PEERS));
        }
        let id = join.peer;
        let Some(from) = self.enlist(conn, join, PeerState::Pending) else { return };
        self.send(id, MasterMessage::Pending);
        self.event(Event::PeerPending { peer: id, from });
        if self.recovery.is_none() {
            self.introduce(id);
        }
    }

    pub(super) fn enlist(&mut self, conn: ConnId, join: Join, state: PeerState) -> Option<IpAddr> {
        let id = join.peer;
        let connection = self.conns.get_mut(&conn)?;
        connection.peer = Some(id);
        let from = connection.from;
        self.joins += 1;
        let peer = Peer {
            conn,
            join,
            from,
            state,
            joined: self.joins,
            phase: None,
            in_sync: false,
            blocked: None,
            alone: false,
            open_ops: 0,
        };
        self.peers.insert(id, peer);
        if state == PeerState::Member {
            self.member_count += 1;
        }
        Some(from)
    }

    /// Tells a newcomer and everybody of its group to make data links with each other.
    pub(super) fn introduce(&mut self, id: PeerId) {
        let Some(newcomer) = self.peers.get(&id) else { return };
        let group = newcomer.join.group;
        let until = self.seen.plus_ms(u64::from(self.config.link_timeout_ms));
        let others = self.others_of_group(id, group);
        let mut addresses = Vec::with_capacity(others.len());
        for other in others {
            self.pairs.add(group, pair_key(id, other), self.undialable(id, other), until);
            addresses.extend(self.address(other, 0));
            if let Some(address) = self.address(id, 0) {
                self.send(other, MasterMessage::LinkTo { peers: vec![address] });
            }
        }
        if !addresses.is_empty() {
            self.send(id, MasterMessage::LinkTo { peers: addresses });
        }
        self.newcomers_changed();
    }

    pub(super) fn newcomers_changed(&mut self) {
        self.newcomers_changed = true;
        self.ready_newcomers = None;
    }

    fn others_of_group(&self, id: PeerId, group: GroupId) -> Vec<PeerId> {
        self.peers.iter().filter(|(o, p)| **o != id && p.join.group == group).map(|(o, _)| *o).collect()
    }

    pub(super) fn address(&self, id: PeerId, generation: u32) -> Option<PeerAddress> {
        let peer = self.peers.get(&id)?;
        let addresses = match peer.join.announced {
            Some((ip, port)) => vec![SocketAddr::new(ip, port)],
            None if peer.join.data_port != 0 => vec![SocketAddr::new(peer.from, peer.join.data_port)],
            None => Vec::new(),
        };
        Some(PeerAddress { peer: id, generation, addresses })
    }

    /// Which ends of the pair nobody can dial, lower id first.
    pub(super) fn undialable(&self, a: PeerId, b: PeerId) -> [bool; 2] {
        let (low, high) = pair_key(a, b);
        [low, high].map(|id| self.address(id, 0).is_none_or(|address| address.addresses.is_empty()))
    }

    pub(super) fn on_closed(&mut self, conn: ConnId, reason: &str) {
        let Some(state) = self.conns.remove(&conn) else { return };
        match state.peer {
            Some(peer) => self.lose(peer, reason),
            None => self.event(Event::Stranger { conn, reason: reason.to_owned() }),
        }
    }

    pub(super) fn on_leave(&mut self, id: PeerId) {
        if let Some(conn) = self.peers.get(&id).map(|p| p.conn) {
            self.remove(id, "it left");
            self.event(Event::PeerLeft { peer: id });
            self.outputs.push_back(Output::Close { conn });
        }
    }

    fn lose(&mut self, id: PeerId, reason: &str) {
        if self.remove(id, reason) {
            self.event(Event::PeerLost { peer: id, reason: reason.to_owned() });
        }
    }

    pub(super) fn refuse(&mut self, conn: ConnId, fatal: bool, text: String) {
        let removed = self.conns.remove(&conn);
        self.outputs
            .push_back(Output::Send { conn, message: MasterMessage::Refused { fatal, text: text.clone() } });
        self.outputs.push_back(Output::Close { conn });
        match removed.and_then(|c| c.peer) {
            Some(peer) => {
                self.remove(peer, "refused");
                self.event(Event::PeerRefused { peer, reason: text });
            }
            None => self.event(Event::Stranger { conn, reason: text }),
        }
    }

    /// Puts a peer out of the run, and tells it why.
    pub(super) fn kick(&mut self, id: PeerId, text: String) {
        let Some(conn) = self.peers.get(&id).map(|p| p.conn) else { return };
        self.send(id, MasterMessage::Kicked { text: text.clone() });
        self.outputs.push_back(Output::Close { conn });
        self.remove(id, &format!("kicked: {text}"));
        self.event(Event::PeerKicked { peer: id, reason: text });
    }

    fn remove(&mut self, id: PeerId, reason: &str) -> bool {
        let Some(peer) = self.peers.remove(&id) else { return false };
        self.conns.remove(&peer.conn);
        self.in_phase -= usize::from(peer.phase.is_some());
        self.blocked_peers -= usize::from(peer.blocked.is_some());
        let others = self.others_of_group(id, peer.join.group);
        self.pairs.forget(id, others.iter().copied());
        self.measuring.forget(id);
        // While a run is being recovered a peer may come back with its links.
        for other in others.into_iter().filter(|_| self.recovery.is_none()) {
            self.outputs.extend(
                self.peers
                    .get(&other)
                    .map(|p| Output::Send { conn: p.conn, message: MasterMessage::Unlink { peer: id } }),
            );
        }
        match peer.state {
            PeerState::Member => {
                self.member_count -= 1;
                self.leave_sync(peer.join.group, id, peer.in_sync);
                if self.member_count == 0 {
                    self.patience = None;
                }
                self.dirty.entry(peer.join.group).or_default().lost(format!("lost peer {id}: {reason}"));
            }
            PeerState::Preparing | PeerState::Prepared => self.burn_prepare(),
            PeerState::Pending => {}
        }
        self.newcomers_changed();
        true
    }

    /// A run without members takes the peer that has waited longest.
    pub(super) fn accept_first(&mut self) -> bool {
        if self.member_count > 0 || !self.dirty.is_empty() {
            return false;
        }
        let pending = self.peers.iter().filter(|(_, p)| p.state == PeerState::Pending);
        let Some(first) = pending.min_by_key(|(_, p)| p.joined).map(|(id, _)| *id) else { return false };
        self.step(first, PeerEvent::First);
        self.newcomers_changed();
        self.begin_first_epoch(first);
        true
    }

    /// Newcomers that could be in the next epoch, in the order of their joins.
    pub(super) fn admissible(&self) -> Vec<PeerId> {
        let mut pending: Vec<(u64, PeerId, GroupId)> = self
            .peers
            .iter()
            .filter(|(_, p)| p.state != PeerState::Member)
            .map(|(id, p)| (p.joined, *id, p.join.group))
            .collect();
        pending.sort_unstable();
        let mut chosen: Vec<(PeerId, GroupId)> = Vec::new();
        for (_, id, group) in pending {
            let members = self.members_of(group);
            let resolved = |other: &PeerId| self.pairs.state(id, *other) != PairState::Linking;
            let up = |other: &PeerId| self.pairs.state(id, *other) == PairState::Up;
            let mut friends = chosen.iter().filter(|(_, g)| *g == group).map(|(c, _)| c);
            // In a group without members the first of it stands alone, the next ones need a link to it.
            let reachable = if members.is_empty() {
                let mut before = friends.clone().peekable();
                before.peek().is_none() || before.any(up)
            } else {
                members.iter().any(up)
            };
            if reachable && members.iter().all(resolved) && friends.all(resolved) {
                chosen.push((id, group));
            }
        }
        chosen.into_iter().map(|(id, _)| id).collect()
    }

    /// How many newcomers could be admitted now.
    pub(super) fn ready_newcomers(&mut self) -> usize {
        match self.ready_newcomers {
            Some(count) => count,
            None => {
                let count = self.admissible().len();
                self.ready_newcomers = Some(count);
                count
            }
        }
    }

    /// A newcomer that no member has a link with, and none will have, is told so instead of waiting for ever.
    pub(super) fn refuse_hopeless(&mut self) {
        if !std::mem::take(&mut self.newcomers_changed) {
            return;
        }
        let pending: Vec<(PeerId, ConnId, GroupId)> = self
            .peers
            .iter()
            .filter(|(_, p)| p.state == PeerState::Pending)
            .map(|(id, p)| (*id, p.conn, p.join.group))
            .collect();
        for (id, conn, group) in pending {
            let members = self.members_of(group);
            let hopeless = |m: &PeerId| self.pairs.state(id, *m) == PairState::Failed;
            if !members.is_empty() && members.iter().all(hopeless) {
                let why: Vec<String> = members
                    .iter()
                    .take(3)
                    .filter_map(|m| self.pairs.get(id, *m).map(|p| format!("with {m}: {}", p.failure())))
                    .collect();
                let at = self.address(id, 0).and_then(|a| a.addresses.first().copied());
                let at = at.map_or("it takes no connections".to_owned(), |at| format!("others dial {at}"));
                let text = format!(
                    "no data link with any member of {group} could be made ({}; {at}); open the data port of this \
                     peer, or announce the address and port others reach it at",
                    why.join(", ")
                );
                self.refuse(conn, false, text);
            }
        }
    }

    pub(super) fn on_link_up(&mut self, from: PeerId, to: PeerId, generation: u32, rtt_us: u32) {
        let change = self.pairs.link_up(from, to, generation, rtt_us);
        self.pair_changed(from, to, change);
    }

    pub(super) fn on_link_failed(&mut self, from: PeerId, to: PeerId, generation: u32, reason: String) {
        let change = self.pairs.link_failed(from, to, generation, reason);
        self.pair_changed(from, to, change);
    }

    fn pair_changed(&mut self, from: PeerId, to: PeerId, change: Change) {
        let are_members = || self.member_group(from).is_some() && self.member_group(to).is_some();
        match change {
            Change::Nothing => {}
            Change::Distance => self.links_changed |= are_members(),
            Change::Resolved(state) => {
                self.links_changed |= state == PairState::Up && are_members();
                self.ready_newcomers = None;
                // A link makes nobody hopeless: looking at all newcomers for each one would cost a crowd dearly.
                self.newcomers_changed |= state == PairState::Failed;
            }
        }
    }

    pub(super) fn on_link_down(&mut self, from: PeerId, to: PeerId, generation: u32, reason: String) {
        self.pairs.link_down(from, to, generation, reason, self.seen);
    }

    pub(super) fn expire_pairs(&mut self, now: Time) {
        while let Some((key, lost)) = self.pairs.expired(now) {
            self.newcomers_changed();
            if lost {
                self.relink(key.0, key.1);
            }
        }
    }

    /// Makes new links for a pair that lost one, and a new epoch where a schedule used it.
    fn relink(&mut self, a: PeerId, b: PeerId) {
        let reason = self.pairs.get(a, b).map(|p| p.loss().to_owned()).unwrap_or_default();
        let until = self.seen.plus_ms(u64::from(self.config.link_timeout_ms));
        self.event(Event::PairTrouble { a, b, reason: reason.clone() });
        let members = (self.member_group(a), self.member_group(b));
        if (members.0.is_none() || members.1.is_none()) && self.pairs.is_suspect((a, b), self.seen) {
            // A newcomer has its chances; it does not keep a member busy.
            return self.pairs.give_up((a, b), &format!("lost again and again: {reason}"));
        }
        self.pairs.relink((a, b), self.undialable(a, b), self.seen, until);
        self.tell_to_link(a, b);
        let (Some((group, _)), Some(_)) = members else { return };
        if self.uses(group, a, b) {
            self.dirty.entry(group).or_default().relinked(format!("link {a} – {b}: {reason}"));
        }
    }

    pub(super) fn tell_to_link(&mut self, a: PeerId, b: PeerId) {
        let Some(generation) = self.pairs.get(a, b).map(|p| p.generation) else { return };
        for (to, other) in [(a, b), (b, a)] {
            if let Some(address) = self.address(other, generation) {
                self.send(to, MasterMessage::LinkTo { peers: vec![address] });
            }
        }
    }
}
