//! The cheapest tree that leads from a root to everybody. Chu & Liu 1965, Edmonds 1967, on a dense matrix: everybody
//! takes its cheapest way in, and each circle that makes becomes one vertex of a smaller problem.

/// Parents in the cheapest arborescence from `root`; the root is its own. `costs` is from × size + to, infinite where
/// there is no edge. None: somebody cannot be reached.
pub fn cheapest(size: usize, costs: &[f64], root: usize) -> Option<Vec<usize>> {
    let cost = |from: usize, to: usize| costs[from * size + to];
    let mut parents = vec![root; size];
    for to in (0..size).filter(|&to| to != root) {
        // The root comes first, so that of equal ways the one straight from it is taken.
        let others = (0..size).filter(|&from| from != to && from != root);
        let from =
            std::iter::once(root).chain(others).min_by(|&a, &b| cost(a, to).total_cmp(&cost(b, to)))?;
        if cost(from, to) == f64::INFINITY {
            return None;
        }
        parents[to] = from;
    }
    let (merged, of) = circles(&parents, root);
    if merged == size {
        return Some(parents);
    }
    // The edge that stands for the way between two vertices of the smaller problem. A way into a circle saves
    // the circle's own way to where it enters.
    let mut small = vec![f64::INFINITY; merged * merged];
    let mut edges = vec![(0, 0); merged * merged];
    let mut members = vec![0; merged];
    of.iter().for_each(|&vertex| members[vertex] += 1);
    for from in 0..size {
        for to in (0..size).filter(|&to| of[to] != of[from]) {
            let saved = if members[of[to]] > 1 { cost(parents[to], to) } else { 0.0 };
            let at = of[from] * merged + of[to];
            if cost(from, to) - saved < small[at] {
                small[at] = cost(from, to) - saved;
                edges[at] = (from, to);
            }
        }
    }
    let above = cheapest(merged, &small, of[root])?;
    for vertex in (0..merged).filter(|&vertex| vertex != of[root]) {
        let (from, to) = edges[above[vertex] * merged + vertex];
        parents[to] = from;
    }
    Some(parents)
}

/// How many vertices are left when each circle of parents becomes one, and which each becomes.
fn circles(parents: &[usize], root: usize) -> (usize, Vec<usize>) {
    const NONE: usize = usize::MAX;
    let size = parents.len();
    let (mut of, mut seen_from) = (vec![NONE; size], vec![NONE; size]);
    let mut count = 0;
    for start in 0..size {
        let mut at = start;
        while at != root && seen_from[at] == NONE {
            seen_from[at] = start;
            at = parents[at];
        }
        // Met on this very way, and no part of a circle yet: a new one.
        if at != root && seen_from[at] == start && of[at] == NONE {
            let first = at;
            loop {
                of[at] = count;
                at = parents[at];
                if at == first {
                    break;
                }
            }
            count += 1;
        }
    }
    for vertex in &mut of {
        if *vertex == NONE {
            *vertex = count;
            count += 1;
        }
    }
    (count, of)
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::cheapest;

    fn total(size: usize, costs: &[f64], parents: &[usize], root: usize) -> f64 {
        (0..size).filter(|&to| to != root).map(|to| costs[parents[to] * size + to]).sum()
    }

    /// All choices of a parent for each that lead to the root.
    fn brute_force(size: usize, costs: &[f64], root: usize) -> f64 {
        let mut best = f64::INFINITY;
        for code in 0..size.pow(size as u32) {
            let parents: Vec<usize> = (0..size).map(|at| code / size.pow(at as u32) % size).collect();
            let leads = |mut at: usize| {
                for _ in 0..size {
                    at = if at == root { root } else { parents[at] };
                }
                at == root
            };
            if (0..size).all(leads) {
                best = best.min(total(size, costs, &parents, root));
            }
        }
        best
    }

    #[test]
    fn no_tree_is_cheaper() {
        let mut random = Random::new(5);
        for round in 0..120 {
            let size = 2 + round % 4;
            let edge = |random: &mut Random| match random.below(8) {
                0 => f64::INFINITY,
                cost => (cost / 2) as f64,
            };
            let costs: Vec<f64> = (0..size * size).map(|_| edge(&mut random)).collect();
            let root = round % size;
            let best = brute_force(size, &costs, root);
            match cheapest(size, &costs, root) {
                Some(parents) => assert_eq!(total(size, &costs, &parents, root), best),
                None => assert_eq!(best, f64::INFINITY),
            }
        }
    }

    #[test]
    fn circles_within_circles_are_opened() {
        let size = 24;
        let mut costs = vec![1000.0; size * size];
        for at in 1..size {
            // Pairs are near each other, fours less so, and so on: each level makes circles of the one before.
            for other in (1..size).filter(|&other| other != at) {
                costs[at * size + other] = f64::from(1u32 << (at ^ other).ilog2().clamp(1, 9));
            }
        }
        let parents = cheapest(size, &costs, 0).unwrap();
        let from_root = (1..size).filter(|&to| parents[to] == 0).count();
        assert_eq!(from_root, 1);
        for start in 0..size {
            let mut at = start;
            (0..size).for_each(|_| at = parents[at]);
            assert_eq!(at, 0);
        }
    }
}
