"""A network for pictures glued to a cube: where it would pad a face, it reads the neighbours.

Nothing of a network is written anew. A copy of it keeps its layers, weights and names; those that
pad get hooks which pad by :class:`sal360.nn.CubePad2d` before them, and padding layers give their
places to it. Chapter 08.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sal360.nn.cube import CubeMode, CubePad2d, as_mode, face_size
from sal360.nn.pad import SpherePad2d
from sal360.nn.pool import SphereAvgPool2d, SphereMaxPool2d
from sal360.nn.rim import Sides
from sal360.nn.sphere_conv import PatternConv2d
from sal360.nn.state import why_not_copied
from sal360.nn.windows import SphereBlockMaxPool2d


def to_cube_padded(module: nn.Module, mode: CubeMode = "copy") -> nn.Module:
    """A twin of a network that sees the six faces as one surface. See chapter 08.

    Wherever a ``Conv2d``, ``MaxPool2d`` or ``AvgPool2d`` (or a padding layer such as
    ``ZeroPad2d``) would pad a face with zeros or copies of itself, or a pooling window would
    hang over its edge, the twin reads the neighbouring faces as :class:`CubePad2d` does; so it
    does where an ``Upsample`` would repeat the last line of a face. All else stays as it is:
    sizes, parameters (copied), and the keys of the state dict.

    What a network does outside such layers cannot be seen and is kept: ``F.pad``, ``F.conv2d``
    with padding or ``F.interpolate`` in its own ``forward``, and normalisation and pooling over
    a whole face, which know nothing of the other five.

    Args:
        module: any network on pictures; it is not changed. Bilinear and bicubic ``Upsample``
            are glued for a whole ``scale_factor`` without ``align_corners``.
        mode: of :class:`CubePad2d`, for all of the network; what is glued in it already has to
            be of this mode.
    Returns:
        A module which takes ``(6 B, C, S, S)``, faces F R B L U D, or ``(B, 6, C, S, S)``; then
        what it returns has two axes in place of the first as well, and so may what else it is
        given (a mask, a recurrent state): what begins with the same two axes and has five.
    Raises:
        TypeError: not a module, or a layer in it that works on something else than square faces
            (named): convolutions of one or three dimensions or transposed, quantized ones,
            pooling other than the above, ``Fold`` and ``Unfold``, this package's layers for
            panoramas. ValueError: an unknown mode, a layer that is glued in the other one (named),
            a padding layer that crops, pooling that returns indices, another bilinear or bicubic
            ``Upsample``, a network that cannot be copied.
    Warns:
        UserWarning: nothing was glued, although windows overlap, because no layer pads: the
            network does it in its own ``forward``, or its answers shrink.
    """
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise TypeError(f"module: {type(module).__name__}, wanted a torch.nn.Module")
    mode = as_mode(mode)
    for name, layer in module.named_modules():
        _refuse(name or "module", layer)
        for other in _modes(layer) - {mode}:
            found = f"{type(layer).__name__}, glued with mode {other!r} already"
            raise ValueError(f"{name or 'module'}: {found}, wanted {mode!r} as for the rest")
    try:
        twin = copy.deepcopy(module)
    except RuntimeError as error:
        said = why_not_copied(module, error)
        raise ValueError(f"module: cannot be copied ({said})") from None
    twins: dict[nn.Module, nn.Module] = {
        layer: _in_place_of(layer, CubePad2d(layer.padding, mode))
        for layer in twin.modules()
        if isinstance(layer, _PADS)
    }
    twin = twins.get(twin, twin)  # a padding layer by itself
    for parent in list(twin.modules()):
        for key, layer in parent._modules.items():
            if layer is not None and layer in twins:
                parent._modules[key] = twins[layer]
    for layer in twin.modules():
        if isinstance(layer, nn.Conv2d):
            _pad_convolution(layer, mode)
        elif isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
            _pad_pooling(layer, mode)
        elif isinstance(layer, nn.Upsample):
            _pad_upsampling(layer, mode)
    layers = list(twin.modules())
    if any(map(_overlaps, layers)) and not any(map(_modes, layers)):
        reason = "no layer of it pads, and what its forward does cannot be seen"
        warnings.warn(f"module: {type(module).__name__}, nothing glued: {reason}", stacklevel=2)
    if _faces_in not in twin._forward_pre_hooks.values():  # of what is glued already
        twin.register_forward_pre_hook(_faces_in, prepend=True, with_kwargs=True)
        twin.register_forward_hook(_faces_out, with_kwargs=True)
    return twin


_PADS = (
    nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d,
)  # fmt: skip
_OTHERS = (
    nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.MaxPool1d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool3d, nn.LPPool1d, nn.LPPool2d, nn.LPPool3d,
    nn.FractionalMaxPool2d, nn.FractionalMaxPool3d, nn.MaxUnpool1d, nn.MaxUnpool2d,
    nn.MaxUnpool3d, nn.Fold, nn.Unfold,
    nn.ZeroPad1d, nn.ConstantPad1d, nn.ReflectionPad1d, nn.ReplicationPad1d, nn.CircularPad1d,
    nn.ZeroPad3d, nn.ConstantPad3d, nn.ReflectionPad3d, nn.ReplicationPad3d, nn.CircularPad3d,
    PatternConv2d, SpherePad2d, SphereMaxPool2d, SphereAvgPool2d, SphereBlockMaxPool2d,
)  # fmt: skip


def _in_place_of(layer: nn.Module, other: CubePad2d) -> CubePad2d:
    """With the mode and the hooks of the layer that it stands for."""
    hooks = {k: v for k, v in vars(layer).items() if "_hooks" in k and k.startswith("_")}
    vars(other).update(hooks, training=layer.training)
    return other


def _refuse(name: str, layer: nn.Module) -> None:
    """Layers for which there is no padding from the neighbours."""
    quantized = type(layer).__module__.startswith("torch.ao.nn.quantized")
    if isinstance(layer, _OTHERS) or (quantized and hasattr(layer, "kernel_size")):
        wanted = "Conv2d, MaxPool2d, AvgPool2d or a 2d padding layer"
        raise TypeError(f"{name}: {type(layer).__name__}, wanted {wanted}: it cannot be glued")
    if isinstance(layer, nn.MaxPool2d) and layer.return_indices:
        raise ValueError(f"{name}: return_indices, wanted without: they would name the rim")
    if isinstance(layer, _PADS) and min(layer.padding) < 0:
        raise ValueError(f"{name}: padding {layer.padding}, wanted none below 0")
    if isinstance(layer, nn.Upsample) and layer.mode in ("linear", "trilinear"):
        wanted = "a bilinear or bicubic one"
        raise TypeError(f"{name}: {layer.mode} Upsample, wanted {wanted}: it cannot be glued")
    if isinstance(layer, nn.Upsample) and _reach(layer):
        factors = _factors(layer)
        if layer.align_corners:
            wanted = "wanted without: texels would leave the lattice of a cube"
            raise ValueError(f"{name}: Upsample with align_corners, {wanted}")
        if factors is None or not all(f >= 1 and f.is_integer() for f in factors):
            given = f"size={layer.size}" if factors is None else f"scale_factor={factors}"
            raise ValueError(
                f"{name}: Upsample with {given}, wanted a whole scale_factor: it cannot be glued"
            )


def _modes(layer: nn.Module) -> set[CubeMode]:
    """In which mode a layer is glued; empty if it is not."""
    hooks = layer._forward_pre_hooks.values()
    modes = {hook.mode for hook in hooks if isinstance(hook, _PadBefore)}
    return modes | {layer.mode} if isinstance(layer, CubePad2d) else modes


def _overlaps(layer: nn.Module) -> bool:
    """Whether a layer's windows overlap, so that some hang over an edge, or it has to shrink."""
    if not isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
        return False
    looks = layer.kernel_size, layer.stride, getattr(layer, "dilation", 1)
    return any(d * (k - 1) + 1 > s for k, s, d in zip(*map(_pair, looks), strict=True))


