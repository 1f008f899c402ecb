"""A host of several ranks, each of them a peer of its own group, counts as a whole or not at all."""

from __future__ import annotations

import time
from typing import Any, Callable, Optional

from .. import _pccl
from .._communicator import Communicator
from .._enums import Attribute, ReduceOp, Result
from .._errors import PCCLError

_BETWEEN_LOOKS_MS = 20
# Beside the limit of a host that is not complete: it is for that one to give up, not for those it holds up.
_PATIENCE = 3
# Nothing else is under way then. Far from what a program may use.
_TAG = (1 << 63) + 0x686F7374


class Host:
    """The ranks of one place, which a collective of torch needs all: for `DiLoCo` and `admit`.

    `store`: one of torch (such as the `TCPStore` of the host's process group) that all ranks of this host share, and nobody
    else. Rank `rank` of `ranks` is a peer of peer group `rank`, and all ranks of all hosts use it. A host whose ranks were let
    in only in part may not go on, nor may the others with it: they wait until the rest is in. After `limit_s` seconds the
    ranks of such a host give up with a `TimeoutError`; end them all then, and the others go on.
    """

    def __init__(self, store: Any, rank: int, ranks: int, *, limit_s: float = 120.0, settle_s: float = 2.0) -> None:
        if not 0 <= rank < ranks:
            raise ValueError(f"rank {rank} of {ranks}")
        self._store, self.rank, self.ranks, self.limit_s = store, rank, ranks, limit_s
        # How long a sibling may take from its being let in to the next line. Too little costs a round, nothing else.
        self._settle_s = settle_s
        self._whole_epoch: Optional[int] = None
        # The epoch that hosts were last looked at in, and how often in it.
        self._round: tuple[int, int] = (0, 0)

    def wait_until_whole(self, comm: Communicator) -> None:
        """Every peer of the run calls it, with the same membership. Returns when all hosts in it are complete."""
        begun = time.monotonic()
        while comm._comm.epoch() != self._whole_epoch:
            epoch = comm._comm.epoch()
            if self._are_all_complete(comm, epoch):
                self._whole_epoch = epoch
                return
            self._give_up_late(comm, time.monotonic() - begun)
            _pccl.pause(_BETWEEN_LOOKS_MS)
            comm.update_topology()

    def _give_up_late(self, comm: Communicator, waited: float) -> None:
        epoch, number = self._round
        # The others may not have come round in a new epoch yet.
        if waited <= self.limit_s or number < 3:
            return
        peers = comm.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
        absent = [rank for rank in range(self.ranks) if self._store.add(f"pccl/{epoch}/seen/{rank}", 0) == 0]
        if absent:
            raise TimeoutError(
                f"rank {self.rank} of this host has waited {waited:.0f} s for rank {', '.join(map(str, absent))} of {self.ranks} to be "
                f"let in ({peers} peers in the run): start all ranks of a host, and end all when one ends"
            )
        if waited > _PATIENCE * self.limit_s:
            raise TimeoutError(
                f"this host is complete, but for {waited:.0f} s some other has been in the run in part only ({peers} peers, "
                f"{self.ranks} ranks a host): end what is left of it"
            )

    def _are_all_complete(self, comm: Communicator, epoch: int) -> bool:
        """The same answer at every peer of the run, whatever is lost meanwhile."""
        number = self._round[1] + 1 if self._round[0] == epoch else 0
        self._round = (epoch, number)
        self._store.add(f"pccl/{epoch}/seen/{self.rank}", 1)
        peers = comm.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
        if peers != self.ranks * comm.get_attribute(Attribute.LARGEST_PEER_GROUP_WORLD_SIZE):
            return False
        # Equally large groups may still be halves of several hosts.
        prefix = f"pccl/{epoch}/{number}"
        is_complete = self._is_host_complete(prefix)
        of_group = _least(comm, is_complete)
        # Each rank has heard of the hosts in its group; a host of which a rank is in any group is seen by one of us.
        return is_complete and self._is_said_by_all(prefix, of_group)

    def _is_host_complete(self, prefix: str) -> bool:
        """Whether all ranks of this host are members now; all that are get the same answer."""
        here, verdict = f"{prefix}/here", f"{prefix}/verdict"
        until = time.monotonic() + self._settle_s
        present = self._store.add(here, 1)
        while True:
            if present == self.ranks:
                return self._decided(verdict, "complete")
            if self._store.check([verdict]) or time.monotonic() > until:
                return self._decided(verdict, "part")
            _pccl.pause(1)
            present = self._store.add(here, 0)

    def _decided(self, key: str, proposal: str) -> bool:
        """Who proposes first decides."""
        return bytes(self._store.compare_set(key, "", proposal)) == b"complete"

    def _is_said_by_all(self, prefix: str, mine: bool) -> bool:
        asked, agreed = f"{prefix}/asked", f"{prefix}/agreed"
        self._store.add(agreed, int(mine))
        self._store.add(asked, 1)
        self._wait_for(lambda: self._store.add(asked, 0) == self.ranks)
        return bool(self._store.add(agreed, 0) == self.ranks)

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + self.limit_s
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(
                    f"rank {self.rank}: some other of the {self.ranks} ranks of this host has been silent for {self.limit_s:.0f} s: "
                    "end all ranks of a host when one ends"
                )
            _pccl.pause(1)


def _least(comm: Communicator, flag: bool) -> bool:
    """Whether all peers of the group say yes. If somebody is lost meanwhile: no."""
    said = bytearray([flag])
    try:
        comm.all_reduce(said, op=ReduceOp.MIN, tag=_TAG)
    except PCCLError as error:
        if error.result is Result.TOO_FEW_PEERS:
            return flag
        if error.result is Result.RANK_CONNECTION_LOST:
            return False
        raise
    return bool(said[0])
