//! One run: starts and ends processes, follows what they report, and measures recoveries and joins.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::child::Check;
use super::clock::now_us;
use super::judge::Judge;
use super::pattern;
use super::process::{Event, FIRST_MASTER, Processes};
use super::report::{Report, Step};
use super::screen::Screen;

/// So long after a restart of the master its peers may still be coming back.
const MASTER_FINDS_RUN: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
pub struct Config {
    pub size_bytes: u64,
    pub seed: u64,
    pub check: Check,
    /// Nothing good from a peer for so long: the run is stuck.
    pub stuck_after: Duration,
    /// `key=value` of the master's settings.
    pub master_settings: Vec<String>,
    /// Where the children's log goes.
    pub log: Option<PathBuf>,
}

/// Why a run ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Interrupted,
    /// Recorded as a problem with the judge.
    Trouble,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Must go on.
    Alive,
    Frozen,
    /// Killed, asked to leave, or frozen for long: may end, and its reports may be missing.
    Ending,
    Gone,
}

#[derive(Debug)]
pub struct Member {
    pub pid: u32,
    pub value: u32,
    pub fate: Fate,
    spawned_us: u64,
    joined: bool,
    last_news: Instant,
    pub last: Option<Step>,
    pub steps: u64,
    pub aborted: u64,
    /// It was frozen until the others went on: it may find that it is out.
    may_be_out: bool,
    killed_us: Option<u64>,
}

/// A fault, and how long it took until every survivor had a good all-reduce without the victims.
#[derive(Clone, Debug)]
pub struct Recovery {
    at_us: u64,
    /// Survivors without a good one yet, with the membership that each saw last.
    waiting: BTreeMap<u32, Option<(u32, u32)>>,
    slowest_us: u64,
    /// Until the last survivor was told that its operation is aborted.
    noticed_us: u64,
}

pub struct Run {
    pub config: Config,
    pub judge: Judge,
    pub screen: Screen,
    pub members: BTreeMap<u32, Member>,
    pub started: Instant,
    processes: Processes,
    next_number: u32,
    master: u32,
    address: Option<String>,
    recovery: Option<Recovery>,
    pub recoveries_us: Vec<u64>,
    /// The part of each recovery until the last survivor knew. Not there if no operation was aborted.
    pub noticed_us: Vec<u64>,
    /// From each SIGKILL until the system had ended the process: nobody can know of a death before.
    pub deaths_us: Vec<u64>,
    pub joins_us: Vec<u64>,
    /// How long `update_topology` held members up.
    pub pauses_us: Vec<u64>,
    /// Peers that were out and joined anew.
    pub rejoins: u64,
    /// The master is meant to end.
    master_ending: bool,
    /// A newcomer that a new master took for the first of a run gives way to an older run.
    master_restarted: Option<Instant>,
}

impl Run {
    /// Starts the master and waits until it listens.
    pub fn start(config: Config, screen: Screen) -> Result<Run, String> {
        let processes = Processes::new(config.log.as_deref())
            .map_err(|e| format!("cannot start processes or write their log: {e}"))?;
        let mut run = Run {
            config,
            judge: Judge::default(),
            screen,
            members: BTreeMap::new(),
            started: Instant::now(),
            processes,
            next_number: 1,
            master: FIRST_MASTER,
            address: None,
            recovery: None,
            recoveries_us: Vec::new(),
            noticed_us: Vec::new(),
            deaths_us: Vec::new(),
            joins_us: Vec::new(),
            pauses_us: Vec::new(),
            rejoins: 0,
            master_ending: false,
            master_restarted: None,
        };
        match run.start_master("127.0.0.1:0") {
            Ok(()) => Ok(run),
            Err(Stop::Interrupted) => Err("interrupted".into()),
            Err(Stop::Trouble) => Err(run.judge.tally.problems.join("\n")),
        }
    }

    fn start_master(&mut self, listen: &str) -> Result<(), Stop> {
        let mut arguments = vec!["child-master".into(), format!("--listen={listen}")];
        arguments.extend(self.config.master_settings.iter().map(|s| format!("--set={s}")));
        if let Err(error) = self.processes.spawn(self.master, &arguments) {
            return self.trouble(format!("cannot start a master: {error}"));
        }
        self.address = None;
        self.master_ending = false;
        self.wait_for("the master listens", |run| run.address.is_some())
    }

