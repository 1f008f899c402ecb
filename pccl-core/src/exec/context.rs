//! What operations and links share: queues, memory in stock, counters, and the way out.

use std::collections::VecDeque;

use super::engine::{EngineConfig, Output};
use super::peers::Peers;
use crate::limits::{SAVE_STOCK_BYTES, SCRATCH_STOCK_BYTES};
use crate::mem::Pool;
use crate::obs::Counters;

pub(super) struct Context {
    pub config: EngineConfig,
    pub peers: Peers,
    /// Segments of contributions, until their check sum is known.
    pub scratch: Pool,
    pub saves: Pool,
    pub outputs: VecDeque<Output>,
    pub counters: Counters,
}

impl Context {
    pub fn new(config: EngineConfig) -> Context {
        Context {
            config,
            peers: Peers::default(),
            scratch: Pool::new(SCRATCH_STOCK_BYTES),
            saves: Pool::new(SAVE_STOCK_BYTES),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }
}
