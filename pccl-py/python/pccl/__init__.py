"""Fault-tolerant collective communication over the internet.

Neither numpy nor torch is imported here: their objects are recognised by what they offer.
"""

import enum

from . import _pccl
from ._buffers import DataType, operands

__all__ = [
    "Attribute",
    "Communicator",
    "DataType",
    "MasterNode",
    "PCCLError",
    "ReduceInfo",
    "ReduceOp",
    "Result",
]


class Result(enum.Enum):
    SUCCESS = 0
    NOT_INITIALIZED = 1
    INTERNAL_ERROR = 2
    INVALID_ARGUMENT = 3
    INVALID_USAGE = 4
    TOO_FEW_PEERS = 5
    MASTER_CONNECTION_FAILED = 6
    RANK_CONNECTION_FAILED = 7
    RANK_CONNECTION_LOST = 8
    NO_SHARED_STATE_AVAILABLE = 9
    PENDING_ASYNC_OPS = 10
    UPDATE_TOPOLOGY_FAILED = 11
    TOPOLOGY_OPTIMIZATION_FAILED = 12


class ReduceOp(enum.Enum):
    SUM = 0
    AVG = 1
    PROD = 2
    MAX = 3
    MIN = 4


class Attribute(enum.Enum):
    GLOBAL_WORLD_SIZE = 1
    LOCAL_WORLD_SIZE = 2
    NUM_DISTINCT_PEER_GROUPS = 3
    LARGEST_PEER_GROUP_WORLD_SIZE = 4


class PCCLError(Exception):
    """A call failed. `result` says how, the text says why and what to do."""

    def __init__(self, call, result, reason):
        super().__init__(f"{call}: {result.name}: {reason}")
        self.result = result


class ReduceInfo:
    """How an all-reduce went: peers of the group that took part, payload sent and received."""

    def __init__(self, local_world_size, tx_bytes, rx_bytes):
        self.local_world_size = local_world_size
        self.tx_bytes = tx_bytes
        self.rx_bytes = rx_bytes

    def __repr__(self):
        return f"ReduceInfo(local_world_size={self.local_world_size}, tx_bytes={self.tx_bytes}, rx_bytes={self.rx_bytes})"


def _call(name, function, *arguments):
    try:
        return function(*arguments)
    except _pccl.Failure as failure:
        code, reason = failure.args
        raise PCCLError(name, Result(code), reason) from None


class Communicator:
    """A peer of a run. Every call that blocks lets other Python threads go on.

    `address` is the master's "host:port". Leaving the `with` block, `destroy`, or dropping the object leaves the run.
    """

    def __init__(self, address, peer_group=0, p2p_connection_pool_size=0):
        self._comm = _call("Communicator", _pccl.Communicator, address, peer_group, p2p_connection_pool_size)

    def connect(self, n_attempts=5):
        """Blocks until accepted into the run. One second between attempts; raises after the last."""
        _call("connect", self._comm.connect, n_attempts)

    def get_attribute(self, attribute):
        return _call("get_attribute", self._comm.get_attribute, Attribute(attribute).value)

    def update_topology(self):
        """Blocks until every accepted peer of the run calls it; admits the peers that wait."""
        _call("update_topology", self._comm.update_topology)

    def are_peers_pending(self):
        """Blocks until every accepted peer of the run calls it; all get the same answer."""
        return _call("are_peers_pending", self._comm.are_peers_pending)

    def all_reduce(self, send, recv=None, *, op=ReduceOp.SUM, tag=0):
        """Combines `send` of all peers of the group into `recv` of each (`None`: in place); the same bits at all.

        Both are a torch tensor, a numpy array, or anything with a writable buffer: contiguous, of one type and size.
        Whatever fails, `send` is what it was before.
        """
        send_at, recv_at, count, dtype, kept = operands(send, send if recv is None else recv)
        info = _call(
            "all_reduce", self._comm.all_reduce, send_at, recv_at, count, dtype.value, ReduceOp(op).value, tag
        )
        del kept
        return ReduceInfo(*info)

    def destroy(self):
        """Leaves the run and ends every thread and socket of this object. Any later call fails."""
        _call("destroy", self._comm.destroy)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.destroy()


class MasterNode:
    """A run's master, listening at "ip:port" (port 0: any free one, see `address`)."""

    def __init__(self, listen_address):
        self._master = _call("MasterNode", _pccl.Master, listen_address)

    def run(self):
        """Starts to serve in the background. A port in use is an error here."""
        _call("run", self._master.run)

    @property
    def address(self):
        """Where a running master listens, as "ip:port"."""
        return _call("address", self._master.address)

    def interrupt(self):
        """Ends it: no thread and no socket is left."""
        _call("interrupt", self._master.interrupt)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.interrupt()
