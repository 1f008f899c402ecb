#!/usr/bin/env python3
"""Times Gloo's all-reduce (torch.distributed) of f32 on loopback as `pccl bench` times ours, for comparison.

Needs torch; exits with 77 where it is missing. Prints JSON: for each size the median, minimum and maximum of the
mean time over the processes, busbw, and CPU seconds per GB with the conventions of `pccl bench --help`.

Gloo's all-reduce works in place. Its input is not written anew between iterations: it is zero and stays so.

    python3 bench/gloo.py --world 2 --sizes 4096,67108864
"""

import argparse
import json
import multiprocessing.connection
import os
import socket
import statistics
import sys
import time

SKIPPED = 77


def rank_main(rank, args, port, results):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=args.world)
    rows = [measure(torch, dist, args, size) for size in args.sizes]
    dist.barrier()
    if rank == 0:
        results.put(rows)
    dist.destroy_process_group()


def measure(torch, dist, args, size):
    data = torch.zeros(max(1, size // 4), dtype=torch.float32)
    last = 0.0
    for _ in range(args.warmup):
        begun = time.perf_counter()
        dist.all_reduce(data)
        last = time.perf_counter() - begun
    slowest = torch.tensor([last])
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    iterations = args.iters or min(1000, max(5, int(args.seconds / max(slowest.item(), 1e-6))))
    times, cpu = [], time.process_time()
    for _ in range(iterations):
        begun = time.perf_counter()
        dist.all_reduce(data)
        times.append((time.perf_counter() - begun) * 1e6)
    cpu = time.process_time() - cpu
    return row(torch, dist, args.world, data.numel() * 4, times, cpu / iterations)


def row(torch, dist, world, size, times, cpu_s):
    figures = torch.tensor(times + [cpu_s * world], dtype=torch.float64)
    dist.all_reduce(figures)
    *times, cpu_s = (figures / world).tolist()
    median = statistics.median(times)
    factor = 2 * (world - 1) / world
    return {
        "size_bytes": size,
        "world": world,
        "iterations": len(times),
        "time_us": {"median": median, "min": min(times), "max": max(times)},
        "busbw_gb_s": factor * size / 1e3 / median,
        "cpu_s_per_gb": cpu_s / (world * factor * size / 1e9),
    }


def trouble(ranks, deadline):
    """Waits for all ranks; why they failed, or None. No rank is left: where one fails, the others would wait for it."""
    try:
        while any(rank.is_alive() for rank in ranks):
            if any(rank.exitcode not in (None, 0) for rank in ranks):
                break
            left = deadline - time.monotonic()
            if left <= 0:
                return "the ranks did not end in time"
            multiprocessing.connection.wait([rank.sentinel for rank in ranks if rank.is_alive()], left)
        codes = [rank.exitcode for rank in ranks]
        return None if all(code == 0 for code in codes) else f"a rank failed; exit codes: {codes}"
    finally:
        for rank in ranks:
            rank.kill()
            rank.join()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def congestion_control():
    try:
        with open("/proc/sys/net/ipv4/tcp_congestion_control") as f:
            return f.read().strip()
    except OSError:
        return "unknown"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--sizes", type=lambda s: [int(x) for x in s.split(",")], default=[64 << 20])
    parser.add_argument("--iters", type=int, help="default: what fits into --seconds, 5 at least")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds after which all of it has failed")
    args = parser.parse_args()
    try:
        import torch
        import torch.multiprocessing as mp
    except ImportError as error:
        print(f"SKIPPED: {error}", file=sys.stderr)
        return SKIPPED
    # Forked, so that torch is loaded once; nothing of it has started a thread yet.
    context = mp.get_context("fork")
    results, port = context.SimpleQueue(), free_port()
    ranks = [context.Process(target=rank_main, args=(r, args, port, results)) for r in range(args.world)]
    for process in ranks:
        process.start()
    reason = trouble(ranks, time.monotonic() + args.limit)
    if reason:
        print(reason, file=sys.stderr)
        return 1
    report = {"torch": torch.__version__, "congestion_control": congestion_control(), "rows": results.get()}
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
