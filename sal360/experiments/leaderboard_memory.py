"""How long should a network of the leaderboard remember? Chosen on the validation worlds.

Every arm is trained on clips of :data:`~sal360.experiments.leaderboard_arms.CLIP` frames, each
begun with an empty memory (or with no map before the first), and validated alike. The test worlds
last longer. A memory that goes on and on meets states that no clip of the training had; one that
is emptied every so many frames never does, and forgets. Which of the two an arm is scored with is
chosen where networks may choose: on the validation worlds. The published SST-Sal empties its
memory too, every 20 frames. Chapter 14 says why memories drift, chapter 17 reads the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sal360.experiments.leaderboard_arms import CLIP
from sal360.experiments.leaderboard_scores import Scene, predicted, scored
from sal360.models.base import FrameModel
from sal360.nn.state import state_tensors
from sal360.training.inputs import clip_inputs

CARRIED, EMPTIED = "carried", f"every {CLIP}"


def remembers(model: nn.Module, test: Scene) -> bool:
    """Whether anything goes from frame to frame."""
    if isinstance(model, FrameModel) and model.extra == "motion":
        return False
    with torch.no_grad():
        _, state = model.step(clip_inputs(model, test.batch)[:1, 0])  # type: ignore[operator]
    return any(True for _ in state_tensors(state))


def chosen(model: nn.Module, held: Scene) -> dict[str, Any]:
    """CC on the validation worlds with either memory, and ``kept``, the name of the better."""
    found: dict[str, Any] = {
        name: mean(scored(predicted(model, held, every=every), held)["cc"])
        for name, every in ((CARRIED, None), (EMPTIED, CLIP))
    }
    return found | {"kept": max(found, key=found.__getitem__)}


def mean(values: Sequence[float | None]) -> float:
    """Of what is known."""
    known = [value for value in values if value is not None]
    return float(Tensor(known).mean())
