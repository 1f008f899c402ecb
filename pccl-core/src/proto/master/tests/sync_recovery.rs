//! A master that is restarted while a shared state is synchronized.

use super::syncs::{popular, synchronized};
use super::*;
use crate::types::{SyncNumber, SyncOutcome};
