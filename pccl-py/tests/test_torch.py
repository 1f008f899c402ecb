"""Tensors of torch."""

import pytest
from conftest import RUN_OF_TWO, each

import pccl
from pccl import _staging, _state

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8])
def test_every_kind_of_number(two, dtype):
    tensors = [torch.full((3, 4), rank, dtype=dtype) for rank in (1, 2)]
    each(two, lambda peer, i: peer.all_reduce(tensors[i]))
    assert torch.equal(tensors[0], torch.full((3, 4), 3, dtype=dtype)) and torch.equal(*tensors)


def test_parameters_are_reduced_where_they_are(two):
    parameters = [torch.nn.Parameter(torch.full((5,), float(rank))) for rank in (1, 3)]
    each(two, lambda peer, i: peer.all_reduce(parameters[i], op=pccl.ReduceOp.AVG))
    assert parameters[0].tolist() == [2.0] * 5


def test_wrong_tensors_are_refused_in_words(two):
    peer = two[0]
    with pytest.raises(ValueError, match=r"contiguous\(\)"):
        peer.all_reduce(torch.zeros(4, 4).t())
    with pytest.raises(TypeError, match="torch.bool"):
        peer.all_reduce(torch.zeros(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="meta"):
        peer.all_reduce(torch.zeros(4, device="meta"))
    with pytest.raises(ValueError, match="sparse"):
        peer.all_reduce(torch.zeros(4).to_sparse())
    with pytest.raises(ValueError, match="resolve_neg"):
        peer.all_reduce(torch.zeros(1, dtype=torch.complex64).conj().imag)


def test_shared_state_of_a_model(two):
    models = [torch.nn.Linear(10, 10) for _ in two]

    def sync(peer, i):
        infos = [pccl.TensorInfo.from_torch(p.data, name) for name, p in models[i].named_parameters()]
        return peer.sync_shared_state(pccl.SharedState(infos))

    infos = each(two, sync)
    assert sum(info.rx_bytes for info in infos) > 0
    for a, b in zip(models[0].parameters(), models[1].parameters()):
        assert torch.equal(a, b)


LOADER = """
import torch

peers = run_of_two()
data = torch.utils.data.TensorDataset(torch.arange(64.0))
totals = [None, None]

def epoch(index):
    loader = torch.utils.data.DataLoader(data, batch_size=16, num_workers=2, multiprocessing_context="fork")
    total = sum(batch[0].sum() for batch in loader).reshape(1)
    peers[index].all_reduce(total)
    totals[index] = total.item()
    peers[index].update_topology()

threads = [threading.Thread(target=epoch, args=(index,)) for index in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*totals, peers[0].world_size)
"""


def test_a_forking_data_loader_during_a_run(torch_script, master):
    """Workers are forked while both peers are in a run; what they inherit harms nobody. In a process of its own: others that pytest
    has imported (JAX) are not made to be forked."""
    status, out, err = torch_script(RUN_OF_TWO + LOADER, master.address).end()
    assert (status, out) == (0, "4032.0 4032.0 2\n"), err


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


class Pretended:
    """A tensor of the host that says it is on a GPU: the way through a copy on the host, without one."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.device = torch.device("cuda")

    def __getattr__(self, name):
        return getattr(self.tensor, name)


class Unpinned(_staging.Staged):
    def __init__(self, tensor):
        self.host = tensor.tensor.clone()

    def to(self, tensor):
        return lambda: tensor.tensor.copy_(self.host)


def test_what_a_broken_synchronization_received_is_on_the_device_and_kept(master, monkeypatch):
    """The holder leaves after all is here: the next call goes on from there."""
    monkeypatch.setattr(_state, "Staged", Unpinned)
    tensors = [torch.zeros(4) for _ in range(3)]
    state = pccl.SharedState([pccl.TensorInfo.from_torch(Pretended(one), str(at)) for at, one in enumerate(tensors)])
    assert state.tensor_infos[0].device_type is pccl.DeviceType.CUDA

    class Broken:
        def synchronize(self, revision, strategy, is_broken, given, owner):
            given_back = [torch.full((4,), float(at + 1)) for at in range(3)]
            for staged, _ in owner[1].values():
                staged.host.copy_(given_back.pop(0))
            return (pccl.Result.RANK_CONNECTION_LOST.value, "somebody is gone", 0, 0, 0), ["elected", "mixed", "kept"]

    with pccl.Communicator(master.address) as comm:
        real, comm._comm = comm._comm, Broken()
        try:
            with pytest.raises(pccl.PCCLError, match="somebody is gone"):
                comm.sync_shared_state(state)
        finally:
            comm._comm = real
    assert [float(one[0]) for one in tensors] == [1.0, 2.0, 0.0]
    assert list(state.conditions.values()) == ["elected", "mixed", "kept"]


@cuda
def test_tensors_on_a_gpu(two):
    tensors = [torch.full((1000,), float(rank), device="cuda") for rank in (1, 2)]
    each(two, lambda peer, i: peer.all_reduce(tensors[i]))
    assert tensors[0].tolist() == [3.0] * 1000
    outputs = [torch.zeros_like(tensor) for tensor in tensors]
    handles = [peer.all_reduce_async(tensors[i], outputs[i]) for i, peer in enumerate(two)]
    assert all(handle.wait()[0] for handle in handles)
    assert outputs[1].tolist() == [6.0] * 1000 and tensors[1].tolist() == [3.0] * 1000
    with pytest.raises(ValueError, match="one device"):
        two[0].all_reduce(tensors[0], torch.zeros(1000))


@cuda
def test_shared_state_on_a_gpu(two):
    tensors = [torch.full((1000,), float(rank), device="cuda") for rank in (1, 2)]
    each(two, lambda peer, i: peer.sync_shared_state(pccl.SharedState([pccl.TensorInfo.from_torch(tensors[i], "a")])))
    assert torch.equal(*tensors)
