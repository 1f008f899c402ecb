"""Starts the peers of an example on this machine: a master in this process, and the same script once more for each peer."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Callable

import pccl


def main(peer: Callable[[argparse.Namespace], None], description: str, *, steps: int, peers: int = 3) -> int:
    """`--master` given: this is a peer, on whatever machine. Otherwise this starts a run."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--master", metavar="HOST:PORT", help="take part in that run instead of starting one here")
    parser.add_argument("--peers", type=int, default=peers, help="peers to start here (default %(default)s)")
    parser.add_argument("--steps", type=int, default=steps, help="steps the peers take together (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the data this peer draws")
    arguments = parser.parse_args()
    if arguments.master:
        peer(arguments)
        return 0
    with pccl.MasterNode("127.0.0.1:0") as master:
        master.run()
        running = [start(master.address, number, arguments.steps) for number in range(arguments.peers)]
        return max(abs(one.wait()) for one in running)


def tell(arguments: argparse.Namespace, comm: pccl.Communicator, step: str, loss: float) -> None:
    print(f"peer {arguments.seed} of {comm.world_size}, {step}: loss {loss:.3f}", flush=True)


def start(address: str, number: int, steps: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, sys.argv[0], "--master", address, "--seed", str(number), "--steps", str(steps)]
    return subprocess.Popen(command)
