//! All-reduces of this peer: announced, moved, done, and what the master says of them.

use std::collections::{BTreeMap, VecDeque};

use super::io::{Done, Output, ReduceInfo};
use super::op_state::{OP_TABLE, OpEvent, OpState};
use super::{Peer, usage};
use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::types::{Epoch, OpDescriptor, OpKey, Tag, WorkId};
use crate::wire::message::{PeerMessage, ResumedOp, Verdict};

#[derive(Debug)]
struct Op {
    work: WorkId,
    key: OpKey,
    descriptor: OpDescriptor,
    state: OpState,
    /// The program waits for it, and whether it calls nothing else meanwhile.
    blocked: Option<bool>,
}

impl Op {
    fn step(&mut self, event: OpEvent) -> bool {
        let next = crate::proto::table::step(OP_TABLE, self.state, event);
        self.state = next.unwrap_or(self.state);
        next.is_ok()
    }
}

#[derive(Debug, Default)]
pub(super) struct Ops {
    in_flight: BTreeMap<Tag, Op>,
    /// The last sequence with a verdict on each tag of the group's present epoch: the next one is one more.
    judged: BTreeMap<Tag, u32>,
    /// The latest verdicts of this epoch and the one before: a restarted master may need them.
    recent: VecDeque<(OpKey, Verdict)>,
    pub since_before: Epoch,
    pub aborted: Vec<(Tag, u32)>,
}

impl Ops {
    /// The tags in flight in words, if there are any.
    pub fn tags_in_flight(&self) -> Option<String> {
        let mut tags = self.in_flight.keys();
        let first = tags.next()?;
        Some(match tags.len() {
            0 => first.to_string(),
            more => format!("{first} and {more} more"),
        })
    }

    pub fn resumed(&self) -> Vec<ResumedOp> {
        let ops = self.in_flight.values();
        ops.map(|op| ResumedOp { key: op.key, descriptor: op.descriptor, done: op.state == OpState::Held })
            .collect()
    }

    pub fn verdicts(&self) -> Vec<(OpKey, Verdict)> {
        self.recent.iter().cloned().collect()
    }

    fn remember(&mut self, key: OpKey, verdict: Verdict) {
        let judged = self.judged.entry(key.tag).or_default();
        *judged = (*judged).max(key.seq);
        if self.recent.len() >= limits::MAX_RESUME_VERDICTS {
            self.recent.pop_front();
        }
        self.recent.push_back((key, shortened(verdict)));
    }
}

impl Peer {
    pub(super) fn call_all_reduce(&mut self, work: WorkId, tag: Tag, descriptor: OpDescriptor) -> Result<()> {
        self.must_be_member("all_reduce")?;
        self.must_not_be_in_phase("all_reduce")?;
        self.must_not_be_in_sync("all_reduce")?;
        check_descriptor(tag, &descriptor)?;
        if self.ops.in_flight.contains_key(&tag) {
            return Err(invalid(format!(
                "all_reduce: {tag} is in flight already; await it, or use another tag"
            )));
        }
        if self.ops.in_flight.len() >= limits::MAX_OPS_IN_FLIGHT {
            return Err(usage(format!(
                "all_reduce: {} operations are in flight, no more can be",
                limits::MAX_OPS_IN_FLIGHT
            )));
        }
        if !self.ops.judged.contains_key(&tag) && self.ops.judged.len() >= limits::MAX_TAGS_PER_EPOCH {
            return Err(usage(format!(
                "all_reduce: {} distinct tags were used in this epoch, no more can be; use tags again",
                limits::MAX_TAGS_PER_EPOCH
            )));
        }
        self.must_have_company()?;
        let seq = self.ops.judged.get(&tag).map_or(0, |seq| seq + 1);
        let key = OpKey { epoch: self.since(), tag, seq };
        self.begin(Op { work, key, descriptor, state: OpState::Moving, blocked: None });
        Ok(())
    }

    fn begin(&mut self, op: Op) {
        let Op { work, key, descriptor, blocked, .. } = op;
        self.send(PeerMessage::Announce { key, descriptor });
        if let Some(alone) = blocked {
            self.send(PeerMessage::Blocked { key, alone });
        }
        self.outputs.push_back(Output::Start { work, key, descriptor });
        self.ops.in_flight.insert(key.tag, op);
    }

    pub(super) fn on_op_done(&mut self, key: OpKey) {
        let op = self.ops.in_flight.get_mut(&key.tag).filter(|op| op.key == key);
        if op.is_some_and(|op| op.step(OpEvent::ResultHere)) {
            self.send(PeerMessage::Done { key });
        }
    }

    pub(super) fn on_blocked(&mut self, work: WorkId, alone: bool) {
        if let Some(op) = self.ops.in_flight.values_mut().find(|op| op.work == work) {
            op.blocked = Some(alone);
            let key = op.key;
            self.send(PeerMessage::Blocked { key, alone });
        }
    }

    /// To a master that has not heard of it.
    pub(super) fn report_blocked_anew(&mut self) {
        let blocked = self.ops.in_flight.values().filter_map(|op| op.blocked.map(|alone| (op.key, alone)));
        for (key, alone) in blocked.collect::<Vec<_>>() {
            self.send(PeerMessage::Blocked { key, alone });
        }
    }

