//! Shared state on its way: serving blocks to whoever asks, and fetching those that differ.

use std::sync::Arc;

use crate::state::{Condition, Survey, Tensors};
use crate::types::{Digest, Election, Needs};

/// One synchronization as this peer is to take part in it.
#[derive(Debug)]
pub struct SyncStart {
    pub election: Arc<Election>,
    pub needs: Needs,
    pub tensors: Tensors,
    pub survey: Survey,
}

/// What a synchronization has come to here.
#[derive(Debug)]
pub struct SyncEnd {
    pub tensors: Tensors,
    /// Content of tensors sent and received, in whole blocks.
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// In the order of names.
    pub conditions: Vec<Condition>,
    /// The digest of all tensors, if a transfer has left them a mixture.
    pub left: Option<Digest>,
}
