"""Handles: waiting, asking, awaiting, and whose memory it is meanwhile."""

import array
import asyncio
import gc
import os
import time

import pytest
from conftest import RUN_OF_TWO, each, together

import pccl


def test_waits_give_the_same_tuple_again(two):
    handles = [peer.all_reduce_async(array.array("f", [1.0])) for peer in two]
    outcome = handles[0].wait()
    assert handles[0].wait() is outcome and handles[0].done() and handles[0].error is None
    is_success, status, info = outcome
    assert (is_success, status, info.local_world_size) == (True, 0, 2)
    handles[1].wait()


def test_a_timeout_leaves_it_going(two):
    data = [array.array("f", [1.0]), array.array("f", [2.0])]
    handle = two[0].all_reduce_async(data[0])
    assert not handle.done()
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        handle.wait(timeout=0.05)
    assert 0.04 < time.monotonic() - begun < 5
    two[1].all_reduce(data[1])
    assert handle.wait(timeout=60)[0] and data[0][0] == 3.0


def test_a_failure_is_in_the_tuple_and_in_words(two):
    handles = [peer.all_reduce_async(array.array("f", [1.0] * (1 + i))) for i, peer in enumerate(two)]
    for handle in handles:
        is_success, status, _ = handle.wait()
        assert not is_success and status == pccl.Result.INVALID_ARGUMENT.value
        assert handle.error.result is pccl.Result.INVALID_ARGUMENT and "1" in handle.error.reason


def test_many_tags_from_many_threads(two):
    def all_tags(peer, rank):
        def one(tag):
            data = array.array("q", [rank + tag] * 100)
            for _ in range(5):
                sent = array.array("q", data)
                peer.all_reduce(sent, tag=tag)
                assert sent[99] == 2 * tag + 1

        together(*(lambda tag=tag: one(tag) for tag in range(8)))

    each(two, all_tags)


def test_await_in_one_loop_while_other_tasks_run(two):
    async def main():
        data = [[array.array("f", [1.0 + tag]) for tag in range(10)] for _ in two]
        first = [two[0].all_reduce_async(data[0][tag], tag=tag) for tag in range(10)]
        waiting = asyncio.gather(*first)
        ticks = 0
        while ticks < 5:
            await asyncio.sleep(0)
            ticks += 1
        assert not waiting.done()
        second = [two[1].all_reduce_async(data[1][tag], tag=tag) for tag in range(10)]
        outcomes = await waiting
        assert all(outcome[0] for outcome in outcomes)
        assert [(await handle)[0] for handle in second] == [True] * 10
        assert [await handle for handle in first] == outcomes
        assert data[0][9][0] == data[1][9][0] == 20.0

    asyncio.run(main())


def test_one_of_two_awaiting_tasks_may_be_cancelled(two):
    async def main():
        handle = two[0].all_reduce_async(array.array("f", [1.0]))

        async def wait():
            return await handle

        one, other = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        two[1].all_reduce_async(array.array("f", [1.0]))
        assert (await asyncio.wait_for(other, 60))[0]

    asyncio.run(main())


def test_a_loop_may_end_before_the_operation(two):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(handle, 0.05)

    handle = two[0].all_reduce_async(array.array("f", [1.0]))
    asyncio.run(main())
    gc.collect()
    two[1].all_reduce(array.array("f", [1.0]))
    assert handle.wait()[0]


def test_a_handle_may_be_awaited_in_a_second_loop_when_the_first_is_closed(two):
    handle = two[0].all_reduce_async(array.array("f", [1.0]))

    async def short():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(handle, 0.05)

    async def long():
        two[1].all_reduce_async(array.array("f", [1.0]))
        return await asyncio.wait_for(handle, 60)

    asyncio.run(short())
    assert asyncio.run(long())[0]


def test_a_loop_that_cannot_look_at_pipes_leaves_nothing_open(two):
    def open_files():
        return len(os.listdir("/proc/self/fd"))

    class Blind(asyncio.SelectorEventLoop):
        def add_reader(self, *_):
            raise NotImplementedError

    handle = two[0].all_reduce_async(array.array("f", [1.0]))

    before = open_files()
    for _ in range(3):
        loop = Blind()
        with pytest.raises(NotImplementedError):
            handle._future(loop)
        loop.close()
    gc.collect()
    assert open_files() == before
    two[1].all_reduce(array.array("f", [1.0]))
    assert handle.wait(timeout=float("inf"))[0] and handle.wait(timeout=1e300)[0]


def test_a_wait_without_end_may_be_said_as_a_number(two):
    handle = two[0].all_reduce_async(array.array("f", [1.0]))
    assert together(lambda: handle.wait(timeout=float("inf")), lambda: two[1].all_reduce(array.array("f", [1.0])))[0][0]


def test_a_dropped_handle_ends_nothing(two):
    data = array.array("f", [1.0])
    two[0].all_reduce_async(data)
    gc.collect()
    two[1].all_reduce(array.array("f", [5.0]))
    # A second one on the tag comes after the first.
    each(two, lambda peer, _: peer.all_reduce(array.array("f", [1.0])))
    assert data[0] == 6.0


def test_leaving_ends_what_is_under_way(two):
    handle = two[0].all_reduce_async(array.array("f", [1.0]))
    two[0].destroy()
    is_success, status, _ = handle.wait(timeout=60)
    assert not is_success and pccl.Result(status) is pccl.Result.RANK_CONNECTION_LOST


# The main thread counts while another waits: in a process of its own, as a call that held the lock would stop everything.
COUNTER = """
{setup}
thread = threading.Thread(target=wait, daemon=True)
thread.start()
before = until_it_stands(thread)
# Many of the interpreter's turns of 5 ms.
counted, until = 0, time.monotonic() + 0.25
while time.monotonic() < until:
    counted += 1
assert thread.is_alive() and at(thread) == before
print(counted > 1000, flush=True)
"""

HELD = {
    "connect": """
member = pccl.Communicator(sys.argv[1])
member.connect()
comm = pccl.Communicator(sys.argv[1])
wait = comm.connect""",
    "all_reduce": "comm = peer(); wait = lambda: comm.all_reduce(bytearray(1000))",
    "wait": "comm = peer(); wait = comm.all_reduce_async(bytearray(1000)).wait",
    "wait with a time-out": "comm = peer(); handle = comm.all_reduce_async(bytearray(1000)); wait = lambda: handle.wait(timeout=1000)",
    "list": """
comm = peer()
data = bytearray(9)
what = pccl.ReduceDescriptor(count=9, op=pccl.ReduceOp.SUM, tag=0)
wait = lambda: comm.all_reduce_multiple_with_retry([pccl.ReduceOpDescriptor(data, data, what)])""",
    "update_topology": "comm = peer(); wait = comm.update_topology",
    "are_peers_pending": "comm = peer(); wait = comm.are_peers_pending",
    "optimize_topology": "comm = peer(); wait = comm.optimize_topology",
    "sync_shared_state": """
comm = peer()
state = pccl.SharedState([pccl.TensorInfo.from_buffer(bytearray(1000), 'a')])
wait = lambda: comm.sync_shared_state(state)""",
    "master": "master = pccl.MasterNode('127.0.0.1:0'); master.run(); wait = master.wait; import atexit; atexit.register(master.interrupt)",
}


@pytest.mark.parametrize("name", HELD)
def test_other_threads_run_while_one_waits(script, master, name):
    status, out, err = script(RUN_OF_TWO + COUNTER.format(setup=HELD[name]), master.address).end()
    assert (status, out) == (0, "True\n"), err
