"""What the three DiLoCos make of the ways that several peers went, against arithmetic by hand."""

import pytest
from conftest import each, join, together

import pccl

torch = pytest.importorskip("torch")
recipes = pytest.importorskip("pccl.torch")

LR, MOMENTUM = 0.5, 0.25
OPTIONS = {"outer_lr": LR, "outer_momentum": MOMENTUM}


class Two(torch.nn.Module):
    """Two parameters, which are the fragments of a StreamingDiLoCo."""

    def __init__(self, value=0.0):
        super().__init__()
        self.first, self.second = (torch.nn.Parameter(torch.full((3,), value)) for _ in range(2))

    def move(self, by, twice=1.0):
        with torch.no_grad():
            self.first += by
            self.second += twice * by

    def values(self):
        assert all(bool((p == p[0]).all()) for p in (self.first, self.second))
        return [float(self.first.detach()[0]), float(self.second.detach()[0])]


class Outer:
    """One number under SGD with Nesterov's momentum."""

    def __init__(self):
        self.anchor = self.velocity = 0.0

    def step(self, went):
        """`went`: how far the peers came on average."""
        gradient = -went
        self.velocity = MOMENTUM * self.velocity + gradient
        self.anchor -= LR * (gradient + MOMENTUM * self.velocity)


def near(*values):
    return pytest.approx(list(values), rel=1e-5, abs=1e-4)


def anchors(diloco):
    return [float(anchor.detach()[0]) for anchor in diloco._anchors]


def velocities(diloco):
    return [float(diloco._outer.state[anchor]["momentum_buffer"][0]) for anchor in diloco._anchors]


def outer_step(dilocos, moves):
    """Each goes its way, twice as far in the second parameter, and all make an outer step."""
    for diloco, move in zip(dilocos, moves):
        diloco.model.move(move, twice=2.0)
    assert together(*(one.step for one in dilocos)) == [True] * len(dilocos)


def newcomer_of(dilocos, master, make, moves):
    """Comes in at the end of an outer step that the members make."""
    comm = pccl.Communicator(master.address)

    def member(diloco, move):
        if getattr(diloco, "_average", None) is not None:
            for handle in diloco._average._handles:
                handle.wait()
        # So that the newcomer is waiting when the step is made. Changes nothing.
        while not diloco.comm.are_peers_pending():
            pass
        diloco.model.move(move, twice=2.0)
        diloco.step()

    members = (lambda pair=pair: member(*pair) for pair in zip(dilocos, moves))
    return together(lambda: make(comm, Two(100.0)), *members)[0]


def test_diloco_averages_the_ways_of_those_who_are_there(peers_of, master):
    def make(comm, model):
        return recipes.DiLoCo(comm, model, every=1, **OPTIONS)

    peers = peers_of(3)
    dilocos = each(peers, lambda peer, i: make(peer, Two()))
    one, two = Outer(), Outer()

    def check(went):
        one.step(went)
        two.step(2 * went)
        for diloco in dilocos:
            assert anchors(diloco) == near(one.anchor, two.anchor) == diloco.model.values()
            assert velocities(diloco) == near(one.velocity, two.velocity)

    outer_step(dilocos, [1.0, 2.0, 6.0])
    check(3.0)
    outer_step(dilocos, [-1.0, 2.0, 5.0])
    check(2.0)
    peers[2].destroy()
    del dilocos[2]
    outer_step(dilocos, [1.0, 4.0])
    check(2.5)
    newcomer = newcomer_of(dilocos, master, make, [2.0, 4.0])
    dilocos.append(newcomer)
    # The newcomer has what the members made of their ways, and had no share in it.
    check(3.0)
    outer_step(dilocos, [0.0, 0.0, 3.0])
    check(1.0)
    assert [diloco.outer_steps for diloco in dilocos] == [5] * 3
    newcomer.comm.destroy()


