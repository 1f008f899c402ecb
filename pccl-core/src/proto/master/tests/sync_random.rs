//! A master and peers that synchronize again and again, with messages on their way for any time, deaths, leaves,
//! newcomers, pairs without a link and restarts of the master, all decided by a seed. What one peer hears of a
//! synchronization all hear; nobody waits for ever; in the end nothing is kept.

use super::*;
use crate::types::{FetchFailure, SyncNumber, SyncOutcome};

/// Successes after which a program leaves.
const ROUNDS: usize = 3;
/// Virtual time in which every program has to come to its end.
const MOST_MS: u64 = 300_000;
const MOST_STEPS: usize = 100_000;

/// A small generator (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn percent(&mut self, n: u64) -> bool {
        self.next() % 100 < n
    }
}

enum Up {
    Connected,
    Message(PeerMessage),
    Closed,
}

enum Down {
    Message(MasterMessage),
    Closed,
}

#[derive(Default)]
struct Wire {
    host: usize,
    up: VecDeque<Up>,
    down: VecDeque<Down>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Sync,
    Update,
    Leave,
}

struct Fetch {
    election: std::sync::Arc<Election>,
    needs: Needs,
    sources: Vec<Source>,
}

struct Host {
    peer: peer::Peer,
    conn: Option<ConnId>,
    alive: bool,
    over: bool,
    /// What the program is to call next, or is in.
    step: Step,
    open: Option<WorkId>,
    released: bool,
    successes: usize,
    /// Of its tensors: those that must not differ, and the others.
    holds: (u8, u8),
    revision: u64,
    strategy: SyncStrategy,
    odd_keys: bool,
    fetch: Option<Fetch>,
    serves: Option<SyncNumber>,
}

struct Net {
    dice: Dice,
    master: Master,
    wires: BTreeMap<ConnId, Wire>,
    hosts: Vec<Host>,
    walls: Vec<(usize, usize)>,
    next: u64,
    now: Time,
    restarts: usize,
    faults: bool,
    /// Whether programs call what they should not, and whether they update after an abort.
    unruly: bool,
    updates_after_abort: bool,
    /// What programs say: up to 5 popularity counts, up to 7 some only send and some only receive, else all is mixed.
    strategies: usize,
    /// How each ended, and what it made all hold.
    ends: BTreeMap<SyncNumber, Heard<SyncOutcome>>,
    contents: BTreeMap<SyncNumber, Heard<(Digest, u64)>>,
    /// Of all successes, and so on, whoever heard of them.
    counts: [usize; 4],
    log: Vec<String>,
}

/// What some peers heard of a synchronization.
struct Heard<T> {
    what: T,
    by: Vec<PeerId>,
}

/// Takes down what a peer heard, and tells what others have heard. A number of which only those have heard who are
/// members no more may come again, after a restart.
fn heard<T: Clone>(
    known: &mut BTreeMap<SyncNumber, Heard<T>>,
    master: &Master,
    number: SyncNumber,
    who: PeerId,
    what: T,
) -> T {
    let is_member = |id: &PeerId| master.member_group(*id).is_some();
    if known.get(&number).is_some_and(|heard| !heard.by.iter().any(is_member)) {
        known.remove(&number);
    }
    let heard = known.entry(number).or_insert(Heard { what, by: Vec::new() });
    heard.by.push(who);
    heard.what.clone()
}

fn full(holds: (u8, u8)) -> Digest {
    Digest([holds.0 * 16 + holds.1; 16])
}

impl Net {
    fn new(seed: u64) -> Net {
        let mut dice = Dice(seed);
        Net {
            master: master(1_000 + seed, Time(0)),
            wires: BTreeMap::new(),
            hosts: Vec::new(),
            walls: Vec::new(),
            next: 0,
            now: Time(0),
            restarts: if dice.percent(50) { 1 + dice.below(2) } else { 0 },
            faults: false,
            unruly: dice.percent(20),
            updates_after_abort: dice.percent(50),
            strategies: dice.below(9),
            ends: BTreeMap::new(),
            contents: BTreeMap::new(),
            counts: [0; 4],
            log: Vec::new(),
            dice,
        }
    }

