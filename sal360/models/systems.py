"""The systems beside each other: what each keeps of the sphere, measured on fresh networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from sal360.models.base import CONVENTIONS, Convention
from sal360.models.cards import MODELS, NETWORKS
from sal360.models.checks import settle, yaw_error


class YawErrors(NamedTuple):
    """Of one network, see :func:`sal360.models.yaw_error`.

    Attributes:
        name, convention: which. quarter: after a quarter turn, which strides, pooling and the
            faces of a cube all allow. odd: after a turn by seven columns, which divides nothing.
    """

    name: str
    convention: Convention
    quarter: float
    odd: float


def yaw_errors(
    names: Sequence[str] = NETWORKS,
    size: tuple[int, int] = (64, 128),
    seed: int = 0,
    settings: dict[str, dict[str, Any]] | None = None,
) -> list[YawErrors]:
    """What turning the panorama costs each network, in both conventions.

    Fresh weights of the small size, the same in both conventions; batch norms know the data
    (:func:`sal360.models.checks.settle`). A trained network may have learned to turn better or
    worse than its design.

    Args:
        names: of networks. size: ``(H, W)``; the published crown needs 64 rows.
        seed: of weights and noise. settings: by name, of constructors, over those of the size.
    Raises:
        ValueError: a name of no network.
    """
    found = []
    for name in names:
        if name not in NETWORKS:
            raise ValueError(f"names: {name!r}, wanted some of {', '.join(NETWORKS)}")
        weights = None
        for convention in CONVENTIONS:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                chosen = {"convention": convention, **(settings or {}).get(name, {})}
                model = MODELS[name].build("small", **chosen)
            if weights is None:
                weights = model.state_dict()
            else:
                model.load_state_dict(weights)
            settle(model.eval(), size, seed)
            quarter, odd = (yaw_error(model, size, shift, seed=seed) for shift in (None, 7))
            found.append(YawErrors(name, convention, quarter, odd))
    return found
