"""The part of the sphere that each pixel covers, kept."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from sal360._tables import constant
from sal360.sphere import pixel_area


@constant
@lru_cache(maxsize=16)
def shares_of_rows(H: int, W: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(H, 1)``: the share of a pixel of each row; over a map they sum to 1. To be read only."""
    area = pixel_area(H, W)[:, None]
    return (area / (area.sum() * W)).to(device, dtype)
