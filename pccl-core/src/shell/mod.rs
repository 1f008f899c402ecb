//! Loops and tasks: clock, mailboxes, timers, connections.

mod clock;
mod inspect;
mod master_loop;
pub mod node;
mod node_sync;
mod observe;
mod pacing;
mod pairs;
mod peer_links;
mod peer_loop;
mod slot;
mod status;
mod threads;
mod watch;

pub use inspect::inspect;
pub use node_sync::{SyncReport, SyncRequest};
pub use observe::Observed;
pub use peer_loop::Command;
pub use slot::{Slot, shut_down};
pub use status::Snapshot;
pub use threads::{MasterThread, PeerThread};
pub use watch::{aside, check as check_watch, has_given_up, interval as watch_interval, watched};
