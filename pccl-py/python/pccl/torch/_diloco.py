"""DiLoCo: many steps alone, then one together (Douillard et al., 2023, arXiv:2311.08105)."""

from __future__ import annotations

import copy
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

import torch

from .._communicator import Communicator
from .._enums import ReduceOp, Result
from .._errors import PCCLError
from ._host import Host
from ._membership import admit, lasting
from ._optimizer import Places, optimizer_tensors
from ._reduce import Average, ErrorFeedback, bucket_sizes, check_residuals, local
from ._state import Damage, Gathered, Named, check_sharding, check_tensors, sharded

# Of the operations of a DiLoCo, out of the way of those of the program.
FIRST_TAG = 1 << 48

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
    a repetition at most. `host` as in `admit`. `sync_every`: outer steps between two comparisons of all copies, which mend
    what, say, a machine with other arithmetic has let drift; 0: only when somebody comes.

    `quantize` as in `Communicator.all_reduce`; with `error_feedback` what it loses is given in the next time. `first_tag`: the
    operations have it and some after it, one for each 32 MiB of parameters; use others beside. One communicator carries one
    DiLoCo: each of two would let newcomers in by itself, at a place of which the other knows nothing.
    """

    # Whose checkpoints it takes.
    _kind = "DiLoCo"
    # What is under way, and what will be the average then.
    _average: Optional[Average] = None
    _averaged: list[torch.Tensor] = []
    _part = 0
    # With this part an outer step is complete.
    _last = 0

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
        error_feedback: bool = False,
        host: Optional[Host] = None,
        sync_every: int = 1,
        first_tag: int = FIRST_TAG,
    ) -> None:
        if every < 1:
            raise ValueError(f"every is {every}: at least one inner step is needed")
        if error_feedback and quantize is None:
            raise ValueError("error_feedback is of no use here: nothing is lost where nothing is quantized")
        self.comm, self.model = comm, model
        self._inner = inner_optimizer
        self._every, self._sync_every, self._host = every, sync_every, host
        self._quantize, self._first_tag = quantize, first_tag
        self._feedbacks = [ErrorFeedback()] if error_feedback else []
        check_sharding(model)
        parameters = list(sharded(model).named_parameters())
        self._named = [(name, p) for name, p in parameters if p.requires_grad]
        self._frozen = [(name, p) for name, p in parameters if not p.requires_grad]
        # Where all were after the last outer step. Half-precision numbers would swallow small steps, so a way is measured from
        # what such a parameter was set to: rounding is no part of it.
        self._anchors = [_precise(local(parameter)) for _, parameter in self._named]
        make = outer_optimizer or (lambda params: _nesterov(params, outer_lr, outer_momentum))
        self._outer = make(self._anchors)
        self._outer_steps = torch.zeros(1, dtype=torch.int64)
        self._revision = 0
        self._broken: Optional[Damage] = None
        self._inner_steps = 0
        # Whoever is a member holds all others up: what cannot work is refused before.
        self._outer_places, self._inner_places = Places(self._outer), Places(self._inner)
        check_tensors(self._tensors())
        if not comm.is_connected:
            comm.connect()
        if host is not None:
            host.wait_until_whole(comm)
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

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint of this peer (and of this rank, where a host has several): anchors, outer optimizer, counter, and error
        feedback. If something is under way, this waits for it."""
        return {
            "kind": self._kind,
            "outer_steps": self.outer_steps,
            "anchors": {name: anchor.detach().clone() for (name, _), anchor in zip(self._named, self._anchors)},
            "outer_kind": type(self._outer).__name__,
            "outer": copy.deepcopy(self._outer.state_dict()),
            "error_feedback": [feedback.state_dict() for feedback in self._feedbacks],
            "late": self._late(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint. All peers of the run call it at the same place, each with its own or with what
        `state_dict` gives; the one that is furthest counts, and all go on from its anchors.

        It also takes the place of what was received in part (an error of `step` says so). Frozen parameters, buffers and the
        inner optimizer are not in a state: load them before.
        """
        self._check(state)
        self._restart()
        for (name, _), anchor in zip(self._named, self._anchors):
            anchor.detach().copy_(state["anchors"][name])
        self._outer.load_state_dict(copy.deepcopy(state["outer"]))
        self._outer_steps.fill_(state["outer_steps"])
        for part, feedback in enumerate(self._feedbacks):
            # What is owed now belongs to what is given up.
            feedback.load_state_dict(state["error_feedback"][part] if state["error_feedback"] else {})
        self._broken = None
        if state["late"] is not None:
            self._land(state["late"]["part"], list(state["late"]["ways"]))
        if self._host is not None:
            self._host.wait_until_whole(self.comm)
        self._sync(is_outdated=self.outer_steps < _largest(self.comm, self.outer_steps, self._first_tag))
        self._follow(range(len(self._anchors)))

    def _check(self, state: Mapping[str, Any]) -> None:
        """Refuses the state of anything else, before anything is changed here."""
        if state.get("kind") != self._kind:
            raise ValueError(f"this state is of {state.get('kind', 'something else')}, and this is {self._kind}")
        ours = {name: tuple(anchor.shape) for (name, _), anchor in zip(self._named, self._anchors)}
        theirs = {name: tuple(anchor.shape) for name, anchor in state["anchors"].items()}
        if ours != theirs:
            odd = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
            raise ValueError(f"this state is of another model: {odd[0]} is {theirs.get(odd[0])}, here {ours.get(odd[0])}")
        if state["outer_kind"] != type(self._outer).__name__:
            raise ValueError(f"the outer optimizer of this state is {state['outer_kind']}, here {type(self._outer).__name__}")
        self._check_feedback(state["error_feedback"])
        if state["late"] is not None:
            part, shapes = state["late"]["part"], [tuple(way.shape) for way in state["late"]["ways"]]
            if part > self._last or shapes != [tuple(self._anchors[i].shape) for i in self._which(part)]:
                raise ValueError("what was under way in this state is of other parts of the model than here")

    def _check_feedback(self, parts: Sequence[Mapping[str, torch.Tensor]]) -> None:
        if any(parts) and not self._feedbacks:
            raise ValueError(
                "this state has error feedback, and here is none: make this one with quantize and error_feedback, or give up what is owed "
                'by state["error_feedback"] = []'
            )
        if parts and self._feedbacks and len(parts) != len(self._feedbacks):
            raise ValueError(f"this state has the error feedback of {len(parts)} parts, here are {len(self._feedbacks)}")
        for part, residuals in enumerate(parts[: len(self._feedbacks)]):
            owed = {int(number): residual for number, residual in residuals.items()}
            check_residuals(owed, bucket_sizes(self._anchors[i] for i in self._which(part)))

    def _which(self, part: int) -> range:
        """The parameters that are averaged in one go."""
        return range(len(self._anchors))

    def _late(self) -> Optional[dict[str, Any]]:
        """What has been averaged, and is not in the anchors yet."""
        if self._average is None:
            return None
        self._average.wait()
        return {"ways": [way.clone() for way in self._averaged], "part": self._part}

    def _restart(self) -> None:
        """As after an outer step, with nothing under way."""
        if self._average is not None:
            # All peers have it under way, and none goes on with it.
            self._average.wait()
        self._average, self._averaged = None, []
        self._inner_steps = 0

    def _outer_step(self) -> None:
        self._depart(self._ways(self._which(0)))
        self._arrive()
        self._agree()
        self._follow(self._which(0))

    def _depart(self, ways: list[torch.Tensor], part: int = 0) -> None:
        self._averaged, self._part = ways, part
        self._average = self._start(ways, part)

    def _arrive(self) -> None:
        """What is under way is waited for, and moves the anchors."""
        if self._average is None:
            return
        self._average.wait()
        self._average = None
        self._land(self._part, self._averaged)
        self._averaged = []

    def _land(self, part: int, ways: list[torch.Tensor]) -> None:
        self._advance(self._which(part), ways)
        self._outer_steps += int(part == self._last)

    def _start(self, tensors: list[torch.Tensor], part: int = 0) -> Average:
        feedback = self._feedbacks[part] if self._feedbacks else None
        return Average(
            self.comm, tensors, first_tag=self._first_tag, quantize=self._quantize, error_feedback=feedback
        )

    def _ways(self, which: range) -> list[torch.Tensor]:
        """How far this peer went from the anchors, as gradients: from where it is to where it was."""
        sharded(self.model)
        return [as_held(self._anchors[i].detach(), self._named[i][1]) - local(self._named[i][1]) for i in which]

    def _advance(self, which: range, ways: list[torch.Tensor]) -> None:
        """One step of the outer optimizer, for these parameters only: the others have no gradient."""
        for i, way in zip(which, ways):
            self._anchors[i].grad = way
        self._outer.step()
        self._outer.zero_grad(set_to_none=True)

    def _follow(self, which: range) -> None:
        """The model goes on from the anchors."""
        sharded(self.model)
        for i in which:
            local(self._named[i][1]).copy_(self._anchors[i].detach())

    def _agree(self) -> bool:
        """Lets newcomers in, and compares what all hold if that is due. Whether somebody came."""
        came = admit(self.comm, host=self._host)
        if came or self._is_due():
            self._sync()
        return came

    def _is_due(self) -> bool:
        return self._sync_every > 0 and self.outer_steps % self._sync_every == 0

    def _sync(self, *, is_outdated: bool = False) -> None:
        """All hold the same afterwards. `is_outdated`: this peer receives."""
        sharded(self.model)
        with self._outer_places as outer, self._inner_places as inner:
            tensors = list(self._tensors())
            tensors.append(("outer.present", outer.flags, False))
            if self._inner is not None:
                tensors.append(("inner.present", inner.flags, True))
            gathered = Gathered(tensors, self._revision - int(is_outdated), self._broken)
            try:
                info = gathered.synchronize(self.comm)
            finally:
                self._broken = gathered.broken
        if info is not None:
            self._revision = gathered.shared.revision + 1
        else:
            # Alone. Whoever comes with nothing is behind this peer from now on.
            self._revision = max(self._revision, 1)

    def _tensors(self) -> Iterator[Named]:
        yield "outer_steps", self._outer_steps, False
        names: dict[torch.Tensor, str] = {}
        for (name, _), anchor in zip(self._named, self._anchors):
            names[anchor] = name
            yield f"anchor.{name}", anchor, False
        for name, tensor in optimizer_tensors(self._outer, names):
            yield f"outer.{name}", tensor, False
        # Nobody trains these, so all have to begin with the same.
        for name, parameter in self._frozen:
            yield f"frozen.{name}", parameter, False
        # What is each peer's own; a newcomer begins with somebody's.
        for name, buffer in self.model.named_buffers():
            yield f"buffer.{name}", buffer, True
        if self._inner is not None:
            names = {parameter: name for name, parameter in (*self._named, *self._frozen)}
            for name, tensor in optimizer_tensors(self._inner, names):
                yield f"inner.{name}", tensor, True


def _largest(comm: Communicator, number: int, tag: int) -> int:
    """Of those of the group; of this peer alone, if it is."""

    def ask() -> int:
        numbers = torch.tensor([number])
        comm.all_reduce(numbers, op=ReduceOp.MAX, tag=tag)
        return int(numbers)

    try:
        return lasting(ask)
    except PCCLError as error:
        if error.result is not Result.TOO_FEW_PEERS:
            raise
        return number


def _precise(tensor: torch.Tensor) -> torch.Tensor:
    kind = tensor.dtype if tensor.dtype in (torch.float32, torch.float64) else torch.float32
    copy = torch.empty(tensor.shape, dtype=kind, device=tensor.device)
    copy.copy_(tensor)
    return copy.requires_grad_()


def as_held(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """What is left of it in such a parameter."""
    return value.to(parameter.dtype).to(value.dtype)


def _nesterov(parameters: list[torch.Tensor], lr: float, momentum: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, nesterov=momentum > 0)
