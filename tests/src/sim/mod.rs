//! The seeded simulator: one master and some peers, with the product's own machines, engine and plans, in one
//! thread under a virtual clock. One seed is one run. `docs/SIMULATOR.md` tells what is simulated and checked.

mod app;
mod control;
mod control_link;
pub mod crowd;
mod event;
mod fault;
mod forger;
mod hostile;
mod invariants;
mod leavings;
mod links;
mod memory;
mod mischief;
mod pipe;
mod process;
mod queue;
mod reference;
mod rng;
mod scenario;
mod sync;
mod world;

pub use forger::{Forged, Mischief};
pub use invariants::Violation;
pub use world::{Bug, Options, Report, run_seed};

#[cfg(test)]
mod tests {
    use super::{Options, run_seed};

    #[test]
    fn fifty_seeds_hold_all_guarantees() {
        for seed in 0..50 {
            let violation = run_seed(seed, Options::default()).violation;
            assert_eq!(violation, None, "reproduce with: cargo xtask sim --seed {seed} --trace");
        }
    }

    #[test]
    fn a_seed_is_one_run() {
        let events = |seed| run_seed(seed, Options::default()).events;
        assert_eq!(events(3), events(3));
    }

    #[cfg(feature = "seeded-bugs")]
    #[test]
    fn a_planted_bug_is_found() {
        let options = Options { bug: Some(super::Bug::PartialSum), ..Options::default() };
        assert!((0..100).any(|seed| run_seed(seed, options).violation.is_some()));
    }
}
