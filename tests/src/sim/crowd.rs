//! Many peers with churn: what the master has to do for one operation grows no worse than linearly in peers.

use std::fmt;
use std::process::ExitCode;

use super::invariants::Violation;
use super::queue::Us;
use super::scenario::Scenario;
use super::world::{Options, World};

// An operation takes time in proportion to the peers (one piece is added after the other at its owner), so the
// times do as well: then there are as many operations for each death in a large crowd as in a small one.
/// When all are expected to be members.
const ALL_IN_US_PER_PEER: Us = 30_000;
const MEASURED_US_PER_PEER: Us = 20_000;
const DEATHS: u64 = 3;
/// Twice the peers may cost so much for each operation. Linear is 2.
const DOUBLE_AT_MOST: f64 = 2.2;

/// What one crowd came to.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    pub peers: usize,
    pub operations: f64,
    /// Inputs and outputs of the master, heartbeats excluded.
    pub messages_per_operation: f64,
    pub master_us_per_operation: f64,
    pub epochs: u64,
}

impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>4} peers: {:>5.1} operations, {} epochs, {:>6.0} messages and {:>6.0} µs of the master for each",
            self.peers,
            self.operations,
            self.epochs,
            self.messages_per_operation,
            self.master_us_per_operation
        )
    }
}

/// One crowd with churn, measured once all are in.
pub fn run(peers: usize) -> Result<Crowd, Violation> {
    let all_in = ALL_IN_US_PER_PEER * peers as Us;
    let measured = MEASURED_US_PER_PEER * peers as Us;
    let between = measured / (DEATHS + 1);
    let scenario = Scenario::of_crowd(peers, all_in + between, DEATHS, between);
    let mut world = World::new(scenario, Options { measure: true, ..Options::default() });
    world.begin();
    world.advance(all_in)?;
    let before = (world.master.inputs + world.master.outputs, world.report.succeeded, world.master.cpu);
    let epochs = world.report.epochs;
    let members = world.processes.iter().filter(|process| process.app.is_connected()).count();
    if members < peers {
        let text = format!("only {members} of {peers} peers are members after {} s", all_in / 1_000_000);
        return Err(Violation { guarantee: "G4 progress", text });
    }
    world.advance(all_in + measured)?;
    let operations = (world.report.succeeded - before.1) as f64 / peers as f64;
    let messages = (world.master.inputs + world.master.outputs - before.0) as f64;
    Ok(Crowd {
        peers,
        operations,
        messages_per_operation: messages / operations,
        master_us_per_operation: (world.master.cpu - before.2).as_secs_f64() * 1e6 / operations,
        epochs: world.report.epochs - epochs,
    })
}

/// A quarter, half, and all of `peers`: does the cost at most double each time?
pub fn judge(peers: usize) -> Result<(), Violation> {
    let mut crowds = Vec::new();
    for peers in [peers / 4, peers / 2, peers] {
        let crowd = run(peers.max(2))?;
        println!("{crowd}");
        crowds.push(crowd);
    }
    for pair in crowds.windows(2) {
        let growth = pair[1].messages_per_operation / pair[0].messages_per_operation;
        if growth > DOUBLE_AT_MOST {
            let text = format!(
                "from {} to {} peers the master's work grew {growth:.2} times",
                pair[0].peers, pair[1].peers
            );
            return Err(Violation { guarantee: "linear cost", text });
        }
    }
    Ok(())
}

pub fn main(peers: usize) -> ExitCode {
    match judge(peers) {
        Ok(()) => {
            println!("the master's work grows no worse than linearly in peers");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("violation: {violation} reproduce with: cargo xtask sim --peers {peers}");
            ExitCode::FAILURE
        }
    }
}
