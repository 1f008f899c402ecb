//! A control connection: messages in order, each after the link's delay, through the real codec.

use std::collections::VecDeque;

use pccl_core::wire::message::{MasterMessage, PeerMessage};
use pccl_core::wire::{CONTROL_HEADER_BYTES, decode_master, decode_peer, encode_master, encode_peer};

use super::event::{Lane, ProcessId};
use super::queue::Us;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Process(ProcessId),
    Hostile(usize),
}

#[derive(Debug)]
pub enum Item {
    /// To the master: a connection that has said its hello.
    Connected,
    /// To the peer: the connection is made.
    Up,
    FromPeer(PeerMessage),
    FromMaster(MasterMessage),
    End(&'static str),
}

#[derive(Debug, Default)]
struct Way {
    items: VecDeque<(Us, Item)>,
    last: Us,
}

#[derive(Debug)]
pub struct ControlLink {
    pub owner: Owner,
    pub delay_us: Us,
    pub dialled_at: Us,
    /// Nothing gets through.
    pub held: bool,
    /// How often it was held so far.
    pub hold: u32,
    /// The peer's end, the master's end.
    pub peer_open: bool,
    pub master_open: bool,
    /// Which master it was made with.
    pub master: u32,
    /// Which run that master had when it last sent.
    pub run: u32,
    ways: [Way; 2],
}

impl ControlLink {
    pub fn new(owner: Owner, delay_us: Us, now: Us, held: bool) -> ControlLink {
        ControlLink {
            owner,
            delay_us,
            dialled_at: now,
            held,
            hold: 0,
            peer_open: true,
            master_open: false,
            master: 0,
            run: 0,
            ways: Default::default(),
        }
    }

    /// Sends; when it arrives.
    pub fn push(&mut self, lane: Lane, item: Item, now: Us) -> Us {
        let way = &mut self.ways[lane as usize];
        way.last = way.last.max(now + self.delay_us);
        way.items.push_back((way.last, item));
        way.last
    }

    /// Puts back what was popped last; when it comes again.
    pub fn push_front(&mut self, lane: Lane, item: Item, now: Us) -> Us {
        self.ways[lane as usize].items.push_front((now, item));
        now
    }

    pub fn pop(&mut self, lane: Lane, now: Us) -> Option<Item> {
        let way = &mut self.ways[lane as usize];
        if self.held || way.items.front().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        way.items.pop_front().map(|(_, item)| item)
    }

    /// Loses what is under way.
    pub fn clear(&mut self, lane: Lane) {
        self.ways[lane as usize].items.clear();
    }

    /// Lets what was held go again; when, and how many items in that lane.
    pub fn release(&mut self, lane: Lane, now: Us) -> (Us, usize) {
        let way = &mut self.ways[lane as usize];
        way.last = now + self.delay_us;
        for (at, _) in &mut way.items {
            *at = way.last;
        }
        (way.last, way.items.len())
    }
}

/// The message as the other end reads it. Anything else than the same message is our own bug.
pub fn peer_message_on_the_wire(message: PeerMessage, bytes: &mut Vec<u8>) -> PeerMessage {
    bytes.clear();
    encode_peer(&message, bytes).expect("a message of ours can be encoded");
    let read = decode_peer(&bytes[CONTROL_HEADER_BYTES..]).expect("a message of ours can be decoded");
    assert_eq!(read, message);
    read
}

pub fn master_message_on_the_wire(message: MasterMessage, bytes: &mut Vec<u8>) -> MasterMessage {
    bytes.clear();
    encode_master(&message, bytes).expect("a message of ours can be encoded");
    let read = decode_master(&bytes[CONTROL_HEADER_BYTES..]).expect("a message of ours can be decoded");
    assert_eq!(read, message);
    read
}
