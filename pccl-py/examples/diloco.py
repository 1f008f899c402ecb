"""DiLoCo on a character-level GPT: twenty steps alone, one together. `python pccl-py/examples/diloco.py`"""

from __future__ import annotations

import argparse
import sys

import local_run
import torch
from characters import GPT, batch, loss_of, text

import pccl
from pccl.torch import DiLoCo


def peer(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(arguments.seed)
    data, model = text(), GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    with pccl.Communicator(arguments.master) as comm:
        diloco = DiLoCo(comm, model, optimizer, every=20)
        while diloco.outer_steps < arguments.steps:
            loss = loss_of(model, *batch(data, 16, draw))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if diloco.step():
                print(
                    f"peer {arguments.seed} of {comm.world_size}, outer step {diloco.outer_steps}: "
                    f"loss {float(loss.detach()):.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    sys.exit(local_run.main(peer, "DiLoCo on this machine", steps=8))
