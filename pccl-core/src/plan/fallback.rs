//! What a missing link does to a group's schedules, in words.

use super::choose::{MESH_SHARE_BYTES, choose};
use crate::types::{DType, EpochInfo, GroupInfo, OpDescriptor, ReduceOp};

/// A line for each schedule that gives way to another one because a pair of the group has no link. Empty where
/// nothing gives way.
pub fn fallbacks(group: &GroupInfo, info: &EpochInfo) -> Vec<String> {
    let limit_bytes = MESH_SHARE_BYTES * group.order.len() as u64;
    let mut lines = Vec::new();
    for size_bytes in [1, limit_bytes, limit_bytes + 1] {
        let descriptor = OpDescriptor::plain(size_bytes, DType::U8, ReduceOp::Sum);
        let Ok((schedule, reason)) = choose(group, info, &descriptor) else { continue };
        let Some((a, b)) = reason.lacking() else { continue };
        let name = |rank| group.order.get(usize::from(rank)).map(ToString::to_string).unwrap_or_default();
        let line = format!("{}: {reason} (peers {} and {}): {schedule}", group.group, name(a), name(b));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}
