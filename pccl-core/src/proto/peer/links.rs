//! Data links as the peer decides about them: whom to dial, how often, what to report.

use std::collections::BTreeMap;

use super::io::{Admission, Output};
use super::{Peer, State};
use crate::limits;
use crate::types::{PeerId, ProbeReport, Time};
use crate::wire::message::{LinkToken, PeerAddress, PeerMessage, ResumedLink};

/// How long the end with the lower id has the widening of the pool to itself, and waits for what the other dials.
const WIDEN_AFTER_MS: u64 = 1_000;

#[derive(Debug)]
struct Link {
    address: PeerAddress,
    /// Connections that are up.
    up: usize,
    /// Dials of ours that have not ended yet.
    under_way: usize,
    reported_failed: bool,
    reported_down: bool,
    /// A connection was lost since the group's epoch began, and maybe bytes with it: the epoch cannot hold.
    torn: bool,
    widen_at: Option<Time>,
    /// A dial failed beside others that did not; it is tried again now and then, and told once until the pool is whole.
    short: bool,
    /// The other end was told to dial us, and none of its connections is here yet.
    theirs_due: bool,
    /// The least of its connections; 0 if unknown.
    rtt_us: u32,
    /// Connections the path needs by its length.
    pool: u16,
    /// The most that came or went out in a measurement; 0 if there was none.
    bytes_per_second: u64,
}

impl Link {
    fn new(address: PeerAddress) -> Link {
        Link {
            address,
            up: 0,
            under_way: 0,
            reported_failed: false,
            reported_down: false,
            torn: false,
            widen_at: None,
            short: false,
            theirs_due: false,
            rtt_us: 0,
            pool: limits::DEFAULT_POOL_CONNECTIONS,
            bytes_per_second: 0,
        }
    }

    /// `path`: its round trip, and the connections it needs. Whether the master's figure for it, a power of two, is another now.
    fn learn(&mut self, path: (u32, u16)) -> bool {
        let before_us = self.rtt_us;
        self.rtt_us = match (self.rtt_us, path.0) {
            (0, new) => new,
            (old, 0) => old,
            (old, new) => old.min(new),
        };
        self.pool = path.1;
        let figure = |us: u32| us.min(1 << 31).next_power_of_two();
        figure(before_us) != figure(self.rtt_us)
    }

    /// Connections there should be: as many as the program wants, or else as the path needs. One slow moment at the first of
    /// them may make a path look long, so more than the default wait until those are there, and have shown what it is like.
    fn wanted(&self, own: u16) -> u16 {
        if own > 0 {
            return own.min(limits::MAX_POOL_CONNECTIONS);
        }
        let wanted = self.pool.max(connections_for_rate(self.rtt_us, self.bytes_per_second));
        let is_confirmed = self.up >= usize::from(limits::DEFAULT_POOL_CONNECTIONS);
        let most = if is_confirmed { limits::MAX_POOL_CONNECTIONS } else { limits::DEFAULT_POOL_CONNECTIONS };
        wanted.min(most)
    }
}

/// What is on its way over such a path at this rate, shared out so that no connection has more of it than its send buffer takes.
fn connections_for_rate(rtt_us: u32, bytes_per_second: u64) -> u16 {
    let on_its_way = u128::from(bytes_per_second) * u128::from(rtt_us) / 1_000_000;
    let connections = on_its_way.div_ceil(limits::CONNECTION_FLIGHT_BYTES.into());
    connections.min(limits::MAX_POOL_CONNECTIONS.into()) as u16
}

#[derive(Debug, Default)]
pub(super) struct Links {
    links: BTreeMap<PeerId, Link>,
}

impl Links {
    /// All pairs, for a master that has forgotten them.
    pub fn linked(&self) -> Vec<ResumedLink> {
        let links = self.links.iter();
        links
            .map(|(peer, link)| ResumedLink {
                peer: *peer,
                generation: link.address.generation,
                rtt_us: link.rtt_us,
            })
            .collect()
    }

    /// A new epoch of the group: what was lost before does not matter to it.
    pub fn mend(&mut self) {
        for link in self.links.values_mut() {
            link.torn = false;
        }
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.links.values().filter_map(|l| l.widen_at).min()
    }
}

