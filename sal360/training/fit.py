"""The training loop: batches in, one step of the optimiser for each, and a report of it out.

Read it from the bottom: :func:`fit` is the loop, :func:`gradients` what a step asks of its batches,
:func:`backward` what one batch does to the gradients, and the two kinds of network differ in
nothing but that. A **frame model** answers all frames of a batch at once; the map of the frame
before is the truth's (teacher forcing) or the network's own, from a rollout of the film as
prediction will do it, and it is a picture like any other: no gradient goes back through it. A
**clip model** answers frame after frame and remembers; its gradient goes back through ``tbptt``
frames, then the memory is detached (truncated backpropagation through time). Derived in chapter
16; chapter 13 shows what teacher forcing hides. What a step changes is
:class:`~sal360.training.state.TrainingState`.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sal360.datasets.batch import Batch
from sal360.losses._maps import NotFinite
from sal360.models.base import FrameModel, truncated
from sal360.models.cp360 import CP360
from sal360.models.cp360_weak import WeakLosses, weak_losses
from sal360.resampling import computing_dtype
from sal360.training.distributed import ALONE, World
from sal360.training.inputs import clip_inputs
from sal360.training.objectives import map_loss
from sal360.training.precision import compiled, each_in, lower_precision
from sal360.training.recipe import INPUTS, Recipe
from sal360.training.state import TrainingState, tosses


@dataclass(frozen=True)
class Step:
    """What one step did: its number from 0, its loss, the rate it went with, and the norm of its
    gradient before it was clipped (0 also where a scaled loss ``overflowed``, and the step was left
    out)."""

    index: int
    loss: float
    lr: float
    gradient: float
    overflowed: bool = False


def build_model(recipe: Recipe) -> nn.Module:
    """An untrained network with the recipe's settings; the recipe's seed draws its weights.

    Raises:
        ValueError: settings that its constructor does not take; an input size beside the recipe's.
    """
    from sal360.models import MODELS

    if "input_size" in recipe.model:
        told = recipe.model["input_size"]
        raise ValueError(f"{recipe.name}: model: input_size: {told!r}, wanted size, the recipe's")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            model = MODELS[recipe.system].build(**recipe.model)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{recipe.name}: model: {error}") from None
    model.input_size = recipe.size  # type: ignore[assignment]
    return model


def rate_at(step: int, recipe: Recipe) -> float:
    """The learning rate of a step."""
    if recipe.schedule == "constant":
        return recipe.lr
    up = (step + 1) * (1 / recipe.warmup) / recipe.steps if recipe.warmup else 1.0
    return recipe.lr * min(up, 0.5 + 0.5 * math.cos(math.pi * (step / recipe.steps)))


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
    model: nn.Module,
    clip: Tensor,
    known: dict[str, Tensor],
    recipe: Recipe,
    forced: bool,
    weight: float = 1.0,
) -> float:
    """Add the gradients of one batch; returns its loss.

    Args:
        clip: ``(B, T, C, H, W)`` inputs. known: ``truth`` and ``flow`` of the same frames, where
            there are any; the last flow of a clip leads to the frame behind it and is not used.
        forced: give a frame model the truth of the frame before.
        weight: what the gradients are multiplied by, and the returned loss is not. With 0, no
            truth is asked for: other processes have all of it.
    Raises:
        ValueError: what the loss needs is not there.
    """
    reading = getattr(model, "reading", "minmax")
    if recipe.loss == "weak":
        loss = weak_loss(model, clip, known, recipe).total
        (loss * weight).backward()
        return float(loss.detach())
    truth, low = _needed(known, "truth", recipe), lower_precision(recipe, clip.device)
    if isinstance(model, FrameModel):
        with low:
            if model.extra == "previous":
                clip = torch.cat((clip, previous_maps(model, clip, truth if forced else None)), 2)
            frames = clip.flatten(0, 1)
            raw = model(frames[:, :3], frames[:, 3:]).unflatten(0, clip.shape[:2])
        loss = map_loss(full(raw), truth, recipe, reading) if weight else nothing(raw)
        (loss * weight).backward()
        return float(loss.detach())
    told = truth.flatten(2).isfinite().all(-1).cpu()  # once: each stretch asks
    total = 0.0
    stretches = truncated(model, clip, recipe.tbptt)
    for now, maps in each_in(low, stretches):
        share = int(told[:, now].sum()) / max(1, int(told.sum()))
        if share == 0 and (bool(told.any()) or not weight):
            loss = nothing(maps)  # a stretch without truth: the memory goes on
        else:
            loss = map_loss(full(maps), truth[:, now], recipe, reading) * share
        (loss * weight).backward()
        total += float(loss.detach())
    return total


def nothing(raw: Tensor) -> Tensor:
    """A loss of 0 that goes back all the same: processes exchange batch statistics on the way."""
    return (0 * full(raw)).sum()


def full(raw: Tensor) -> Tensor:
    """Maps in a precision that a loss can be taken in."""
    return raw.to(computing_dtype(raw))


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


def take(source: Iterator[Batch], index: int, recipe: Recipe) -> Batch:
    """The next batch, or what is wrong with it."""
    batch = next(source, None)
    if batch is None:
        raise ValueError(f"batches: ended after {index}, wanted {recipe.steps}")
    if not isinstance(batch, Batch):
        raise TypeError(
            f"batches: a {type(batch).__name__}, wanted Batch, as clip_loader makes them"
        )
    return batch


def clip_names(seen: list[tuple[tuple[str, ...], Tensor]]) -> str:
    """Video and first frame of each clip, of names and frame numbers ``(B, T)`` of batches."""
    names = [
        f"{video} from frame {int(frames[0])}"
        for videos, indices in seen
        for video, frames in zip(videos, indices, strict=True)
    ]
    return f"from {', '.join(names)}"


def share_of(batch: Batch, recipe: Recipe, world: World) -> float:
    """What part of a batch that several processes share this one has: of the frames with a truth,
    over which a loss is the mean, or of the clips, where there is none."""
    if world.size == 1:
        return 1.0
    mine = torch.tensor(float(len(batch)), dtype=torch.float64)
    if recipe.loss != "weak" and batch.truth is not None:
        mine = batch.truth.flatten(2).isfinite().all(-1).sum().double()
    total = float(world.sum(mine))
    return float(mine) / total if total else 1.0  # of nothing: the loss will say so


def summed(model: nn.Module, recipe: Recipe) -> bool:
    """Whether a loss is a sum over clips, as CP-360's published ones are, and not a mean: what
    parts of a batch give is then added whole."""
    return recipe.loss == "weak" and getattr(model, "convention", "") == "upstream"


def check_model(model: nn.Module, recipe: Recipe, state: TrainingState) -> None:
    """See that model, recipe and state belong together; networks of one's own are let through."""
    from sal360.models.registry import name_of

    if state.model is not model:
        raise ValueError("state: of another model, wanted one made for this one")
    try:
        found = name_of(model)
    except ValueError:  # none of the package's; its way of being called must do
        extra = getattr(model, "extra", "motion") if isinstance(model, FrameModel) else "clip"
        if extra != INPUTS[recipe.system]:
            raise ValueError(
                f"model: a {type(model).__name__} is given {extra!r}, wanted "
                f"{INPUTS[recipe.system]!r}, as the recipe of {recipe.system} gives it"
            ) from None
        return
    if found != recipe.system:
        raise ValueError(f"model: {found}, wanted {recipe.system}, the recipe's system")


