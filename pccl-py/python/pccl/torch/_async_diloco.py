"""DiLoCo whose communication hides behind the next inner steps."""

from __future__ import annotations

from ._diloco import DiLoCo


class AsyncDiLoCo(DiLoCo):
    """As `DiLoCo`, but what was averaged arrives one outer step later: it travels while the next inner steps are made.

    All peers go on from the same bits after each outer step. When somebody comes, the one average that is under way is waited
    for, so that newcomers find nothing half done. Late news cost some progress per step: a smaller `outer_lr` or
    `outer_momentum` helps. `finish` brings in what is still under way at the end.
    """

    _kind = "AsyncDiLoCo"

    def _outer_step(self) -> None:
        # Against the anchors that these inner steps began at: before those move.
        ways = self._ways(self._which(0))
        self._arrive()
        if self.comm.are_peers_pending():
            self._depart(ways)
            self._arrive()
            self._agree()
        else:
            if self._is_due():
                self._sync()
            self._depart(ways)
        self._follow(self._which(0))

    def finish(self) -> None:
        """Waits for what is under way. All peers call it after the same outer step."""
        self._arrive()
        self._follow(self._which(0))
