"""The tensors of an optimizer, also of one that has made no step yet."""

from __future__ import annotations

import inspect
from types import TracebackType
from typing import Any, Iterator, Mapping, Optional

import torch


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
    there was one; the others begin with their first step, as they would have.

    Made once for an optimizer: refuses one to which nobody's tensors can be given, and remembers where it keeps none.
    """

    def __init__(self, optimizer: Optional[torch.optim.Optimizer]) -> None:
        self._optimizer = optimizer
        self._parameters: list[torch.Tensor] = []
        # One for each parameter; is to travel with the tensors.
        self.flags = torch.empty(0, dtype=torch.uint8)
        # By identity, with the options it was tried with.
        self._stateless: dict[int, tuple[torch.Tensor, str]] = {}
        if optimizer is not None:
            self._check(optimizer)

    def _check(self, optimizer: torch.optim.Optimizer) -> None:
        name = type(optimizer).__name__
        closure = inspect.signature(type(optimizer).step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise TypeError(
                f"{name} makes no step without a closure, so there is no telling what tensors it will have: take another optimizer, "
                "or leave it out"
            )
        try:
            if isinstance(optimizer, torch.optim.SparseAdam):
                # Also where it has all tensors already, and a newcomer's has not.
                raise RuntimeError("its gradients are sparse")
            with self:
                pass
        except Exception as error:
            raise TypeError(
                f"{name} makes no step with gradients of zeros ({error}), so there is no telling what tensors it will have: take "
                "another optimizer, or leave it out"
            ) from error

    def __enter__(self) -> Places:
        if self._optimizer is not None:
            self._parameters = _parameters(self._optimizer)
            self.flags = torch.tensor([bool(self._optimizer.state.get(one)) for one in self._parameters], dtype=torch.uint8)
            self._fill(self._optimizer)
        return self

    def _fill(self, optimizer: torch.optim.Optimizer) -> None:
        options = {id(parameter): _options(group) for group in optimizer.param_groups for parameter in group["params"]}
        known = {key: tried for key, (_, tried) in self._stateless.items()}
        bare = [parameter for parameter, has_state in zip(self._parameters, self.flags.tolist()) if not has_state]
        bare = [parameter for parameter in bare if known.get(id(parameter)) != options[id(parameter)]]
        if not bare:
            return
        try:
            _fill(optimizer, bare)
        except BaseException:
            for parameter in bare:
                optimizer.state.pop(parameter, None)
            raise
        for parameter in bare:
            if not optimizer.state.get(parameter):
                self._stateless[id(parameter)] = (parameter, options[id(parameter)])

    def __exit__(
        self, kind: Optional[type[BaseException]], value: Optional[BaseException], where: Optional[TracebackType]
    ) -> None:
        if self._optimizer is not None:
            for parameter, has_state in zip(self._parameters, self.flags.tolist()):
                if not has_state:
                    self._optimizer.state.pop(parameter, None)


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _options(group: Mapping[str, Any]) -> str:
    """On which it depends whether there are tensors; a rate that changes with each step is none of them."""
    return repr([(key, value) for key, value in sorted(group.items()) if key not in ("params", "lr", "initial_lr")])


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
        # Not the instance's: a scheduler counts the steps made by that one. And what torch has wrapped, as it runs the program's
        # hooks: this is no step of the program.
        step = type(optimizer).step
        if hasattr(step, "hooked"):
            step = getattr(step, "__wrapped__", step)
        step(optimizer)
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for group, before in zip(optimizer.param_groups, groups):
            group.clear()
            group.update(before)
        with torch.no_grad():
            for parameter, value in zip(parameters, values):
                parameter.copy_(value)
