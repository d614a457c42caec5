"""The two ways to double a picture with a rim."""

import torch

from sal360.nn.doubling import doubled_by_sums, doubled_inside


def test_they_agree():
    x = torch.randn(2, 3, 6, 9, dtype=torch.float64)
    torch.testing.assert_close(doubled_by_sums(x), doubled_inside(x))
    assert doubled_by_sums(x).shape == (2, 3, 8, 14)
