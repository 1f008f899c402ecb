"""The code of docs/guide-python.md, run as it stands there: by two peers, small."""

import pathlib
import re

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
    spaces = by_two("all_reduce_tensors(comm, [p.grad for p in model.parameters()])\n", two, master)
    assert are_alike(spaces) and int(spaces[0]["done"]) == 4


def test_diloco(two, master):
    spaces = by_two('every=100, quantize="u8")', two, master)
    assert are_alike(spaces) and spaces[1]["diloco"].outer_steps == 3


def test_a_checkpoint_of_a_model(peers_of, master, tmp_path):
    path = tmp_path / "checkpoint.pt"
    saved = names(5, master)
    torch.save({"model": saved["model"].state_dict(), "optimizer": saved["optimizer"].state_dict(), "done": 7}, path)
    first, second = peers_of(1)[0], pccl.Communicator(master.address)
    change = ("checkpoint.pt", str(path))
    space = names(1, master, comm=first)
    run(block('"checkpoint.pt"'), space, master, change, ("comm.connect()", "pass"))
    assert torch.equal(space["model"].weight, saved["model"].weight) and int(space["done"]) == 7

    def let_in():
        while not first.are_peers_pending():
            pass
        first.update_topology()
        space["state"].push_revision()
        space["state"].sync(first)

    # Another one with that checkpoint, or an older one, finds a run and receives.
    late = names(2, master, comm=second)
    together(lambda: run(block('"checkpoint.pt"'), late, master, change), let_in)
    assert are_alike([space, late]) and int(late["done"]) == 7
    second.destroy()


def test_a_checkpoint_of_a_diloco(two, master, tmp_path):
    path = tmp_path / "diloco.pt"
    change = ('"diloco.pt"', "path")
    earlier = names(9, master)
    with pccl.MasterNode("127.0.0.1:0") as other:
        other.run()
        with pccl.Communicator(other.address) as comm:
            alone = pccl.torch.DiLoCo(comm, earlier["model"], earlier["optimizer"], every=1)
            alone.step()
            torch.save(alone.state_dict(), path)
    spaces = [names(i, master, comm=peer, path=tmp_path / f"{i}.pt") for i, peer in enumerate(two)]
    for space in spaces:
        space["path"].write_bytes(path.read_bytes())
    each(two, lambda _, i: run(block('"diloco.pt"'), spaces[i], master, change))
    assert are_alike(spaces) and spaces[0]["diloco"].outer_steps == 3
    assert torch.load(tmp_path / "1.pt")["outer_steps"] == 3


def test_quantization(two, master):
    def peer(i):
        space = names(i, master, comm=two[i])
        space["model"](torch.ones(1, 4)).sum().backward()
        return run(block("ErrorFeedback()"), space, master)

    spaces = each(two, lambda _, i: peer(i))
    assert all(bool(space["residual"].abs().max() > 0) for space in spaces)


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
    assert len(BLOCKS) == 7
    assert all(any(word in one for word in words) for one in BLOCKS)
