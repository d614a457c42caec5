"""Flow that was published as colours, read back: which way each pixel goes, how fast beside others.

The colour wheel keeps direction as hue and speed as saturation, relative to the fastest pixel of
the frame. So a picture can be turned into arrows, the arrows moved, and a picture drawn again;
only the frame's own scale is lost, in the picture already.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from sal360.flow import color_wheel, flow_to_color
from sal360.flow.colors import ARCS

_STARTS = np.concatenate(([0], np.cumsum(ARCS)[:-1]))


def picture_to_flow(picture: Tensor) -> Tensor:
    """Arrows of a colour-wheel picture, the longest the colours can say of length 1.

    Inverts :func:`sal360.flow.flow_to_color` up to the frame's scale and eight bits. Pictures
    that were shrunk or stored as JPEG hold mixed colours, which give mixed arrows.

    Args:
        picture: ``(T, 3, H, W)`` RGB in [0, 1].
    Returns:
        ``(T, 2, H, W)`` float32, right and down.
    """
    missing = 1 - picture.clamp(0, 1)
    speed = missing.amax(1)
    hue = 1 - missing / speed.clamp_min(1e-6)[:, None]
    red, green, blue = hue.unbind(1)
    # A pure hue has one channel at 1, one at 0, and the third says how far along the arc it is.
    middle = red + green + blue - hue.amax(1) - hue.amin(1)
    lowest, highest = hue.argmin(1), hue.argmax(1)
    rising = (highest - lowest) % 3 == 1  # red to yellow: blue is 0, red is 1, green grows
    arc = torch.where(rising, 2 * highest, (2 * highest - 1) % 6)
    part = torch.where(rising, middle, 1 - middle)
    starts, lengths = torch.as_tensor(_STARTS), torch.as_tensor(np.array(ARCS))
    place = starts.to(arc.device)[arc] + part * lengths.to(arc.device)[arc]
    last = len(color_wheel()) - 1
    angle = (place.clamp(max=last) / last * 2 - 1) * math.pi
    return torch.stack((-speed * torch.cos(angle), -speed * torch.sin(angle)), 1).float()


def flow_to_picture(flow: Tensor) -> Tensor:
    """Colours of arrows: ``(T, 2, H, W)`` to ``(T, 3, H, W)`` float32 RGB in [0, 1].

    Each frame is drawn relative to its own fastest pixel, as RAFT's pictures are.
    """
    frames = [flow_to_color(f) for f in flow.detach().cpu().numpy()]
    colours = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    return (colours.float() / 255).to(flow.device)
