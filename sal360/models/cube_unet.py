"""A U-Net on six faces: colour and motion in, a map on the panorama out.

The panorama becomes a cube, an ordinary U-Net works on the six faces as on one surface (every
convolution and every doubling in size reads across the edges, chapter 08), and its answer is
projected back **inside the graph**, so that a loss on the panorama reaches every weight.
Chapter 13 derives it, and shows what happens when the way back is left outside.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sal360._check import as_image, as_size, positive_int
from sal360.models.base import Convention, FrameModel, Reading, as_convention
from sal360.models.weights import remembers_settings
from sal360.nn.cube import CubeMode, CubePad2d, face_size
from sal360.nn.doubling import doubled_inside
from sal360.projections import cube_to_erp, erp_to_cube
from sal360.resampling import computing_dtype

LEVELS = 4
"""Blocks on the way down, the narrowest included: faces are halved three times."""


class CubeUpsample2d(nn.Module):
    """Twice the size, bilinear, read across the edges of the cube.

    ``F.interpolate`` of a single face repeats its last line, so that both sides of an edge go
    flat before they meet. Here the neighbours' lines are there to interpolate with.

    Args:
        mode: how the neighbours are read, see :class:`sal360.nn.CubePad2d`.
    Shape:
        ``(6 B, C, S, S)``, six consecutive faces F R B L U D, to ``(6 B, C, 2 S, 2 S)``.
    """

    def __init__(self, mode: CubeMode = "copy") -> None:
        super().__init__()
        self.pad = CubePad2d(1, mode)

    def forward(self, x: Tensor) -> Tensor:
        return doubled_inside(self.pad(x))


@remembers_settings
class CubeUNet(FrameModel):
    """The cube-padded U-Net on RGB and motion.

    Four blocks of two (cube pad 1, 3x3 convolution without bias, batch norm, ReLU) with
    ``base`` times 1, 2, 4, 8 channels, 2x2 max pooling between them; back up by bilinear
    doubling, what was seen at that size put beside it, and a block; a 1x1 convolution and a
    sigmoid make the map, which is read back onto the panorama.

    Faces are resampled from the panorama anyway, so their size is always a multiple of 8, and
    nothing is ever cropped or padded: ``W / 4`` rounded up to one, unless ``face`` is given.
    Less than ``W / 4`` would alias: shrink the panorama instead.

    **What the map means.** A sigmoid cannot be a density, whose peaks have no upper bound: it is
    the density up to a factor, between 0 and 1. Train it with a loss that is blind to scale
    (:func:`sal360.losses.sphere_kld`), or, as published, with a squared error against
    ``truth / truth.max()`` (``target = "peak"``). The minimiser of the latter is the mean of
    truths that each were divided by their own maximum: a frame on which viewers agree counts
    less in it than in the mean density.

    Source: the program that this package grew from (train_video, infer_video, make_video), with
    the cube padding of Cheng et al. (CVPR 2018). Its prediction left the graph before it was
    projected back; that is no option here, and :func:`sal360.models.no_dead_parameters` finds it.

    Args:
        base: channels of the first block.
        convention: ``"corrected"``, or ``"upstream"``: the corners of a rim repeat the end of a
            plate (:func:`sal360.upstream.cube_pad`) and each face is doubled by itself. Its
            projections are not known; those of :mod:`sal360.projections` are used in both.
        face: texels along an edge, a multiple of 8.
        padding: how the corrected network reads its neighbours, ``"copy"`` or ``"reproject"``.
        input_size: ``(H, W)`` that frames are resized to.
    Raises:
        ValueError, TypeError: numbers or words that cannot be used.

    >>> image, motion = torch.zeros(1, 3, 33, 70), torch.zeros(1, 1, 33, 70)
    >>> CubeUNet(base=4).eval()(image, motion).shape
    torch.Size([1, 1, 33, 70])
    """

    reading: Reading = "positive"
    extra: Literal["previous", "motion"] = "motion"
    target = "peak"

    def __init__(
        self,
        base: int = 32,
        convention: Convention = "corrected",
        face: int | None = None,
        padding: CubeMode = "copy",
        input_size: tuple[int, int] = (240, 480),
    ) -> None:
        super().__init__()
        self.convention = as_convention(convention)
        if face is not None and positive_int(face, "face") % 2 ** (LEVELS - 1):
            raise ValueError(f"face: {face}, wanted a multiple of {2 ** (LEVELS - 1)}")
        self.face = face
        if padding not in ("copy", "reproject"):
            raise ValueError(f"padding: {padding!r}, wanted 'copy' or 'reproject'")
        self.input_size = as_size(input_size, "input_size")
        widths = [positive_int(base, "base") * 2**k for k in range(LEVELS)]

        def block(inputs: int, outputs: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for channels in (inputs, outputs):
                pad = _PublishedPad() if self.convention == "upstream" else CubePad2d(1, padding)
                layers += [
                    pad,
                    nn.Conv2d(channels, outputs, 3, bias=False),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(),
                ]
            return nn.Sequential(*layers)

        self.down = nn.ModuleList(
            block(i, o) for i, o in zip([4, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.grow = _AlonePerFace() if self.convention == "upstream" else CubeUpsample2d(padding)
        self.up = nn.ModuleList(block(low + high, low) for low, high in _steps_up(widths))
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, image: Tensor, extra: Tensor) -> Tensor:
        """RGB ``(B, 3, H, W)`` and motion ``(B, 1, H, W)`` to maps ``(B, 1, H, W)`` in (0, 1)."""
        x = torch.cat((as_image(image, "image"), as_image(extra, "extra")), 1)
        if x.shape[1] != 4:
            found = f"{image.shape[1]} and {extra.shape[1]} channels"
            raise ValueError(f"image, extra: {found}, wanted 3 and 1")
        H, W = x.shape[-2:]
        return cube_to_erp(self.on_faces(erp_to_cube(x, self.face or face_of(W))), H, W)

    def on_faces(self, faces: Tensor) -> Tensor:
        """The network itself: ``(B, 6, 4, S, S)`` to ``(B, 6, 1, S, S)`` in (0, 1)."""
        if face_size(faces, "faces") % 2 ** (LEVELS - 1):
            found = f"{faces.shape[-1]} texels"
            raise ValueError(f"faces: {found}, wanted a multiple of {2 ** (LEVELS - 1)}")
        x = faces.flatten(0, 1)
        seen = []
        for k, block in enumerate(self.down):
            x = block(self.pool(x) if k else x)
            seen.append(x)
        seen.pop()
        for block in self.up:
            x = block(torch.cat((self.grow(x), seen.pop()), 1))
        answer = self.head(x)
        # Half precision would leave the map some two hundred levels.
        return torch.sigmoid(answer.to(computing_dtype(answer))).unflatten(0, (-1, 6))


def face_of(W: int) -> int:
    """Texels along an edge for a panorama of ``W`` columns: ``W / 4``, up to a multiple of 8."""
    step = 2 ** (LEVELS - 1)
    return step * -(-W // (4 * step))


def _steps_up(widths: list[int]) -> list[tuple[int, int]]:
    """Channels beside each other on the way up: what was seen, what comes from below."""
    return list(zip(widths[-2::-1], widths[:0:-1], strict=True))


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class _AlonePerFace(nn.Module):
    """Doubling as published: each face by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return _doubled(x)


class _PublishedPad(nn.Module):
    """The published padding, for faces in our order."""

    def __init__(self) -> None:
        super().__init__()
        from sal360.upstream import CP360_FACES

        theirs = CP360_FACES.replace("T", "U")
        self.into = ["FRBLUD".index(face) for face in theirs]
        self.back = [theirs.index(face) for face in "FRBLUD"]

    def forward(self, x: Tensor) -> Tensor:
        from sal360.upstream import cube_pad

        faces = x.unflatten(0, (-1, 6))
        padded = cube_pad(faces[:, self.into].flatten(0, 1), 1)
        return padded.unflatten(0, (-1, 6))[:, self.back].flatten(0, 1)
