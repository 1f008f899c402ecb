//! What becomes of the fetch: sources that are lost, late or of no use, and the end.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::{Asked, Block, Fetch, Held, Lacking, MAX_DOUBLINGS};
use crate::exec::Output;
use crate::exec::context::Context;
use crate::exec::sync::parts::Parts;
use crate::exec::sync::source::{Source, Standing};
use crate::limits::{MAX_STATE_ASKS, STATE_SILENCE_MS, STATE_STUCK_MS};
use crate::state::Condition;
use crate::types::{Election, FetchFailure, Needs, PeerId, Severity, Time};

/// Digests that one source has kept waiting for so long are asked of another one; at the end, blocks too.
const LATE_US: u64 = 1_500_000;

impl Fetch {
    /// What may differ stays as it is. Where some of it has come already, it would be a mixture: then the whole fails, and
    /// the next call begins with what can be had.
    pub(super) fn settle_for_content(&mut self, held: &Held) {
        let touched = |tensor: &u32| {
            let begun = |l: &Lacking| !l.half.is_empty() || l.left < l.to_fetch;
            let here = self.conditions[*tensor as usize] == Condition::Elected;
            held.may_differ(*tensor) && (here || self.lacking.get(tensor).is_some_and(begun))
        };
        if (0..held.tensors.len() as u32).any(|tensor| touched(&tensor)) {
            let text = "who held the tensors that may differ is gone, and some of them had come: call again";
            self.failed = Some(FetchFailure::BrokenOff { text: text.to_owned() });
            return;
        }
        self.needs = Needs::Content;
        self.take_back(held, |block, _| held.may_differ(block.0));
        self.missing_full.clear();
        self.hops.retain(|block, _| !held.may_differ(block.0));
        self.unknown.retain(|tensor| !held.may_differ(*tensor));
        let needed_bytes = &mut self.needed_bytes;
        self.lacking.retain(|tensor, lacking| {
            let stays = !held.may_differ(*tensor);
            if !stays {
                *needed_bytes -= lacking.needed_bytes;
            }
            stays
        });
    }

    /// Whether everything is here.
    fn is_complete(&self) -> bool {
        self.listed && self.lacking.is_empty()
    }

    fn holds_elected(&self, held: &Held) -> bool {
        let Election { content, full, .. } = &*self.election;
        held.survey.content() == *content && (self.needs != Needs::All || held.survey.full() == *full)
    }

    /// The end, if there is one: everything is here, or nobody is left who could send it.
    pub fn outcome(&mut self, held: &mut Held) -> Option<Option<FetchFailure>> {
        if self.ended {
            return None;
        }
        if let Some(failed) = self.failed.take() {
            self.ended = true;
            return Some(Some(failed));
        }
        if self.is_complete() {
            held.survey.sum_all(&held.tensors);
            let same = self.holds_elected(held);
            self.ended = true;
            // Each tensor was compared with the list, and the list with what was elected.
            let text = || "what was received is not what was elected: a bug".to_owned();
            return Some((!same).then(|| FetchFailure::NoSource { text: text() }));
        }
        let lost = self.lost(held, |source| !matches!(source.standing, Standing::Bad | Standing::Gone))?;
        self.ended = true;
        Some(Some(self.without_source(lost)))
    }

    fn without_source(&self, lost: &str) -> FetchFailure {
        let bad = self.sources.iter().filter(|s| s.standing == Standing::Bad);
        let peers: Vec<String> = bad.map(|s| s.peer.to_string()).collect();
        let text = format!("no source is left{lost}; of no use were peers {}", peers.join(", "));
        FetchFailure::NoSource { text }
    }