    fn host(&mut self, group: u32) {
        let n = self.hosts.len();
        let join = Join { peer: id(n), group: GroupId(group), data_port: 1, announced: None, pool: 1 };
        let strategy = match (self.strategies, self.dice.below(3)) {
            (0..6, _) | (8.., 0) => SyncStrategy::EnforcePopular,
            (_, 1) => SyncStrategy::SendOnly,
            _ => SyncStrategy::ReceiveOnly,
        };
        self.hosts.push(Host {
            peer: peer::Peer::new(PeerConfig::new(join), self.now),
            conn: None,
            alive: true,
            over: false,
            step: Step::Connect,
            open: None,
            released: false,
            successes: 0,
            holds: (self.dice.below(2) as u8, self.dice.below(2) as u8),
            revision: 5,
            strategy,
            odd_keys: self.dice.percent(3),
            fetch: None,
            serves: None,
        });
        for m in 0..n {
            if self.dice.percent(8) {
                self.walls.push((m, n));
            }
        }
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.hosts.len()).filter(|n| self.hosts[*n].alive && !self.hosts[*n].over)
    }

    fn call(&mut self, n: usize, call: Call) {
        self.next += 1;
        let work = WorkId(self.next);
        self.log.push(format!("{n} calls {call:?}"));
        let host = &mut self.hosts[n];
        host.open = Some(work);
        host.released = false;
        host.peer.handle(peer::Input::Call { work, call }, self.now);
        self.collect(n);
    }

    /// The next call of a program that is in none.
    fn go_on(&mut self, n: usize) {
        if self.hosts[n].step == Step::Sync && self.unruly && self.faults && self.dice.percent(10) {
            return self.call(n, Call::Phase(PhaseCall::UpdateTopology));
        }
        let host = &self.hosts[n];
        let call = match host.step {
            Step::Connect => Call::Connect,
            Step::Update => Call::Phase(PhaseCall::UpdateTopology),
            Step::Leave => Call::Leave,
            Step::Sync => {
                let mut brought = syncs::popular(host.revision, host.holds.0);
                brought.offer.full = full(host.holds);
                brought.offer.strategy = host.strategy;
                if host.odd_keys {
                    brought.keys[0].count = 9;
                    (brought.offer.size_bytes, brought.offer.keys) = (52, Digest([200; 16]));
                }
                Call::Synchronize { offer: brought.offer, keys: brought.keys.into() }
            }
        };
        self.call(n, call);
    }

    fn completed(&mut self, n: usize, outcome: Result<Done, Error>) {
        self.log.push(format!("{n}: {outcome:?}"));
        let diverges =
            (self.dice.percent(15), self.dice.below(2) as u8, self.dice.percent(5), self.dice.percent(2));
        let host = &mut self.hosts[n];
        match outcome {
            Ok(Done::Connected) => host.step = Step::Sync,
            Ok(Done::Updated) => {
                host.step = if host.successes < ROUNDS { Step::Sync } else { Step::Leave };
            }
            Ok(Done::Synchronized(info)) => {
                assert!(host.released && host.fetch.is_none(), "peer {n} still touches its tensors");
                host.successes += 1;
                host.step = Step::Update;
                let (differs, other, lags, leaps) = diverges;
                // A step of training; at some it goes wrong.
                host.revision = info.revision
                    + if lags {
                        0
                    } else if leaps {
                        7
                    } else {
                        1
                    };
                host.holds.0 = (info.revision % 7) as u8 + if differs { 7 + other } else { 0 };
                host.holds.1 = other;
            }
            Ok(Done::Left) => host.over = true,
            Ok(other) => panic!("peer {n}: {other:?}"),
            Err(error) => match error.kind {
                ErrorKind::Aborted => {
                    host.step = if self.updates_after_abort { Step::Update } else { Step::Sync };
                }
                // All hear it, and all change their minds.
                ErrorKind::NoSharedStateAvailable => host.strategy = SyncStrategy::EnforcePopular,
                ErrorKind::TooFewPeers => host.step = Step::Leave,
                ErrorKind::MasterConnectionFailed => host.over = true,
                ErrorKind::InvalidUsage if self.unruly => {}
                _ => panic!("peer {n}: {error}\n{}", self.log.join("\n")),
            },
        }
    }

    fn collect(&mut self, n: usize) {
        while let Some(output) = self.hosts[n].peer.poll_output() {
            if self.hosts[n].alive {
                self.on_peer_output(n, output);
            }
        }
    }

    fn on_peer_output(&mut self, n: usize, output: peer::Output) {
        match output {
            peer::Output::DialMaster => {
                self.next += 1;
                let conn = ConnId(self.next);
                let up = VecDeque::from([Up::Connected]);
                self.wires.insert(conn, Wire { host: n, up, down: VecDeque::new() });
                self.hosts[n].conn = Some(conn);
                self.hosts[n].peer.handle(peer::Input::ControlUp, self.now);
            }
            peer::Output::HangUp => self.hang_up(n),
            peer::Output::Send(message) => {
                if let Some(wire) = self.hosts[n].conn.and_then(|conn| self.wires.get_mut(&conn)) {
                    wire.up.push_back(Up::Message(message));
                }
            }
            peer::Output::Dial { to, .. } => self.dial(n, &to),
            peer::Output::BeginSync { election, needs, .. } => {
                let known = (election.content, election.revision);
                let same = heard(&mut self.contents, &self.master, election.number, id(n), known);
                assert_eq!(same, known);
                self.hosts[n].serves = Some(election.number);
                let sources = election.sources.clone();
                self.hosts[n].fetch = (needs != Needs::Nothing).then_some(Fetch { election, needs, sources });
            }
            peer::Output::AddSource { number, source } => {
                let fetch = self.hosts[n].fetch.as_mut().expect("a fetch is under way");
                assert_eq!(fetch.election.number, number);
                fetch.sources.push(source);
            }
            peer::Output::EndSync { work } => {
                assert_eq!(self.hosts[n].open, Some(work));
                self.hosts[n].released = true;
                (self.hosts[n].fetch, self.hosts[n].serves) = (None, None);
            }
            peer::Output::Complete { work, outcome } => {
                assert_eq!(self.hosts[n].open.take(), Some(work), "peer {n}: a call ended twice");
                self.completed(n, outcome);
            }
            peer::Output::Log { text, .. } => self.log.push(format!("{n} says {text}")),
            _ => {}
        }
    }

    fn hang_up(&mut self, n: usize) {
        let conn = self.hosts[n].conn.take();
        if let Some(wire) = conn.and_then(|conn| self.wires.get_mut(&conn)) {
            wire.down.clear();
            wire.up.push_back(Up::Closed);
        }
    }

    fn dial(&mut self, n: usize, to: &crate::wire::message::PeerAddress) {
        let (generation, now) = (to.generation, self.now);
        let m = (0..self.hosts.len()).find(|m| self.hosts[*m].peer.id() == to.peer).expect("known peer");
        if self.walls.contains(&(n.min(m), n.max(m))) || !self.hosts[m].alive {
            let failed = peer::Input::DialFailed { peer: to.peer, generation, reason: "no route".to_owned() };
            return self.hosts[n].peer.handle(failed, now);
        }
        let ends = (self.hosts[n].peer.id(), self.hosts[m].peer.id());
        let up = |peer, dialled| peer::Input::LinkUp { peer, generation, dialled, rtt_us: 100, pool: 1 };
        self.hosts[n].peer.handle(up(ends.1, true), now);
        self.hosts[m].peer.handle(up(ends.0, false), now);
        self.collect(m);
    }

    fn collect_master(&mut self) {
        while let Some(output) = self.master.poll_output() {
            match output {
                Output::Send { conn, message } => {
                    if let Some(wire) = self.wires.get_mut(&conn) {
                        wire.down.push_back(Down::Message(message));
                    }
                }
                Output::Close { conn } => {
                    if let Some(wire) = self.wires.get_mut(&conn) {
                        wire.down.push_back(Down::Closed);
                    }
                }
                Output::Plan(_) => unreachable!("nobody optimizes here"),
                Output::Event(event) => self.log.push(format!("master: {event}")),
            }
        }
    }

    /// Delivers one message, of any connection. False if there is none.
    fn deliver(&mut self) -> bool {
        let ways = self.wires.iter().flat_map(|(conn, wire)| {
            let up = (!wire.up.is_empty()).then_some((*conn, true));
            let down = (!wire.down.is_empty()).then_some((*conn, false));
            [up, down].into_iter().flatten()
        });
        let ways: Vec<(ConnId, bool)> = ways.collect();
        if ways.is_empty() {
            return false;
        }
        let (conn, is_up) = ways[self.dice.below(ways.len())];
        let Some(wire) = self.wires.get_mut(&conn) else { return false };
        let n = wire.host;
        if is_up {
            let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
            match wire.up.pop_front() {
                Some(Up::Connected) => self.master.handle(Input::Connected { conn, from }, self.now),
                Some(Up::Message(message)) => self.master.handle(Input::Message { conn, message }, self.now),
                Some(Up::Closed) => {
                    self.wires.remove(&conn);
                    self.master.handle(Input::Closed { conn, reason: "closed by the peer".into() }, self.now);
                }
                None => {}
            }
            self.collect_master();
        } else {
            match wire.down.pop_front() {
                Some(Down::Message(message)) => self.hears(n, conn, message),
                Some(Down::Closed) => {
                    self.wires.remove(&conn);
                    if self.hosts[n].conn == Some(conn) {
                        self.hosts[n].conn = None;
                        self.hosts[n]
                            .peer
                            .handle(peer::Input::ControlLost { reason: "closed".into() }, self.now);
                    }
                }
                None => {}
            }
            self.collect(n);
        }
        true
    }

    fn hears(&mut self, n: usize, conn: ConnId, message: MasterMessage) {
        if !self.hosts[n].alive || self.hosts[n].conn != Some(conn) {
            return;
        }
        // Before it is a member it hears only how far the run is.
        let is_member = self.hosts[n].peer.state() == peer::State::Member;
        if let (true, MasterMessage::SyncEnded { number, outcome }) = (is_member, &message) {
            let before = self.ends.get(number).map_or(0, |end| end.by.len());
            let same = &heard(&mut self.ends, &self.master, *number, id(n), outcome.clone());
            if before == 0 || self.ends.get(number).is_some_and(|end| end.by.len() == 1) {
                self.counts[usize::from(kind_of(outcome).0)] += 1;
            }
            assert!(
                kind_of(same) == kind_of(outcome),
                "{number}: {same:?} and {outcome:?}\n{}",
                self.log.join("\n")
            );
            let host = &self.hosts[n];
            if let SyncOutcome::Synchronized { revision } = outcome {
                let (content, elected) = self.contents[number].what;
                assert_eq!((Digest([host.holds.0; 16]), *revision), (content, elected), "peer {n}, {number}");
            }
        }
        self.hosts[n].peer.handle(peer::Input::Control(message), self.now);
    }

    /// Finishes somebody's fetch, if its sources serve it.
    fn fetch(&mut self, n: usize) {
        let Some(fetch) = &self.hosts[n].fetch else { return };
        let Election { number, content, full: everything, .. } = *fetch.election;
        let all = fetch.needs == Needs::All;
        let serves = |s: &&Source| {
            let m = (0..self.hosts.len()).find(|m| self.hosts[*m].peer.id() == s.peer);
            m.filter(|m| {
                let walled = self.walls.contains(&(n.min(*m), n.max(*m)));
                self.hosts[*m].alive && self.hosts[*m].serves == Some(number) && !walled && (s.full || !all)
            })
            .is_some()
        };
        let Some(source) = fetch.sources.iter().find(serves) else { return };
        let at = (0..self.hosts.len()).find(|m| self.hosts[*m].peer.id() == source.peer).expect("it serves");
        let held = self.hosts[at].holds;
        assert_eq!(Digest([held.0; 16]), content, "peer {at} is no source of {number}");
        assert!(!all || full(held) == everything, "peer {at} is no source of everything of {number}");
        let failed = self.faults && self.dice.percent(3);
        let host = &mut self.hosts[n];
        host.fetch = None;
        if !failed {
            host.holds = if all { held } else { (held.0, host.holds.1) };
        }
        let text = "for this test".to_owned();
        let failure = match self.dice.below(4) {
            0 => FetchFailure::BrokenOff { text },
            1 => FetchFailure::NotHere { text },
            _ => FetchFailure::NoSource { text },
        };
        let failed = failed.then_some(failure);
        self.log.push(format!("{n} has fetched {number}: {failed:?}"));
        host.peer.handle(peer::Input::StateDone { number, failed }, self.now);
        self.collect(n);
    }

    fn fault(&mut self) {
        let running: Vec<usize> = self.running().collect();
        if running.is_empty() {
            return;
        }
        let n = running[self.dice.below(running.len())];
        match self.dice.below(6) {
            0 => {
                self.log.push(format!("{n} dies"));
                self.hosts[n].alive = false;
                self.hang_up(n);
            }
            1 if self.hosts[n].open.is_none() => self.hosts[n].step = Step::Leave,
            2 => {
                self.log.push(format!("the control link of {n} breaks"));
                let conn = self.hosts[n].conn;
                if let Some(wire) = conn.and_then(|conn| self.wires.get_mut(&conn)) {
                    wire.up.push_back(Up::Closed);
                    self.hosts[n].conn = None;
                    self.hosts[n].peer.handle(peer::Input::ControlLost { reason: "reset".into() }, self.now);
                    self.collect(n);
                }
            }
            3 if self.hosts.len() < 7 => {
                let group = self.dice.below(2) as u32;
                self.host(group);
            }
            4 | 5 if self.restarts > 0 => {
                self.restarts -= 1;
                self.restart();
            }
            _ => {}
        }
    }

    /// Of what the old master had on its way, some arrives.
    fn restart(&mut self) {
        self.log.push("the master is restarted".to_owned());
        self.next += 1;
        self.master = master(1_000_000 + self.next, self.now);
        for wire in self.wires.values_mut() {
            wire.up.clear();
            let arrives = self.dice.below(wire.down.len() + 1);
            wire.down.truncate(arrives);
            wire.down.push_back(Down::Closed);
        }
    }

    fn pass_time(&mut self) {
        let peers = self.running().filter_map(|n| self.hosts[n].peer.next_deadline());
        let Some(next) = peers.chain(self.master.next_deadline()).min() else { return };
        self.now = next.max(self.now);
        self.timers();
    }

    fn timers(&mut self) {
        for n in self.running().collect::<Vec<_>>() {
            if self.hosts[n].peer.next_deadline().is_some_and(|t| t <= self.now) {
                self.hosts[n].peer.on_deadline(self.now);
                self.collect(n);
            }
        }
        if self.master.next_deadline().is_some_and(|t| t <= self.now) {
            self.master.on_deadline(self.now);
            self.collect_master();
        }
    }

    fn pick(&mut self, among: &[usize]) -> Option<usize> {
        let at = self.dice.below(among.len());
        among.get(at).copied()
    }

    /// Lets all connect, and waits until they are members.
    fn gather(&mut self) {
        loop {
            assert!(self.now < Time(0).plus_ms(60_000), "they do not meet: {}", self.log.join("\n"));
            for n in self.running().collect::<Vec<_>>() {
                if self.hosts[n].open.is_none() {
                    let connects = self.hosts[n].step == Step::Connect;
                    self.call(
                        n,
                        if connects { Call::Connect } else { Call::Phase(PhaseCall::UpdateTopology) },
                    );
                }
            }
            while self.deliver() {}
            if self.running().all(|n| self.hosts[n].open.is_none()) {
                break;
            }
            self.pass_time();
            while self.deliver() {}
        }
        for n in self.running().collect::<Vec<_>>() {
            self.hosts[n].step = Step::Sync;
        }
    }

    /// One of the things that may happen now.
    fn step(&mut self) {
        if self.faults && self.dice.percent(1) {
            self.fault();
        }
        let idle: Vec<usize> = self.running().filter(|n| self.hosts[*n].open.is_none()).collect();
        let fetching: Vec<usize> = self.running().filter(|n| self.hosts[*n].fetch.is_some()).collect();
        let (caller, fetcher) = (self.pick(&idle), self.pick(&fetching));
        match (self.dice.below(10), caller, fetcher) {
            (0 | 1, Some(n), _) => self.go_on(n),
            (2, _, Some(n)) => self.fetch(n),
            _ => {
                self.now = self.now.plus_us(200);
                self.timers();
                if !self.deliver() && idle.is_empty() {
                    fetching.into_iter().for_each(|n| self.fetch(n));
                    self.pass_time();
                }
            }
        }
    }
}

