#!/usr/bin/env python3
"""How long a join takes, and how long it holds up the members: one process of a run over any network.

Members all-reduce in a loop and let in whoever waits; the newcomer comes again and again. The newcomer prints the time from
`connect` to its first result, a member that of the calls that let it in, beside an operation; medians and largest, in
milliseconds. With `--rtt-ms` of the path also in round trips.

With the master on the host of the first member (`pccl master --listen 0.0.0.0:48148`), on each host one of these, the newcomer
when the members are together:

    python3 bench/join.py --master HOST:48148 --members 2 --joins 10 --rtt-ms 80
    python3 bench/join.py --master HOST:48148 --members 2 --joins 10 --rtt-ms 80 --newcomer
"""

from __future__ import annotations

import argparse
import statistics
import time

import pccl


def newcomer(arguments: argparse.Namespace) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"connect": [], "first result": []}
    for _ in range(arguments.joins):
        begun = time.perf_counter()
        with pccl.Communicator(arguments.master) as comm:
            comm.connect()
            times["connect"].append(time.perf_counter() - begun)
            comm.all_reduce(bytearray(arguments.bytes))
            times["first result"].append(time.perf_counter() - begun)
        # The members notice, and are among themselves again.
        time.sleep(arguments.pause)
    return times


def member(arguments: argparse.Namespace) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"operation": [], "pause": []}
    joined, data = 0, bytearray(arguments.bytes)
    with pccl.Communicator(arguments.master) as comm:
        comm.connect()
        while joined < arguments.joins or comm.world_size > arguments.members:
            begun = time.perf_counter()
            try:
                if comm.world_size >= arguments.members:
                    comm.all_reduce(data)
                    times["operation"].append(time.perf_counter() - begun)
                whole = comm.world_size >= arguments.members
                if not whole and comm.are_peers_pending() or whole and comm.peers_pending > 0:
                    begun = time.perf_counter()
                    comm.update_topology()
                    if comm.world_size > arguments.members:
                        joined += 1
                        times["pause"].append(time.perf_counter() - begun)
            except pccl.PCCLError as error:
                # Whoever left in the middle of an operation.
                if error.result is not pccl.Result.RANK_CONNECTION_LOST:
                    raise
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--master", required=True, metavar="HOST:PORT")
    parser.add_argument("--newcomer", action="store_true", help="come and go; without it be a member")
    parser.add_argument("--members", type=int, default=2, help="how many there are without the newcomer")
    parser.add_argument("--joins", type=int, default=10, help="how often the newcomer comes")
    parser.add_argument("--bytes", type=int, default=1 << 20, help="of an operation")
    parser.add_argument("--pause", type=float, default=1.0, metavar="SECONDS", help="between two visits of the newcomer")
    parser.add_argument("--rtt-ms", type=float, default=0.0, help="round trip of the path, to print times in it as well")
    arguments = parser.parse_args()
    for what, all_of in (newcomer if arguments.newcomer else member)(arguments).items():
        middle, largest = 1e3 * statistics.median(all_of), 1e3 * max(all_of)
        in_trips = f", {middle / arguments.rtt_ms:.1f} round trips" if arguments.rtt_ms else ""
        print(f"{what}: median {middle:.1f} ms{in_trips}, largest {largest:.1f} ms, of {len(all_of)}")


if __name__ == "__main__":
    main()
