"""Arrays of JAX: they are sent as they lie, and nothing is ever written to them."""

import pytest
from conftest import each

import pccl

jax = pytest.importorskip("jax")
numpy = pytest.importorskip("numpy")
jnp = jax.numpy


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "uint32", "int32"])
def test_arrays_are_sent_and_the_sum_comes_into_another_buffer(two, dtype):
    sent = [jnp.arange(6, dtype=dtype).reshape(2, 3) + index for index in range(2)]
    received = [numpy.zeros((2, 3), dtype) for _ in two]
    each(two, lambda peer, i: peer.all_reduce(sent[i], received[i]))
    assert received[0].tolist() == received[1].tolist() == [[1, 3, 5], [7, 9, 11]]
    assert sent[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    # And back.
    assert (jnp.asarray(received[0]) == sent[0] + sent[1]).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_is_written_to_an_array(two, dtype):
    peer, array = two[0], jnp.ones(4, dtype)
    for call in (
        lambda: peer.all_reduce(array),
        lambda: peer.all_reduce(numpy.ones(4, dtype), array),
        lambda: pccl.TensorInfo.from_buffer(array, "array"),
    ):
        with pytest.raises(ValueError, match="read-only"):
            call()
    if dtype == "float32":
        with pytest.raises(ValueError, match="residual is read-only"):
            peer.all_reduce(numpy.ones(4, dtype), quantize="u8", residual=array)
    assert array.tolist() == [1] * 4


def test_what_is_computed_meanwhile_is_waited_for(two):
    def slow(x):
        return jax.lax.fori_loop(0, 200, lambda _, y: jnp.tanh(y @ y), x).sum(keepdims=True) * 0 + 3

    results = [jax.jit(slow)(jnp.ones((200, 200))) for _ in two]
    received = [numpy.zeros((1, 1), "float32") for _ in two]
    each(two, lambda peer, i: peer.all_reduce(results[i], received[i]))
    assert received[0].item() == received[1].item() == 6


def test_what_has_no_value_yet_is_refused(two):
    def traced(x):
        two[0].all_reduce(x, numpy.zeros(3, "float32"))
        return x

    with pytest.raises(jax.errors.ConcretizationTypeError):
        jax.jit(traced)(jnp.ones(3))
