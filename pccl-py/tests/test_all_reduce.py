"""All-reduces over every kind of memory, and what is refused before anything is sent."""

import array
import ctypes
import gc
import multiprocessing
import sys
import weakref

import pytest
from conftest import each, together

import pccl

numpy = None
try:
    import numpy
except ImportError:
    pass


def test_sums_are_the_same_at_both(two):
    inputs = [array.array("f", [rank + i / 2 for i in range(1000)]) for rank in (1, 2)]
    outputs = [array.array("f", bytes(4000)) for _ in inputs]
    infos = each(two, lambda peer, i: peer.all_reduce(inputs[i], outputs[i], op=pccl.ReduceOp.SUM, tag=7))
    assert list(outputs[0]) == [3.0 + i for i in range(1000)]
    assert outputs[0].tobytes() == outputs[1].tobytes()
    assert inputs[1][0] == 2.0
    assert [info.local_world_size for info in infos] == [2, 2]
    assert infos[0].tx_bytes > 0 and infos[0].rx_bytes > 0


@pytest.mark.parametrize(("code", "values"), [("q", [5, -7, 1 << 40]), ("B", [1, 2, 3]), ("d", [0.5, -0.25, 1e300])])
def test_in_place_and_other_types(two, code, values):
    buffers = [array.array(code, values), array.array(code, values)]
    each(two, lambda peer, i: peer.all_reduce(buffers[i], op=pccl.ReduceOp.MAX))
    assert [list(buffer) for buffer in buffers] == [values, values]


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (pccl.ReduceOp.SUM, 8.0),
        (pccl.ReduceOp.AVG, 4.0),
        (pccl.ReduceOp.PROD, 12.0),
        (pccl.ReduceOp.MAX, 6.0),
        (pccl.ReduceOp.MIN, 2.0),
    ],
)
def test_each_operation(two, op, expected):
    buffers = [array.array("d", [2.0]), array.array("d", [6.0])]
    each(two, lambda peer, i: peer.all_reduce(buffers[i], op=op))
    assert [buffer[0] for buffer in buffers] == [expected, expected]


def test_a_bytearray_and_a_read_only_send(two):
    outputs = [bytearray(3), bytearray(3)]
    each(two, lambda peer, i: peer.all_reduce(bytes([1, 2, 250]), outputs[i]))
    assert outputs == [bytearray([2, 4, 244])] * 2


def test_disagreement_is_an_error_at_both(two):
    def reduce(peer, index):
        with pytest.raises(pccl.PCCLError) as caught:
            peer.all_reduce(array.array("f", [1.0] * (10 + index)), tag=3)
        assert caught.value.result is pccl.Result.INVALID_ARGUMENT

    each(two, reduce)


def test_what_does_not_fit_is_refused_before_anything_is_sent(two):
    peer = two[0]
    f, d = array.array("f", [1.0]), array.array("d", [1.0])
    before = peer.group_world_size
    with pytest.raises(TypeError, match="FLOAT.*DOUBLE.*must be alike"):
        peer.all_reduce(f, d)
    with pytest.raises(ValueError, match="1 elements.*2.*must be alike"):
        peer.all_reduce(f, array.array("f", [1.0, 2.0]))
    with pytest.raises(ValueError, match="read-only"):
        peer.all_reduce(b"abcd")
    with pytest.raises(ValueError, match="recv is read-only"):
        peer.all_reduce(bytearray(4), bytes(4))
    with pytest.raises(ValueError, match="no elements"):
        peer.all_reduce(bytearray())
    with pytest.raises(TypeError, match="list"):
        peer.all_reduce([1.0])
    with pytest.raises(TypeError, match="format"):
        peer.all_reduce(memoryview(bytearray(4)).cast("?"))
    with pytest.raises(ValueError, match="overlap"):
        whole = memoryview(bytearray(8))
        peer.all_reduce(whole[:6], whole[2:])
    with pytest.raises(ValueError, match="contiguous"):
        peer.all_reduce(memoryview(bytearray(8))[::2])
    with pytest.raises(ValueError, match="tag"):
        peer.all_reduce(f, tag=-1)
    with pytest.raises(ValueError):
        peer.all_reduce(f, op=17)
    with pytest.raises(TypeError, match="operand_descriptor says DOUBLE"):
        peer.all_reduce(f, operand_descriptor=pccl.ReduceOperandDescriptor(pccl.DataType.DOUBLE))
    with pytest.raises(ValueError, match="'u8'"):
        peer.all_reduce(f, quantize="u7")
    with pytest.raises(ValueError, match="one of them"):
        peer.all_reduce(f, quantize="u8", quantization_options=pccl.QuantizationOptions())
    wrong = pccl.ReduceDescriptor(count=2, op=pccl.ReduceOp.SUM, tag=0)
    with pytest.raises(ValueError, match="count is 2"):
        peer.all_reduce_multiple_with_retry([pccl.ReduceOpDescriptor(f, f, wrong)])
    # Nobody else has heard of any of these.
    buffers = [array.array("f", [1.0]), array.array("f", [1.0])]
    each(two, lambda peer, i: peer.all_reduce(buffers[i]))
    assert buffers[0][0] == 2.0 and peer.group_world_size == before


