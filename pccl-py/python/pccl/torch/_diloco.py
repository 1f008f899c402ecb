"""DiLoCo: many steps alone, then one together (Douillard et al., 2023, arXiv:2311.08105)."""

from __future__ import annotations

from typing import Callable, Iterator, Optional

import torch

from .._communicator import Communicator
from .._state import SharedState
from ._membership import admit, wait_until_even
from ._reduce import Average, local
from ._state import fill_optimizer, info_of, optimizer_tensors, synchronize

OuterOptimizer = Callable[[list[torch.Tensor]], torch.optim.Optimizer]


class DiLoCo:
    """Each peer trains its own copy with its own optimizer; every `every` calls of `step` comes an *outer* step, in which the
    way that the copies went is averaged and goes through an outer optimizer (SGD with Nesterov's momentum, unless
    `outer_optimizer` makes another one). After it all hold the same bits.

        diloco = DiLoCo(comm, model, optimizer, every=100)
        while diloco.outer_steps < 50:
            loss_of(model, batch()).backward()
            optimizer.step()
            optimizer.zero_grad()
            diloco.step()

    Making one connects `comm` if need be, and waits for what the run holds: a newcomer comes in at the end of an outer
    step, gets model, momentum and somebody's inner optimizer, and takes part from the next one on. Peers that are lost cost
    a repetition at most. `groups` as in `admit`. `sync_every`: outer steps between two comparisons of all copies, which mend
    what, say, a machine with other arithmetic has let drift; 0: only when somebody comes.
    """

    def __init__(
        self,
        comm: Communicator,
        model: torch.nn.Module,
        inner_optimizer: Optional[torch.optim.Optimizer] = None,
        *,
        every: int,
        outer_lr: float = 0.7,
        outer_momentum: float = 0.9,
        outer_optimizer: Optional[OuterOptimizer] = None,
        quantize: Optional[str] = None,
        groups: int = 1,
        sync_every: int = 1,
    ) -> None:
        if every < 1:
            raise ValueError(f"every is {every}: at least one inner step is needed")
        self.comm, self.model = comm, model
        self._inner = inner_optimizer
        self._every, self._quantize, self._groups, self._sync_every = every, quantize, groups, sync_every
        self._named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        # Where all were after the last outer step. Half-precision numbers would swallow small steps.
        self._anchors = [_precise(local(parameter)) for _, parameter in self._named]
        make = outer_optimizer or (lambda params: _nesterov(params, outer_lr, outer_momentum))
        self._outer = make(self._anchors)
        fill_optimizer(self._outer)
        self._outer_steps = torch.zeros(1, dtype=torch.int64)
        self._revision = 0
        self._inner_steps = 0
        if not comm.is_connected:
            comm.connect()
        wait_until_even(comm, groups)
        self._sync()
        self._follow(range(len(self._anchors)))

    @property
    def outer_steps(self) -> int:
        """So many the run has made, those before this peer came included."""
        return int(self._outer_steps)

    def step(self) -> bool:
        """After each step of the inner optimizer. Whether it ended in an outer step."""
        self._inner_steps += 1
        if self._inner_steps < self._every:
            return False
        self._inner_steps = 0
        self._outer_step()
        return True

    def _outer_step(self) -> None:
        everything = range(len(self._anchors))
        ways = self._ways(everything)
        Average(self.comm, ways, quantize=self._quantize).wait()
        self._advance(everything, ways)
        self._outer_steps += 1
        self._agree()
        self._follow(everything)

    def _ways(self, which: range) -> list[torch.Tensor]:
        """How far this peer went from the anchors, as gradients: from where it is to where it was."""
        return [self._anchors[i].detach() - local(self._named[i][1]) for i in which]

    def _advance(self, which: range, ways: list[torch.Tensor]) -> None:
        """One step of the outer optimizer, for these parameters only: the others have no gradient."""
        for i, way in zip(which, ways):
            self._anchors[i].grad = way
        self._outer.step()
        self._outer.zero_grad(set_to_none=True)

    def _follow(self, which: range) -> None:
        """The model goes on from the anchors."""
        for i in which:
            local(self._named[i][1]).copy_(self._anchors[i].detach())

    def _agree(self) -> bool:
        """Lets newcomers in, and compares what all hold if that is due. Whether somebody came."""
        came = admit(self.comm, groups=self._groups)
        if came or self._is_due():
            self._sync()
        return came

    def _is_due(self) -> bool:
        return self._sync_every > 0 and self.outer_steps % self._sync_every == 0

    def _sync(self) -> None:
        shared = SharedState(info_of(name, tensor, differs) for name, tensor, differs in self._tensors())
        shared.revision = self._revision
        if synchronize(self.comm, shared) is not None:
            self._revision = shared.revision + 1
        else:
            # Alone. Whoever comes with nothing is behind this peer from now on.
            self._revision = max(self._revision, 1)

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor, bool]]:
        yield "outer_steps", self._outer_steps, False
        for (name, _), anchor in zip(self._named, self._anchors):
            yield f"anchor.{name}", anchor, False
        names = {anchor: name for (name, _), anchor in zip(self._named, self._anchors)}
        for name, tensor in optimizer_tensors(self._outer, names):
            yield f"outer.{name}", tensor, False
        # What is each peer's own; a newcomer begins with somebody's.
        for name, buffer in self.model.named_buffers():
            yield f"buffer.{name}", buffer, True
        if self._inner is not None:
            fill_optimizer(self._inner)
            names = {parameter: name for name, parameter in self._named}
            for name, tensor in optimizer_tensors(self._inner, names):
                yield f"inner.{name}", tensor, True


def _precise(tensor: torch.Tensor) -> torch.Tensor:
    kind = tensor.dtype if tensor.dtype in (torch.float32, torch.float64) else torch.float32
    copy = torch.empty(tensor.shape, dtype=kind, device=tensor.device)
    copy.copy_(tensor)
    return copy.requires_grad_()


def _nesterov(parameters: list[torch.Tensor], lr: float, momentum: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, nesterov=momentum > 0)
