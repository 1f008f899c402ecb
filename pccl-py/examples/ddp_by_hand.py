"""Data parallel training by hand: gradients are averaged after each step. `python pccl-py/examples/ddp_by_hand.py`"""

from __future__ import annotations

import argparse
import sys

import local_run
import torch
from characters import GPT, batch, loss_of, text

import pccl
from pccl.torch import SharedModelState, admit, all_reduce_tensors


def peer(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(arguments.seed)
    data, model = text(), GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    done = torch.zeros(1, dtype=torch.int64)
    state = SharedModelState(model, optimizer, extra={"done": done})
    with pccl.Communicator(arguments.master) as comm:
        comm.connect()
        state.sync(comm)
        while int(done) < arguments.steps:
            loss = loss_of(model, *batch(data, 16, draw))
            optimizer.zero_grad()
            loss.backward()
            # A peer lost in here costs a repetition, and the average is that of those who are left.
            all_reduce_tensors(comm, [p.grad for p in model.parameters() if p.grad is not None])
            optimizer.step()
            done += 1
            if admit(comm):
                # Somebody came: all compare, and the newcomer receives everything.
                state.push_revision()
                state.sync(comm)
            if int(done) % 10 == 0:
                local_run.tell(arguments, comm, f"step {int(done)}", float(loss.detach()))


if __name__ == "__main__":
    sys.exit(local_run.main(peer, "Data parallel training by hand, on this machine", steps=60))
