"""What all peers of a group are to hold alike."""

from __future__ import annotations

from typing import Any, Iterable, Optional

from ._enums import DataType, DeviceType
from ._places import place
from ._staging import Staged


class TensorInfo:
    """A named tensor of a shared state. The object it was made from is held, so its memory stays.

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
        self._on_device: Any = None

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
        info._owner = at.owner
        if at.device is not None:
            info.data_ptr, info.numel, info.device_type = at.address, at.count, DeviceType.CUDA
            info._on_device = value
        return info

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
        """What the last synchronization left in each tensor, if it failed too: `kept` what was there, `elected` what all
        hold, or `mixed`, which the next call repairs."""
        left = self._conditions + ["kept"] * (len(self.tensor_infos) - len(self._conditions))
        return {info.name: condition for info, condition in zip(self.tensor_infos, left)}


class Lent:
    """A state during one synchronization: `tensors` and `owner` are for `_pccl`."""

    def __init__(self, state: SharedState) -> None:
        self.tensors = []
        self._staged: list[tuple[Staged, Any]] = []
        for info in state.tensor_infos:
            address: Optional[int] = info.data_ptr
            if info._on_device is not None:
                staged = Staged(info._on_device)
                self._staged.append((staged, info._on_device))
                address = staged.host.data_ptr()
            self.tensors.append((info.name, address, info.numel, info.dtype.value, info.allow_content_inequality))
        self.owner = (list(state.tensor_infos), self._staged)

    def finish(self) -> None:
        """All hold the elected content: it goes to the devices it is for."""
        for staged, tensor in self._staged:
            staged.to(tensor)()
