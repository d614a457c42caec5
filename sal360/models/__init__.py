"""Models by name. One file per system; :func:`load_model` finds them, and their weights."""

from sal360.models.base import truncated
from sal360.models.cards import MODELS, NETWORKS, ModelCard
from sal360.models.checks import DeadParametersError, no_dead_parameters, yaw_error
from sal360.models.cost import flops, parameters
from sal360.models.cp360 import CP360
from sal360.models.cube_unet import CubeUNet
from sal360.models.lookup_unet import LookupUNet
from sal360.models.registry import load_model, name_of, save_weights
from sal360.models.spherical_unet import SphericalUNet
from sal360.models.sst_sal import SSTSal
from sal360.models.systems import yaw_errors

__all__ = [
    "CP360",
    "MODELS",
    "NETWORKS",
    "CubeUNet",
    "DeadParametersError",
    "LookupUNet",
    "ModelCard",
    "SSTSal",
    "SphericalUNet",
    "flops",
    "load_model",
    "name_of",
    "no_dead_parameters",
    "parameters",
    "save_weights",
    "truncated",
    "yaw_error",
    "yaw_errors",
]
