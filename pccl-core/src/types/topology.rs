//! What a measured network is worth to a group: figures that travel in the epoch, so that all members choose alike.

use super::Rank;

/// Predicted time of an operation: a part that every size pays, and a part for each byte. Integers, because every
/// peer computes with them and all must come to the same end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Cost {
    pub latency_us: u32,
    /// Picoseconds a byte of the payload: 1000 are a second per gigabyte.
    pub ps_per_byte: u64,
}

impl Cost {
    /// Of what cannot run at all.
    pub const NEVER: Cost = Cost { latency_us: u32::MAX, ps_per_byte: u64::MAX };

    /// Microseconds that an operation of so many bytes is predicted to take.
    pub fn time_us(&self, size_bytes: u64) -> u64 {
        let bytes_us = u128::from(self.ps_per_byte) * u128::from(size_bytes) / 1_000_000;
        u64::try_from(bytes_us).unwrap_or(u64::MAX).saturating_add(self.latency_us.into())
    }
}

/// One chunk of a packed forest: its owner, its part of the payload, and its two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedTree {
    pub owner: Rank,
    /// A weight, never 0: the chunk's part is this out of the sum of all shares.
    pub share: u32,
    /// Index is rank: whom each passes its sum to. The owner's own entry is the owner itself.
    pub reduce_parents: Vec<Rank>,
    /// Index is rank: whom each gets the result from. The owner's own entry is the owner itself.
    pub broadcast_parents: Vec<Rank>,
}

/// What kind of forest the planner found best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ForestKind {
    /// Stars with unequal shares.
    MeshShares = 0,
    /// Trees fitted to the measured bandwidths.
    Packed = 1,
}

impl ForestKind {
    pub fn from_code(code: u8) -> Option<ForestKind> {
        [ForestKind::MeshShares, ForestKind::Packed].get(usize::from(code)).copied()
    }

    pub const fn name(self) -> &'static str {
        match self {
            ForestKind::MeshShares => "mesh with unequal shares",
            ForestKind::Packed => "packed",
        }
    }
}

/// A forest of the planner's, and what it is predicted to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedForest {
    pub kind: ForestKind,
    pub cost: Cost,
    pub trees: Vec<PackedTree>,
}

/// What a measured network is worth to a group, by schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub ring: Cost,
    pub mesh: Cost,
    /// None: nothing better than ring and mesh was found or looked for.
    pub forest: Option<PlannedForest>,
}

impl Planned {
    /// What the fastest schedule is predicted to take.
    pub fn least_us(&self, size_bytes: u64) -> u64 {
        let forest = self.forest.as_ref().map(|forest| forest.cost);
        let costs = [self.ring, self.mesh].into_iter().chain(forest);
        costs.map(|cost| cost.time_us(size_bytes)).min().unwrap_or(u64::MAX)
    }

    /// For logs: what each is predicted to take for an operation of this size.
    pub fn in_words(&self, size_bytes: u64) -> String {
        let time = |cost: Cost| match cost {
            Cost::NEVER => "never".to_owned(),
            cost => format!("{:.1} ms", cost.time_us(size_bytes) as f64 / 1e3),
        };
        let mut text = format!(
            "{} MiB are predicted to take {} by ring, {} by mesh",
            size_bytes >> 20,
            time(self.ring),
            time(self.mesh)
        );
        if let Some(PlannedForest { kind, cost, trees }) = &self.forest {
            text += &format!(", {} by {} ({} trees)", time(*cost), kind.name(), trees.len());
        }
        text
    }
}

impl PlannedForest {
    /// Whether this is a forest over a group of this size that uses none of these pairs (sorted, the lower rank first).
    /// Says which rule it breaks.
    pub fn check(&self, world_size: usize, unlinked: &[(Rank, Rank)]) -> Result<(), &'static str> {
        if world_size < 2 || self.trees.is_empty() {
            return Err("a forest has trees, and a group of two or more");
        }
        self.trees.iter().try_for_each(|tree| tree.check(world_size, unlinked))
    }
}

impl PackedTree {
    fn check(&self, world_size: usize, unlinked: &[(Rank, Rank)]) -> Result<(), &'static str> {
        if self.share == 0 {
            return Err("no share is 0");
        }
        [&self.reduce_parents, &self.broadcast_parents]
            .into_iter()
            .try_for_each(|parents| check_parents(self.owner, parents, world_size, unlinked))
    }
}

