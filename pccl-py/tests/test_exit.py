"""The end of the interpreter, with everything still under way: no hang, no crash, nothing left."""

import signal

import pytest
from conftest import RUN_OF_TWO

import pccl

ENDS = {
    "with a handle": "a, b = run_of_two(); handle = a.all_reduce_async(bytearray(1000000))",
    "with a handle of a dropped peer": "a, b = run_of_two(); handle = a.all_reduce_async(bytearray(1000000)); del a",
    "with a peer in a cycle": "a, b = run_of_two(); a.me = a; a.others = [b, a]",
    "with a thread that waits": """
a, b = run_of_two()
threading.Thread(target=lambda: a.all_reduce(bytearray(1000)), daemon=True).start()""",
    "with a thread in a phase call": """
a, b = run_of_two()
threading.Thread(target=a.update_topology, daemon=True).start()""",
    "with an exception": "a, b = run_of_two(); handle = a.all_reduce_async(bytearray(100)); sys.exit(0)",
    "with an awaiting task": """
import asyncio
a, b = run_of_two()
async def main():
    waiting = asyncio.ensure_future(a.all_reduce_async(bytearray(100))._completed())
    await asyncio.sleep(0)
asyncio.run(main())""",
    "with a master that was interrupted": "master = pccl.MasterNode('127.0.0.1:0'); master.run(); master.interrupt()",
    "after a fork": """
import os, warnings
# Newer Pythons warn of it.
warnings.simplefilter('ignore', DeprecationWarning)
a, b = run_of_two()
child = os.fork()
if child == 0:
    try:
        a.all_reduce(bytearray(1))
    except pccl.PCCLError as error:
        assert 'fork' in str(error), error
    else:
        os._exit(3)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
both = [threading.Thread(target=peer.update_topology) for peer in (a, b)]
[one.start() for one in both]
[one.join() for one in both]""",
}


@pytest.mark.parametrize("name", ENDS)
def test_the_interpreter_ends(script, master, name):
    assert script(RUN_OF_TWO + ENDS[name], master.address).end() == (0, "", "")
    # The master has seen both go.
    with pccl.Communicator(master.address) as comm:
        comm.connect()
        assert comm.world_size == 1


LAST_LINES = {
    "run": "master.run()",
    "run, beside a thread": "import threading; threading.Thread(target=print, daemon=True).start(); master.run()",
    "del": "master.run(); print('dropped', flush=True); del master; print('not reached')",
    "in a function": "def f(m):\n    m.run()\nf(master); m = master; del master; del m; print('not reached')",
}


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", LAST_LINES)
def test_a_script_whose_master_runs_stays_until_it_is_told_to_stop(script, name, stop):
    text = "import pccl\nprobe = pccl.MasterNode('127.0.0.1:0'); probe.run(); at = probe.address; probe.interrupt()\n"
    text += "master = pccl.MasterNode(at); print(at, flush=True)\n" + LAST_LINES[name]
    running = script(text)
    address = running.line()
    with pccl.Communicator(address) as comm:
        comm.connect(n_attempts=60)
        comm.update_topology()
        assert running.process.poll() is None
        running.process.send_signal(stop)
        status, out, err = running.end()
    assert "not reached" not in out
    if stop is signal.SIGTERM:
        assert status == -signal.SIGTERM
    elif name in ("del", "in a function"):
        # As Ctrl-C in any other line.
        assert "KeyboardInterrupt" in err and status != 0
    else:
        assert (status, err) == (0, "")


def test_another_thread_may_interrupt_a_master_that_stays(script):
    text = """
import sys, threading
import pccl
master = pccl.MasterNode('127.0.0.1:0')
master.run()
print('running', flush=True)
def stop(master):
    sys.stdin.readline()
    master.interrupt()
threading.Thread(target=stop, args=(master,), daemon=True).start()
"""
    import subprocess
    import sys

    process = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "running\n"
    process.communicate("stop\n", timeout=60)
    assert process.returncode == 0
