"""Where people look in any video: around the horizon, and ahead.

Priors do not look at the picture. What they know they learnt from other videos, and that is
most of what there is to learn: on head traces the mean map of other videos reaches three
quarters of the agreement among people (chapter 12).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from sal360._check import ArrayLike, as_float64, as_floating, finite_number, in_range
from sal360.baselines.base import Prior, normalised
from sal360.resampling import downsample_erp, sample_erp
from sal360.sphere import erp_directions, pixel_area


def equator_density(H: int, W: int, sigma_deg: float = 20.0) -> Tensor:
    """A Gaussian band around the horizon, as a density with respect to solid angle.

    Args:
        H, W: map size. sigma_deg: standard deviation in latitude, degrees. 20 is a round
            figure near the spread of head directions; chapter 12 fits it.
    Returns:
        ``(H, W)`` float32; ``sum(map * pixel_area) = 1``.
    """
    sigma = math.radians(in_range(sigma_deg, "sigma_deg", 0.0, math.inf, "degrees"))
    area = pixel_area(H, W)
    lat = (0.5 - (torch.arange(H, dtype=torch.float64) + 0.5) / H) * math.pi
    band = torch.exp(-0.5 * (lat / sigma) ** 2)
    return (band / (band @ area * W))[:, None].expand(H, W).float().contiguous()


def front_density(
    H: int, W: int, sigma_deg: float = 20.0, front_deg: float = 50.0, share: float = 0.6
) -> Tensor:
    """The band around the horizon, with a share of it gathered in front.

    Along the horizon that share falls off as a von Mises density with
    ``kappa = 1 / front_deg^2`` (in radians); the rest is spread evenly.

    Args:
        H, W: map size. sigma_deg: of the band, as in :func:`equator_density`.
        front_deg: width of the front in longitude, degrees. share: of the mass, in [0, 1].
    Returns:
        ``(H, W)`` float32; ``sum(map * pixel_area) = 1``.
    """
    front = math.radians(in_range(front_deg, "front_deg", 0.0, math.inf, "degrees"))
    share = in_range(share, "share", -1e-12, 1.0, closed=True)
    band = equator_density(H, W, sigma_deg).double()
    lon = ((torch.arange(W, dtype=torch.float64) + 0.5) / W - 0.5) * (2 * math.pi)
    ahead = torch.exp((torch.cos(lon) - 1) / front**2)
    along = share * ahead / ahead.mean() + (1 - share)
    return (band * along).float()


class Uniform(Prior):
    """The same everywhere on the sphere: what a map that knows nothing says."""

    def density(self, H: int, W: int) -> Tensor:
        return torch.full((H, W), 1 / (4 * math.pi))


class Equator(Prior):
    """:func:`equator_density` for every frame."""

    def density(self, H: int, W: int) -> Tensor:
        return equator_density(H, W)


class EquatorFront(Prior):
    """:func:`front_density` for every frame."""

    def density(self, H: int, W: int) -> Tensor:
        return front_density(H, W)


class MeanMap(Prior):
    """One map for every frame of every video: the mean truth of other videos.

    Args:
        mean: ``(H, W)`` density of any size, or None for one to be loaded: a safetensors file
            with the one entry ``mean``.
    """

    def __init__(self, mean: ArrayLike | None = None) -> None:
        super().__init__()
        self.mean: Tensor
        map_ = torch.ones(*self.input_size) if mean is None else as_float64(mean, "mean").float()
        if map_.ndim != 2 or not map_.numel() or float(map_.min()) < 0:
            raise ValueError(f"mean: shape {tuple(map_.shape)}, wanted (H, W), none below 0")
        self.register_buffer("mean", normalised(map_))

    def density(self, H: int, W: int) -> Tensor:
        if tuple(self.mean.shape) == (H, W):
            return self.mean
        whole = self.mean[None, None]
        if self.mean.shape[0] >= H and self.mean.shape[1] >= W:
            return downsample_erp(whole, H, W)[0, 0]
        seen = erp_directions(H, W).to(self.mean.device)
        return normalised(sample_erp(whole, seen))[0, 0]


def times_prior(maps: Tensor, prior: Tensor, power: float = 1.0, floor: float = 0.2) -> Tensor:
    """What a film says, times what is known without it: a product of two experts.

    ``((1 - floor) maps + floor / 4 pi) ** power * prior``, of mass 1 again. A layer that looks
    the same everywhere cannot know the horizon or the front, where people look in any film; here
    it is told. Chapter 17 measures what that is worth, and what it costs when the camera hangs
    askew. (G. Hinton, "Training products of experts by minimizing contrastive divergence", 2002.)

    Args:
        maps: ``(..., H, W)`` densities, as a network or another baseline gives them.
        prior: ``(H, W)`` density, such as :func:`front_density`.
        power: how far the film is trusted: at 0 not at all, the prior is left.
        floor: share of the map that is spread evenly first, in [0, 1]: a map of 0 somewhere rules
            nothing out.
    Returns:
        ``(..., H, W)`` in the dtype of ``maps``.
    Raises:
        ValueError: sizes that differ, a negative power, values that are negative or not finite, a
            prior of nothing, a floor outside [0, 1]. TypeError: not floating.
    """
    power, floor = finite_number(power, "power"), finite_number(floor, "floor")
    if power < 0:
        raise ValueError(f"power: {power:g}, wanted at least 0")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor: {floor:g}, wanted 0 to 1")
    maps, prior = as_floating(maps, "maps"), as_floating(prior, "prior")
    if prior.shape != maps.shape[-2:]:
        raise ValueError(f"prior: shape {tuple(prior.shape)}, wanted {tuple(maps.shape[-2:])}")
    for name, values in (("maps", maps), ("prior", prior)):
        low, high = map(float, values.detach().aminmax()) if values.numel() else (0.0, 1.0)
        if not 0 <= low <= high < math.inf:
            wanted = "wanted finite ones, none below 0"
            raise ValueError(f"{name}: values from {low:g} to {high:g}, {wanted}")
    if not high:  # the prior's
        raise ValueError("prior: 0 everywhere, wanted a density")
    told = maps.to(torch.promote_types(maps.dtype, torch.float32))
    told = (1 - floor) * normalised(told) + floor / (4 * math.pi)
    # All relative to their peaks, so that a large power neither overflows nor vanishes.
    known = _to_its_peak(prior.to(told))
    product = _to_its_peak(_to_its_peak(told) ** power * known)
    return normalised(product, normalised(known)).to(maps.dtype)


def _to_its_peak(maps: Tensor) -> Tensor:
    """Every map over its highest value; one of nothing stays as it is."""
    peak = maps.amax((-2, -1), keepdim=True)
    return maps / peak.clamp_min(torch.finfo(maps.dtype).tiny)


def mean_of_others(maps: Mapping[str, Iterable[Tensor] | Tensor]) -> dict[str, Tensor]:
    """For each video the mean map of all the others: it must not have seen its own truth.

    Each video counts once, however long it is.

    Args:
        maps: for each video its truths, ``(T, H, W)`` or ``(T, 1, H, W)`` densities, one size
            for all. Frames without truth (NaN) do not count.
    Returns:
        for each video ``(H, W)`` float64 of mass 1.
    Raises:
        ValueError: fewer than two videos, sizes that differ, a video without any truth.
    """
    means = {}
    for video, frames in maps.items():
        stack = torch.as_tensor(frames) if isinstance(frames, Tensor) else torch.stack(list(frames))
        stack = stack.double().reshape(-1, *stack.shape[-2:])
        known = stack[stack.isfinite().all(-1).all(-1)]
        if not len(known):
            raise ValueError(f"maps[{video!r}]: no frame with a truth")
        means[video] = normalised(known.mean(0))
    if len(means) < 2:
        raise ValueError(f"maps: {len(means)} video, wanted at least two")
    shapes = {tuple(m.shape) for m in means.values()}
    if len(shapes) > 1:
        raise ValueError(f"maps: sizes {sorted(shapes)}, wanted one")
    total = torch.stack(list(means.values())).sum(0)
    count = len(means) - 1
    return {video: (total - mean).clamp_min(0) / count for video, mean in means.items()}
