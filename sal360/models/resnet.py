"""ResNet with bottlenecks, in plain torch and under torchvision's names, so its weights load.

The network that CP-360 takes its class activation from. It knows nothing of cubes:
:func:`sal360.nn.to_cube_padded` makes it see six faces as one surface, with the same keys.
Chapter 08 pads it; chapter 15 reads its class activation.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; stride in the 3 x 3
convolution of a block, as torchvision has it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from sal360._check import positive_int
from sal360.datasets.download import DownloadError, RemoteFile, cache_folder, fetch_remote
from sal360.models.weights import read_weights

IMAGENET = "weights/resnet50-0676ba61.pth"
"""Where torchvision's ResNet-50, trained on ImageNet (``IMAGENET1K_V1``), lies in the cache."""
IMAGENET_SHA256 = "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"

EXPANSION = 4
"""A block has this many times more channels outside than inside."""


class Bottleneck(nn.Module):
    """1 x 1 down, 3 x 3, 1 x 1 up, and the input added."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A stem, four layers of bottlenecks, the mean over the picture, a linear classifier.

    Args:
        blocks: how many in each layer. width: channels inside the blocks of the first layer,
            twice as many in each following one. classes: of the classifier.
        strides: of the layers; the stem divides by 4 before. ``(1, 2, 2, 2)`` is the published
            one and divides by 32 in all.
    Shape:
        ``(N, 3, H, W)`` to ``(N, classes)``; :meth:`trunk` to ``(N, channels, H', W')``.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        classes: int = 1000,
        strides: Sequence[int] = (1, 2, 2, 2),
    ) -> None:
        super().__init__()
        for name, four in (("blocks", blocks), ("strides", strides)):
            if len(four) != 4:
                raise ValueError(f"{name}: {tuple(four)}, wanted four numbers")
        width = positive_int(width, "width")
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = width
        for n, (count, stride) in enumerate(zip(blocks, strides, strict=True), 1):
            planes = width * 2 ** (n - 1)
            layer = nn.Sequential()
            for k in range(positive_int(count, "blocks")):
                layer.append(Bottleneck(inputs, planes, stride if k == 0 else 1))
                inputs = EXPANSION * planes
            setattr(self, f"layer{n}", layer)
        self.channels = inputs
        self.fc = nn.Linear(inputs, positive_int(classes, "classes"))
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def trunk(self, x: Tensor) -> Tensor:
        """What the last layer sees, place by place: ``(N, channels, H', W')``."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        for n in range(1, 5):
            x = getattr(self, f"layer{n}")(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.trunk(x).mean((-2, -1)))
        return scores


def resnet50() -> ResNet:
    """ResNet-50 on 1000 classes: 320 entries in its state dict, torchvision's names."""
    return ResNet()


def fetch_imagenet(progress: bool = False) -> Path:
    """Path of torchvision's ResNet-50 on ImageNet (98 MB): from the cache, or downloaded by hash.

    The address is torchvision's own and read from there, where it is installed (Colab has it).
    Without it, put the file at :data:`IMAGENET` in the cache folder yourself.

    Raises:
        sal360.datasets.download.DownloadError: neither in the cache nor to be had.
    """
    kept = cache_folder() / IMAGENET
    try:
        from torchvision.models import ResNet50_Weights

        url = str(ResNet50_Weights.IMAGENET1K_V1.url)
    except (ImportError, RuntimeError):  # not there, or not made for this torch
        if not kept.is_file():
            raise DownloadError(
                f"{IMAGENET}: not in {cache_folder()}, and torchvision, which knows its address, "
                f"is not installed; a file put at {kept} by hand will do"
            ) from None
        url = ""
    licence = "BSD-3-Clause (torchvision); ImageNet's own terms for what was learned from it"
    return fetch_remote(RemoteFile(IMAGENET, IMAGENET_SHA256, url, licence), progress)


def read_imagenet(path: str | Path) -> dict[str, Tensor]:
    """Weights from a ``.pth`` or ``.safetensors`` file, without running anything in it.

    A name such as torchvision's ``resnet50-0676ba61.pth`` carries the first digits of the
    file's sha256; then they are checked.

    Raises:
        FileNotFoundError: no such file. ValueError: another hash than the name says; a file that
            is damaged, or older than torch's zip format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if promised := re.search(r"-([0-9a-f]{8,64})\.(pth|safetensors)$", path.name):
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(promised[1]):
            raise ValueError(
                f"{path}: sha256 {found[:8]}..., wanted {promised[1]}, as its name says"
            )
    if path.suffix != ".safetensors":
        with path.open("rb") as file:
            if file.read(2) == b"\x80\x02":
                raise ValueError(
                    f"{path}: torch's format of before 2020; write it anew with "
                    "torch.save(torch.load(path, weights_only=True), new_path)"
                )
    return read_weights(path)


def load_by_name(module: nn.Module, weights: Mapping[str, Tensor], origin: str = "weights") -> None:
    """Copy weights into a module; every name must have its place and every place its name.

    The counters of batch normalisation, which old files lack, may be missing.

    Raises:
        ValueError: unknown or missing names, other shapes; it names the first three of each, and
            nothing has been copied.
    """
    own = module.state_dict()
    problems = {
        "missing": [k for k in own if k not in weights and not k.endswith("num_batches_tracked")],
        "unknown": [k for k in weights if k not in own],
        "of another shape": [
            f"{k} {tuple(v.shape)}, wanted {tuple(own[k].shape)}"
            for k, v in weights.items()
            if k in own and own[k].shape != v.shape
        ],
    }
    told = [
        f"{len(names)} {what}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for what, names in problems.items()
        if names
    ]
    if told:
        raise ValueError(f"{origin}: {'; '.join(told)}")
    module.load_state_dict(dict(weights), strict=False)
