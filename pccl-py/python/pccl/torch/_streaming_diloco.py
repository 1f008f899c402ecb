"""DiLoCo in fragments (Douillard et al., 2025, arXiv:2501.18512)."""

from __future__ import annotations

from typing import Any, Optional

import torch

from .._communicator import Communicator
from ._diloco import DiLoCo
from ._reduce import ErrorFeedback, local
from ._state import sharded


class StreamingDiLoCo(DiLoCo):
    """As `DiLoCo`, but the parameters take turns: of `fragments` parts one is averaged every `every / fragments` inner steps,
    each once in `every`. It arrives `overlap` steps after it was sent, and is mixed with what the peer has made of it
    meanwhile: `mixing` is the share of the peer's own. So the link needs a fraction of the bandwidth, and evenly.

    What travels is quantized to 4 bits unless `quantize` says otherwise (None: not at all). The anchors are the same bits at
    all peers after each arrival; the models are not, where `mixing` is not 0. Newcomers come in once in `every` steps.
    """

    _kind = "StreamingDiLoCo"

    def __init__(
        self,
        comm: Communicator,
        model: torch.nn.Module,
        inner_optimizer: Optional[torch.optim.Optimizer] = None,
        *,
        every: int,
        fragments: int = 4,
        overlap: int = 1,
        mixing: float = 0.5,
        quantize: Optional[str] = "4bit",
        **options: Any,
    ) -> None:
        if fragments < 1 or every % fragments != 0:
            raise ValueError(f"every is {every}, fragments {fragments}: each must have its turn after equally many steps")
        if not 0 <= overlap < every // fragments:
            raise ValueError(f"overlap is {overlap}: one fragment must be here before the next one, {every // fragments} steps on")
        if not 0.0 <= mixing < 1.0:
            raise ValueError(f"mixing is {mixing}: a share below 1 is needed")
        # What rounding has left over when a half-precision parameter was set.
        self._rests: dict[int, torch.Tensor] = {}
        super().__init__(comm, model, inner_optimizer, every=every, quantize=quantize, **options)
        self._parts = _fragments([anchor.numel() for anchor in self._anchors], fragments)
        # Each has its own: they are of other sizes.
        self._feedbacks = [ErrorFeedback() for _ in self._parts] if self._feedbacks else []
        self._turn, self._overlap, self._mixing = every // fragments, overlap, mixing
        self._last = fragments - 1
        # Everybody begins where newcomers come in: right after the last fragment has arrived.
        self._inner_steps = overlap

    def step(self) -> bool:
        """After each step of the inner optimizer. Whether a fragment has arrived."""
        self._inner_steps += 1
        if self._inner_steps % self._turn == 0:
            part = (self._inner_steps // self._turn - 1) % len(self._parts)
            self._depart(self._ways(self._parts[part]), part)
        if self._average is None or (self._inner_steps - self._overlap) % self._turn != 0:
            return False
        self._arrive()
        self._mix(self._parts[self._part])
        if self._part == self._last:
            self._inner_steps = self._overlap
            self._agree()
        return True

    def _which(self, part: int) -> range:
        return self._parts[part]

    def _restart(self) -> None:
        super()._restart()
        self._inner_steps = self._overlap

    def _follow(self, which: range) -> None:
        super()._follow(which)
        for i in which:
            mine, anchor = local(self._named[i][1]), self._anchors[i].detach()
            if mine.dtype is not anchor.dtype:
                self._rests[i] = anchor - mine

    def _mix(self, part: range) -> None:
        """The model goes on between the anchors and where it has got to meanwhile."""
        sharded(self.model)
        for i in part:
            mine, anchor = local(self._named[i][1]), self._anchors[i].detach()
            if i in self._rests:
                place = self._rests[i].add_(mine).lerp_(anchor, 1.0 - self._mixing)
                mine.copy_(place)
                place.sub_(mine)
            else:
                mine.lerp_(anchor, 1.0 - self._mixing)

    def _ways(self, which: range) -> list[torch.Tensor]:
        sharded(self.model)
        return [self._way(i) for i in which]

    def _way(self, i: int) -> torch.Tensor:
        way = self._anchors[i].detach() - local(self._named[i][1])
        return way.sub_(self._rests[i]) if i in self._rests else way


def _fragments(sizes: list[int], count: int) -> list[range]:
    """Neighbours together, as equal in size as their order allows; some may be empty."""
    total, done, start = sum(sizes), 0, 0
    parts = []
    for number in range(1, count + 1):
        end = start
        while end < len(sizes) and (number == count or 2 * done + sizes[end] <= 2 * number * total / count):
            done += sizes[end]
            end += 1
        parts.append(range(start, end))
        start = end
    return parts
