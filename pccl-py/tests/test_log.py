"""What the library tells on standard error, and how much of it."""

import pytest

import pccl

# One peer comes, and goes while the other waits for it.
PROGRAM = """
import os, sys
if sys.argv[1] != "unset":
    os.environ["PCCL_LOG_LEVEL"] = sys.argv[1]
else:
    os.environ.pop("PCCL_LOG_LEVEL", None)
os.environ.update(dict(pair.split("=") for pair in sys.argv[2:]))
import array, threading
import pccl

with pccl.MasterNode("127.0.0.1:0") as master:
    master.run()
    with pccl.Communicator(master.address) as stays:
        goes = pccl.Communicator(master.address)
        stays.connect()
        coming = threading.Thread(target=goes.connect)
        coming.start()
        while stays.world_size < 2:
            stays.update_topology()
        coming.join()
        goes.destroy()
"""


@pytest.mark.parametrize(
    ("level", "seen", "unseen"),
    [
        ("unset", [], [" INFO ", " WARN "]),
        ("off", [], ["pccl["]),
        ("INFO", [" INFO pccl[", "begins with 2 peers", "left"], [" DEBUG ", " TRACE "]),
        ("loud", [" WARN pccl[", "PCCL_LOG_LEVEL", "there are off, error, warn, info"], [" INFO "]),
    ],
)
def test_the_level_says_how_much_is_told(script, level, seen, unseen):
    status, _, told = script(PROGRAM, level).end()
    assert status == 0, told
    assert all(words in told for words in seen) and not any(words in told for words in unseen), told


def test_a_variable_without_effect_is_named_once(script):
    status, _, told = script(PROGRAM, "unset", "PCCL_MULTIPLEX_CHUNK_SIZE=8").end()
    assert status == 0 and told.count("PCCL_MULTIPLEX_CHUNK_SIZE has no effect") == 1, told


def test_a_pool_larger_than_there_can_be_is_no_error():
    pccl.Communicator("127.0.0.1:1", 0, 100_000).destroy()