@pytest.mark.parametrize("options, share", [({}, OPTIONS["outer_lr"]), ({"own_share": 1.0}, 1.0), ({"own_share": 0.0}, 0.0)])
def test_async_diloco_brings_each_average_in_one_step_later(peers_of, master, options, share):
    def make(comm, model):
        return recipes.AsyncDiLoCo(comm, model, every=1, **OPTIONS, **options)

    peers = peers_of(3)
    dilocos = each(peers, lambda peer, i: make(peer, Two()))
    one, two = Outer(), Outer()

    def check(*wents, own=()):
        """`own`: the way of each peer that is under way, which its model has and the anchors have not."""
        for went in wents:
            one.step(went)
            two.step(2 * went)
        for diloco, way in zip(dilocos, own or [0.0] * len(dilocos)):
            assert anchors(diloco) == near(one.anchor, two.anchor)
            way *= share
            assert diloco.model.values() == near(one.anchor + way, two.anchor + 2 * way)

    outer_step(dilocos, [1.0, 2.0, 6.0])
    check(own=[1.0, 2.0, 6.0])
    outer_step(dilocos, [-1.0, 2.0, 5.0])
    check(3.0, own=[-1.0, 2.0, 5.0])
    outer_step(dilocos, [3.0, 3.0, 3.0])
    check(2.0, own=[3.0, 3.0, 3.0])
    # All three have given; only then one goes.
    for diloco in dilocos:
        for handle in diloco._average._handles:
            handle.wait()
    peers[2].destroy()
    del dilocos[2]
    outer_step(dilocos, [1.0, 4.0])
    check(3.0, own=[1.0, 4.0])
    # Before somebody comes in, what is under way is brought in.
    newcomer = newcomer_of(dilocos, master, make, [2.0, 4.0])
    dilocos.append(newcomer)
    check(2.5, 3.0)
    outer_step(dilocos, [0.0, 0.0, 3.0])
    check(own=[0.0, 0.0, 3.0])
    each([diloco.comm for diloco in dilocos], lambda _, i: dilocos[i].finish())
    check(1.0)
    assert [diloco.outer_steps for diloco in dilocos] == [6] * 3
    newcomer.comm.destroy()


@pytest.mark.parametrize("overlap, arrivals", [(0, [4, 8, 12, 16]), (2, [4, 8, 12, 16]), (3, [4, 8, 12, 16])])
@pytest.mark.parametrize("mixing", [0.0, 0.5])
def test_streaming_diloco_sends_fragments_in_turn_and_mixes_them_in(peers_of, overlap, arrivals, mixing):
    every = 8
    peers = peers_of(3)
    dilocos = each(
        peers,
        lambda peer, i: recipes.StreamingDiLoCo(
            peer, Two(), every=every, fragments=2, overlap=overlap, mixing=mixing, quantize=None, **OPTIONS
        ),
    )
    outers = [Outer(), Outer()]
    # By hand: of each peer, where its two parameters are.
    held = [[0.0, 0.0] for _ in peers]
    under_way = {}
    arrived = []
    # A fragment that arrives in call 4 was sent `overlap` calls before: with what the peers had then.
    sent_in = {arrival - overlap: (arrival, turn % 2) for turn, arrival in enumerate(arrivals)}
    for call in range(1, 17):
        if call == 9:
            # One leaves between two rounds.
            peers[2].destroy()
            del dilocos[2], held[2]
        for index, diloco in enumerate(dilocos):
            by = float((index + 1) * call)
            diloco.model.move(by, twice=3.0)
            held[index][0] += by
            held[index][1] += 3.0 * by
        if call in sent_in:
            arrival, part = sent_in[call]
            went = sum(own[part] for own in held) / len(held) - outers[part].anchor
            under_way[arrival] = (part, went)
        steps = together(*(diloco.step for diloco in dilocos))
        if call in under_way:
            arrived.append(call)
            part, went = under_way[call]
            outers[part].step(went)
            for own in held:
                own[part] = mixing * own[part] + (1 - mixing) * outers[part].anchor
        assert steps == [call in under_way] * len(dilocos)
        for diloco, own in zip(dilocos, held):
            assert diloco.model.values() == near(*own), f"call {call}"
            assert anchors(diloco) == near(*(outer.anchor for outer in outers)), f"call {call}"
    assert arrived == arrivals
    assert [diloco.outer_steps for diloco in dilocos] == [2, 2]


