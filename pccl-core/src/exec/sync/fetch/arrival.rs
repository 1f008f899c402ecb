//! What arrives: digests that tell which blocks differ, and the blocks.

use std::collections::BTreeSet;

use super::{Asked, Block, Fetch, Held, Lacking, Parts, TENSOR_LIST};
use crate::exec::context::Context;
use crate::exec::fault::Fault;
use crate::exec::sync::Landed;
use crate::exec::sync::parts::is_part;
use crate::kernel::hash;
use crate::state::{Condition, combined, tensor_digest};
use crate::types::{Digest, FetchFailure, LinkId, Needs, PeerId, SyncNumber, Time};
use crate::wire::frame::FrameHeader;

impl Fetch {
    /// Digests that some source has sent. What was not asked of it is dropped: it may have been asked of another since.
    pub fn digests(
        &mut self,
        from: PeerId,
        header: &FrameHeader,
        payload: &[u8],
        held: &mut Held,
        cx: &mut Context,
    ) {
        let Some(source) = self.source_of(from) else { return };
        let (tag, first) = (header.key.tag.0, header.chunk as usize);
        let count = match u32::try_from(tag) {
            Ok(tensor) => held.survey.blocks_in(tensor as usize),
            Err(_) => (tag == TENSOR_LIST).then(|| held.tensors.len()),
        };
        if !count.is_some_and(|count| is_part(count, first, payload))
            || !self.sources[source].sent_part(tag, header.chunk, cx.now)
        {
            return;
        }
        if tag == TENSOR_LIST {
            if !self.listed
                && let Some(list) = self.list.take(source, first, payload, cx.now)
            {
                self.list_is_here(source, list, held, cx);
            }
            return;
        }
        let tensor = tag as u32;
        let Some(lacking) = self.lacking.get_mut(&tensor) else { return };
        if lacking.done.is_empty()
            && let Some(digests) = lacking.elected.take(source, first, payload, cx.now)
        {
            self.digests_are_here(source, tensor, digests, held, cx);
        }
    }

    fn list_is_here(&mut self, source: usize, list: Vec<Digest>, held: &Held, cx: &mut Context) {
        let (content, full) = combined(held.tensors.keys(), &list);
        let all = self.needs == Needs::All;
        if content != self.election.content || all && full != self.election.full {
            return self.discredit(source, "its tensors are not what was elected", held, cx);
        }
        self.list.settle(list);
        self.waited_us = 0;
        let keys = held.tensors.keys();
        let fetched = |tensor: usize| all || !keys[tensor].may_differ;
        let differ = |(a, b): &(usize, usize)| {
            fetched(*a) && fetched(*b) && self.list.digests[*a] != self.list.digests[*b]
        };
        if let Some((a, b)) = held.tensors.tied().iter().copied().find(differ) {
            let (a, b) = (&keys[a], &keys[b]);
            let text =
                format!("tensors {a} and {b} are the same memory here, and differ in what was elected");
            self.failed = Some(FetchFailure::NotHere { text });
            return;
        }
        self.listed = true;
        for (tensor, key) in held.tensors.keys().iter().enumerate() {
            if key.may_differ && !all || self.list.digests[tensor] == held.survey.digests()[tensor] {
                continue;
            }
            let blocks = held.survey.blocks(tensor).len();
            let needed_bytes = held.tensors.size_bytes(tensor) as u64;
            self.needed_bytes += needed_bytes;
            let mut lacking = Lacking {
                elected: Parts::new(),
                done: Vec::new(),
                left: blocks,
                to_fetch: blocks,
                needed_bytes,
                half: BTreeSet::new(),
            };
            if blocks == 1 {
                // The tensor's digest tells whether its one block is right.
                lacking.done = vec![false];
                self.queue(key.may_differ).push_back((tensor as u32, 0));
            } else {
                self.unknown.push_back(tensor as u32);
            }
            self.lacking.insert(tensor as u32, lacking);
        }
    }

