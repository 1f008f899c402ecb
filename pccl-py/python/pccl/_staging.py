"""Memory of a GPU goes through pinned memory of the host."""

from __future__ import annotations

from typing import Any, Callable


class Staged:
    """A copy on the host. Complete when this is made: the copy waits for the tensor's stream."""

    def __init__(self, tensor: Any) -> None:
        import torch

        self.host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
        self.host.copy_(tensor.detach())

    def to(self, tensor: Any) -> Callable[[], None]:
        """To be called when the result is in the host's copy. Ordered with the present stream, as any work of torch."""
        return lambda: tensor.detach().copy_(self.host)
