"""What a synchronization does to optimizers, and which it takes."""

import pytest
from conftest import each
from torch_models import OPTIMIZERS, Model, bits, go_on_alike, trained

import pccl

torch = pytest.importorskip("torch")
recipes = pytest.importorskip("pccl.torch")


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
