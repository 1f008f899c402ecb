#!/usr/bin/env python3
"""What a call from Python costs beside the same call of the C library.

Two pairs of processes on loopback, one of C programs and one of Python, each with a master of its own; the pairs take turns
in short blocks, so that both see the same machine. Prints JSON, all in microseconds: by block medians of a call, and of
the processor time of the calling thread; `over_c` is the difference to the C block of the same round: median and quartiles
over the rounds. `all_reduce` sums 4 KiB in place; `world_size` asks nobody, so it is what the border itself costs. Both
clocks are read in the loops of both languages.

Needs a C compiler, the C library and the package, both as they are shipped:

    cargo build --release -p pccl-ffi
    python3 bench/python_call.py --library target/release
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Callable

import pccl

ROOT = pathlib.Path(__file__).resolve().parent.parent
BYTES = 4096


def buffers() -> dict[str, object]:
    kinds: dict[str, object] = {"bytearray": bytearray(BYTES)}
    try:
        import numpy

        kinds["numpy"] = numpy.zeros(BYTES // 4, dtype=numpy.float32)
    except ImportError:
        pass
    try:
        import torch

        torch.set_num_threads(1)
        kinds["torch"] = torch.zeros(BYTES // 4)
    except ImportError:
        pass
    return kinds


def peer(address: str) -> None:
    """Does what bench/call.c does."""
    with pccl.Communicator(address) as comm:
        comm.connect()
        while comm.world_size < 2:
            comm.update_topology()
        calls: dict[str, Callable[[], object]] = {"world_size": lambda: comm.world_size}
        for name, buffer in buffers().items():
            calls[name] = lambda buffer=buffer: comm.all_reduce(buffer)  # type: ignore[misc]
        print(*calls, flush=True)
        for line in sys.stdin:
            name, count = line.split()
            call, took = calls[name], []
            cpu = time.thread_time()
            for _ in range(int(count)):
                begun = time.perf_counter()
                call()
                took.append(time.perf_counter() - begun)
            cpu = (time.thread_time() - cpu) / int(count)
            print(f"{statistics.median(took) * 1e6:.3f} {cpu * 1e6:.3f}", flush=True)


class Pair:
    """Two processes that make the same calls when they are told to, and wait for it meanwhile."""

    def __init__(self, command: list[str]) -> None:
        self._ends = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]

    def lines(self) -> list[str]:
        found = [end.stdout.readline() for end in self._ends]  # type: ignore[union-attr]
        if not all(found):
            raise SystemExit("a peer has ended before its time")
        return found

    def block(self, what: str, count: int) -> tuple[float, float]:
        """A call's time and its thread's processor time, the mean of both ends."""
        for end in self._ends:
            end.stdin.write(f"{what} {count}\n")  # type: ignore[union-attr]
            end.stdin.flush()  # type: ignore[union-attr]
        both = [tuple(map(float, line.split())) for line in self.lines()]
        return (both[0][0] + both[1][0]) / 2, (both[0][1] + both[1][1]) / 2

    def end(self) -> None:
        for end in self._ends:
            end.stdin.close()  # type: ignore[union-attr]
        for end in self._ends:
            if end.wait(60) != 0:
                raise SystemExit("a peer failed")


def compiled(compiler: str, library: pathlib.Path, folder: str) -> str:
    program = f"{folder}/call"
    # By the name that the loader asks for; what cargo builds has the other one.
    (pathlib.Path(folder) / f"libpccl.so.{pccl.__version__.split('.')[0]}").symlink_to(library / "libpccl.so")
    command = [compiler, "-std=c99", "-O2", "-Wall", "-Wextra", "-I", str(ROOT / "include"), str(ROOT / "bench" / "call.c")]
    command += ["-o", program, "-L", str(library), "-lpccl", f"-Wl,-rpath,{folder}"]
    subprocess.run(command, check=True)
    return program


def middle(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": round(median, 2), "quartiles": [round(low, 2), round(high, 2)]}  # type: ignore[dict-item]


def measured(arguments: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder, pccl.MasterNode("127.0.0.1:0") as ours, pccl.MasterNode("127.0.0.1:0") as theirs:
        ours.run()
        theirs.run()
        program = compiled(arguments.cc, arguments.library.resolve(), folder)
        c = Pair([program, theirs.address.split(":")[1], str(BYTES)])
        python = Pair([sys.executable, __file__, "--master", ours.address])
        kinds = python.lines()[0].split()
        # Each all-reduce of Python beside a block of C of its own: what came just before is alike.
        turns = [(kind, "world_size" if kind == "world_size" else "all_reduce") for kind in kinds]
        rounds: dict[str, list[tuple[float, float, float, float]]] = {kind: [] for kind in kinds}
        for number in range(-3, arguments.rounds):
            for kind, of_c in turns:
                pairs = [(c, of_c), (python, kind)]
                # By turns the one or the other is first.
                found = {id(pair): pair.block(what, arguments.calls) for pair, what in (pairs if number % 2 else pairs[::-1])}
                if number >= 0:
                    rounds[kind].append((*found[id(c)], *found[id(python)]))
        c.end()
        python.end()
    return {
        kind: {
            "c_us": middle([one[0] for one in blocks]),
            "python_us": middle([one[2] for one in blocks]),
            "over_c_us": middle([one[2] - one[0] for one in blocks]),
            "c_cpu_us": middle([one[1] for one in blocks]),
            "python_cpu_us": middle([one[3] for one in blocks]),
            "cpu_over_c_us": middle([one[3] - one[1] for one in blocks]),
        }
        for kind, blocks in rounds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=pathlib.Path, default=ROOT / "target" / "release", help="where libpccl is (default %(default)s)")
    parser.add_argument("--cc", default="cc", help="the C compiler (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=30, help="turns of both pairs (default %(default)s)")
    parser.add_argument("--calls", type=int, default=300, help="calls of one turn (default %(default)s)")
    parser.add_argument("--master", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.master:
        peer(arguments.master)
    else:
        print(json.dumps({"bytes": BYTES, "pccl": pccl.__version__, **measured(arguments)}, indent=1))


if __name__ == "__main__":
    main()
