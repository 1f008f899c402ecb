"""From a Python object to the place its elements lie at."""

import ctypes
import enum
import sys


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


_FOREIGN_ORDER = ">" if sys.byteorder == "little" else "<"

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

_BY_TORCH = {
    "torch.uint8": DataType.UINT8,
    "torch.int8": DataType.INT8,
    "torch.int16": DataType.INT16,
    "torch.uint16": DataType.UINT16,
    "torch.uint32": DataType.UINT32,
    "torch.int32": DataType.INT32,
    "torch.uint64": DataType.UINT64,
    "torch.int64": DataType.INT64,
    "torch.float16": DataType.FLOAT16,
    "torch.bfloat16": DataType.BFLOAT16,
    "torch.float32": DataType.FLOAT,
    "torch.float64": DataType.DOUBLE,
}


def operands(send, recv):
    """Address of both, number of elements, their type, and what must stay alive meanwhile."""
    send_at, count, dtype, send_kept = _place(send, "send", writable=send is recv)
    if send is recv:
        return send_at, send_at, count, dtype, (send_kept,)
    recv_at, recv_count, recv_dtype, recv_kept = _place(recv, "recv", writable=True)
    if (recv_count, recv_dtype) != (count, dtype):
        raise ValueError(
            f"send has {count} elements of {dtype.name}, recv has {recv_count} of {recv_dtype.name}: they must be alike"
        )
    return send_at, recv_at, count, dtype, (send_kept, recv_kept)


def _place(value, name, writable):
    if hasattr(value, "data_ptr"):
        place = _torch(value, name)
    elif hasattr(value, "__array_interface__"):
        place = _array(value, name, writable)
    else:
        place = _buffer(value, name)
    if place[1] == 0:
        raise ValueError(f"{name} has no elements")
    return place


def _torch(tensor, name):
    if tensor.device.type != "cpu":
        raise ValueError(f"{name} is on {tensor.device}; this version needs a tensor on the cpu")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} is not contiguous: pass {name}.contiguous()")
    dtype = _BY_TORCH.get(str(tensor.dtype))
    if dtype is None:
        raise TypeError(f"{name} has elements of {tensor.dtype}, which cannot be reduced")
    return tensor.data_ptr(), tensor.numel(), dtype, tensor


def _array(array, name, writable):
    interface = array.__array_interface__
    if interface.get("strides") is not None:
        raise ValueError(f"{name} is not C-contiguous")
    address, read_only = interface["data"]
    if writable and read_only:
        raise ValueError(f"{name} is read-only; the result is written there")
    order, kind = interface["typestr"][0], interface["typestr"][1:]
    dtype = _BY_KIND.get(kind)
    if dtype is None or order == _FOREIGN_ORDER:
        raise TypeError(f"{name} has elements of {interface['typestr']}, which cannot be reduced")
    count = 1
    for length in interface["shape"]:
        count *= length
    return address, count, dtype, array


def _buffer(value, name):
    try:
        view = memoryview(value)
    except TypeError:
        raise TypeError(
            f"{name} is a {type(value).__name__}; a torch tensor, a numpy array or a writable buffer is needed"
        ) from None
    if view.readonly:
        raise ValueError(f"{name} is a read-only buffer: pass a writable one, as bytearray or array.array")
    if not view.c_contiguous:
        raise ValueError(f"{name} is not C-contiguous")
    code = view.format.lstrip("@=")
    kind = "f" if code in ("e", "f", "d") else "i" if code in ("b", "h", "i", "l", "q") else "u"
    dtype = _BY_KIND.get(f"{kind}{view.itemsize}") if code in tuple("bBhHiIlLqQefd") else None
    if dtype is None:
        raise TypeError(f"{name} has elements of format {view.format!r}, which cannot be reduced")
    if view.nbytes == 0:
        return 0, 0, dtype, value
    # Holds the buffer: a bytearray cannot be resized while this lives.
    kept = (ctypes.c_char * view.nbytes).from_buffer(value)
    return ctypes.addressof(kept), view.nbytes // view.itemsize, dtype, kept