    /// What none of the sources that count is left for, if there is something. Where none of the others is bad, the master
    /// knows as well, and names those who hold it by now, or ends the call.
    fn lost(&self, held: &Held, counts: impl Fn(&Source) -> bool) -> Option<&'static str> {
        let nobody = |full: bool| {
            let mut serve = self.sources.iter().filter(|s| s.full || !full);
            let mut bad = serve.clone().filter(|s| s.standing == Standing::Bad);
            bad.next().is_some() && !serve.any(&counts)
        };
        if self.sources.is_empty() || nobody(false) {
            return Some("");
        }
        let open = || !self.listed || self.lacking.keys().any(|tensor| held.may_differ(*tensor));
        let lost = self.needs == Needs::All && nobody(true) && open();
        lost.then_some(" for the tensors that may differ")
    }

    /// Every block asked for and not here for which `which` holds is to be asked for anew.
    fn take_back(&mut self, held: &Held, which: impl Fn(Block, &Asked) -> bool) {
        let asked = self.asked.iter().filter(|(block, asked)| which(**block, asked));
        let back: Vec<Block> = asked.map(|(block, _)| *block).collect();
        for block in back.into_iter().rev() {
            if let Some(asked) = self.asked.remove(&block) {
                self.sources[asked.source].is_late_with(block, asked.counted);
            }
            self.queue(held.may_differ(block.0)).push_front(block);
        }
    }

    /// The same for everything asked of this source, digests too.
    fn take_all_back(&mut self, source: usize, held: &Held) {
        self.take_back(held, |_, asked| asked.source == source);
        self.sources[source].forget_asks();
        if !self.listed {
            self.list.forget(source);
        }
        for (tensor, lacking) in &mut self.lacking {
            if lacking.done.is_empty() && lacking.elected.forget(source) {
                self.unknown.push_front(*tensor);
            }
        }
    }

    pub(super) fn discredit(&mut self, source: usize, why: &str, held: &Held, cx: &mut Context) {
        self.take_all_back(source, held);
        self.sources[source].standing = Standing::Bad;
        let text =
            format!("{}: peer {} is no source any more: {why}", self.number(), self.sources[source].peer);
        cx.outputs.push_back(Output::Log { severity: Severity::Warn, text });
    }

    /// A link to this peer was lost: what it was asked for may be lost too.
    pub fn torn(&mut self, peer: PeerId, held: &Held) {
        let Some(source) = self.source_of(peer) else { return };
        self.take_all_back(source, held);
        if self.sources[source].standing == Standing::Good {
            self.sources[source].standing = Standing::Torn;
        }
    }

    /// All links to this peer are closed, here and there: from now on it is asked over new ones.
    pub fn unlinked(&mut self, peer: PeerId, held: &Held) {
        self.torn(peer, held);
        let source = self.source_of(peer).map(|source| &mut self.sources[source]);
        if let Some(source) = source.filter(|s| s.standing == Standing::Torn) {
            source.standing = Standing::Good;
            source.pace.forgotten();
        }
    }

    /// Who is not a member any more sends nothing.
    pub fn members(&mut self, members: &[PeerId], held: &Held) {
        let members: BTreeSet<&PeerId> = members.iter().collect();
        for source in 0..self.sources.len() {
            let Source { peer, standing, .. } = &self.sources[source];
            if *standing != Standing::Bad && !members.contains(peer) {
                self.take_all_back(source, held);
                self.sources[source].standing = Standing::Gone;
            }
        }
    }

    /// Sources that are silent count no more; what one is late with is asked of others.
    pub fn tick(&mut self, span_us: u64, held: &Held, cx: &mut Context) {
        let now = cx.now;
        // One that gave up a block under way loses its links, or is over with the synchronization; else it is of no use.
        let is_due = |s: &Source, cx: &Context| match s.standing {
            Standing::Good => s.owes(),
            Standing::Torn => s.has_links(cx),
            Standing::Bad | Standing::Gone => false,
        };
        let silent =
            |s: &Source, cx: &Context| is_due(s, cx) && now.since_us(s.heard) > STATE_SILENCE_MS * 1000;
        for source in 0..self.sources.len() {
            if silent(&self.sources[source], cx) {
                let why = format!("it sent nothing for {} s", STATE_SILENCE_MS / 1000);
                self.discredit(source, &why, held, cx);
            }
        }
        self.pass_on_digests(held, cx);
        self.some_are_late = self.asked.values().any(|asked| now.since_us(asked.due_since) > LATE_US);
        self.may_help = self.some_are_late;
        match self.lost(held, |source| source.is_in_reach(cx)) {
            None => self.stranded_since = None,
            Some(lost) => {
                let since = *self.stranded_since.get_or_insert(now);
                if now.since_us(since) > STATE_SILENCE_MS * 1000 && self.failed.is_none() {
                    self.failed = Some(self.without_source(lost));
                }
            }
        }
        // Who has nobody to ask waits for others to receive first, for as long as that takes.
        let is_asked = |source: &&Source| source.is_in_reach(cx) && source.owes();
        self.waited_us += if self.sources.iter().any(|source| is_asked(&source)) { span_us } else { 0 };
        if self.waited_us > STATE_STUCK_MS * 1000 && self.failed.is_none() {
            let asked = self.sources.iter().filter(is_asked).map(|s| s.peer.to_string());
            let text = format!(
                "nothing has come whole for {} minutes of what was asked of peers {}",
                STATE_STUCK_MS / 60_000,
                asked.collect::<Vec<_>>().join(", ")
            );
            self.failed = Some(FetchFailure::NoSource { text });
        }
    }

    /// Digests are asked of one source at a time: one that does not send them must not hold up the rest. Once all were late
    /// they have their turns again.
    fn pass_on_digests(&mut self, held: &Held, cx: &Context) {
        let is_late = |digests: &Parts| {
            digests.from.is_some() && cx.now.since_us(digests.heard) > digests.patience_us(LATE_US)
        };
        let mut next = None;
        if !self.listed && is_late(&self.list) {
            let another = self.another_or_late(&self.list, self.needs == Needs::All, cx);
            next = another.map(|(source, of_late)| {
                pass_on(&mut self.list, of_late);
                source
            });
        }
        let late = self.lacking.iter().filter(|(_, l)| l.done.is_empty() && is_late(&l.elected));
        let late: Vec<(u32, (usize, bool))> = late
            .filter_map(|(tensor, l)| {
                Some((*tensor, self.another_or_late(&l.elected, held.may_differ(*tensor), cx)?))
            })
            .collect();
        for (tensor, (another, of_late)) in late.into_iter().rev() {
            if let Some(lacking) = self.lacking.get_mut(&tensor) {
                pass_on(&mut lacking.elected, of_late);
                self.unknown.push_front(tensor);
            }
            next = Some(another);
        }
        // Whoever has kept us waiting is not the first to be asked for the rest.
        self.first = next.unwrap_or(self.first);
    }

    /// Whom to ask for these digests instead, and whether it is one that was late with them, too.
    fn another_or_late(&self, digests: &Parts, full: bool, cx: &Context) -> Option<(usize, bool)> {
        if let Some(another) = self.another(digests, full, cx) {
            return Some((another, false));
        }
        let serves = |at: &usize| {
            let source = &self.sources[*at];
            digests.from != Some(*at) && (source.full || !full) && source.is_in_reach(cx)
        };
        digests.late.iter().copied().find(serves).map(|at| (at, true))
    }

    /// At the end: what others are late with is asked of this one, which has nothing to do, as far as it fits its window. What
    /// the late ones send of it all the same is dropped. True if there is something.
    pub(super) fn help_out(&mut self, helper: usize, held: &Held, now: Time) -> bool {
        let Source { full, ref pace, .. } = self.sources[helper];
        let late = |block: &Block, asked: &Asked| {
            let hops = self.hops.get(block).copied().unwrap_or(0).min(MAX_DOUBLINGS);
            let patience_us = if asked.landing.is_some() { 2 * LATE_US } else { LATE_US } << hops;
            (full || !held.may_differ(block.0)) && now.since_us(asked.due_since) > patience_us
        };
        let asked = self.asked.iter().filter(|(block, asked)| late(block, asked));
        // First those it would come to last, then those of which the least is here.
        let here = |asked: &Asked| asked.landing.map(|(_, _, got)| got);
        let mut candidates: Vec<(Option<usize>, Reverse<Block>)> =
            asked.map(|(block, asked)| (here(asked), Reverse(*block))).collect();
        candidates.sort_unstable();
        let mut taken: BTreeSet<Block> = BTreeSet::new();
        let mut bytes = 0;
        for (_, Reverse(block)) in candidates.into_iter().take(MAX_STATE_ASKS) {
            bytes += held.block_len(block) as u64;
            if bytes > pace.window_bytes() && !taken.is_empty() {
                break;
            }
            taken.insert(block);
        }
        for block in &taken {
            *self.hops.entry(*block).or_default() += 1;
        }
        self.take_back(held, |block, _| taken.contains(&block));
        !taken.is_empty()
    }

    /// For so long we did not look: that says nothing about the others.
    pub fn overslept(&mut self, span_us: u64, now: Time) {
        let later = |time: &mut Time| *time = Time(time.0.saturating_add(span_us)).min(now);
        self.sources.iter_mut().for_each(|source| later(&mut source.heard));
        later(&mut self.list.heard);
        self.lacking.values_mut().for_each(|lacking| later(&mut lacking.elected.heard));
        self.asked.values_mut().for_each(|asked| later(&mut asked.due_since));
        self.stranded_since.iter_mut().for_each(later);
    }

    /// What has become of each tensor; the survey follows what was written. `true`: the tensors are a mixture of what
    /// they were and of what was elected.
    pub fn conditions(&mut self, held: &mut Held) -> (Vec<Condition>, bool) {
        let mut touched = self.conditions.contains(&Condition::Elected);
        for (tensor, lacking) in &self.lacking {
            let (at, mut written) = (*tensor as usize, Vec::new());
            for (block, done) in lacking.done.iter().enumerate() {
                let known = lacking.elected.digests.get(block).filter(|_| *done);
                if known.is_some_and(|known| *known != held.survey.blocks(at)[block]) {
                    written.push((block, known.copied()));
                } else if lacking.half.contains(&(block as u32)) {
                    written.push((block, None));
                }
            }
            let before = held.survey.digests()[at];
            held.survey.follow(&held.tensors, at, written);
            if held.survey.digests()[at] == self.list.digests[at] {
                // The last bytes were here, and the trailer was not.
                self.conditions[at] = Condition::Elected;
                touched = true;
            } else if held.survey.digests()[at] != before {
                self.conditions[at] = Condition::Mixed;
                touched = true;
            }
        }
        held.survey.sum_all(&held.tensors);
        let mixture = touched && !self.holds_elected(held);
        (self.conditions.clone(), mixture)
    }
}

/// Where the next one was late, too, a new turn begins.
fn pass_on(digests: &mut Parts, of_late: bool) {
    if of_late {
        digests.begin_turn();
    }
    digests.pass_on();
}