    fn digests_are_here(
        &mut self,
        source: usize,
        tensor: u32,
        digests: Vec<Digest>,
        held: &Held,
        cx: &mut Context,
    ) {
        let (at, size_bytes) = (tensor as usize, held.tensors.size_bytes(tensor as usize));
        let Some(lacking) = self.lacking.get_mut(&tensor) else { return };
        let digest = tensor_digest(size_bytes, held.survey.block_bytes(), &digests);
        if digest != self.list.digests[at] {
            let what = "its digests of blocks are not those of the elected tensor";
            return self.discredit(source, what, held, cx);
        }
        if lacking.elected.from.is_none() {
            // They come late, and nobody else was asked yet.
            self.unknown.retain(|unknown| *unknown != tensor);
        }
        lacking.elected.settle(digests);
        self.waited_us = 0;
        let same = lacking.elected.digests.iter().zip(held.survey.blocks(at)).map(|(a, b)| a == b);
        lacking.done = same.collect();
        #[cfg(feature = "seeded-bugs")]
        if cx.config.bug == Some(crate::exec::SeededBug::StateBlockForgotten)
            && let Some(last) = lacking.done.last_mut()
            && lacking.left > 1
        {
            *last = true;
        }
        let open = lacking.done.iter().enumerate().filter(|(_, done)| !**done);
        let differing: Vec<Block> = open.map(|(block, _)| (tensor, block as u32)).collect();
        (lacking.left, lacking.to_fetch) = (differing.len(), differing.len());
        self.needed_bytes -= lacking.needed_bytes;
        lacking.needed_bytes = differing.iter().map(|block| held.block_len(*block) as u64).sum();
        self.needed_bytes += lacking.needed_bytes;
        self.queue(held.may_differ(tensor)).extend(differing);
    }

    /// Where a segment of a block goes: the ticket, or `None` if it is not wanted (any more).
    pub fn accept(
        &mut self,
        from: PeerId,
        link: LinkId,
        header: &FrameHeader,
        block: Block,
        block_len: usize,
    ) -> Result<Option<u64>, Fault> {
        let (offset, len) = (header.offset as usize, header.len as usize);
        let place = |expected| Fault::BlockPlace {
            number: SyncNumber(header.key.epoch.0),
            tensor: header.key.tag.0,
            block: header.chunk,
            offset: header.offset,
            len: header.len,
            expected,
        };
        if offset + len > block_len {
            return Err(place(block_len));
        }
        let source = self.source_of(from);
        let Some(asked) = self.asked.get_mut(&block).filter(|asked| Some(asked.source) == source) else {
            return Ok(None);
        };
        match asked.landing {
            None if offset == 0 => {}
            // The rest of one that was asked of this source before, and given up since.
            None => return Ok(None),
            Some((over, ..)) if over != link => return Ok(None),
            Some((_, ticket, got)) if got == offset => return Ok(Some(ticket)),
            Some((.., got)) => return Err(place(got)),
        }
        self.next_ticket += 1;
        asked.landing = Some((link, self.next_ticket, 0));
        asked.counted = 0;
        if let Some(lacking) = self.lacking.get_mut(&block.0) {
            lacking.half.insert(block.1);
        }
        Ok(Some(self.next_ticket))
    }

    /// Bytes, up to this place in their block, that are not wanted (any more). If they were asked for once, their source is not
    /// silent, and in the end has less to send.
    pub fn sunk(&mut self, from: PeerId, block: Block, end: usize, block_len: usize, now: Time) {
        if let Some(source) = self.source_of(from) {
            self.sources[source].sent_late(block, end, block_len, now);
        }
    }

    /// Whether bytes with this ticket may still be written.
    pub fn wants(&self, block: Block, ticket: u64) -> bool {
        let landing = self.asked.get(&block).and_then(|asked| asked.landing);
        landing.is_some_and(|(_, current, _)| current == ticket)
    }

