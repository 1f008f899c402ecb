"""From a Python object to the place its elements lie at. What cannot be reduced is refused here, in words."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, NamedTuple, Optional

from ._enums import DataType
from ._pccl import dlpack


class Place(NamedTuple):
    address: int
    count: int  # type: ignore[assignment]
    dtype: DataType
    read_only: bool
    owner: Any
    """Holds the memory."""
    device: Any
    """A torch device where the memory is not the host's, else None."""


_OWN_ORDER, _FOREIGN_ORDER = ("<", ">") if sys.byteorder == "little" else (">", "<")

# Kind and bytes of an element, as `__array_interface__` writes them.
_BY_KIND = {
    "u1": DataType.UINT8,
    "i1": DataType.INT8,
    "i2": DataType.INT16,
    "u2": DataType.UINT16,
    "u4": DataType.UINT32,
    "i4": DataType.INT32,
    "u8": DataType.UINT64,
    "i8": DataType.INT64,
    "f2": DataType.FLOAT16,
    "f4": DataType.FLOAT,
    "f8": DataType.DOUBLE,
}

# Codes of DLPack's types.
_DL_INT, _DL_UINT, _DL_FLOAT, _DL_BFLOAT = 0, 1, 2, 4
_DL_KINDS = {_DL_INT: "i", _DL_UINT: "u", _DL_FLOAT: "f"}
# Devices whose memory the host may touch: CPU, and pinned memory of CUDA and ROCm.
_DL_HOST_DEVICES = (1, 3, 11)

# torch's dtype objects, as they are met.
_torch_dtypes: dict[Any, DataType] = {}


def place(value: Any, name: str) -> Place:
    """`name` is what messages call it."""
    if hasattr(value, "data_ptr") and hasattr(value, "is_contiguous"):
        return _torch(value, name)
    if hasattr(value, "__array_interface__"):
        return _array(value, name)
    if hasattr(value, "__dlpack__"):
        return _dlpack(value, name)
    return _buffer(value, name)


def _torch(tensor: Any, name: str) -> Place:
    if hasattr(tensor, "to_local"):
        raise TypeError(f"{name} is a {type(tensor).__name__}, spread over several ranks: pass {name}.to_local()")
    device = tensor.device
    kind = device.type
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"{name} is on {device}; a tensor on the cpu or a cuda device is needed")
    if str(tensor.layout) != "torch.strided":
        raise ValueError(f"{name} is {tensor.layout}; a dense tensor is needed")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} is not C-contiguous: pass {name}.contiguous()")
    if tensor.is_neg() or tensor.is_conj():
        raise ValueError(f"{name} is a view that negates or conjugates: pass {name}.resolve_neg().resolve_conj()")
    dtype = _torch_dtypes.get(tensor.dtype)
    if dtype is None:
        try:
            dtype = _torch_dtypes[tensor.dtype] = DataType.from_torch_dtype(tensor.dtype)
        except TypeError:
            raise TypeError(f"{name} has elements of {tensor.dtype}, which cannot be reduced") from None
    address, count = tensor.data_ptr(), tensor.numel()
    if address == 0 and count > 0:
        raise ValueError(f"{name} has no memory: its storage was freed or resized")
    # An alias holds the memory itself: the object may get another one meanwhile (`p.data = …`, `model.half()`).
    return Place(address, count, dtype, False, tensor.detach(), None if kind == "cpu" else device)


def _array(array: Any, name: str) -> Place:
    interface = array.__array_interface__
    typestr = interface["typestr"]
    dtype = _BY_KIND.get(typestr[1:])
    if dtype is None and getattr(getattr(array, "dtype", None), "name", None) == "bfloat16":
        dtype = DataType.BFLOAT16
    if dtype is None or typestr[0] == _FOREIGN_ORDER:
        raise TypeError(f"{name} has elements of {typestr}, which cannot be reduced")
    count, strides = 1, interface.get("strides")
    for axis in reversed(range(len(interface["shape"]))):
        length = interface["shape"][axis]
        if strides is not None and length > 1 and strides[axis] != count * dtype.size_bytes:
            raise ValueError(f"{name} is not C-contiguous: pass a contiguous copy")
        count *= length
    data = interface.get("data")
    if isinstance(data, tuple):
        return Place(data[0], count, dtype, bool(data[1]), array, None)
    # The protocol's other way: an object with a buffer, the array itself if there is none, and where in it to begin.
    return _within(array if data is None else data, interface.get("offset", 0), count, dtype, name)


