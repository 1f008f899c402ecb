"""Handles: waiting, asking, awaiting, and whose memory it is meanwhile."""

import array
import asyncio
import gc
import threading
import time

import pytest
from conftest import each, together

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


def test_other_threads_run_while_one_waits(two):
    """A counter goes on: no wait holds the interpreter's lock."""
    stop = threading.Event()
    counted = [0]

    def count():
        while not stop.is_set():
            counted[0] += 1

    counter = threading.Thread(target=count, daemon=True)
    waits = {
        "all_reduce": lambda peer: peer.all_reduce(array.array("f", [1.0])),
        "wait": lambda peer: peer.all_reduce_async(array.array("f", [1.0])).wait(),
        "update_topology": lambda peer: peer.update_topology(),
        "are_peers_pending": lambda peer: peer.are_peers_pending(),
        "sync_shared_state": lambda peer: peer.sync_shared_state(
            pccl.SharedState([pccl.TensorInfo.from_numpy(array.array("f", [1.0]), "a")])
        ),
    }
    counter.start()
    try:
        for name, wait in waits.items():
            waiter = threading.Thread(target=wait, args=(two[0],), daemon=True)
            waiter.start()
            at = counted[0]
            deadline = time.monotonic() + 60
            while counted[0] < at + 10000:
                assert time.monotonic() < deadline, f"{name} holds the lock"
                time.sleep(0.001)
            assert waiter.is_alive(), f"{name} did not wait for the other peer"
            wait(two[1])
            waiter.join(60)
            assert not waiter.is_alive()
    finally:
        stop.set()
        counter.join()
