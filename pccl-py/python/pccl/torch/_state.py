"""A model and its optimizer as a shared state."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional

import torch

from .._communicator import Communicator
from .._descriptors import SharedStateSyncInfo
from .._enums import DataType, Result, SharedStateSyncStrategy
from .._errors import PCCLError
from .._state import SharedState, TensorInfo
from ._membership import lasting
from ._reduce import local


class SharedModelState:
    """What all peers of a group are to hold alike: parameters, buffers, the optimizer's tensors, and `extra` ones.

    The tensors are looked up in each `sync`, so the optimizer may replace its own. A newcomer's optimizer, which has none
    before its first step, is given fresh ones. Numbers beside the tensors, such as learning rates, do not travel: derive
    them from `revision`, or put them into a tensor of `extra`. Of a `DTensor` the local part is meant.

    `optimizer_may_differ`: each peer keeps its own optimizer's tensors, and only newcomers receive somebody's.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: Optional[torch.optim.Optimizer] = None,
        *,
        extra: Optional[Mapping[str, torch.Tensor]] = None,
        optimizer_may_differ: bool = False,
    ) -> None:
        self._model, self._optimizer, self._extra = model, optimizer, dict(extra or {})
        self._optimizer_may_differ = optimizer_may_differ
        self._revision = self._agreed = 0

    @property
    def revision(self) -> int:
        """Of what was synchronized last, or is to be next; a checkpoint has to keep it."""
        return self._revision

    @revision.setter
    def revision(self, revision: int) -> None:
        self._revision = self._agreed = revision

    def push_revision(self) -> None:
        """The tensors are further than those synchronized last: before the next synchronization, however often."""
        self._revision = self._agreed + 1

    def sync(
        self,
        comm: Communicator,
        strategy: SharedStateSyncStrategy = SharedStateSyncStrategy.ENFORCE_POPULAR,
    ) -> SharedStateSyncInfo:
        """Blocks until all peers of the group hold the same, also if some are lost on the way; they all must call it.

        Afterwards `revision` is the one all hold. Alone there is nothing to do.
        """
        if self._optimizer is not None:
            fill_optimizer(self._optimizer)
        shared = SharedState(info_of(name, tensor, differs) for name, tensor, differs in self._tensors())
        shared.revision = self.revision
        info = synchronize(comm, shared, strategy)
        if info is None:
            return SharedStateSyncInfo(0, 0)
        self.revision = shared.revision
        return info

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor, bool]]:
        names = {}
        for name, parameter in self._model.named_parameters():
            names[parameter] = name
            yield f"model.{name}", parameter, False
        for name, buffer in self._model.named_buffers():
            yield f"model.{name}", buffer, False
        if self._optimizer is not None:
            for name, tensor in optimizer_tensors(self._optimizer, names):
                yield name, tensor, self._optimizer_may_differ
        for name, tensor in self._extra.items():
            yield f"extra.{name}", tensor, False


def synchronize(
    comm: Communicator,
    shared: SharedState,
    strategy: SharedStateSyncStrategy = SharedStateSyncStrategy.ENFORCE_POPULAR,
) -> Optional[SharedStateSyncInfo]:
    """None: alone, nothing was compared."""
    try:
        return lasting(lambda: comm.sync_shared_state(shared, strategy))
    except PCCLError as error:
        if error.result is not Result.TOO_FEW_PEERS:
            raise
        return None


def info_of(name: str, tensor: torch.Tensor, may_differ: bool) -> TensorInfo:
    """Of any dense tensor: one whose type pccl cannot add is bytes to it."""
    here = local(tensor)
    try:
        DataType.from_torch_dtype(here.dtype)
    except TypeError:
        here = here.view(-1).view(torch.uint8)
    return TensorInfo.from_torch(here, name, allow_content_inequality=may_differ)


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[torch.Tensor, str]
) -> Iterator[tuple[str, torch.Tensor]]:
    """By the name of the parameter they belong to, else by its place."""
    place = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            owner = names.get(parameter, str(place))
            place += 1
            for key, value in sorted(optimizer.state.get(parameter, {}).items()):
                if isinstance(value, torch.Tensor):
                    yield f"optimizer.{owner}.{key}", value


def fill_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Gives an optimizer that has made no step yet the tensors it will have: by a step of zeros that moves nothing, after
    which they are zero again."""
    if any(optimizer.state.get(parameter) for group in optimizer.param_groups for parameter in group["params"]):
        return
    kept: list[tuple[torch.Tensor, Any]] = []
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], torch.Tensor) else 0.0
        for parameter in group["params"]:
            if parameter.requires_grad:
                kept.append((parameter, parameter.grad))
                parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter, gradient in kept:
        parameter.grad = gradient
        for value in optimizer.state.get(parameter, {}).values():
            if isinstance(value, torch.Tensor):
                value.zero_()
    for group, rate in zip(optimizer.param_groups, rates):
        group["lr"] = rate
