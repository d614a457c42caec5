"""A network that died is told of while it runs and in its record; an overflow is no death."""

import json
import warnings

import pytest

from sal360.training import load_recipe, train
from sal360.training.fit import Step
from sal360.training.kills import Embedded
from sal360.training.still import MANY, Still


def watched(gradients, losses=None, overflowed=(), many=3):
    watch = Still(many)
    losses = range(len(gradients)) if losses is None else losses
    told = [
        line
        for k, (gradient, loss) in enumerate(zip(gradients, losses, strict=True))
        for line in watch.add(Step(k, float(loss), 0.1, float(gradient), k in overflowed))
    ]
    return watch, told


@pytest.mark.parametrize(
    ("gradients", "stretches"),
    [
        ([1, 1, 1, 1], []),
        ([0, 0, 1, 0, 0], []),
        ([1, 0, 0, 0, 0], ["1 to 4"]),
        ([0, 0, 0, 1, 0, 0, 0], ["0 to 2", "4 to 6"]),
        ([1e-30, 1e-30, 1e-30], []),
    ],
)
def test_only_zeros_on_end_are_noted(gradients, stretches):
    watch, told = watched(gradients)
    notes = watch.notes()
    assert len(told) == len(notes) == len(stretches)
    for note, stretch in zip(notes, stretches, strict=True):
        assert note.startswith(f"steps {stretch}: the gradient was exactly 0: nothing was learned")


def test_an_overflow_is_no_zero():
    """It says nothing of the network, neither that it died nor that it lives."""
    assert watched([0] * 9, overflowed=range(9), losses=[1] * 9)[0].notes() == []
    notes = watched([1, 0, 0, 0, 0], overflowed=[2])[0].notes()
    assert [note.split(":")[0] for note in notes] == ["steps 1 to 4"]
    assert watched([0, 0, 0, 1], overflowed=[1])[0].notes() == []


@pytest.mark.parametrize(
    ("losses", "noted"),
    [([2, 2, 2, 2], True), ([2, 2, 3, 2], False), ([2, 2], False), ([3, 2, 2, 2, 2], False)],
)
def test_a_loss_that_never_changes_is_noted(losses, noted):
    watch, said = watched([1] * len(losses), losses)
    told = f"the loss was 2 in all {len(losses)} steps: it never changed"
    assert watch.notes() == ([told] if noted else [])
    assert said == (["the loss was 2 in all 3 steps: it never changed"] if noted else [])


def test_it_goes_on_where_it_was():
    gradients, losses = [1, 0, 0, 0, 0, 1, 0, 0, 0], [2] * 9
    whole, _ = watched(gradients, losses)
    for cut in range(9):
        half, _ = watched(gradients[:cut], losses[:cut])
        rest = Still(3)
        rest.load_state_dict(json.loads(json.dumps(half.state_dict())))
        for k in range(cut, 9):
            rest.add(Step(k, 2.0, 0.1, float(gradients[k])))
        assert rest.notes() == whole.notes() and rest.state_dict() == whole.state_dict()


DEAD = {"size": [16, 32], "steps": MANY + 4, "model": {"hidden": 2}, "clip_length": 2, "tbptt": 2,
        "optimizer": "sgd", "lr": 1e30}  # fmt: skip
NOTE = f"steps 1 to {MANY + 3}: the gradient was exactly 0: nothing was learned; the network may " \
       "have died"  # fmt: skip


def test_a_network_that_one_step_killed_is_told_once_and_noted(tmp_path):
    recipe, films = load_recipe("sst-sal-noflow", "fast", DEAD), Embedded(2)
    with pytest.warns(UserWarning, match=f"steps 1 to {MANY}: the gradient was exactly 0") as told:
        record = train(recipe, films, None, tmp_path / "whole", device="cpu")
    assert len(told) == 1
    assert record["status"] == "done" and record["notes"] == [NOTE]
    done = iter([False] * 4 + [True])
    part = train(recipe, films, None, tmp_path / "two", device="cpu", stop=lambda: next(done))
    assert part["steps"] == 5 and "notes" not in part
    with pytest.warns(UserWarning, match="the gradient was exactly 0"):
        assert train(recipe, films, None, tmp_path / "two", device="cpu", resume=True)["notes"] == [
            NOTE
        ]


def test_a_network_that_learns_is_not_told_of(tmp_path):
    recipe = load_recipe("sst-sal-noflow", "fast", DEAD | {"lr": 1e-3})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        record = train(recipe, Embedded(2), None, tmp_path / "run", device="cpu")
    assert record["status"] == "done" and "notes" not in record
