"""All-reduces of many tensors, in few operations."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Optional

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
    checkpoints, and give it to nobody else. What it owes belongs to buckets by their place, whatever tags they travel under:
    with other tensors, or another `bucket_bytes`, it is refused before anything is sent.
    """

    def __init__(self) -> None:
        self._residuals: dict[int, torch.Tensor] = {}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {str(number): residual.clone() for number, residual in self._residuals.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        self._residuals = {int(number): residual.clone() for number, residual in state.items()}

    def residuals(self, buckets: list[Bucket]) -> list[Optional[torch.Tensor]]:
        """For each of these what it owes, or 0; None for those that are not quantized."""
        sizes = [bucket.size for bucket in buckets]
        check_residuals(self._residuals, sizes)
        for number, bucket in enumerate(buckets):
            held = self._residuals.get(number)
            if held is not None:
                # A checkpoint may have brought it to the host.
                self._residuals[number] = held.to(bucket.flat.device)
            elif bucket.size.is_quantized:
                self._residuals[number] = torch.zeros_like(bucket.flat)
        return [self._residuals.get(number) for number in range(len(buckets))]


def check_residuals(residuals: Mapping[int, torch.Tensor], sizes: list[BucketSize]) -> None:
    """Refuses what is owed to other buckets than these. Nothing fits any."""
    if not residuals:
        return
    theirs = {number: (tuple(one.shape), one.dtype) for number, one in residuals.items()}
    ours = {number: ((size.numel,), size.dtype) for number, size in enumerate(sizes) if size.is_quantized}
    odd = sorted(number for number in {*theirs, *ours} if theirs.get(number) != ours.get(number))
    if odd:
        owed, here = (_in_words(kinds.get(odd[0])) for kinds in (theirs, ours))
        raise ValueError(
            f"this error feedback is of other tensors, or of buckets of another size: in place {odd[0]} it has {owed}, and here is {here}; "
            "one is needed for each list of tensors"
        )


def _in_words(kind: Optional[tuple[tuple[int, ...], torch.dtype]]) -> str:
    return "nothing that is quantized" if kind is None else f"{kind[0]} {kind[1]}"


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
    residuals = _residuals(error_feedback, buckets)
    descriptors = []
    for tag, (bucket, owed) in enumerate(zip(buckets, residuals), first_tag):
        quantized = options if bucket.size.is_quantized else None
        what = ReduceDescriptor(bucket.flat.numel(), op, tag, quantization_options=quantized)
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


class BucketSize(NamedTuple):
    """What a bucket will be, told without making it."""

    numel: int
    dtype: torch.dtype

    @property
    def is_quantized(self) -> bool:
        """Where anything is: integers stay exact."""
        return bool(self.dtype.is_floating_point)


class Bucket:
    """Tensors of one type and device, side by side in `flat`; a large one alone, where it lies."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self._tensors = tensors
        self.size = _size(tensors)
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
    return [Bucket(part) for part in _all_parts(tensors, bucket_bytes)]


def bucket_sizes(tensors: Iterable[torch.Tensor], bucket_bytes: int = BUCKET_BYTES) -> list[BucketSize]:
    """Of what `buckets_of` makes of such tensors."""
    return [_size(part) for part in _all_parts(tensors, bucket_bytes)]


def _size(tensors: list[torch.Tensor]) -> BucketSize:
    return BucketSize(sum(tensor.numel() for tensor in tensors), tensors[0].dtype)


def _all_parts(tensors: Iterable[torch.Tensor], bucket_bytes: int) -> Iterator[list[torch.Tensor]]:
    kinds: dict[Any, list[torch.Tensor]] = {}
    for tensor in tensors:
        if tensor.numel() > 0:
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for kind in kinds.values():
        yield from _parts(kind, bucket_bytes)


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
        self._comm, self._first_tag, self._quantize = comm, first_tag, quantize
        self._buckets = buckets_of(tensors, bucket_bytes)
        self._residuals = _residuals(error_feedback, self._buckets)
        self._handles: list[Optional[AsyncReduceHandle]] = [self._start(index) for index in range(len(self._buckets))]
        # How often it was begun again, for whoever wants to know what losses cost.
        self.retries = 0

    def _start(self, index: int) -> Optional[AsyncReduceHandle]:
        """None: alone, so what is here is the average."""
        bucket, tag, owed = self._buckets[index], self._first_tag + index, self._residuals[index]
        quantize = self._quantize if bucket.size.is_quantized else None
        try:
            return self._comm.all_reduce_async(bucket.flat, op=ReduceOp.AVG, tag=tag, quantize=quantize, residual=owed)
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


def _residuals(feedback: Optional[ErrorFeedback], buckets: list[Bucket]) -> list[Optional[torch.Tensor]]:
    return [None] * len(buckets) if feedback is None else feedback.residuals(buckets)


def _was_aborted(handle: AsyncReduceHandle) -> bool:
    is_success, status, _ = handle.wait()
    result = Result(status)
    # Alone: what is here is the average.
    if is_success or result is Result.TOO_FEW_PEERS:
        return False
    if result is not Result.RANK_CONNECTION_LOST:
        raise handle.error or PCCLError("all_reduce_async", result, "the operation failed")
    return True
