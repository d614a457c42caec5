"""Layers that know they are on a sphere: convolutions, pooling, padding and memory.

Panoramas are ``(B, C, H, W)`` of any size; cubemaps ``(B, 6, C, S, S)`` in the order F R B L U D.
Every layer is a sampling pattern plus weights. Derived in chapters 06 to 09 and 14.

``torch.compile`` and ``torch.export`` take all of them; what ``torch.jit.trace`` makes holds for
inputs of the one shape it was shown.
"""

from sal360.nn.convlstm import CellState, ConvLSTMCell
from sal360.nn.cube import CubePad2d
from sal360.nn.equivariance import Equivariance, check_equivariance
from sal360.nn.glue import to_cube_padded
from sal360.nn.pad import SpherePad2d
from sal360.nn.pool import SphereAvgPool2d, SphereMaxPool2d
from sal360.nn.sampled import sampled_conv2d
from sal360.nn.shared import clear_tables
from sal360.nn.sphere_conv import CrownConv2d, PatternConv2d, RingConv2d, SphereConv2d
from sal360.nn.state import detach_state
from sal360.nn.windows import SphereBlockMaxPool2d

__all__ = [
    "CellState",
    "ConvLSTMCell",
    "CrownConv2d",
    "CubePad2d",
    "Equivariance",
    "PatternConv2d",
    "RingConv2d",
    "SphereAvgPool2d",
    "SphereBlockMaxPool2d",
    "SphereConv2d",
    "SphereMaxPool2d",
    "SpherePad2d",
    "check_equivariance",
    "clear_tables",
    "detach_state",
    "sampled_conv2d",
    "to_cube_padded",
]
