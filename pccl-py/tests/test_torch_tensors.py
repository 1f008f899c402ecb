"""pccl.torch in one process: many tensors in few operations, and models as shared states."""

import gc
import threading
import time
import weakref

import pytest
from conftest import each, interrupted, join, together, until_it_waits

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


class Model(torch.nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2))
        self.register_buffer("mask", torch.rand(9) > 0.5)
        self.tied = self.layers[2]

    def forward(self, x):
        return self.layers(x)


def trained(seed, steps, make):
    model = Model(seed)
    optimizer = make(model.parameters())
    for _ in range(steps):
        model(torch.randn(8, 6)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def bits(model, optimizer):
    state = [value for one in optimizer.state.values() for _, value in sorted(one.items())]
    tensors = [*model.state_dict().values(), *(value for value in state if isinstance(value, torch.Tensor))]
    return [tensor.reshape(-1).view(torch.uint8).tolist() for tensor in tensors]


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adam with a tensor for a rate": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    "plain sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    # Whose state does not begin with zeros, or begins otherwise with the first gradient.
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.01),
    "sgd with dampening": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, dampening=0.5),
}


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


def test_a_synchronization_leaves_no_trace_in_an_optimizer_that_has_made_no_step(peers_of):
    """Alone, and between two that both have none yet: every later step is what it would have been."""
    for name, make in OPTIMIZERS.items():
        peers = peers_of(1)
        synced, plain = trained(5, 0, make), trained(5, 0, make)
        synced[0].layers[0].weight.grad = torch.ones(5, 6)
        recipes.SharedModelState(*synced).sync(peers[0])
        assert torch.equal(synced[0].layers[0].weight.grad, torch.ones(5, 6)), name
        # Some have a state from the beginning.
        assert synced[0].layers[0].bias.grad is None and len(synced[1].state) == len(plain[1].state), name
        assert synced[1].param_groups[0]["lr"] == plain[1].param_groups[0]["lr"]
        go_on_alike(synced, plain)
        peers[0].destroy()


def go_on_alike(*pairs):
    for model, optimizer in pairs:
        torch.manual_seed(6)
        optimizer.zero_grad()
        for _ in range(3):
            model(torch.randn(8, 6)).square().sum().backward()
            optimizer.step()
    assert len({str(bits(*pair)) for pair in pairs}) == 1


