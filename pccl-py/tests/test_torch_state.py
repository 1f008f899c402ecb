"""Models as shared states."""

import threading
import time

import pytest
from conftest import each, join, together, until_it_waits
from torch_models import OPTIMIZERS, bits, trained

import pccl

torch = pytest.importorskip("torch")
recipes = pytest.importorskip("pccl.torch")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_newcomer_receives_model_and_optimizer(master, name):
    old, new = trained(1, 3, OPTIMIZERS[name]), trained(2, 0, OPTIMIZERS[name])
    before = bits(*old)
    with pccl.Communicator(master.address) as member, pccl.Communicator(master.address) as newcomer:
        states = [recipes.SharedModelState(*old), recipes.SharedModelState(*new)]
        member.connect()
        states[0].revision = 7
        # Alone: nothing to compare with, and the revision is not used up.
        assert states[0].sync(member).rx_bytes == 0
        join(newcomer, [member])
        infos = each([member, newcomer], lambda p, i: states[i].sync(p))
    assert infos[1].rx_bytes > 0 and infos[0].tx_bytes > 0
    assert bits(*old) == before == bits(*new)
    assert [state.revision for state in states] == [7, 7]
    # Both go on alike.
    for model, optimizer in (old, new):
        torch.manual_seed(3)
        model(torch.randn(8, 6)).square().sum().backward()
        optimizer.step()
    assert bits(*old) == bits(*new)


def test_tensors_of_any_strides_are_synchronized(two):
    """Channels last, with the optimizer's tensors alike; and what is no number to pccl, transposed."""

    class Seen(torch.nn.Module):
        def __init__(self, seed):
            super().__init__()
            torch.manual_seed(seed)
            self.see = torch.nn.Conv2d(3, 4, 3)
            self.register_buffer("mask", (torch.rand(4, 6) > 0.5).t())
            self.register_buffer("phase", torch.randn(2, 3, dtype=torch.complex64).t().conj())
            self.to(memory_format=torch.channels_last)

        def forward(self, x):
            return self.see(x)

    pairs = []
    for seed in (1, 2):
        model = Seen(seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for _ in range(2 - seed // 2):
            model(torch.randn(2, 3, 5, 5)).square().sum().backward()
            optimizer.step()
        pairs.append((model, optimizer))
    assert not pairs[0][0].see.weight.is_contiguous()
    states = [recipes.SharedModelState(*pair) for pair in pairs]
    states[0].push_revision()
    each(two, lambda p, i: states[i].sync(p))
    for (name, a), b in zip(pairs[0][0].state_dict().items(), pairs[1][0].state_dict().values()):
        assert torch.equal(a, b) and a.stride() == b.stride(), name
    for a, b in zip(pairs[0][1].state.values(), pairs[1][1].state.values()):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_what_cannot_be_a_state_is_refused_before_anybody_waits():
    model = torch.nn.Linear(2, 2)
    model.register_buffer("wide", torch.zeros(1).expand(5))
    for make in (lambda: recipes.SharedModelState(model), lambda: recipes.DiLoCo(None, model, every=1)):
        with pytest.raises(ValueError, match="wide.*expanded"):
            make()


def test_what_may_differ_stays_but_comes_to_newcomers(master):
    make = OPTIMIZERS["adamw"]
    pairs = [trained(1, 3, make), trained(1, 4, make), trained(2, 0, make)]
    step = torch.tensor([12])
    with pccl.Communicator(master.address) as a, pccl.Communicator(master.address) as b:
        a.connect()
        join(b, [a])
        extra = {"step": step}
        states = [recipes.SharedModelState(*pair, extra=extra, optimizer_may_differ=True) for pair in pairs[:2]]
        own = [bits(*pair)[-1] for pair in pairs[:2]]
        each([a, b], lambda p, i: states[i].sync(p))
        assert [bits(*pair)[-1] for pair in pairs[:2]] == own and own[0] != own[1]
        with pccl.Communicator(master.address) as c:
            join(c, [a, b])
            states.append(recipes.SharedModelState(*pairs[2], extra={"step": torch.zeros_like(step)}, optimizer_may_differ=True))
            for state in states[:2]:
                state.push_revision()
            each([a, b, c], lambda p, i: states[i].sync(p))
            assert bits(*pairs[2])[-1] in own and int(states[2]._extra["step"]) == 12


def test_a_synchronization_that_a_loss_has_aborted_is_repeated(two):
    """The first answer is made up: when it comes belongs to the machine."""
    models = [torch.nn.Linear(10, 10) for _ in two]
    calls = []

    def sync(peer, i):
        call = peer.sync_shared_state

        def lossy(state, strategy):
            calls.append(i)
            if calls.count(i) == 1:
                state._note(["mixed", "kept"], False)
                raise pccl.PCCLError("sync_shared_state", pccl.Result.RANK_CONNECTION_LOST, "somebody is gone")
            return call(state, strategy)

        peer.sync_shared_state = lossy
        recipes.SharedModelState(models[i]).sync(peer)

    each(two, sync)
    assert torch.equal(models[0].weight, models[1].weight)
    assert sorted(calls) == [0, 0, 1, 1]


ABSENT = """
import sys, threading
import pccl
comm = pccl.Communicator(sys.argv[1])
comm.connect()
while comm.world_size < 3:
    comm.update_topology()
threading.Event().wait()
"""


def test_a_model_is_synchronized_although_somebody_is_lost_on_the_way(two, master, script):
    """Who never comes to it is killed when the others wait in it, and the call goes on without."""
    dying = script(ABSENT, master.address)
    models = [torch.nn.Linear(1000, 100, bias=False) for _ in two]
    calls, threads = [], []

    def sync(peer, i):
        while peer.world_size < 3:
            peer.update_topology()
        call = peer.sync_shared_state
        peer.sync_shared_state = lambda *arguments: (calls.append(i), call(*arguments))[1]
        threads.append(threading.current_thread())
        recipes.SharedModelState(models[i]).sync(peer)

    def kill():
        while len(calls) < 2:
            time.sleep(0.01)
        for thread in threads:
            until_it_waits(thread)
        dying.process.kill()

    together(kill, *(lambda i=i, peer=peer: sync(peer, i) for i, peer in enumerate(two)))
    assert torch.equal(models[0].weight, models[1].weight)
    assert sorted(calls) == [0, 1]
    assert dying.end()[0] == -9


def test_a_parameter_with_other_memory_is_followed_and_its_old_memory_is_held(two):
    layers = [torch.nn.Linear(1000, 10, bias=False) for _ in two]
    infos = [pccl.TensorInfo.from_torch(layer.weight, "w") for layer in layers]
    states = [pccl.SharedState([info]) for info in infos]
    for rank, layer in enumerate(layers):
        layer.weight.data = torch.full((10, 1000), float(rank))
    # What was freed would be taken by these.
    others = [torch.full((10, 1000), 7.0) for _ in range(8)]
    each(two, lambda peer, i: peer.sync_shared_state(states[i]))
    assert torch.equal(*(layer.weight for layer in layers)) and float(layers[0].weight.detach()[0, 0]) in (0.0, 1.0)
    assert all(bool((other == 7.0).all()) for other in others)
    layers[0].half()
    with pytest.raises(ValueError, match="w had 10000 elements of FLOAT.*FLOAT16 now"):
        two[0].sync_shared_state(states[0])
    layers[0].weight.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="no memory"):
        pccl.TensorInfo.from_torch(layers[0].weight, "w")
