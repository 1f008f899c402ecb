"""DiLoCo whose communication hides behind the next inner steps."""

from __future__ import annotations

from typing import Any, Mapping, Optional

import torch

from ._diloco import DiLoCo
from ._reduce import Average


class AsyncDiLoCo(DiLoCo):
    """As `DiLoCo`, but what was averaged arrives one outer step later: it travels while the next inner steps are made.

    All peers go on from the same bits after each outer step. When somebody comes, the one average that is under way is waited
    for, so that newcomers find nothing half done. Late news cost some progress per step: a smaller `outer_lr` or
    `outer_momentum` helps. `finish` brings in what is still under way at the end.
    """

    _average: Optional[Average] = None
    _averaged: list[torch.Tensor] = []

    def _outer_step(self) -> None:
        everything = range(len(self._anchors))
        # Against the anchors that these inner steps began at: before those move.
        ways = self._ways(everything)
        self._arrive()
        if self.comm.are_peers_pending():
            self._depart(ways)
            self._arrive()
            self._agree()
        else:
            if self._is_due():
                self._sync()
            self._depart(ways)
        self._follow(everything)

    def finish(self) -> None:
        """Waits for what is under way. All peers call it after the same outer step."""
        self._arrive()
        self._follow(range(len(self._anchors)))

    def _late(self) -> Optional[dict[str, Any]]:
        if self._average is None:
            return None
        self._average.wait()
        return {"ways": [way.clone() for way in self._averaged]}

    def _bring_in(self, late: Mapping[str, Any]) -> None:
        self._advance(range(len(self._anchors)), list(late["ways"]))
        self._outer_steps += 1

    def _restart(self) -> None:
        super()._restart()
        if self._average is not None:
            # All peers have it under way, and none goes on with it.
            self._average.wait()
        self._average, self._averaged = None, []

    def _depart(self, ways: list[torch.Tensor]) -> None:
        self._averaged = ways
        self._average = self._start(ways)

    def _arrive(self) -> None:
        if self._average is None:
            return
        self._average.wait()
        self._average = None
        self._advance(range(len(self._anchors)), self._averaged)
        self._averaged = []
        self._outer_steps += 1
