"""From the arguments of an all-reduce to what `_pccl` takes; everything that does not fit is refused here."""

from __future__ import annotations

from typing import Any, Callable, Optional, Union

from ._descriptors import QuantizationOptions, ReduceOpDescriptor, ReduceOperandDescriptor
from ._enums import DataType, QuantizationAlgorithm, ReduceOp
from ._places import Place, place
from ._staging import Staged

# The short forms.
_QUANTIZED = {
    "u8": (QuantizationAlgorithm.MIN_MAX, DataType.UINT8),
    "i8": (QuantizationAlgorithm.MIN_MAX, DataType.INT8),
    "u16": (QuantizationAlgorithm.MIN_MAX, DataType.UINT16),
    "i16": (QuantizationAlgorithm.MIN_MAX, DataType.INT16),
    "4bit": (QuantizationAlgorithm.BITS4, DataType.UINT8),
    "fp8_e4m3": (QuantizationAlgorithm.FLOAT8_E4M3, DataType.UINT8),
    "fp8_e5m2": (QuantizationAlgorithm.FLOAT8_E5M2, DataType.UINT8),
    "f16": (QuantizationAlgorithm.FLOAT16, DataType.UINT8),
    "bf16": (QuantizationAlgorithm.BFLOAT16, DataType.UINT8),
}
_MAX_TAG = (1 << 64) - 1


class Reduction:
    """`operation` and `owner` are for `_pccl`; `finish` brings the result to where it belongs."""

    __slots__ = ("operation", "owner", "finish")

    def __init__(
        self,
        send: Any,
        recv: Any,
        op: Union[ReduceOp, int],
        tag: int,
        operand: Optional[ReduceOperandDescriptor],
        quantization: Optional[QuantizationOptions],
        residual: Any = None,
    ) -> None:
        send_at = place(send, "send")
        recv_at = send_at if recv is None or recv is send else place(recv, "recv")
        _check(send_at, recv_at, operand)
        if not 0 <= tag <= _MAX_TAG:
            raise ValueError(f"tag is {tag}: a whole number of 64 bits is needed")
        self.finish: Optional[Callable[[], None]] = None
        self.owner: Any = (send_at.owner, recv_at.owner)
        algorithm, quantized = _codes(quantization)
        residual_at = None if residual is None else place(residual, "residual")
        if residual_at is not None:
            _check_residual(send_at, recv_at, residual_at, algorithm, ReduceOp(op))
            self.owner = (*self.owner, residual_at.owner)
        if send_at.device is not None:
            staged = Staged(send)
            self.owner, self.finish = (staged, send, recv), staged.to(send if recv is None else recv)
            send_at = recv_at = place(staged.host, "send")
            if residual_at is not None:
                owed = Staged(residual)
                self.owner, self.finish = (*self.owner, owed, residual), _both(self.finish, owed.to(residual))
                residual_at = place(owed.host, "residual")
        self.operation = (
            send_at.address,
            recv_at.address,
            send_at.count,
            send_at.dtype.value,
            (op if type(op) is ReduceOp else ReduceOp(op)).value,
            tag,
            algorithm,
            quantized,
            0 if residual_at is None else residual_at.address,
        )


def of_descriptor(descriptor: ReduceOpDescriptor) -> Reduction:
    what = descriptor.reduce_descriptor
    reduction = Reduction(
        descriptor.send,
        descriptor.recv,
        what.op,
        what.tag,
        what.operand_descriptor,
        what.quantization_options,
        descriptor.residual,
    )
    if reduction.operation[2] != what.count:
        raise ValueError(f"tag {what.tag}: count is {what.count}, the tensors have {reduction.operation[2]} elements")
    return reduction


def quantization(options: Optional[QuantizationOptions], quantize: Optional[str]) -> Optional[QuantizationOptions]:
    """`quantize` is the short form."""
    if quantize is None:
        return options
    if options is not None:
        raise ValueError("quantize and quantization_options say the same thing: give one of them")
    if quantize not in _QUANTIZED:
        raise ValueError(f"quantize is {quantize!r}: one of {', '.join(map(repr, _QUANTIZED))} is needed")
    algorithm, quantized = _QUANTIZED[quantize]
    return QuantizationOptions(quantized, algorithm)


def _codes(options: Optional[QuantizationOptions]) -> tuple[int, int]:
    if options is None or options.algorithm is QuantizationAlgorithm.NONE:
        return 0, 0
    return QuantizationAlgorithm(options.algorithm).value, DataType(options.quantized_datatype).value


def _check(send: Place, recv: Place, operand: Optional[ReduceOperandDescriptor]) -> None:
    if send.count == 0:
        raise ValueError("send has no elements")
    if recv.read_only:
        raise ValueError("recv is read-only; the result is written there" if recv is not send else
                         "send is read-only; in place the result is written there: pass a writable recv")
    if recv is not send:
        if recv.dtype is not send.dtype:
            raise TypeError(f"send has elements of {send.dtype.name}, recv of {recv.dtype.name}: they must be alike")
        if recv.count != send.count:
            raise ValueError(f"send has {send.count} elements, recv has {recv.count}: they must be alike")
        if recv.device != send.device:
            raise ValueError(f"send is on {send.device or 'cpu'}, recv on {recv.device or 'cpu'}: one device is needed")
    if operand is not None and DataType(operand.datatype) is not send.dtype:
        raise TypeError(
            f"operand_descriptor says {DataType(operand.datatype).name}, the tensors have {send.dtype.name}"
        )


def _check_residual(send: Place, recv: Place, residual: Place, algorithm: int, op: ReduceOp) -> None:
    if op not in (ReduceOp.SUM, ReduceOp.AVG):
        raise ValueError(f"residual is for sums and averages; of {op.name} what one loses cannot be added to the next")
    if recv.address != send.address:
        raise ValueError("residual is for operations in place: leave recv out")
    if algorithm == 0:
        raise ValueError("residual is of no use here: nothing is lost where nothing is quantized")
    if residual.read_only:
        raise ValueError("residual is read-only; what quantization loses is written there")
    if residual.dtype is not send.dtype:
        raise TypeError(f"send has elements of {send.dtype.name}, residual of {residual.dtype.name}: they must be alike")
    if residual.count != send.count:
        raise ValueError(f"send has {send.count} elements, residual has {residual.count}: they must be alike")
    if residual.device != send.device:
        raise ValueError(
            f"send is on {send.device or 'cpu'}, residual on {residual.device or 'cpu'}: one device is needed"
        )


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def finish() -> None:
        first()
        second()

    return finish
