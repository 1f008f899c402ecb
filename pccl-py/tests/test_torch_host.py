"""Hosts of several ranks: complete, or waited for."""

import threading

import pytest
from conftest import needs_fsdp_on_cpu, together

import pccl

torch = pytest.importorskip("torch")
recipes = pytest.importorskip("pccl.torch")
dist = pytest.importorskip("torch.distributed")

RANKS = 2


class Grid:
    """Ranks of hosts as threads of this process: each is a peer of its own group."""

    def __init__(self, master, **options):
        self.master = master
        self.stores = {}
        self.options = {"settle_s": 0.2, **options}

    def peer(self, rank):
        return pccl.Communicator(self.master.address, peer_group=rank)

    def host(self, host, rank):
        store = self.stores.setdefault(host, dist.HashStore())
        return recipes.Host(store, rank, RANKS, **self.options)


class Rank:
    """Comes in, and waits for its host and the others, in a thread of its own."""

    def __init__(self, grid, host, rank):
        self.comm, self.host = grid.peer(rank), grid.host(host, rank)
        self.is_whole = threading.Event()
        self.error = None
        self.seen = None
        self.thread = threading.Thread(target=self.come, daemon=True)
        self.thread.start()

    def come(self):
        try:
            self.comm.connect()
            self.host.wait_until_whole(self.comm)
            self.seen = (self.comm.world_size, self.comm.group_world_size)
            self.is_whole.set()
        except Exception as error:
            self.error = error

    def is_looking(self, world):
        return self.comm.is_connected and self.comm.world_size == world and self.host._round[1] >= 1


def until(condition):
    waited = threading.Event()
    for _ in range(6000):
        if condition():
            return
        waited.wait(0.01)
    raise AssertionError("it did not come to that within a minute")


def test_two_halves_of_two_hosts_are_no_host(master):
    """One peer in each group, so the groups are equally large, and yet nobody may go on."""
    grid = Grid(master)
    first = Rank(grid, 0, 0)
    until(lambda: first.is_looking(1))
    second = Rank(grid, 1, 1)
    # Both have looked more than once at a run of two equal groups.
    until(lambda: first.is_looking(2) and second.is_looking(2))
    assert not first.is_whole.is_set() and not second.is_whole.is_set()
    rest = [Rank(grid, 0, 1), Rank(grid, 1, 0)]
    ranks = [first, second, *rest]
    for rank in ranks:
        assert rank.is_whole.wait(60), rank.error
    assert {rank.seen for rank in ranks} == {(4, 2)}
    # And a third host comes in half by half while they go on.
    third = Rank(grid, 2, 1)

    def go_on(rank):
        came = 0
        while rank.comm.world_size < 6:
            came += recipes.admit(rank.comm, host=rank.host)
        return came

    late = []

    def come_later():
        until(lambda: third.is_looking(5))
        late.append(Rank(grid, 2, 0))

    together(come_later, *(lambda rank=rank: go_on(rank) for rank in ranks))
    assert third.is_whole.wait(60) and late[0].is_whole.wait(60)
    for rank in (*ranks, third, *late):
        rank.comm.destroy()


def test_a_host_of_which_a_rank_never_comes_gives_up_in_words_and_the_others_go_on(master):
    grid = Grid(master)
    whole = [Rank(grid, 0, rank) for rank in range(RANKS)]
    for rank in whole:
        assert rank.is_whole.wait(60), rank.error
    grid.options["limit_s"] = 0.5
    half = Rank(grid, 1, 0)

    def go_on(rank):
        # Returns when the half is gone again.
        while not recipes.admit(rank.comm, host=rank.host):
            pass
        return rank.comm.world_size

    def end_it():
        half.thread.join(60)
        half.comm.destroy()

    sizes = together(end_it, *(lambda rank=rank: go_on(rank) for rank in whole))
    assert isinstance(half.error, TimeoutError)
    assert "rank 0 of this host" in str(half.error) and "for rank 1 of 2" in str(half.error)
    assert sizes[1:] == [2, 2]
    for rank in whole:
        rank.comm.destroy()


def whole_hosts(grid, hosts):
    ranks = [Rank(grid, host, rank) for host in hosts for rank in range(RANKS)]
    for rank in ranks:
        assert rank.is_whole.wait(60), rank.error
    return ranks


def leave_half(grid, ranks, member, newcomer, half_waits=True):
    """Of the second host one rank is lost, and the other stays until a third host has come to the door and was let in by those
    that wait. Gives what `member(rank)` and `newcomer(rank)` gave to those who are left.

    `half_waits`: with the others; else it stands still, as in a collective of its host."""
    lost, half = ranks[2:]
    lost.comm.destroy()
    came = []

    def come():
        if half_waits:
            until(lambda: half.host._round[1] >= 1)
        came.extend(Rank(grid, 2, rank) for rank in range(RANKS))
        if half_waits:
            until(lambda: half.comm.world_size == 5)
        half.comm.destroy()
        for one in came:
            assert one.is_whole.wait(60), one.error
        return together(*(lambda one=one: newcomer(one) for one in came))

    def wait_in_vain():
        if not half_waits:
            return
        with pytest.raises(pccl.PCCLError):
            member(half)

    first, second, new, _ = together(*(lambda one=one: member(one) for one in ranks[:2]), come, wait_in_vain)
    for one in (*ranks[:2], *came):
        one.comm.destroy()
    return [first, second], new


