"""What networks do on a GPU, done on the CPU: every tensor says that it lies on one.

All branches for a GPU are taken then, on torch's own operations, because Triton finds no card.
What this cannot see, tensors that stay behind on the CPU, ``benchmarks/gpu_smoke.py`` does.
"""

import pytest
import torch

from benchmarks.gpu_smoke import Case, built, gradients, inputs, step
from sal360.models import SSTSal
from sal360.training import INPUTS


@pytest.mark.parametrize("name", INPUTS)
def test_the_same_gradients(name, monkeypatch):
    case = Case(name, "small", 64 if name == "spherical-unet" else 32, "fp32")
    found = []
    for there in (False, True):
        if there:
            monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
        model = built(case)
        loss = step(model, *inputs(model, case, 1, 2), "fp32")
        found.append((loss, gradients(model)))
    (exact, theirs), (loss, ours) = found
    assert loss == pytest.approx(exact, rel=1e-5)
    assert (ours - theirs).norm() < 2e-5 * theirs.norm()


def test_autocast_reaches_the_answer(monkeypatch):
    """Gates are made in half precision, memories stay in float32, gradients are finite."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    case = Case("sst-sal-noflow", "small", 16, "bf16")
    model = built(case)
    step(model, *inputs(model, case, 1, 2), "bf16")
    assert gradients(model).isfinite().all()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("convention", ["corrected", "upstream"])
def test_flow_is_drawn_where_it_is(convention, monkeypatch):
    torch.manual_seed(0)
    model = SSTSal(6, 2, convention)
    images, flow = torch.rand(2, 3, 3, 16, 32), 3 * torch.randn(2, 3, 2, 16, 32)
    there = model.inputs(images, flow)
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    ours = model.inputs(images, flow)
    steps = 255 * (ours - there).abs()
    assert steps.max() < 1.01 and (steps > 0.5).float().mean() < 1e-3
