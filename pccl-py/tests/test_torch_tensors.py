"""pccl.torch in one process: many tensors in few operations, and models as shared states."""

import pytest
from conftest import each, join

import pccl

torch = pytest.importorskip("torch")
recipes = pytest.importorskip("pccl.torch")


def test_the_recipes_are_imported_when_they_are_asked_for(script):
    text = "import sys, pccl; assert 'torch' not in sys.modules; pccl.torch.DiLoCo; print('torch' in sys.modules)"
    assert script(text).end() == (0, "True\n", "")


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


def test_an_optimizer_is_filled_without_moving_anything():
    for make in OPTIMIZERS.values():
        (filled, optimizer), (plain, other) = trained(5, 0, make), trained(5, 0, make)
        filled.layers[0].weight.grad = torch.ones(5, 6)
        recipes._state.fill_optimizer(optimizer)
        assert torch.equal(filled.layers[0].weight.grad, torch.ones(5, 6)) and filled.layers[0].bias.grad is None
        for model, its in ((filled, optimizer), (plain, other)):
            torch.manual_seed(6)
            its.zero_grad()
            model(torch.randn(8, 6)).square().sum().backward()
            its.step()
        # The first step is what it would have been.
        assert bits(filled, optimizer) == bits(plain, other)


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