def test_members_hear_of_a_host_that_came_while_they_waited_for_another(master):
    grid = Grid(master)
    ranks = whole_hosts(grid, (0, 1))
    members, _ = leave_half(grid, ranks, lambda rank: recipes.admit(rank.comm, host=rank.host), lambda rank: None)
    # Nobody was at the door when they began.
    assert members == [True, True]


RECIPES_WITH_HOSTS = {
    "diloco": lambda comm, model, host: recipes.DiLoCo(comm, model, every=1, host=host, sync_every=0),
    "async": lambda comm, model, host: recipes.AsyncDiLoCo(comm, model, every=1, host=host, sync_every=0),
    "streaming": lambda comm, model, host: recipes.StreamingDiLoCo(
        comm, model, every=2, fragments=2, overlap=0, host=host, sync_every=0
    ),
}


@pytest.mark.parametrize("kind", RECIPES_WITH_HOSTS)
def test_recipes_that_compare_nothing_by_themselves_take_in_a_host_that_came_late(master, kind):
    """`sync_every=0`: only that somebody came makes members give newcomers what they hold."""
    grid = Grid(master)
    ranks = whole_hosts(grid, (0, 1))

    def made(rank):
        model = torch.nn.Linear(3, 2)
        torch.nn.init.constant_(model.weight, float(ranks.index(rank) if rank in ranks else 100))
        rank.diloco = RECIPES_WITH_HOSTS[kind](rank.comm, model, rank.host)

    together(*(lambda rank=rank: made(rank) for rank in ranks))

    joined_at = []

    def go_on(rank):
        # Nobody gets further than one step without the newcomers.
        while not joined_at or rank.diloco.outer_steps < joined_at[0] + 3:
            with torch.no_grad():
                rank.diloco.model.weight += 0.5
            rank.diloco.step()
        if kind == "async":
            rank.diloco.finish()
        return rank.diloco.outer_steps, [anchor.tolist() for anchor in rank.diloco._anchors]

    def newcomer(rank):
        made(rank)
        joined_at.append(rank.diloco.outer_steps)
        return go_on(rank)

    # An AsyncDiLoCo looks at its hosts only when somebody is at the door.
    members, new = leave_half(grid, ranks, go_on, newcomer, half_waits=kind != "async")
    assert members == new


def test_a_store_may_have_several_hosts_in_turn(master):
    """At one membership, and afterwards the first again at the next one."""
    grid = Grid(master, limit_s=5.0)
    ranks = whole_hosts(grid, (0,))
    seconds = [grid.host(0, rank) for rank in range(RANKS)]
    together(*(lambda one=one: seconds[one].wait_until_whole(ranks[one].comm) for one in range(RANKS)))
    more = [Rank(grid, 1, rank) for rank in range(RANKS)]

    def go_on(rank):
        while rank.comm.world_size < 4:
            recipes.admit(rank.comm, host=rank.host)

    together(*(lambda rank=rank: go_on(rank) for rank in ranks))
    for rank in more:
        assert rank.is_whole.wait(60), rank.error
    for rank in (*ranks, *more):
        rank.comm.destroy()


def test_what_an_earlier_run_left_in_the_store_is_not_believed():
    """A master begins to count again; the store of torchrun's agent is what it was, with a verdict in it."""
    store = dist.HashStore()
    for attempt in range(2):
        with pccl.MasterNode("127.0.0.1:0") as node:
            node.run()
            grid = Grid(node)
            grid.stores[0] = store
            if attempt == 0:
                for rank in whole_hosts(grid, (0,)):
                    rank.comm.destroy()
                continue
            # One rank in each group, of two hosts; and the other of ours never comes.
            other = Rank(grid, 1, 1)
            until(lambda: other.is_looking(1))
            grid.options["limit_s"] = 0.2
            first = Rank(grid, 0, 0)
            first.thread.join(60)
            assert isinstance(first.error, TimeoutError) and "for rank 1 of 2 to be let in" in str(first.error)
            for rank in (first, other):
                rank.comm.destroy()


def test_a_rank_out_of_range_is_refused():
    with pytest.raises(ValueError, match="rank 2 of 2"):
        recipes.Host(dist.HashStore(), 2, 2)


