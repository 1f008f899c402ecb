"""The DiLoCo recipes among processes that come and go: all hold the same bits."""

import pytest

import pccl

torch = pytest.importorskip("torch")
recipes = pytest.importorskip("pccl.torch")

# Trains until a third peer was lost and another has come, and three outer steps more.
WORKER = """
import hashlib, os, signal, sys
import torch
import pccl
from pccl.torch import AsyncDiLoCo, DiLoCo, StreamingDiLoCo
from pccl.torch import _diloco, _reduce, _state

kind, address, seed, role, where = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]
torch.manual_seed(seed)
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.BatchNorm1d(32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
comm = pccl.Communicator(address)
make = {
    "diloco": lambda: DiLoCo(comm, model, optimizer, every=2),
    "quantized": lambda: DiLoCo(comm, model, optimizer, every=2, quantize="u8", sync_every=0),
    "async": lambda: AsyncDiLoCo(comm, model, optimizer, every=2, outer_lr=0.3),
    "streaming": lambda: StreamingDiLoCo(comm, model, optimizer, every=4, fragments=2, overlap=1),
    "streaming, late": lambda: StreamingDiLoCo(comm, model, optimizer, every=6, fragments=2, overlap=2, quantize=None),
}[kind]
if role == "newcomer":
    comm.connect(n_attempts=60)
diloco = make()
print("in", flush=True)

# An average that the dying one never gives to: the others have started theirs when this small operation of all is done.
def die_under_way(*_arguments, **_options):
    comm.all_reduce(bytearray(1), tag=5)
    die()

def start_and_tell(self, *arguments, **options):
    _reduce.Average.__init__ = start
    start(self, *arguments, **options)
    try:
        comm.all_reduce(bytearray(1), tag=5)
    except pccl.PCCLError:
        # It was gone before this one heard of the end.
        pass

def die(*_arguments, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

def counted(self):
    global retries
    wait(self)
    retries += self.retries

start, wait, retries, is_set = _reduce.Average.__init__, _reduce.Average.wait, 0, False
_reduce.Average.wait = counted
was_full, lost, left, at, full_steps = False, role == "newcomer", 3, diloco.outer_steps, 0
if lost:
    left -= 1

def is_time():
    # All three have made two full steps: they count from where each came in.
    said = bytearray([full_steps >= 2])
    comm.all_reduce(said, op=pccl.ReduceOp.MIN, tag=6)
    return bool(said[0])

if not lost and comm.group_world_size == 3:
    is_time()
while left > 0:
    x = torch.randn(16, 4)
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    diloco.step()
    if diloco.outer_steps == at:
        continue
    at = diloco.outer_steps
    world = comm.group_world_size
    if not lost:
        was_full = was_full or world == 3
        full_steps += world == 3
        now = not is_set and world == 3 and is_time()
        is_set = is_set or now
        if now and role == "stays" and where == "average":
            _reduce.Average.__init__ = start_and_tell
        if now and role == "dies":
            if where == "average":
                _reduce.Average.__init__ = die_under_way
            elif where == "sync":
                # The others are in it, or come to it.
                _state.Gathered.synchronize = die
            else:
                _diloco.admit = die
        if was_full and world == 2:
            lost = True
            print("lost", flush=True)
    elif world == 3:
        left -= 1
if kind == "async":
    diloco.finish()
digest = hashlib.sha256()
for tensor in diloco._anchors:
    digest.update(tensor.detach().numpy().tobytes())
for one in diloco._outer.state.values():
    digest.update(one["momentum_buffer"].numpy().tobytes())
if not kind.startswith("streaming"):
    for tensor in model.parameters():
        digest.update(tensor.detach().numpy().tobytes())
if role == "stays":
    print("retries", retries)
print(diloco.outer_steps, digest.hexdigest(), flush=True)
assert bool(torch.isfinite(loss))
"""