    /// The same for bytes that come now, from this place of the block on: their source is not silent.
    pub fn hears(&mut self, block: Block, ticket: u64, at: usize, now: Time) -> bool {
        let landing = |asked: &&mut Asked| asked.landing.is_some_and(|(_, current, _)| current == ticket);
        let Some(asked) = self.asked.get_mut(&block).filter(landing) else { return false };
        let new = at.saturating_sub(asked.counted);
        asked.counted += new;
        self.sources[asked.source].gets_on(new, now);
        true
    }

    /// Bytes of a part of a list come.
    pub fn hears_part(&mut self, from: PeerId, header: &FrameHeader, bytes: usize, now: Time) {
        if let Some(source) = self.source_of(from) {
            self.sources[source].gets_on_with_part(header.key.tag.0, header.chunk, bytes, now);
        }
    }

    /// A segment is here, and sound. True if that ends its block: then more can be asked for.
    pub fn landed(&mut self, landed: &Landed, held: &mut Held, cx: &mut Context) -> bool {
        let Landed { block, ticket, offset, len, .. } = *landed;
        let block_len = held.block_len(block);
        let Some(asked) = self.asked.get_mut(&block) else { return false };
        match &mut asked.landing {
            Some((_, current, got)) if *current == ticket => *got = offset + len,
            _ => return false,
        }
        if offset + len < block_len {
            return false;
        }
        let (source, asked_at) = (asked.source, asked.at);
        let digest = hash::digest(held.tensors.read(block.0 as usize, held.block_at(block), block_len));
        let is_elected = self.is_elected(block, digest, held);
        #[cfg(feature = "seeded-bugs")]
        let is_elected = is_elected || cx.config.bug == Some(crate::exec::SeededBug::StateBlockBelieved);
        if !is_elected {
            cx.counters.state_blocks_refused += 1;
            let text = format!(
                "block {} of {} is not the elected one",
                block.1,
                held.tensors.keys()[block.0 as usize]
            );
            self.discredit(source, &text, held, cx);
            return true;
        }
        self.asked.remove(&block);
        let source = &mut self.sources[source];
        source.pace.came(block_len as u64, asked_at, cx.now);
        source.heard = cx.now;
        source.got_bytes += block_len as u64;
        self.may_help |= self.some_are_late && source.pace.is_idle();
        self.waited_us = 0;
        self.got_bytes += block_len as u64;
        cx.counters.state_bytes_received += block_len as u64;
        self.block_is_here(block, digest, held);
        true
    }

    fn is_elected(&self, (tensor, block): Block, digest: Digest, held: &Held) -> bool {
        let Some(lacking) = self.lacking.get(&tensor) else { return false };
        let size_bytes = held.tensors.size_bytes(tensor as usize);
        match lacking.elected.digests.get(block as usize) {
            Some(elected) => *elected == digest,
            None => {
                tensor_digest(size_bytes, held.survey.block_bytes(), &[digest])
                    == self.list.digests[tensor as usize]
            }
        }
    }

    fn block_is_here(&mut self, (tensor, block): Block, digest: Digest, held: &mut Held) {
        let Some(lacking) = self.lacking.get_mut(&tensor) else { return };
        lacking.half.remove(&block);
        self.hops.remove(&(tensor, block));
        lacking.done[block as usize] = true;
        lacking.left -= 1;
        if lacking.left > 0 {
            return;
        }
        let elected = std::mem::take(&mut lacking.elected.digests);
        let elected = if elected.is_empty() { vec![digest] } else { elected };
        let blocks = elected.into_iter().enumerate().map(|(block, digest)| (block, Some(digest)));
        held.survey.follow(&held.tensors, tensor as usize, blocks);
        self.lacking.remove(&tensor);
        self.conditions[tensor as usize] = Condition::Elected;
    }
}
