"""RAFT (Teed and Deng, 2020), if torchvision is here: sal360 neither needs nor brings it.

Only what surrounds the network is tested here: sizes, numbers in and out, views and their
fusion, with a stand-in for torchvision. No figure in this book was measured with RAFT itself.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sal360.flow.planar import FlatMethod, Picture

_LEAST = 128  # its coarsest correlations have no neighbours below
_STRIDE = 8


@lru_cache(maxsize=1)
def default_method() -> FlatMethod:
    """RAFT with default weights, loaded once."""
    return raft_method()


def raft_method(
    weights: str | Path | None = None, size: str = "large", device: str | torch.device = "cpu"
) -> FlatMethod:
    """A method for :func:`sal360.flow.sphere_flow` and :func:`sal360.flow.planar_flow`.

    Args:
        weights: file with a state dict, read as data only; None for torchvision's default
            weights, which it downloads once under their own licence.
        size: ``"large"`` or ``"small"``. device: where to compute.
    Returns:
        A :class:`~sal360.flow.FlatMethod` on colour.
    Raises:
        ImportError: torchvision is not installed, or does not fit this torch.
        ValueError: an unknown size. OSError: weights that are not there.
    """
    if size not in ("large", "small"):
        raise ValueError(f"size: {size!r}, wanted 'large' or 'small'")
    try:
        zoo: Any = importlib.import_module("torchvision.models.optical_flow")
    except (ImportError, RuntimeError) as problem:  # a torchvision of another torch fails late
        raise ImportError(
            f"method 'raft' needs torchvision ({problem}); use 'dis', or install torchvision "
            "in the version that fits your torch"
        ) from problem
    if weights is None:
        chosen = getattr(zoo, f"Raft_{size.capitalize()}_Weights").DEFAULT
        name = f"{chosen}"
    else:
        from sal360.datasets.store import content_hash
        from sal360.safe_pickle import read_torch_tensors

        chosen, name = None, content_hash(Path(weights))
    network = getattr(zoo, f"raft_{size}")(weights=chosen, progress=False)
    if weights is not None:
        network.load_state_dict(read_torch_tensors(weights))
    network = network.to(device).eval()

    @torch.inference_mode()
    def estimate(first: Picture, second: Picture) -> NDArray[np.float32]:
        h, w = first.shape[:2]
        tall, wide = (max(_LEAST, -(-n // _STRIDE) * _STRIDE) for n in (h, w))
        pair = [np.pad(f, ((0, tall - h), (0, wide - w), (0, 0)), "edge") for f in (first, second)]
        given = torch.from_numpy(np.stack(pair)).to(device).permute(0, 3, 1, 2)
        given = given.float() / 127.5 - 1
        flow = network(given[:1], given[1:])[-1][0, :, :h, :w]
        return flow.permute(1, 2, 0).float().cpu().numpy()

    return FlatMethod(f"raft-{size} {name}", estimate, colour=True)