def test_parameters_without_a_step_stay_so_also_at_newcomers(two):
    class Partly(Model):
        def __init__(self, seed):
            super().__init__(seed)
            self.unused = torch.nn.Linear(3, 3)

    def trained_partly(seed, steps):
        torch.manual_seed(seed)
        model = Partly(seed)
        optimizer = torch.optim.NAdam(model.parameters(), lr=0.01)
        for _ in range(steps):
            model(torch.randn(8, 6)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return model, optimizer

    old, new = trained_partly(1, 2), trained_partly(2, 0)
    states = [recipes.SharedModelState(*old), recipes.SharedModelState(*new)]
    states[0].push_revision()
    each(two, lambda p, i: states[i].sync(p))
    assert bits(*old) == bits(*new)
    for model, optimizer in (old, new):
        assert model.unused.weight not in optimizer.state and model.layers[0].weight in optimizer.state
    # Later it is used.
    for model, optimizer in (old, new):
        model.unused(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert bits(*old) == bits(*new)


def test_an_optimizer_that_needs_a_closure_is_refused_before_anybody_waits():
    model = Model(1)
    optimizer = torch.optim.LBFGS(model.parameters())
    for make in (
        lambda: recipes.SharedModelState(model, optimizer),
        lambda: recipes.DiLoCo(None, model, optimizer, every=1),
    ):
        with pytest.raises(TypeError, match="closure"):
            make()


def test_an_optimizer_of_sparse_gradients_is_refused_before_the_run_is_joined(master):
    with pccl.Communicator(master.address) as comm:
        for steps in (0, 1):
            model = torch.nn.Embedding(4, 2, sparse=True)
            optimizer = torch.optim.SparseAdam(model.parameters())
            for _ in range(steps):
                model(torch.tensor([1, 2])).sum().backward()
                optimizer.step()
            for make in (
                lambda: recipes.SharedModelState(model, optimizer),
                lambda: recipes.DiLoCo(comm, model, optimizer, every=1),
            ):
                with pytest.raises(TypeError, match="SparseAdam makes no step with gradients of zeros"):
                    make()
                assert not comm.is_connected and len(optimizer.state) == steps


def test_a_synchronization_runs_no_hooks_and_fills_an_optimizer_that_keeps_nothing_once(peers_of, monkeypatch):
    from torch.optim.optimizer import register_optimizer_step_post_hook

    peer = peers_of(1)[0]
    fills, hooks = [], []
    fill = recipes._optimizer._fill
    monkeypatch.setattr(recipes._optimizer, "_fill", lambda *arguments: (fills.append(1), fill(*arguments)))
    for name, after_the_first in [("plain sgd", 0), ("adamw", 1)]:
        model, optimizer = trained(1, 0, OPTIMIZERS[name])
        optimizer.register_step_pre_hook(lambda *_: hooks.append("before"))
        optimizer.register_step_post_hook(lambda *_: hooks.append("after"))
        anywhere = register_optimizer_step_post_hook(lambda *_: hooks.append("anywhere"))
        state = recipes.SharedModelState(model, optimizer)
        for _ in range(3):
            fills.clear()
            state.sync(peer)
            assert len(fills) == after_the_first
        anywhere.remove()
    assert hooks == []


def test_an_optimizer_that_begins_to_keep_something_is_looked_at_again(two):
    pairs = [trained(seed, 0, OPTIMIZERS["plain sgd"]) for seed in (1, 2)]
    states = [recipes.SharedModelState(*pair) for pair in pairs]
    for _, optimizer in pairs:
        optimizer.param_groups[0]["momentum"] = 0.5
    pairs[0][0](torch.randn(8, 6)).square().sum().backward()
    pairs[0][1].step()
    states[0].push_revision()
    each(two, lambda peer, i: states[i].sync(peer))
    assert bits(*pairs[0]) == bits(*pairs[1])


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


HOLDER = """
import sys, threading
import torch, pccl
from pccl.torch import SharedModelState
comm = pccl.Communicator(sys.argv[1])
comm.connect()
model = torch.nn.Linear(8192, 4096, bias=False)
torch.nn.init.ones_(model.weight)
state = SharedModelState(model)
state.push_revision()
print("in", flush=True)
while comm.world_size < 2:
    comm.update_topology()
state.sync(comm)
"""


def test_a_model_received_in_part_is_an_error_and_no_model(master, torch_script):
    """The only holder dies while a newcomer receives: what is here is neither its own nor the run's."""
    holder = torch_script(HOLDER, master.address)
    assert holder.line() == "in"
    model = torch.nn.Linear(8192, 4096, bias=False)
    torch.nn.init.zeros_(model.weight)
    weight = model.weight.detach()
    done = threading.Event()

    def kill_on_the_way():
        while not done.is_set() and int(weight[::64, 0].sum()) == 0 and int(weight[:, ::512].sum()) == 0:
            pass
        holder.process.kill()

    with pccl.Communicator(master.address) as comm:
        comm.connect()
        state = recipes.SharedModelState(model)
        killer = threading.Thread(target=kill_on_the_way, daemon=True)
        killer.start()
        for _ in range(2):
            # And again, for whoever goes on after an error.
            with pytest.raises(pccl.PCCLError, match="in part only.*model.weight") as raised:
                state.sync(comm)
            assert raised.value.result is pccl.Result.TOO_FEW_PEERS
            killer.join(60)
        share = float(weight.mean())
        assert 0 < share < 1
        # Whoever puts something else there says so.
        torch.nn.init.ones_(model.weight)
        state.revision = 4
        assert state.sync(comm).rx_bytes == 0
    done.set()


class Ending:
    """A communicator whose master dies when half of the first tensor has come. To choose that moment, the answer is made up."""

    def sync_shared_state(self, state, strategy):
        state.tensor_infos[0]._made_from.view(-1)[:2] = 7.0
        state._note(["mixed", *["kept"] * (len(state.tensor_infos) - 1)], False)
        raise pccl.PCCLError("sync_shared_state", pccl.Result.MASTER_CONNECTION_FAILED, "the master is gone")


def test_a_model_received_in_part_stays_none_when_the_master_dies(peers_of):
    model = torch.nn.Linear(3, 2)
    # With strides of its own, so that it is received into a copy.
    model.weight.data = torch.zeros(3, 2).t()
    state = recipes.SharedModelState(model)
    with pytest.raises(pccl.PCCLError, match="the master is gone"):
        state.sync(Ending())
    assert int((model.weight == 7.0).sum()) == 2
    peer = peers_of(1)[0]
    for _ in range(2):
        with pytest.raises(pccl.PCCLError, match="master is gone.*in part only.*1 of 2 tensors .model.weight."):
            state.sync(peer)
    state.revision = 4
    assert state.sync(peer).rx_bytes == 0


def end_by_a_signal(state, peer):
    interrupted(lambda: state.sync(peer))


def end_by_leaving(state, peer):
    def sync():
        with pytest.raises(pccl.PCCLError):
            state.sync(peer)

    waiting = threading.Thread(target=sync)
    waiting.start()
    until_it_waits(waiting)
    peer.destroy()
    waiting.join(60)


@pytest.mark.parametrize("end", [end_by_a_signal, end_by_leaving])
def test_of_a_synchronization_that_was_broken_off_nobody_knows_what_it_has_received(two, master, end):
    state = recipes.SharedModelState(torch.nn.Linear(3, 2))
    end(state, two[0])
    for peer in two:
        peer.destroy()
    with pccl.Communicator(master.address) as comm:
        comm.connect()
        with pytest.raises(pccl.PCCLError, match="in part only.*2 of 2 tensors"):
            state.sync(comm)
        with pccl.Communicator(master.address) as holder:
            join(holder, [comm])
            whole = recipes.SharedModelState(torch.nn.Linear(3, 2))
            whole.push_revision()
            each([comm, holder], lambda peer, i: (state, whole)[i].sync(peer))
        comm.update_topology()
        assert state.sync(comm).rx_bytes == 0


def test_a_call_that_never_began_leaves_a_model_whole(two):
    state = recipes.SharedModelState(torch.nn.Linear(3, 2))
    left = two[1]
    left.destroy()
    with pytest.raises(pccl.PCCLError, match="destroyed"):
        state.sync(left)
    two[0].update_topology()
    assert state.sync(two[0]).rx_bytes == 0


def test_the_conditions_of_a_broken_synchronization_are_kept():
    state = pccl.SharedState([pccl.TensorInfo.from_torch(torch.zeros(2), name) for name in "abc"])
    state._note(["elected", "mixed", "kept"], False)
    # As from a call that found itself alone.
    state._note([], False)
    assert state.conditions == {"a": "elected", "b": "mixed", "c": "kept"}
    state._note(["kept", "elected", "kept"], False)
    assert state.conditions == {"a": "elected", "b": "elected", "c": "kept"}
    state._note(["kept", "elected", "kept"], True)
    state._note([], False)
    assert set(state.conditions.values()) == {"kept"}


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


def test_a_model_is_synchronized_although_somebody_is_lost_on_the_way(two, master, torch_script):
    """Who never comes to it is killed when the others wait in it, and the call goes on without."""
    text = HOLDER.replace("comm.world_size < 2", "comm.world_size < 3").replace("state.sync(comm)", "threading.Event().wait()")
    dying = torch_script(text, master.address)
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


def test_averages_converge_with_error_feedback_and_not_without(two):
    """The mean of a series of quantized averages, beside the exact one: the loss of one is made up for in the next."""
    torch.manual_seed(3)
    values = [torch.randn(4000) for _ in two]
    exact = (values[0] + values[1]) / 2
    rounds = 64

    def mean(feedback):
        def series(peer, i):
            total, held = torch.zeros(4000), feedback and recipes.ErrorFeedback()
            for _ in range(rounds):
                tensors = [values[i].clone()]
                recipes.all_reduce_tensors(peer, tensors, quantize="4bit", error_feedback=held)
                total += tensors[0]
            return total / rounds

        results = each(two, series)
        assert torch.equal(*results)
        return float((results[0] - exact).abs().max())

    without, with_it = mean(None), mean(True)
    assert with_it < without / 10, (with_it, without)


def test_error_feedback_is_saved_and_belongs_to_its_tensors(two):
    def series(peer, i):
        feedback = recipes.ErrorFeedback()
        recipes.all_reduce_tensors(peer, [torch.linspace(0, 1 + i, 100)], quantize="u8", error_feedback=feedback)
        saved = feedback.state_dict()
        again = recipes.ErrorFeedback()
        again.load_state_dict(saved)
        both = []
        for held in (feedback, again):
            tensors = [torch.linspace(0, 1 + i, 100)]
            recipes.all_reduce_tensors(peer, tensors, quantize="u8", error_feedback=held)
            both.append(tensors[0])
        return torch.equal(*both) and bool(saved["0"].abs().max() > 0)

    assert each(two, series) == [True, True]
    with pytest.raises(ValueError, match="nothing is quantized"):
        recipes.all_reduce_tensors(two[0], [torch.zeros(3)], error_feedback=recipes.ErrorFeedback())


def test_error_feedback_of_other_tensors_is_refused_before_anything_is_sent(two):
    def tensors():
        return [torch.linspace(0, 1, 100), torch.arange(5), torch.linspace(1, 2, 100)]

    feedback = recipes.ErrorFeedback()
    options = {"quantize": "4bit", "bucket_bytes": 400}
    both = (feedback, recipes.ErrorFeedback())
    each(two, lambda peer, i: recipes.all_reduce_tensors(peer, tensors(), error_feedback=both[i], **options))
    saved = feedback.state_dict()
    # By place, the integers' bucket among them.
    assert sorted(saved) == ["0", "1"]
    for given, changes, reason in [
        ([*tensors(), torch.zeros(1)], {}, "in place 2 it has nothing that is quantized, and here is .1,. torch.float32"),
        (tensors()[:2], {}, "in place 1 it has .100,. torch.float32, and here is nothing"),
        (tensors(), {"bucket_bytes": 800}, "in place 0 it has .100,. torch.float32, and here is .200,."),
        ([one.half() for one in tensors()], {}, "and here is .*torch.float16"),
    ]:
        with pytest.raises(ValueError, match=reason):
            recipes.all_reduce_tensors(two[0], given, error_feedback=feedback, **{**options, **changes})
        with pytest.raises(ValueError, match=reason):
            quantized = {"quantize": "4bit", "bucket_bytes": 400, **changes}
            recipes._reduce.Average(two[0], given, error_feedback=feedback, **quantized)
    assert all(torch.equal(one, saved[number]) for number, one in feedback.state_dict().items())
    # Nobody else has heard of any of these. The tags are of no matter.
    each(two, lambda peer, i: recipes.all_reduce_tensors(peer, tensors(), error_feedback=both[i], first_tag=70, **options))
    assert any(not torch.equal(one, saved[number]) for number, one in feedback.state_dict().items())
