"""Ctrl-C ends every wait, and the process can still leave."""

import signal
import time

import pytest

import pccl

# Measured beside other work on few cores; the library itself looks every 40 ms.
SOON_S = 2.0

WAITS = {
    "connect to nobody": "comm = pccl.Communicator('127.0.0.1:1'); wait = lambda: comm.connect(n_attempts=1000)",
    "connect to one who is silent": """
import socket
silent = socket.create_server(('127.0.0.1', 0))
comm = pccl.Communicator('127.0.0.1:%d' % silent.getsockname()[1])
wait = comm.connect""",
    "update_topology": "comm = peer(); wait = comm.update_topology",
    "are_peers_pending": "comm = peer(); wait = comm.are_peers_pending",
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
    "master": "master = pccl.MasterNode('127.0.0.1:0'); master.run(); wait = master.wait",
}

WAITER = """
import sys, time
import pccl

def peer():
    # The other one is in this process too, and stands still.
    global other
    import threading
    other = pccl.Communicator(sys.argv[1])
    other.connect()
    comm = pccl.Communicator(sys.argv[1])
    joining = threading.Thread(target=comm.connect)
    joining.start()
    while other.world_size < 2:
        other.update_topology()
    joining.join()
    return comm

{setup}
try:
    print('waiting', flush=True)
    wait()
except KeyboardInterrupt:
    print('interrupted', flush=True)
if 'master' in globals():
    # Or the script would go on to its end with it.
    master.interrupt()
"""


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_is_interrupted_and_the_process_ends(script, name, master):
    waiter = script(WAITER.format(setup=WAITS[name]), master.address)
    assert waiter.line() == "waiting"
    # Some milliseconds pass between the word and the wait: whenever the signal comes, the answer is the same.
    sent = time.monotonic()
    waiter.process.send_signal(signal.SIGINT)
    assert waiter.line() == "interrupted"
    took = time.monotonic() - sent
    print(f"{name}: {took * 1000:.0f} ms")
    assert took < SOON_S
    assert waiter.end() == (0, "", "")


def test_a_handler_that_does_not_raise_ends_no_wait(script, master):
    text = """
import signal, sys, threading
import pccl
signal.signal(signal.SIGUSR1, lambda *_: print('signalled', flush=True))
a = pccl.Communicator(sys.argv[1])
a.connect()
b = pccl.Communicator(sys.argv[1])
joining = threading.Thread(target=b.connect)
joining.start()
while a.world_size < 2:
    a.update_topology()
joining.join()
data = bytearray([1])
handle = a.all_reduce_async(data)
threading.Thread(target=lambda: (sys.stdin.readline(), b.all_reduce(bytearray([2])))).start()
print('waiting', flush=True)
print(handle.wait()[0], data[0])
"""
    import subprocess
    import sys

    process = subprocess.Popen(
        [sys.executable, "-c", text, master.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "signalled\n"
    out, _ = process.communicate("go on\n", timeout=60)
    assert out == "True 3\n" and process.returncode == 0


def test_an_interrupted_all_reduce_goes_on_and_keeps_its_memory(two):
    """What a raising handler leaves behind, seen in one process: the other peer may still come."""
    data = bytearray([1] * 1000)

    def raise_it(*_):
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, raise_it)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(InterruptedError):
            two[0].all_reduce(data)
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(BufferError):
        data.extend(b"more")
    assert two[1].all_reduce(bytearray([2] * 1000)).local_world_size == 2
    assert data[0] == 3
    with pytest.raises(pccl.PCCLError):
        two[0].all_reduce(data, tag=1, quantize="u8")
    data.extend(b"more")
