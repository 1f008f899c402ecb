"""Recipes for training with torch: many small tensors in one go, models as shared states, and DiLoCo in three ways.

Plain PyTorch on top of `pccl`, over plain and FSDP2 (`DTensor`) parameters alike; of the latter each rank takes its own
shard, with the ranks of one place in their hosts as one peer group.
"""

from __future__ import annotations

import re

import torch

# The oldest that it is tested with: FSDP2 is where we look for it from here on.
_OLDEST = (2, 6)
if tuple(int(part) for part in re.findall(r"\d+", str(torch.__version__))[:2]) < _OLDEST:
    raise ImportError(
        f"pccl.torch needs torch {_OLDEST[0]}.{_OLDEST[1]} or later, and this is {torch.__version__}. The rest of pccl takes tensors "
        "of older ones, too"
    )

from ._async_diloco import AsyncDiLoCo
from ._diloco import DiLoCo
from ._host import Host
from ._membership import admit
from ._reduce import ErrorFeedback, all_reduce_tensors
from ._state import SharedModelState
from ._streaming_diloco import StreamingDiLoCo

__all__ = [
    "AsyncDiLoCo",
    "DiLoCo",
    "ErrorFeedback",
    "Host",
    "SharedModelState",
    "StreamingDiLoCo",
    "admit",
    "all_reduce_tensors",
]
