"""The commands: the master, and `pccl`."""

import json
import os
import signal
import subprocess
import sys
import sysconfig

import pytest

import pccl

COMMANDS = {
    "module": [sys.executable, "-m", "pccl.master"],
    "script": [os.path.join(sysconfig.get_path("scripts"), "pccl_master")],
}
PCCL = os.path.join(sysconfig.get_path("scripts"), "pccl")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_master_from_the_command_line(name, stop):
    command = [*COMMANDS[name], "--listen-address", "127.0.0.1:0"]
    if not os.path.exists(command[0]):
        pytest.skip("the package is not installed as a wheel")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    address = process.stdout.readline().split()[-1]
    with pccl.Communicator(address) as comm:
        comm.connect()
    process.send_signal(stop)
    assert process.wait(60) == 0


def test_a_port_in_use_is_said():
    with pccl.MasterNode("127.0.0.1:0") as master:
        master.run()
        command = [*COMMANDS["module"], "--listen-address", master.address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "INVALID_USAGE" in done.stderr


def pccl_command(*arguments):
    return subprocess.run([PCCL, *arguments], capture_output=True, text=True, timeout=120, check=False)


needs_wheel = pytest.mark.skipif(not os.path.exists(PCCL), reason="the package is not installed as a wheel")


@needs_wheel
def test_the_wheel_carries_the_command():
    done = pccl_command("--version")
    assert (done.returncode, done.stdout) == (0, f"pccl {pccl.__version__}\n")
    assert pccl_command("--help").returncode == 0
    wrong = pccl_command("dance")
    assert wrong.returncode == 2 and "dance" in wrong.stderr


@needs_wheel
def test_a_demo_from_the_wheel_starts_itself_as_its_peers():
    done = pccl_command("demo", "--size", "64KiB", "--seconds", "2", "--churn-every", "500ms", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


@needs_wheel
def test_a_bench_from_the_wheel():
    done = pccl_command("bench", "-b", "4KiB", "-e", "4KiB", "-N", "2", "-n", "5")
    assert done.returncode == 0, done.stderr
    assert "wrong elements: 0 OK" in done.stdout


@needs_wheel
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_master_of_the_command(stop):
    process = subprocess.Popen([PCCL, "master", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    address = process.stdout.readline().split()[-1]
    with pccl.Communicator(address) as comm:
        comm.connect()
    process.send_signal(stop)
    assert process.wait(60) == 0