    /// Kills the master and starts another one at the same address.
    pub fn restart_master(&mut self) -> Result<(), Stop> {
        let address = self.address().to_owned();
        self.master_ending = true;
        self.processes.kill(self.master);
        // Its port is free when it has ended.
        let peers = self.members.values().filter(|m| m.fate != Fate::Gone).count();
        self.wait_for("the killed master ends", |run| run.processes.count() <= peers)?;
        self.master += 1;
        self.master_restarted = Some(Instant::now());
        self.start_master(&address)
    }

    /// One thing that happened, for the person who watches.
    pub fn note(&self, text: &str) {
        self.screen.note(self.started.elapsed(), text);
    }

    /// Where the master listens.
    pub fn address(&self) -> &str {
        self.address.as_deref().unwrap_or_default()
    }

    pub fn start_peer(&mut self) -> Result<u32, Stop> {
        let number = self.next_number;
        self.next_number += 1;
        let value = pattern::value_of(number, self.config.seed);
        let check = match self.config.check {
            Check::Full => "full",
            Check::Window => "window",
        };
        let arguments = [
            "child-peer".into(),
            format!("--master={}", self.address()),
            format!("--count={}", self.config.size_bytes / 4),
            format!("--value={value}"),
            format!("--seed={}", self.config.seed ^ u64::from(number)),
            format!("--check={check}"),
        ];
        let spawned_us = now_us();
        let pid = match self.processes.spawn(number, &arguments) {
            Ok(pid) => pid,
            Err(error) => return self.trouble(format!("cannot start a peer: {error}")),
        };
        let member = Member {
            pid,
            value,
            fate: Fate::Alive,
            spawned_us,
            joined: false,
            last_news: Instant::now(),
            last: None,
            steps: 0,
            aborted: 0,
            may_be_out: false,
            killed_us: None,
        };
        self.members.insert(number, member);
        Ok(number)
    }

    /// SIGKILLs a peer and starts to measure the recovery of the others.
    pub fn kill(&mut self, number: u32) {
        self.expect_end(number);
        if let Some(member) = self.members.get_mut(&number) {
            member.killed_us = Some(now_us());
        }
        self.processes.kill(number);
    }

    /// SIGSTOPs a peer and starts to measure the recovery of the others. It is not expected to come back.
    #[cfg(unix)]
    pub fn freeze(&mut self, number: u32) {
        self.expect_end(number);
        self.processes.freeze(number);
    }

    /// A graceful end. Measured like a kill.
    pub fn ask_to_leave(&mut self, number: u32) {
        self.expect_end(number);
        self.processes.ask_to_leave(number);
    }

    /// Kills without measuring: the peer is out already.
    pub fn clean_up(&mut self, number: u32) {
        self.processes.kill(number);
    }

    /// SIGSTOPs a peer that will be thawed before anybody may notice.
    #[cfg(unix)]
    pub fn freeze_briefly(&mut self, number: u32) {
        if let Some(member) = self.members.get_mut(&number) {
            member.fate = Fate::Frozen;
            self.processes.freeze(number);
        }
    }

    #[cfg(unix)]
    pub fn thaw(&mut self, number: u32) {
        if let Some(member) = self.members.get_mut(&number) {
            if member.fate == Fate::Frozen {
                member.fate = Fate::Alive;
                member.last_news = Instant::now();
            }
            self.processes.thaw(number);
        }
    }

    /// A peer that was frozen until the others went on: it finds that it is out, and joins anew.
    #[cfg(unix)]
    pub fn bring_back(&mut self, number: u32) {
        if let Some(member) = self.members.get_mut(&number) {
            member.fate = Fate::Alive;
            member.may_be_out = true;
            member.last_news = Instant::now();
            member.last = None;
            self.processes.thaw(number);
        }
    }

    fn expect_end(&mut self, number: u32) {
        let at_us = now_us();
        if let Some(member) = self.members.get_mut(&number) {
            member.fate = Fate::Ending;
            self.judge.ended(number, member.value, at_us);
        }
        if let Some(recovery) = &mut self.recovery {
            // One fault on top of another: the survivors' time counts from the first.
            recovery.waiting.remove(&number);
            self.close_recovery();
            return;
        }
        let waiting: BTreeMap<_, _> = self
            .members
            .iter()
            .filter(|(_, m)| m.fate == Fate::Alive && m.last.is_some())
            .map(|(&number, m)| (number, m.last.as_ref().map(|s| (s.instance.world, s.instance.value))))
            .collect();
        if waiting.len() >= 2 {
            self.recovery = Some(Recovery { at_us, waiting, slowest_us: 0, noticed_us: 0 });
        }
    }

