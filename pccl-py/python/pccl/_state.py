"""What all peers of a group are to hold alike."""

from __future__ import annotations

from typing import Any, Iterable, Optional

from ._enums import DataType, DeviceType
from ._places import Place, place
from ._staging import Staged


class TensorInfo:
    """A named tensor of a shared state. The object it was made from is held, and its memory with it. If that object has got
    other memory of the same size meanwhile (`p.data = …`), it is the new one that counts.

    Made from an address alone, it is the program that keeps the memory in its place until the state is gone.

    `allow_content_inequality`: not compared, and received only by peers whose revision is outdated.
    """

    def __init__(
        self,
        name: str,
        data_ptr: int,
        *,
        numel: int,
        dtype: DataType,
        device_type: DeviceType,
        allow_content_inequality: bool,
    ) -> None:
        if DeviceType(device_type) is not DeviceType.CPU:
            raise ValueError(f"{name}: an address on a device cannot be used here: TensorInfo.from_torch takes the tensor")
        if numel < 0 or (numel > 0 and data_ptr == 0):
            raise ValueError(f"{name}: {numel} elements at address {data_ptr}")
        self.name = name
        self.data_ptr = data_ptr
        self.numel = numel
        self.dtype = DataType(dtype)
        self.device_type = DeviceType(device_type)
        self.allow_content_inequality = allow_content_inequality
        self._owner: Any = None
        self._made_from: Any = None

    @classmethod
    def from_buffer(cls, value: Any, name: str, *, allow_content_inequality: bool = False) -> TensorInfo:
        """Of a torch tensor, a numpy array, or any other writable buffer that `all_reduce` takes."""
        at = place(value, name)
        if at.read_only:
            raise ValueError(f"{name} is read-only; what is received is written there")
        info = cls(
            name,
            at.address if at.device is None else 0,
            numel=at.count if at.device is None else 0,
            dtype=at.dtype,
            device_type=DeviceType.CPU,
            allow_content_inequality=allow_content_inequality,
        )
        info._owner, info._made_from = at.owner, value
        if at.device is not None:
            info.data_ptr, info.numel, info.device_type = at.address, at.count, DeviceType.CUDA
        return info

    def _place(self) -> Optional[Place]:
        """Where it lies now; None if it was made from an address alone."""
        if self._made_from is None:
            return None
        at = place(self._made_from, self.name)
        if at.dtype is not self.dtype or at.count != self.numel:
            raise ValueError(
                f"{self.name} had {self.numel} elements of {self.dtype.name} when its TensorInfo was made, and has {at.count} of "
                f"{at.dtype.name} now: make a new one"
            )
        return at

    from_torch = from_buffer
    from_numpy = from_buffer


class SharedState:
    """Tensors and their revision, which grows by one with each synchronization. Holds its tensors.

    Before the next synchronization everybody calls `push_revision` (or sets `revision`), once the tensors are those of the
    next step. A newcomer comes with a lower revision, and receives.
    """

    def __init__(self, tensor_infos: Iterable[TensorInfo]) -> None:
        self.tensor_infos = list(tensor_infos)
        names = set()
        for info in self.tensor_infos:
            if info.name in names:
                raise ValueError(f"two tensors have the name {info.name!r}")
            names.add(info.name)
        self._revision = 0
        self._conditions: list[str] = []
        self._failed = False
        # What a broken transfer has left, also one of an earlier communicator: no vote.
        self._is_broken = False
        # A call that failed has told that it left something in here.
        self._is_torn = False

    @property
    def revision(self) -> int:
        return self._revision

    @revision.setter
    def revision(self, revision: int) -> None:
        if not 0 <= revision < 1 << 64:
            raise ValueError(f"revision is {revision}: a whole number of 64 bits is needed")
        self._revision = int(revision)

    def push_revision(self) -> None:
        """The tensors are one step further."""
        self.revision = self._revision + 1

    @property
    def conditions(self) -> dict[str, str]:
        """What is in each tensor since the last synchronization that succeeded, or after those that failed: `kept`, what was
        there before; `elected`, wholly what was elected; or `mixed`, which a later call repairs. All are `mixed` after
        a call that was interrupted, as nobody knows."""
        left = self._conditions + ["kept"] * (len(self.tensor_infos) - len(self._conditions))
        return {info.name: condition for info, condition in zip(self.tensor_infos, left)}

    def _note(self, conditions: list[str], succeeded: bool, *, is_told: bool = True) -> None:
        if succeeded:
            self._is_torn = False
        elif is_told and any(condition != "kept" for condition in conditions):
            self._is_torn = True
        if not succeeded and self._failed:
            # What this call left alone is as an earlier one has left it.
            before = list(self.conditions.values())
            after = conditions + ["kept"] * (len(before) - len(conditions))
            conditions = [old if new == "kept" else new for old, new in zip(before, after)]
        self._conditions = conditions
        self._failed = not succeeded


class Lent:
    """A state during one synchronization: `tensors` and `owner` are for `_pccl`."""

    def __init__(self, state: SharedState) -> None:
        self.tensors = []
        owners: list[Any] = []
        self._staged: dict[int, tuple[Staged, Any]] = {}
        for index, info in enumerate(state.tensor_infos):
            at = info._place()
            address = info.data_ptr if at is None else at.address
            if at is not None and at.device is not None:
                staged = Staged(info._made_from)
                self._staged[index] = (staged, info._made_from)
                address = staged.host.data_ptr()
            owners.append(info if at is None else at.owner)
            self.tensors.append((info.name, address, info.numel, info.dtype.value, info.allow_content_inequality))
        self.owner = (owners, self._staged)

    def finish(self, conditions: list[str]) -> None:
        """What was received goes to the devices it is for, also after a failure: the next call goes on from there."""
        for index, condition in enumerate(conditions):
            if condition != "kept" and index in self._staged:
                staged, tensor = self._staged[index]
                staged.to(tensor)()
