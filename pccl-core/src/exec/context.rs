//! What operations and links share: queues, memory in stock, counters, and the way out.

use std::collections::VecDeque;

use super::engine::{EngineConfig, Output};
use super::peers::Peers;
use super::rooms::Rooms;
use crate::limits::WINDOW_STOCK_BYTES;
use crate::mem::{Pool, SaveStock};
use crate::obs::Counters;
use crate::types::Time;

pub(super) struct Context {
    pub config: EngineConfig,
    pub peers: Peers,
    /// Contributions ahead of their turn.
    pub windows: Pool,
    pub saves: SaveStock,
    /// For contributions to small operations.
    pub rooms: Rooms,
    pub outputs: VecDeque<Output>,
    pub counters: Counters,
    /// When the call under way came.
    pub now: Time,
}

impl Context {
    pub fn new(config: EngineConfig) -> Context {
        Context {
            rooms: Rooms::new(&config.budget),
            config,
            peers: Peers::default(),
            windows: Pool::new(WINDOW_STOCK_BYTES),
            saves: SaveStock::default(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            now: Time(0),
        }
    }
}
