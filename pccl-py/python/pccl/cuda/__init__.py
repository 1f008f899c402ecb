"""Tensors on CUDA devices go into `all_reduce` and shared states as they are; they travel through pinned memory."""

from __future__ import annotations


def is_available() -> bool:
    """Whether torch is here and sees a device. Imports torch."""
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())
