"""Models by name. One file per system; :func:`load_model` finds them, and their weights."""

from sal360.models.checks import DeadParametersError, no_dead_parameters, yaw_error
from sal360.models.cube_unet import CubeUNet
from sal360.models.lookup_unet import LookupUNet
from sal360.models.registry import MODELS, ModelCard, load_model
from sal360.models.spherical_unet import SphericalUNet
from sal360.models.sst_sal import SSTSal

__all__ = [
    "MODELS",
    "CubeUNet",
    "DeadParametersError",
    "LookupUNet",
    "ModelCard",
    "SSTSal",
    "SphericalUNet",
    "load_model",
    "no_dead_parameters",
    "yaw_error",
]