fn check_parents(
    owner: Rank,
    parents: &[Rank],
    world_size: usize,
    unlinked: &[(Rank, Rank)],
) -> Result<(), &'static str> {
    if parents.len() != world_size || usize::from(owner) >= world_size {
        return Err("each tree has a parent for each rank, and an owner of the group");
    }
    // Follows each rank upwards until it meets what is known to end at the owner. Each rank is passed once.
    let mut reaches_owner = vec![false; world_size];
    reaches_owner[usize::from(owner)] = true;
    let mut passed = Vec::new();
    for start in 0..world_size {
        let mut at = start;
        while !reaches_owner[at] {
            passed.push(at);
            if passed.len() > world_size {
                return Err("from every rank the parents lead to the owner");
            }
            let parent = parents[at];
            let pair = (parent.min(at as Rank), parent.max(at as Rank));
            if unlinked.binary_search(&pair).is_ok() {
                return Err("no tree uses a pair without a link");
            }
            at = usize::from(parent);
            if at >= world_size {
                return Err("a parent is a rank of the group");
            }
        }
        passed.drain(..).for_each(|rank| reaches_owner[rank] = true);
    }
    if parents[usize::from(owner)] == owner { Ok(()) } else { Err("the owner is its own parent") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(owner: Rank, share: u32, reduce: &[Rank], broadcast: &[Rank]) -> PackedTree {
        PackedTree { owner, share, reduce_parents: reduce.to_vec(), broadcast_parents: broadcast.to_vec() }
    }

    fn check(tree: PackedTree, unlinked: &[(Rank, Rank)]) -> Result<(), &'static str> {
        let forest = PlannedForest { kind: ForestKind::Packed, cost: Cost::default(), trees: vec![tree] };
        forest.check(4, unlinked)
    }

    #[test]
    fn a_forest_is_trees_over_all_ranks_rooted_at_their_owners() {
        let chain = tree(0, 1, &[0, 0, 1, 2], &[0, 3, 1, 0]);
        assert_eq!(check(chain.clone(), &[(0, 2)]), Ok(()));
        let refused = [
            (tree(0, 0, &[0, 0, 1, 2], &[0, 0, 0, 0]), "no share is 0"),
            (
                tree(0, 1, &[0, 0, 1], &[0, 0, 0, 0]),
                "each tree has a parent for each rank, and an owner of the group",
            ),
            (
                tree(4, 1, &[0, 0, 1, 2], &[0, 0, 0, 0]),
                "each tree has a parent for each rank, and an owner of the group",
            ),
            (tree(0, 1, &[1, 0, 1, 2], &[0, 0, 0, 0]), "the owner is its own parent"),
            (tree(0, 1, &[0, 0, 3, 2], &[0, 0, 0, 0]), "from every rank the parents lead to the owner"),
            (tree(0, 1, &[0, 0, 2, 0], &[0, 0, 0, 0]), "from every rank the parents lead to the owner"),
            (tree(0, 1, &[0, 0, 9, 0], &[0, 0, 0, 0]), "a parent is a rank of the group"),
        ];
        for (tree, rule) in refused {
            assert_eq!(check(tree, &[]), Err(rule));
        }
        assert_eq!(check(chain, &[(1, 2)]), Err("no tree uses a pair without a link"));
        let none = PlannedForest { kind: ForestKind::Packed, cost: Cost::default(), trees: vec![] };
        assert!(none.check(4, &[]).is_err());
    }

    #[test]
    fn the_least_of_all_counts_and_each_is_told() {
        let cost = |ps_per_byte| Cost { latency_us: 0, ps_per_byte };
        let forest = PlannedForest { kind: ForestKind::Packed, cost: cost(1_000), trees: vec![] };
        let mut planned = Planned { ring: Cost::NEVER, mesh: cost(2_000), forest: Some(forest) };
        assert_eq!(planned.least_us(1_000_000), 1_000);
        let words = "1 MiB are predicted to take never by ring, 2.1 ms by mesh, 1.0 ms by packed (0 trees)";
        assert_eq!(planned.in_words(1 << 20), words);
        planned.forest = None;
        assert_eq!(planned.least_us(1_000_000), 2_000);
    }

    #[test]
    fn times_are_latency_and_bytes_and_never_overflow() {
        let cost = Cost { latency_us: 50, ps_per_byte: 1_000 };
        assert_eq!(cost.time_us(1 << 20), 50 + 1_048);
        assert_eq!(Cost::NEVER.time_us(u64::MAX), u64::MAX);
    }
}
