#!/usr/bin/env python3
"""How far a quantized sum is from the exact one: every peer a process of its own, the sum checked against float64.

Peer r gives uniform numbers from 0 to 255 x (r + 1), as u8. Prints a line for each world, schedule and kind of quantization: the
worst error of an element of all peers' results, as a Markdown table; and fails if two peers hold different bits.

    python3 bench/quantization_error.py [--worlds 2,4] [--elements 65536]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
from array import array

import pccl

# With the reference system's worst errors at worlds of 2 and 4.
KINDS = {
    "MinMax": (pccl.QuantizationAlgorithm.MIN_MAX, {2: 3.0, 4: 16.0}),
    "ZeroPointScale": (pccl.QuantizationAlgorithm.ZERO_POINT_SCALE, {2: 5.2, 4: 17.3}),
}
SCHEDULES = ("mesh", "ring")


def given(number: int, elements: int) -> array[float]:
    draw = random.Random(number)
    return array("f", (draw.uniform(0.0, 255.0 * (number + 1)) for _ in range(elements)))


def peer(address: str, number: int, world: int, elements: int) -> None:
    """One all-reduce of each kind; a line with the kind, a hash of the result's bits and the worst error."""
    with pccl.Communicator(address) as comm:
        comm.connect()
        while comm.world_size < world:
            comm.update_topology()
        exact = [sum(column) for column in zip(*(given(peer, elements) for peer in range(world)))]
        for kind, (algorithm, _) in KINDS.items():
            own, result = given(number, elements), array("f", bytes(4 * elements))
            options = pccl.QuantizationOptions(pccl.DataType.UINT8, algorithm)
            comm.all_reduce(own, result, op=pccl.ReduceOp.SUM, quantization_options=options)
            worst = max(abs(a - b) for a, b in zip(result, exact))
            print(kind, hashlib.sha256(result).hexdigest(), worst, flush=True)


def run(world: int, schedule: str, elements: int) -> dict[str, float]:
    # A master's setting, read when it is made.
    os.environ["PCCL_SCHEDULE"] = schedule
    master = pccl.MasterNode("127.0.0.1:0")
    master.run()
    try:
        command = [sys.executable, __file__, "--worlds", str(world), "--elements", str(elements), "--peer", master.address]
        peers = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(world)]
        try:
            said = [process.communicate(timeout=120)[0].splitlines() for process in peers]
        except subprocess.TimeoutExpired:
            sys.exit(f"world {world}, {schedule}: no result in two minutes")
        finally:
            for process in peers:
                process.kill()
        if any(process.returncode != 0 for process in peers):
            sys.exit(f"world {world}, {schedule}: a peer failed, see above")
    finally:
        master.interrupt()
    errors = {}
    for lines in zip(*said):
        (kind, *_), bits = lines[0].split(), {line.split()[1] for line in lines}
        if len(bits) != 1:
            sys.exit(f"world {world}, {schedule}, {kind}: peers hold different bits")
        errors[kind] = max(float(line.split()[2]) for line in lines)
    return errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", default="2,4", help="worlds to measure, with a comma between (default %(default)s)")
    parser.add_argument("--elements", type=int, default=65536, help="of the vector that is summed (default %(default)s)")
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        address, number = arguments.peer
        return peer(address, int(number), int(arguments.worlds), arguments.elements)
    print("| world | schedule | quantization | worst error | by the reference's |\n| ---: | --- | --- | ---: | ---: |")
    for world in map(int, arguments.worlds.split(",")):
        for schedule in SCHEDULES:
            for kind, error in run(world, schedule, arguments.elements).items():
                reference = KINDS[kind][1]
                by = f"{error / reference[world]:.2f}" if world in reference else ""
                print(f"| {world} | {schedule} | {kind} | {error:.2f} | {by} |", flush=True)


if __name__ == "__main__":
    main()
