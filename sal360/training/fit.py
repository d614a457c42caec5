"""The training loop: batches in, one step of the optimiser for each, and a report of it out.

Read it from the bottom: :func:`fit` is the loop, :func:`backward` is what a batch does to the
gradients, and the two kinds of network differ in nothing but that. A **frame model** answers all
frames of a batch at once; the map of the frame before is the truth's (teacher forcing) or the
network's own, from a rollout of the film as prediction will do it, and it is a picture like any
other: no gradient goes back through it. A **clip model** answers frame after frame and
remembers; its gradient goes back through ``tbptt`` frames, then the memory is detached
(truncated backpropagation through time). Derived in chapter 16; chapter 13 shows what teacher
forcing hides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sal360.datasets.batch import Batch
from sal360.models.base import FrameModel, truncated
from sal360.models.cp360 import CP360
from sal360.models.cp360_weak import WeakLosses, weak_losses
from sal360.training.inputs import clip_inputs
from sal360.training.objectives import map_loss
from sal360.training.recipe import Recipe


@dataclass(frozen=True)
class Step:
    """What one step did: its number from 0, its loss, the rate it went with, and the norm of its
    gradient before it was clipped."""

    index: int
    loss: float
    lr: float
    gradient: float


def build_model(recipe: Recipe) -> nn.Module:
    """An untrained network with the recipe's settings; the recipe's seed draws its weights.

    Raises:
        ValueError: settings that its constructor does not take.
    """
    from sal360.models import MODELS

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            model = MODELS[recipe.system].build(**recipe.model)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{recipe.name}: model: {error}") from None
    model.input_size = recipe.size  # type: ignore[assignment]
    return model


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or Adam, over what is not frozen."""
    free = [p for p in model.parameters() if p.requires_grad]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(free, recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(free, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)


def rate_at(step: int, recipe: Recipe) -> float:
    """The learning rate of a step."""
    if recipe.schedule == "constant":
        return recipe.lr
    done = step / recipe.steps
    return recipe.lr * min(20 * (step + 1) / recipe.steps, 0.5 + 0.5 * math.cos(math.pi * done))


def forcing_at(step: int, recipe: Recipe) -> float:
    """How likely a step is to be given the truth of the frame before."""
    first, last = recipe.teacher_forcing
    return first + (last - first) * step / max(1, recipe.steps - 1)


def previous_maps(model: FrameModel, clip: Tensor, truth: Tensor | None) -> Tensor:
    """The fourth channel of every frame, ``(B, T, 1, H, W)``; no gradient goes through it.

    Args:
        clip: ``(B, T, 3, H, W)``.
        truth: ``(B, T, 1, H, W)`` of the same frames, for teacher forcing (a frame without a
            truth counts as uniform); None: the network's own maps, closed loop, in evaluation
            mode.
    """
    with torch.no_grad():
        if truth is None:
            training = model.training
            model.eval()
            maps = model.rollout(clip)
            model.train(training)
        else:
            maps = torch.where(truth.isfinite(), truth, torch.zeros_like(truth))
        fed = model.feedback(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
        return torch.cat((model.first(clip[:, 0])[:, None], fed[:, :-1]), 1)


def backward(
    model: nn.Module, clip: Tensor, known: dict[str, Tensor], recipe: Recipe, forced: bool
) -> float:
    """Add the gradients of one batch; returns its loss.

    Args:
        clip: ``(B, T, C, H, W)`` inputs. known: ``truth`` and ``flow`` of the same frames, where
            there are any; the last flow of a clip leads to the frame behind it and is not used.
        forced: give a frame model the truth of the frame before.
    Raises:
        ValueError: what the loss needs is not there.
    """
    reading = getattr(model, "reading", "minmax")
    if recipe.loss == "weak":
        loss = weak_loss(model, clip, known, recipe).total
        loss.backward()
        return float(loss.detach())
    truth = _needed(known, "truth", recipe)
    if isinstance(model, FrameModel):
        if model.extra == "previous":
            clip = torch.cat((clip, previous_maps(model, clip, truth if forced else None)), 2)
        frames = clip.flatten(0, 1)
        raw = model(frames[:, :3], frames[:, 3:]).unflatten(0, clip.shape[:2])
        loss = map_loss(raw, truth, recipe, reading)
        loss.backward()
        return float(loss.detach())
    total, told = 0.0, truth.flatten(2).isfinite().all(-1)
    for now, maps in truncated(model, clip, recipe.tbptt):
        share = float(told[:, now].sum() / told.sum().clamp_min(1))
        if share == 0 and bool(told.any()):
            continue  # a stretch without truth: the memory goes on, nothing is learned
        loss = map_loss(maps, truth[:, now], recipe, reading) * share
        loss.backward()
        total += float(loss.detach())
    return total


def weak_loss(
    model: nn.Module, clip: Tensor, known: dict[str, Tensor], recipe: Recipe
) -> WeakLosses:
    """CP-360's losses between frames. Only its memory learns, so its backbone stands still."""
    if not isinstance(model, CP360):
        raise TypeError(f"model: {type(model).__name__}, wanted CP360 for the loss weak")
    model.backbone.eval()
    flow = _needed(known, "flow", recipe)
    return weak_losses(model, clip, flow[:, :-1], anchor=recipe.anchor)


def _needed(known: dict[str, Tensor], what: str, recipe: Recipe) -> Tensor:
    if what not in known:
        raise ValueError(f"batch: no {what}, wanted by the loss {recipe.loss}")
    return known[what]


def fit(model: nn.Module, batches: Iterable[Batch], recipe: Recipe) -> Iterator[Step]:
    """Train; a step for each batch, as many as the recipe says.

    Nothing happens until its reports are asked for: ``for step in fit(...): ...``. The same
    recipe, batches and weights give the same numbers, on one machine and number of threads.
    Between two steps the model may be evaluated: each begins by putting it in training mode.

    Args:
        model: see :func:`build_model`; it is trained in place, where its weights are.
        batches: :class:`~sal360.datasets.batch.Batch`, as many as steps, or more. One pass over
            :func:`~sal360.datasets.loader.clip_loader` is one epoch; for more,
            ``itertools.chain.from_iterable(itertools.repeat(loader))``.
    Yields:
        a :class:`Step` after each.
    Raises:
        ValueError: too few batches, batches without what the loss needs, maps of NaN.
        TypeError: batches that are something else.
        FloatingPointError: a loss or a gradient that is not finite; the weights are those before.
    """
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, recipe)
    toss = torch.Generator().manual_seed(recipe.seed)
    source = iter(batches)
    for index in range(recipe.steps):
        batch = next(source, None)
        if batch is None:
            raise ValueError(f"batches: ended after {index}, wanted {recipe.steps}")
        if not isinstance(batch, Batch):
            found = type(batch).__name__
            raise TypeError(f"batches: a {found}, wanted Batch, as clip_loader makes them")
        model.train()
        batch = batch.to(device)
        known = {"truth": batch.truth, "flow": batch.flow}
        forced = float(torch.rand((), generator=toss)) < forcing_at(index, recipe)
        lr = rate_at(index, recipe)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad(set_to_none=True)
        given = {name: value for name, value in known.items() if value is not None}
        loss = backward(model, clip_inputs(model, batch), given, recipe, forced)
        limit = recipe.gradient_clip or math.inf
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), limit))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(f"step {index}: a loss of {loss:g}, a gradient of {norm:g}")
        optimizer.step()
        yield Step(index, loss, lr, norm)
