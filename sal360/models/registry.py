"""Which models there are, what each is, and where its weights come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sal360 import baselines, upstream
from sal360.datasets import download
from sal360.models.sst_sal import SSTSal
from sal360.results import sha256


@dataclass(frozen=True)
class ModelCard:
    """What one should know before using a model."""

    name: str
    summary: str
    build: Callable[[], nn.Module]
    official: str | None = None
    """Name of the official weights in the download registry, if there are any."""
    licence: str = ""
    limits: str = ""


_SST_LIMITS = (
    "Its sampler reads half a pixel up and left and sees zeros at the top and left edges, so a "
    "faint line can show at +-180 degrees. Trained with a loss whose minimiser is sin(theta) "
    "times the truth: too little at the poles."
)

MODELS: dict[str, ModelCard] = {
    card.name: card
    for card in (
        ModelCard(
            "sst-sal",
            "spherical ConvLSTM on colour and optical flow (Bernal-Berdun et al., 2022)",
            lambda: SSTSal(in_channels=6, hidden=36, convention="upstream"),
            official="weights/SST_Sal.pth",
            licence="weights: none stated upstream; downloaded from there, never redistributed",
            limits=_SST_LIMITS + " Trained on RAFT flow, fed with DIS flow here.",
        ),
        ModelCard(
            "sst-sal-noflow",
            "the same on colour alone, smaller and faster",
            lambda: SSTSal(in_channels=3, hidden=9, convention="upstream"),
            official="weights/SST_Sal_wo_OF.pth",
            licence="weights: none stated upstream; downloaded from there, never redistributed",
            limits=_SST_LIMITS,
        ),
        ModelCard(
            "uniform",
            "baseline: the same everywhere on the sphere",
            baselines.Uniform,
            limits="Knows nothing; what every score is worth without any knowledge.",
        ),
        ModelCard(
            "equator",
            "baseline: the same band around the horizon for every frame",
            baselines.Equator,
            limits="Never looks at the video. A model must beat it.",
        ),
        ModelCard(
            "equator-front",
            "baseline: the band around the horizon, denser in front",
            baselines.EquatorFront,
            limits="Never looks at the video, and trusts that viewers start out facing its middle.",
        ),
        ModelCard(
            "mean-map",
            "baseline: one map for all, the mean truth of other videos (give it by --weights)",
            baselines.MeanMap,
            limits="Never looks at the video. Uniform until a map is given.",
        ),
        ModelCard(
            "contrast",
            "baseline: boolean maps, regions that stand out in a still picture, plus the equator",
            baselines.BooleanMaps,
            limits="Blind to motion and meaning; a patterned ground is full of figures.",
        ),
        ModelCard(
            "motion",
            "baseline: where the picture changes, smoothed on the sphere, plus the equator",
            baselines.Motion,
            limits="Blind to still things; a moving camera moves everything.",
        ),
        ModelCard(
            "centre-of-motion",
            "baseline: one blob at the mean direction of all change, plus the equator",
            baselines.CentreOfMotion,
            limits="Between two moving things it looks where neither is.",
        ),
    )
}


def load_model(
    name: str, weights: str | Path | None = None, device: str | torch.device = "cpu"
) -> nn.Module:
    """A model by name, in evaluation mode.

    Args:
        name: a key of :data:`MODELS`.
        weights: ``"official"`` (fetched by hash, read without executing it), a path to a
            ``.pth`` or ``.safetensors`` file, or None for an untrained network.
        device: torch device.
    Returns:
        A module with ``forward(clip (B, T, C, H, W)) -> (B, T, 1, H, W)`` and ``features``,
        ready for :func:`sal360.inference.predict_frames`.
    Raises:
        ValueError: unknown name, weights that do not exist for it or do not fit.
        sal360.datasets.download.DownloadError: official weights that cannot be fetched.
        FileNotFoundError: no file at that path.
    """
    if name not in MODELS:
        raise ValueError(f"name: {name!r}, wanted one of {', '.join(MODELS)}")
    card = MODELS[name]
    model = card.build()
    origin = {"name": name, "weights": None, "sha256": None}
    if weights is not None:
        if not model.state_dict():
            raise ValueError(f"weights: {str(weights)!r}, but {name} is a baseline and has none")
        if weights == "official" and card.official is None:
            raise ValueError(f"weights: {name} has no official weights")
        path = download.fetch(card.official) if weights == "official" else Path(weights)  # type: ignore[arg-type]
        try:
            model.load_state_dict(read_weights(path))
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines()[1:]]
            raise ValueError(f"{path}: does not fit {name} ({' '.join(lines[:1])})") from None
        origin.update(weights=str(weights), sha256=sha256(path))
    model.origin = origin  # type: ignore[assignment]  # for the records of what it predicts
    return model.to(device).eval()


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """State dict of a ``.safetensors`` or an official ``.pth`` file; no code in it is run."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file ({error})") from None
    return upstream.load_sst_sal(path)
