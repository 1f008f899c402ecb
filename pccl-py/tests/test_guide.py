"""The code of docs/guide-python.md, run as it stands there: by two peers, small."""

import pathlib
import re
import threading

import pytest
from conftest import each, together

import pccl

torch = pytest.importorskip("torch")

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "guide-python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
# Where the guide has a run of days.
SMALLER = [("every=100", "every=2"), ("outer_steps < 50", "outer_steps < 3"), ("int(done) < 1000", "int(done) < 4")]


def block(words):
    found = [one for one in BLOCKS if words in one]
    assert len(found) == 1, f"{len(found)} blocks of the guide have {words!r}"
    return found[0]


def names(seed, master, **more):
    """What the guide takes for granted."""
    torch.manual_seed(seed)
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    return {
        "pccl": pccl,
        "torch": torch,
        "model": model,
        "optimizer": optimizer,
        "done": torch.zeros(1, dtype=torch.int64),
        "batch": lambda: torch.randn(3, 4),
        "loss_of": lambda model, inputs: model(inputs).square().sum(),
        **more,
    }


def run(text, space, master, *changes):
    for old, new in (*SMALLER, ("master.example:48148", master.address), *changes):
        text = text.replace(old, new)
    exec(compile(text, str(GUIDE), "exec"), space)
    return space


def by_two(words, two, master, *changes):
    # They are members already.
    spaces = [names(i, master, comm=peer) for i, peer in enumerate(two)]
    each(two, lambda _, i: run(block(words), spaces[i], master, ("comm.connect()", "pass"), *changes))
    return spaces


def are_alike(spaces):
    return torch.equal(*(space["model"].weight for space in spaces))


def test_a_run(peers_of, master):
    member = peers_of(1)[0]

    def take_part():
        while member.world_size < 2:
            member.update_topology()
        return member.all_reduce(torch.randn(1000), op=pccl.ReduceOp.AVG)

    together(lambda: run(block("gradient = torch.randn"), names(1, master), master), take_part)


def test_data_parallel_by_hand(two, master):
    spaces = by_two("done: a tensor that counts steps", two, master)
    assert are_alike(spaces) and int(spaces[0]["done"]) == 4


def test_diloco(two, master):
    spaces = by_two('every=100, quantize="u8")', two, master)
    assert are_alike(spaces) and spaces[1]["diloco"].outer_steps == 3


def in_files(folder):
    """Each peer's own, as each runs in a folder of its own."""
    return [(f'"{name}"', repr(str(folder / name))) for name in ("checkpoint.pt", "checkpoint.new", "diloco.pt", "diloco.new")]


def test_a_checkpoint_of_a_model(master, tmp_path):
    changes = [*in_files(tmp_path), ("int(done) % 100", "int(done) % 2")]
    program = block('"checkpoint.pt"')
    with pccl.Communicator(master.address) as comm:
        # The first run has no file, and ends after a step that is not saved.
        first = run(program, names(1, master, comm=comm), master, *changes, ("int(done) < 4", "int(done) < 3"))
    assert int(first["done"]) == 3
    saved = torch.load(tmp_path / "checkpoint.pt")
    assert saved["done"] == 2 and not torch.equal(saved["model"]["weight"], first["model"].weight)
    with pccl.Communicator(master.address) as comm, pccl.Communicator(master.address) as other:
        # The second goes on from there, lets somebody in with what it then is, and that one's own checkpoint does not count.
        second = names(2, master, comm=comm)
        seen, has_begun = [], threading.Event()

        def batch():
            has_begun.set()
            seen.append((int(second["done"]), second["model"].weight.detach().clone(), len(second["optimizer"].state)))
            while len(seen) == 1 and not comm.are_peers_pending():
                pass
            return torch.randn(3, 4)

        second["batch"] = batch
        late = names(3, master, comm=other)
        (tmp_path / "late").mkdir()
        torch.save({**saved, "done": 0}, tmp_path / "late" / "checkpoint.pt")
        theirs = [*in_files(tmp_path / "late"), ("int(done) % 100", "int(done) % 2")]
        longer = ("int(done) < 4", "int(done) < 6")

        def come_late():
            assert has_begun.wait(60)
            run(program, late, master, longer, *theirs)

        together(lambda: run(program, second, master, longer, *changes), come_late)
        assert seen[0][0] == 2 and torch.equal(seen[0][1], saved["model"]["weight"]) and seen[0][2] == 2
        assert are_alike([second, late]) and [int(space["done"]) for space in (second, late)] == [6, 6]


def test_a_checkpoint_of_a_diloco(peers_of, master, tmp_path):
    def with_statistics(seed, **more):
        space = names(seed, master, **more)
        space["model"] = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
        space["optimizer"] = torch.optim.AdamW(space["model"].parameters(), lr=0.01)
        return space

    folders = [tmp_path / str(i) for i in range(3)]
    for folder in folders:
        folder.mkdir()
    program = block('"diloco.pt"')

    def by(peers, places, *changes):
        spaces = [with_statistics(i, comm=peer) for i, peer in enumerate(peers)]
        each(peers, lambda _, i: run(program, spaces[i], master, *changes, *in_files(folders[places[i]])))
        return spaces

    # First without a file.
    peers = peers_of(2)
    first = by(peers, [0, 1])
    assert [space["diloco"].outer_steps for space in first] == [3, 3]
    for peer in peers:
        peer.destroy()
    # Then one comes with its file, and one that has none.
    peers = peers_of(2)
    steps = 5
    again = by(peers, [1, 2], ("outer_steps < 3", f"outer_steps < {steps}"))
    assert [space["diloco"].outer_steps for space in again] == [steps, steps]
    weights = [space["model"][1].weight for space in again]
    assert torch.equal(*weights)
    saved = torch.load(folders[1] / "diloco.pt")
    # Two steps a round, over both runs.
    assert saved["diloco"]["outer_steps"] == steps and int(saved["optimizer"]["state"][0]["step"]) == 2 * steps
    assert int(saved["model"]["0.num_batches_tracked"]) == 2 * steps


def test_quantization(two, master):
    def peer(i):
        space = names(i, master, comm=two[i])
        space["model"](torch.ones(1, 4)).sum().backward()
        return run(block("ErrorFeedback()"), space, master)

    spaces = each(two, lambda _, i: peer(i))
    assert all(bool(space["residual"].abs().max() > 0) for space in spaces)


def test_an_array_of_jax(two, master):
    pytest.importorskip("jax")
    spaces = each(two, lambda peer, i: run(block("import jax.numpy"), names(i, master, comm=peer), master))
    assert all(space["gradient"].tolist() == [1.0] * 1000 for space in spaces)


def test_a_host_of_two_ranks(master):
    store = torch.distributed.HashStore()
    spaces = [names(i, master, rank=i, store=store) for i in range(2)]
    together(*(lambda space=space: run(block("host = Host("), space, master) for space in spaces))
    assert [space["comm"].world_size for space in spaces] == [2, 2]
    for space in spaces:
        space["comm"].destroy()


def test_every_block_of_the_guide_is_run_here():
    text = pathlib.Path(__file__).read_text()
    words = [eval(found) for found in re.findall(r"""(?:block|by_two)\(("[^"]*"|'[^']*')""", text)]
    assert len(BLOCKS) == 8
    assert all(any(word in one for word in words) for one in BLOCKS)
