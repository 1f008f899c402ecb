"""State dicts of the DiLoCos, and what newcomers get of a model."""

import io

import pytest
from conftest import each, together

import pccl

torch = pytest.importorskip("torch")
recipes = pytest.importorskip("pccl.torch")

KINDS = {
    "diloco": lambda comm, model, **options: recipes.DiLoCo(comm, model, every=2, **options),
    "async": lambda comm, model, **options: recipes.AsyncDiLoCo(comm, model, every=2, **options),
    "streaming": lambda comm, model, **options: recipes.StreamingDiLoCo(
        comm, model, every=4, fragments=2, overlap=1, mixing=0.0, **{"quantize": None, **options}
    ),
}


def model_of(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))


def train(diloco, calls, seed):
    """Steps that depend on nothing but the seed and their number, whatever other threads draw."""
    for call in range(calls):
        draw = torch.Generator().manual_seed(1000 * seed + call)
        with torch.no_grad():
            for parameter in diloco.model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
        diloco.step()


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)


def parts(diloco):
    momenta = [one["momentum_buffer"] for one in diloco._outer.state.values()]
    return [tensor.detach().clone() for tensor in (*diloco._anchors, *momenta)]


def are_equal(*lists):
    return all(torch.equal(a, b) for one in lists[1:] for a, b in zip(lists[0], one)) and len({*map(len, lists)}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_from_a_checkpoint_as_if_nothing_had_been(peers_of, kind):
    make = KINDS[kind]
    peers = peers_of(2)
    dilocos = each(peers, lambda peer, i: make(peer, model_of(i)))
    each(peers, lambda _, i: train(dilocos[i], 8, i))
    saved = each(peers, lambda _, i: through_a_file(dilocos[i].state_dict()))
    if kind == "async":
        # What is under way is in the state, and as if it had arrived.
        assert saved[0]["late"] is not None and saved[0]["outer_steps"] == 3
        each(peers, lambda _, i: dilocos[i].finish())
    expected = [parts(dilocos[0]), dilocos[0].outer_steps]
    each(peers, lambda _, i: train(dilocos[i], 8, 5 + i))
    further = [parts(dilocos[0]), dilocos[0].outer_steps]
    for peer in peers:
        peer.destroy()
    # All over again, from other weights.
    peers = peers_of(2)
    dilocos = each(peers, lambda peer, i: make(peer, model_of(7 + i)))
    each(peers, lambda _, i: dilocos[i].load_state_dict(saved[i]))
    for diloco in dilocos:
        assert are_equal(parts(diloco), expected[0]) and diloco.outer_steps == expected[1]
        assert all(torch.equal(p, a) for p, a in zip(diloco.model.parameters(), diloco._anchors))
    if kind == "diloco":
        # Of the others, what was under way is in the anchors already, or the model has gone on beside them.
        each(peers, lambda _, i: train(dilocos[i], 8, 5 + i))
        assert are_equal(parts(dilocos[0]), further[0]) and dilocos[1].outer_steps == further[1]


def test_of_several_checkpoints_the_furthest_counts(peers_of):
    make = KINDS["diloco"]
    peers = peers_of(3)
    dilocos = each(peers, lambda peer, i: make(peer, model_of(i)))
    states = []
    for _ in range(3):
        each(peers, lambda _, i: train(dilocos[i], 2, i))
        states.append(dilocos[0].state_dict())
    each(peers, lambda _, i: train(dilocos[i], 2, i))
    # The lowest rank, which wins among equals, has the oldest.
    given = [states[0], states[2], states[1]]
    each(peers, lambda _, i: dilocos[i].load_state_dict(given[i]))
    for diloco in dilocos:
        assert diloco.outer_steps == 3
        assert all(torch.equal(a, states[2]["anchors"][name]) for (name, _), a in zip(diloco._named, diloco._anchors))
    each(peers, lambda _, i: train(dilocos[i], 2, i))
    assert are_equal(*(parts(diloco) for diloco in dilocos))


def test_a_state_of_another_model_or_kind_is_refused_and_changes_nothing(peers_of):
    peer = peers_of(1)[0]
    diloco = KINDS["diloco"](peer, model_of(1))
    train(diloco, 4, 1)
    before = parts(diloco)
    state = diloco.state_dict()
    state["anchors"]["0.weight"] = torch.zeros(1)
    with pytest.raises(ValueError, match="another model: 0.weight"):
        diloco.load_state_dict(state)
    assert are_equal(before, parts(diloco))


def test_a_state_of_another_kind_is_refused_in_words_and_changes_nothing(peers_of):
    peer = peers_of(1)[0]
    dilocos = {kind: make(peer, model_of(1), quantize="4bit", error_feedback=True) for kind, make in KINDS.items()}
    states = {}
    for kind, diloco in dilocos.items():
        train(diloco, 3, 1)
        states[kind] = diloco.state_dict()
    # What is under way does not belong here either.
    assert states["async"]["late"] is not None and states["streaming"]["late"] is not None
    wrong = [(kind, states[other], f"of {dilocos[other]._kind}") for kind in KINDS for other in KINDS if kind != other]
    wrong.append(("diloco", {**states["diloco"], "outer_kind": "Adam"}, "the outer optimizer of this state is Adam"))
    wrong.append(("streaming", {**states["streaming"], "error_feedback": [{}] * 4}, "of 4 parts, here are 2"))
    for part, ways in [(7, []), (0, states["streaming"]["late"]["ways"][1:])]:
        late = {"part": part, "ways": ways}
        wrong.append(("streaming", {**states["streaming"], "late": late}, "other parts of the model"))
    before = {kind: parts(diloco) for kind, diloco in dilocos.items()}
    for kind, state, words in wrong:
        with pytest.raises(ValueError, match=words):
            dilocos[kind].load_state_dict(state)
        assert are_equal(before[kind], parts(dilocos[kind]))


def test_a_checkpoint_takes_the_place_of_what_was_received_in_part(peers_of):
    peer = peers_of(1)[0]
    diloco = KINDS["diloco"](peer, model_of(1))
    train(diloco, 2, 1)
    saved = diloco.state_dict()

    def broken(state, strategy):
        state._note(["mixed"] * len(state.tensor_infos), False)
        raise pccl.PCCLError("sync_shared_state", pccl.Result.MASTER_CONNECTION_FAILED, "the master is gone")

    peer.sync_shared_state = broken
    with pytest.raises(pccl.PCCLError, match="the master is gone"):
        train(diloco, 2, 1)
    del peer.sync_shared_state
    with pytest.raises(pccl.PCCLError, match="Load a checkpoint here"):
        train(diloco, 2, 1)
    diloco.load_state_dict(saved)
    assert diloco.outer_steps == 1
    train(diloco, 2, 1)
    assert diloco.outer_steps == 2


@pytest.mark.parametrize("kind", KINDS)
def test_error_feedback_is_used_and_saved(peers_of, kind):
    peers = peers_of(2)
    dilocos = each(peers, lambda peer, i: KINDS[kind](peer, model_of(i), quantize="4bit", error_feedback=True))
    each(peers, lambda _, i: train(dilocos[i], 8, i))
    saved = each(peers, lambda _, i: dilocos[i].state_dict()["error_feedback"])
    assert len(saved[0]) == (2 if kind == "streaming" else 1)
    for own in saved:
        assert all(bool(residual.abs().max() > 0) for part in own for residual in part.values())
    # Each has its own.
    assert not torch.equal(*(list(own[0].values())[0] for own in saved))
    assert are_equal(*([*diloco._anchors] for diloco in dilocos))
    with pytest.raises(ValueError, match="nothing is quantized"):
        KINDS[kind](peers[0], model_of(1), quantize=None, error_feedback=True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_owed_is_kept_under_other_tags_and_refused_where_it_does_not_fit(peers_of, kind):
    def made(comm, model, **options):
        return KINDS[kind](comm, model, quantize="4bit", error_feedback=True, **options)

    def owed(diloco):
        return [feedback.state_dict() for feedback in diloco._feedbacks]

    peers = peers_of(2)
    dilocos = each(peers, lambda peer, i: made(peer, model_of(i)))
    each(peers, lambda _, i: train(dilocos[i], 8, i))
    saved = each(peers, lambda _, i: through_a_file(dilocos[i].state_dict()))
    for peer in peers:
        peer.destroy()
    peer = peers_of(1)[0]
    other = made(peer, model_of(1), first_tag=5)
    other.load_state_dict(saved[0])
    assert [{*part} for part in owed(other)] == [{*part} for part in saved[0]["error_feedback"]]
    assert all(torch.equal(one, saved[0]["error_feedback"][i][n]) for i, part in enumerate(owed(other)) for n, one in part.items())
    without = KINDS[kind](peer, model_of(1))
    too_long = [{number: torch.zeros(99) for number in part} for part in saved[0]["error_feedback"]]
    too_many = [{**part, "7": torch.zeros(3)} for part in saved[0]["error_feedback"]]
    for diloco, parts_owed, reason in [
        (without, saved[0]["error_feedback"], "has error feedback, and here is none"),
        (other, too_long, "in place 0 it has .99,."),
        (other, too_many, "in place 7 it has .3,. torch.float32, and here is nothing"),
    ]:
        before = parts(diloco), owed(diloco)
        with pytest.raises(ValueError, match=reason):
            diloco.load_state_dict({**saved[0], "error_feedback": parts_owed})
        assert are_equal(before[0], parts(diloco)) and str(before[1]) == str(owed(diloco))
    # Who has nothing owed in its checkpoint owes nothing.
    without.load_state_dict({**saved[0], "error_feedback": []})
    other.load_state_dict({**saved[0], "error_feedback": []})
    assert owed(other) == [{} for _ in saved[0]["error_feedback"]]


def test_outer_steps_converge_with_error_feedback_and_not_without(two):
    """Peers that always go the same way, so small beside one other element that 4 bits lose it."""

    def gone(error_feedback):
        def series(peer, i):
            model = torch.nn.Linear(64, 1, bias=False)
            torch.nn.init.zeros_(model.weight)
            diloco = recipes.DiLoCo(
                peer, model, every=1, outer_lr=1.0, outer_momentum=0.0, quantize="4bit", error_feedback=error_feedback
            )
            way = torch.full((1, 64), 0.02)
            way[0, 0], way[0, 1] = 1.0, 0.0
            for _ in range(50):
                with torch.no_grad():
                    model.weight += way
                diloco.step()
            return model.weight.detach() - 50 * way

        offs = each(two, series)
        assert torch.equal(*offs)
        return float(offs[0].abs().max())

    with_it, without = gone(True), gone(False)
    # About one step of a block, instead of fifty times what is lost of each.
    assert without > 0.9 and with_it < without / 3, (with_it, without)


def test_a_newcomer_gets_parameters_that_do_not_train_too(master):
    def frozen(seed):
        model = model_of(seed)
        model[0].requires_grad_(False)
        return model

    with pccl.Communicator(master.address) as a, pccl.Communicator(master.address) as b:
        member = recipes.DiLoCo(a, frozen(1), every=1)

        def admit():
            while a.group_world_size < 2:
                member.step()

        newcomer = together(lambda: recipes.DiLoCo(b, frozen(2), every=1), admit)[0]
        assert torch.equal(member.model[0].weight, newcomer.model[0].weight)
        assert torch.equal(member.model[1].weight, newcomer.model[1].weight)


def test_a_program_may_reduce_under_tags_of_its_own_beside_a_diloco(two):
    dilocos = each(two, lambda peer, i: recipes.AsyncDiLoCo(peer, model_of(i), every=1))
    each(two, lambda _, i: dilocos[i].step())
    # The averages are under way, or were.
    held = [torch.ones(3) for _ in two]
    handles = [peer.all_reduce_async(held[i]) for i, peer in enumerate(two)]
    assert all(handle.wait()[0] for handle in handles) and float(held[0][0]) == 2.0
    each(two, lambda _, i: dilocos[i].finish())
