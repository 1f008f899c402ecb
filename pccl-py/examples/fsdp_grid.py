"""The grid: FSDP2 inside each host, pccl across hosts. `python pccl-py/examples/fsdp_grid.py`

Two "hosts" of two ranks on this machine. Inside a host torch shards the model over Gloo; across hosts each rank averages its
shard with the ranks of its place, which are a peer group of their own. One host is killed on the way and comes back. At the
end all hosts must hold the same bits.
"""

from __future__ import annotations

import argparse
import hashlib
import queue
import signal
import subprocess
import sys
import threading
from typing import Any, Optional

import torch
import torch.distributed as dist
from characters import GPT, batch, inner_step, text
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import pccl
from pccl.torch import DiLoCo, Host

RANKS = 2
HOSTS = 2


def rank(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(arguments.host)
    store = dist.TCPStore("127.0.0.1", arguments.store, RANKS, is_master=False)
    dist.init_process_group("gloo", store=store, rank=arguments.rank, world_size=RANKS)
    mesh = init_device_mesh("cpu", (RANKS,))
    model = GPT()
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    data, draw = text(), torch.Generator().manual_seed(RANKS * arguments.host + arguments.rank)
    with pccl.Communicator(arguments.master, peer_group=arguments.rank) as comm:
        comm.connect(n_attempts=60)
        # Over the host's store its ranks agree whether all of them are in: a half host may not go on, nor may others with it.
        host = Host(store, arguments.rank, RANKS)
        diloco = DiLoCo(comm, model, optimizer, every=5, host=host)
        was_full = lost = bool(arguments.again)
        together = int(lost)
        # So many outer steps with all hosts, after the one that was lost has come back.
        while together < arguments.steps:
            loss = inner_step(model, optimizer, batch(data, 8, draw))
            if not diloco.step():
                continue
            hosts = comm.group_world_size
            was_full = was_full or hosts == HOSTS
            lost = lost or (was_full and hosts < HOSTS)
            together += int(lost and hosts == HOSTS)
            if arguments.rank == 0:
                print(f"host {arguments.host}: outer step {diloco.outer_steps}, {hosts} hosts, loss {loss:.3f}", flush=True)
        digest = hashlib.sha256()
        for parameter in model.parameters():
            digest.update(parameter.detach().to_local().numpy().tobytes())
        print(f"END {arguments.rank} {diloco.outer_steps} {digest.hexdigest()}", flush=True)
    dist.destroy_process_group()


class Ranks:
    """Those of one host. They end together, as those of torchrun do: when one fails, the others are killed."""

    def __init__(self, number: int, master: str, steps: int, *, again: bool = False) -> None:
        self.number = number
        self.store = dist.TCPStore("127.0.0.1", 0, RANKS, is_master=True, wait_for_workers=False)
        common = ["--master", master, "--host", str(number), "--store", str(self.store.port), "--steps", str(steps)]
        common += ["--again"] if again else []
        self.lines: list[str] = []
        # One entry for each outer step, and None when its ranks have ended.
        self.outer_steps: queue.Queue[Optional[str]] = queue.Queue()
        self.ranks = [
            subprocess.Popen([sys.executable, sys.argv[0], *common, "--rank", str(i)], stdout=subprocess.PIPE, text=True)
            for i in range(RANKS)
        ]
        self._watchers = [threading.Thread(target=self._watch, args=(one,)) for one in self.ranks]
        for watcher in self._watchers:
            watcher.start()

    def _watch(self, one: subprocess.Popen[str]) -> None:
        stream: Any = one.stdout
        for line in stream:
            self.lines.append(line.strip())
            if line.startswith("host"):
                print(line, end="", flush=True)
                self.outer_steps.put(line)
        if one.wait() != 0:
            self.kill()
        self.outer_steps.put(None)

    def wait_for_steps(self, count: int) -> None:
        for _ in range(count):
            if self.outer_steps.get() is None:
                raise SystemExit(f"host {self.number} has ended before its time")

    def kill(self) -> None:
        for one in self.ranks:
            one.send_signal(signal.SIGKILL)

    def end(self) -> list[str]:
        """What its ranks hold."""
        for watcher in self._watchers:
            watcher.join()
        statuses = [one.returncode for one in self.ranks]
        if any(statuses):
            raise SystemExit(f"the ranks of host {self.number} have ended with {statuses}")
        return sorted(line for line in self.lines if line.startswith("END"))


def main() -> int:
    parser = argparse.ArgumentParser(description="2 hosts x 2 FSDP2 ranks on this machine; one host dies and comes back")
    parser.add_argument("--steps", type=int, default=3, help="outer steps of all hosts after that (default %(default)s)")
    for name, kind in (("master", str), ("host", int), ("rank", int), ("store", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--again", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.master:
        rank(arguments)
        return 0
    with pccl.MasterNode("127.0.0.1:0") as master:
        master.run()
        hosts = [Ranks(number, master.address, arguments.steps) for number in range(HOSTS)]
        try:
            hosts[1].wait_for_steps(3)
            print("host 1 is killed", flush=True)
            hosts[1].kill()
            hosts[1] = Ranks(1, master.address, arguments.steps, again=True)
            # One that has failed leaves the others waiting for it to come back.
            ends = [host.end() for host in hosts]
        finally:
            for host in hosts:
                host.kill()
    for place in range(RANKS):
        print(f"shard {place}: " + ", ".join(end[place].split()[3][:16] for end in ends))
    return 0 if all(end == ends[0] for end in ends) else 1


if __name__ == "__main__":
    sys.exit(main())