def test_a_resized_bytearray_is_impossible_meanwhile(two):
    data = [bytearray(1000), bytearray(1000)]
    handle = two[0].all_reduce_async(data[0])
    with pytest.raises(BufferError):
        data[0].extend(b"more")
    together(lambda: two[1].all_reduce(data[1]), handle.wait)


def test_the_operand_and_unused_quantization_of_older_scripts_are_accepted(two):
    buffers = [array.array("f", [1.0]), array.array("f", [2.0])]
    each(
        two,
        lambda peer, i: peer.all_reduce(
            buffers[i],
            buffers[i],
            op=pccl.ReduceOp.SUM,
            operand_descriptor=pccl.ReduceOperandDescriptor(
                datatype=pccl.DataType.FLOAT, distribution_hint=pccl.DistributionHint.NORMAL
            ),
            quantization_options=pccl.QuantizationOptions(
                quantized_datatype=pccl.DataType.FLOAT, algorithm=pccl.QuantizationAlgorithm.NONE
            ),
        ),
    )
    assert buffers[0][0] == 3.0


def test_a_list_is_reduced_whole(two):
    def described(rank):
        tensors = [array.array("f", [float(rank + tag)] * (tag + 1)) for tag in range(20)]
        what = [pccl.ReduceDescriptor(count=tag + 1, op=pccl.ReduceOp.SUM, tag=tag) for tag in range(20)]
        return tensors, [pccl.ReduceOpDescriptor.from_numpy(t, t, w) for t, w in zip(tensors, what)]

    both = [described(rank) for rank in (0, 1)]
    infos = each(two, lambda peer, i: peer.all_reduce_multiple_with_retry(both[i][1], max_in_flight=4))
    assert infos[0].local_world_size == 2 and infos[0].tx_bytes > 0
    for tag in range(20):
        assert list(both[0][0][tag]) == [2.0 * tag + 1] * (tag + 1)
        assert both[0][0][tag] == both[1][0][tag]


def test_memory_goes_when_nobody_needs_it(two):
    class Owned(bytearray):
        """Can be referred to weakly."""

    gone = []
    for index in range(2):
        data = Owned(100)
        gone.append(weakref.ref(data))
        handle = two[0].all_reduce_async(data, tag=index)
        del data
        gc.collect()
        assert gone[index]() is not None, "the handle holds it"
        together(lambda tag=index: two[1].all_reduce(bytearray(100), tag=tag), handle.wait)
        del handle
        gc.collect()
        assert gone[index]() is None


