"""What an all-reduce is, and how it went. Plain objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from ._enums import DataType, DistributionHint, QuantizationAlgorithm, ReduceOp


@dataclass
class ReduceOperandDescriptor:
    datatype: DataType
    distribution_hint: DistributionHint = DistributionHint.NONE
    """Accepted, and of no consequence."""


@dataclass
class QuantizationOptions:
    """What travels instead of the elements. The type does not count where the algorithm is NONE."""

    quantized_datatype: DataType = DataType.UINT8
    algorithm: QuantizationAlgorithm = QuantizationAlgorithm.MIN_MAX


def _unquantized() -> QuantizationOptions:
    return QuantizationOptions(algorithm=QuantizationAlgorithm.NONE)


@dataclass
class ReduceDescriptor:
    """Must be the same at every peer. `count` is the number of elements."""

    count: int
    op: ReduceOp
    tag: int
    operand_descriptor: Optional[ReduceOperandDescriptor] = None
    quantization_options: Optional[QuantizationOptions] = field(default_factory=_unquantized)


class ReduceOpDescriptor:
    """One all-reduce of a list: its tensors and what it is. `residual` as in `Communicator.all_reduce`."""

    def __init__(self, send: Any, recv: Any, reduce_descriptor: ReduceDescriptor, *, residual: Any = None) -> None:
        self.send = send
        self.recv = recv
        self.reduce_descriptor = reduce_descriptor
        self.residual = residual

    @classmethod
    def from_torch(
        cls, send: Any, recv: Any, reduce_descriptor: ReduceDescriptor, *, residual: Any = None
    ) -> ReduceOpDescriptor:
        return cls(send, recv, reduce_descriptor, residual=residual)

    @classmethod
    def from_numpy(
        cls, send: Any, recv: Any, reduce_descriptor: ReduceDescriptor, *, residual: Any = None
    ) -> ReduceOpDescriptor:
        return cls(send, recv, reduce_descriptor, residual=residual)


@dataclass
class ReduceInfo:
    """Peers of the group that took part; payload this peer sent and received."""

    local_world_size: int
    tx_bytes: int
    rx_bytes: int


@dataclass
class SharedStateSyncInfo:
    """Content of tensors this peer sent and received, in whole blocks; 0 where nothing was needed."""

    tx_bytes: int
    rx_bytes: int
