"""Peers that die in the middle."""

import array
import signal
import threading

from conftest import each, join

import pccl

VICTIM = """
import array, sys, threading
import pccl
comm = pccl.Communicator(sys.argv[1])
comm.connect()
print('joined', flush=True)
while True:
    comm.all_reduce(array.array('f', [1.0] * 100000))
    print('reduced', flush=True)
    if comm.peers_pending:
        comm.update_topology()
"""


def test_a_killed_peer_costs_the_others_an_abort_and_inputs_are_intact(two, master, script):
    victim = script(VICTIM, master.address)

    def admit(peer):
        while peer.world_size < 3:
            peer.update_topology()

    each(two, lambda peer, _: admit(peer))
    assert victim.line() == "joined"
    killed = threading.Event()
    aborted = []

    def train(peer, rank):
        while True:
            data = array.array("f", [float(rank + 1)] * 100000)
            try:
                info = peer.all_reduce(data)
            except pccl.PCCLError as error:
                aborted.append(error.result)
                assert list(data[:10]) == [float(rank + 1)] * 10
                continue
            assert data[0] == (4.0 if info.local_world_size == 3 else 3.0)
            if info.local_world_size == 2:
                return

    def kill():
        for _ in range(3):
            assert victim.line() == "reduced"
        victim.process.send_signal(signal.SIGKILL)
        killed.set()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    each(two, train)
    killer.join(60)
    assert killed.is_set()
    # It may have died between two operations.
    assert aborted in ([], [pccl.Result.RANK_CONNECTION_LOST] * 2)


def test_a_list_is_retried_until_it_is_done(two, master, script):
    list_text = """
import array, os, sys
import pccl
comm = pccl.Communicator(sys.argv[1])
comm.connect()
data = [array.array('f', [1.0] * 50000) for _ in range(50)]
what = [pccl.ReduceDescriptor(count=50000, op=pccl.ReduceOp.SUM, tag=tag) for tag in range(50)]
handles = [comm.all_reduce_async(d, tag=tag) for tag, d in enumerate(data[:4])]
handles[2].wait()
os.kill(os.getpid(), 9)
"""
    script(list_text, master.address)

    def train(peer, rank):
        while peer.world_size < 3:
            peer.update_topology()
        data = [array.array("f", [float(rank + 1)] * 50000) for _ in range(50)]
        descriptors = [
            pccl.ReduceOpDescriptor(d, d, pccl.ReduceDescriptor(count=50000, op=pccl.ReduceOp.SUM, tag=tag))
            for tag, d in enumerate(data)
        ]
        info = peer.all_reduce_multiple_with_retry(descriptors, max_in_flight=4)
        assert info.local_world_size == 2
        return data

    results = each(two, train)
    assert results[0] == results[1]
    sums = [one[0] for one in results[0]]
    # The first of them had a third contribution.
    assert set(sums) == {3.0, 4.0} and sums[4:] == [3.0] * 46


def test_who_left_may_come_back(peers_of, master):
    a, b = peers_of(2)
    b.destroy()
    while a.world_size > 1:
        a.update_topology()
    with pccl.Communicator(master.address) as again:
        join(again, [a])
        each([a, again], lambda peer, _: peer.all_reduce(array.array("f", [1.0])))
