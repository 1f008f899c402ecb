"""A host of several ranks, each of them a peer of its own group, counts as a whole or not at all."""

from __future__ import annotations

import hashlib
import time
import uuid
from typing import Any, Callable, Optional

from .. import _errors, _pccl
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

    A store may have several, one after another or in turn, if all its ranks use the same one at a time; and it may outlive its
    ranks.
    """

    def __init__(self, store: Any, rank: int, ranks: int, *, limit_s: float = 120.0, settle_s: float = 2.0) -> None:
        if not 0 <= rank < ranks:
            raise ValueError(f"rank {rank} of {ranks}")
        self._store, self.rank, self.ranks, self.limit_s = store, rank, ranks, limit_s
        # What others have left in the store, those before us or another of this rank, is not for this one.
        self._name = uuid.uuid4().hex
        self._store.set(_name_key(rank), self._name)
        # How long a sibling may take from its being let in to the next line. Too little costs a round, nothing else.
        self._settle_s = settle_s
        self._whole_epoch: Optional[int] = None
        # The epoch that hosts were last looked at in, and how often in it.
        self._round: tuple[int, int] = (0, 0)

    def wait_until_whole(self, comm: Communicator) -> bool:
        """Every peer of the run calls it, with the same membership. Returns when all hosts in it are complete: whether it has let
        in who waited meanwhile, the same at all peers."""
        begun = time.monotonic()
        has_let_in = False
        while (epoch := _errors.call("epoch", comm._comm.epoch)) != self._whole_epoch:
            if self._are_all_complete(comm, epoch):
                self._whole_epoch = epoch
                break
            self._give_up_late(comm, time.monotonic() - begun)
            _pccl.pause(_BETWEEN_LOOKS_MS)
            comm.update_topology()
            has_let_in = True
        return has_let_in

    def _give_up_late(self, comm: Communicator, waited: float) -> None:
        epoch, number = self._round
        # The others may not have come round in a new epoch yet.
        if waited <= self.limit_s or number < 3:
            return
        peers = comm.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
        absent = [rank for rank in range(self.ranks) if self._store.add(_seen_key(epoch, rank, self._name), 0) == 0]
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
        self._store.set(_name_key(self.rank), self._name)
        # To each of the others by its name: ranks that are no more have not seen ours.
        for name in self._names():
            self._store.add(_seen_key(epoch, self.rank, name), 1)
        peers = comm.get_attribute(Attribute.GLOBAL_WORLD_SIZE)
        if peers != self.ranks * comm.get_attribute(Attribute.LARGEST_PEER_GROUP_WORLD_SIZE):
            return False
        # Equally large groups may still be halves of several hosts.
        prefix, is_complete = self._meet(epoch, number)
        of_group = _least(comm, is_complete)
        # Each rank has heard of the hosts in its group; a host of which a rank is in any group is seen by one of us.
        return is_complete and self._is_said_by_all(prefix, of_group)

    def _meet(self, epoch: int, number: int) -> tuple[str, bool]:
        """Whether all ranks of this host are members now; all that are get the same answer. And where they have met."""
        until = time.monotonic() + self._settle_s
        prefix = ""
        while True:
            # First where we stand: who has decided there may go on, and look again under another name.
            if prefix:
                present = self._store.add(f"{prefix}/here", 0)
                if present == self.ranks:
                    return prefix, self._decided(f"{prefix}/verdict", "complete")
                if self._store.check([f"{prefix}/verdict"]) or time.monotonic() > until:
                    return prefix, self._decided(f"{prefix}/verdict", "part")
                _pccl.pause(1)
            # Under the names of all. While one is missing, or of a rank that is no more, not all come to this place.
            place = f"pccl/{epoch}/{number}/{hashlib.sha256(' '.join(self._names()).encode()).hexdigest()}"
            if place != prefix:
                prefix = place
                self._store.add(f"{prefix}/here", 1)

    def _names(self) -> list[str]:
        keys = [_name_key(rank) for rank in range(self.ranks)]
        return [bytes(self._store.get(key)).decode() if self._store.check([key]) else "" for key in keys]

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


def _name_key(rank: int) -> str:
    return f"pccl/name/{rank}"


def _seen_key(epoch: int, rank: int, name: str) -> str:
    return f"pccl/{epoch}/seen/{rank}/{name}"


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
