"""A model and its optimizer as a shared state."""

from __future__ import annotations

from typing import Iterable, Iterator, Mapping, NamedTuple, Optional

import torch

from .._communicator import Communicator
from .._descriptors import SharedStateSyncInfo
from .._enums import DataType, Result, SharedStateSyncStrategy
from .._errors import PCCLError
from .._state import SharedState, TensorInfo
from ._membership import lasting
from ._optimizer import Places, optimizer_tensors
from ._reduce import local

# Name, tensor, whether each peer may have its own.
Named = tuple[str, torch.Tensor, bool]


class SharedModelState:
    """What all peers of a group are to hold alike: parameters, buffers, the optimizer's tensors, and `extra` ones.

    The tensors are looked up in each `sync`, so the optimizer may replace its own. A newcomer's optimizer, which has none
    before its first step, gets those of the others; what nobody has yet, nobody has afterwards. Numbers beside the tensors,
    such as learning rates, do not travel: derive them from `revision`, or put them into a tensor of `extra`. Of a `DTensor` the
    local part is meant.

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
        self._broken: Optional[Damage] = None
        check_sharding(model)
        self._places = Places(optimizer)
        check_tensors(self._tensors())

    @property
    def revision(self) -> int:
        """Of what was synchronized last, or is to be next; a checkpoint has to keep it."""
        return self._revision

    @revision.setter
    def revision(self, revision: int) -> None:
        self._revision = self._agreed = revision
        self._broken = None

    def push_revision(self) -> None:
        """The tensors are further than those synchronized last: before the next synchronization, however often."""
        self._revision = self._agreed + 1

    def sync(
        self,
        comm: Communicator,
        strategy: SharedStateSyncStrategy = SharedStateSyncStrategy.ENFORCE_POPULAR,
    ) -> SharedStateSyncInfo:
        """Blocks until all peers of the group hold the same, also if some are lost on the way; they all must call it.

        Afterwards `revision` is the one all hold. Alone there is nothing to do; unless a synchronization ended, however it did,
        when this peer had received a part: that is a `PCCLError`, also in later calls, until others have come with a whole
        state, or `revision` is set for what was put here instead. Such a peer is never elected: several that have nothing else
        get `NO_SHARED_STATE_AVAILABLE`. Of a call that was interrupted, or whose communicator was destroyed, nobody knows
        whether it has received anything: alone all of it counts as a part, but it may be elected by others, as it is most
        likely whole. It is this object that knows: another one made of the same tensors takes them for whole.
        """
        with self._places as places:
            everything = list(self._tensors())
            if self._optimizer is not None:
                everything.append(("optimizer.present", places.flags, self._optimizer_may_differ))
            gathered = Gathered(everything, self.revision, self._broken)
            try:
                info = gathered.synchronize(comm, strategy)
            finally:
                self._broken = gathered.broken
        if info is None:
            return SharedStateSyncInfo(0, 0)
        self.revision = gathered.shared.revision
        return info

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor, bool]]:
        names = {}
        for name, parameter in sharded(self._model).named_parameters():
            names[parameter] = name
            yield f"model.{name}", parameter, False
        for name, buffer in self._model.named_buffers():
            yield f"model.{name}", buffer, False
        if self._optimizer is not None:
            for name, tensor in optimizer_tensors(self._optimizer, names):
                yield name, tensor, self._optimizer_may_differ
        for name, tensor in self._extra.items():
            yield f"extra.{name}", tensor, False


class Damage(NamedTuple):
    """What synchronizations have left that did not succeed."""

    text: str
    is_certain: bool
    """Something was received. Else nobody knows."""


class Gathered:
    """Tensors as a shared state for one synchronization. Of those that pccl cannot take as they lie (other strides) it has
    copies."""

    def __init__(self, tensors: Iterable[Named], revision: int, broken: Optional[Damage] = None) -> None:
        # Why what is here may not be used, if a synchronization has left it so: until another one succeeds.
        self.broken = broken
        self._copies: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self.shared = SharedState([self._info(*one) for one in tensors])
        self.shared.revision = revision
        # Else two that were left alone so could elect what one of them has. What is whole, as far as anybody knows, keeps its
        # vote: or whoever comes with nothing would be elected instead.
        self.shared._is_broken = broken is not None and broken.is_certain

    def _info(self, name: str, tensor: torch.Tensor, may_differ: bool) -> TensorInfo:
        here = local(tensor)
        _check(name, here)
        if not here.is_contiguous() or here.is_neg() or here.is_conj():
            copy = torch.empty(here.shape, dtype=here.dtype, device=here.device)
            copy.copy_(here)
            self._copies[name] = (copy, here)
            here = copy
        if not _is_known(here.dtype):
            # Bytes to pccl.
            here = here.view(-1).view(torch.uint8)
        return TensorInfo.from_torch(here, name, allow_content_inequality=may_differ)

    def synchronize(
        self, comm: Communicator, strategy: SharedStateSyncStrategy = SharedStateSyncStrategy.ENFORCE_POPULAR
    ) -> Optional[SharedStateSyncInfo]:
        """None: alone, nothing was compared, and what is here is whole."""
        try:
            info = lasting(lambda: comm.sync_shared_state(self.shared, strategy))
        except BaseException as error:
            self._bring_back()
            conditions = self.shared.conditions
            changed = [name for name, condition in conditions.items() if condition != "kept"]
            is_alone = isinstance(error, PCCLError) and error.result is Result.TOO_FEW_PEERS
            if not changed and self.broken and isinstance(error, PCCLError) and error.result is Result.NO_SHARED_STATE_AVAILABLE:
                raise PCCLError("sync_shared_state", error.result, f"{error.reason}. {self.broken.text}") from None
            if changed:
                why = "" if is_alone else f"{error!r} ended the last synchronization. "
                is_certain = self.shared._is_torn or (self.broken is not None and self.broken.is_certain)
                self.broken = Damage(_broken(why, changed, len(conditions)), is_certain)
            if not is_alone:
                raise
            if self.broken:
                raise PCCLError("sync_shared_state", Result.TOO_FEW_PEERS, self.broken.text) from None
            return None
        self._bring_back()
        self.broken = None
        return info

    def _bring_back(self) -> None:
        conditions = self.shared.conditions
        for name, (copy, tensor) in self._copies.items():
            if conditions[name] != "kept":
                tensor.copy_(copy)


def check_tensors(tensors: Iterable[Named]) -> None:
    """Refuses what cannot be part of a shared state: before anybody waits for this peer."""
    for name, tensor, _ in tensors:
        _check(name, local(tensor))


def _check(name: str, tensor: torch.Tensor) -> None:
    if tensor.device.type not in ("cpu", "cuda"):
        raise ValueError(f"{name} is on {tensor.device}; a tensor on the cpu or a cuda device is needed")
    if tensor.layout is not torch.strided:
        raise ValueError(f"{name} is {tensor.layout}; a dense tensor is needed")
    if any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape)):
        raise ValueError(f"{name} is expanded: several of its elements are one place in memory; pass a clone")


def _is_known(dtype: torch.dtype) -> bool:
    try:
        DataType.from_torch_dtype(dtype)
    except TypeError:
        return False
    return True


def _broken(why: str, names: list[str], count: int) -> str:
    listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return (
        f"{why}All peers that held the state are gone, and this one has received it in part only: {len(names)} of {count} tensors "
        f"({listed}) are not, or may not be, what they were, the others are. Load a checkpoint here, or start with a new model"
    )


def sharded(model: torch.nn.Module) -> torch.nn.Module:
    """Of an FSDP2 model the parameters are the shards again, as outside of forward and backward: after a forward without a
    backward, the root's are not. What is written to the shards would then be lost."""
    for module in model.modules():
        if _is_fsdp(module):
            module.reshard()
    return model


def check_sharding(model: torch.nn.Module) -> None:
    """Refuses a parameter that no part of an FSDP2 model shards: each rank of the host would train a copy of its own, and the
    copies of one host would go apart."""
    if not any(_is_fsdp(module) for module in model.modules()):
        return
    for name, parameter in sharded(model).named_parameters():
        if parameter.requires_grad and not hasattr(parameter, "to_local"):
            raise ValueError(
                f"{name} is a plain parameter in a model that fully_shard has sharded: each rank would train its own copy of it. Call "
                "fully_shard for the module that holds it, or for the whole model"
            )


def _is_fsdp(module: torch.nn.Module) -> bool:
    # Of `fully_shard`; where the class is depends on torch's version.
    return hasattr(module, "reshard") and hasattr(module, "set_requires_gradient_sync")
