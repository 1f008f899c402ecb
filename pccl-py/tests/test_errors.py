"""Each result, brought about: with its exception, and words that say why."""

import array
import signal

import pytest
from conftest import RUN_OF_TWO, each, join, together

import pccl


def raised(function, *arguments, **options):
    with pytest.raises(pccl.PCCLError) as caught:
        function(*arguments, **options)
    return caught.value


def floats(*values):
    return array.array("f", values)


def state_of(*tensors, revision=0, **named):
    infos = [pccl.TensorInfo.from_numpy(one, str(at)) for at, one in enumerate(tensors)]
    infos += [pccl.TensorInfo.from_numpy(one, name) for name, one in named.items()]
    state = pccl.SharedState(infos)
    state.revision = revision
    return state


def invalid_argument(master, peers_of, script):
    return raised(peers_of(2)[0].all_reduce, bytearray(8), quantize="u8")


def invalid_usage(master, peers_of, script):
    return raised(pccl.Communicator(master.address).update_topology)


def too_few_peers(master, peers_of, script):
    return raised(peers_of(1)[0].all_reduce, floats(1.0))


def master_connection_failed(master, peers_of, script):
    return raised(pccl.Communicator("127.0.0.1:1").connect, n_attempts=1)


def rank_connection_lost(master, peers_of, script):
    peers = peers_of(2)
    handle = peers[0].all_reduce_async(floats(1.0))
    peers[0].destroy()
    assert not handle.wait()[0]
    return handle.error


def no_shared_state_available(master, peers_of, script):
    receive = pccl.SharedStateSyncStrategy.RECEIVE_ONLY
    return each(peers_of(2), lambda peer, _: raised(peer.sync_shared_state, state_of(floats(1.0)), receive))[0]


def pending_async_ops(master, peers_of, script):
    peers = peers_of(2)
    handle = peers[0].all_reduce_async(floats(1.0))
    errors = [raised(peers[0].sync_shared_state, state_of(floats(1.0))), raised(peers[0].update_topology)]
    assert {error.result for error in errors} == {pccl.Result.PENDING_ASYNC_OPS}
    together(handle.wait, lambda: peers[1].all_reduce(floats(1.0)))
    return errors[0]


def rank_connection_failed(master, peers_of, script):
    text = """
import os, socket, sys
taken = socket.create_server(('0.0.0.0', 0))
os.environ['PCCL_LISTEN'] = '0.0.0.0:%d' % taken.getsockname()[1]
import pccl
try:
    pccl.Communicator(sys.argv[1]).connect(n_attempts=1)
except pccl.PCCLError as error:
    print(error.result.value, error.reason)
"""
    status, out, err = script(text, master.address).end()
    assert status == 0 and out, err
    value, reason = out.strip().split(" ", 1)
    return pccl.PCCLError("connect", pccl.Result(int(value)), reason)


CASES = [
    invalid_argument,
    invalid_usage,
    too_few_peers,
    master_connection_failed,
    rank_connection_lost,
    no_shared_state_available,
    pending_async_ops,
    rank_connection_failed,
]
# What no program of Python can bring about, and why.
ELSEWHERE = {
    "SUCCESS": "is no error",
    "NOT_INITIALIZED": "of the C library: there is nothing to initialize here",
    "INTERNAL_ERROR": "of a defect only",
    "UPDATE_TOPOLOGY_FAILED": "kept for programs that name it: today a vote cannot fail",
    "TOPOLOGY_OPTIMIZATION_FAILED": "where nothing could be measured: tested in Rust, with links that are broken",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_each_result_is_raised_with_words(master, peers_of, script, case):
    error = case(master, peers_of, script)
    assert error.result is pccl.Result[case.__name__.upper()]
    assert len(error.reason) > 10 and error.result.name in str(error)


def test_every_result_is_brought_about_or_told_why_not():
    assert {case.__name__.upper() for case in CASES} | set(ELSEWHERE) == {result.name for result in pccl.Result}


KICKS = {
    "other names": (lambda i: state_of(a=floats(1.0)) if i < 2 else state_of(b=floats(1.0)), None),
    "a revision too high": (lambda i: state_of(floats(1.0), revision=1 if i < 2 else 9), None),
    "two who only send and differ": (lambda i: state_of(floats(float(i // 2))), pccl.SharedStateSyncStrategy.SEND_ONLY),
}


@pytest.mark.parametrize("name", KICKS)
def test_who_breaks_the_rules_of_a_state_is_put_out_and_the_others_go_on(peers_of, name):
    make, strategy = KICKS[name]
    peers = peers_of(3)
    # A first one, so that a revision is expected.
    each(peers, lambda peer, _: peer.sync_shared_state(state_of(floats(1.0))))

    def sync(peer, i):
        state = make(i)
        state.revision = state.revision or 1
        options = {} if strategy is None else {"strategy": strategy}
        try:
            peer.sync_shared_state(state, **options)
        except pccl.PCCLError as error:
            return error
        return None

    errors = each(peers, sync)
    assert errors[:2] == [None, None] and "shared state" in errors[2].reason
    assert not peers[2].is_connected
    each(peers[:2], lambda peer, _: peer.all_reduce(floats(1.0)))


def test_a_master_that_dies_under_a_call_is_an_error_at_all(script):
    host = script("import pccl\nm = pccl.MasterNode('127.0.0.1:0'); m.run(); print(m.address, flush=True); m.wait()")
    address = host.line()
    text = """
a, b = run_of_two()
print('in', flush=True)
try:
    a.update_topology()
except pccl.PCCLError as error:
    print(error.result.name, flush=True)
"""
    import os

    os.environ["PCCL_RECONNECT_TIMEOUT_MS"] = "500"
    try:
        waiting = script(RUN_OF_TWO + text, address)
    finally:
        del os.environ["PCCL_RECONNECT_TIMEOUT_MS"]
    assert waiting.line() == "in"
    host.process.send_signal(signal.SIGKILL)
    assert waiting.line() == "MASTER_CONNECTION_FAILED"


def test_the_last_attempt_raises_and_those_before_are_made(monkeypatch):
    import pccl._communicator as module

    made = []

    class Refusing:
        def connect(self):
            made.append(module.Result.RANK_CONNECTION_FAILED)
            raise module._pccl.Failure(module.Result.RANK_CONNECTION_FAILED.value, "no link to a member yet")

    monkeypatch.setattr(module, "_BETWEEN_ATTEMPTS_MS", 1)
    with pccl.Communicator("127.0.0.1:1") as comm:
        real, comm._comm = comm._comm, Refusing()
        assert raised(comm.connect, n_attempts=3).result is pccl.Result.RANK_CONNECTION_FAILED
        assert len(made) == 3
        comm._comm = real
