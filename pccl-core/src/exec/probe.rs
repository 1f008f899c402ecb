//! Measuring links, as the master orders: round trips, then what arrives while a peer sends all it can. Whoever is to send
//! to several at once sends at once, and to all for the same time: their flows tell of its own link only together.
//!
//! Nothing here waits for a grant or takes memory: what arrives is counted and dropped. Frames of a round may come before
//! its order, as they take another way, so arrivals are kept by their round's number whether it was ordered or not.

mod arrival;

use std::collections::{BTreeMap, BTreeSet};

use self::arrival::{Arrival, rates};
use super::context::Context;
use super::engine::Output;
use super::rx::Speaker;
use super::sync::Note;
use crate::limits::{MAX_PROBE_SPAN_MS, MIN_PROBE_SPAN_MS, PROBE_LIMIT_MS, PROBE_PINGS, PROBE_ROUND_TRIPS};
use crate::types::{
    Epoch, Heard, LinkId, OpKey, PeerId, ProbeOrder, ProbeReport, RoundTrip, Sent, Tag, Time,
};
use crate::wire::frame::{FrameHeader, FrameKind, PROBE_NOTE_BYTES, ProbePart};

/// Answers to one peer's pings that wait for a link. An honest one waits for each answer.
const MAX_PONGS: usize = PROBE_PINGS as usize;

/// Where a frame's payload is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probed {
    from: PeerId,
    /// Its slot among the peers.
    peer: usize,
    header: FrameHeader,
}

/// What goes out next.
pub(super) enum Item {
    Note(Note),
    Load(FrameHeader),
}

#[derive(Debug, Default)]
pub(super) struct Probes {
    round: Option<Round>,
    /// By whom they came from, with the number of their round.
    arrivals: BTreeMap<PeerId, (u64, Arrival)>,
    pongs: BTreeMap<PeerId, Vec<FrameHeader>>,
}

#[derive(Debug)]
struct Round {
    number: u64,
    to: BTreeMap<PeerId, Sending>,
    from: Vec<PeerId>,
    deadline: Time,
}

#[derive(Debug)]
struct Sending {
    stage: Stage,
    rtt_us: Option<u32>,
    /// What the links took, as what comes is counted.
    taken: Arrival,
}

#[derive(Debug)]
enum Stage {
    /// The ping with this number is due, or out since then.
    Ping {
        piece: u32,
        sent: Option<Time>,
    },
    Load {
        until: Time,
        bytes_left: u64,
    },
    /// Over these connections, of so many, no more comes.
    End {
        over: BTreeSet<LinkId>,
        of: usize,
    },
    Over,
}

impl Probes {
    /// Takes the place of an earlier order, which is never reported.
    pub fn begin(&mut self, order: ProbeOrder, cx: &mut Context) {
        let ProbeOrder { number, to, from, .. } = order;
        self.arrivals.retain(|_, (of, _)| *of == number);
        let mut sending = BTreeMap::new();
        let several = to.len() > 1;
        for id in to {
            let slot = cx.peers.find(id).filter(|slot| !cx.peers.links(*slot).is_empty());
            if let Some(slot) = slot {
                cx.peers.mark_dirty(slot);
                let stage = match several {
                    true => load(MAX_PROBE_SPAN_MS, cx),
                    false => Stage::Ping { piece: 0, sent: None },
                };
                sending.insert(id, Sending { stage, rtt_us: None, taken: Arrival::default() });
            }
        }
        let deadline = cx.now.plus_ms(PROBE_LIMIT_MS);
        self.round = Some(Round { number, to: sending, from, deadline });
        self.report_if_over(cx);
    }

    /// Whether what arrives may be load, which is no operation's.
    pub fn is_active(&self) -> bool {
        self.round.is_some()
    }

    /// The round is of no use any more.
    pub fn cancel(&mut self) {
        self.round = None;
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.round.as_ref().map(|round| round.deadline)
    }

