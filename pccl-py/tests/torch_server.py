"""A process that has imported torch and forks for each script: to import it takes seconds, in each of them.

Its one argument is a socket. A message on it is a script with its arguments and environment, and three descriptors: where
the script's output and its errors go, and where its process id is written, and how it ended when it has.
"""

import json
import os
import signal
import socket
import sys

# The first optimizer of a process brings in the first of these, and takes as long as torch itself.
import torch._dynamo  # noqa: F401
import torch.distributed.fsdp  # noqa: F401

import pccl.torch  # noqa: F401

ORDERS = socket.socket(fileno=int(sys.argv[1]))


def next_script():
    """Returns in a process of its own for each script, with it."""
    # Nobody waits for those who wait for the scripts.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(ORDERS, 1 << 20, 3)
        if not message:
            return None
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ORDERS.close()
            return started(json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def started(order, out, err, status):
    child = os.fork()
    if child != 0:
        os.close(out)
        os.close(err)
        os.write(status, f"{child}\n".encode())
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(status, f"{ended}\n".encode())
        os._exit(0)
    os.close(status)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    text, arguments, environment = order
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *arguments]
    return text


if (script := next_script()) is not None:
    exec(compile(script, "<string>", "exec"), {"__name__": "__main__"})