_REACH = {"bilinear": 1, "bicubic": 2}
"""Lines beyond an edge that are read for texels as fine as its own, or finer."""


def _reach(layer: nn.Upsample) -> int:
    """Lines that are read beyond an edge: between two texels lies all that is made coarser."""
    factors = _factors(layer)
    coarser = factors is not None and max(factors) <= 1 and not layer.align_corners
    return 0 if coarser and layer.mode == "bilinear" else _REACH.get(layer.mode, 0)


def _factors(layer: nn.Upsample) -> tuple[float, float] | None:
    """By how much rows and columns grow; None where a size is asked for."""
    if layer.scale_factor is None:
        return None
    given: Any = layer.scale_factor
    rows, cols = given if isinstance(given, (tuple, list)) else (given, given)
    return float(rows), float(cols)


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    return int(first), int(second)


@dataclass(frozen=True)
class _PadBefore:
    """Hook of a layer that no longer pads by itself.

    Attributes:
        sides: ``(left, right, top, bottom)``. mode: of :class:`CubePad2d`.
        windows: reach and stride of pooling windows that are counted up, rows then columns.
    """

    sides: Sides
    mode: CubeMode
    windows: tuple[tuple[int, int], tuple[int, int]] | None = None

    def __call__(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (self.padded(args[0]), *args[1:]), kwargs
        return args, {key: self.padded(x) if key == "input" else x for key, x in kwargs.items()}

    def padded(self, x: Tensor) -> Tensor:
        """Faces with the rim that the layer looks at."""
        S = face_size(x)
        left, right, top, bottom = self.sides
        if self.windows is not None:
            bottom, right = (
                _overhang(S, p, *each) for p, each in zip((top, left), self.windows, strict=True)
            )
        out: Tensor = CubePad2d((left, right, top, bottom), self.mode)(x)
        return _marked(out) if _is_marked(x) else out


def _overhang(S: int, before: int, reach: int, stride: int) -> int:
    """How far the last of torch's windows hangs over the edge with ``ceil_mode``."""
    windows = -(-(S + 2 * before - reach) // stride) + 1
    windows -= (windows - 1) * stride >= S + before  # it may not start beyond the face
    return max(before, (windows - 1) * stride + reach - S - before)


def _pad_convolution(layer: nn.Conv2d, mode: CubeMode) -> None:
    if layer.padding == "same":  # an odd texel goes to the right and to the bottom
        down, right = (d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True))
        sides = right // 2, right - right // 2, down // 2, down - down // 2
    elif layer.padding == "valid":
        sides = 0, 0, 0, 0
    else:
        down, right = _pair(layer.padding)
        sides = right, right, down, down
    layer.padding, layer.padding_mode = (0, 0), "zeros"
    layer._reversed_padding_repeated_twice = [0, 0, 0, 0]
    if any(sides):
        layer.register_forward_pre_hook(_PadBefore(sides, mode), with_kwargs=True)


def _pad_pooling(layer: nn.MaxPool2d | nn.AvgPool2d, mode: CubeMode) -> None:
    size, padding = _pair(layer.kernel_size), _pair(layer.padding)
    stride, dilation = _pair(layer.stride), _pair(getattr(layer, "dilation", 1))
    rows, cols = ((d * (k - 1) + 1, s) for k, s, d in zip(size, stride, dilation, strict=True))
    sides = padding[1], padding[1], padding[0], padding[0]
    if layer.ceil_mode or any(padding):
        windows = (rows, cols) if layer.ceil_mode else None
        layer.register_forward_pre_hook(_PadBefore(sides, mode, windows), with_kwargs=True)
    layer.padding, layer.ceil_mode = 0, False


@dataclass(frozen=True)
class _CropAfter:
    """Hook of a layer that has answered to a rim as well: ``rows`` and ``cols`` on either side."""

    rows: int
    cols: int

    def __call__(self, _: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
        return out[..., self.rows : -self.rows, self.cols : -self.cols]


def _pad_upsampling(layer: nn.Upsample, mode: CubeMode) -> None:
    reach, factors = _reach(layer), _factors(layer)
    glued = any(isinstance(hook, _PadBefore) for hook in layer._forward_pre_hooks.values())
    if not reach or glued or factors is None:
        return
    layer.register_forward_pre_hook(_PadBefore((reach,) * 4, mode), with_kwargs=True)
    layer.register_forward_hook(_CropAfter(*(reach * int(f) for f in factors)))


def _faces_in(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    first = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
    if first is None or first.ndim < 4:
        return args, kwargs
    face_size(first)

    def flat(value: Tensor) -> Tensor:
        if first.ndim == 5 and value.ndim == 5 and value.shape[:2] == first.shape[:2]:
            return _marked(value.flatten(0, 1))
        # What another twin folded, that one unfolds.
        return value.view_as(value) if _is_marked(value) else value

    return _each(args, flat), _each(kwargs, flat)


def _faces_out(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
    folded = [v for v in (*args, *kwargs.values()) if _is_marked(v)]
    if not folded:
        return out
    faces = len(folded[0])

    def whole(value: Tensor) -> Tensor:
        if value.ndim > 0 and len(value) == faces:
            return value.unflatten(0, (faces // 6, 6))
        return value

    return _each(out, whole)


def _marked(folded: Tensor) -> Tensor:
    """A tensor whose first axis was two; what comes of it is to have two again."""
    folded._sal360_faces = True  # type: ignore[attr-defined]
    return folded


def _is_marked(value: Any) -> bool:
    return getattr(value, "_sal360_faces", False)


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Containers of tensors, each of them changed."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) is dict:  # arguments by name, also where a compiler looks on
        return {key: _each(v, change) for key, v in value.items()}
    if isinstance(value, dict):
        found = copy.copy(value)
        found.update((key, _each(v, change)) for key, v in value.items())
        return found
    if isinstance(value, (tuple, list)):
        parts = [_each(v, change) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
