//! Schedules as forests: pure functions from an epoch and a descriptor to what each peer does.

mod view;

pub use view::{ChunkView, PlanView, Schedule, child_at_turn, turn_of_child};
