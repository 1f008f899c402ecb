//! What a program offers: what is wrong with it, and how it is described to the master.

use crate::error::{Error, ErrorKind, Result};
use crate::limits;
use crate::types::{Offer, TensorKey};
use crate::wire::message::PeerMessage;

/// Bytes of one page of a description: a part of what a frame may have, so that others have their turn between.
const PAGE_BYTES: usize = limits::MAX_CONTROL_FRAME_BYTES / 8;
/// What a tensor takes of a page at most: its name, and under 16 bytes more.
const MAX_ENTRY_BYTES: usize = limits::MAX_TEXT_BYTES + 16;

const _: () = assert!(PAGE_BYTES + MAX_ENTRY_BYTES < limits::MAX_CONTROL_FRAME_BYTES / 2);

pub fn check_offer(offer: &Offer, keys: &[TensorKey]) -> Result<()> {
    if offer.revision == u64::MAX {
        return Err(invalid(format!(
            "the revision is {}, the largest number; it has to be less, as the next one is one more",
            offer.revision
        )));
    }
    let tensors = (offer.tensors as usize).max(keys.len());
    if tensors > limits::MAX_TENSORS {
        return Err(invalid(format!("{tensors} tensors; at most {} can be", limits::MAX_TENSORS)));
    }
    if offer.tensors as usize != keys.len() {
        return Err(invalid(format!("{} tensors offered, {} described", offer.tensors, keys.len())));
    }
    if offer.size_bytes > limits::MAX_STATE_BYTES {
        return Err(invalid(format!(
            "the tensors have {} bytes; at most {} can be",
            offer.size_bytes,
            limits::MAX_STATE_BYTES
        )));
    }
    if let Some(key) = keys.iter().find(|key| key.name.len() > limits::MAX_TEXT_BYTES) {
        let start = &key.name[..key.name.floor_char_boundary(limits::MAX_REMEMBERED_TEXT_BYTES)];
        let (is, max) = (key.name.len(), limits::MAX_TEXT_BYTES);
        return Err(invalid(format!("a tensor's name has {is} bytes, at most {max} can be: {start:?}…")));
    }
    let names_bytes: usize = keys.iter().map(|key| key.name.len()).sum();
    if names_bytes > limits::MAX_STATE_NAMES_BYTES {
        return Err(invalid(format!(
            "the names of the tensors have {names_bytes} bytes; at most {} can be",
            limits::MAX_STATE_NAMES_BYTES
        )));
    }
    match keys.windows(2).find(|pair| pair[0].name >= pair[1].name) {
        Some(pair) if pair[0].name == pair[1].name => {
            Err(invalid(format!("two tensors have the name {:?}", pair[0].name)))
        }
        Some(pair) => Err(invalid(format!("{:?} is described after {:?}", pair[1].name, pair[0].name))),
        None => Ok(()),
    }
}

fn invalid(reason: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, format!("synchronize_shared_state: {reason}"))
}

/// The description in as many messages as it takes; one at least.
pub fn pages(keys: &[TensorKey]) -> Vec<PeerMessage> {
    let mut pages = Vec::new();
    let mut first = 0;
    loop {
        let mut bytes = 0;
        let fits = |key: &&TensorKey| {
            bytes += key.name.len() + MAX_ENTRY_BYTES - limits::MAX_TEXT_BYTES;
            bytes <= PAGE_BYTES
        };
        let page: Vec<TensorKey> = keys[first..].iter().take_while(fits).cloned().collect();
        let next = first + page.len();
        let last = next == keys.len();
        pages.push(PeerMessage::SyncKeys { first: first as u32, last, keys: page });
        if last {
            return pages;
        }
        first = next;
    }
}
