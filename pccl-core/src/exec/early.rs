//! What a peer sent for operations that have not been started here: grants, and whole contributions.

use std::collections::BTreeMap;

use super::fault::Fault;
use crate::limits::{MAX_EAGER_BYTES_PER_PEER, MAX_EAGER_FRAMES_PER_PEER, MAX_EARLY_GRANTS_PER_PEER};
use crate::types::{Epoch, OpKey};
use crate::wire::frame::FrameHeader;

/// Only of the newest epoch the peer is known to be in: it has given up everything older.
#[derive(Debug, Default)]
pub(super) struct Early {
    epoch: Epoch,
    grants: BTreeMap<OpKey, Vec<FrameHeader>>,
    grants_count: usize,
    parked: BTreeMap<OpKey, Parked>,
    parked_bytes: usize,
}

/// A contribution to an operation that has not been started here.
#[derive(Debug)]
pub(super) struct Parked {
    pub digest: u32,
    len: usize,
    /// `None` while it is on its way: its place is taken.
    pub bytes: Option<Vec<u8>>,
}

impl Early {
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.parked.is_empty()
    }

    pub fn grants(&self) -> usize {
        self.grants_count
    }

    pub fn parked_bytes(&self) -> usize {
        self.parked_bytes
    }

    /// False if the peer has been in a newer epoch since.
    fn enter(&mut self, epoch: Epoch) -> bool {
        if epoch > self.epoch {
            *self = Early { epoch, ..Early::default() };
        }
        epoch == self.epoch
    }

    pub fn keep_grant(&mut self, grant: FrameHeader) -> Result<(), Fault> {
        if !self.enter(grant.key.epoch) {
            return Ok(());
        }
        if self.grants_count >= MAX_EARLY_GRANTS_PER_PEER {
            return Err(Fault::TooManyEarlyGrants { limit: MAX_EARLY_GRANTS_PER_PEER });
        }
        self.grants_count += 1;
        self.grants.entry(grant.key).or_default().push(grant);
        Ok(())
    }

    /// Takes a place for a contribution that begins to arrive; false if nobody will want it.
    pub fn expect(&mut self, header: &FrameHeader) -> Result<bool, Fault> {
        let FrameHeader { key, digest, .. } = *header;
        let len = header.len as usize;
        if !self.enter(key.epoch) {
            return Ok(false);
        }
        let full = self.parked_bytes + len > MAX_EAGER_BYTES_PER_PEER
            || self.parked.len() >= MAX_EAGER_FRAMES_PER_PEER;
        if full {
            return Err(Fault::TooMuchEager { limit_bytes: MAX_EAGER_BYTES_PER_PEER });
        }
        if self.parked.insert(key, Parked { digest, len, bytes: None }).is_some() {
            return Err(Fault::EagerTwice { key });
        }
        self.parked_bytes += len;
        Ok(true)
    }

    /// A contribution is here, sound, or else (`None`) void; its place may have been given up meanwhile.
    pub fn park(&mut self, key: OpKey, bytes: Option<Vec<u8>>) {
        match (self.parked.get_mut(&key), bytes) {
            (Some(parked), bytes @ Some(_)) => parked.bytes = bytes,
            (Some(_), None) => drop(self.take_parked(key)),
            (None, _) => {}
        }
    }

    pub fn take_grants(&mut self, key: OpKey) -> Vec<FrameHeader> {
        let taken = self.grants.remove(&key).unwrap_or_default();
        self.grants_count -= taken.len();
        taken
    }

    pub fn take_parked(&mut self, key: OpKey) -> Option<Parked> {
        let taken = self.parked.remove(&key)?;
        self.parked_bytes -= taken.len;
        Some(taken)
    }

    /// The epoch holds here: what is of older ones will never be taken.
    pub fn drop_before(&mut self, epoch: Epoch) {
        self.enter(epoch);
    }

    /// The instance is over, and with it all earlier ones of its tag.
    pub fn drop_until(&mut self, key: OpKey) {
        let first = OpKey { seq: 0, ..key };
        while let Some(&old) = self.grants.range(first..=key).next().map(|(old, _)| old) {
            self.take_grants(old);
        }
        while let Some(&old) = self.parked.range(first..=key).next().map(|(old, _)| old) {
            self.take_parked(old);
        }
    }
}
