"""The published code's own conventions, so that its weights and its numbers reproduce.

Nothing here is how one should do it; everything here is how it was done. One file for each
system; nothing else in the package imports their quirks.
"""

from sal360.upstream.cp360 import (
    CP360_FACES,
    REVERSED_EDGES,
    class_scores,
    conv_lstm_step,
    cube_pad,
    unit_sequence,
)
from sal360.upstream.cp360_projections import cube_to_erp, erp_to_cube, nfov_mask
from sal360.upstream.losses import (
    TEMPORAL_WEIGHTS,
    TemporalLosses,
    row_weight,
    sphere_kld,
    sphere_mse,
    temporal_losses,
)
from sal360.upstream.metrics import (
    avs360_scores,
    avs360_weights,
    cp360_auc_borji,
    cp360_auc_judd,
    cp360_cc,
    cp360_sim,
)
from sal360.upstream.sst_sal import (
    load_sst_sal,
    sphere_conv2d,
    sphere_max_pool2d,
    tangent_coordinates,
)
from sal360.upstream.vo import RING_SLOTS, lookup_conv2d, ring_table
from sal360.upstream.zhang import crown_conv2d, fixation_map
from sal360.upstream.zhang_grid import CrownRow, crown_grid
from sal360.upstream.zhang_pool import sphere_pad, sphere_pool, sphere_pool_widths

__all__ = [
    "CP360_FACES",
    "REVERSED_EDGES",
    "RING_SLOTS",
    "TEMPORAL_WEIGHTS",
    "CrownRow",
    "TemporalLosses",
    "avs360_scores",
    "avs360_weights",
    "class_scores",
    "conv_lstm_step",
    "cp360_auc_borji",
    "cp360_auc_judd",
    "cp360_cc",
    "cp360_sim",
    "crown_conv2d",
    "crown_grid",
    "cube_pad",
    "cube_to_erp",
    "erp_to_cube",
    "fixation_map",
    "load_sst_sal",
    "lookup_conv2d",
    "nfov_mask",
    "ring_table",
    "row_weight",
    "sphere_conv2d",
    "sphere_kld",
    "sphere_max_pool2d",
    "sphere_mse",
    "sphere_pad",
    "sphere_pool",
    "sphere_pool_widths",
    "tangent_coordinates",
    "temporal_losses",
    "unit_sequence",
]
