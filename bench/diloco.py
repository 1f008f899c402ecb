#!/usr/bin/env python3
"""How the recipes of `pccl.torch` learn beside plain data parallel on the same data: losses, and a plot.

Peers are processes of this machine and train the character-level GPT of pccl-py/examples on text that Python brings along.
Every kind starts from the same weights of a seed, and each peer draws the same batches in each kind: all see the same samples
in the same number of inner steps, with AdamW whose learning rate falls linearly to zero. The loss is over text held back from
training, of what all agree on: the model of data parallel, the anchors of the DiLoCos (those of AsyncDiLoCo lack what is
under way, but at the end). `alone` is one peer that hears of no other: a part of the samples.

    python3 bench/diloco.py --seeds 1,2,3 --json losses.json --plot docs/diloco.svg

`--only KIND --lr X --options JSON` tries one kind with other settings. Those below were chosen so, on seed 0, which no figure
contains. `--from losses.json` draws what was measured before.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
from typing import Any, Optional

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "pccl-py" / "examples"))

import torch  # noqa: E402
from characters import GPT, batch, loss_of, text  # noqa: E402
from curves import drawn  # noqa: E402

import pccl  # noqa: E402
from pccl.torch import AsyncDiLoCo, DiLoCo, StreamingDiLoCo, all_reduce_tensors  # noqa: E402

BATCH = 16
BLOCK = 1024
FOUR_BITS = {"quantize": "4bit", "error_feedback": True}

# The recipe, the learning rate inside, and how the recipe is made.
KINDS: dict[str, tuple[Optional[type[DiLoCo]], float, dict[str, Any]]] = {
    "data parallel": (None, 0.016, {}),
    "DiLoCo": (DiLoCo, 0.016, {"outer_lr": 0.7, "outer_momentum": 0.6}),
    "DiLoCo, 4 bits": (DiLoCo, 0.016, {"outer_lr": 0.7, "outer_momentum": 0.6, **FOUR_BITS}),
    "AsyncDiLoCo": (AsyncDiLoCo, 0.016, {"outer_lr": 0.7, "outer_momentum": 0.3}),
    "StreamingDiLoCo, 4 bits": (StreamingDiLoCo, 0.008, {"outer_lr": 0.7, "outer_momentum": 0.6, "fragments": 2, "overlap": 2, **FOUR_BITS}),
    "alone": (None, 0.008, {}),
}


def corpus() -> tuple[torch.Tensor, torch.Tensor]:
    """To train on, and held back: every tenth block."""
    blocks = text().split(BLOCK)
    training = [block for number, block in enumerate(blocks) if number % 10 != 9]
    return torch.cat(training), torch.cat(blocks[9::10])


class Learner:
    """One peer of a run of one kind."""

    def __init__(self, arguments: argparse.Namespace, comm: pccl.Communicator, kind: str) -> None:
        self.arguments, self.comm, self.kind = arguments, comm, kind
        torch.manual_seed(arguments.seed)
        self.model = GPT()
        recipe, lr, options = KINDS[kind]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=arguments.lr or lr)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1 - step / arguments.steps)
        self.draw = torch.Generator().manual_seed(1000 * arguments.seed + arguments.rank)
        self.data, held_back = corpus()
        # The same windows at each look, of all kinds and seeds.
        windows = torch.Generator().manual_seed(7)
        self.looks = [batch(held_back, 64, windows) for _ in range(4)]
        options = {**options, **json.loads(arguments.options)}
        self.recipe = recipe and recipe(comm, self.model, self.optimizer, every=arguments.every, **options)

    def losses(self) -> list[tuple[int, float]]:
        found = [(0, self.held_out())]
        steps = self.arguments.steps
        for step in range(1, steps + 1):
            loss = loss_of(self.model, *batch(self.data, BATCH, self.draw))
            self.optimizer.zero_grad()
            loss.backward()
            if self.kind == "data parallel":
                all_reduce_tensors(self.comm, [p.grad for p in self.model.parameters()])
            self.optimizer.step()
            self.schedule.step()
            if self.recipe is not None:
                self.recipe.step()
            if step == steps and isinstance(self.recipe, AsyncDiLoCo):
                self.recipe.finish()
            if step % self.arguments.every == 0 and self.arguments.rank == 0:
                found.append((step, self.held_out()))
        return found

    @torch.no_grad()
    def held_out(self) -> float:
        agreed = GPT()
        agreed.load_state_dict(self.model.state_dict() if self.recipe is None else self.recipe.state_dict()["anchors"])
        return statistics.mean(float(loss_of(agreed, *look)) for look in self.looks)


def peer(arguments: argparse.Namespace) -> None:
    """Prints the losses of each kind, if it is rank 0."""
    torch.set_num_threads(1)
    found = {}
    for kind, master in json.loads(arguments.masters).items():
        if kind == "alone" and arguments.rank > 0:
            continue
        with pccl.Communicator(master) as comm:
            comm.connect(n_attempts=60)
            # All of them from the first step on.
            while comm.world_size < (1 if kind == "alone" else arguments.peers):
                comm.update_topology()
            found[kind] = Learner(arguments, comm, kind).losses()
        if arguments.rank == 0:
            print(f"seed {arguments.seed}, {kind}: {found[kind][-1][1]:.3f}", file=sys.stderr, flush=True)
    if arguments.rank == 0:
        print(json.dumps(found))


def run(arguments: argparse.Namespace, seed: int) -> dict[str, list[tuple[int, float]]]:
    kinds = arguments.only or list(KINDS)
    masters = {kind: pccl.MasterNode("127.0.0.1:0") for kind in kinds}
    for master in masters.values():
        master.run()
    command = [sys.executable, __file__, "--masters", json.dumps({kind: m.address for kind, m in masters.items()})]
    command += ["--seed", str(seed), "--peers", str(arguments.peers), "--steps", str(arguments.steps)]
    command += ["--every", str(arguments.every), "--lr", str(arguments.lr), "--options", arguments.options]
    running = [
        subprocess.Popen([*command, "--rank", str(rank)], stdout=subprocess.PIPE, text=True)
        for rank in range(arguments.peers)
    ]
    outputs = [one.communicate()[0] for one in running]
    for master in masters.values():
        master.interrupt()
    if any(one.returncode for one in running):
        raise SystemExit("a peer failed")
    return dict(json.loads(outputs[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=400, help="inner steps of each peer (default %(default)s)")
    parser.add_argument("--every", type=int, default=20, help="inner steps between outer ones (default %(default)s)")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--only", choices=KINDS, action="append", help="this kind; may be given several times")
    parser.add_argument("--lr", type=float, default=0.0, help="of the inner optimizer, instead of the kind's")
    parser.add_argument("--options", default="{}", help="of the recipe, beside the kind's (JSON)")
    parser.add_argument("--json", type=pathlib.Path, help="where the losses go")
    parser.add_argument("--from", dest="before", type=pathlib.Path, help="draw these losses instead of measuring")
    parser.add_argument("--plot", type=pathlib.Path)
    for name, kind in (("masters", str), ("rank", int), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.masters:
        peer(arguments)
        return
    seeds = json.loads(arguments.before.read_text()) if arguments.before else [run(arguments, seed) for seed in arguments.seeds]
    if arguments.json:
        arguments.json.write_text(json.dumps(seeds))
    ends = {kind: [round(seed[kind][-1][1], 3) for seed in seeds] for kind in seeds[0]}
    print(json.dumps({"steps": seeds[0][next(iter(ends))][-1][0], "loss_at_the_end_by_seed": ends}, indent=1))
    if arguments.plot:
        title = (
            f"{arguments.peers} peers, {len(seeds)} seeds, batch {BATCH} each, outer step every {arguments.every} inner steps"
        )
        arguments.plot.write_text(drawn(title, seeds))


if __name__ == "__main__":
    main()
