"""The numbers of the C API, by name. `_pccl` takes the values as they are."""

from __future__ import annotations

import enum
from typing import Any


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
    """Peers of the run, of all groups."""
    LOCAL_WORLD_SIZE = 2
    """Peers of this peer's group."""
    NUM_DISTINCT_PEER_GROUPS = 3
    LARGEST_PEER_GROUP_WORLD_SIZE = 4


class SharedStateSyncStrategy(enum.Enum):
    ENFORCE_POPULAR = 0
    """What most up-to-date peers hold wins, and replaces every other content."""
    RECEIVE_ONLY = 1
    """Receives, and has no vote."""
    SEND_ONLY = 2
    """Its content must win; it never receives."""


class DeviceType(enum.Enum):
    CPU = 0
    CUDA = 1


class DistributionHint(enum.Enum):
    NONE = 0
    NORMAL = 1
    UNIFORM = 2


class QuantizationAlgorithm(enum.Enum):
    NONE = 0
    MIN_MAX = 1
    ZERO_POINT_SCALE = 2
    # Ours: these have no type of integers, so `quantized_datatype` is ignored.
    BITS4 = 3
    FLOAT8_E4M3 = 4
    FLOAT8_E5M2 = 5
    FLOAT16 = 6
    BFLOAT16 = 7


class DataType(enum.Enum):
    UINT8 = 0
    INT8 = 1
    INT16 = 2
    UINT16 = 3
    UINT32 = 4
    INT32 = 5
    UINT64 = 6
    INT64 = 7
    FLOAT16 = 8
    BFLOAT16 = 9
    FLOAT = 10
    DOUBLE = 11

    @property
    def size_bytes(self) -> int:
        """Of one element."""
        return _SIZES_BYTES[self.value]

    def to_torch_dtype(self) -> Any:
        import torch

        return getattr(torch, _NAMES[self.value])

    @classmethod
    def from_torch_dtype(cls, dtype: Any) -> DataType:
        name = str(dtype)
        found = _BY_NAME.get(name[len("torch.") :]) if name.startswith("torch.") else None
        if found is None:
            raise TypeError(f"{name} is no type that can be reduced")
        return found

    def to_numpy_dtype(self) -> Any:
        import numpy

        if self is DataType.BFLOAT16:
            try:
                import ml_dtypes
            except ImportError:
                raise TypeError("numpy itself has no bfloat16: install ml_dtypes, or use torch") from None
            return numpy.dtype(ml_dtypes.bfloat16)
        return numpy.dtype(_NAMES[self.value])

    @classmethod
    def from_numpy_dtype(cls, dtype: Any) -> DataType:
        import numpy

        found = _BY_NAME.get(numpy.dtype(dtype).name)
        if found is None:
            raise TypeError(f"{dtype} is no type that can be reduced")
        return found


# Index is the value. The names are those of torch and numpy alike.
_NAMES = (
    "uint8",
    "int8",
    "int16",
    "uint16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
)
_SIZES_BYTES = (1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8)
_BY_NAME = {name: DataType(value) for value, name in enumerate(_NAMES)}
