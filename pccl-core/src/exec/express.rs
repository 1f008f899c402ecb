//! One link of a near pair, the express, on which what is short finds little before it.
//!
//! Near links are fast, so a system's buffers there hold many MiB of what was sent and not read. What is short (grants and whole
//! contributions) would wait for all of it on any link that also carries large operations. So one link of the pair, the same
//! at both ends, has short frames, little in the system's buffers, and is read before others; between two frames of
//! something long what is short has its turn there. It carries its part of large operations all the same.

use super::conn::{Conn, Wrote};
use super::engine::Engine;
use super::link::Link;
use super::tx::Freight;
use crate::types::Time;

/// When the express took nothing for so long, what is short goes over any link.
const EXPRESS_STUCK_US: u64 = 20_000;

impl<L: Link> Engine<L> {
    /// The pair's links have changed.
    pub(super) fn choose_express(&mut self, peer: usize) {
        let express = self.core.cx.peers.express(peer);
        let segment_bytes = self.core.cx.config.far_segment_bytes;
        for &slot in self.core.cx.peers.links(peer) {
            if let Some(conn) = &mut self.conns[slot] {
                conn.set_express((express == Some(slot)).then_some(segment_bytes));
            }
        }
    }

    /// Another link had its share, and there is more: what is short must not wait for that. It was read just now if it is
    /// `but`.
    pub(super) fn read_expresses(&mut self, but: usize) {
        for peer in 0..self.core.cx.peers.len() {
            let Some(slot) = self.core.cx.peers.express(peer).filter(|slot| *slot != but) else { continue };
            let Some(conn) = &mut self.conns[slot] else { continue };
            let before = self.core.cx.counters.bytes_read;
            if let Err(reason) = conn.read(&mut self.core) {
                self.lose(slot, reason);
            }
            // With many peers most have nothing, and writing to each would cost more than the read that brought us here.
            if self.core.cx.counters.bytes_read != before {
                self.core.cx.peers.mark_dirty(peer);
            }
        }
    }

    /// Writes what is short over the express, and tells what other links may take.
    pub(super) fn flush_express(&mut self, peer: usize, now: Time) -> Freight {
        let peers = &self.core.cx.peers;
        let Some(slot) = peers.express(peer) else { return Freight::Any };
        if let Some(conn) = &mut self.conns[slot] {
            if !peers.has_short(peer) && !conn.carries_short() {
                return Freight::Any;
            }
            // It may take bytes again, and nobody has told us yet.
            conn.retry();
            loop {
                match conn.write(Freight::Short, &mut self.core, self.pump, now) {
                    Ok(Wrote::Whole) => {}
                    Ok(Wrote::Nothing) => break,
                    Err(reason) => {
                        self.lose(slot, reason);
                        return Freight::Any;
                    }
                }
            }
        }
        if self.is_express(peer, slot, now) { Freight::Long } else { Freight::Any }
    }

    /// Whether what is short is sooner through on this link than on any other: on others there is something long, so that
    /// we hear of them again. Where there is nothing, or the express stands still, all are alike.
    pub(super) fn is_express(&self, peer: usize, slot: usize, now: Time) -> bool {
        let peers = &self.core.cx.peers;
        let conn = |slot: usize| self.conns[slot].as_ref();
        let is_stuck = || conn(slot).is_none_or(|conn| conn.patience.stuck_us(now) >= EXPRESS_STUCK_US);
        let others = || peers.links(peer).iter().filter(|other| **other != slot);
        let is_long =
            || peers.has_turns(peer) || others().filter_map(|other| conn(*other)).any(Conn::carries_long);
        peers.express(peer) == Some(slot) && !is_stuck() && is_long()
    }
}
