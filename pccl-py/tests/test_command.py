"""The master as a command."""

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
