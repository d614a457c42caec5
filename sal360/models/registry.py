"""From a name to a model, and from a model to a file that knows what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sal360.baselines import MeanMap
from sal360.datasets import download
from sal360.models import shipped
from sal360.models.cards import MODELS, ModelCard
from sal360.models.resnet import load_by_name
from sal360.models.weights import read_about, read_weights, write_weights
from sal360.results import sha256


def load_model(
    name: str,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    size: str | None = None,
    **settings: Any,
) -> nn.Module:
    """A model by name, in evaluation mode.

    Without weights it is a fresh network, corrected unless ``convention="upstream"`` is asked
    for. A file of weights that says how its network was made (:func:`save_weights`) decides
    that, the official weights too; settings given here go over it.

    Args:
        name: a key of :data:`MODELS`.
        weights: ``"official"`` (fetched by hash, read without executing it), ``"bundled"``
            (trained here on synthetic worlds, part of the package), a path to a ``.pth`` or
            ``.safetensors`` file (a bare state dict does not say its settings: give those that
            are not the default), or None for an untrained network.
        device: torch device.
        size: a named size of the network, ``"published"`` or ``"small"``; its card's default
            unless given. settings: of the model's constructor.
    Returns:
        A module with ``features`` and ``step``, ready for
        :func:`sal360.inference.predict_frames`. Its ``origin`` says where it came from.
    Raises:
        ValueError: unknown name, size, setting or device, weights that do not exist for it, do
            not fit or are not finite.
        sal360.datasets.download.DownloadError: official weights that cannot be fetched.
        FileNotFoundError: no file at that path.
    """
    card = _card(name)
    check_device(device)
    path = None if weights is None else _file(card, weights)
    about = read_about(path) if path is not None else None
    if weights == "official":
        settings = {**card.official_settings, **settings}
    if about is not None:
        if about["model"] != name:
            raise ValueError(f"{path}: weights of {about['model']}, wanted those of {name}")
        stored = _from_json(about["settings"])
        if "size" in stored:  # it is no setting of a network, but names some
            raise ValueError(f"{path}: settings with a size, wanted those of {name}")
        settings = {**stored, **settings}
    model = card.build(size, **settings)
    if about is not None:
        _set_input(model, about)
    if path is not None:
        _fill(model, path, name, about is not None)
    model.origin = {  # type: ignore[assignment]  # for the records of what it predicts
        "name": name,
        "weights": None if weights is None else str(weights),
        "sha256": None if path is None else sha256(path),
        "settings": _as_json(settings_of(model)),
    }
    return model.to(device).eval()


def save_weights(model: nn.Module, path: str | Path, name: str | None = None, **facts: Any) -> Path:
    """Write a model's weights to a file that :func:`load_model` needs nothing else to read.

    Args:
        model: one of :data:`MODELS`, trained or not.
        path: ends in ``.safetensors``. The file appears whole or not at all.
        name: of the model, if its class does not say it.
        facts: what should be known of how the weights came about, in JSON's types: the recipe
            and its digest, steps, data, licence, scores.
    Returns:
        the path.
    Raises:
        ValueError: a model that is none of them or not of that name, another suffix.
        TypeError: facts that JSON cannot say, named.
    """
    if name is None:
        name = name_of(model)
    elif not _is(model, _card(name)):
        raise ValueError(f"name: {name!r}, but the model is a {type(model).__name__}{_fixed(name)}")
    for key, value in facts.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{key}: {error}, wanted what JSON can say") from None
    about = {
        "model": name,
        "settings": settings_of(model),
        "convention": getattr(model, "convention", None),
        "input_size": list(model.input_size),  # type: ignore[arg-type]
        "rate": getattr(model, "rate", None),
        "forgets": getattr(model, "forgets", None),
        "record": facts,
    }
    return write_weights(path, model.state_dict(), about)


def settings_of(model: nn.Module) -> dict[str, Any]:
    """The constructor's arguments that make such a model; empty for one that takes none."""
    settings = getattr(model, "settings", {})
    return dict(settings)


