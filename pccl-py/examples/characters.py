"""Text that every machine has, character by character, and a small GPT that learns it."""

from __future__ import annotations

import pathlib

import torch
from torch import nn

CONTEXT = 32


def text() -> torch.Tensor:
    """Python's own library, as bytes."""
    here = pathlib.Path(pathlib.__file__).resolve()
    folder = here.parent.parent if here.parent.name == "pathlib" else here.parent
    names = ["argparse.py", "textwrap.py", "calendar.py", "difflib.py", "heapq.py", "statistics.py"]
    return torch.frombuffer(bytearray(b"".join((folder / name).read_bytes() for name in names)), dtype=torch.uint8)


def batch(data: torch.Tensor, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    starts = torch.randint(len(data) - CONTEXT - 1, (size, 1), generator=generator)
    windows = data[starts + torch.arange(CONTEXT + 1)].long().clamp_(max=127)
    return windows[:, :-1], windows[:, 1:]


def loss_of(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def inner_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, samples: tuple[torch.Tensor, torch.Tensor]
) -> float:
    """One step of this peer alone; the loss before it."""
    loss = loss_of(model, *samples)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.attend(self.before(x)).chunk(3, -1)
        )
        seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(seen.transpose(1, 2).flatten(2))
        return x + self.think(self.between(x))


class GPT(nn.Module):
    def __init__(self, width: int = 48, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(128, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.last, self.head = nn.LayerNorm(width), nn.Linear(width, 128)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = self.letters(inputs) + self.places(torch.arange(inputs.shape[1], device=inputs.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.last(x))
