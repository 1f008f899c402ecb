//! The best ring of a small group, by dynamic programming over subsets. Held & Karp, "A dynamic programming approach
//! to sequencing problems", 1962; the bottleneck first, then the least total within it.

use super::hops::{Hops, UNLINKED};

/// Beyond this the tables (a member's worth for each subset) grow out of proportion.
pub const MAX_EXACT_MEMBERS: usize = 12;

/// The best order that begins with member 0; None if no ring closes over linked pairs. Of 3 to `MAX_EXACT_MEMBERS`.
pub fn best(hops: &Hops) -> Option<Vec<usize>> {
    let levels = hops.all_levels();
    let closes = |&level: &u32| closes_within(hops, level);
    let first = levels.partition_point(|level| !closes(level));
    levels.get(first).and_then(|&level| least_total(hops, level))
}

/// Whether a ring exists whose hops are of this level or better.
fn closes_within(hops: &Hops, level: u32) -> bool {
    let others = hops.size - 1;
    let fits = |from: usize, to: usize| hops.level(from, to) <= level;
    let nexts: Vec<u32> = (0..others).map(|a| bits(others, |b| a != b && fits(a + 1, b + 1))).collect();
    // For each subset of the others: at which of them a way from 0 through all of the subset can end.
    let mut ends = vec![0u32; 1 << others];
    (0..others).filter(|&a| fits(0, a + 1)).for_each(|a| ends[1 << a] = 1 << a);
    for set in 1..1usize << others {
        let mut at = ends[set];
        while at != 0 {
            let end = at.trailing_zeros() as usize;
            at &= at - 1;
            let mut next = nexts[end] & !(set as u32);
            while next != 0 {
                let to = next.trailing_zeros();
                next &= next - 1;
                ends[set | 1 << to] |= 1 << to;
            }
        }
    }
    ends[(1 << others) - 1] & bits(others, |a| fits(a + 1, 0)) != 0
}

fn bits(count: usize, holds: impl Fn(usize) -> bool) -> u32 {
    (0..count).filter(|&at| holds(at)).fold(0, |bits, at| bits | 1 << at)
}

/// The ring of the least total whose hops are of this level or better.
fn least_total(hops: &Hops, level: u32) -> Option<Vec<usize>> {
    let others = hops.size - 1;
    let hop = |from: usize, to: usize| {
        let fits = hops.level(from, to) <= level && level != UNLINKED;
        fits.then(|| hops.nanoseconds(from, to))
    };
    let full = (1usize << others) - 1;
    // Least total of a way from 0 through all of a subset to one of it.
    let mut totals: Vec<Option<u64>> = vec![None; (full + 1) * others];
    (0..others).for_each(|a| totals[(1 << a) * others + a] = hop(0, a + 1));
    for set in 1..=full {
        for end in 0..others {
            let Some(total) = totals[set * others + end] else { continue };
            for to in (0..others).filter(|to| set >> to & 1 == 0) {
                let Some(more) = hop(end + 1, to + 1) else { continue };
                let known = &mut totals[(set | 1 << to) * others + to];
                *known = Some(known.map_or(total + more, |known| known.min(total + more)));
            }
        }
    }
    let closed = |a: usize| Some(totals[full * others + a]? + hop(a + 1, 0)?);
    let mut end = (0..others).filter(|&a| closed(a).is_some()).min_by_key(|&a| closed(a))?;
    let (mut set, mut order) = (full, vec![end + 1]);
    while set.count_ones() > 1 {
        let total = totals[set * others + end];
        let before = set & !(1 << end);
        let through = |&a: &usize| {
            before >> a & 1 == 1
                && totals[before * others + a].zip(hop(a + 1, end + 1)).map(|(t, h)| t + h) == total
        };
        end = (0..others).find(through)?;
        order.push(end + 1);
        set = before;
    }
    order.push(0);
    order.reverse();
    Some(order)
}