@pytest.mark.skipif(numpy is None, reason="numpy is not installed")
class TestNumpy:
    def test_every_type(self, two):
        for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"):
            arrays = [numpy.full((4, 5), rank, dtype=dtype) for rank in (1, 2)]
            each(two, lambda peer, i, arrays=arrays: peer.all_reduce(arrays[i]))
            assert (arrays[0] == 3).all() and (arrays[1] == 3).all()

    def test_wrong_arrays_are_refused(self, two):
        peer = two[0]
        with pytest.raises(ValueError, match="contiguous"):
            peer.all_reduce(numpy.zeros((4, 4)).T[1:])
        with pytest.raises(TypeError, match="cannot be reduced"):
            peer.all_reduce(numpy.zeros(4, dtype=">f4"))
        with pytest.raises(TypeError, match="cannot be reduced"):
            peer.all_reduce(numpy.zeros(4, dtype=numpy.complex64))
        fixed = numpy.zeros(4)
        fixed.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            peer.all_reduce(fixed)

    def test_dlpack_alone_is_enough(self, two):
        class Only:
            def __init__(self, array):
                self.array = array

            def __dlpack__(self, **options):
                return self.array.__dlpack__(**options)

            def __dlpack_device__(self):
                return self.array.__dlpack_device__()

        arrays = [numpy.arange(6, dtype=numpy.int16).reshape(2, 3) for _ in two]
        each(two, lambda peer, i: peer.all_reduce(Only(arrays[i])))
        assert arrays[0].ravel().tolist() == [0, 2, 4, 6, 8, 10]
        with pytest.raises(ValueError, match="contiguous"):
            two[0].all_reduce(Only(numpy.zeros((4, 4)).T))
        with pytest.raises(TypeError, match="DLPack type"):
            two[0].all_reduce(Only(numpy.zeros(4, dtype=numpy.complex64)))

    def test_array_interface_alone_is_enough(self, two):
        class Only:
            def __init__(self, array):
                self.array = array
                self.__array_interface__ = array.__array_interface__

        arrays = [numpy.ones(3) for _ in two]
        each(two, lambda peer, i: peer.all_reduce(Only(arrays[i])))
        assert arrays[1].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("quantize", "share", "error"),
    [
        ("u8", 0.26, 0.02),
        ("i8", 0.26, 0.02),
        ("u16", 0.51, 0.0001),
        ("i16", 0.51, 0.0001),
        ("4bit", 0.13, 0.3),
        ("fp8_e4m3", 0.26, 0.2),
        ("fp8_e5m2", 0.26, 0.4),
        ("f16", 0.51, 0.002),
        ("bf16", 0.51, 0.02),
    ],
)
def test_quantized_sums_are_the_same_bits_and_close(two, quantize, share, error):
    count = 50_000
    values = [[((at * 37 + index) % 1000) / 500 - 1 for at in range(count)] for index in range(2)]
    tensors = [array.array("f", own) for own in values]
    infos = each(two, lambda peer, index: peer.all_reduce(tensors[index], quantize=quantize))
    assert tensors[0].tobytes() == tensors[1].tobytes()
    assert max(abs(found - a - b) for found, a, b in zip(tensors[0], *values)) <= error
    assert all(info.tx_bytes <= share * 4 * count for info in infos)


def test_quantization_of_integers_is_refused_in_words(two):
    with pytest.raises(pccl.PCCLError, match="integers") as raised:
        two[0].all_reduce(bytearray(8), quantize="u8")
    assert raised.value.result is pccl.Result.INVALID_ARGUMENT


def test_a_residual_is_added_and_holds_what_was_lost(two):
    values = [array.array("f", [(at % 97) * 0.013 * (1 + i) for at in range(5000)]) for i in range(2)]
    residuals = [array.array("f", bytes(20_000)) for _ in two]
    exact = [a + b for a, b in zip(*values)]

    def mean_off(with_residual):
        total = [0.0] * 5000
        for _ in range(32):
            data = [array.array("f", own) for own in values]
            each(two, lambda peer, i: peer.all_reduce(
                data[i], quantize="4bit", residual=residuals[i] if with_residual else None))
            assert data[0] == data[1]
            total = [so_far + one / 32 for so_far, one in zip(total, data[0])]
        return max(abs(mean - right) for mean, right in zip(total, exact))

    without, with_it = mean_off(False), mean_off(True)
    assert any(residuals[0]) and any(residuals[1])
    assert with_it < without / 5, (with_it, without)


