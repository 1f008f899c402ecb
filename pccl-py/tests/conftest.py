"""Runs of threads of this process, and scripts of their own processes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import pccl

LIMIT_S = 60


def needs_fsdp_on_cpu(test):
    """torch 2.6 has FSDP2, but its forward fails there by itself on a CPU."""
    torch = pytest.importorskip("torch")
    can = hasattr(torch.cpu.Stream, "record_event")
    return pytest.mark.skipif(not can, reason=f"torch {torch.__version__} cannot run FSDP2 on a CPU")(test)


# A shell that starts this in the background has Ctrl-C ignored, in scripts that are started from here, too.
signal.signal(signal.SIGINT, signal.default_int_handler)


def together(*functions):
    """Runs all at once, and gives what they return or raises what the first of them raised."""
    results = [None] * len(functions)
    errors = []

    def run(index, function):
        try:
            results[index] = function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
        if thread.is_alive():
            raise AssertionError(f"still waiting after {LIMIT_S} s, others raised {errors}")
    if errors:
        raise errors[0]
    return results


def each(peers, function):
    """`function(peer, index)` at all peers at once."""
    return together(*(lambda peer=peer, index=index: function(peer, index) for index, peer in enumerate(peers)))


def join(newcomer, members):
    """Connects a peer while the members admit it."""
    wanted = members[0].world_size + 1 if members else 1

    def admit(member):
        while member.world_size < wanted:
            member.update_topology()

    together(newcomer.connect, *(lambda member=member: admit(member) for member in members))


def until_it_waits(thread):
    """Until it stands in the same line of the package twice, 50 ms apart."""
    before = None
    while True:
        frame = sys._current_frames().get(thread.ident)
        here = None if frame is None else (frame.f_code.co_filename, frame.f_lineno, frame.f_lasti)
        if here is not None and here == before and os.sep + "pccl" + os.sep in here[0]:
            return
        before = here
        time.sleep(0.05)


class Interrupted(Exception):
    """Of a signal's handler."""


def interrupted(call):
    """Makes a call that waits, in the main thread, until a signal's handler raises."""

    def raise_it(*_):
        raise Interrupted

    def interrupt():
        until_it_waits(threading.main_thread())
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, raise_it)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(Interrupted):
            call()
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def master():
    with pccl.MasterNode("127.0.0.1:0") as node:
        node.run()
        yield node


@pytest.fixture
def peers_of(master):
    """`peers_of(3)`: so many connected peers, which leave when the test is over."""
    with contextlib.ExitStack() as stack:

        def make(count):
            peers = []
            for _ in range(count):
                peer = stack.enter_context(pccl.Communicator(master.address))
                join(peer, peers)
                peers.append(peer)
            return peers

        yield make


@pytest.fixture
def two(peers_of):
    return peers_of(2)


# Scripts begin with it: two peers in one process, and where a thread of it stands.
RUN_OF_TWO = """
import sys, threading, time
import pccl

def run_of_two():
    a, b = (pccl.Communicator(sys.argv[1]) for _ in range(2))
    a.connect()
    joining = threading.Thread(target=b.connect)
    joining.start()
    while a.world_size < 2:
        a.update_topology()
    joining.join()
    return a, b

def peer():
    # The other one stands still.
    global other
    other, one = run_of_two()
    return one

def at(thread):
    # The line in which it stands, if that is one of the package, or of the loop that waits for it.
    frame = sys._current_frames().get(thread.ident)
    name = '' if frame is None else frame.f_code.co_filename
    return (name, frame.f_lineno, frame.f_lasti) if '/pccl/' in name or name.endswith('selectors.py') else None

def until_it_stands(thread):
    # In the same line twice, 50 ms apart: it waits.
    while True:
        before = at(thread)
        time.sleep(0.05)
        if before is not None and before == at(thread):
            return before

"""


class Script:
    """A Python program of its own process. Its lines are read as they come."""

    def __init__(self, process):
        self.process = process

    def line(self):
        line = self.process.stdout.readline().strip()
        if not line:
            self.process.kill()
            raise AssertionError(f"it ended without a word: {self.process.stderr.read()}")
        return line

    def end(self, limit_s=LIMIT_S):
        """Exit status, and what it wrote since the last `line`."""
        try:
            out, err = self.process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"still running after {limit_s} s: {out} {err}") from None
        return self.process.returncode, out, err


class Forked:
    """A script's process, forked by tests/torch_server.py: so much of `subprocess.Popen` as is needed here."""

    def __init__(self, server, text, arguments):
        ends = [os.pipe() for _ in range(3)]
        message = json.dumps([text, arguments, dict(os.environ)]).encode()
        socket.send_fds(server, [message], [writing for _, writing in ends])
        for _, writing in ends:
            os.close(writing)
        self.stdout, self.stderr, self._status = (open(reading) for reading, _ in ends)
        self.pid = int(self._status.readline())
        self.returncode = None
        self._read, self._readers = {}, []

    def poll(self):
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._status.readline())
        return self.returncode

    def kill(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def communicate(self, timeout=None):
        until = None if timeout is None else time.monotonic() + timeout
        if not self._readers:
            self._readers = [threading.Thread(target=self._read_all, args=pair, daemon=True) for pair in enumerate((self.stdout, self.stderr))]
            for reader in self._readers:
                reader.start()
        for reader in self._readers:
            reader.join(None if until is None else max(0.0, until - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired("a script", timeout)
        while self.poll() is None:
            select.select([self._status], [], [])
        return self._read[0], self._read[1]

    def _read_all(self, index, stream):
        with stream:
            self._read[index] = stream.read()


@pytest.fixture
def script():
    """`script(text, argument, …)` starts one."""

    def start(text, *arguments):
        return subprocess.Popen(
            [sys.executable, "-c", text, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    with contextlib.closing(_scripts(start)) as scripts:
        yield next(scripts)


@pytest.fixture(scope="session")
def torch_server():
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = os.path.join(os.path.dirname(__file__), "torch_server.py")
    with its:
        server = subprocess.Popen(
            [sys.executable, program, str(its.fileno())],
            pass_fds=[its.fileno()],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    yield ours
    ours.close()
    assert server.wait(LIMIT_S) == 0


@pytest.fixture
def torch_script(torch_server):
    """As `script`, but torch and `pccl.torch` are imported already, so those lines take no time."""
    with contextlib.closing(_scripts(lambda text, *arguments: Forked(torch_server, text, [*map(str, arguments)]))) as scripts:
        yield next(scripts)


def _scripts(start):
    """Gives what starts a script, and in the end ends them all."""
    scripts = []

    def started(text, *arguments):
        scripts.append(Script(start(text, *arguments)))
        return scripts[-1]

    try:
        yield started
    finally:
        for one in scripts:
            if one.process.poll() is None:
                one.process.kill()
            one.process.communicate()
