"""From a batch of clips to what a network was built to look at, on any device.

``model.features`` does the same for one film at a time, with OpenCV, bytes and a size of its own.
Here frames are tensors already, at the size of the recipe, and flow is the data set's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sal360.datasets.batch import Batch
from sal360.models.base import FrameModel
from sal360.models.sst_sal import SSTSal

GREY = (0.299, 0.587, 0.114)
"""Of red, green, blue (ITU-R BT.601), as :meth:`sal360.models.base.FrameModel.features` has it."""


def clip_inputs(model: nn.Module, batch: Batch) -> Tensor:
    """What a network is given, ``(B, T, C, H, W)``, without the maps that frame models feed back.

    Args:
        batch: clips; for networks of six channels with flow, or with the picture of it.
    Raises:
        ValueError: clips without the flow that the network needs.
    """
    frames = batch.frames
    if isinstance(model, FrameModel) and model.extra == "motion":
        return torch.cat((frames, motion(frames)), 2)
    if not isinstance(model, SSTSal):
        return frames
    if model.in_channels == 3:
        return model.inputs(frames)
    if batch.flow_picture is not None:
        return torch.cat((frames.flip(2), batch.flow_picture.flip(2)), 2)
    if batch.flow is None:
        raise ValueError("batch: no flow, wanted by a network of 6 channels")
    return model.inputs(frames, batch.flow)


def motion(frames: Tensor) -> Tensor:
    """``(B, T, 3, H, W)`` to ``(B, T, 1, H, W)``: ``|grey - grey before|``, at first 0."""
    grey = torch.einsum("c,btchw->bthw", frames.new_tensor(GREY), frames)[:, :, None]
    return torch.cat((torch.zeros_like(grey[:, :1]), (grey[:, 1:] - grey[:, :-1]).abs()), 1)
