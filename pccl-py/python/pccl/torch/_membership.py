"""Who takes part, decided alike at every peer."""

from __future__ import annotations

from typing import Callable, Optional, TypeVar

from .._communicator import Communicator
from .._enums import Result
from .._errors import PCCLError
from ._host import Host

_T = TypeVar("_T")


def admit(comm: Communicator, *, host: Optional[Host] = None) -> bool:
    """Lets in whoever waits; whether somebody may have come. Every peer of the run calls it between two steps, with nothing
    under way; all get the same answer.

    `host`: where several ranks make up a host. Then it returns when all hosts are complete.
    """
    came = comm.are_peers_pending()
    if came:
        comm.update_topology()
    if host is not None:
        # While it waits it lets in others, too.
        came = host.wait_until_whole(comm) or came
    return came


def lasting(call: Callable[[], _T]) -> _T:
    """Again, whenever somebody was lost on the way. All survivors hear of that, so all call again."""
    while True:
        try:
            return call()
        except PCCLError as error:
            if error.result is not Result.RANK_CONNECTION_LOST:
                raise
