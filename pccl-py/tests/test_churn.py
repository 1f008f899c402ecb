"""Peers that die in the middle."""

import array
import signal

from conftest import each, join

import pccl

VICTIM = """
import array, os, signal, sys
import pccl
comm = pccl.Communicator(sys.argv[1])
comm.connect()
print('joined', flush=True)
for _ in range(3):
    comm.all_reduce(array.array('f', [1.0] * 1000))
# The others have both started the large one when this is done: it ends it for them.
comm.all_reduce(array.array('f', [1.0]), tag=1)
handle = comm.all_reduce_async(bytearray(64 << 20))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_peer_costs_the_others_one_abort_and_inputs_are_intact(two, master, script):
    victim = script(VICTIM, master.address)

    def train(peer, rank):
        while peer.world_size < 3:
            peer.update_topology()
        for _ in range(3):
            data = array.array("f", [float(rank + 1)] * 1000)
            assert peer.all_reduce(data).local_world_size == 3
            assert data[0] == data[999] == 4.0
        own = bytes([rank + 1]) * (64 << 20)
        large = bytearray(own)
        handle = peer.all_reduce_async(large)
        peer.all_reduce(array.array("f", [1.0]), tag=1)
        aborts = 0
        while not handle.wait()[0]:
            assert handle.error.result is pccl.Result.RANK_CONNECTION_LOST
            assert large == own
            aborts += 1
            handle = peer.all_reduce_async(large)
        assert handle.wait()[2].local_world_size == 2 and large == bytes([3]) * (64 << 20)
        return aborts

    assert each(two, train) == [1, 1]
    assert victim.line() == "joined" and victim.end()[0] == -signal.SIGKILL


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
