//! The last contribution is added and the sum encoded at once, block by block: the sum itself never reaches memory.

use std::ops::Range;

use super::blocks::Way;
use super::codec::{Codec, Tile};
use crate::kernel::ahead::Ahead;
use crate::kernel::cpu::Cpu;
use crate::kernel::float_mode::StandardFloatMode;
use crate::kernel::{finish_average_on, reduce_into_on};
use crate::types::ReduceOp;

/// What the last contribution is added to.
pub struct Unfinished<'a> {
    /// The whole piece. What travels of its sum takes the first bytes of its place, as with `encode_in_place`.
    pub piece: &'a mut [u8],
    /// Of the whole piece, what there is of the sum already; `None` if it stands in `piece`.
    pub before: Option<&'a [u8]>,
    /// An average's world size, where the sum is the whole one.
    pub divide_by: Option<u64>,
}

impl Codec {
    /// As `reduce_into` (or `reduce_pair`) of these elements with `wire`, their average, and `encode_in_place` of what comes of
    /// it, to the bit. `elements` begins where a block does and ends so or with the piece; parts of a piece come in order.
    pub fn encode_sum(&self, op: ReduceOp, sum: Unfinished<'_>, elements: Range<usize>, wire: &[u8]) {
        self.encode_sum_on(Cpu::best(), op, sum, elements, wire);
    }

    pub(super) fn encode_sum_on(
        &self,
        cpu: Cpu,
        op: ReduceOp,
        sum: Unfinished<'_>,
        elements: Range<usize>,
        wire: &[u8],
    ) {
        let Unfinished { piece, before, divide_by } = sum;
        let size = self.dtype.size_bytes();
        assert!(
            before.is_none_or(|before| before.len() == piece.len()),
            "what there is of a sum is not as long as its piece"
        );
        assert!(elements.start.is_multiple_of(self.block_elements() * size), "a part begins within a block");
        assert!(
            elements.end == piece.len() || elements.end.is_multiple_of(self.block_elements() * size),
            "a part ends within a block"
        );
        assert_eq!(
            self.wire_bytes((elements.len() / size) as u64),
            wire.len() as u64,
            "elements and wire are not of one length"
        );
        let _mode = StandardFloatMode::enter();
        let (mut tile, mut travels) = (Tile::new(), Tile::new());
        for place in self.places_within(piece.len(), elements.clone()) {
            let tile = &mut tile.0[..place.elements_len];
            let mine = place.elements(before.unwrap_or(piece));
            let next = place.next(before.unwrap_or(piece));
            let is_first = place.wire_at == self.wire_at(elements.start);
            let (soon, later) = if is_first { (Ahead::of(mine), next) } else { next.halves() };
            let way = Way { cpu, codec: self, ahead: soon };
            way.decode(&wire[place.wire_at - self.wire_at(elements.start)..][..place.wire_len], tile);
            // The operands have changed places, which makes no difference: NaN is canonical, and so are zeros of minima.
            reduce_into_on(cpu, op, self.dtype, tile, mine);
            if let Some(world_size) = divide_by {
                finish_average_on(cpu, self.dtype, tile, world_size);
            }
            let travels = &mut travels.0[..place.wire_len];
            Way { ahead: later, ..way }.encode(tile, travels);
            // It ends before the next block begins, whose elements are still needed.
            place.wire_mut(piece).copy_from_slice(travels);
        }
    }
}