    pub fn alive(&self) -> Vec<u32> {
        self.members.iter().filter(|(_, m)| m.fate == Fate::Alive).map(|(&number, _)| number).collect()
    }

    /// Every living peer's last success was with all the living.
    pub fn settled(&self) -> bool {
        let alive = self.alive();
        let values: u32 = alive.iter().map(|n| self.members[n].value).sum();
        let all = Some((alive.len() as u32, values));
        let seen = |n: &u32| self.members[n].last.as_ref().map(|s| (s.instance.world, s.instance.value));
        !alive.is_empty() && alive.iter().all(|n| seen(n) == all)
    }

    pub fn is_gone(&self, number: u32) -> bool {
        self.members.get(&number).is_none_or(|m| m.fate == Fate::Gone)
    }

    /// Every living peer has called, and succeeded, since.
    pub fn progressed_since(&self, at_us: u64) -> bool {
        let mut alive = self.members.values().filter(|m| m.fate == Fate::Alive);
        alive.all(|m| m.last.as_ref().is_some_and(|step| step.start_us > at_us))
    }

    pub fn recovered(&self) -> bool {
        self.recovery.is_none()
    }

    /// Follows the run for so long.
    pub fn follow(&mut self, time: Duration) -> Result<(), Stop> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.follow_until(end)?;
        }
        Ok(())
    }

    /// Follows the run until something is so. What takes too long is noticed as being stuck.
    pub fn wait_for(&mut self, what: &str, mut condition: impl FnMut(&Run) -> bool) -> Result<(), Stop> {
        let begun = Instant::now();
        while !condition(self) {
            self.follow_until(begun + self.config.stuck_after)?;
            if begun.elapsed() > self.config.stuck_after {
                let states: Vec<String> = self.members.iter().filter_map(describe).collect();
                self.judge.problem(format!(
                    "{what}: this did not happen within {:.0?}; {}",
                    self.config.stuck_after,
                    states.join("; ")
                ));
                return Err(Stop::Trouble);
            }
        }
        Ok(())
    }

    /// Handles at most one event.
    fn follow_until(&mut self, end: Instant) -> Result<(), Stop> {
        let wait = end.saturating_duration_since(Instant::now()).min(Duration::from_millis(50));
        let event = self.processes.next(wait);
        self.screen.draw(
            &self.members,
            &self.judge,
            &self.recoveries_us,
            self.config.size_bytes,
            self.started.elapsed(),
        );
        match event {
            Some(Event::Interrupted) => return Err(Stop::Interrupted),
            Some(Event::Report { number, report }) => self.heard(number, report)?,
            Some(Event::Closed { number }) => self.closed(number)?,
            Some(Event::Ended { number, at_us }) => {
                if let Some(killed_us) = self.members.get(&number).and_then(|m| m.killed_us) {
                    self.deaths_us.push(at_us.saturating_sub(killed_us));
                }
            }
            Some(Event::Log { .. }) => {}
            None => self.look_for_silence()?,
        }
        Ok(())
    }

    fn heard(&mut self, number: u32, report: Report) -> Result<(), Stop> {
        if number >= FIRST_MASTER {
            match report {
                Report::Listening { address } => self.address = Some(address),
                Report::Failed { reason } => return self.trouble(format!("the master gave up: {reason}")),
                _ => {}
            }
            return Ok(());
        }
        let Some(member) = self.members.get_mut(&number) else { return Ok(()) };
        member.last_news = Instant::now();
        match report {
            Report::Step(step) => self.stepped(number, step),
            Report::Aborted { end_us, .. } => {
                if let Some(recovery) = self.recovery.as_mut().filter(|r| r.waiting.contains_key(&number)) {
                    recovery.noticed_us = recovery.noticed_us.max(end_us.saturating_sub(recovery.at_us));
                }
                member.aborted += 1;
                self.judge.tally.aborted_calls += 1;
            }
            Report::Updated { start_us, end_us } => self.pauses_us.push(end_us.saturating_sub(start_us)),
            Report::Out { reason } => {
                self.rejoins += 1;
                let excused = member.may_be_out
                    || self.master_restarted.is_some_and(|at| at.elapsed() < MASTER_FINDS_RUN);
                member.may_be_out = false;
                if !excused && member.fate == Fate::Alive {
                    return self.trouble(format!("peer {number} is out of the run: {reason}"));
                }
            }
            Report::Failed { reason } if member.fate == Fate::Alive => {
                return self.trouble(format!("peer {number} gave up: {reason}"));
            }
            _ => {}
        }
        Ok(())
    }

    fn stepped(&mut self, number: u32, step: Step) {
        let Some(member) = self.members.get_mut(&number) else { return };
        self.judge.step(number, member.value, &step);
        if !member.joined {
            member.joined = true;
            self.joins_us.push(step.end_us.saturating_sub(member.spawned_us));
        }
        if let Some(recovery) = &mut self.recovery {
            let membership = Some((step.instance.world, step.instance.value));
            let is_old =
                |before: &Option<(u32, u32)>| step.start_us <= recovery.at_us && *before == membership;
            if step.end_us > recovery.at_us && recovery.waiting.get(&number).is_some_and(|b| !is_old(b)) {
                recovery.waiting.remove(&number);
                recovery.slowest_us = recovery.slowest_us.max(step.end_us - recovery.at_us);
            }
        }
        member.steps += 1;
        member.last = Some(step);
        self.close_recovery();
    }

    fn close_recovery(&mut self) {
        let Some(done) = self.recovery.take_if(|r| r.waiting.is_empty()) else { return };
        // Where no survivor is left there is nothing to count.
        if done.slowest_us > 0 {
            self.recoveries_us.push(done.slowest_us);
            self.noticed_us.extend((done.noticed_us > 0).then_some(done.noticed_us));
        }
    }

    fn closed(&mut self, number: u32) -> Result<(), Stop> {
        let status = self.processes.reap(number).map_or("unknown".into(), |s| s.to_string());
        if number >= FIRST_MASTER {
            return if number == self.master && !self.master_ending {
                self.trouble(format!("the master ended by itself ({status})"))
            } else {
                Ok(())
            };
        }
        let Some(member) = self.members.get_mut(&number) else { return Ok(()) };
        let unasked = matches!(member.fate, Fate::Alive | Fate::Frozen);
        member.fate = Fate::Gone;
        if unasked {
            return self.trouble(format!("peer {number} ended without being asked to ({status})"));
        }
        Ok(())
    }

    fn look_for_silence(&mut self) -> Result<(), Stop> {
        let silent = self
            .members
            .iter()
            .find(|(_, m)| m.fate == Fate::Alive && m.last_news.elapsed() > self.config.stuck_after)
            .and_then(describe);
        match silent {
            Some(silent) => self.trouble(format!("stuck: {silent}")),
            None => Ok(()),
        }
    }

    fn trouble<T>(&mut self, text: String) -> Result<T, Stop> {
        self.judge.problem(text);
        Err(Stop::Trouble)
    }

    /// Asks everybody to leave, waits for it, ends the master, and closes the books.
    pub fn finish(&mut self) -> Result<(), Stop> {
        self.screen.clear();
        let aborted = self.judge.tally.aborted_calls;
        for number in self.alive() {
            self.ask_to_leave(number);
        }
        self.recovery = None;
        let outcome = self
            .wait_for("all peers leave", |run| run.members.values().all(|m| m.fate == Fate::Gone))
            .and_then(|()| self.end_master());
        // Who leaves first aborts the others' last operation: that says nothing about the run.
        self.judge.tally.aborted_calls = aborted;
        if outcome.is_ok() {
            self.judge.close();
        }
        outcome
    }

    fn end_master(&mut self) -> Result<(), Stop> {
        self.master_ending = true;
        self.processes.ask_to_leave(self.master);
        self.wait_for("the master ends", |run| run.processes.count() == 0)
    }

    /// The last lines that the children logged.
    pub fn last_log(&self) -> Vec<String> {
        self.processes.last_log().map(String::from).collect()
    }
}

fn describe((number, member): (&u32, &Member)) -> Option<String> {
    let last = match &member.last {
        Some(step) => format!("{} steps, the last in a world of {}", member.steps, step.instance.world),
        None => "no step yet".into(),
    };
    let silent = member.last_news.elapsed().as_secs_f32();
    (member.fate != Fate::Gone)
        .then(|| format!("peer {number} ({}, silent for {silent:.1} s): {last}", member.fate))
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fate::Alive => "running",
            Fate::Frozen => "frozen",
            Fate::Ending => "ending",
            Fate::Gone => "gone",
        })
    }
}
