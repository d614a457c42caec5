"""Models by name. One file per system; :func:`load_model` finds them, and their weights."""

from sal360.models.registry import MODELS, ModelCard, load_model
from sal360.models.sst_sal import SSTSal

__all__ = ["MODELS", "ModelCard", "SSTSal", "load_model"]
