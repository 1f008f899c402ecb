"""A model with everything that a shared state has to deal with, and optimizers of all kinds."""

import pytest

torch = pytest.importorskip("torch")


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


def go_on_alike(*pairs):
    for model, optimizer in pairs:
        torch.manual_seed(6)
        optimizer.zero_grad()
        for _ in range(3):
            model(torch.randn(8, 6)).square().sum().backward()
            optimizer.step()
    assert len({str(bits(*pair)) for pair in pairs}) == 1
