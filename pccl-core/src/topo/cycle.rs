//! A ring over linked pairs only: a Hamiltonian cycle, as near to the given order as is cheap.

use super::graph::Graph;

/// Up to so many members the search is certain: the paths from one of ten number at most 986,410 (the sum of
/// 9!/k! over k).
const CERTAIN_SIZE: usize = 10;
const CERTAIN_STEPS: usize = 1 << 20;
/// For larger groups it is a try of about a millisecond.
const TRY_STEPS: usize = 1 << 16;

/// The given order if it closes, else that order repaired, else what a bounded search finds.
pub fn find(graph: &Graph) -> Option<Vec<usize>> {
    let given: Vec<usize> = (0..graph.size()).collect();
    repair(graph, given).or_else(|| search(graph))
}

/// Palmer's repair ("The hybrid algorithm for hamiltonian cycles in dense graphs", 1997): a gap between two
/// neighbours is closed by turning a stretch of the ring round, if both new neighbourhoods are links.
///
/// Each turn leaves fewer gaps, so there are no more turns than members. It succeeds wherever any two members that lack a link have at least
/// as many links together as there are members (Ore): a few missing links in a group never need the search.
fn repair(graph: &Graph, mut ring: Vec<usize>) -> Option<Vec<usize>> {
    for _ in 0..=graph.size() {
        let Some(gap) = (0..ring.len()).find(|&i| !closes(graph, &ring, i)) else { return Some(ring) };
        // Turned so that the gap lies between the last and the first.
        let mut turned = ring.clone();
        turned.rotate_left((gap + 1) % ring.len());
        let last = turned.len() - 1;
        let partner = (1..last).find(|&j| {
            graph.linked(turned[j], turned[last]) && graph.linked(turned[0], turned[(j + 1) % turned.len()])
        })?;
        turned[..=partner].reverse();
        // Now turned[partner] (once first) meets turned[partner + 1], and the last meets the new first.
        ring = starting_at_zero(turned);
    }
    None
}

/// Whether member `i` of the ring has a link to the one after it. Rings of one close.
fn closes(graph: &Graph, ring: &[usize], i: usize) -> bool {
    ring.len() == 1 || graph.linked(ring[i], ring[(i + 1) % ring.len()])
}

fn starting_at_zero(mut ring: Vec<usize>) -> Vec<usize> {
    let start = ring.iter().position(|&index| index == 0).unwrap_or(0);
    ring.rotate_left(start);
    ring
}

/// Depth-first over all paths from member 0; those with the fewest links first, as they are easily left over.
fn search(graph: &Graph) -> Option<Vec<usize>> {
    let size = graph.size();
    if (0..size).any(|index| graph.degree(index) < 2) {
        return None;
    }
    let mut by_degree: Vec<usize> = (1..size).collect();
    by_degree.sort_by_key(|&index| graph.degree(index));
    let linked: Vec<Vec<usize>> = (0..size)
        .map(|from| by_degree.iter().copied().filter(|&to| to != from && graph.linked(from, to)).collect())
        .collect();

    let mut path = vec![0];
    let mut next = vec![0];
    let mut on_path = vec![false; size];
    on_path[0] = true;
    let mut steps_left = if size <= CERTAIN_SIZE { CERTAIN_STEPS } else { TRY_STEPS };
    while let (Some(&end), Some(tried)) = (path.last(), next.last_mut()) {
        let Some(&candidate) = linked[end].get(*tried) else {
            on_path[end] = false;
            path.pop();
            next.pop();
            continue;
        };
        *tried += 1;
        if on_path[candidate] {
            continue;
        }
        if steps_left == 0 {
            return None;
        }
        steps_left -= 1;
        path.push(candidate);
        next.push(0);
        on_path[candidate] = true;
        if path.len() == size && graph.linked(candidate, 0) {
            return Some(path);
        }
    }
    None
}
