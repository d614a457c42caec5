"""CP-360 (Cheng et al., 2018): saliency without gaze labels, on the six faces of a cube.

A network that was trained to name things knows where they are: its classifier, asked at every
place instead of once, says how much each class is there (class activation), and the largest answer
is a saliency map. The padding between the faces lets it see the cube as one surface (chapter 08),
and a ConvLSTM over the scores makes the maps of a video hang together, trained on three losses
between frames that need no gaze either (chapter 15, :mod:`sal360.models.cp360_weak`).

Without a backbone that knows things there is nothing to activate.
:func:`~sal360.models.cp360_pretraining.pretrain` trains a small one on synthetic worlds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sal360 import upstream
from sal360._check import as_image, positive_int
from sal360._tables import constant
from sal360.models.base import Convention, Reading, as_convention, sphere_mean
from sal360.models.cp360_memory import CubeConvLSTM, CubeState
from sal360.models.resnet import ResNet, fetch_imagenet, load_by_name, read_imagenet
from sal360.nn import to_cube_padded
from sal360.projections import cube_to_erp, downsample_erp, erp_to_cube

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FLOOR = 0.02
"""Share of a corrected map that is spread over the whole sphere: no place is impossible."""


@constant
@lru_cache(maxsize=8)
def _colours(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of ImageNet's colours, ``(3, 1, 1)`` each."""
    mean, std = (
        torch.tensor(v, dtype=dtype)[:, None, None].to(device)
        for v in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return mean, std


class CP360(nn.Module):
    """Class activation on a cube, and a memory of it.

    The small one is what the constructor makes unless told otherwise; :meth:`published` makes the
    published one. Both conventions have the same parameters:

    - ``"upstream"``: BGR frames normalised as if they were RGB; cube and panorama, padding and
      ConvLSTM as :mod:`sal360.upstream` has them; class scores without the classifier's bias and
      with its weights moved up; a sequence normalised by its own extremes, those of later frames
      too. :meth:`step` cannot look ahead and normalises each frame by itself. Published inference
      takes the last map of a window of five that moves on by one frame: that is ``length`` 5 and
      ``warm_up`` 4. The backbone is frozen, as it was.
    - ``"corrected"``: RGB; every projection and padding as the rest of the package has it; the
      classifier as it was trained, bias and all; **each frame** stretched to [0, 1] by the
      extremes of its own map and squared (:func:`evidence`), so nothing looks ahead and a film
      may be of any length. Maps are relative densities, of mean 1 over the sphere.

    Moving the classifier's weights adds to every class how active the features are at all. On
    the small backbone, whose features are busier on the ground than on things, that turns the
    map over: do not expect ``"upstream"`` to work with it.

    ``torch.export`` takes it. ONNX was not tried.

    Quarter turns: turning the panorama by 90 degrees turns the cube into itself, the four faces
    around the horizon change places without being resampled. But the kernels on the upper and the
    lower face then see a turned picture, so the maps agree only as far as these two do not matter.

    Args:
        width, blocks, classes, strides: of :class:`~sal360.models.resnet.ResNet`.
        hidden: channels of the memory; ``classes`` if None, as published.
        temporal: False for class activation alone, without a memory (and its parameters).
        face: texels along an edge of a face.
        convention: see above.
        padding: ``"cube"``, or ``"zeros"`` beyond the edges of every face, which is the same
            network without what it knows of the sphere (corrected only).
    Attributes:
        backbone: the cube-padded network. memory: the ConvLSTM, or None.
        settings: the arguments, for a weights file.
        input_size, rate, length, warm_up, stateful, forgets, reading: see
        :mod:`sal360.models.base`.
    """

    in_channels = 3
    length = 5
    forgets: int | None = None

    def __init__(
        self,
        width: int = 8,
        blocks: Sequence[int] = (1, 1, 1, 1),
        classes: int = 5,
        hidden: int | None = None,
        temporal: bool = True,
        face: int = 64,
        strides: Sequence[int] = (1, 2, 1, 1),
        convention: str = "corrected",
        padding: str = "cube",
    ) -> None:
        super().__init__()
        self.convention: Convention = as_convention(convention)
        if padding not in ("cube", "zeros"):
            raise ValueError(f"padding: {padding!r}, wanted 'cube' or 'zeros'")
        if padding == "zeros" and self.convention == "upstream":
            raise ValueError("padding: 'zeros', wanted convention='corrected' with it")
        self.face = positive_int(face, "face")
        self.classes = positive_int(classes, "classes")
        self.settings: dict[str, Any] = {
            "width": width,
            "blocks": tuple(blocks),
            "classes": classes,
            "hidden": hidden,
            "temporal": temporal,
            "face": face,
            "strides": tuple(strides),
            "convention": self.convention,
            "padding": padding,
        }
        plain = ResNet(blocks, width, classes, strides)
        published = self.convention == "upstream"
        if padding == "zeros":
            self.backbone: ResNet = plain
        else:
            padded = _published_padding(plain) if published else to_cube_padded(plain)
            self.backbone = cast(ResNet, padded)
        self.memory: CubeConvLSTM | None = None
        if temporal:
            wide = classes if hidden is None else hidden
            self.memory = CubeConvLSTM(classes, wide, self.convention)
            if padding == "zeros":
                self.memory.pad = nn.ZeroPad2d(1)
        if published:
            self.backbone.requires_grad_(False)
        self.input_size = (2 * self.face, 4 * self.face)
        if published and self.face == 224:
            self.input_size = (960, 1920)
        self.rate: float | None = None if published else 8.0
        self.warm_up = 4 if published and temporal else 0
        self.stateful = not published
        self.reading: Reading = "minmax" if published else "density"

    @classmethod
    def published(cls, convention: str = "upstream", temporal: bool = True) -> CP360:
        """ResNet-50 on faces of 224 texels, a memory of 1000 channels: 385,569,032 parameters.

        1.5 GB in float32; under ``torch.device("meta")`` nothing.
        """
        return cls(64, (3, 4, 6, 3), 1000, None, temporal, 224, (1, 2, 2, 2), convention)

    @classmethod
    def small(cls, convention: str = "corrected", temporal: bool = True) -> CP360:
        """The default, by name: it trains on a laptop."""
        return cls(temporal=temporal, convention=convention)

    def train(self, mode: bool = True) -> CP360:
        """As every module; but the published backbone is frozen and keeps its statistics."""
        super().train(mode)
        if self.convention == "upstream":
            self.backbone.eval()
        return self

    def load_backbone(self, path: str | Path) -> None:
        """Load a classifier's weights by name, such as torchvision's ResNet-50 on ImageNet.

        Args:
            path: ``.pth`` or ``.safetensors``; see :func:`~sal360.models.resnet.read_imagenet`.
                ``"imagenet"``: torchvision's file, fetched by its hash
                (:func:`~sal360.models.resnet.fetch_imagenet`).
        Raises:
            ValueError: names or shapes that do not fit, named.
            sal360.datasets.download.DownloadError: a file that is not to be had.
        """
        path = fetch_imagenet() if path == "imagenet" else path
        load_by_name(self.backbone, read_imagenet(path), str(path))

    def load_memory(self, path: str | Path) -> None:
        """Load a ConvLSTM's six tensors by name, ``Conv1.weight`` to ``Gates.bias``."""
        if self.memory is None:
            raise ValueError("memory: there is none, wanted temporal=True")
        load_by_name(self.memory, read_imagenet(path), str(path))

    def scores(self, image: Tensor) -> Tensor:
        """How much of each class is where: the classifier at every texel of the last layer.

        Args:
            image: ``(B, 3, H, W)`` panoramas in [0, 1], channels as :meth:`features` gives them.
        Returns:
            ``(6 B, classes, s, s)``, faces in the order of the convention.
        """
        image = as_image(image)
        if image.shape[1] != 3:
            raise ValueError(f"image: shape {tuple(image.shape)}, wanted (B, 3, H, W)")
        mean, std = _colours(image.dtype, image.device)
        features = self.backbone.trunk((self.faces(image) - mean) / std)
        if self.convention == "upstream":
            return upstream.class_scores(features, self.backbone.fc.weight)
        return F.conv2d(features, self.backbone.fc.weight[:, :, None, None], self.backbone.fc.bias)

    def faces(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` panoramas to ``(6 B, C, face, face)``."""
        H, W = image.shape[-2:]
        if self.convention == "upstream":
            if W != 2 * H:  # everything is resized before it is projected
                image = F.interpolate(image, self.input_size, mode="bilinear", align_corners=False)
            return upstream.erp_to_cube(image, self.face)
        if 2 * self.face < H or 4 * self.face < W:  # or what is finer than the cube would alias
            image = downsample_erp(image, min(H, 2 * self.face), min(W, 4 * self.face))
        return erp_to_cube(image, self.face).flatten(0, 1)

    def panorama(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """The largest score at every place, as a map.

        Args:
            scores: ``(6 B, K, s, s)``. size: ``(H, W)``.
        Returns:
            ``(B, 1, H, W)``: a relative density, or what was published, enlarged.
        """
        if self.convention == "upstream":
            maps = upstream.cube_to_erp(scores).amax(1, keepdim=True)
            return F.interpolate(maps, size, mode="bilinear", align_corners=False)
        best = scores.float().amax(1, keepdim=True).unflatten(0, (-1, 6))
        return relative_density(cube_to_erp(best, *size))

    def static(self, image: Tensor) -> Tensor:
        """Class activation of single pictures, ``(B, 3, H, W)`` to ``(B, 1, H, W)``."""
        return self.activation(self.scores(image), (image.shape[-2], image.shape[-1]))

    def activation(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """The map of :meth:`scores` without a memory, ``(B, 1, H, W)``."""
        if self.convention == "corrected":
            scores = evidence(_per_cube(scores)).flatten(0, 1)
        return self.panorama(scores, size)

    def step(self, frame: Tensor, state: CubeState | None = None) -> tuple[Tensor, Any]:
        """One frame ``(B, 3, H, W)`` and what is remembered, to ``(B, 1, H, W)`` and the next."""
        if self.memory is None:
            return self.static(frame), None
        scores = _per_cube(self.scores(frame))
        published = self.convention == "upstream"
        unit = upstream.unit_sequence(scores) if published else evidence(scores)
        state = self.memory(unit.flatten(0, 1), state)
        return self.panorama(state.hidden, (frame.shape[-2], frame.shape[-1])), state

    def forward(self, clip: Tensor) -> Tensor:
        """A clip ``(B, T, 3, H, W)`` of :meth:`features` to raw maps ``(B, T, 1, H, W)``."""
        if clip.ndim != 5 or clip.shape[2] != 3 or 0 in clip.shape:
            raise ValueError(f"clip: shape {tuple(clip.shape)}, wanted (B, T, 3, H, W)")
        H, W = clip.shape[-2:]
        scores = self.scores(clip.flatten(0, 1)).unflatten(0, (*clip.shape[:2], 6))
        maps = [self.panorama(part.flatten(0, 1), (H, W)) for part in self.remembered(scores)]
        return torch.stack(maps, 1)

    def remembered(self, scores: Tensor) -> Iterator[Tensor]:
        """Class scores of a clip ``(B, T, 6, K, s, s)`` to those after the memory, frame by frame.

        Yields:
            ``(B, 6, hidden, s, s)``; without a memory what it would be given.
        """
        published = self.convention == "upstream"
        if self.memory is None:
            yield from (scores if published else evidence(scores)).unbind(1)
            return
        unit = upstream.unit_sequence(scores) if published else evidence(scores)
        state = None
        for frame in unit.unbind(1):
            state = self.memory(frame.flatten(0, 1), state)
            yield _per_cube(state.hidden)

    def features(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[Tensor]:
        """RGB panoramas ``(H, W, 3)`` uint8 to ``(3, h, w)`` in [0, 1], resized by area.

        ``"upstream"`` turns them into BGR, which its backbone then takes for RGB.
        """
        import cv2

        for frame in frames:
            small = cv2.resize(frame, self.input_size[::-1], interpolation=cv2.INTER_AREA)
            if self.convention == "upstream":
                small = np.ascontiguousarray(small[..., ::-1])
            yield torch.from_numpy(small).permute(2, 0, 1).float() / 255


def evidence(scores: Tensor) -> Tensor:
    """Class scores of single frames, stretched to [0, 1] and squared.

    0 is the smallest value of the map of the largest scores (what is below is cut off), 1 its
    largest. No other frame is asked. The square, which the published code gives to the maps it
    shows, takes away from the ground more than from what stands out.

    Args:
        scores: ``(..., 6, K, s, s)``. A flat frame becomes 0.
    """
    best = scores.amax(-3, keepdim=True)
    whole = (-4, -3, -2, -1)
    low = best.amin(whole, keepdim=True)
    span = best.amax(whole, keepdim=True) - low
    unit = (scores - low) / torch.where(span > 0, span, torch.ones_like(span))
    return unit.clamp(0, 1) ** 2


def relative_density(raw: Tensor, floor: float = FLOOR) -> Tensor:
    """Maps of any offset and scale to densities times 4 pi, so that the uniform one is 1.

    Less the minimum, over the mean over the sphere; then a share of the uniform density is mixed
    in. A flat map becomes uniform.

    Args:
        raw: ``(..., H, W)``. floor: the share.
    """
    maps = raw - raw.amin((-2, -1), keepdim=True)
    mean = sphere_mean(maps)
    # Rounding is no pattern: a map that is flat up to it stays flat.
    flat = mean <= 1e-6 * raw.detach().abs().amax((-2, -1), keepdim=True)
    shape = torch.where(flat, torch.ones_like(maps), maps / mean.clamp_min(1e-30))
    return (1 - floor) * shape + floor


def _per_cube(faces: Tensor) -> Tensor:
    """``(6 B, ...)`` to ``(B, 6, ...)``."""
    return faces.unflatten(0, (-1, 6))


def _published_padding(network: ResNet) -> ResNet:
    """Padding by :func:`sal360.upstream.cube_pad` before every layer that padded with zeros."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            pad = layer.padding if isinstance(layer.padding, int) else layer.padding[0]
            if pad:
                layer.padding = 0 if isinstance(layer, nn.MaxPool2d) else (0, 0)
                layer.register_forward_pre_hook(_PublishedPad(int(pad)))
    return network


class _PublishedPad:
    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (upstream.cube_pad(args[0], self.pad), *args[1:])
