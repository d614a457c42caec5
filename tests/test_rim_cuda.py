"""A GPU's way to pad cubes against the CPU's, on the CPU."""

import pytest
import torch

from sal360.nn import cube, rim_cuda
from sal360.nn import rim as rim_of


@pytest.mark.parametrize("how", ["bags", "csr"])
@pytest.mark.parametrize("mode", ["copy", "reproject"])
@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (2, 0, 1, 9)])
def test_values_and_gradients(padding, mode, how):
    rim = cube.cube_rim(5, padding, mode, torch.device("cpu"))
    torch.manual_seed(0)
    x = torch.randn(12, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    want, got = rim_of._Pad.apply(x, rim), rim_cuda.pad(x, rim, how)
    torch.testing.assert_close(got, want)
    pull = torch.randn_like(want)
    grads = [torch.autograd.grad(out, x, pull)[0] for out in (got, want)]
    torch.testing.assert_close(*grads)
    five = x.detach().unflatten(0, (2, 6))
    assert torch.equal(rim_cuda.pad(five, rim, how).flatten(0, 1), got)


def test_gradients_of_gradients():
    rim = cube.cube_rim(3, (1, 1, 1, 1), "copy", torch.device("cpu"))
    x = torch.randn(6, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: rim_cuda.pad(x, rim, "bags"), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: rim_cuda.pad(x, rim, "bags"), x, fast_mode=True)


def test_half_precision_and_layout():
    rim = cube.cube_rim(6, (1, 1, 1, 1), "copy", torch.device("cpu"))
    x = torch.rand(6, 4, 6, 6).bfloat16().to(memory_format=torch.channels_last)
    torch.testing.assert_close(rim_cuda.pad(x, rim, "bags"), rim_of._Pad.apply(x, rim))
