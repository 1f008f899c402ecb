//! Who wins: what the peers of a group shall hold, as a pure function of what they bring.
//!
//! Four steps, each among those whom the one before left: strategies, tensors, revisions, contents.

use std::collections::BTreeMap;
use std::fmt;

use crate::types::{Digest, Offer, PeerId, Source, SyncStrategy};

/// What follows from the offers. The kicks come first; without those peers the same is elected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ballot {
    pub kicks: Vec<(PeerId, Kick)>,
    pub result: Result<Elected, NothingOffered>,
    /// For the log.
    pub note: Option<Older>,
}

/// Why a peer has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kick {
    /// Popularity counts at all peers or at none.
    Mixed {
        own: SyncStrategy,
        popular: PeerId,
    },
    /// Its tensors are not those of `reference`.
    OtherTensors {
        reference: PeerId,
    },
    /// It is ahead of the run.
    Ahead {
        own: u64,
        expected: u64,
    },
    /// It only sends, and would have to receive.
    SendsOtherRevision {
        own: u64,
        elected: u64,
    },
    SendsOtherContent {
        winner: PeerId,
    },
}

impl fmt::Display for Kick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("shared state: ")?;
        match self {
            Kick::Mixed { own, popular } => write!(
                f,
                "this peer said {own}, but peer {popular} said {}: if one says so, all must",
                SyncStrategy::EnforcePopular
            ),
            Kick::OtherTensors { reference } => {
                write!(f, "the tensors of this peer are not those of peer {reference}")
            }
            Kick::Ahead { own, expected } => write!(
                f,
                "this peer brought revision {own}, but {expected} is expected next: each synchronization is one step"
            ),
            Kick::SendsOtherRevision { own, elected } => write!(
                f,
                "this peer only sends, and brought revision {own}, but {elected} was elected, which it would have to \
                 receive"
            ),
            Kick::SendsOtherContent { winner } => write!(
                f,
                "this peer only sends, but its content is not that of peer {winner}, which was elected"
            ),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elected {
    pub revision: u64,
    pub content: Digest,
    pub full: Digest,
    pub winner: PeerId,
    /// By rank.
    pub sources: Vec<Source>,
    /// So many of those with a vote, and up to date, hold it.
    pub votes: usize,
    pub voters: usize,
}

/// Nobody has a vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NothingOffered {
    pub receive_only: Vec<PeerId>,
    pub left_behind: Vec<PeerId>,
}

impl fmt::Display for NothingOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody offers a shared state:")?;
        let said = [
            (&self.receive_only, "said receive-only"),
            (&self.left_behind, "hold what a broken transfer left"),
        ];
        for (at, (peers, what)) in said.into_iter().filter(|(peers, _)| !peers.is_empty()).enumerate() {
            let separator = if at == 0 { "" } else { ";" };
            write!(f, "{separator} {} {what}", names(peers))?;
        }
        Ok(())
    }
}

/// Nobody holds the expected revision any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older {
    pub expected: u64,
    pub taken: u64,
}

impl fmt::Display for Older {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Older { expected, taken } = self;
        write!(
            f,
            "nobody holds revision {expected}, which was expected; {taken}, the highest there is, is taken"
        )
    }
}

/// A few peers in words.
pub fn names(peers: &[PeerId]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = peers.iter().take(SHOWN).map(PeerId::to_string).collect();
    let more = match peers.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("peer{} {}{more}", if peers.len() == 1 { "" } else { "s" }, shown.join(", "))
}

/// Holds the election. `offers` are by rank; `expected`: the revision of the group's next synchronization, once
/// there was one.
pub fn elect(offers: &[(PeerId, Offer)], expected: Option<u64>) -> Ballot {
    let mut field = Field { present: offers.to_vec(), kicks: Vec::new() };
    field.one_strategy();
    field.same_tensors(expected);
    if let Some(expected) = expected {
        let ahead = |o: &Offer| votes(o) && o.revision > expected;
        field.kick(ahead, |o| Kick::Ahead { own: o.revision, expected });
    }
    let result = field.elected(expected);
    let older = |elected: &Elected| {
        let taken = elected.revision;
        expected.filter(|expected| *expected != taken).map(|expected| Older { expected, taken })
    };
    let note = result.as_ref().ok().and_then(older);
    Ballot { kicks: field.kicks, result, note }
}

fn votes(offer: &Offer) -> bool {
    offer.strategy != SyncStrategy::ReceiveOnly && !offer.left_behind
}