def name_of(model: nn.Module) -> str:
    """The name in :data:`MODELS` under which a model like this is found.

    Raises:
        ValueError: there is none.
    """
    for name, card in MODELS.items():
        if type(model) is card.kind and _is(model, card):
            return name
    known = ", ".join(sorted({card.kind.__name__ for card in MODELS.values()}))
    raise ValueError(f"model: a {type(model).__name__}, wanted one of {known}")


def _is(model: nn.Module, card: ModelCard) -> bool:
    settings = settings_of(model)
    same = all(settings.get(key) == value for key, value in card.fixed.items())
    return isinstance(model, card.kind) and same


def _fixed(name: str) -> str:
    told = ", ".join(f"{key}={value!r}" for key, value in _card(name).fixed.items())
    return f", wanted a {_card(name).kind.__name__}" + (f" with {told}" if told else "")


def check_device(device: str | torch.device) -> None:
    """Raise a ValueError, one line, if there is no such device here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch has all three for it
        first = str(error).splitlines()[0][:100]
        raise ValueError(f"device: {str(device)!r}, not to be had here ({first})") from None


def _card(name: str) -> ModelCard:
    if name not in MODELS:
        raise ValueError(f"name: {name!r}, wanted one of {', '.join(MODELS)}")
    return MODELS[name]


def _file(card: ModelCard, weights: str | Path) -> Path:
    """Where the weights lie, downloaded if need be."""
    if not isinstance(weights, (str, Path)):
        raise TypeError(f"weights: {weights!r}, wanted 'official', 'bundled' or a file")
    named = weights in ("official", "bundled")
    if card.is_baseline and (named or not card.build().state_dict()):
        raise ValueError(f"weights: {str(weights)!r}, but {card.name} is a baseline and has none")
    if weights == "official":
        if card.official is None:
            raise ValueError(f"weights: {card.name} has no official weights")
        return download.fetch(card.official)
    if weights == "bundled":
        path = shipped.weights_path(card.name)
        if path is None:
            others = " or 'official'" if card.official else ""
            raise ValueError(
                f"weights: none of {card.name} come with this version, wanted a file{others}"
            )
        return path
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return path


def _fill(model: nn.Module, path: Path, name: str, says_settings: bool) -> None:
    tensors = read_weights(path)
    if isinstance(model, MeanMap) and "mean" in tensors and tensors["mean"].ndim == 2:
        mean = tensors["mean"]
        try:
            made = MeanMap(mean).mean
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None
        if not float(mean.max()) > 0:
            raise ValueError(f"{path}: mean: 0 everywhere, wanted a map")
        model.mean = torch.empty_like(made)  # a map of any size
        if mean.dtype != made.dtype or not torch.allclose(mean, made, 1e-5, 0):
            tensors["mean"] = made  # and of any scale; a density comes back to the bit
    try:
        load_by_name(model, tensors, f"{path}: does not fit {name}")
    except ValueError as error:
        hint = (
            "" if says_settings else "; it does not say its settings, they can be given beside it"
        )
        raise ValueError(f"{error}{hint}") from None
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{path}: {key} holds NaN or infinite values, wanted finite weights")


def _set_input(model: nn.Module, about: dict[str, Any]) -> None:
    """At what size and rate it was trained, which may not be that of its class, and how long it
    may remember."""
    size, rate, forgets = about.get("input_size"), about.get("rate"), about.get("forgets")
    pair = size if isinstance(size, list) and len(size) == 2 else []
    if pair and all(type(n) is int and n > 0 for n in pair):
        model.input_size = (pair[0], pair[1])  # type: ignore[assignment]
    if isinstance(rate, (int, float)) and rate > 0:
        model.rate = float(rate)  # type: ignore[assignment]
    if type(forgets) is int and forgets > 0:
        model.forgets = forgets  # type: ignore[assignment]


def _from_json(settings: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where constructors have tuples."""

    def plain(value: Any) -> Any:
        return tuple(map(plain, value)) if isinstance(value, list) else value

    return {key: plain(value) for key, value in settings.items()}


def _as_json(settings: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(json.dumps(settings))
    return out
