"""A reader's gradient in a fixed order, against torch's own, on the CPU."""

import pytest
import torch

from sal360 import projections, resampling_cuda
from sal360.sphere import erp_directions

READERS = {
    "to the cube": (projections._cube_reader, (7, 15, 4)),
    "from the cube": (projections._erp_from_cube_reader, (4, 8, 16)),
}


@pytest.mark.parametrize("name", READERS)
def test_gradient(name):
    make, size = READERS[name]
    reader = make(*size, torch.float64, torch.device("cpu"))
    torch.manual_seed(0)
    shape = (7, 15) if name == "to the cube" else (24, 4)
    x = torch.randn(2, 3, *shape, dtype=torch.float64, requires_grad=True)
    want, got = reader(x), resampling_cuda.read(x, reader)
    assert torch.equal(got, want)
    pull = torch.randn_like(want)
    grads = [torch.autograd.grad(out, x, pull)[0] for out in (got, want)]
    torch.testing.assert_close(*grads)


def test_any_directions_twice():
    from sal360.resampling import erp_reader

    torch.manual_seed(0)
    reader = erp_reader(torch.randn(5, 9, 3, dtype=torch.float64), 6, 9, torch.float64)
    x = torch.randn(1, 1, 6, 9, dtype=torch.float64, requires_grad=True)
    read = lambda x: resampling_cuda.read(x, reader)  # noqa: E731
    assert torch.autograd.gradcheck(read, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(read, x, fast_mode=True)
    there = erp_reader(erp_directions(3, 5), 6, 9, torch.float64)
    assert resampling_cuda.spread_of(there, (6, 9)) is resampling_cuda.spread_of(there, (6, 9))