/// Those who are still in it.
struct Field {
    present: Vec<(PeerId, Offer)>,
    kicks: Vec<(PeerId, Kick)>,
}

impl Field {
    fn kick(&mut self, goes: impl Fn(&Offer) -> bool, why: impl Fn(&Offer) -> Kick) {
        let kicks = &mut self.kicks;
        self.present.retain(|(peer, offer)| {
            let stays = !goes(offer);
            if !stays {
                kicks.push((*peer, why(offer)));
            }
            stays
        });
    }

    fn one_strategy(&mut self) {
        let is_popular = |o: &Offer| o.strategy == SyncStrategy::EnforcePopular;
        let Some(popular) = self.present.iter().find(|(_, o)| is_popular(o)).map(|(peer, _)| *peer) else {
            return;
        };
        self.kick(|o| !is_popular(o), |o| Kick::Mixed { own: o.strategy, popular });
    }

    /// The tensors that most who only send have; then those with a vote who are up to date; then all.
    fn same_tensors(&mut self, expected: Option<u64>) {
        let target = self.target(expected);
        let mut classes: BTreeMap<Digest, (usize, usize, usize)> = BTreeMap::new();
        for (_, offer) in &self.present {
            let class = classes.entry(offer.keys).or_default();
            class.0 += usize::from(offer.strategy == SyncStrategy::SendOnly);
            class.1 += usize::from(votes(offer) && Some(offer.revision) == target);
            class.2 += 1;
        }
        let most = classes.values().max().copied();
        let of_most = |(_, o): &&(PeerId, Offer)| classes.get(&o.keys).copied() == most;
        if let Some((reference, keys)) = self.present.iter().find(of_most).map(|(peer, o)| (*peer, o.keys)) {
            self.kick(|o| o.keys != keys, |_| Kick::OtherTensors { reference });
        }
    }

    /// The revision that is up to date: the expected one, or the highest below it that is there.
    fn target(&self, expected: Option<u64>) -> Option<u64> {
        let offers = self.present.iter().map(|(_, o)| o).filter(|o| votes(o)).map(|o| o.revision);
        offers.filter(|revision| expected.is_none_or(|expected| *revision <= expected)).max()
    }

    fn elected(&mut self, expected: Option<u64>) -> Result<Elected, NothingOffered> {
        let Some(revision) = self.target(expected) else { return Err(self.nothing()) };
        let only_sends = |o: &Offer| o.strategy == SyncStrategy::SendOnly;
        self.kick(
            |o| only_sends(o) && o.revision != revision,
            |o| Kick::SendsOtherRevision { own: o.revision, elected: revision },
        );
        let mut held: BTreeMap<Digest, usize> = BTreeMap::new();
        let has_say = |o: &Offer| votes(o) && o.revision == revision;
        for (_, offer) in self.present.iter().filter(|(_, o)| has_say(o)) {
            *held.entry(offer.content).or_default() += 1;
        }
        let most = held.values().max().copied().unwrap_or(0);
        let wins = |o: &Offer| has_say(o) && held.get(&o.content) == Some(&most);
        // The target is the revision of somebody with a vote, and whoever was kicked since has another one.
        let Some((winner, of_winner)) = self.present.iter().find(|(_, o)| wins(o)).copied() else {
            return Err(self.nothing());
        };
        let Offer { content, full, .. } = of_winner;
        let is_mixture = |o: &Offer| o.left_behind && o.full != full;
        self.kick(
            |o| only_sends(o) && (o.content != content || is_mixture(o)),
            |_| Kick::SendsOtherContent { winner },
        );
        let holds =
            |o: &Offer| o.strategy != SyncStrategy::ReceiveOnly && !o.left_behind && o.content == content;
        let sources = self.present.iter().filter(|(_, o)| holds(o));
        let sources = sources.map(|(peer, o)| Source { peer: *peer, full: o.full == full }).collect();
        let voters = held.values().sum();
        Ok(Elected { revision, content, full, winner, sources, votes: most, voters })
    }

    fn nothing(&self) -> NothingOffered {
        let (receive_only, left_behind): (Vec<_>, Vec<_>) =
            self.present.iter().partition(|(_, o)| o.strategy == SyncStrategy::ReceiveOnly);
        let peers = |list: Vec<(PeerId, Offer)>| list.into_iter().map(|(peer, _)| peer).collect();
        NothingOffered { receive_only: peers(receive_only), left_behind: peers(left_behind) }
    }
}

#[cfg(test)]
mod tests;
