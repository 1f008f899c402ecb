"""Models of which only a part was received: they are none, and nobody elects them."""

import contextlib
import socket
import threading

import pytest
from conftest import each, interrupted, join, together, until_it_waits

import pccl

torch = pytest.importorskip("torch")
recipes = pytest.importorskip("pccl.torch")


HOLDER = """
import os, sys, threading
import torch, pccl
from pccl.torch import SharedModelState
os.environ.update(PCCL_LISTEN=sys.argv[2], PCCL_ANNOUNCE=sys.argv[3])
comm = pccl.Communicator(sys.argv[1])
comm.connect()
model = torch.nn.Linear(2048, 4096, bias=False)
torch.nn.init.ones_(model.weight)
state = SharedModelState(model)
state.push_revision()
print("in", flush=True)
while comm.world_size < 2:
    comm.update_topology()
state.sync(comm)
threading.Event().wait()
"""
MODEL_BYTES = 4 * 2048 * 4096


class Relay:
    """Before the data port of a peer. Counts what that peer sends; when it is `limit_bytes`, nothing more gets through."""

    def __init__(self, limit_bytes):
        self._left, self._lock = limit_bytes, threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        # The same number at another address of this machine: nobody else is given it meanwhile.
        self.announced, self.behind = f"127.0.0.1:{port}", f"127.0.0.2:{port}"
        self.is_at_limit = threading.Event()
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            host, port = self.behind.split(":")
            far = socket.create_connection((host, int(port)))
            self._sockets += [near, far]
            for pair in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source, target, is_counted):
        try:
            while data := source.recv(1 << 16):
                if is_counted:
                    with self._lock:
                        self._left -= len(data)
                        if self._left <= 0:
                            self.is_at_limit.set()
                            return
                target.sendall(data)
        except OSError:
            # One of them is gone.
            pass
        finally:
            for one in (source, target):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.close()
        for one in self._sockets:
            one.close()


