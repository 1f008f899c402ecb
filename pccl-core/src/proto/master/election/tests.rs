//! Every rule and their combinations as a table, then many random elections against an oracle that knows the rules in
//! another form.
//!
//! A peer in short: `P` enforce-popular, `R` receive-only or `S` send-only, its revision, its content as a letter; then
//! `'` other tensors, `+` other content in tensors that may differ, `~` left behind by a broken transfer.

use proptest::prelude::*;

use super::*;
use crate::types::Needs;

fn peer(rank: usize) -> PeerId {
    // Ids sort against the ranks, so that nothing can depend on their order unnoticed.
    PeerId([u8::MAX - rank as u8; 16])
}

fn offer(short: &str) -> Offer {
    let strategy = match &short[..1] {
        "P" => SyncStrategy::EnforcePopular,
        "R" => SyncStrategy::ReceiveOnly,
        _ => SyncStrategy::SendOnly,
    };
    let at = short.find(|c: char| c.is_ascii_lowercase()).expect("a letter for the content");
    let letter = short.as_bytes()[at];
    let more = u8::from(short.contains('+'));
    Offer {
        revision: short[1..at].parse().expect("a revision"),
        strategy,
        left_behind: short.contains('~'),
        tensors: 1,
        size_bytes: 1,
        keys: Digest([u8::from(short.contains('\'')); 16]),
        content: Digest([letter; 16]),
        full: Digest([letter + 100 * more; 16]),
    }
}

fn offers(short: &str) -> Vec<(PeerId, Offer)> {
    short.split_whitespace().enumerate().map(|(rank, short)| (peer(rank), offer(short))).collect()
}

fn rank(id: PeerId) -> usize {
    usize::from(u8::MAX - id.0[0])
}

/// The outcome in short: `7a by 0 of 0 1 +2`: revision 7 with content a, brought by rank 0, sources 0 and 1 with everything
/// and 2 without what may differ.
fn shown(ballot: &Ballot) -> String {
    match &ballot.result {
        Ok(e) => {
            let letter = char::from(e.content.0[0]);
            let sources: Vec<String> = e
                .sources
                .iter()
                .map(|s| format!("{}{}", if s.full { "" } else { "+" }, rank(s.peer)))
                .collect();
            format!("{}{letter} by {} of {}", e.revision, rank(e.winner), sources.join(" "))
        }
        Err(_) => "nothing".to_owned(),
    }
}

fn kicked(ballot: &Ballot) -> String {
    let kicks = ballot.kicks.iter().map(|(id, kick)| {
        let why = match kick {
            Kick::Mixed { .. } => "mixed",
            Kick::OtherTensors { .. } => "tensors",
            Kick::Ahead { .. } => "ahead",
            Kick::SendsOtherRevision { .. } => "revision",
            Kick::SendsOtherContent { .. } => "content",
        };
        format!("{} {why}", rank(*id))
    });
    kicks.collect::<Vec<_>>().join(", ")
}

