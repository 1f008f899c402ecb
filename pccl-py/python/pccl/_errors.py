"""The one exception of failed calls."""

from __future__ import annotations

from typing import Any, Callable, TypeVar

from ._enums import Result
from ._pccl import Failure

_T = TypeVar("_T")


class PCCLError(Exception):
    """A call failed. `result` says how; the text names the call and says why and what to do."""

    def __init__(self, call: str, result: Result, reason: str) -> None:
        super().__init__(f"{call}: {result.name}: {reason}")
        self.call = call
        self.result = result
        self.reason = reason

    def __reduce__(self) -> Any:
        return (PCCLError, (self.call, self.result, self.reason))


def of(name: str, failure: Failure) -> PCCLError:
    code, reason = failure.args
    return PCCLError(name, Result(code), reason)


def call(name: str, function: Callable[..., _T], *arguments: Any) -> _T:
    try:
        return function(*arguments)
    except Failure as failure:
        error = of(name, failure)
    try:
        raise error
    finally:
        # Else it and this frame would keep each other, and the caller's tensors with them, until they are collected.
        del error
