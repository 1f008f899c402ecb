"""A peer of a run."""

from __future__ import annotations

from typing import Any, Optional, Sequence

from . import _errors, _pccl, _reduction
from ._descriptors import (
    QuantizationOptions,
    ReduceInfo,
    ReduceOpDescriptor,
    ReduceOperandDescriptor,
    SharedStateSyncInfo,
)
from ._enums import Attribute, ReduceOp, Result, SharedStateSyncStrategy
from ._handle import AsyncReduceHandle
from ._state import Lent, SharedState

_BETWEEN_ATTEMPTS_MS = 1000
# Of a call that was refused before it touched anything.
_NOT_BEGUN = (Result.INVALID_USAGE, Result.INVALID_ARGUMENT)
# What the next attempt may find otherwise.
_MAY_PASS = (Result.MASTER_CONNECTION_FAILED, Result.RANK_CONNECTION_FAILED)


class Communicator:
    """A peer of a run. Every call that blocks lets other Python threads go on, and can be interrupted by Ctrl-C.

    `address` is the master's "host:port". Leaving the `with` block, `destroy`, or dropping the object leaves the run. What
    was waited for when Ctrl-C came goes on by itself and keeps its tensors; leave the run to end it. Python raises nothing out
    of an object that is dropped: that takes its time (`destroy` tells how much), and Ctrl-C comes afterwards.
    """

    def __init__(self, address: str, peer_group: int = 0, p2p_connection_pool_size: int = 0) -> None:
        self._comm = _errors.call(
            "Communicator", _pccl.Communicator, address, peer_group, p2p_connection_pool_size
        )

    def connect(self, n_attempts: int = 5) -> None:
        """Blocks until accepted into the run. If the master or a member cannot be reached, or refuses, it is tried again a second
        later; raises after the last attempt."""
        for _ in range(n_attempts - 1):
            try:
                return _errors.call("connect", self._comm.connect)
            except _errors.PCCLError as error:
                if error.result not in _MAY_PASS:
                    raise
            _pccl.pause(_BETWEEN_ATTEMPTS_MS)
        return _errors.call("connect", self._comm.connect)

    def get_attribute(self, attribute: Attribute) -> int:
        """As of the last call that returned: the same at all peers of a group after the same call."""
        if not self._comm.is_connected():
            raise _errors.PCCLError("get_attribute", Result.INVALID_USAGE, "not connected: call connect first")
        return _errors.call("get_attribute", self._comm.get_attribute, Attribute(attribute).value)

    def update_topology(self) -> None:
        """Blocks until every accepted peer of the run calls it; admits the peers that wait."""
        _errors.call("update_topology", self._comm.update_topology)

    def are_peers_pending(self) -> bool:
        """Blocks until every accepted peer of the run calls it; all get the same answer."""
        return _errors.call("are_peers_pending", self._comm.are_peers_pending)

    def optimize_topology(self) -> None:
        """Measures the links between the peers, and orders the run by them; some tenths of a second for each peer. Every
        accepted peer of the run must call it. Admits nobody. Alone: ``Result.INVALID_USAGE``."""
        _errors.call("optimize_topology", self._comm.optimize_topology)

    def sync_shared_state(
        self,
        shared_state: SharedState,
        strategy: SharedStateSyncStrategy = SharedStateSyncStrategy.ENFORCE_POPULAR,
    ) -> SharedStateSyncInfo:
        """Blocks until all peers of the group hold the same tensors; they all must call it, with the same names and types.

        `RANK_CONNECTION_LOST` if it could not be finished: call it again, it goes on where it stood. What an ended call has left
        is in `conditions` of the state.
        """
        lent = Lent(shared_state)
        code = SharedStateSyncStrategy(strategy).value
        try:
            outcome, conditions = _errors.call(
                "sync_shared_state",
                self._comm.synchronize,
                shared_state.revision,
                code,
                shared_state._is_broken,
                lent.tensors,
                lent.owner,
            )
        except BaseException as error:
            if not (isinstance(error, _errors.PCCLError) and error.result in _NOT_BEGUN):
                # Interrupted, or destroyed: it has not told what it has received.
                unknown = ["mixed"] * len(lent.tensors)
                shared_state._note(unknown, False, is_told=False)
                lent.finish(unknown)
            raise
        code, reason, revision, tx_bytes, rx_bytes = outcome
        shared_state._note(conditions, code == 0)
        lent.finish(conditions)
        if code != 0:
            raise _errors.PCCLError("sync_shared_state", Result(code), reason)
        shared_state.revision = revision
        return SharedStateSyncInfo(tx_bytes, rx_bytes)

    def all_reduce(
        self,
        send: Any,
        recv: Any = None,
        *,
        op: ReduceOp = ReduceOp.SUM,
        tag: int = 0,
        operand_descriptor: Optional[ReduceOperandDescriptor] = None,
        quantization_options: Optional[QuantizationOptions] = None,
        quantize: Optional[str] = None,
        residual: Any = None,
    ) -> ReduceInfo:
        """Combines `send` of all peers of the group into `recv` of each (None: in place); the same bits at all.

        Both are torch tensors, numpy arrays, or anything with DLPack, `__array_interface__` or a buffer: C-contiguous,
        of one type, size and device. Whatever fails, `send` is what it was before. `quantize="u8"` is short for
        quantization options. `RANK_CONNECTION_LOST` if membership changed meanwhile: call it again.

        `residual`: error feedback for quantized sums and averages. It is like `send`, 0 before the first call and then left
        alone: it is added to what this peer gives, and holds afterwards what quantization has lost here, for the next call.
        Whatever fails, it is what it was before. It is this peer's and this tag's; the other peers need not have one.
        In place only.
        """
        options = _reduction.quantization(quantization_options, quantize)
        reduction = _reduction.Reduction(send, recv, op, tag, operand_descriptor, options, residual)
        info = _errors.call("all_reduce", self._comm.all_reduce, reduction.operation, reduction.owner)
        if reduction.finish is not None:
            reduction.finish()
        return ReduceInfo(*info)

    def all_reduce_async(
        self,
        send: Any,
        recv: Any = None,
        *,
        op: ReduceOp = ReduceOp.SUM,
        tag: int = 0,
        operand_descriptor: Optional[ReduceOperandDescriptor] = None,
        quantization_options: Optional[QuantizationOptions] = None,
        quantize: Optional[str] = None,
        residual: Any = None,
    ) -> AsyncReduceHandle:
        """Starts what `all_reduce` does and returns at once. Those under way at one time need different tags.

        The residual is the library's, too, until the handle is done.
        """
        options = _reduction.quantization(quantization_options, quantize)
        reduction = _reduction.Reduction(send, recv, op, tag, operand_descriptor, options, residual)
        work = _errors.call("all_reduce_async", self._comm.all_reduce_async, reduction.operation, reduction.owner)
        return AsyncReduceHandle(work, reduction.finish)

    def all_reduce_multiple_with_retry(
        self, descriptors: Sequence[ReduceOpDescriptor], *, max_in_flight: int = 4
    ) -> ReduceInfo:
        """Runs all of these, at most `max_in_flight` at once, and repeats those that are aborted until all are done.

        Every peer of the group calls it with the same list. Byte counts are totals. `TOO_FEW_PEERS` when the group has one
        peer left. What is repeated has the residual that it had before: nothing counts twice. Until the end it holds a copy of
        all that was reduced in place, to give it back if the list fails; tensors on a GPU are staged in pinned memory all at once.
        """
        reductions = [_reduction.of_descriptor(descriptor) for descriptor in descriptors]
        info = _errors.call(
            "all_reduce_multiple_with_retry",
            self._comm.all_reduce_multiple_with_retry,
            [reduction.operation for reduction in reductions],
            max(0, max_in_flight),
            [reduction.owner for reduction in reductions],
        )
        for reduction in reductions:
            if reduction.finish is not None:
                reduction.finish()
        return ReduceInfo(*info)

    @property
    def world_size(self) -> int:
        """Peers of the run, of all groups; 0 while not a member. No call to the master."""
        return _errors.call("world_size", self._comm.get_attribute, Attribute.GLOBAL_WORLD_SIZE.value)

    @property
    def group_world_size(self) -> int:
        """Peers of this peer's group; 0 while not a member."""
        return _errors.call("group_world_size", self._comm.get_attribute, Attribute.LOCAL_WORLD_SIZE.value)

    @property
    def rank_id(self) -> int:
        """This peer's place in its group's order. Changes with membership."""
        return _errors.call("rank_id", self._comm.rank)

    @property
    def peers_pending(self) -> int:
        """Peers that wait to be admitted, as of the last all-reduce or `are_peers_pending`: the same at every peer of the
        group, so a program may branch on it. No call to the master."""
        return _errors.call("peers_pending", self._comm.peers_pending)

    @property
    def is_connected(self) -> bool:
        """Whether this peer is a member of a run now."""
        return self._comm.is_connected()

    def destroy(self) -> None:
        """Leaves the run and ends every thread and socket of this object, at once or within some seconds where the network is
        slow to let go. Any later call fails, and those in which other threads wait end with `RANK_CONNECTION_LOST`. After
        Ctrl-C it goes on by itself."""
        _errors.call("destroy", self._comm.destroy)

    def __enter__(self) -> Communicator:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()
