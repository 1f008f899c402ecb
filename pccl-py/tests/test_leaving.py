"""Leaving the run while other threads are in calls: their waits end, and nothing is masked."""

import pytest
from conftest import LIMIT_S, RUN_OF_TWO

import pccl

# The thread is no daemon: if its wait does not end, neither does the process.
LEAVER = """
{setup}
errors = []
def waiting():
    try:
        wait()
    except pccl.PCCLError as error:
        errors.append(error)
thread = threading.Thread(target=waiting)
try:
    with comm:
        thread.start()
        until_it_stands(thread)
        raise KeyError('mine')
except KeyError:
    print('mine came', flush=True)
thread.join()
assert not comm.is_connected
for error in errors:
    assert error.result is pccl.Result.RANK_CONNECTION_LOST, error
print('ended', len(errors), flush=True)
"""

WAITS = {
    "connect": """
silent = __import__('socket').create_server(('127.0.0.1', 0))
comm = pccl.Communicator('127.0.0.1:%d' % silent.getsockname()[1])
wait = lambda: comm.connect(n_attempts=1)""",
    "connect, pending": """
member = pccl.Communicator(sys.argv[1])
member.connect()
comm = pccl.Communicator(sys.argv[1])
wait = lambda: comm.connect(n_attempts=1)""",
    "update_topology": "comm = peer(); wait = comm.update_topology",
    "are_peers_pending": "comm = peer(); wait = comm.are_peers_pending",
    "optimize_topology": "comm = peer(); wait = comm.optimize_topology",
    "all_reduce": "comm = peer(); wait = lambda: comm.all_reduce(bytearray(100000))",
    "list": """
comm = peer()
what = [pccl.ReduceDescriptor(count=9, op=pccl.ReduceOp.SUM, tag=tag) for tag in range(10)]
data = [bytearray(9) for _ in what]
wait = lambda: comm.all_reduce_multiple_with_retry([pccl.ReduceOpDescriptor(d, d, w) for d, w in zip(data, what)])""",
    "sync_shared_state": """
comm = peer()
state = pccl.SharedState([pccl.TensorInfo.from_buffer(bytearray(100000), 'a')])
wait = lambda: comm.sync_shared_state(state)""",
}


@pytest.mark.parametrize("name", WAITS)
def test_leaving_ends_the_wait_of_another_thread_and_keeps_the_exception(script, name, master):
    assert script(RUN_OF_TWO + LEAVER.format(setup=WAITS[name]), master.address).end(LIMIT_S) == (0, "mine came\nended 1\n", "")


def test_a_signals_handler_may_leave_what_its_own_thread_waits_in(script, master):
    text = """
import os, signal
a, b = run_of_two()
signal.signal(signal.SIGALRM, lambda *_: a.destroy())
main = threading.main_thread()
threading.Thread(target=lambda: (until_it_stands(main), os.kill(os.getpid(), signal.SIGALRM))).start()
try:
    a.update_topology()
except pccl.PCCLError as error:
    print(error.result.name)
b.update_topology()
print(b.world_size)
"""
    assert script(RUN_OF_TWO + text, master.address).end() == (0, "RANK_CONNECTION_LOST\n1\n", "")
