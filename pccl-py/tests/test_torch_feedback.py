"""Error feedback of many tensors."""

import pytest
from conftest import each

import pccl

torch = pytest.importorskip("torch")
recipes = pytest.importorskip("pccl.torch")


def test_averages_converge_with_error_feedback_and_not_without(two):
    """The mean of a series of quantized averages, beside the exact one: the loss of one is made up for in the next."""
    torch.manual_seed(3)
    values = [torch.randn(4000) for _ in two]
    exact = (values[0] + values[1]) / 2
    rounds = 64

    def mean(feedback):
        def series(peer, i):
            total, held = torch.zeros(4000), feedback and recipes.ErrorFeedback()
            for _ in range(rounds):
                tensors = [values[i].clone()]
                recipes.all_reduce_tensors(peer, tensors, quantize="4bit", error_feedback=held)
                total += tensors[0]
            return total / rounds

        results = each(two, series)
        assert torch.equal(*results)
        return float((results[0] - exact).abs().max())

    without, with_it = mean(None), mean(True)
    assert with_it < without / 10, (with_it, without)


def test_error_feedback_is_saved_and_belongs_to_its_tensors(two):
    def series(peer, i):
        feedback = recipes.ErrorFeedback()
        recipes.all_reduce_tensors(peer, [torch.linspace(0, 1 + i, 100)], quantize="u8", error_feedback=feedback)
        saved = feedback.state_dict()
        again = recipes.ErrorFeedback()
        again.load_state_dict(saved)
        both = []
        for held in (feedback, again):
            tensors = [torch.linspace(0, 1 + i, 100)]
            recipes.all_reduce_tensors(peer, tensors, quantize="u8", error_feedback=held)
            both.append(tensors[0])
        return torch.equal(*both) and bool(saved["0"].abs().max() > 0)

    assert each(two, series) == [True, True]
    with pytest.raises(ValueError, match="nothing is quantized"):
        recipes.all_reduce_tensors(two[0], [torch.zeros(3)], error_feedback=recipes.ErrorFeedback())


def test_error_feedback_of_other_tensors_is_refused_before_anything_is_sent(two):
    def tensors():
        return [torch.linspace(0, 1, 100), torch.arange(5), torch.linspace(1, 2, 100)]

    feedback = recipes.ErrorFeedback()
    options = {"quantize": "4bit", "bucket_bytes": 400}
    both = (feedback, recipes.ErrorFeedback())
    each(two, lambda peer, i: recipes.all_reduce_tensors(peer, tensors(), error_feedback=both[i], **options))
    saved = feedback.state_dict()
    # By place, the integers' bucket among them.
    assert sorted(saved) == ["0", "1"]
    for given, changes, reason in [
        ([*tensors(), torch.zeros(1)], {}, "in place 2 it has nothing that is quantized, and here is .1,. torch.float32"),
        (tensors()[:2], {}, "in place 1 it has .100,. torch.float32, and here is nothing"),
        (tensors(), {"bucket_bytes": 800}, "in place 0 it has .100,. torch.float32, and here is .200,."),
        ([one.half() for one in tensors()], {}, "and here is .*torch.float16"),
    ]:
        with pytest.raises(ValueError, match=reason):
            recipes.all_reduce_tensors(two[0], given, error_feedback=feedback, **{**options, **changes})
        with pytest.raises(ValueError, match=reason):
            quantized = {"quantize": "4bit", "bucket_bytes": 400, **changes}
            recipes._reduce.Average(two[0], given, error_feedback=feedback, **quantized)
    assert all(torch.equal(one, saved[number]) for number, one in feedback.state_dict().items())
    # Nobody else has heard of any of these. The tags are of no matter.
    each(two, lambda peer, i: recipes.all_reduce_tensors(peer, tensors(), error_feedback=both[i], first_tag=70, **options))
    assert any(not torch.equal(one, saved[number]) for number, one in feedback.state_dict().items())
