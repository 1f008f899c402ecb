"""DiLoCo whose communication hides behind the next inner steps."""

from __future__ import annotations

import math
from typing import Any, Optional

import torch

from .._communicator import Communicator
from ._diloco import DiLoCo, as_held
from ._reduce import local
from ._state import sharded


class AsyncDiLoCo(DiLoCo):
    """As `DiLoCo`, but what was averaged arrives one outer step later: it travels while the next inner steps are made.

    Until then each peer goes on from the anchors and `own_share` of its own way, which gives place to everybody's when that
    arrives: as much as the outer optimizer makes of a way, the outer rate (1 for an `outer_optimizer` of yours). So the
    anchors are the same bits at all peers after each outer step; the models are not before `finish`, which brings in what
    is still under way at the end. When somebody comes, what is under way is waited for, so that newcomers find nothing half
    done. News that is late calls for less outer momentum than `DiLoCo` has: 0.3 did best where it was measured
    (docs/guide-python.md).

    Between two outer steps it holds three more copies of the parameters than `DiLoCo`: where the inner steps began, what is
    under way, and the buckets that it travels in (for large tensors the same memory, so two). In an outer step, one more.
    """

    _kind = "AsyncDiLoCo"
    # Where the present inner steps began, if not at the anchors: from there alone each peer would go the same way twice.
    _starts: list[torch.Tensor] = []

    def __init__(
        self,
        comm: Communicator,
        model: torch.nn.Module,
        inner_optimizer: Optional[torch.optim.Optimizer] = None,
        *,
        every: int,
        own_share: Optional[float] = None,
        outer_lr: float = 0.7,
        outer_momentum: float = 0.3,
        **options: Any,
    ) -> None:
        if own_share is None:
            own_share = 1.0 if options.get("outer_optimizer") else outer_lr
        if not 0.0 <= own_share < math.inf:
            raise ValueError(f"own_share is {own_share}: a share of the own way is a number, 0 or more")
        self._own_share = own_share
        super().__init__(comm, model, inner_optimizer, every=every, outer_lr=outer_lr, outer_momentum=outer_momentum, **options)

    def _outer_step(self) -> None:
        # Before the anchors move.
        ways = self._ways(self._which(0))
        self._arrive()
        if self.comm.are_peers_pending():
            self._depart(ways)
            self._arrive()
            self._agree()
            self._follow(self._which(0))
        else:
            if self._is_due():
                self._sync()
            own = [way.clone() for way in ways]
            self._depart(ways)
            self._go_on(own)

    def _ways(self, which: range) -> list[torch.Tensor]:
        if not self._starts:
            return super()._ways(which)
        sharded(self.model)
        return [as_held(self._starts[i], self._named[i][1]) - local(self._named[i][1]) for i in which]

    def _go_on(self, own: list[torch.Tensor]) -> None:
        """The model goes on from the anchors and a share of the peer's own way, whose memory it takes."""
        sharded(self.model)
        self._starts = [way.mul_(-self._own_share).add_(anchor.detach()) for anchor, way in zip(self._anchors, own)]
        for (_, parameter), start in zip(self._named, self._starts):
            local(parameter).copy_(start)

    def _follow(self, which: range) -> None:
        super()._follow(which)
        self._starts = []

    def finish(self) -> None:
        """Waits for what is under way. All peers call it after the same outer step."""
        self._arrive()
        self._follow(self._which(0))
