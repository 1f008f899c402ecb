"""Shared state."""

import array

import pytest
from conftest import each, join, together

import pccl


def state_of(data, revision=0, **named):
    infos = [pccl.TensorInfo.from_numpy(data, "a")]
    infos += [pccl.TensorInfo.from_numpy(value, key, allow_content_inequality=True) for key, value in named.items()]
    state = pccl.SharedState(infos)
    state.revision = revision
    return state


def test_the_content_most_hold_wins(peers_of):
    peers = peers_of(3)
    data = [array.array("f", [1.0] * 1000), array.array("f", [7.0] * 1000), array.array("f", [1.0] * 1000)]
    infos = each(peers, lambda peer, i: peer.sync_shared_state(state_of(data[i])))
    assert all(list(one) == [1.0] * 1000 for one in data)
    assert infos[1].rx_bytes == 4000 and infos[0].rx_bytes == 0
    assert sum(info.tx_bytes for info in infos) == 4000


def test_revisions_go_on_and_a_newcomer_receives(two, master):
    data = [array.array("f", [3.0] * 10) for _ in two]
    states = [state_of(one, revision=41) for one in data]
    each(two, lambda peer, i: peer.sync_shared_state(states[i]))
    assert [state.revision for state in states] == [41, 41]
    for state in states:
        state.push_revision()
    with pccl.Communicator(master.address) as third:
        join(third, two)
        own = array.array("f", [9.0] * 10)
        states.append(state_of(own))
        each([*two, third], lambda peer, i: peer.sync_shared_state(states[i]))
        assert list(own) == [3.0] * 10 and [state.revision for state in states] == [42] * 3
        assert states[2].conditions == {"a": "elected"} and states[0].conditions == {"a": "kept"}


def test_who_sends_and_who_receives_can_be_said(two):
    data = [array.array("f", [1.0]), array.array("f", [2.0])]
    strategies = [pccl.SharedStateSyncStrategy.RECEIVE_ONLY, pccl.SharedStateSyncStrategy.SEND_ONLY]
    each(two, lambda peer, i: peer.sync_shared_state(state_of(data[i]), strategy=strategies[i]))
    assert data[0][0] == data[1][0] == 2.0


def test_nobody_has_a_vote(two):
    def receive(peer, _):
        with pytest.raises(pccl.PCCLError) as caught:
            peer.sync_shared_state(state_of(array.array("f", [1.0])), pccl.SharedStateSyncStrategy.RECEIVE_ONLY)
        return caught.value.result

    assert each(two, receive) == [pccl.Result.NO_SHARED_STATE_AVAILABLE] * 2


def test_tensors_that_may_differ_stay_where_revisions_are_equal(two):
    data = [array.array("f", [1.0]), array.array("f", [1.0])]
    free = [array.array("i", [1]), array.array("i", [2])]
    each(two, lambda peer, i: peer.sync_shared_state(state_of(data[i], free=free[i])))
    assert [one[0] for one in free] == [1, 2]


def test_alone_and_unconnected(master):
    with pccl.Communicator(master.address) as comm:
        with pytest.raises(pccl.PCCLError) as caught:
            comm.sync_shared_state(state_of(array.array("f", [1.0])))
        assert caught.value.result is pccl.Result.INVALID_USAGE
        comm.connect()
        with pytest.raises(pccl.PCCLError) as caught:
            comm.sync_shared_state(state_of(array.array("f", [1.0])))
        assert caught.value.result is pccl.Result.TOO_FEW_PEERS


def test_an_address_alone_and_an_empty_tensor(two):
    data = [array.array("d", [1.0, 2.0]), array.array("d", [1.0, 2.0])]

    def sync(peer, i):
        at, count = data[i].buffer_info()
        infos = [
            pccl.TensorInfo(
                "a",
                at,
                numel=count,
                dtype=pccl.DataType.DOUBLE,
                device_type=pccl.DeviceType.CPU,
                allow_content_inequality=False,
            ),
            pccl.TensorInfo.from_numpy(array.array("f"), "empty"),
        ]
        return peer.sync_shared_state(pccl.SharedState(infos))

    assert [info.rx_bytes for info in each(two, sync)] == [0, 0]


def test_the_state_holds_its_tensors(two):
    states = [state_of(array.array("f", [float(rank)] * 100000)) for rank in (1, 2)]
    together(*(lambda peer=peer, i=i: peer.sync_shared_state(states[i]) for i, peer in enumerate(two)))
    owners = [list(state.tensor_infos[0]._owner)[:4] for state in states]
    assert owners[0] == owners[1]
