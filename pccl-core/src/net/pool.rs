//! How many connections a pair needs.

use super::congestion::withstands_loss;
use crate::limits::{DEFAULT_POOL_CONNECTIONS, WIDE_AREA_RTT_US};

/// From this round trip on the send buffer of each of eight connections (4 MiB as most hosts have it) holds the rate of
/// a gigabit down: measured 0.96 of the link at 80 ms, 0.82 at 150 ms, where sixteen reach 0.97.
const LONG_RTT_US: u32 = 110_000;
const LONG_CONNECTIONS: u16 = 16;
/// A lost packet halves one connection: the more there are, the less of the whole.
const LOSSY_CONNECTIONS: u16 = 32;

/// Connections for a path of this length under this congestion control.
pub fn connections(rtt_us: u32, congestion: &str) -> u16 {
    match rtt_us {
        0..WIDE_AREA_RTT_US => DEFAULT_POOL_CONNECTIONS,
        // Where the system does not tell there is nothing to judge by.
        _ if !congestion.is_empty() && !withstands_loss(congestion) => LOSSY_CONNECTIONS,
        LONG_RTT_US.. => LONG_CONNECTIONS,
        _ => DEFAULT_POOL_CONNECTIONS,
    }
}

/// Data connections this process can afford: half of its descriptors, the other half is the program's.
pub fn affordable(most: usize) -> usize {
    descriptors().map_or(most, |descriptors| (descriptors / 2).clamp(1, most))
}

#[cfg(target_os = "linux")]
fn descriptors() -> Option<usize> {
    use nix::sys::resource::{Resource, getrlimit};
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    usize::try_from(soft).ok()
}

#[cfg(not(target_os = "linux"))]
fn descriptors() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_the_path_and_the_touchier_the_algorithm_the_more_connections() {
        let table = [(0, "bbr", 8), (60, "cubic", 8), (80_000, "bbr", 8), (150_000, "bbr", 16)];
        for (rtt_us, congestion, expected) in table {
            assert_eq!(connections(rtt_us, congestion), expected, "{rtt_us} µs, {congestion}");
        }
        for touchy in ["cubic", "reno"] {
            assert_eq!(connections(20_000, touchy), 32);
            assert_eq!(connections(150_000, touchy), 32);
        }
        assert_eq!((connections(80_000, ""), connections(150_000, "")), (8, 16));
    }

    #[test]
    fn a_share_of_the_descriptors_is_left_to_the_program() {
        assert_eq!(affordable(1), 1);
        assert!((1..=512).contains(&affordable(512)));
    }
}