    /// A path that takes this long says by what came so far what it is worth.
    pub fn tick(&mut self, cx: &mut Context) {
        if self.next_deadline().is_some_and(|deadline| deadline <= cx.now) {
            self.report(cx);
        }
    }

    /// No link to this peer is left.
    pub fn unlinked(&mut self, peer: PeerId, cx: &mut Context) {
        self.arrivals.remove(&peer);
        self.pongs.remove(&peer);
        if let Some(round) = &mut self.round {
            round.to.remove(&peer);
            round.from.retain(|from| *from != peer);
        }
        self.report_if_over(cx);
    }

    /// The next frame for this peer over this connection.
    pub fn next(&mut self, id: PeerId, slot: usize, link: LinkId, cx: &mut Context) -> Option<Item> {
        if let Some(ping) = self.pongs.get_mut(&id).and_then(Vec::pop) {
            return Some(Item::Note(note(ping.key.epoch.0, ProbePart::Pong, ping.piece)));
        }
        let round = self.round.as_mut()?;
        let (number, sending) = (round.number, round.to.get_mut(&id)?);
        if let Stage::Load { until, bytes_left } = &mut sending.stage {
            if cx.now < *until && *bytes_left > 0 {
                return Some(Item::Load(header(number, ProbePart::Load, 0)));
            }
            sending.stage = Stage::End { over: BTreeSet::new(), of: cx.peers.links(slot).len() };
            // The other connections have an end to send too.
            cx.peers.mark_dirty(slot);
        }
        match &mut sending.stage {
            Stage::Ping { piece, sent: sent @ None } => {
                *sent = Some(cx.now);
                Some(Item::Note(note(number, ProbePart::Ping, *piece)))
            }
            Stage::End { over, of } => {
                if !over.insert(link) {
                    return None;
                }
                let of = *of;
                if over.len() >= of {
                    sending.stage = Stage::Over;
                    self.report_if_over(cx);
                }
                Some(Item::Note(note(number, ProbePart::End, of as u32)))
            }
            _ => None,
        }
    }

    /// So much load has been written to this peer.
    pub fn sent(&mut self, id: PeerId, bytes: usize, now: Time) {
        let sending = self.round.as_mut().and_then(|round| round.to.get_mut(&id));
        if let Some(Sending { stage: Stage::Load { bytes_left, .. }, taken, .. }) = sending {
            *bytes_left = bytes_left.saturating_sub(bytes as u64);
            taken.add(bytes, now);
        }
    }

    pub fn begin_frame(&mut self, speaker: &Speaker, header: &FrameHeader) -> Probed {
        Probed { from: speaker.id, peer: speaker.peer, header: *header }
    }

    /// A part of the payload is here.
    pub fn heard(&mut self, probed: &Probed, bytes: usize, now: Time) {
        if probed.header.chunk == ProbePart::Load as u32
            && let Some(arrival) = self.arrival(probed)
        {
            arrival.add(bytes, now);
        }
    }

    /// The whole frame is here.
    pub fn landed(&mut self, probed: &Probed, cx: &mut Context) {
        match ProbePart::from_code(probed.header.chunk) {
            Some(ProbePart::Ping) => {
                let waiting = self.pongs.entry(probed.from).or_default();
                if waiting.len() < MAX_PONGS {
                    waiting.push(probed.header);
                    cx.peers.mark_dirty(probed.peer);
                }
            }
            Some(ProbePart::Pong) => self.pong(probed, cx),
            Some(ProbePart::End) => {
                if let Some(arrival) = self.arrival(probed) {
                    arrival.end(probed.header.piece);
                }
                self.report_if_over(cx);
            }
            Some(ProbePart::Load) | None => {}
        }
    }

