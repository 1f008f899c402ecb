//! Where the tensors of some peers are not those of the others: finding the first difference, so that it can be named.
//!
//! One peer is asked after the other, so what is kept is bounded: the description of one peer of the reference, with
//! which the others are compared page by page. No answer is given up half-way, so none can be taken for another.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::limits;
use crate::proto::master::Master;
use crate::proto::master::election::Kick;
use crate::types::{Digest, GroupId, Offer, PeerId, TensorKey, Time};
use crate::wire::message::MasterMessage;

#[derive(Debug, Default)]
pub(super) struct Describing {
    asked: Option<Asked>,
    /// The tensors that the others are held against, and their digest.
    reference: Option<(Digest, Vec<TensorKey>)>,
    /// The first difference from them, by the digest of those who have it.
    differences: BTreeMap<Digest, String>,
}

/// An answer that is awaited, or under way.
#[derive(Debug)]
struct Asked {
    peer: PeerId,
    /// When it was asked, or sent the last page.
    heard: Time,
    offer: Offer,
    is_reference: bool,
    /// Tensors described so far, what their names take, what they have, and the last of their names.
    described: usize,
    names_bytes: usize,
    size_bytes: u64,
    last_name: Option<String>,
    difference: Option<String>,
    /// Those of the reference, all of them.
    tensors: Vec<TensorKey>,
}

impl Describing {
    pub fn kept(&self) -> usize {
        let asked = self.asked.as_ref().map_or(0, |asked| asked.tensors.len());
        asked + self.reference.as_ref().map_or(0, |(_, tensors)| tensors.len())
    }

    pub fn is_at_work(&self) -> bool {
        self.asked.is_some() || self.reference.is_some()
    }

    /// Who was asked, and when it was last heard.
    pub fn awaited(&mut self) -> Option<(PeerId, &mut Time)> {
        self.asked.as_mut().map(|asked| (asked.peer, &mut asked.heard))
    }

    pub fn forget(&mut self, peer: PeerId) {
        self.asked.take_if(|asked| asked.peer == peer);
    }

    /// Whom to ask next to know the differences between `reference` and each of `odd`.
    fn next(&mut self, reference: (PeerId, Digest), odd: &[(PeerId, Digest)]) -> Option<(PeerId, bool)> {
        if self.reference.as_ref().is_none_or(|(digest, _)| *digest != reference.1) {
            self.reference = None;
            self.differences.clear();
            return Some((reference.0, true));
        }
        let unknown = odd.iter().find(|(_, digest)| !self.differences.contains_key(digest));
        unknown.map(|(peer, _)| (*peer, false))
    }

    /// Takes down what the asked peer has answered. True once that is all; an error: what is wrong with it.
    fn take_page(&mut self, first: u32, last: bool, keys: Vec<TensorKey>, now: Time) -> Result<bool, String> {
        let Some(asked) = &mut self.asked else { return Ok(false) };
        asked.check_page(first, last, &keys)?;
        asked.heard = now;
        let reference = self.reference.as_ref().map_or(&[][..], |(_, tensors)| tensors);
        for key in &keys {
            if asked.difference.is_none() && !asked.is_reference {
                asked.difference = difference(key, reference.get(asked.described));
            }
            asked.described += 1;
        }
        if let Some(key) = keys.last() {
            asked.last_name = Some(key.name.clone());
        }
        if asked.is_reference {
            asked.tensors.extend(keys);
        }
        if !last {
            return Ok(false);
        }
        asked.check_whole()?;
        if let Some(asked) = self.asked.take() {
            self.take_answer(asked);
        }
        Ok(true)
    }

    fn take_answer(&mut self, asked: Asked) {
        let digest = asked.offer.keys;
        if asked.is_reference {
            self.reference = Some((digest, asked.tensors));
            return;
        }
        let reference = self.reference.as_ref().map_or(&[][..], |(_, tensors)| tensors);
        let lacks = || reference.get(asked.described).map(|key| format!("it lacks {}", shown(key)));
        let alike = || "tensor by tensor they are the same, but its digest of them is another".to_owned();
        let difference = asked.difference.or_else(lacks).unwrap_or_else(alike);
        self.differences.insert(digest, difference);
    }
}

impl Asked {
    fn check_page(&mut self, first: u32, last: bool, keys: &[TensorKey]) -> Result<(), String> {
        if first as usize != self.described {
            return Err(format!("described tensor {first} where {} was due", self.described));
        }
        if keys.is_empty() && !last {
            return Err("described no tensor on a page that is not the last".to_owned());
        }
        let (described, offered) = (self.described + keys.len(), self.offer.tensors as usize);
        if described > offered {
            return Err(format!("described {described} tensors, but has offered {offered}"));
        }
        let names = self.last_name.iter().chain(keys.iter().map(|key| &key.name));
        if !names.is_sorted_by(|a, b| a < b) {
            return Err("described its tensors in another order than that of their names".to_owned());
        }
        self.names_bytes += keys.iter().map(|key| key.name.len()).sum::<usize>();
        if self.names_bytes > limits::MAX_STATE_NAMES_BYTES {
            let max = limits::MAX_STATE_NAMES_BYTES;
            return Err(format!("described tensors whose names have more than {max} bytes"));
        }
        for key in keys {
            let size_bytes = key.count.saturating_mul(key.dtype.size_bytes() as u64);
            self.size_bytes = self.size_bytes.saturating_add(size_bytes);
        }
        Ok(())
    }