def gradients(
    state: TrainingState, source: Iterator[Batch], forced: bool, world: World
) -> tuple[float, float | None]:
    """Give the weights their gradients, those of ``accumulate`` batches on all processes.

    Returns:
        the loss, and the norm of its gradient, which is cut to the recipe's length after that;
        None: the scaled loss overflowed, and the scaler will leave the step out.
    """
    model, recipe, scale = state.model, state.recipe, state.scaler.get_scale()
    device = next(model.parameters()).device
    state.optimizer.zero_grad(set_to_none=True)
    loss, seen = 0.0, []
    for _ in range(recipe.accumulate):
        batch = take(source, state.step, recipe)
        seen.append((batch.video, batch.indices))
        batch = batch.to(device, non_blocking=True)
        share = 1.0
        if not summed(model, recipe):
            share = share_of(batch, recipe, world) / recipe.accumulate
        given = {"truth": batch.truth, "flow": batch.flow}
        known = {name: value for name, value in given.items() if value is not None}
        inputs = clip_inputs(model, batch)
        try:
            loss += share * backward(model, inputs, known, recipe, forced, share * scale)
        except NotFinite as error:
            raise FloatingPointError(f"step {state.step}: {error}, {clip_names(seen)}") from None
    loss = float(world.sum(torch.tensor(loss, dtype=torch.float64)))
    world.sum_gradients(model)
    state.scaler.unscale_(state.optimizer)
    limit = recipe.gradient_clip or math.inf
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), limit))
    if math.isfinite(loss) and math.isfinite(norm):
        return loss, norm
    if math.isfinite(loss) and scale > 1:
        return loss, None
    told = f"step {state.step}: a loss of {loss:g}, a gradient of {norm:g}, {clip_names(seen)}"
    raise FloatingPointError(told)


def fit(
    model: nn.Module,
    batches: Iterable[Batch],
    recipe: Recipe,
    state: TrainingState | None = None,
    world: World = ALONE,
) -> Generator[Step]:
    """Train; a step for every ``accumulate`` batches, as many as the recipe says.

    Nothing happens until its reports are asked for: ``for step in fit(...): ...``. The same
    recipe, batches and weights give the same numbers, on one machine and number of threads.
    Between two steps the model may be evaluated: each begins by putting it in training mode.

    Args:
        model: see :func:`build_model`; it is trained in place, where its weights are.
        batches: :class:`~sal360.datasets.batch.Batch`, as many as the steps need, or more. One
            pass over :func:`~sal360.datasets.loader.clip_loader` is one epoch; for more,
            ``itertools.chain.from_iterable(itertools.repeat(loader))``.
        state: to go on with, at ``state.step``; None: a new one. It is changed in place.
        world: the processes that share each batch; each is given its own part of it.
    Yields:
        a :class:`Step` after each.
    Raises:
        ValueError: too few batches, batches without what the loss needs; a model of another
            system than the recipe's, a state of another model.
        TypeError: batches that are something else.
        FloatingPointError: maps, a loss or a gradient that are not finite, with the clips they
            came from. After any error the state is that before the step.
    """
    state = TrainingState(model, recipe) if state is None else state
    check_model(model, recipe, state)
    source, toss = iter(batches), tosses(recipe)
    with compiled(model, recipe):
        for index in range(state.step, recipe.steps):
            model.train()
            lr = rate_at(index, recipe)
            for group in state.optimizer.param_groups:
                group["lr"] = lr
            forced = float(toss[index]) < forcing_at(index, recipe)
            with state.untouched():
                loss, norm = gradients(state, source, forced, world)
            state.update()
            yield Step(index, loss, lr, norm or 0.0, norm is None)
