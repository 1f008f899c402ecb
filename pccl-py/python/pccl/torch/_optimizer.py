"""The tensors of an optimizer, also of one that has made no step yet."""

from __future__ import annotations

import inspect
from types import TracebackType
from typing import Iterator, Mapping, Optional

import torch


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Refuses one to which nobody's tensors can be given."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise TypeError(
            f"{type(optimizer).__name__} makes no step without a closure, so there is no telling what tensors it will have: take "
            "another optimizer, or leave it out"
        )


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[torch.Tensor, str]
) -> Iterator[tuple[str, torch.Tensor]]:
    """By the name of the parameter they belong to, else by its place."""
    for place, parameter in enumerate(_parameters(optimizer)):
        owner = names.get(parameter, str(place))
        for key, value in sorted(optimizer.state.get(parameter, {}).items()):
            if isinstance(value, torch.Tensor):
                yield f"optimizer.{owner}.{key}", value


class Places:
    """While this is entered an optimizer has tensors for all its parameters, so that all peers name the same ones, and there
    are places to receive into. Afterwards each parameter has a state where the flags say that somebody's has come, or
    there was one; the others begin with their first step, as they would have."""

    def __init__(self, optimizer: Optional[torch.optim.Optimizer]) -> None:
        self._optimizer = optimizer
        self._parameters = [] if optimizer is None else _parameters(optimizer)
        has_state = [bool(optimizer is not None and optimizer.state.get(parameter)) for parameter in self._parameters]
        # One for each parameter; is to travel with the tensors.
        self.flags = torch.tensor(has_state, dtype=torch.uint8)
        self._filled = [parameter for parameter, has in zip(self._parameters, has_state) if not has]

    def __enter__(self) -> Places:
        if self._optimizer is not None and self._filled:
            _fill(self._optimizer, self._filled)
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], value: Optional[BaseException], where: Optional[TracebackType]
    ) -> None:
        if self._optimizer is not None:
            for parameter, has_state in zip(self._parameters, self.flags.tolist()):
                if not has_state:
                    self._optimizer.state.pop(parameter, None)


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _fill(optimizer: torch.optim.Optimizer, parameters: list[torch.Tensor]) -> None:
    """By a step without gradient for these parameters, of which nothing else is left."""
    gradients = [(parameter, parameter.grad) for parameter in _parameters(optimizer)]
    groups = [dict(group) for group in optimizer.param_groups]
    values = [parameter.detach().clone() for parameter in parameters]
    try:
        for parameter, _ in gradients:
            parameter.grad = None
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        for group in optimizer.param_groups:
            if "lr" in group:
                group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], torch.Tensor) else 0.0
        # Not the instance's: a scheduler counts the steps made by that one.
        type(optimizer).step(optimizer)
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for group, before in zip(optimizer.param_groups, groups):
            group.clear()
            group.update(before)
        with torch.no_grad():
            for parameter, value in zip(parameters, values):
                parameter.copy_(value)