def test_a_newcomer_of_a_streaming_diloco_shares_in_the_next_round(two, master):
    def make(comm, model):
        return recipes.StreamingDiLoCo(comm, model, every=2, fragments=2, overlap=0, mixing=0.0, quantize=None, **OPTIONS)

    dilocos = each(two, lambda peer, i: make(peer, Two()))
    outers = [Outer(), Outer()]
    comm = pccl.Communicator(master.address)

    def member(diloco):
        diloco.model.move(1.0)
        diloco.step()
        while not diloco.comm.are_peers_pending():
            pass
        diloco.model.move(1.0)
        diloco.step()

    newcomer = together(lambda: make(comm, Two(100.0)), *(lambda one=one: member(one) for one in dilocos))[0]
    dilocos.append(newcomer)
    # The first fragment was sent after one move, the second after two.
    outers[0].step(1.0)
    outers[1].step(2.0)
    for diloco in dilocos:
        assert anchors(diloco) == near(*(outer.anchor for outer in outers))
    assert newcomer.model.values() == near(*(outer.anchor for outer in outers))
    for _ in range(2):
        # The members' first parameter has gone one further since its fragment arrived.
        dilocos[2].model.move(3.0)
        together(*(diloco.step for diloco in dilocos))
    outers[0].step((1.0 + 1.0 + 3.0) / 3)
    outers[1].step((0.0 + 0.0 + 6.0) / 3)
    for diloco in dilocos:
        assert anchors(diloco) == near(*(outer.anchor for outer in outers))
    comm.destroy()


HALF_PRECISION = {
    "diloco": lambda comm, model: recipes.DiLoCo(comm, model, every=1, outer_lr=0.25, outer_momentum=0.0),
    "async": lambda comm, model: recipes.AsyncDiLoCo(comm, model, every=1, outer_lr=0.25, outer_momentum=0.0),
    **{
        f"streaming, mixing {mixing}": lambda comm, model, mixing=mixing: recipes.StreamingDiLoCo(
            comm, model, every=2, fragments=2, overlap=0, mixing=mixing, quantize=None, outer_lr=0.25, outer_momentum=0.0
        )
        for mixing in (0.0, 0.5)
    },
}


@pytest.mark.parametrize("kind", HALF_PRECISION)
@pytest.mark.parametrize("dtype, ulp", [(torch.bfloat16, 2**-7), (torch.float16, 2**-10)])
def test_what_half_precision_cannot_hold_stays_in_the_anchors(two, kind, dtype, ulp):
    """One of two peers moves by one ulp, and then nobody: the quarter of it that is everybody's is not taken back."""
    dilocos = each(two, lambda peer, i: HALF_PRECISION[kind](peer, Two(1.0).to(dtype)))
    is_streaming = "streaming" in kind
    dilocos[0].model.move(ulp)
    seen = []
    for _ in range(8):
        for _ in range(2 if is_streaming else 1):
            each(two, lambda _, i: dilocos[i].step())
        seen.append(anchors(dilocos[0])[0])
        assert anchors(dilocos[0]) == anchors(dilocos[1])
    if kind == "async":
        each(two, lambda _, i: dilocos[i].finish())
        seen = [*seen[1:], anchors(dilocos[0])[0]]
    first = 1.0 + ulp / 2 / 4
    if "0.5" not in kind:
        assert seen == [first] * 8
        return
    # What a peer keeps of its own way counts again, as at full precision.
    expected = 1.0
    place = [1.0 + ulp, 1.0]
    for anchor in seen:
        expected += (sum(place) / 2 - expected) / 4
        place = [(own + expected) / 2 for own in place]
        assert anchor == pytest.approx(expected, abs=1e-6)
