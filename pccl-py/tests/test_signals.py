"""Ctrl-C ends every wait, and the process can still leave."""

import signal
import statistics

import pytest
from conftest import RUN_OF_TWO, each, interrupted

import pccl

# How long each took from the signal to the exception, in seconds. Printed (`pytest -rP`): a busy machine may be late.
TOOK = {}
# Those that were started: all of WAITS, unless pytest was asked for less.
RUN = set()

WAITS = {
    "connect to nobody": "comm = pccl.Communicator('127.0.0.1:1'); wait = lambda: comm.connect(n_attempts=1000)",
    "connect, pending": """
member = pccl.Communicator(sys.argv[1])
member.connect()
comm = pccl.Communicator(sys.argv[1])
wait = comm.connect""",
    "connect to one who is silent": """
import socket
silent = socket.create_server(('127.0.0.1', 0))
comm = pccl.Communicator('127.0.0.1:%d' % silent.getsockname()[1])
wait = comm.connect""",
    "update_topology": "comm = peer(); wait = comm.update_topology",
    "are_peers_pending": "comm = peer(); wait = comm.are_peers_pending",
    "optimize_topology": "comm = peer(); wait = comm.optimize_topology",
    "all_reduce": "comm = peer(); wait = lambda: comm.all_reduce(bytearray(100000))",
    "handle": "comm = peer(); wait = comm.all_reduce_async(bytearray(100000)).wait",
    "handle with a time-out": "comm = peer(); handle = comm.all_reduce_async(bytearray(9)); wait = lambda: handle.wait(timeout=1000)",
    "list": """
comm = peer()
what = [pccl.ReduceDescriptor(count=9, op=pccl.ReduceOp.SUM, tag=tag) for tag in range(10)]
data = [bytearray(9) for _ in what]
wait = lambda: comm.all_reduce_multiple_with_retry([pccl.ReduceOpDescriptor(d, d, w) for d, w in zip(data, what)])""",
    "sync_shared_state": """
comm = peer()
state = pccl.SharedState([pccl.TensorInfo.from_buffer(bytearray(100000), 'a')])
wait = lambda: comm.sync_shared_state(state)""",
    "await": """
import asyncio
comm = peer()
handle = comm.all_reduce_async(bytearray(9))
async def awaited():
    await handle
wait = lambda: asyncio.run(awaited())""",
    "all_reduce_tensors": """
import torch
from pccl.torch import all_reduce_tensors
comm = peer()
wait = lambda: all_reduce_tensors(comm, [torch.zeros(10) for _ in range(20)], bucket_bytes=100)""",
    "SharedModelState.sync": """
import torch
from pccl.torch import SharedModelState
comm = peer()
state = SharedModelState(torch.nn.Linear(2, 2))
wait = lambda: state.sync(comm)""",
    "admit": """
import torch
from pccl.torch import admit
comm = peer()
wait = lambda: admit(comm)""",
    "Host.wait_until_whole": """
import torch.distributed
from pccl.torch import Host
comm = pccl.Communicator(sys.argv[1])
comm.connect()
host = Host(torch.distributed.HashStore(), 0, 2)
wait = lambda: host.wait_until_whole(comm)""",
    "a DiLoCo is made, and the run lets nobody in": """
import torch
from pccl.torch import DiLoCo
member = pccl.Communicator(sys.argv[1])
member.connect()
comm = pccl.Communicator(sys.argv[1])
wait = lambda: DiLoCo(comm, torch.nn.Linear(2, 2), every=1)""",
    "a DiLoCo is made, and nobody compares": """
import torch
from pccl.torch import DiLoCo
comm = peer()
wait = lambda: DiLoCo(comm, torch.nn.Linear(2, 2), every=1)""",
    "an outer step": """
import torch
from pccl.torch import DiLoCo
comm = pccl.Communicator(sys.argv[1])
diloco = DiLoCo(comm, torch.nn.Linear(2, 2), every=1)
other = pccl.Communicator(sys.argv[1])
joining = threading.Thread(target=other.connect)
joining.start()
while comm.world_size < 2:
    comm.update_topology()
joining.join()
wait = diloco.step""",
    "master": "master = pccl.MasterNode('127.0.0.1:0'); master.run(); wait = master.wait",
}

# Signals whose handler does not raise, before the one that does: each is sent when the one before was answered.
ANSWERS = 3
WAITER = """
import os, signal

answers = []
signal.signal(signal.SIGUSR1, lambda *_: answers.append(1))

def interrupt():
    global sent
    main = threading.main_thread()
    for answered in range(1, {answers} + 1):
        until_it_stands(main)
        os.kill(os.getpid(), signal.SIGUSR1)
        while len(answers) < answered:
            time.sleep(0.01)
    until_it_stands(main)
    sent = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)

{setup}
threading.Thread(target=interrupt).start()
try:
    wait()
except KeyboardInterrupt:
    print(time.monotonic() - sent, len(answers), flush=True)
if 'master' in globals():
    # Or the script would go on to its end with it.
    master.interrupt()
"""


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_answers_signals_and_is_interrupted_and_the_process_ends(script, name, master):
    text = WAITER.format(setup=WAITS[name], answers=ANSWERS)
    if "torch" in text:
        pytest.importorskip("torch")
    RUN.add(name)
    waiter = script(RUN_OF_TWO + text, master.address)
    took, answers = waiter.line().split()
    assert int(answers) == ANSWERS
    TOOK[name] = float(took)
    assert waiter.end() == (0, "", "")


def test_the_waits_above_were_all_interrupted():
    """Tells how long that took, which belongs to the machine: asserted is that all were, each with `KeyboardInterrupt`."""
    if not RUN:
        pytest.skip("none was run")
    in_time = sum(took < 0.1 for took in TOOK.values())
    print(f"Ctrl-C: median {statistics.median(TOOK.values()) * 1000:.0f} ms, {in_time} of {len(TOOK)} within 100 ms")
    print(", ".join(f"{name}: {took * 1000:.0f} ms" for name, took in TOOK.items()))
    assert set(TOOK) == RUN


def test_a_handler_that_does_not_raise_ends_no_wait(script, master):
    text = """
import signal
signal.signal(signal.SIGUSR1, lambda *_: print('signalled', flush=True))
a, b = run_of_two()
data = bytearray([1])
handle = a.all_reduce_async(data)
threading.Thread(target=lambda: (sys.stdin.readline(), b.all_reduce(bytearray([2])))).start()
print('waiting', flush=True)
print(handle.wait()[0], data[0])
"""
    import subprocess
    import sys

    process = subprocess.Popen(
        [sys.executable, "-c", RUN_OF_TWO + text, master.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "signalled\n"
    out, _ = process.communicate("go on\n", timeout=60)
    assert out == "True 3\n" and process.returncode == 0


def test_an_interrupted_all_reduce_goes_on_and_keeps_its_memory(two):
    """What a raising handler leaves behind, seen in one process: the other peer may still come."""
    data = bytearray([1] * 1000)
    interrupted(lambda: two[0].all_reduce(data))
    with pytest.raises(BufferError):
        data.extend(b"more")
    assert two[1].all_reduce(bytearray([2] * 1000)).local_world_size == 2
    assert data[0] == 3
    with pytest.raises(pccl.PCCLError):
        two[0].all_reduce(data, tag=1, quantize="u8")
    # The first peer hears of the end of one operation before it hears of that of the next.
    each(two, lambda peer, _: peer.all_reduce(bytearray(8), tag=2))
    data.extend(b"more")
