"""pccl.torch in one process: many tensors in few operations."""

import gc
import weakref

import pytest
from conftest import each

import pccl

torch = pytest.importorskip("torch")
recipes = pytest.importorskip("pccl.torch")


def test_the_recipes_are_imported_when_they_are_asked_for(script):
    text = "import sys, pccl; assert 'torch' not in sys.modules; pccl.torch.DiLoCo; print('torch' in sys.modules)"
    assert script(text).end() == (0, "True\n", "")


def test_an_older_torch_is_refused_in_words(script):
    text = """
import torch, pccl
torch.__version__ = "2.5.1+cpu"
try:
    pccl.torch
except ImportError as error:
    print(error)
"""
    status, out, err = script(text).end()
    assert status == 0 and out.startswith("pccl.torch needs torch 2.6 or later, and this is 2.5.1+cpu."), err


def tensors_of(index):
    return [
        torch.full((3, 5), 1.0 + index),
        torch.full((4, 6), 10.0 * index).t(),
        torch.tensor(2.0 + index, dtype=torch.float64),
        torch.full((100,), 4.0 * index, dtype=torch.bfloat16),
        torch.empty(0),
        torch.arange(7) + index,
    ]


@pytest.mark.parametrize("bucket_bytes", [1, 64, 1 << 20])
def test_many_tensors_are_averaged_in_place(peers_of, bucket_bytes):
    peers = peers_of(3)
    held = [tensors_of(index) for index in range(3)]
    infos = each(peers, lambda p, i: recipes.all_reduce_tensors(p, held[i], bucket_bytes=bucket_bytes))
    assert {info.local_world_size for info in infos} == {3}
    for tensors in held:
        for tensor, expected in zip(tensors, tensors_of(1)):
            assert tensor.shape == expected.shape and torch.equal(tensor, expected)


def test_few_operations_carry_many_tensors(two):
    held = [[torch.ones(10) for _ in range(1000)] for _ in range(2)]
    one = each(two, lambda p, i: recipes.all_reduce_tensors(p, held[i], op=pccl.ReduceOp.SUM))
    # One operation of 40 000 bytes, and nothing else.
    assert all(info.tx_bytes <= 40_000 for info in one)
    assert all(torch.equal(tensor, torch.full((10,), 2.0)) for tensors in held for tensor in tensors)


def test_quantized_tensors_are_the_same_bits_and_integers_stay_exact(two):
    torch.manual_seed(1)
    held = [[torch.randn(5000), torch.arange(10) + 2 * i] for i in range(2)]
    exact = (held[0][0] + held[1][0]) / 2
    each(two, lambda p, i: recipes.all_reduce_tensors(p, held[i], quantize="u8"))
    assert torch.equal(held[0][0], held[1][0]) and torch.equal(held[0][1], torch.arange(10) + 1)
    assert 0 < (held[0][0] - exact).abs().max() < 0.1


def test_alone_nothing_happens(peers_of):
    tensors = tensors_of(3)
    info = recipes.all_reduce_tensors(peers_of(1)[0], tensors)
    assert info == pccl.ReduceInfo(1, 0, 0)
    assert all(torch.equal(tensor, expected) for tensor, expected in zip(tensors, tensors_of(3)))
    assert recipes.all_reduce_tensors(None, []) == pccl.ReduceInfo(1, 0, 0)


DYING = """
import os, sys
import torch, pccl

comm = pccl.Communicator(sys.argv[1])
comm.connect()
print("in", flush=True)
handles = [comm.all_reduce_async(torch.ones(1000), op=pccl.ReduceOp.AVG, tag=tag) for tag in range(3)]
handles[1].wait()
os.kill(os.getpid(), 9)
"""


def test_buckets_that_a_lost_peer_aborts_are_repeated(two, master, torch_script):
    dying = torch_script(DYING, master.address)

    def train(peer, rank):
        while peer.world_size < 3:
            peer.update_topology()
        tensors = [torch.full((1000,), float(rank)) for _ in range(8)]
        info = recipes.all_reduce_tensors(peer, tensors, bucket_bytes=4000, max_in_flight=3)
        return info.local_world_size, [float(tensor[0]) for tensor in tensors], [bool((t == t[0]).all()) for t in tensors]

    (world, means, whole), other = each(two, lambda peer, i: train(peer, 2.0 + 2 * i))
    assert (world, means, whole) == other and world == 2 and all(whole)
    # Of two after the third was lost, of three at most in what it had taken part in.
    assert means[3:] == [3.0] * 5 and means[1] == pytest.approx(7 / 3) and set(means) <= {3.0, means[1]}
    assert dying.end()[0] == -9


def test_memory_that_a_tensor_gives_up_under_way_is_held(two):
    numpy = pytest.importorskip("numpy")
    memory = numpy.ones(100_000, numpy.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(memory))
    # Nobody but the tensor holds it, and from the next lines on nobody but the operation.
    seen = weakref.ref(memory)
    del memory
    handle = two[0].all_reduce_async(parameter)
    parameter.data = torch.zeros(5)
    gc.collect()
    held = seen()
    assert held is not None
    each([two[1]], lambda peer, _: peer.all_reduce(torch.ones(100_000)))
    assert handle.wait()[0] and bool((held == 2).all())