    pub(super) fn on_verdict(&mut self, key: OpKey, verdict: Verdict) {
        let Some(op) = self.ops.in_flight.get_mut(&key.tag).filter(|op| op.key == key) else {
            return self.skip(key, verdict);
        };
        let commits = matches!(verdict, Verdict::Committed { .. });
        let legal = op.step(if commits { OpEvent::Commit } else { OpEvent::Judge });
        let work = op.work;
        self.ops.in_flight.remove(&key.tag);
        self.ops.remember(key, verdict.clone());
        match verdict {
            Verdict::Committed { peers_pending, .. } if legal => {
                let group_world_size = self.group().map_or(0, |g| g.order.len()) as u32;
                self.outputs.push_back(Output::Finish { work, key });
                let info = ReduceInfo { group_world_size, peers_pending, tx_bytes: 0, rx_bytes: 0 };
                self.complete(work, Ok(Done::Reduced(info)));
            }
            Verdict::Committed { .. } => {
                let reason = format!("the master committed {key}, which is not done here");
                self.fail(work, key, Error::new(ErrorKind::Internal, reason));
            }
            Verdict::Mismatched { text } => self.fail(work, key, invalid(text)),
            Verdict::Deadlocked { text } => self.fail(work, key, usage(text)),
        }
    }

    /// A deadlock has ended an instance that was not called here: the next call is the one after it, whatever else
    /// was missed.
    fn skip(&mut self, key: OpKey, verdict: Verdict) {
        let judged = self.ops.judged.get(&key.tag);
        let known = judged.is_some() || self.ops.judged.len() < limits::MAX_TAGS_PER_EPOCH;
        let newer = key.epoch == self.since() && judged.is_none_or(|seq| *seq < key.seq);
        if newer && known && matches!(verdict, Verdict::Deadlocked { .. }) {
            self.ops.remember(key, verdict);
        } else {
            self.log(format!("a verdict on {key}, which is not in flight here"));
        }
    }

    fn fail(&mut self, work: WorkId, key: OpKey, error: Error) {
        self.outputs.push_back(Output::Stop { work, key });
        self.complete(work, Err(error));
    }

    /// The epoch has changed; `before` is the `since` of this group until now. Where the group itself changed,
    /// the listed instances end, and every other one begins anew.
    pub(super) fn change_epoch(&mut self, before: Epoch, aborted: Vec<(Tag, u32)>, reason: &str) {
        let Some(info) = self.epoch.clone() else { return };
        let since = self.since();
        if since == before {
            return self.outputs.push_back(Output::Epoch(info));
        }
        self.links.mend();
        let ops = std::mem::take(&mut self.ops.in_flight);
        for op in ops.values() {
            self.outputs.push_back(Output::Stop { work: op.work, key: op.key });
        }
        self.outputs.push_back(Output::Epoch(info));
        self.ops.judged.clear();
        self.ops.recent.retain(|(key, _)| key.epoch == before);
        self.ops.since_before = before;
        let alone = self.must_have_company();
        for (tag, mut op) in ops {
            if aborted.contains(&(tag, op.key.seq)) && op.step(OpEvent::Abort) {
                let text = format!("{} was aborted: {reason}; its input is intact, call again", op.key);
                self.complete(op.work, Err(Error::new(ErrorKind::Aborted, text)));
            } else if let Err(error) = &alone {
                self.complete(op.work, Err(error.clone()));
            } else if op.step(OpEvent::Carry) {
                let key = OpKey { epoch: since, tag, seq: 0 };
                self.begin(Op { key, ..op });
            }
        }
        self.ops.aborted = aborted;
    }

    pub(super) fn end_ops(&mut self, kind: ErrorKind, reason: &str) {
        for op in std::mem::take(&mut self.ops).in_flight.into_values() {
            self.outputs.push_back(Output::Stop { work: op.work, key: op.key });
            let text = format!("{} ended: {reason}", op.key);
            self.complete(op.work, Err(Error::new(kind, text)));
        }
    }
}

fn shortened(mut verdict: Verdict) -> Verdict {
    if let Verdict::Mismatched { text } | Verdict::Deadlocked { text } = &mut verdict {
        shortened_text(text);
    }
    verdict
}

/// Of a text, what is kept for a restarted master.
pub(super) fn shortened_text(text: &mut String) {
    text.truncate(text.floor_char_boundary(limits::MAX_REMEMBERED_TEXT_BYTES));
}

/// What is wrong with an operation whoever takes part in it.
pub fn check_descriptor(tag: Tag, descriptor: &OpDescriptor) -> Result<()> {
    if descriptor.count == 0 {
        return Err(invalid(format!("all_reduce of {tag}: the count is 0; at least one element is needed")));
    }
    if descriptor.size_bytes() > limits::MAX_OP_BYTES {
        return Err(invalid(format!(
            "all_reduce of {tag}: {descriptor} is over {} bytes",
            limits::MAX_OP_BYTES
        )));
    }
    let OpDescriptor { dtype, op, quantization, .. } = *descriptor;
    if let Some(reason) = quantization.refusal(dtype, op) {
        return Err(invalid(format!("all_reduce of {tag}: no {op} of {dtype} as {quantization}: {reason}")));
    }
    Ok(())
}

fn invalid(reason: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, reason)
}
