"""All-reduces of many tensors, in few operations."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Mapping, Optional

import torch

from .._communicator import Communicator
from .._descriptors import ReduceDescriptor, ReduceInfo, ReduceOpDescriptor
from .._enums import ReduceOp, Result
from .._errors import PCCLError
from .._handle import AsyncReduceHandle
from .._reduction import quantization

BUCKET_BYTES = 32 << 20


class ErrorFeedback:
    """What quantization has lost at this peer, to be given in the next time: so the loss does not add up.

    One for each series of operations over the same tensors; begins with nothing. It is this peer's own: keep it in this peer's
    checkpoints, and give it to nobody else.
    """

    def __init__(self) -> None:
        self._residuals: dict[int, torch.Tensor] = {}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {str(tag): residual.clone() for tag, residual in self._residuals.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        self._residuals = {int(tag): residual.clone() for tag, residual in state.items()}

    def residual(self, tag: int, flat: torch.Tensor) -> torch.Tensor:
        """Of the operation under this tag, over such a tensor."""
        held = self._residuals.get(tag)
        if held is None:
            held = self._residuals[tag] = torch.zeros_like(flat)
        if held.shape != flat.shape or held.dtype != flat.dtype:
            raise ValueError(
                f"this error feedback is of {tuple(held.shape)} {held.dtype}, not of {tuple(flat.shape)} {flat.dtype}: one is needed "
                "for each list of tensors"
            )
        if held.device != flat.device:
            held = self._residuals[tag] = held.to(flat.device)
        return held


def all_reduce_tensors(
    comm: Communicator,
    tensors: Iterable[torch.Tensor],
    *,
    op: ReduceOp = ReduceOp.AVG,
    bucket_bytes: int = BUCKET_BYTES,
    max_in_flight: int = 4,
    first_tag: int = 0,
    quantize: Optional[str] = None,
    error_feedback: Optional[ErrorFeedback] = None,
) -> ReduceInfo:
    """Combines each of `tensors` in place with those at all peers of the group; by default to their average.

    Small ones travel together in buckets of `bucket_bytes`, each under a tag of its own from `first_tag` on. What is aborted
    because a peer is lost is repeated among those who are left, so one bucket may hold what more peers gave than the next:
    of no matter to an average, so take another `op` with care. In a group of one nothing happens. Not only the order, also
    the shapes and types must be the same at all peers; of a `DTensor` its local part counts.

    `error_feedback`, with `quantize`: what is lost this time is given in the next time that it is passed with such tensors.
    """
    if error_feedback is not None and quantize is None:
        raise ValueError("error_feedback is of no use here: nothing is lost where nothing is quantized")
    buckets = buckets_of([local(tensor) for tensor in tensors], bucket_bytes)
    options = quantization(None, quantize)
    descriptors = []
    for tag, bucket in enumerate(buckets, first_tag):
        # What is quantized are floating-point numbers.
        quantized = options if bucket.flat.is_floating_point() else None
        what = ReduceDescriptor(bucket.flat.numel(), op, tag, quantization_options=quantized)
        owed = None if quantized is None or error_feedback is None else error_feedback.residual(tag, bucket.flat)
        descriptors.append(ReduceOpDescriptor(bucket.flat, bucket.flat, what, residual=owed))
    info = ReduceInfo(1, 0, 0)
    if descriptors:
        try:
            info = comm.all_reduce_multiple_with_retry(descriptors, max_in_flight=max_in_flight)
        except PCCLError as error:
            if error.result is not Result.TOO_FEW_PEERS:
                raise
    for bucket in buckets:
        bucket.give_back()
    return info


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The part of it that is here, without its history."""
    detached = tensor.detach()
    return detached.to_local() if hasattr(detached, "to_local") else detached


class Bucket:
    """Tensors of one type and device, side by side in `flat`; a large one alone, where it lies."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self._tensors = tensors
        self._is_copy = len(tensors) > 1 or not tensors[0].is_contiguous()
        self.flat = torch.cat([tensor.reshape(-1) for tensor in tensors]) if self._is_copy else tensors[0].view(-1)

    def give_back(self) -> None:
        if not self._is_copy:
            return
        at = 0
        for tensor in self._tensors:
            tensor.copy_(self.flat[at : at + tensor.numel()].view(tensor.shape))
            at += tensor.numel()


def buckets_of(tensors: Iterable[torch.Tensor], bucket_bytes: int) -> list[Bucket]:
    """In an order that depends on the tensors' order, types and sizes only."""
    kinds: dict[Any, list[torch.Tensor]] = {}
    for tensor in tensors:
        if tensor.numel() > 0:
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return [Bucket(part) for kind in kinds.values() for part in _parts(kind, bucket_bytes)]


def _parts(tensors: list[torch.Tensor], bucket_bytes: int) -> Iterator[list[torch.Tensor]]:
    part: list[torch.Tensor] = []
    held = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if part and held + size > bucket_bytes:
            yield part
            part, held = [], 0
        part.append(tensor)
        held += size
    if part:
        yield part


class Average:
    """The average of some tensors over the group, under way in the background."""

    def __init__(
        self,
        comm: Communicator,
        tensors: list[torch.Tensor],
        *,
        first_tag: int = 0,
        quantize: Optional[str] = None,
        bucket_bytes: int = BUCKET_BYTES,
        error_feedback: Optional[ErrorFeedback] = None,
    ) -> None:
        self._comm, self._first_tag, self._quantize, self._feedback = comm, first_tag, quantize, error_feedback
        self._buckets = buckets_of(tensors, bucket_bytes)
        self._handles: list[Optional[AsyncReduceHandle]] = [self._start(index) for index in range(len(self._buckets))]
        # How often it was begun again, for whoever wants to know what losses cost.
        self.retries = 0

    def _start(self, index: int) -> Optional[AsyncReduceHandle]:
        """None: alone, so what is here is the average."""
        flat, tag = self._buckets[index].flat, self._first_tag + index
        quantize = self._quantize if flat.is_floating_point() else None
        owed = None if quantize is None or self._feedback is None else self._feedback.residual(tag, flat)
        try:
            return self._comm.all_reduce_async(flat, op=ReduceOp.AVG, tag=tag, quantize=quantize, residual=owed)
        except PCCLError as error:
            if error.result is not Result.TOO_FEW_PEERS:
                raise
            return None

    def wait(self) -> None:
        """Afterwards the tensors hold the average. What a lost peer has aborted is started again, the same at all who are
        left."""
        while True:
            again = [index for index, handle in enumerate(self._handles) if handle is not None and _was_aborted(handle)]
            if not again:
                break
            self.retries += 1
            for index in again:
                self._handles[index] = self._start(index)
        for bucket in self._buckets:
            bucket.give_back()


def _was_aborted(handle: AsyncReduceHandle) -> bool:
    is_success, status, _ = handle.wait()
    result = Result(status)
    # Alone: what is here is the average.
    if is_success or result is Result.TOO_FEW_PEERS:
        return False
    if result is not Result.RANK_CONNECTION_LOST:
        raise handle.error or PCCLError("all_reduce_async", result, "the operation failed")
    return True