# Two ranks of torch, sharded by FSDP2, each alone in its group of pccl.
EVALUATED = """
import sys
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
import pccl
from pccl.torch import DiLoCo, Host, SharedModelState
from pccl.torch._reduce import local

rank, port, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
store = dist.TCPStore("127.0.0.1", port, 2, is_master=False)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
torch.manual_seed(1)
model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 2))
fully_shard(model[1])
fully_shard(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.ones(3, 4)

def evaluate():
    with torch.no_grad():
        return model(x)

# A part of which each rank would train its own copy.
partly = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 2))
fully_shard(partly[1])
for make in (lambda: SharedModelState(partly), lambda: DiLoCo(None, partly, every=1)):
    try:
        make()
    except ValueError as error:
        assert "0.weight is a plain parameter" in str(error), error
    else:
        raise AssertionError("it was taken")

with pccl.Communicator(address, peer_group=rank) as comm:
    evaluate()
    # Made after an evaluation, that of the root's shards.
    diloco = DiLoCo(comm, model, every=1, outer_lr=0.0, outer_momentum=0.0, host=Host(store, rank, 2))
    state = SharedModelState(model)
    sizes = {name: local(tensor).numel() for name, tensor, _ in state._tensors()}
    assert sum(sizes.values()) in range(22, 26), sizes
    start = evaluate()
    model(x).square().sum().backward()
    optimizer.step()
    moved = evaluate()
    assert not torch.equal(start, moved)
    evaluate()
    assert {name: local(tensor).numel() for name, tensor, _ in state._tensors()} == sizes
    evaluate()
    # Back to the anchors, which do not move here: in the model that is evaluated, too.
    diloco.step()
    assert torch.equal(evaluate(), start), (evaluate(), start)
    evaluate()
    diloco._ways(range(4))
    assert torch.equal(evaluate(), start)
print("end", rank, flush=True)
dist.destroy_process_group()
"""


@needs_fsdp_on_cpu
def test_after_an_evaluation_the_shards_are_what_counts(torch_script, master):
    store = dist.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    ranks = [torch_script(EVALUATED, rank, store.port, master.address) for rank in range(2)]
    for rank, one in enumerate(ranks):
        status, out, err = one.end(120)
        assert (status, out) == (0, f"end {rank}\n"), err


# Two hosts of two ranks: every recipe over shards.
RECIPES = """
import hashlib, sys
import torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
import pccl
from pccl.torch import AsyncDiLoCo, Host, SharedModelState, StreamingDiLoCo, admit, all_reduce_tensors
from pccl.torch._reduce import local

host, rank, port, address = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(1)
store = dist.TCPStore("127.0.0.1", port, 2, is_master=False)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2)

def made(seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    fully_shard(model)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)

def inner(model, optimizer):
    model(torch.randn(8, 4)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()

def digest(*tensors):
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(local(tensor).numpy().tobytes())
    return total.hexdigest()[:12]

with pccl.Communicator(address, peer_group=rank) as comm:
    grid = Host(store, rank, 2)
    comm.connect(n_attempts=60)
    grid.wait_until_whole(comm)
    while comm.group_world_size < 2:
        admit(comm, host=grid)
    words = []
    model, optimizer = made(host)
    for _ in range(host):
        inner(model, optimizer)
    SharedModelState(model, optimizer).sync(comm)
    words.append(digest(*model.parameters(), *(one["exp_avg"] for one in optimizer.state.values())))
    torch.manual_seed(10 + 2 * host + rank)
    model(torch.randn(8, 4)).square().sum().backward()
    gradients = [p.grad for p in model.parameters()]
    mine = digest(*gradients)
    all_reduce_tensors(comm, gradients)
    assert digest(*gradients) != mine
    words.append(digest(*gradients))
    for make in (
        lambda: AsyncDiLoCo(comm, model, optimizer, every=2, host=grid, outer_lr=0.3),
        lambda: StreamingDiLoCo(comm, model, optimizer, every=4, fragments=2, host=grid, error_feedback=True),
    ):
        model, optimizer = made(host)
        diloco = make()
        while diloco.outer_steps < 3:
            inner(model, optimizer)
            diloco.step()
        if isinstance(diloco, AsyncDiLoCo):
            diloco.finish()
        words.append(digest(*diloco._anchors))
        diloco.load_state_dict(diloco.state_dict())
        words.append(digest(*model.parameters()))
print(rank, *words, flush=True)
dist.destroy_process_group()
"""


@needs_fsdp_on_cpu
def test_every_recipe_works_on_shards(torch_script, master):
    stores = [dist.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False) for _ in range(2)]
    ranks = [torch_script(RECIPES, host, rank, stores[host].port, master.address) for host in range(2) for rank in range(2)]
    ends = [one.end(180) for one in ranks]
    assert [status for status, _, _ in ends] == [0] * 4, [err for _, _, err in ends]
    outs = [out.split() for _, out, _ in ends]
    assert outs[0] == outs[2] and outs[1] == outs[3] and outs[0][1:] != outs[1][1:] and len(outs[0]) == 7
