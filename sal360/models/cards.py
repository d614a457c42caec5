"""Which models there are, and what one should know before using one.

What can be computed is computed (parameters, operations, settings); the rest is said once, here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from torch import nn

from sal360 import baselines
from sal360.models import shipped
from sal360.models.cost import WithoutValues, flops, parameters
from sal360.models.cp360 import CP360
from sal360.models.cube_unet import CubeUNet
from sal360.models.lookup_unet import LookupUNet
from sal360.models.spherical_unet import SphericalUNet
from sal360.models.sst_sal import SSTSal
from sal360.models.weights import remembers_settings

Settings = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class ModelCard:
    """What one should know before using a model.

    Attributes:
        name, summary: what it is called, and in one line what it is.
        kind: its class. fixed: settings that make it this model and no other of its class.
        sizes: settings by the name of a size; default_size: the one that is meant unless said.
        inputs: what it looks at. conventions: what ``"corrected"`` changes.
        source: paper, and repository at a commit. data: what the published one was trained on.
        licence: of code and weights upstream; nothing of either is in this package.
        limits: known ones.
        official: name of the official weights in the download registry, if there are any, and
            official_settings: those they need.
        recipe: name of the recipe it is trained by here (:func:`sal360.training.load_recipe`).
    """

    name: str
    summary: str
    kind: type[nn.Module]
    fixed: Settings = field(default_factory=dict)
    sizes: Mapping[str, Settings] = field(default_factory=lambda: {"published": {}})
    default_size: str = "published"
    inputs: str = ""
    conventions: str = ""
    source: str = ""
    data: str = ""
    licence: str = ""
    limits: str = ""
    official: str | None = None
    official_settings: Settings = field(default_factory=dict)
    recipe: str | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether it has nothing to learn."""
        return issubclass(self.kind, baselines.base.Baseline)

    def build(self, size: str | None = None, **settings: Any) -> nn.Module:
        """A fresh one, with ``settings`` that say how it was made.

        Args:
            size: one of ``sizes``. settings: of its constructor, over those of the size.
        Raises:
            ValueError: an unknown size or setting, or a value that cannot be used.
        """
        size = self.default_size if size is None else size
        if size not in self.sizes:
            raise ValueError(f"size: {size!r}, wanted one of {', '.join(self.sizes)}")
        arguments = inspect.signature(self.kind).parameters.values()
        known = [a.name for a in arguments if a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD)]
        for key in settings:
            if key not in known:
                wanted = f"wanted one of {', '.join(known)}" if known else "it takes none"
                raise ValueError(f"{key}: no setting of {self.name}, {wanted}")
        return self.kind(**{**self.sizes[size], **self.fixed, **settings})

    def parameters(self, size: str | None = None) -> int:
        """How many numbers training may change; counted, without making them."""
        return _parameters(self, size)

    def flops(self, size: str | None = None, input_size: tuple[int, int] | None = None) -> int:
        """Operations of one frame (:func:`sal360.models.flops`), at the input it is made for."""
        return _flops(self, size, input_size)

    def facts(self) -> dict[str, Any]:
        """All of it as JSON has it, with what is computed for the default size."""
        words = ("name", "summary", "inputs", "conventions", "source", "data", "licence", "limits")
        out: dict[str, Any] = {word: getattr(self, word) for word in words}
        out |= {"official": self.official, "recipe": self.recipe}
        if not self.is_baseline:
            out["parameters"] = self.parameters()
            out["flops"] = self.flops()
            out["sizes"] = {size: self.parameters(size) for size in self.sizes}
            out["bundled"] = shipped.entry_of(self.name)
        return out


@lru_cache(maxsize=64)
def _parameters(card: ModelCard, size: str | None) -> int:
    with WithoutValues():
        return parameters(card.build(size))


@lru_cache(maxsize=64)
def _flops(card: ModelCard, size: str | None, input_size: tuple[int, int] | None) -> int:
    with WithoutValues():
        model = card.build(size)
    return flops(model, input_size)


for _kind in (SphericalUNet, LookupUNet, SSTSal):
    remembers_settings(_kind)


