"""Runs of threads of this process, and scripts of their own processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading

import pytest

import pccl

LIMIT_S = 60


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


class Script:
    """A Python program of its own process. Its lines are read as they come."""

    def __init__(self, text, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

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


@pytest.fixture
def script():
    scripts = []

    def start(text, *arguments):
        scripts.append(Script(text, *arguments))
        return scripts[-1]

    yield start
    for one in scripts:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()
