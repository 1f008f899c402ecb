"""Joining, attributes, phase calls, addresses, masters."""

import array
import socket

import pytest
from conftest import each, join, together

import pccl


def test_attributes_and_properties_of_a_run_of_groups(master):
    with pccl.Communicator(master.address, 0) as a, pccl.Communicator(master.address, peer_group=5) as b:
        join(a, [])
        join(b, [a])
        a_sees = [a.get_attribute(attribute) for attribute in pccl.Attribute]
        assert a_sees == [2, 1, 2, 1]
        assert (b.world_size, b.group_world_size, b.rank_id, b.peers_pending) == (2, 1, 0, 0)
        assert a.is_connected


def test_not_connected(master):
    comm = pccl.Communicator(master.address)
    assert (comm.world_size, comm.group_world_size, comm.is_connected) == (0, 0, False)
    with pytest.raises(pccl.PCCLError, match="connect"):
        comm.get_attribute(pccl.Attribute.GLOBAL_WORLD_SIZE)


def test_a_pending_peer_is_seen_and_admitted(two, master):
    assert each(two, lambda peer, _: peer.are_peers_pending()) == [False, False]
    with pccl.Communicator(master.address) as third:

        def admit(peer):
            while not peer.are_peers_pending():
                pass
            peer.update_topology()
            return peer.group_world_size

        sizes = together(third.connect, lambda: admit(two[0]), lambda: admit(two[1]))
        assert sizes[1:] == [3, 3] and third.group_world_size == 3
        assert sorted(peer.rank_id for peer in (*two, third)) == [0, 1, 2]


def test_pending_peers_as_of_the_last_commit(two, master):
    with pccl.Communicator(master.address) as third:

        def train(peer):
            while peer.peers_pending == 0:
                peer.all_reduce(array.array("f", [1.0]))
            peer.update_topology()
            return peer.group_world_size

        assert together(third.connect, lambda: train(two[0]), lambda: train(two[1]))[1:] == [3, 3]


def test_host_names_and_ipv6(master):
    port = master.address.rsplit(":", 1)[1]
    with pccl.Communicator(f"localhost:{port}") as comm:
        comm.connect()
        assert comm.world_size == 1
    if socket.has_ipv6:
        with pccl.MasterNode("[::1]:0") as other:
            try:
                other.run()
            except pccl.PCCLError:
                pytest.skip("no IPv6 here")
            assert other.address.startswith("[::1]:")
            with pccl.Communicator(other.address) as comm:
                comm.connect()


@pytest.mark.parametrize("address", ["", "nothing", "127.0.0.1", "127.0.0.1:99999", ":::"])
def test_what_is_no_address_is_an_error_in_words(address):
    with pytest.raises(pccl.PCCLError) as caught:
        pccl.Communicator(address).connect(n_attempts=1)
    assert caught.value.result in (pccl.Result.INVALID_ARGUMENT, pccl.Result.MASTER_CONNECTION_FAILED)


def test_an_all_reduce_alone_has_too_few_peers(master):
    with pccl.Communicator(master.address) as comm:
        comm.connect()
        with pytest.raises(pccl.PCCLError) as caught:
            comm.all_reduce(array.array("f", [1.0]))
        assert caught.value.result is pccl.Result.TOO_FEW_PEERS


def test_a_master_that_is_not_there_is_an_error_with_its_address():
    with pccl.MasterNode("127.0.0.1:0") as master:
        master.run()
        address = master.address
    with pccl.Communicator(address) as comm:
        with pytest.raises(pccl.PCCLError) as caught:
            comm.connect(n_attempts=2)
        assert caught.value.result is pccl.Result.MASTER_CONNECTION_FAILED
        assert address in str(caught.value)


def test_a_master_runs_once_and_has_its_port_alone(master):
    with pytest.raises(pccl.PCCLError) as caught:
        master.run()
    assert caught.value.result is pccl.Result.INVALID_ARGUMENT
    with pytest.raises(pccl.PCCLError) as caught, pccl.MasterNode(master.address) as other:
        other.run()
    assert caught.value.result is pccl.Result.INVALID_USAGE


def test_an_interrupted_master_is_gone_and_may_be_interrupted_again():
    node = pccl.MasterNode("127.0.0.1:0")
    node.interrupt()
    node.run()
    address = node.address
    node.interrupt()
    node.interrupt()
    with pccl.MasterNode(address) as again:
        again.run()


def test_a_destroyed_communicator_says_so():
    comm = pccl.Communicator("127.0.0.1:1")
    comm.destroy()
    comm.destroy()
    for call in (comm.connect, comm.update_topology, comm.are_peers_pending, lambda: comm.all_reduce(bytearray(1))):
        with pytest.raises(pccl.PCCLError, match="destroyed") as caught:
            call()
        assert caught.value.result is pccl.Result.INVALID_USAGE


def test_pending_operations_stand_in_the_way_of_phase_calls(two):
    handle = two[0].all_reduce_async(array.array("f", [1.0]))
    with pytest.raises(pccl.PCCLError) as caught:
        two[0].update_topology()
    assert caught.value.result is pccl.Result.PENDING_ASYNC_OPS
    two[1].all_reduce(array.array("f", [1.0]))
    handle.wait()


def test_optimize_topology_measures_and_operations_go_on(two):
    def optimize(peer, _):
        peer.optimize_topology()
        data = array.array("f", [1.0, 2.0])
        peer.all_reduce(data)
        return data

    for data in each(two, optimize):
        assert list(data) == [2.0, 4.0]