@pytest.fixture
def relay():
    with contextlib.closing(Relay(MODEL_BYTES // 4)) as one:
        yield one


def test_a_model_received_in_part_is_an_error_and_no_model(master, torch_script, relay, monkeypatch):
    """The only holder dies when a newcomer has received a quarter: what is here is neither its own nor the run's."""
    holder = torch_script(HOLDER, master.address, relay.behind, relay.announced)
    assert holder.line() == "in"
    # The newcomer dials, so there is no other way than through the relay.
    monkeypatch.setenv("PCCL_INBOUND", "0")
    model = torch.nn.Linear(2048, 4096, bias=False)
    torch.nn.init.zeros_(model.weight)

    def kill_on_the_way():
        assert relay.is_at_limit.wait(60)
        holder.process.kill()

    with pccl.Communicator(master.address) as comm:
        comm.connect()
        state = recipes.SharedModelState(model)

        def sync():
            # And again, for whoever goes on after an error.
            for _ in range(2):
                with pytest.raises(pccl.PCCLError, match="in part only.*model.weight") as raised:
                    state.sync(comm)
                assert raised.value.result is pccl.Result.TOO_FEW_PEERS

        together(sync, kill_on_the_way)
        assert 0 < float(model.weight.detach().mean()) <= 0.25
        # Whoever puts something else there says so.
        torch.nn.init.ones_(model.weight)
        state.revision = 4
        assert state.sync(comm).rx_bytes == 0


class Ending:
    """A communicator whose master dies when half of the first tensor has come. To choose that moment, the answer is made up."""

    def sync_shared_state(self, state, strategy):
        state.tensor_infos[0]._made_from.view(-1)[:2] = 7.0
        state._note(["mixed", *["kept"] * (len(state.tensor_infos) - 1)], False)
        raise pccl.PCCLError("sync_shared_state", pccl.Result.MASTER_CONNECTION_FAILED, "the master is gone")


def test_a_model_received_in_part_stays_none_when_the_master_dies(peers_of):
    model = torch.nn.Linear(3, 2)
    # With strides of its own, so that it is received into a copy.
    model.weight.data = torch.zeros(3, 2).t()
    state = recipes.SharedModelState(model)
    with pytest.raises(pccl.PCCLError, match="the master is gone"):
        state.sync(Ending())
    assert int((model.weight == 7.0).sum()) == 2
    peer = peers_of(1)[0]
    for _ in range(2):
        with pytest.raises(pccl.PCCLError, match="master is gone.*in part only.*1 of 2 tensors .model.weight."):
            state.sync(peer)
    state.revision = 4
    assert state.sync(peer).rx_bytes == 0


class EndingWith(Ending):
    """As `Ending`, with something else in the half that has come."""

    def __init__(self, value):
        self.value = value

    def sync_shared_state(self, state, strategy):
        try:
            super().sync_shared_state(state, strategy)
        finally:
            state.tensor_infos[0]._made_from.view(-1)[:2] = self.value


@pytest.mark.parametrize("values", [(7.0, 8.0), (7.0, 7.0)])
def test_what_two_have_received_in_part_is_never_elected(peers_of, master, values):
    """Newcomers of one revision, whose communicators know of nothing; not even where both hold the same."""
    models = [torch.nn.Linear(3, 2) for _ in range(3)]
    for model in models[:2]:
        torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
    states = [recipes.SharedModelState(model) for model in models]
    for state, value in zip(states, values):
        with pytest.raises(pccl.PCCLError, match="the master is gone"):
            state.sync(EndingWith(value))
    before = [model.weight.tolist() for model in models]

    def in_vain(peer, i):
        with pytest.raises(pccl.PCCLError, match="nobody offers.*hold what a broken transfer left.*in part only.*1 of 2 tensors") as raised:
            states[i].sync(peer)
        return raised.value.result

    peers = peers_of(2)
    for _ in range(2):
        assert each(peers, in_vain) == [pccl.Result.NO_SHARED_STATE_AVAILABLE] * 2
    assert [model.weight.tolist() for model in models] == before
    with pccl.Communicator(master.address) as third:
        join(third, peers)
        each([*peers, third], lambda peer, i: states[i].sync(peer))
    assert [model.weight.tolist() for model in models] == [before[2]] * 3
    # And now they have a vote.
    each(peers, lambda peer, _: peer.update_topology())
    torch.nn.init.ones_(models[0].weight)
    states[0].push_revision()
    each(peers, lambda peer, i: states[i].sync(peer))
    assert bool((models[1].weight == 1).all())


def test_a_diloco_that_was_received_in_part_is_elected_by_nobody(peers_of):
    peers = peers_of(2)
    dilocos = each(peers, lambda peer, i: recipes.DiLoCo(peer, torch.nn.Linear(3, 2), every=1))
    for diloco in dilocos:
        diloco.comm = Ending()
        with pytest.raises(pccl.PCCLError, match="the master is gone"):
            diloco._sync()
    for peer in peers:
        peer.destroy()

    def in_vain(peer, i):
        dilocos[i].comm = peer
        with pytest.raises(pccl.PCCLError, match="hold what a broken transfer left.*Load a checkpoint here") as raised:
            dilocos[i].step()
        return raised.value.result

    peers = peers_of(2)
    assert each(peers, in_vain) == [pccl.Result.NO_SHARED_STATE_AVAILABLE] * 2
    saved = dilocos[1].state_dict()
    saved["anchors"] = {name: torch.full_like(anchor, 5.0) for name, anchor in saved["anchors"].items()}
    each(peers, lambda _, i: dilocos[i].load_state_dict(saved))
    assert all(bool((anchor == 5.0).all()) for diloco in dilocos for anchor in diloco._anchors)


def end_by_a_signal(state, peer):
    interrupted(lambda: state.sync(peer))


def end_by_leaving(state, peer):
    def sync():
        with pytest.raises(pccl.PCCLError):
            state.sync(peer)

    waiting = threading.Thread(target=sync)
    waiting.start()
    until_it_waits(waiting)
    peer.destroy()
    waiting.join(60)


@pytest.mark.parametrize("end", [end_by_a_signal, end_by_leaving])
def test_of_a_synchronization_that_was_broken_off_nobody_knows_what_it_has_received(two, master, end):
    state = recipes.SharedModelState(torch.nn.Linear(3, 2))
    end(state, two[0])
    for peer in two:
        peer.destroy()
    with pccl.Communicator(master.address) as comm:
        comm.connect()
        with pytest.raises(pccl.PCCLError, match="in part only.*2 of 2 tensors"):
            state.sync(comm)
        with pccl.Communicator(master.address) as holder:
            join(holder, [comm])
            whole = recipes.SharedModelState(torch.nn.Linear(3, 2))
            whole.push_revision()
            each([comm, holder], lambda peer, i: (state, whole)[i].sync(peer))
        comm.update_topology()
        assert state.sync(comm).rx_bytes == 0


@pytest.mark.parametrize("end", [end_by_a_signal, end_by_leaving])
def test_a_model_whose_synchronization_was_broken_off_wins_over_a_fresh_one(two, master, end):
    """Most likely nothing of it was touched."""
    model, fresh = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    torch.nn.init.constant_(model.weight, 5.0)
    states = recipes.SharedModelState(model), recipes.SharedModelState(fresh)
    states[0].push_revision()
    end(states[0], two[0])
    for peer in two:
        peer.destroy()
    with pccl.Communicator(master.address) as comm, pccl.Communicator(master.address) as newcomer:
        comm.connect()
        join(newcomer, [comm])
        each([comm, newcomer], lambda peer, i: states[i].sync(peer))
    assert bool((model.weight == 5.0).all()) and bool((fresh.weight == 5.0).all())
    assert [state.revision for state in states] == [1, 1]


def test_a_call_that_never_began_leaves_a_model_whole(two):
    state = recipes.SharedModelState(torch.nn.Linear(3, 2))
    left = two[1]
    left.destroy()
    with pytest.raises(pccl.PCCLError, match="destroyed"):
        state.sync(left)
    two[0].update_topology()
    assert state.sync(two[0]).rx_bytes == 0


def test_the_conditions_of_a_broken_synchronization_are_kept():
    state = pccl.SharedState([pccl.TensorInfo.from_torch(torch.zeros(2), name) for name in "abc"])
    state._note(["elected", "mixed", "kept"], False)
    # As from a call that found itself alone.
    state._note([], False)
    assert state.conditions == {"a": "elected", "b": "mixed", "c": "kept"}
    state._note(["kept", "elected", "kept"], False)
    assert state.conditions == {"a": "elected", "b": "elected", "c": "kept"}
    state._note(["kept", "elected", "kept"], True)
    state._note([], False)
    assert set(state.conditions.values()) == {"kept"}
