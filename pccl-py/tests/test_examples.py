"""The examples, small, each by the one command that its first lines name."""

import pathlib
import re
import statistics
import subprocess
import sys

import pytest
from conftest import needs_fsdp_on_cpu

torch = pytest.importorskip("torch")

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def run(name, *arguments):
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name, steps", [("ddp_by_hand.py", 80), ("diloco.py", 6), ("async_diloco.py", 6)])
def test_an_example_learns(name, steps):
    """All draw the same each time, so little but the moment at which they find each other differs between two runs."""
    found = re.findall(r"step (\d+): loss ([0-9.]+)$", run(name, "--steps", steps, "--peers", 2), re.MULTILINE)
    losses = [float(loss) for _, loss in sorted(found, key=lambda one: int(one[0]))]
    third = len(losses) // 3
    begin, middle, end = (statistics.mean(part) for part in (losses[:third], losses[third:-third], losses[-third:]))
    # Guessing among 128 characters is worth 4.85; knowing how often each of them comes, 3.12. A batch differs from the next by 0.2.
    assert max(middle, end) < begin and end < min(begin - 0.2, 3.0), losses


@needs_fsdp_on_cpu
def test_a_host_of_the_grid_dies_and_comes_back():
    out = run("fsdp_grid.py", "--steps", 2)
    assert "host 1 is killed" in out
    shards = re.findall(r"^shard \d: (\w+), (\w+)$", out, re.MULTILINE)
    assert len(shards) == 2 and all(a == b for a, b in shards)
    assert shards[0] != shards[1]


def test_a_rank_that_fails_ends_the_grid_with_a_word(tmp_path):
    """Nobody waits for its siblings, which wait for it."""
    text = (EXAMPLES / "fsdp_grid.py").read_text()
    broken = text.replace("model = GPT()", "model = GPT()\n    if arguments.rank == 1: raise RuntimeError('as if by a defect')")
    assert broken != text
    (tmp_path / "fsdp_grid.py").write_text(broken)
    (tmp_path / "characters.py").write_text((EXAMPLES / "characters.py").read_text())
    done = subprocess.run(
        [sys.executable, tmp_path / "fsdp_grid.py"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1 and "host 1 has ended before its time" in done.stderr


def test_every_example_is_run_here():
    scripts = {path.name for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text()}
    assert scripts == {"ddp_by_hand.py", "diloco.py", "async_diloco.py", "fsdp_grid.py"}
