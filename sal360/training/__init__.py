"""Recipes, and the loop that runs them. Chapter 16.

A **recipe** (:func:`load_recipe`) says everything that decides a run but the data and the device.
:func:`fit` runs it: batches in, one report a step out. :func:`train` is a whole run: data, steps,
validations, checkpoints and the record. ``python -m sal360.training.overfit`` asks of every system
whether it can learn one clip, ``python -m sal360.training.kills`` whether a killed run is resumed
to the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sal360.training.fit import Step, build_model, fit
from sal360.training.recipe import (
    INPUTS,
    SCALES,
    Published,
    Recipe,
    load_recipe,
    parse_recipe,
    recipe_names,
)
from sal360.training.state import TrainingState

if TYPE_CHECKING:
    from sal360.training.run import train

__all__ = [
    "INPUTS",
    "SCALES",
    "Published",
    "Recipe",
    "Step",
    "TrainingState",
    "build_model",
    "fit",
    "load_recipe",
    "parse_recipe",
    "recipe_names",
    "train",
]


def __getattr__(name: str) -> Any:
    """``train`` brings data sets and metrics with it, so it is imported when it is asked for; and
    what runs as ``python -m sal360.training.records`` must not be there before."""
    if name == "train":
        from sal360.training.run import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