def _dlpack(value: Any, name: str) -> Place:
    device = value.__dlpack_device__() if hasattr(value, "__dlpack_device__") else (1, 0)
    if int(device[0]) not in _DL_HOST_DEVICES:
        raise ValueError(f"{name} is on device {tuple(map(int, device))} of DLPack; memory of the host is needed")
    try:
        capsule = value.__dlpack__(max_version=(1, 0))
    except TypeError:
        # From before versions.
        capsule = value.__dlpack__()
    address, count, contiguous, code, bits, lanes, _, read_only = dlpack(capsule)
    if not contiguous:
        raise ValueError(f"{name} is not C-contiguous: pass a contiguous copy")
    dtype = _BY_KIND.get(f"{_DL_KINDS.get(code)}{bits // 8}") if lanes == 1 and bits % 8 == 0 else None
    if (code, bits, lanes) == (_DL_BFLOAT, 16, 1):
        dtype = DataType.BFLOAT16
    if dtype is None:
        raise TypeError(f"{name} has elements of DLPack type {code} with {bits} bits, which cannot be reduced")
    return Place(address, count, dtype, read_only or _is_immutable(value), (capsule, value), None)


def _is_immutable(value: Any) -> bool:
    """Also where the capsule does not say so: those without a version cannot. JAX's arrays are shared by whatever was computed
    from them, and of some of their types there is no buffer that could tell."""
    if type(value).__module__.partition(".")[0] in ("jax", "jaxlib"):
        return True
    try:
        return memoryview(value).readonly
    except (TypeError, ValueError, BufferError):
        return False


def _buffer(value: Any, name: str) -> Place:
    try:
        view = memoryview(value)
    except TypeError:
        raise TypeError(
            f"{name} is a {type(value).__name__}; a torch tensor, a numpy array or another buffer is needed"
        ) from None
    if not view.c_contiguous:
        raise ValueError(f"{name} is not C-contiguous")
    dtype = _format_dtype(view)
    if dtype is None:
        raise TypeError(f"{name} has elements of format {view.format!r}, which cannot be reduced")
    return _within(view, 0, view.nbytes // view.itemsize, dtype, name)


def _within(source: Any, offset: int, count: int, dtype: DataType, name: str) -> Place:
    """So many elements of a buffer, from a byte of it on."""
    try:
        view = memoryview(source)
    except TypeError:
        raise TypeError(f"{name} says that its memory is a {type(source).__name__}, which has no buffer") from None
    size = count * dtype.size_bytes
    if not view.c_contiguous or not 0 <= offset <= offset + size <= view.nbytes:
        raise ValueError(f"{name} is {size} bytes from byte {offset} on of a buffer that does not hold them")
    if size == 0:
        return Place(0, 0, dtype, view.readonly, source, None)
    if view.readonly:
        # Its address cannot be had; a copy does where it is only read.
        owner: Any = (ctypes.c_char * size).from_buffer_copy(view, offset)
    else:
        # Holds the buffer: a bytearray cannot be resized while this lives.
        owner = (ctypes.c_char * size).from_buffer(view, offset)
    return Place(ctypes.addressof(owner), count, dtype, view.readonly, owner, None)


def _format_dtype(view: memoryview) -> Optional[DataType]:
    code = view.format
    if len(code) == 2 and (code[0] in ("@", "=", _OWN_ORDER) or view.itemsize == 1):
        code = code[1]
    if code not in ("b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f", "d"):
        return None
    kind = "f" if code in ("e", "f", "d") else "i" if code.islower() else "u"
    return _BY_KIND.get(f"{kind}{view.itemsize}")