fn kind_of(outcome: &SyncOutcome) -> (u8, u64) {
    match outcome {
        SyncOutcome::Synchronized { revision } => (0, *revision),
        SyncOutcome::NothingOffered { .. } => (1, 0),
        SyncOutcome::Aborted { .. } => (2, 0),
        SyncOutcome::Deadlocked { .. } => (3, 0),
    }
}

/// One run; how many synchronizations ended in each way.
fn play(seed: u64) -> [usize; 4] {
    let mut net = Net::new(seed);
    let groups = 1 + net.dice.below(2) as u32;
    for _ in 0..2 + net.dice.below(4) {
        let group = net.dice.next() as u32 % groups;
        net.host(group);
    }
    net.gather();
    net.faults = true;
    let calm_from = 1_500 + net.dice.below(3_000);
    let mut steps = 0;
    while net.running().next().is_some() {
        steps += 1;
        if steps == calm_from {
            net.faults = false;
        }
        net.step();
        let open = |net: &Net| net.running().map(|n| (n, net.hosts[n].step)).collect::<Vec<_>>();
        assert!(
            net.now < Time(0).plus_ms(MOST_MS) && steps < MOST_STEPS,
            "seed {seed}: waits for ever: {:?}\n{}",
            open(&net),
            net.log.join("\n")
        );
    }
    while net.deliver() {}
    assert_eq!(net.master.kept(), Kept::default(), "seed {seed}");
    net.counts
}

#[test]
fn whatever_happens_all_hear_the_same_and_nobody_waits_for_ever() {
    let mut counts = [0; 4];
    for seed in 0..1_000 {
        counts.iter_mut().zip(play(seed)).for_each(|(sum, n)| *sum += n);
    }
    assert!(counts[0] > 1_000 && counts[1..].iter().all(|n| *n > 50), "{counts:?}: the runs prove little");
}
