"""A script for PCCL 1.0's package, run as it is: a peer is lost in it, and another one comes."""

import pathlib
import signal
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

SCRIPT = (pathlib.Path(__file__).parent / "older_script.py").read_text()


@pytest.fixture
def address():
    """Of a master as older runs start it."""
    command = [sys.executable, "-m", "pccl.master", "--listen-address", "127.0.0.1:0"]
    master = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield master.stdout.readline().split()[-1]
    finally:
        master.send_signal(signal.SIGINT)
        master.communicate(timeout=60)
    assert master.returncode == 0


def test_it_trains_while_one_is_lost_and_another_comes(torch_script, address, monkeypatch):
    monkeypatch.setenv("MASTER", address)

    def start(rank):
        monkeypatch.setenv("RANK", str(rank))
        return torch_script(SCRIPT)

    staying = [start(0), start(1)]
    monkeypatch.setenv("DIE_AT", "30")
    dying = start(2)
    status, out, err = dying.end(120)
    assert status == 9 and out.splitlines()[-1] == "(RANK=2) dies", err
    monkeypatch.delenv("DIE_AT")
    for one in staying:
        # They go on without, up to where they wait for another one.
        while "world size 2" not in one.line():
            pass
    ends = [one.end(120) for one in (*staying, start(3))]
    assert [status for status, _, _ in ends] == [0, 0, 0], ends
    lines = [out.splitlines()[-1].split() for _, out, _ in ends]
    assert len({digest for _, digest, _ in lines}) == 1
    # Guessing is worth 0.1.
    assert all(word == "END" and float(accuracy) > 0.8 for word, _, accuracy in lines), lines