def test_a_residual_is_kept_alive_by_the_handle_and_only_one_peer_may_have_one(two):
    data = [array.array("f", [1.0, 2.0, 3.3]) for _ in two]
    residual = bytearray(12)
    owed = memoryview(residual).cast("f")
    handle = two[0].all_reduce_async(data[0], quantize="u8", residual=owed)
    del owed
    gc.collect()
    with pytest.raises(BufferError):
        residual.extend(b"more")
    together(handle.wait, lambda: two[1].all_reduce(data[1], quantize="u8"))
    assert handle.wait()[0] and data[0] == data[1]


def test_a_residual_that_does_not_fit_is_refused_before_anything_is_sent(two):
    peer, f = two[0], array.array("f", [1.0, 2.0])
    owed = array.array("f", [0.0, 0.0])
    for options, reason in [
        ({"residual": owed}, "nothing is quantized"),
        ({"residual": array.array("f", [0.0]), "quantize": "u8"}, "2 elements, residual has 1"),
        ({"residual": bytes(8), "quantize": "u8"}, "read-only|UINT8"),
        ({"residual": owed, "quantize": "u8", "op": pccl.ReduceOp.MAX}, "sums and averages"),
        ({"residual": owed, "quantize": "u8", "recv": array.array("f", [0.0, 0.0])}, "in place"),
        ({"residual": f, "quantize": "u8"}, "memory of its own"),
    ]:
        for call in (peer.all_reduce, peer.all_reduce_async):
            with pytest.raises((ValueError, TypeError), match=reason):
                call(f, **options)
    with pytest.raises(TypeError, match="residual of DOUBLE"):
        peer.all_reduce(f, quantize="u8", residual=array.array("d", [0.0, 0.0]))
    # Nobody else has heard of any of these.
    buffers = [array.array("f", [1.0]), array.array("f", [1.0])]
    each(two, lambda peer, i: peer.all_reduce(buffers[i]))
    assert buffers[0][0] == 2.0


@pytest.mark.parametrize("kind", [ctypes.c_float, ctypes.c_int64, ctypes.c_uint8, ctypes.c_double, ctypes.c_long])
def test_arrays_of_ctypes(two, kind):
    arrays = [(kind * 4)(1, 2, 3, 4) for _ in two]
    each(two, lambda peer, i: peer.all_reduce(arrays[i]))
    assert list(arrays[0]) == [2, 4, 6, 8]


def test_shared_memory_of_multiprocessing(two):
    arrays = [multiprocessing.Array("d", [1.0, 2.0], lock=False) for _ in two]
    each(two, lambda peer, i: peer.all_reduce(arrays[i]))
    assert list(arrays[1]) == [2.0, 4.0]


def test_a_foreign_byte_order_is_refused(two):
    foreign = ctypes.c_float.__ctype_be__ if sys.byteorder == "little" else ctypes.c_float.__ctype_le__
    with pytest.raises(TypeError, match="format"):
        two[0].all_reduce((foreign * 4)())


class Interface:
    """Nothing but `__array_interface__`."""

    def __init__(self, **interface):
        self.__array_interface__ = {"version": 3, **interface}


def test_an_array_interface_may_name_a_buffer_and_where_in_it_to_begin(two):
    held = [bytearray(4) + array.array("f", [1.0, 2.0]).tobytes() + bytearray(2) for _ in two]
    arrays = [Interface(data=one, offset=4, shape=(2,), typestr="<f4") for one in held]
    each(two, lambda peer, i: peer.all_reduce(arrays[i]))
    assert held[0] == held[1] == bytearray(4) + array.array("f", [2.0, 4.0]).tobytes() + bytearray(2)


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (b"ab", {}, "bytes from byte 0 on"),
        (b"abcd" * 2, {}, "read-only"),
        (bytearray(8), {"offset": 4}, "from byte 4 on"),
        (bytearray(8), {"offset": -4}, "from byte -4 on"),
        (object(), {}, "no buffer"),
        (7, {}, "no buffer"),
    ],
)
def test_what_is_no_address_is_not_taken_for_one(two, data, options, reason):
    with pytest.raises((TypeError, ValueError), match=reason):
        two[0].all_reduce(Interface(data=data, shape=(2,), typestr="<f4", **options))