@pytest.mark.parametrize(
    "kind, where",
    [
        *((kind, "average") for kind in ("diloco", "quantized", "async", "streaming", "streaming, late")),
        ("diloco", "sync"),
        ("diloco", "admit"),
        ("streaming", "sync"),
    ],
)
def test_one_dies_in_an_outer_step_and_another_comes(torch_script, master, kind, where):
    staying = [torch_script(WORKER, kind, master.address, seed, "stays", where) for seed in (1, 2)]
    dying = torch_script(WORKER, kind, master.address, 3, "dies", where)
    for one in (*staying, dying):
        assert one.line() == "in"
    for one in staying:
        assert one.line() == "lost"
    newcomer = torch_script(WORKER, kind, master.address, 4, "newcomer", where)
    assert newcomer.line() == "in"
    ends = [one.end(limit_s=120) for one in (*staying, newcomer)]
    assert [status for status, _, _ in ends] == [0, 0, 0], ends
    assert dying.end()[0] == -9
    retries = [out.splitlines()[0] for _, out, _ in ends[:2]]
    assert retries == [f"retries {int(where == 'average')}"] * 2
    lines = {out.splitlines()[-1] for _, out, _ in ends}
    assert len(lines) == 1 and int(lines.pop().split()[0]) >= 5


def test_what_cannot_work_is_refused_before_anybody_waits():
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="every is 0"):
        recipes.DiLoCo(None, model, every=0)
    for options, reason in [
        ({"every": 5, "fragments": 2}, "equally many"),
        ({"every": 4, "fragments": 2, "overlap": 2}, "before the next one"),
        ({"every": 4, "fragments": 2, "mixing": 1.0}, "below 1"),
    ]:
        with pytest.raises(ValueError, match=reason):
            recipes.StreamingDiLoCo(None, model, **options)


def test_own_shares_that_cannot_be_are_refused():
    for share in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="own_share"):
            recipes.AsyncDiLoCo(None, torch.nn.Linear(2, 2), every=2, own_share=share)


def test_late_news_has_the_outer_momentum_that_was_measured(peers_of):
    """docs/guide-python.md has the figures."""
    peer = peers_of(1)[0]
    for make, momentum in [(recipes.AsyncDiLoCo, 0.3), (recipes.DiLoCo, 0.9)]:
        assert make(peer, torch.nn.Linear(2, 2), every=2)._outer.param_groups[0]["momentum"] == momentum


def test_fragments_cover_everything_in_order_and_about_equally():
    fragments = recipes._streaming_diloco._fragments
    for sizes, count in [([1] * 8, 4), ([100, 1, 1, 1], 2), ([5], 3), ([], 2), ([3, 1, 4, 1, 5, 9, 2, 6], 3)]:
        parts = fragments(sizes, count)
        assert len(parts) == count and [i for part in parts for i in part] == list(range(len(sizes)))
    assert [len(part) for part in fragments([1] * 8, 4)] == [2, 2, 2, 2]


@pytest.mark.parametrize("kind", ["diloco", "async"])
def test_one_peer_alone_makes_what_the_paper_says(master, kind):
    """Outer SGD with Nesterov on what the inner steps did, against arithmetic by hand."""
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 1, bias=False)
    start = model.weight.detach().clone()
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    make = recipes.DiLoCo if kind == "diloco" else recipes.AsyncDiLoCo
    anchor, momentum, late = start.clone(), torch.zeros_like(start), None
    with pccl.Communicator(master.address) as comm:
        diloco = make(comm, model, inner, every=2, outer_lr=0.7, outer_momentum=0.9)
        for _ in range(3):
            before = model.weight.detach().clone()
            for _ in range(2):
                model(torch.ones(1, 3)).square().sum().backward()
                inner.step()
                inner.zero_grad()
                if not diloco.step():
                    way = before - model.weight.detach()
                else:
                    # The model has moved on: the second step by hand, from where the first one led.
                    middle = before - way
                    way = way + 0.1 * 2 * middle.sum()
            applied, late = (way, None) if kind == "diloco" else (late, way)
            if applied is not None:
                momentum = 0.9 * momentum + applied
                anchor = anchor - 0.7 * (applied + 0.9 * momentum)
            # With the peer's own way, as the outer rate takes it, where that is under way.
            torch.testing.assert_close(model.weight.detach(), anchor if late is None else anchor - 0.7 * late)
        assert diloco.outer_steps == (3 if kind == "diloco" else 2)
        if kind == "async":
            diloco.finish()
            assert diloco.outer_steps == 3
            momentum = 0.9 * momentum + late
            torch.testing.assert_close(model.weight.detach(), anchor - 0.7 * (late + 0.9 * momentum))
