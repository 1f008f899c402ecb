#!/usr/bin/env python3
"""How much of its communication `AsyncDiLoCo` hides behind compute: one of two peers, for a link that is slow.

Trains the GPT of pccl-py/examples, larger, by inner steps alone, with DiLoCo, and with AsyncDiLoCo, in turns; in each turn so
many *cycles* of `--every` inner steps and an outer one. A cycle of DiLoCo takes longer than one of inner steps alone by its
communication (averaging, asking for newcomers, comparing); what a cycle of AsyncDiLoCo takes longer is not hidden. Of each turn
the median of all cycles but the first counts, which has nothing to wait for yet. The peer of rank 0 prints JSON.

On both hosts, with the master on that of rank 0 (`pccl master --listen 0.0.0.0:48148`):

    python3 bench/hidden.py --master HOST:48148 --rank 0     # and 1
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import time
from typing import Callable, Optional

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "pccl-py" / "examples"))

import torch  # noqa: E402
from characters import GPT, batch, inner_step, text  # noqa: E402

import pccl  # noqa: E402
from pccl.torch import AsyncDiLoCo, DiLoCo  # noqa: E402

KINDS: dict[str, Optional[type[DiLoCo]]] = {"inner steps alone": None, "DiLoCo": DiLoCo, "AsyncDiLoCo": AsyncDiLoCo}


class Peer:
    def __init__(self, arguments: argparse.Namespace, comm: pccl.Communicator) -> None:
        self.arguments, self.comm = arguments, comm
        torch.manual_seed(1)
        self.model = GPT(width=arguments.width, depth=arguments.depth)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.data, self.draw = text(), torch.Generator().manual_seed(arguments.rank)

    def inner_step(self) -> None:
        inner_step(self.model, self.optimizer, batch(self.data, self.arguments.batch, self.draw))

    def cycles(self, kind: str) -> list[float]:
        recipe = KINDS[kind]
        # Both begin together: the recipes compare what they hold then.
        self.comm.all_reduce(torch.zeros(1))
        diloco = recipe and recipe(self.comm, self.model, self.optimizer, every=self.arguments.every, sync_every=self.arguments.sync_every)
        took = []
        for _ in range(self.arguments.cycles):
            begun = time.perf_counter()
            for _ in range(self.arguments.every):
                self.inner_step()
                if diloco is not None:
                    diloco.step()
            took.append(time.perf_counter() - begun)
        if isinstance(diloco, AsyncDiLoCo):
            diloco.finish()
        return took


def figures(rounds: list[dict[str, list[float]]]) -> dict[str, object]:
    middle: Callable[[list[float]], float] = lambda took: statistics.median(took[1:])  # noqa: E731
    medians = [{kind: middle(took) for kind, took in one.items()} for one in rounds]
    communication = [one["DiLoCo"] - one["inner steps alone"] for one in medians]
    stays = [one["AsyncDiLoCo"] - one["inner steps alone"] for one in medians]
    hidden = [1 - left / all_of_it for left, all_of_it in zip(stays, communication)]

    def told(values: list[float]) -> dict[str, object]:
        return {"median": round(statistics.median(values), 3), "of_each_round": [round(value, 3) for value in values]}

    return {
        "cycle_s": {kind: told([one[kind] for one in medians]) for kind in KINDS},
        "communication_s": told(communication),
        "not_hidden_s": told(stays),
        "hidden": told(hidden),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--master", metavar="HOST:PORT", required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--every", type=int, default=20, help="inner steps of a cycle (default %(default)s)")
    parser.add_argument("--cycles", type=int, default=6, help="of one turn (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each kind (default %(default)s)")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--sync-every", type=int, default=1, help="as in DiLoCo (default %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with pccl.Communicator(arguments.master) as comm:
        comm.connect(n_attempts=60)
        while comm.world_size < 2:
            comm.update_topology()
        peer = Peer(arguments, comm)
        for _ in range(3):
            peer.inner_step()
        rounds = [{kind: peer.cycles(kind) for kind in KINDS} for _ in range(arguments.rounds)]
    if arguments.rank == 0:
        parameters = sum(parameter.numel() for parameter in peer.model.parameters())
        settings = {name: getattr(arguments, name) for name in ("every", "cycles", "batch", "sync_every")}
        print(json.dumps({"parameters": parameters, **settings, **figures(rounds)}, indent=1))


if __name__ == "__main__":
    main()