    fn check_whole(&self) -> Result<(), String> {
        let Asked { described, size_bytes, offer, .. } = self;
        if *described != offer.tensors as usize {
            return Err(format!("described {described} tensors, but has offered {}", offer.tensors));
        }
        if *size_bytes != offer.size_bytes {
            return Err(format!(
                "described tensors of {size_bytes} bytes, but has offered {}",
                offer.size_bytes
            ));
        }
        Ok(())
    }
}

/// What tells a peer's tensor from the one that stands at the same place of the reference.
fn difference(own: &TensorKey, there: Option<&TensorKey>) -> Option<String> {
    let extra = || Some(format!("it has {}, which is not there", shown(own)));
    let Some(there) = there else { return extra() };
    match own.name.cmp(&there.name) {
        Ordering::Less => extra(),
        Ordering::Greater => Some(format!("it lacks {}", shown(there))),
        Ordering::Equal if own == there => None,
        Ordering::Equal => Some(format!("it has {}, but there it is {}", shown(own), shown(there))),
    }
}

/// With what fits into a text of a long name.
fn shown(key: &TensorKey) -> String {
    let cut = key.name.floor_char_boundary(limits::MAX_REMEMBERED_TEXT_BYTES);
    if cut == key.name.len() {
        return key.to_string();
    }
    TensorKey { name: format!("{}…", &key.name[..cut]), ..key.clone() }.to_string()
}

impl Master {
    /// Where some peers have to go for their tensors, asks for what is needed to tell them why. True if an answer is
    /// awaited.
    pub(super) fn asks_for_descriptions(&mut self, group: GroupId, kicks: &[(PeerId, Kick)]) -> bool {
        let groups = self.syncs.groups.keys().copied().collect::<Vec<_>>();
        let others = groups.into_iter().filter(|other| *other != group);
        let at_work = others.filter(|g| self.syncs.describing(*g).is_some_and(|d| d.is_at_work())).count();
        let Some(sync) = self.syncs.groups.get_mut(&group) else { return false };
        let super::Stage::Collecting(describing) = &mut sync.stage else { return false };
        if describing.asked.is_some() {
            return true;
        }
        let mut odd: Vec<(PeerId, Digest)> = Vec::new();
        let mut reference = None;
        for (id, kick) in kicks {
            if let (Kick::OtherTensors { reference: there }, Some(offer)) = (kick, sync.offers.get(id)) {
                odd.push((*id, offer.keys));
                reference = sync.offers.get(there).map(|offer| (*there, offer.keys));
            }
        }
        // Beyond the limit nobody waits for others: the peers go without the difference being named.
        let Some(reference) = reference.filter(|_| at_work < limits::MAX_DESCRIBING_GROUPS) else {
            return false;
        };
        let Some((peer, is_reference)) = describing.next(reference, &odd) else { return false };
        let Some(offer) = sync.offers.get(&peer).copied() else { return false };
        describing.asked = Some(Asked {
            peer,
            heard: self.seen,
            offer,
            is_reference,
            described: 0,
            names_bytes: 0,
            size_bytes: 0,
            last_name: None,
            difference: None,
            tensors: Vec::new(),
        });
        self.send(peer, MasterMessage::SyncDescribe);
        true
    }

    pub(super) fn on_sync_keys(&mut self, from: PeerId, first: u32, last: bool, keys: Vec<TensorKey>) {
        let Some((group, _)) = self.member_group(from) else {
            return self.kick(from, "described tensors without being a member".to_owned());
        };
        let now = self.seen;
        let Some(describing) = self.syncs.describing(group) else { return };
        if describing.asked.as_ref().is_none_or(|asked| asked.peer != from) {
            return; // the synchronization it was asked in has ended
        }
        match describing.take_page(first, last, keys, now) {
            Ok(whole) if whole => self.group_changed(group),
            Ok(_) => {}
            Err(wrong) => self.kick(from, format!("shared state: {wrong}")),
        }
    }

    pub(super) fn kick_text(&mut self, group: GroupId, id: PeerId, kick: &Kick) -> String {
        let digest = self.syncs.groups.get(&group).and_then(|sync| sync.offers.get(&id)).map(|o| o.keys);
        let differs = matches!(kick, Kick::OtherTensors { .. });
        let difference = digest.filter(|_| differs).and_then(|digest| {
            let describing = self.syncs.describing(group)?;
            describing.differences.get(&digest)
        });
        match difference {
            Some(difference) => format!("{kick}: {difference}"),
            None => kick.to_string(),
        }
    }
}
