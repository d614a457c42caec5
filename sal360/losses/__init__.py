"""What training minimises: every pixel counts by the solid angle it covers.

Of each loss its docstring says what its minimiser is, what it rewards and what it hides.
Chapter 11 derives them; chapter 15 those between frames. All take ``(..., H, W)``, compute in
float32 or better whatever comes in, and give a finite value and a finite gradient or one clear
error: for flat maps, for maps of zeros, for one bright pixel, for numbers of any size. The
checks read a few numbers back, for which a GPU is waited for.
"""

from sal360.losses.camera import camera_rotation, without_rotation
from sal360.losses.combined import SummedLoss, WeightedSum
from sal360.losses.correlation import cc_loss
from sal360.losses.kld import softmax_density, sphere_kld
from sal360.losses.mse import sphere_mse
from sal360.losses.nss import nss_loss
from sal360.losses.similarity import sim_loss
from sal360.losses.temporal import (
    TemporalLosses,
    motion_mask_loss,
    temporal_losses,
    temporal_smoothness,
)
from sal360.losses.warp import resize_flow, visible_by_flow, warp_by_flow

__all__ = [
    "SummedLoss",
    "TemporalLosses",
    "WeightedSum",
    "camera_rotation",
    "cc_loss",
    "motion_mask_loss",
    "nss_loss",
    "resize_flow",
    "sim_loss",
    "softmax_density",
    "sphere_kld",
    "sphere_mse",
    "temporal_losses",
    "temporal_smoothness",
    "visible_by_flow",
    "warp_by_flow",
    "without_rotation",
]
