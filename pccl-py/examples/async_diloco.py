"""DiLoCo whose communication hides behind compute, on a character-level GPT. `python pccl-py/examples/async_diloco.py`"""

from __future__ import annotations

import argparse
import sys

import local_run
import torch
from characters import GPT, batch, inner_step, text

import pccl
from pccl.torch import AsyncDiLoCo


def peer(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(arguments.seed)
    data, model = text(), GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    with pccl.Communicator(arguments.master) as comm:
        diloco = AsyncDiLoCo(comm, model, optimizer, every=20, outer_lr=0.5)
        while diloco.outer_steps < arguments.steps:
            loss = inner_step(model, optimizer, batch(data, 16, draw))
            if diloco.step():
                local_run.tell(arguments, comm, f"outer step {diloco.outer_steps}", loss)
        # What was sent after the last steps is still on its way.
        diloco.finish()


if __name__ == "__main__":
    sys.exit(local_run.main(peer, "DiLoCo with hidden communication, on this machine", steps=8))
