"""What networks do on a GPU, done on the CPU: every tensor says that it lies on one.

All branches for a GPU are taken then, on torch's own operations, because Triton finds no card.
What this cannot see, tensors that stay behind on the CPU, ``benchmarks/gpu_smoke.py`` does.
"""

import pytest
import torch

from benchmarks.gpu_smoke import Case, built, gradients, inputs, step
from sal360 import resampling_cuda
from sal360.models import SSTSal, sst_sal
from sal360.models.base import run
from sal360.nn import rim_cuda, sampled_cuda
from sal360.training import INPUTS

BRANCHES = (
    (sampled_cuda, "convolve"),
    (rim_cuda, "pad"),
    (resampling_cuda, "read"),
    (sst_sal, "flows_to_color"),
)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Call it to have every tensor say so; gives a list that grows by the answers of branches."""
    taken = []

    def watched(branch):
        def call(*arguments, **named):
            taken.append(branch(*arguments, **named))
            return taken[-1]

        return call

    def begin():
        for module, name in BRANCHES:
            monkeypatch.setattr(module, name, watched(getattr(module, name)))
        monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
        return taken

    return begin


@pytest.mark.parametrize("name", INPUTS)
def test_the_same_gradients(name, as_on_a_gpu):
    case = Case(name, "small", 64 if name == "spherical-unet" else 32, "fp32")
    found, taken = [], []
    for there in (False, True):
        if there:
            taken = as_on_a_gpu()
        model = built(case)
        loss = step(model, *inputs(model, case, 1, 2), "fp32")
        found.append((loss, gradients(model)))
    assert taken
    (exact, theirs), (loss, ours) = found
    assert loss == pytest.approx(exact, rel=1e-5)
    assert (ours - theirs).norm() < 2e-5 * theirs.norm()


def test_autocast_reaches_the_answer(as_on_a_gpu):
    """Gates are made in half precision, memories stay in float32, gradients are finite."""
    taken = as_on_a_gpu()
    case = Case("sst-sal-noflow", "small", 16, "bf16")
    model = built(case)
    clip, truth = inputs(model, case, 1, 2)
    step(model, clip, truth, "bf16")
    assert gradients(model).isfinite().all()
    assert {gates.dtype for gates in taken} == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        _, state = run(model, clip)
    assert {memory.dtype for cell in state for memory in cell} == {torch.float32}


@pytest.mark.parametrize("convention", ["corrected", "upstream"])
def test_flow_is_drawn_where_it_is(convention, as_on_a_gpu):
    torch.manual_seed(0)
    model = SSTSal(6, 2, convention)
    images, flow = torch.rand(2, 3, 3, 16, 32), 3 * torch.randn(2, 3, 2, 16, 32)
    there = model.inputs(images, flow)
    taken = as_on_a_gpu()
    ours = model.inputs(images, flow)
    assert len(taken) == 1
    steps = 255 * (ours - there).abs()
    assert steps.max() < 1.01 and (steps > 0.5).float().mean() < 1e-3
