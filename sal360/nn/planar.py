"""The planar twin of a network: the same weights, by the same names, on a flat picture.

What does it buy a network to know that its picture is a sphere? Ask the network that differs in
nothing else: kernels look at the rows and columns beside them, and beyond the edge of the picture
there are zeros, as in any network for photographs. The poles, the seam and the edges of a cube
are then where the picture ends. Chapter 17 trains both.
"""

from __future__ import annotations

import copy
from types import NoneType

from torch import nn

from sal360.nn.cube import CubePad2d
from sal360.nn.pad import SpherePad2d
from sal360.nn.pool import SphereAvgPool2d, SphereMaxPool2d
from sal360.nn.sphere_conv import CrownConv2d, PatternConv2d, RingConv2d, SphereConv2d
from sal360.nn.windows import SphereBlockMaxPool2d


def to_planar(module: nn.Module) -> nn.Module:
    """A twin of a network that takes a panorama, or the faces of a cube, for flat pictures.

    - ``SphereConv2d`` and ``RingConv2d``: an ordinary ``Conv2d`` of the same kernel with the same
      weights, zeros beyond the edge. A ring's nine taps are in the order of a 3 x 3 kernel.
    - ``SphereMaxPool2d`` and ``SphereBlockMaxPool2d``: the largest of a block of ``stride`` x
      ``stride`` pixels; ``SphereAvgPool2d``: the plain mean of a block.
    - ``CubePad2d`` and ``SpherePad2d``: zeros. Where padding is there for a doubling in size (a
      module called ``rim``, or inside one called ``grow``), the edge is repeated, so that the
      doubling is ``interpolate``'s own.

    Keys and shapes of the state dict stay, so the weights of either load into the other. The
    class of the network stays, too, and what it does outside such layers: its answer is still
    divided by its mean over the sphere where it is a density.

    Args:
        module: a network of this package; it is not changed.
    Returns:
        the twin, with ``planar`` set to True.
    Raises:
        TypeError: a layer that has no planar twin, named: crowns, whose taps lie on circles as
            wide as the sphere; convolutions padded by hooks (:func:`sal360.nn.to_cube_padded`);
            weights that are made of others at every call (``torch.nn.utils.parametrize``).
        ValueError: a network with nothing in it that knows of a sphere.

    >>> import torch
    >>> twin = to_planar(nn.Sequential(SphereConv2d(3, 8)))
    >>> twin(torch.zeros(1, 3, 16, 32)).shape
    torch.Size([1, 8, 16, 32])
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: {type(module).__name__}, wanted a torch.nn.Module")
    for name, layer in module.named_modules():
        _refuse(name or "module", layer)
    twin = copy.deepcopy(module)
    changed = 0
    if _has_twin(twin):
        twin, changed = _twin_of(twin, ""), 1
    for parent_name, parent in list(twin.named_modules()):
        for key, layer in parent._modules.items():
            if layer is not None and _has_twin(layer):
                parent._modules[key] = _twin_of(layer, f"{parent_name}.{key}")
                changed += 1
    if not changed:
        raise ValueError(f"module: a {type(module).__name__}, nothing in it knows of a sphere")
    twin.planar = True  # type: ignore[assignment]
    return twin


_KNOWN = (
    SphereConv2d, RingConv2d, SphereMaxPool2d, SphereBlockMaxPool2d, SphereAvgPool2d, CubePad2d,
    SpherePad2d,
)  # fmt: skip


def _has_twin(layer: nn.Module) -> bool:
    return isinstance(layer, _KNOWN)


def _refuse(name: str, layer: nn.Module) -> None:
    if isinstance(layer, CrownConv2d):
        raise TypeError(
            f"{name}: CrownConv2d, wanted a layer on rows and columns: its circles are as wide as "
            "the sphere, and no kernel on a flat picture stands for them"
        )
    if isinstance(layer, PatternConv2d) and not _has_twin(layer):
        raise TypeError(f"{name}: {type(layer).__name__}, wanted SphereConv2d or RingConv2d")
    if isinstance(layer, PatternConv2d):
        for key in ("weight", "bias"):
            if not isinstance(getattr(layer, key), (nn.Parameter, NoneType)):
                remedy = "remove_parametrizations first"
                raise TypeError(f"{name}: {key} is computed, wanted a parameter ({remedy})")
    hooks = getattr(layer, "_forward_pre_hooks", {}).values()
    if isinstance(layer, nn.Conv2d) and any("Pad" in type(hook).__name__ for hook in hooks):
        raise TypeError(f"{name}: Conv2d padded by a hook, wanted one that pads by a layer")


def _twin_of(layer: nn.Module, name: str) -> nn.Module:
    if isinstance(layer, (SphereConv2d, RingConv2d)):
        return _convolution(layer)
    if isinstance(layer, SphereMaxPool2d):
        return nn.MaxPool2d(layer.stride, ceil_mode=True)
    if isinstance(layer, SphereBlockMaxPool2d):
        return nn.MaxPool2d(2, ceil_mode=True)
    if isinstance(layer, SphereAvgPool2d):
        return nn.AvgPool2d(layer.kernel_size, ceil_mode=True)  # type: ignore[arg-type]
    padding = layer.padding
    doubling = name.endswith(".rim") or ".grow." in f".{name}"
    return nn.ReplicationPad2d(padding) if doubling else nn.ZeroPad2d(padding)  # type: ignore[arg-type]


def _convolution(layer: SphereConv2d | RingConv2d) -> nn.Conv2d:
    rows, cols = layer.kernel_size
    dilation = int(getattr(layer, "dilation", 1))
    twin = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        (rows, cols),
        layer.stride,
        (dilation * (rows // 2), dilation * (cols // 2)),
        dilation,
        layer.groups,
        layer.bias is not None,
        device="meta",
    )
    twin.weight, twin.bias = layer.weight, layer.bias
    return twin