_UNET_SIZES = {"published": {}, "small": {"widths": (8, 16, 32, 32, 16, 8, 1)}}
_NONE_STATED = "none stated upstream, for code or weights; downloaded from there, never passed on"
_SST_SOURCE = (
    "Bernal-Berdun, Martin, Gutierrez, Masia: SST-Sal, Computers & Graphics 106, 2022; "
    "github.com/edurnebernal/SST-Sal @ dc6a4ba"
)
_SST_CONVENTIONS = (
    "corrected: kernels, pooling and doubling stand where they should, across seam and poles; "
    "the memory goes on over a whole film; maps are relative densities. Official weights need "
    "upstream and get it"
)
_SST_LIMITS = (
    "Official weights: the sampler reads half a pixel up and left and sees zeros at the top and "
    "left edges, so a faint line can show at +-180 degrees; trained with a loss whose minimiser "
    "is sin(theta) times the truth, too little at the poles."
)

MODELS: dict[str, ModelCard] = {
    card.name: card
    for card in (
        ModelCard(
            "spherical-unet",
            "U-Net of crown kernels, colour and its own last map",
            SphericalUNet,
            sizes=_UNET_SIZES,
            inputs="RGB in [0, 1] and the map of the frame before, 128 x 256, 6 frames a second",
            conventions="corrected: crowns of the right area in every row; maps in and out are "
            "relative densities, the map before is its own and cut off at 0. upstream: dark rows, "
            "maps as published",
            source="Zhang, Xu, Yu, Gao: Saliency detection in 360 videos, ECCV 2018; "
            "github.com/xuyanyu-shh/Saliency-detection-in-360-video @ 45073a9",
            data="published: 80 of the 104 videos of its authors; no weights were published",
            licence="MIT (code upstream; none of it is here)",
            limits="Published scores give it the true map of the frame before; in a closed loop "
            "its own mistakes go in again. Pooling keeps every second column: "
            "only turns by multiples of 8 columns are exact.",
            recipe="spherical-unet",
        ),
        ModelCard(
            "lookup-unet",
            "the same U-Net of 3x3 kernels whose neighbours stand in a table",
            LookupUNet,
            sizes=_UNET_SIZES,
            inputs="RGB in [0, 1] and the map of the frame before, 240 x 480, 6 frames a second",
            conventions="corrected: the ring is read between pixels, across seam and poles; maps "
            "are relative densities. upstream: whole pixels on a lattice that holds the seam "
            "twice, so that no turn of the panorama is exact",
            source="Vo et al., GTSD 2020; "
            "github.com/vhchuong/Saliency-prediction-for-360-degree-video @ 35d510d",
            data="published: not stated where it could be read, files as in Zhang et al.'s data "
            "set; its weights cannot be had any more",
            licence="MIT (code upstream; none of it is here)",
            limits="As the Spherical U-Net in a closed loop. The published table was never "
            "released: ours agrees with the one entry that was.",
            recipe="lookup-unet",
        ),
        ModelCard(
            "cube-unet",
            "U-Net on six cube faces with cube padding, colour and motion",
            CubeUNet,
            sizes={"published": {"base": 32}, "small": {"base": 8}},
            inputs="RGB in [0, 1] and |grey - grey of the frame before|, resized to 240 x 480",
            conventions="corrected: the corners of a face's rim are read, not repeated, and faces "
            "are doubled in size across their edges",
            source="the program this package grew from (train_video, infer_video, make_video), "
            "with the cube padding of Cheng et al., CVPR 2018",
            data="not known; no weights were published",
            licence="not stated",
            limits="Kernels do not turn with the faces U and D, so turning the panorama changes "
            "the map above and below. Sees one frame and one difference: no memory. A sigmoid "
            "map is a density up to scale only. As published it never learned: its prediction "
            "left the graph before the loss.",
            recipe="cube-unet",
        ),
        ModelCard(
            "cp360",
            "class activation of a cube-padded ResNet and a ConvLSTM, trained without gaze",
            CP360,
            sizes={
                "published": {
                    "width": 64,
                    "blocks": (3, 4, 6, 3),
                    "classes": 1000,
                    "face": 224,
                    "strides": (1, 2, 2, 2),
                },
                "small": {},
            },
            default_size="small",
            inputs="RGB in [0, 1], faces of 64 texels (published: BGR, 960 x 1920, faces of 224)",
            conventions="corrected: RGB, our projections and padding, the classifier's bias kept, "
            "each frame stretched by itself, maps are relative densities. upstream: BGR taken for "
            "RGB, its own cube, frozen backbone, windows of five normalised together",
            source="Cheng, Chao, Dong, Wen, Liu, Sun: Cube padding for weakly-supervised saliency "
            "prediction in 360 videos, CVPR 2018; "
            "github.com/hsientzucheng/CP-360-Weakly-Supervised-Saliency @ dde55cc",
            data="published: ImageNet's labels for the backbone, Wild-360 without its gaze for the "
            "memory; its weights lie where no program may fetch them",
            licence="MIT (code upstream; none of it is here)",
            limits="Finds what its backbone can name and nothing else: without pretraining there "
            "is nothing to activate. Nothing in its training says where people look. Kernels do "
            "not turn with the faces U and D.",
            recipe="cp360",
        ),
        ModelCard(
            "sst-sal",
            "spherical ConvLSTM on colour and optical flow",
            SSTSal,
            fixed={"in_channels": 6},
            sizes={"published": {"hidden": 36}, "small": {"hidden": 8}},
            inputs="BGR in [0, 1] and a BGR colour-wheel picture of the flow, 240 x 320, 8 a "
            "second",
            conventions=_SST_CONVENTIONS,
            source=_SST_SOURCE,
            data="official weights: VR-EyeTracking (Xu et al., 2018) as its authors prepared it",
            licence=_NONE_STATED,
            limits=_SST_LIMITS + " Trained on RAFT flow, fed with DIS flow here.",
            official="weights/SST_Sal.pth",
            official_settings={"convention": "upstream"},
            recipe="sst-sal",
        ),
        ModelCard(
            "sst-sal-noflow",
            "the same on colour alone, smaller and faster",
            SSTSal,
            fixed={"in_channels": 3},
            sizes={"published": {"hidden": 9}, "small": {"hidden": 4}},
            inputs="BGR in [0, 1], 240 x 320, 8 frames a second",
            conventions=_SST_CONVENTIONS,
            source=_SST_SOURCE,
            data="official weights: VR-EyeTracking (Xu et al., 2018) as its authors prepared it",
            licence=_NONE_STATED,
            limits=_SST_LIMITS,
            official="weights/SST_Sal_wo_OF.pth",
            official_settings={"convention": "upstream"},
            recipe="sst-sal-noflow",
        ),
        ModelCard(
            "uniform",
            "baseline: the same everywhere on the sphere",
            baselines.Uniform,
            inputs="nothing",
            limits="Knows nothing; what every score is worth without any knowledge.",
        ),
        ModelCard(
            "equator",
            "baseline: the same band around the horizon for every frame",
            baselines.Equator,
            inputs="nothing",
            limits="Never looks at the video. A model must beat it.",
        ),
        ModelCard(
            "equator-front",
            "baseline: the band around the horizon, denser in front",
            baselines.EquatorFront,
            inputs="nothing",
            limits="Never looks at the video, and trusts that viewers start out facing its middle.",
        ),
        ModelCard(
            "mean-map",
            "baseline: one map for all, the mean truth of other videos (give it by --weights)",
            baselines.MeanMap,
            inputs="nothing",
            limits="Never looks at the video. Uniform until a map is given.",
        ),
        ModelCard(
            "contrast",
            "baseline: boolean maps, regions that stand out in a still picture, plus the equator",
            baselines.BooleanMaps,
            inputs="RGB",
            limits="Blind to motion and meaning; a patterned ground is full of figures.",
        ),
        ModelCard(
            "motion",
            "baseline: where the picture changes, smoothed on the sphere, plus the equator",
            baselines.Motion,
            inputs="two frames",
            limits="Blind to still things; a moving camera moves everything.",
        ),
        ModelCard(
            "centre-of-motion",
            "baseline: one blob at the mean direction of all change, plus the equator",
            baselines.CentreOfMotion,
            inputs="two frames",
            limits="Between two moving things it looks where neither is.",
        ),
    )
}
NETWORKS = tuple(name for name, card in MODELS.items() if not card.is_baseline)
"""Those that are trained."""
