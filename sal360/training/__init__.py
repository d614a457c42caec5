"""Recipes, and the loop that runs them. Chapter 16.

A **recipe** (:func:`load_recipe`) says everything that decides a run but the data and the device.
:func:`fit` runs it: batches in, one report a step out. :func:`train` is a whole run: data, steps,
validations, checkpoints and the record. ``python -m sal360.training.overfit`` asks of every system
whether it can learn one clip, ``python -m sal360.training.kills`` whether a killed run is resumed
to the same bits.
"""

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
from sal360.training.run import train
from sal360.training.state import TrainingState

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