impl Peer {
    /// Whether a data connection that says it comes from `peer` may be taken.
    pub fn admits(&self, peer: PeerId, generation: u32, token: LinkToken) -> Admission {
        let known = [self.control.welcome.map(|w| w.token), self.control.token_before];
        if !known.contains(&Some(token)) {
            return Admission::NotYet;
        }
        match self.links.links.get(&peer) {
            None => Admission::NotYet,
            Some(link) if generation > link.address.generation => Admission::NotYet,
            Some(link) if generation < link.address.generation => Admission::No,
            Some(link) if link.up >= usize::from(limits::MAX_POOL_CONNECTIONS) => Admission::No,
            Some(_) => Admission::Yes,
        }
    }

    /// Whether a connection of this generation still belongs to a pair we know.
    pub fn expects(&self, peer: PeerId, generation: u32) -> bool {
        self.links.links.get(&peer).is_some_and(|l| l.address.generation == generation)
    }

    /// What a data hello of ours carries.
    pub fn token(&self) -> Option<LinkToken> {
        self.control.welcome.map(|w| w.token)
    }

    pub(super) fn on_link_to(&mut self, address: PeerAddress) {
        if !matches!(self.state, State::Pending | State::Member) {
            return;
        }
        let peer = address.peer;
        let mut torn = false;
        if let Some(known) = self.links.links.get(&peer) {
            if known.address.generation >= address.generation {
                return;
            }
            torn = true;
            self.outputs.push_back(Output::Unlink { peer });
        }
        let both_dial = !address.addresses.is_empty() && self.config.join.data_port != 0;
        // Where one connection is all there is to be, one end dials it; the other only if nothing has come.
        let in_vain = both_dial && self.config.join.pool == 1 && self.id() > peer;
        let dials = !address.addresses.is_empty() && !in_vain;
        let link = Link {
            under_way: usize::from(dials),
            torn,
            widen_at: in_vain.then(|| self.seen.plus_ms(WIDEN_AFTER_MS)),
            theirs_due: both_dial,
            ..Link::new(address.clone())
        };
        self.links.links.insert(peer, link);
        if dials {
            self.outputs.push_back(Output::Dial { to: address, connections: 1 });
        }
    }

    pub(super) fn on_unlink(&mut self, peer: PeerId) {
        if self.links.links.remove(&peer).is_some() {
            self.outputs.push_back(Output::Unlink { peer });
        }
    }

    /// The master has forgotten the newcomers, and which losses it was told of.
    pub(super) fn report_links_anew(&mut self) {
        let group = self.group().map(|g| g.order.clone()).unwrap_or_default();
        let strangers: Vec<PeerId> =
            self.links.links.keys().filter(|peer| !group.contains(peer)).copied().collect();
        for peer in strangers {
            self.on_unlink(peer);
        }
        let bad = self.links.links.iter().filter(|(_, l)| l.up == 0 || l.reported_down || l.torn);
        let bad: Vec<(PeerId, u32)> = bad.map(|(peer, l)| (*peer, l.address.generation)).collect();
        for (peer, generation) in bad {
            let reason = "lost before the master was restarted".to_owned();
            self.send(PeerMessage::LinkDown { peer, generation, reason });
        }
    }

    pub(super) fn drop_links(&mut self) {
        for peer in std::mem::take(&mut self.links.links).into_keys() {
            self.outputs.push_back(Output::Unlink { peer });
        }
    }

    /// `path`: its round trip, and the connections it needs.
    pub(super) fn on_link_up(&mut self, peer: PeerId, generation: u32, dialled: bool, path: (u32, u16)) {
        let (now, id) = (self.seen, self.id());
        let Some(link) = self.links.links.get_mut(&peer).filter(|l| l.address.generation == generation)
        else {
            return;
        };
        link.up += 1;
        // Of a pair that was reported lost the master hears when it is linked anew.
        let is_news = link.learn(path) && !link.reported_down || link.up == 1;
        link.theirs_due &= dialled;
        link.under_way = link.under_way.saturating_sub(usize::from(dialled));
        let rtt_us = link.rtt_us;
        if dialled && link.widen_at.is_none() {
            // Both ends could dial; one of them should. The other takes over if that one cannot.
            let delay_ms = if id < peer { 0 } else { WIDEN_AFTER_MS };
            link.widen_at = Some(now.plus_ms(delay_ms));
        }
        if is_news {
            self.send(PeerMessage::LinkUp { peer, generation, rtt_us });
        }
        self.widen_pools();
    }

    /// `path`: its round trip, and the connections it needs. Those that are there and not needed any more do no harm.
    pub(super) fn on_path_length(&mut self, peer: PeerId, path: (u32, u16)) {
        let Some(link) = self.links.links.get_mut(&peer).filter(|link| link.up > 0) else { return };
        if link.learn(path) && !link.reported_down {
            let (generation, rtt_us) = (link.address.generation, link.rtt_us);
            self.send(PeerMessage::LinkUp { peer, generation, rtt_us });
        }
    }