/// Offers by rank, the expected revision, the outcome, who is kicked.
type Row = (&'static str, Option<u64>, &'static str, &'static str);

const POPULARITY: &[Row] = &[
    ("P0a P0a", None, "0a by 0 of 0 1", ""),
    ("P0a P0b P0b", None, "0b by 1 of 1 2", ""),
    ("P0b P0a", None, "0b by 0 of 0", ""),
    ("P0c P0a P0b P0b P0a", None, "0a by 1 of 1 4", ""),
    ("P3a P3b P3b", Some(3), "3b by 1 of 1 2", ""),
    ("P0a+ P0a P0a", None, "0a by 0 of 0 +1 +2", ""),
    ("P0a P0a+ P0b", None, "0a by 0 of 0 +1", ""),
];

const REVISIONS: &[Row] = &[
    // None seen yet: the first synchronization sets it, whatever it is.
    ("P41a P41a", None, "41a by 0 of 0 1", ""),
    ("P40a P41b P40a", None, "41b by 1 of 1", ""),
    // Outdated peers never outvote, but serve if they hold the same.
    ("P4b P4b P5a", Some(5), "5a by 2 of 2", ""),
    ("P4a P4b P5a", Some(5), "5a by 2 of 0 2", ""),
    // One step at a time.
    ("P7b P5a P5a", Some(5), "5a by 1 of 1 2", "0 ahead"),
    ("P6b P6b P5a", Some(5), "5a by 2 of 2", "0 ahead, 1 ahead"),
    // Nobody holds it any more: the highest there is.
    ("P3a P4b P4b P4a", Some(5), "4b by 1 of 1 2", ""),
    ("P3a P9b", Some(5), "3a by 0 of 0", "1 ahead"),
    ("P6a P7a", Some(5), "nothing", "0 ahead, 1 ahead"),
];

const STRATEGIES: &[Row] = &[
    // Who only receives has no vote, is no source, and breaks no rule with its revision.
    ("R0a R0a P0b", None, "0b by 2 of 2", "0 mixed, 1 mixed"),
    ("R0a R0a S0b", None, "0b by 2 of 2", ""),
    ("R9b S0b", Some(0), "0b by 1 of 1", ""),
    ("R9a S0b", None, "0b by 1 of 1", ""),
    ("R0a R0a", None, "nothing", ""),
    // Who only sends must win, and agree.
    ("S0a S0a R0b", None, "0a by 0 of 0 1", ""),
    ("S0b S0a S0a", None, "0a by 1 of 1 2", "0 content"),
    ("S0b S0a", None, "0b by 0 of 0", "1 content"),
    ("S4a S5a R0b", Some(5), "5a by 1 of 1", "0 revision"),
    ("S4a S5b R0b", None, "5b by 1 of 1", "0 revision"),
    ("S6a S5b R0b", Some(5), "5b by 1 of 1", "0 ahead"),
    ("S0a+ S0a R0b", None, "0a by 0 of 0 +1", ""),
    // Popularity counts at all or at none.
    ("S0a P0b R0c", None, "0b by 1 of 1", "0 mixed, 2 mixed"),
    ("S0a P0b", Some(0), "0b by 1 of 1", "0 mixed"),
    // Even if then nobody has a vote.
    ("S0a P0b~", None, "nothing", "0 mixed"),
];

const TENSORS: &[Row] = &[
    ("P0a P0b' P0a", None, "0a by 0 of 0 2", "1 tensors"),
    ("P0a' P0b P0b", None, "0b by 1 of 1 2", "0 tensors"),
    ("P0a' P0b", None, "0a by 0 of 0", "1 tensors"),
    // Those up to date count before all others,
    ("P4a' P4a' P5b", Some(5), "5b by 2 of 2", "0 tensors, 1 tensors"),
    ("P9a' P9a' P5b", Some(5), "5b by 2 of 2", "0 tensors, 1 tensors"),
    ("P0a~' P0a~' P0b", None, "0b by 2 of 2", "0 tensors, 1 tensors"),
    // and those who only send before them.
    ("R0a' R0a' S0b", None, "0b by 2 of 2", "0 tensors, 1 tensors"),
    ("S0a' S0b S0b R0a'", None, "0b by 1 of 1 2", "0 tensors, 3 tensors"),
    ("R0a' R0a", None, "nothing", "1 tensors"),
    ("R0a R0a' R0a'", None, "nothing", "0 tensors"),
    // Where no revision is expected the highest there is is up to date, also that of one with other tensors.
    ("P9a' P5b P5b P5c", None, "9a by 0 of 0", "1 tensors, 2 tensors, 3 tensors"),
    ("S9a' S5b S5b R0c", None, "5b by 1 of 1 2", "0 tensors"),
];

const LEFT_BEHIND: &[Row] = &[
    ("P5a~ P5a~ P5b", Some(5), "5b by 2 of 2", ""),
    ("P5b~ P5b", Some(5), "5b by 1 of 1", ""),
    ("P5a~ P4b", Some(5), "4b by 1 of 1", ""),
    ("P9a~ P5b", Some(5), "5b by 1 of 1", ""),
    ("P9a~ P5b", None, "5b by 1 of 1", ""),
    ("P5a~ P5b~", Some(5), "nothing", ""),
    ("S5a~ S5b R0c", Some(5), "5b by 1 of 1", "0 content"),
    ("S4b~ S5b R0c", Some(5), "5b by 1 of 1", "0 revision"),
    ("S5a~ R0c", None, "nothing", ""),
    ("R0a~ S0b", None, "0b by 1 of 1", ""),
];

const COMBINATIONS: &[Row] = &[
    // Each step counts only those whom the one before left.
    ("S9z P7c P5b P5a' P5b P4b", Some(5), "5b by 2 of 2 4 5", "0 mixed, 3 tensors, 1 ahead"),
    ("R9z S7c S5b S5a' S4b S5d S5b", Some(5), "5b by 2 of 2 6", "3 tensors, 1 ahead, 4 revision, 5 content"),
    ("P5a P5a P4b P4b P4b P5b~ P5a+", Some(6), "5a by 0 of 0 1 +6", ""),
    ("P6a' P6a' P5b P4c~", Some(5), "5b by 2 of 2", "0 tensors, 1 tensors"),
];

#[test]
fn every_rule_has_its_outcome_and_its_kicks() {
    for table in [POPULARITY, REVISIONS, STRATEGIES, TENSORS, LEFT_BEHIND, COMBINATIONS] {
        for (short, expected, outcome, kicks) in table {
            let ballot = elect(&offers(short), *expected);
            assert_eq!((shown(&ballot).as_str(), kicked(&ballot).as_str()), (*outcome, *kicks), "{short}");
        }
    }
}

#[test]
fn an_older_revision_is_noted_only_where_another_was_expected() {
    for (short, expected, note) in [
        ("P4a P4a", None, None),
        ("P4a P4a", Some(4), None),
        ("P3a P4a", Some(6), Some(Older { expected: 6, taken: 4 })),
        ("R4a R4a", Some(4), None),
    ] {
        assert_eq!(elect(&offers(short), expected).note, note, "{short}");
    }
}

#[test]
fn votes_are_counted_among_those_up_to_date() {
    let elected = elect(&offers("P5a P5a P5b P4a P5a~"), Some(5)).result.unwrap();
    assert_eq!((elected.votes, elected.voters), (2, 3));
}

#[test]
fn reasons_name_the_numbers_and_the_peers() {
    let texts = |short: &str, expected| -> Vec<String> {
        elect(&offers(short), expected).kicks.iter().map(|(_, kick)| kick.to_string()).collect()
    };
    let ahead = &texts("P17a P5a", Some(5))[0];
    assert!(ahead.contains("17") && ahead.contains(" 5 "), "{ahead}");
    let outdated = &texts("S3a S5a", None)[0];
    assert!(outdated.contains('3') && outdated.contains('5'), "{outdated}");
    let mixed = &texts("S0a P0a", None)[0];
    assert!(mixed.contains("send-only") && mixed.contains(&peer(1).to_string()), "{mixed}");
    let other = &texts("S0a S0b", None)[0];
    assert!(other.contains(&peer(0).to_string()), "{other}");
    let Err(nothing) = elect(&offers("R0a R0a R0a R0a R0a S0a~"), None).result else { panic!("no vote") };
    let text = nothing.to_string();
    assert!(text.contains("and 2 more said receive-only; peer "), "{text}");
    assert!(text.contains(&peer(5).to_string()), "{text}");
}

/// What the oracle knows of a peer.
type Brought = (usize, Offer);

/// The rules as sentences about single peers: everything is counted anew each time.
struct Oracle {
    all: Vec<Brought>,
    expected: Option<u64>,
}

impl Oracle {
    fn has_vote(o: &Offer) -> bool {
        match o.strategy {
            SyncStrategy::EnforcePopular | SyncStrategy::SendOnly => !o.left_behind,
            SyncStrategy::ReceiveOnly => false,
        }
    }

    fn count(of: &[Brought], is: impl Fn(&Offer) -> bool) -> usize {
        of.iter().fold(0, |n, (_, o)| if is(o) { n + 1 } else { n })
    }

    fn unmixed(&self) -> Vec<Brought> {
        let popular = Oracle::count(&self.all, |o| o.strategy == SyncStrategy::EnforcePopular);
        let mut kept = self.all.clone();
        if popular > 0 && popular < self.all.len() {
            kept.retain(|(_, o)| o.strategy == SyncStrategy::EnforcePopular);
        }
        kept
    }

    /// Counts down from the expected revision until somebody with a vote holds it.
    fn up_to_date(&self, of: &[Brought]) -> Option<u64> {
        let from = self.expected.unwrap_or(16);
        (0..=from)
            .rev()
            .find(|revision| Oracle::count(of, |o| Oracle::has_vote(o) && o.revision == *revision) > 0)
    }

    /// Those against whose tensors nobody else's are preferred.
    fn of_one_kind(&self) -> Vec<Brought> {
        let unmixed = self.unmixed();
        let now = self.up_to_date(&unmixed);
        let weight = |keys: Digest| {
            let count = |is: &dyn Fn(&Offer) -> bool| Oracle::count(&unmixed, |o| o.keys == keys && is(o));
            let send = count(&|o| o.strategy == SyncStrategy::SendOnly);
            let voters = count(&|o| Oracle::has_vote(o) && Some(o.revision) == now);
            (send * 100 + voters) * 100 + count(&|_| true)
        };
        let mut best = unmixed.first().map(|(_, o)| o.keys);
        for (_, o) in &unmixed {
            if best.is_some_and(|b| weight(o.keys) > weight(b)) {
                best = Some(o.keys);
            }
        }
        unmixed.into_iter().filter(|(_, o)| Some(o.keys) == best).collect()
    }

    /// Who stays, and what is elected: revision, content, winner.
    fn judge(&self) -> (Vec<usize>, Option<(u64, Digest, usize)>) {
        let kind = self.of_one_kind();
        let ahead = |o: &Offer| Oracle::has_vote(o) && self.expected.is_some_and(|e| e < o.revision);
        let there: Vec<Brought> = kind.into_iter().filter(|(_, o)| !ahead(o)).collect();
        let ranks = |of: &[Brought]| of.iter().map(|(rank, _)| *rank).collect();
        let Some(now) = self.up_to_date(&there) else { return (ranks(&there), None) };
        let electors: Vec<Brought> =
            there.iter().filter(|(_, o)| Oracle::has_vote(o) && o.revision == now).copied().collect();
        // A peer wins if no other one has more behind it, and none before it as many.
        let behind = |o: &Offer| Oracle::count(&electors, |other| other.content == o.content);
        let beats = |a: &Brought, b: &Brought| {
            behind(&a.1) > behind(&b.1) || behind(&a.1) == behind(&b.1) && a.0 < b.0
        };
        let winners: Vec<&Brought> =
            electors.iter().filter(|a| electors.iter().all(|b| a.0 == b.0 || beats(a, b))).collect();
        assert_eq!(winners.len(), 1);
        let (winner, won) = *winners[0];
        // Who only sends must hold what was elected, and where a transfer broke, all of it.
        let holds = |o: &Offer| {
            o.revision == now && if o.left_behind { o.full == won.full } else { o.content == won.content }
        };
        let may_stay = |o: &Offer| o.strategy != SyncStrategy::SendOnly || holds(o);
        let stay: Vec<Brought> = there.into_iter().filter(|(_, o)| may_stay(o)).collect();
        (ranks(&stay), Some((now, won.content, winner)))
    }
}

/// Few values of each kind, so that all rules meet.
fn random_offer(bits: u32) -> Offer {
    let field = |shift: u32, of: u32| (bits >> shift) % of;
    let strategy = [SyncStrategy::EnforcePopular, SyncStrategy::ReceiveOnly, SyncStrategy::SendOnly];
    let content = field(12, 4) as u8 % 3;
    Offer {
        revision: u64::from(field(8, 16) % 5),
        strategy: strategy[field(0, 3) as usize],
        left_behind: field(16, 8) == 0,
        tensors: 1,
        size_bytes: 1,
        keys: Digest([(field(20, 8) < 2) as u8 + (field(20, 8) == 0) as u8; 16]),
        content: Digest([content; 16]),
        full: Digest([content + 100 * (field(24, 4) == 0) as u8; 16]),
    }
}

fn random_field(bits: &[u32], habit: u8) -> Vec<(PeerId, Offer)> {
    let strategy = |o: &mut Offer| match habit % 4 {
        0 => {}
        1 => o.strategy = SyncStrategy::EnforcePopular,
        _ if o.strategy == SyncStrategy::EnforcePopular => o.strategy = SyncStrategy::SendOnly,
        _ => {}
    };
    let mut field: Vec<Offer> = bits.iter().map(|bits| random_offer(*bits)).collect();
    field.iter_mut().for_each(strategy);
    if habit & 4 == 0 {
        field.iter_mut().for_each(|o| o.keys = Digest::default());
    }
    field.into_iter().enumerate().map(|(rank, o)| (peer(rank), o)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn a_hundred_thousand_elections_are_what_the_oracle_says(
        bits in prop::collection::vec(any::<u32>(), 1..10),
        habit in 0u8..8,
        expected in 0u64..8,
    ) {
        let expected = expected.checked_sub(2);
        let offers = random_field(&bits, habit);
        let ballot = elect(&offers, expected);
        let oracle = Oracle { all: offers.iter().map(|(id, o)| (rank(*id), *o)).collect(), expected };
        let (stay, elected) = oracle.judge();

        let is_kicked = |id: &PeerId| ballot.kicks.iter().any(|(kicked, _)| kicked == id);
        let stays: Vec<(PeerId, Offer)> = offers.iter().filter(|(id, _)| !is_kicked(id)).copied().collect();
        prop_assert_eq!(stays.iter().map(|(id, _)| rank(*id)).collect::<Vec<_>>(), stay);
        prop_assert_eq!(ballot.kicks.len() + stays.len(), offers.len(), "nobody is kicked twice");
        let said = ballot.result.as_ref().ok().map(|e| (e.revision, e.content, rank(e.winner)));
        prop_assert_eq!(said, elected);
        if let Ok(elected) = &ballot.result {
            check_elected(elected, &stays);
        }
        let again = elect(&stays, expected);
        prop_assert_eq!(again.kicks.len(), 0);
        // Whoever only sends and was outvoted has had a vote.
        let but_voters = |ballot: &Ballot| ballot.result.clone().map(|e| Elected { voters: 0, ..e });
        prop_assert_eq!(but_voters(&again), but_voters(&ballot));
        prop_assert_eq!(again.note, ballot.note);
    }
}

/// What holds of every election among those who stay.
fn check_elected(elected: &Elected, stays: &[(PeerId, Offer)]) {
    let of = |id: PeerId| stays.iter().find(|(other, _)| *other == id).expect("it stays").1;
    assert_eq!(of(elected.winner).full, elected.full);
    assert!(elected.sources.contains(&Source { peer: elected.winner, full: true }));
    for (id, offer) in stays {
        let source = elected.sources.iter().find(|s| s.peer == *id);
        let gives = offer.strategy != SyncStrategy::ReceiveOnly && !offer.left_behind;
        assert_eq!(source.is_some(), gives && offer.content == elected.content, "{id}");
        assert_eq!(source.is_some_and(|s| s.full), source.is_some() && offer.full == elected.full);
        let needs = offer.needs(elected.revision, elected.content, elected.full);
        assert!(offer.strategy != SyncStrategy::SendOnly || needs == Needs::Nothing, "{id} cannot receive");
    }
}
