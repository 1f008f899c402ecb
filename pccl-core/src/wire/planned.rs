//! How a planned forest lies in an epoch: trees without counts of their own, as all have the group's size.

use super::codec::{Reader, Value, Writer};
use super::error::WireError;
use crate::limits::{MAX_FOREST_TREES, MAX_PEERS};
use crate::types::{Cost, ForestKind, PackedTree, Planned, PlannedForest, Rank};

impl Value for Cost {
    const MIN_BYTES: usize = 4 + 8;
    fn put(&self, w: &mut Writer<'_>) {
        (self.latency_us, self.ps_per_byte).put(w);
    }
    fn get(r: &mut Reader<'_>, field: &'static str) -> Result<Self, WireError> {
        let (latency_us, ps_per_byte) = Value::get(r, field)?;
        Ok(Cost { latency_us, ps_per_byte })
    }
}

impl Value for Planned {
    const MIN_BYTES: usize = 2 * Cost::MIN_BYTES + 1;
    fn put(&self, w: &mut Writer<'_>) {
        self.ring.put(w);
        self.mesh.put(w);
        self.forest.put(w);
    }
    fn get(r: &mut Reader<'_>, _: &'static str) -> Result<Self, WireError> {
        let (ring, mesh) = (Value::get(r, "ring")?, Value::get(r, "mesh")?);
        Ok(Planned { ring, mesh, forest: Value::get(r, "forest")? })
    }
}

/// That its trees are trees is checked with the group, which knows its unlinked pairs.
impl Value for PlannedForest {
    const MIN_BYTES: usize = 1 + Cost::MIN_BYTES + 2 + 2;
    fn put(&self, w: &mut Writer<'_>) {
        let world_size = self.trees.first().map_or(0, |tree| tree.reduce_parents.len());
        w.out.push(self.kind as u8);
        self.cost.put(w);
        (world_size as Rank).put(w);
        w.short_count("trees", self.trees.len(), MAX_FOREST_TREES);
        for tree in &self.trees {
            (tree.owner, tree.share).put(w);
            tree.reduce_parents.iter().chain(&tree.broadcast_parents).for_each(|parent| parent.put(w));
        }
    }
    fn get(r: &mut Reader<'_>, _: &'static str) -> Result<Self, WireError> {
        let code = u8::get(r, "forest kind")?;
        let unknown = WireError::UnknownNumber { field: "forest kind", value: code };
        let kind = ForestKind::from_code(code).ok_or(unknown)?;
        let cost = Value::get(r, "cost")?;
        let world_size = usize::from(Rank::get(r, "parents")?);
        let count = usize::from(u16::get(r, "trees")?);
        for (field, count, max) in [("parents", world_size, MAX_PEERS), ("trees", count, MAX_FOREST_TREES)] {
            if count > max {
                return Err(WireError::TooMany { field, count, max });
            }
        }
        let tree = |r: &mut Reader<'_>| {
            let (owner, share) = Value::get(r, "tree")?;
            let reduce_parents = r.list(world_size, "parents")?;
            let broadcast_parents = r.list(world_size, "parents")?;
            Ok(PackedTree { owner, share, reduce_parents, broadcast_parents })
        };
        let trees = (0..count).map(|_| tree(r)).collect::<Result<_, WireError>>()?;
        Ok(PlannedForest { kind, cost, trees })
    }
}