    /// What a measurement has shown may need more connections than a path's length alone.
    pub(super) fn note_rates(&mut self, report: &ProbeReport) {
        let (now, id, own) = (self.seen, self.id(), self.config.join.pool);
        let heard = report.heard.iter().map(|heard| (heard.from, heard.bytes_per_second));
        let sent = report.sent.iter().map(|sent| (sent.to, sent.bytes_per_second));
        for (peer, bytes_per_second) in heard.chain(sent) {
            let Some(link) = self.links.links.get_mut(&peer) else { continue };
            link.bytes_per_second = link.bytes_per_second.max(bytes_per_second);
            if link.up > 0 && usize::from(link.wanted(own)) > link.up + link.under_way {
                // Not by both ends at once.
                let delay_ms = if id < peer { 0 } else { WIDEN_AFTER_MS };
                link.widen_at.get_or_insert(now.plus_ms(delay_ms));
            }
        }
        self.widen_pools();
    }

    /// Makes pools as large as they should be, less where there are so many peers that descriptors run out. The size is that of
    /// the pair: connections of either end count.
    pub(super) fn widen_pools(&mut self) {
        let (now, own) = (self.seen, self.config.join.pool);
        let share = (self.config.max_data_connections / self.links.links.len().max(1)).max(1);
        let mut dials = Vec::new();
        for link in self.links.links.values_mut() {
            if link.widen_at.is_some_and(|at| at <= now) {
                let wanted = usize::from(link.wanted(own)).min(share);
                // The other's first connection has its place kept for a while.
                let kept = usize::from(std::mem::take(&mut link.theirs_due) && link.up > 0);
                link.widen_at = (kept > 0).then(|| now.plus_ms(WIDEN_AFTER_MS));
                let missing = wanted.saturating_sub(link.up + link.under_way + kept);
                link.short &= link.up < wanted;
                if missing > 0 && !link.reported_down {
                    link.under_way += missing;
                    dials.push((link.address.clone(), missing as u16));
                }
            }
        }
        for (to, connections) in dials {
            self.outputs.push_back(Output::Dial { to, connections });
        }
    }

    pub(super) fn on_dial_failed(&mut self, peer: PeerId, generation: u32, reason: String) {
        let (now, own) = (self.seen, self.id());
        let Some(link) = self.links.links.get_mut(&peer).filter(|l| l.address.generation == generation)
        else {
            return;
        };
        link.under_way = link.under_way.saturating_sub(1);
        if link.up == 0 && !std::mem::replace(&mut link.reported_failed, true) {
            self.log(format!("no data link to peer {peer} from here: {reason}"));
            self.send(PeerMessage::LinkFailed { peer, generation, reason });
            return;
        }
        if link.up > 0 && !link.reported_down {
            // Not by both ends at once.
            let delay_ms = limits::RELINK_RETRY_MS + if own < peer { 0 } else { WIDEN_AFTER_MS };
            link.widen_at.get_or_insert(now.plus_ms(delay_ms));
        }
        if !std::mem::replace(&mut link.short, true) {
            self.log(format!("one data connection to peer {peer} less: {reason}"));
        }
    }

    pub(super) fn on_link_lost(&mut self, peer: PeerId, reason: String, others_left: usize) {
        let Some(link) = self.links.links.get_mut(&peer) else { return };
        link.up = others_left;
        link.torn = true;
        link.widen_at = None;
        let generation = link.address.generation;
        if !std::mem::replace(&mut link.reported_down, true) {
            self.log(format!("data link to peer {peer} lost: {reason}"));
            self.send(PeerMessage::LinkDown { peer, generation, reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_hold_what_a_path_has_on_its_way() {
        for (rtt_us, bytes_per_second, expected) in [
            (0, 1_250_000_000, 0),
            (80_000, 0, 0),
            (80_000, 1, 0),
            (80_000, 125_000_000, 4),
            (80_000, 1_250_000_000, 34),
            (150_000, 1_250_000_000, 63),
            (300_000, 1_250_000_000, 64),
            (60, 10_000_000_000, 1),
            (u32::MAX, u64::MAX, 64),
        ] {
            let connections = connections_for_rate(rtt_us, bytes_per_second);
            assert_eq!(connections, expected, "{rtt_us} µs, {bytes_per_second} bytes a second");
        }
    }
}
