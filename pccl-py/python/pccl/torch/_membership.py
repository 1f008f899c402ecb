"""Who takes part, decided alike at every peer."""

from __future__ import annotations

from typing import Callable, TypeVar

from .. import _pccl
from .._communicator import Communicator
from .._enums import Attribute, Result
from .._errors import PCCLError

_T = TypeVar("_T")
_BETWEEN_LOOKS_MS = 20


def admit(comm: Communicator, *, groups: int = 1) -> bool:
    """Lets in whoever waits; whether somebody did. Every peer of the run calls it between two steps.

    `groups`: peer groups of the run, which is as many as a host has ranks. It returns when all are equally large, so that a
    host of which only some ranks were let in, or are left, holds nobody up in a collective. Ends all ranks of a host when
    one ends, as torchrun does.
    """
    came = comm.are_peers_pending()
    if came:
        comm.update_topology()
    wait_until_even(comm, groups)
    return came


def wait_until_even(comm: Communicator, groups: int) -> None:
    while groups > 1 and not _is_even(comm, groups):
        _pccl.pause(_BETWEEN_LOOKS_MS)
        comm.update_topology()


def _is_even(comm: Communicator, groups: int) -> bool:
    largest = comm.get_attribute(Attribute.LARGEST_PEER_GROUP_WORLD_SIZE)
    return comm.get_attribute(Attribute.GLOBAL_WORLD_SIZE) == largest * groups


def lasting(call: Callable[[], _T]) -> _T:
    """Again, whenever somebody was lost on the way. All survivors hear of that, so all call again."""
    while True:
        try:
            return call()
        except PCCLError as error:
            if error.result is not Result.RANK_CONNECTION_LOST:
                raise
