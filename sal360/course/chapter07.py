"""Chapter 07: faces to find, what a convolution keeps and takes, and the exercises."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sal360.course.checking import Case, ask, exercise
from sal360.patterns import Pattern, crown_pattern, ring_pattern, tangent_pattern
from sal360.resampling import apply_table, computing_dtype, erp_table_at
from sal360.sphere import (
    angle_between,
    erp_directions,
    lonlat_to_xyz,
    rotation_matrix,
    von_mises_fisher,
)

Layer = Callable[[Tensor, Tensor], Tensor]
"""``(image (B, I, H, W), weight (O, I, 3, 3)) -> (B, O, H, W)``: a tangent convolution."""


def faces(H: int, W: int, spots: Sequence[tuple[float, float]], size: float = 14.0) -> Tensor:
    """Equal smiling faces on a grey sphere, upright wherever they stand: ``(1, 1, H, W)``.

    Each is drawn in its own frame by asking every pixel for its direction, so none of them is
    cut by the seam or a pole.

    Args:
        H, W: size of the panorama. spots: row and column of each face's middle.
        size: radius of a face, degrees.
    Returns:
        float64 in [0, 1].
    """
    soft = 0.6 * 180 / H  # degrees; a little over half a row, so that edges do not alias
    picture = torch.full((H, W), 0.35, dtype=torch.float64)

    def inside(distance: Tensor) -> Tensor:
        return (0.5 - distance / soft).clamp(0, 1)

    grid = erp_directions(H, W)
    for row, col in spots:
        lon, lat = ((col + 0.5) / W - 0.5) * 2 * math.pi, (0.5 - (row + 0.5) / H) * math.pi
        mine = grid @ rotation_matrix(lon, lat)  # x right, y down, z out of the face
        x, y = torch.rad2deg(torch.atan2(mine[..., :2], mine[..., 2:])).unbind(-1)
        away = torch.hypot(x, y)
        head = inside(torch.rad2deg(angle_between(mine, lonlat_to_xyz(0.0, 0.0))) - size)
        ink = inside((away - 0.6 * size).abs() - 0.12 * size) * (y > 0.22 * size)
        for side in (-0.38, 0.38):
            eye = torch.hypot(x - side * size, y + 0.3 * size) - 0.2 * size
            ink = torch.maximum(ink, inside(eye))
        picture = picture * (1 - head) + head * (1 - ink)
    return picture[None, None]


def answered(
    rows: int, row: int, mode: Literal["planar", "bilinear", "bicubic"], between: float = 0.0
) -> float:
    """What a face finder answers in the middle of the only face of a panorama.

    Its kernel is the square of pixels around a face on the equator less their mean, scaled so
    that this face answers 1: 11 x 11 of them on 64 rows, the same angle on more.

    Args:
        rows: of the panorama, which is twice as wide. row: of the face's middle.
        mode: ``"planar"``, pixels beside each other, or how a tangent kernel reads, ``"bilinear"``
            or ``"bicubic"``. between: pixels by which the face stands further down and to the
            right; a tangent kernel goes there too, a planar one cannot.
    """
    H, W, middle, n = rows, 2 * rows, rows, 5 * rows // 64
    square = slice(H // 2 - n, H // 2 + n + 1), slice(middle - n, middle + n + 1)
    cut = faces(H, W, [(H // 2, middle)])[0, 0][square]
    kernel = cut - cut.mean()
    kernel = kernel / (kernel * cut).sum()
    picture = faces(H, W, [(row + between, middle + between)])
    if mode == "planar":
        return float(F.conv2d(picture, kernel[None, None], padding=n)[0, 0, row, middle])
    at, to = tangent_pattern(H, W, 2 * n + 1).pixels(row, middle)
    table = erp_table_at(at.flatten() + between, to.flatten() + between, H, W, mode)
    return float(apply_table(picture, table)[0, 0] @ kernel.flatten())


def kept(convolution: Callable[[Tensor], Tensor], image: Tensor) -> tuple[float, float]:
    """What autograd keeps for the way back, in multiples of the image's own bytes.

    Returns:
        images and tables: stores of tensors with a gradient (images, products, weights) and
        without one (indices and shares). One store counts once.
    """
    stores: dict[int, tuple[bool, int]] = {}

    def note(tensor: Tensor) -> Tensor:
        store = tensor.untyped_storage()
        stores[store.data_ptr()] = tensor.requires_grad, store.nbytes()
        return tensor

    image = image.detach().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = convolution(image)  # alive until we have counted
    one = image.numel() * out.element_size()
    images, tables = (
        sum(size for needs, size in stores.values() if needs == kind) / one
        for kind in (True, False)
    )
    return images, tables


def clocked(
    convolution: Callable[[Tensor], Tensor], image: Tensor, tries: int = 3
) -> tuple[float, float]:
    """Milliseconds there (the answer) and back (all gradients): the least of some tries."""
    image = image.detach().requires_grad_()
    there, back = [], []
    for _ in range(tries):
        start = time.perf_counter()
        total = convolution(image).sum()
        half = time.perf_counter()
        total.backward()
        there.append(1000 * (half - start))
        back.append(1000 * (time.perf_counter() - half))
    return min(there), min(back)


def moved(layer: Callable[[Tensor], Tensor], H: int, W: int) -> list[float]:
    """Pixels, to the hundredth, by which a layer moves the centre of a blob down and right.

    The blob stands at longitude -40, latitude -23, far from the edges, and is 9 degrees wide.
    """
    blob = von_mises_fisher(erp_directions(H, W), lonlat_to_xyz(-0.7, -0.4), 1 / 0.15**2)

    def centre(picture: Tensor) -> Tensor:
        grid = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
        return torch.stack([(picture * v).sum() / picture.sum() for v in grid])

    off = centre(layer(blob[None, None])[0, 0]) - centre(blob)
    return [round(v, 2) + 0.0 for v in off.tolist()]  # no minus zero


def _tangent_layer(image: Tensor, weight: Tensor, fault: str = "none") -> Tensor:
    """A 3 x 3 tangent convolution, right or with one fault planted. Exercises 07.4 and 07.6.

    Private: an answer to 07.4 that compares with each of the four has found nothing out.

    Args:
        image: ``(B, I, H, W)`` floating. weight: ``(O, I, 3, 3)``.
        fault: ``"none"``; ``"seam"``, the last column has nothing to its right but itself;
            ``"pole"``, taps that have crossed a pole come down on the near side of it;
            ``"mirror"``, left and right taps exchanged, as on a globe seen from outside.
    """
    H, W = image.shape[-2:]
    pattern = tangent_pattern(H, W)
    lon = pattern.lon
    if fault == "pole":  # the longitude from an arc tangent of one argument
        lon = torch.atan(torch.tan(lon))
    if fault == "mirror":
        lon = -lon
    row = ((0.5 - pattern.lat / math.pi) * H - 0.5)[:, None].expand(H, W, 9)
    col = (lon * (W / (2 * math.pi)))[:, None] + torch.arange(W).double()[:, None]
    if fault == "seam":  # negative indices wrap by themselves; those beyond the end do not
        col = torch.where(col < 0, col + W, col).clamp(max=W - 1)
    table = erp_table_at(row.flatten(), col.flatten(), H, W)
    exact = image.to(computing_dtype(image))
    seen = (exact.flatten(2)[:, :, table.pixels] * table.weights.to(exact)).sum(-1)
    seen = seen.unflatten(2, (H, W, 9))
    return torch.einsum("bihwk,oik->bohw", seen, weight.to(exact).flatten(2)).to(image.dtype)


class _ByHand(torch.autograd.Function):
    """A gradient that somebody wrote by hand. The answer is the right one, or mirrored."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, way: str) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.way = way
        return _tangent_layer(image, weight, "mirror" if way == "of another" else "none")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        if ctx.way == "flipped":  # what is right for a plane
            return _tangent_layer(grad, weight.flip(-1, -2).transpose(0, 1)), None, None
        with torch.enable_grad():
            image = torch.zeros_like(grad[:, :1]).repeat(1, weight.shape[1], 1, 1)
            image.requires_grad_()
            (right,) = torch.autograd.grad(_tangent_layer(image, weight), image, grad)
        if ctx.way in ("right", "of another"):
            return right, None, None
        if ctx.way == "moved":  # one column too far: no sum over the picture notices
            return right.roll(1, -1), None, None
        if ctx.way == "seam":  # what crosses it is lost on one side
            quarter = right.shape[2] // 4
            right[:, :, quarter : right.shape[2] - quarter, -1] *= 0.5
            return right, None, None
        if ctx.way == "exchanged":  # left and right taps
            with torch.enable_grad():
                (right,) = torch.autograd.grad(_tangent_layer(image, weight.flip(-1)), image, grad)
            return right, None, None
        beside = max(1, right.shape[2] // 8)  # rows that count as beside a pole
        if ctx.way == "north":  # the first rows a row too far up
            return torch.cat((right[:, :, 1 : beside + 1], right[:, :, beside:]), 2), None, None
        last = right.shape[2] - beside  # from here on a row too far down
        return torch.cat((right[:, :, :last], right[:, :, last - 1 : -1]), 2), None, None


def _layers(kind: str) -> list[tuple[str, Layer]]:
    """What is right and what is wrong, in the order in which the exercises try it.

    Args:
        kind: ``"answer"`` (07.4) or ``"gradient"`` (07.6).
    """

    def layer(fault: str) -> Layer:
        return lambda image, weight: _tangent_layer(image, weight, fault)

    def by_hand(way: str) -> Layer:
        def apply(image: Tensor, weight: Tensor) -> Tensor:
            return _ByHand.apply(image, weight, way)

        return apply

    def rounded(image: Tensor, weight: Tensor) -> Tensor:  # right to single precision
        return _tangent_layer(image.float(), weight.float()).to(image.dtype)

    if kind == "answer":
        order = ("none", "mirror", "seam", "none", "pole")
        return [(fault, layer(fault)) for fault in order] + [("none", rounded)]
    return [
        ("right", layer("none")),
        ("wrong", by_hand("flipped")),
        ("right", by_hand("right")),
        ("wrong", by_hand("shifted")),
        ("wrong", by_hand("moved")),
        ("wrong", by_hand("north")),
        ("wrong", by_hand("seam")),
        ("wrong", by_hand("exchanged")),
        ("right", layer("mirror")),  # for what it computes
        ("wrong", by_hand("of another")),
    ]


@exercise("07.1")
def multiplications(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(I, O, K) -> (read first, project first)``: multiplications for one output pixel."""
    for I, O, K in ((1, 1, 9), (16, 16, 9), (64, 64, 9), (64, 1, 9), (1, 64, 9), (42, 144, 32)):
        given = tuple(ask(answer, I, O, K))
        yield Case("two numbers", len(given) == 2, f"you gave {len(given)} of them")
        got = [float(v) for v in given]
        matmul = K * I * O
        wanted = [4 * K * I + matmul, matmul + 4 * K * O]
        for name, mine, right in zip(("read first", "project first"), got, wanted, strict=True):
            hint = ""
            if mine == matmul:
                hint = " (the four reads of every tap are multiplied as well)"
            elif mine == 4 * matmul:
                hint = " (the four pixels of a tap are added up before the next step)"
            elif got == wanted[::-1] and got != wanted:
                hint = " (exchanged?)"
            yield Case(
                f"multiplications when we {name}",
                mine == right,
                f"{I} channels to {O}, {K} taps: you gave {mine:g}, wanted {right}{hint}",
            )


@exercise("07.2")
def any_size(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(H, W, kh, kw) -> Pattern``: a tangent kernel of any size, odd or even."""
    for H, W, kh, kw in ((16, 32, 3, 3), (16, 32, 1, 1), (16, 32, 3, 5), (16, 32, 2, 2),
                         (15, 40, 4, 3), (24, 48, 2, 6)):  # fmt: skip
        got = ask(answer, H, W, kh, kw)
        what = f"{kh} x {kw} on {H} x {W}"
        yield Case("a Pattern", isinstance(got, Pattern), f"{what}: it gave {type(got).__name__}")
        asked = (got.H, got.W, got.shape, got.stride) == (H, W, (kh, kw), 1)
        yield Case("of the size and shape asked for", asked,
                   f"{what}: it is {got.shape} on {got.H} x {got.W}")  # fmt: skip
        up = ((kh - 1) / 2 - torch.arange(kh).double()) * math.pi / H
        right = (torch.arange(kw).double() - (kw - 1) / 2) * 2 * math.pi / W
        ahead = lonlat_to_xyz(right, up[:, None]).reshape(-1, 3)
        for row in (H // 2, 0, H - 1, H // 5):
            lat = (0.5 - (row + 0.5) / H) * math.pi
            wanted = ahead @ rotation_matrix(0.0, lat).T
            mine = got.directions(row, W / 2 - 0.5).reshape(-1, 3)  # at longitude 0
            off = torch.rad2deg(angle_between(mine, wanted))
            tap = int(off.argmax())
            yield Case(
                "every tap where the carried kernel has it",
                bool(off.max() < 1e-3),  # float32 will do
                f"{what}, row {row}: tap ({tap // kw}, {tap % kw}) is {off.max():.3g} degrees "
                f"from its place",
            )


@exercise("07.3")
def ring_as_crown(answer: Callable[..., Any]) -> Iterator[Case]:
    """``weight (O, I, 3, 3) -> (O, I, 2, 8)``: a ring's weights for a crown of two circles."""
    H, W = 12, 24
    image = torch.rand(1, 2, H, W, generator=torch.Generator().manual_seed(3)).double()
    seen = {
        "ring": ring_pattern(H, W).read(image),
        "crown": crown_pattern(H, W, (2, 8), math.pi / H).read(image),
    }
    names = ("upper left", "upper", "upper right", "left", "middle", "right", "lower left",
             "lower", "lower right")  # fmt: skip
    generator = torch.Generator().manual_seed(7)
    some = torch.randn(3, 2, 3, 3, generator=generator, dtype=torch.float64)
    for slot in (4, 7, 5, 1, 3, 8, 2, 0, 6, None):
        weight = some.clone()
        if slot is not None:
            weight = torch.zeros(1, 2, 9, dtype=torch.float64)
            weight[..., slot] = 1.0
            weight = weight.view(1, 2, 3, 3)
        got = torch.as_tensor(ask(answer, weight.clone())).double()
        which = "random weights" if slot is None else f"a one in the {names[slot]} slot"
        wanted = (*weight.shape[:2], 2, 8)
        yield Case("weights (O, I, 2, 8)", got.shape == wanted,
                   f"{which}: shape {tuple(got.shape)}, wanted {wanted}")  # fmt: skip
        ring = torch.einsum("bikhw,oik->bohw", seen["ring"], weight.flatten(2))
        crown = torch.einsum("bikhw,oik->bohw", seen["crown"], got.flatten(2))
        off = float((ring - crown).abs().max())
        hint = ""
        if slot == 4 and bool(torch.allclose(crown, 8 * ring)):
            hint = " (all eight taps of the inner circle are the centre)"
        yield Case("both convolutions answer the same", off < 1e-5,
                   f"{which}: they differ by up to {off:.2g}{hint}")  # fmt: skip


@exercise("07.4")
def find_the_fault(answer: Callable[..., Any]) -> Iterator[Case]:
    """``layer -> "none", "seam", "pole" or "mirror"``."""
    known = ("none", "seam", "pole", "mirror")
    layers = _layers("answer")
    for n, (fault, layer) in enumerate(layers, 1):
        got = ask(answer, layer)
        yield Case("one of the four words", got in known,
                   f"layer {n}: you gave {got!r}, wanted one of {', '.join(known)}")  # fmt: skip
        property = "a layer without a fault is called so" if fault == "none" else "a fault is named"
        truth = "has no fault" if fault == "none" else "has another fault"
        if n == len(layers):
            truth += ": it computes in single precision"
        truth = "has a fault" if got == "none" else truth
        yield Case(property, got == fault, f'layer {n}: you gave "{got}", and it {truth}')


@exercise("07.5")
def shares_of_the_cap(answer: Callable[..., Any]) -> Iterator[Case]:
    """``(Kt, Kp, radius) -> (Kt, Kp)``: what each tap of a crown counts; they sum to 1."""
    for Kt, Kp, degrees in ((2, 4, 30), (4, 8, 45), (8, 6, 90), (33, 8, 45), (33, 8, 120)):
        radius = math.radians(degrees)
        given = ask(answer, Kt, Kp, radius)
        got = torch.as_tensor(np.asarray(given, float) if not isinstance(given, Tensor) else given)
        got = got.double()
        what = f"{Kt} x {Kp}, radius {degrees} degrees"
        yield Case("a share for every tap", got.shape == (Kt, Kp),
                   f"{what}: shape {tuple(got.shape)}, wanted {(Kt, Kp)}")  # fmt: skip
        total = float(got.sum())
        yield Case("ones answer one", abs(total - 1) < 1e-5, f"{what}: they sum to {total:.6g}")
        least = float(got.min())
        yield Case("no share is negative", least >= 0, f"{what}: one is {least:.3g}")
        spread = float((got - got[:, :1]).abs().max())
        yield Case("taps of one circle count alike", spread < 1e-6,
                   f"{what}: on one circle shares differ by {spread:.2g}")  # fmt: skip
        edges = ((torch.arange(Kt + 1).double() - 0.5) * radius / (Kt - 1)).clamp(0, radius)
        wanted = (torch.cos(edges[:-1]) - torch.cos(edges[1:])) / (1 - math.cos(radius)) / Kp
        off = (got[:, 0] - wanted).abs()
        worst = int((off / wanted).argmax())
        hint = ""
        if float((got - 1 / (Kt * Kp)).abs().max()) < 1e-6:
            hint = " (all taps count alike)"
        elif float(got[0, 0]) == 0:
            worst = 0
            hint = " (the centre stands for a small disc, which has an area)"
        elif float(got[-1, 0] / got[-2, 0]) > 1.2 * float(wanted[-1] / wanted[-2]):
            worst = Kt - 1
            hint = " (it is the rim: half of its ring lies outside)"
        yield Case(
            "every circle has its share of the area",
            bool(off.max() < 1e-6),
            f"{what}: a tap of circle {worst} counts {float(got[worst, 0]):.6g}, wanted "
            f"{float(wanted[worst]):.6g}{hint}",
        )


@exercise("07.6")
def is_adjoint(answer: Callable[..., Any]) -> Iterator[Case]:
    """``layer -> bool``: whether its gradient in the image is the one of what it computes."""
    for n, (kind, layer) in enumerate(_layers("gradient"), 1):
        got = ask(answer, layer)
        right = kind == "right"
        yield Case(
            "a right gradient passes" if right else "a wrong gradient is caught",
            bool(got) == right,
            f"layer {n}: you gave {bool(got)}, and its gradient is {kind} for what it computes",
        )