    /// Of the round that the frame names, unless a frame of the present one came from there before.
    fn arrival(&mut self, probed: &Probed) -> Option<&mut Arrival> {
        let number = probed.header.key.epoch.0;
        let (of, arrival) = self.arrivals.entry(probed.from).or_insert_with(|| (number, Arrival::default()));
        if *of != number {
            if self.round.as_ref().is_some_and(|round| round.number == *of) {
                return None;
            }
            (*of, *arrival) = (number, Arrival::default());
        }
        Some(arrival)
    }

    fn pong(&mut self, probed: &Probed, cx: &mut Context) {
        let (number, now) = (probed.header.key.epoch.0, cx.now);
        let round = self.round.as_mut().filter(|round| round.number == number);
        let Some(sending) = round.and_then(|round| round.to.get_mut(&probed.from)) else { return };
        let Stage::Ping { piece, sent: Some(sent) } = sending.stage else { return };
        if piece != probed.header.piece {
            return;
        }
        let took_us = u32::try_from(now.since_us(sent)).unwrap_or(u32::MAX).max(1);
        let rtt_us = sending.rtt_us.map_or(took_us, |best| best.min(took_us));
        sending.rtt_us = Some(rtt_us);
        sending.stage = if piece + 1 < PROBE_PINGS {
            Stage::Ping { piece: piece + 1, sent: None }
        } else {
            let span_ms = u64::from(rtt_us) * PROBE_ROUND_TRIPS / 1000;
            load(span_ms.clamp(MIN_PROBE_SPAN_MS, MAX_PROBE_SPAN_MS), cx)
        };
        cx.peers.mark_dirty(probed.peer);
    }

    fn report_if_over(&mut self, cx: &mut Context) {
        let Some(round) = &self.round else { return };
        let is_over = |id: &PeerId| {
            self.arrivals.get(id).is_some_and(|(of, arrival)| *of == round.number && arrival.is_over())
        };
        if round.to.values().all(|sending| matches!(sending.stage, Stage::Over))
            && round.from.iter().all(is_over)
        {
            self.report(cx);
        }
    }

    fn report(&mut self, cx: &mut Context) {
        let Some(round) = self.round.take() else { return };
        let nothing = Arrival::default();
        let arrived = |id: &PeerId| match self.arrivals.get(id) {
            Some((of, arrival)) if *of == round.number => arrival,
            _ => &nothing,
        };
        let heard = rates(&round.from.iter().map(arrived).collect::<Vec<_>>());
        let heard = round.from.iter().zip(heard);
        let sent = rates(&round.to.values().map(|sending| &sending.taken).collect::<Vec<_>>());
        let sent = round.to.keys().zip(sent);
        let round_trip =
            |(id, sending): (&PeerId, &Sending)| sending.rtt_us.map(|rtt_us| RoundTrip { to: *id, rtt_us });
        let report = ProbeReport {
            number: round.number,
            heard: heard.map(|(from, bytes_per_second)| Heard { from: *from, bytes_per_second }).collect(),
            round_trips: round.to.iter().filter_map(round_trip).collect(),
            sent: sent.map(|(to, bytes_per_second)| Sent { to: *to, bytes_per_second }).collect(),
        };
        self.arrivals.clear();
        cx.outputs.push_back(Output::Probed(report));
    }
}

fn load(span_ms: u64, cx: &Context) -> Stage {
    Stage::Load { until: cx.now.plus_ms(span_ms), bytes_left: cx.config.probe_bytes }
}

fn note(number: u64, part: ProbePart, piece: u32) -> Note {
    let header = FrameHeader { len: PROBE_NOTE_BYTES as u32, ..header(number, part, piece) };
    Note { header, payload: vec![0; PROBE_NOTE_BYTES] }
}

fn header(number: u64, part: ProbePart, piece: u32) -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Probe,
        key: OpKey { epoch: Epoch(number), tag: Tag(0), seq: 0 },
        digest: 0,
        chunk: part as u32,
        piece,
        offset: 0,
        len: 0,
    }
}
