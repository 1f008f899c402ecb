//! What others have asked of the tensors here, in the order they asked.

use std::collections::{BTreeMap, VecDeque};

use super::parts::PART_DIGESTS;
use crate::exec::fault::Fault;
use crate::limits::{MAX_EARLY_STATE_ASKS, MAX_STATE_ASKS, MAX_STATE_BYTES, STATE_BLOCK_BYTES};
use crate::state::Survey;
use crate::types::{PeerId, SyncNumber};
use crate::wire::state_ask::{StateAsk, Wanted};

/// Asks of one peer, none of which need be for more than one block: those for all digests of the largest tensor, and as
/// many again.
const MAX_WAITING_ASKS: usize = 2 * (MAX_STATE_BYTES as usize / STATE_BLOCK_BYTES / PART_DIGESTS);
const _: () = assert!(MAX_WAITING_ASKS >= 4 * MAX_STATE_ASKS);

#[derive(Debug, Default)]
struct Asker {
    asks: VecDeque<StateAsk>,
    /// Blocks in them.
    blocks: usize,
}

impl Asker {
    /// Bounded by what an honest peer asks for ahead.
    fn push(&mut self, number: SyncNumber, ask: StateAsk, most: usize) -> Result<(), Fault> {
        let blocks = if ask.wanted == Wanted::Blocks { ask.count as usize } else { 0 };
        if self.blocks.saturating_add(blocks) > MAX_STATE_ASKS {
            return Err(Fault::TooManyAsks { number, limit: MAX_STATE_ASKS });
        }
        if self.asks.len() >= most {
            return Err(Fault::TooManyAsks { number, limit: most });
        }
        self.blocks += blocks;
        self.asks.push_back(ask);
        Ok(())
    }
}

/// What is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Block { tensor: u32, block: u32 },
    Digests(StateAsk),
}

#[derive(Debug, Default)]
pub(super) struct Serve {
    askers: BTreeMap<PeerId, Asker>,
}

impl Serve {
    pub fn ask(
        &mut self,
        from: PeerId,
        number: SyncNumber,
        ask: StateAsk,
        survey: &Survey,
    ) -> Result<(), Fault> {
        let tensors = survey.digests().len();
        let blocks = |tensor: u32| survey.blocks_in(tensor as usize).unwrap_or(0);
        let (available, limit) = match ask.wanted {
            Wanted::Blocks => (blocks(ask.tensor), usize::MAX),
            Wanted::BlockDigests => (blocks(ask.tensor), PART_DIGESTS),
            Wanted::TensorDigests => (tensors, PART_DIGESTS),
        };
        let end = u64::from(ask.first) + u64::from(ask.count);
        if end > available as u64 || ask.count as usize > limit {
            let StateAsk { tensor, first, count, .. } = ask;
            return Err(Fault::NothingThere { number, tensor, first, count });
        }
        self.askers.entry(from).or_default().push(number, ask, MAX_WAITING_ASKS)
    }

    pub fn next(&mut self, to: PeerId) -> Option<Item> {
        let asker = self.askers.get_mut(&to)?;
        let ask = asker.asks.front_mut()?;
        if ask.wanted != Wanted::Blocks {
            return asker.asks.pop_front().map(Item::Digests);
        }
        let item = Item::Block { tensor: ask.tensor, block: ask.first };
        asker.blocks -= 1;
        (ask.first, ask.count) = (ask.first + 1, ask.count - 1);
        if ask.count == 0 {
            asker.asks.pop_front();
        }
        Some(item)
    }

    /// Its links are gone, and it knows: it asks anew.
    pub fn forget(&mut self, peer: PeerId) {
        self.askers.remove(&peer);
    }
}

/// Asks of synchronizations that have not begun here: of each peer only those of the newest.
#[derive(Debug, Default)]
pub(super) struct EarlyAsks {
    askers: BTreeMap<PeerId, (SyncNumber, Asker)>,
}

impl EarlyAsks {
    pub fn keep(&mut self, from: PeerId, number: SyncNumber, ask: StateAsk) -> Result<(), Fault> {
        let (of, asker) = self.askers.entry(from).or_default();
        if number > *of {
            (*of, *asker) = (number, Asker::default());
        }
        if number == *of { asker.push(number, ask, MAX_EARLY_STATE_ASKS) } else { Ok(()) }
    }

    /// Those of the one that begins; older ones go with them.
    pub fn take(&mut self, number: SyncNumber) -> Vec<(PeerId, StateAsk)> {
        let mut taken = Vec::new();
        self.askers.retain(|peer, (of, asker)| {
            if *of == number {
                taken.extend(asker.asks.drain(..).map(|ask| (*peer, ask)));
            }
            *of > number
        });
        taken
    }

    pub fn forget(&mut self, peer: PeerId) {
        self.askers.remove(&peer);
    }

    pub fn clear(&mut self) {
        self.askers.clear();
    }

    pub fn count(&self) -> usize {
        self.askers.values().map(|(_, asker)| asker.asks.len()).sum()
    }
}
