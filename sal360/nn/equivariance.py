"""Ask any layer what it keeps of the sphere: constants, turns of the head, seams, gradients.

The one idea: *rotate, then compute* must equal *compute, then rotate*, and every answer here is
the size of the difference. The input is a sum of spherical harmonics, known in closed form, so
rotating it costs no interpolation; only the answer is read between its pixels, and what that
costs is measured every time on an operation that is equivariant exactly. Chapter 06 derives it.

The layer is never touched: a copy of it is asked, in double precision where it takes that.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sal360._check import ArrayLike, as_float64, positive_int, whole_number
from sal360.cubemap import cube_directions, cube_pixel
from sal360.nn.answers import Cube, Field, Panorama, count, kinds, ratio, rms
from sal360.nn.state import why_not_copied
from sal360.sphere import rotation_matrix

Layer = Callable[[Tensor], Tensor]
Grid = Literal["erp", "cube"]


@dataclass(frozen=True)
class Equivariance:
    """What :func:`check_equivariance` found; every number is relative, 0 is perfect.

    Attributes:
        name: of the layer. grid: ``"erp"`` or ``"cube"``.
        size: ``(H, W)`` of the input, ``out``: of the answer (of a face, for a cube).
        dtype: in which the layer answered.
        pixels: where a strided answer's pixels were taken to lie: ``"same"`` as the input's,
            ``"strided"`` (on every n-th input pixel) or ``"cells"`` (in the middle of n x n).
        constant: largest spread of the answer to a constant, biases aside.
        yaw: largest difference after turns about the vertical. belt: the same on a cube's side
            faces where U and D do not reach; None for a panorama, and where they reach all.
        tilts: angles in degrees. tilt: the rms difference after tilting by each.
        floor: what ``tilt`` would be for an operation without any fault.
        seam: largest rms jump of the answer across the seam (a cube: across an edge), in units
            of the usual step from one pixel to the next. pole: the same at the poles (corners).
        rim: what ``seam`` and ``pole`` would be on a cube if the layer knew the field beyond the
            edges exactly; None for a panorama, and for a layer that refuses larger faces.
        adjoint: ``|<A x, y> - <x, A' y>|`` with ``A'`` from autograd; None for a layer that is
            not linear (biases aside).
        gradient: autograd against a finite difference along one direction of the input.
        weights: the same along one direction of all parameters that learn; None without any.
        repeat: largest difference between two answers to one input. Above rounding the layer
            draws numbers or remembers, and the other lines hold that as well.
    """

    name: str
    grid: Grid
    size: tuple[int, int]
    out: tuple[int, int]
    dtype: torch.dtype
    pixels: str
    constant: float
    yaw: float
    tilts: tuple[float, ...]
    tilt: tuple[float, ...]
    floor: tuple[float, ...]
    seam: float
    pole: float
    adjoint: float | None
    gradient: float
    weights: float | None
    repeat: float
    belt: float | None
    rim: tuple[float, float] | None

    def table(self) -> list[tuple[str, str]]:
        """Rows of text: property and value; ``weights`` and ``repeat`` where there are any."""
        cube = self.grid == "cube"
        rims = self.rim or (None, None)
        rim = ["" if v is None else f" ({_text(v)} with an exact rim)" for v in rims]
        rounding = 1e4 * torch.finfo(self.dtype).eps
        leaks = self.belt is not None and self.yaw > rounding
        belt = f" ({_text(self.belt or 0)} where U and D do not reach)" if leaks else ""
        rows = [
            ("constant", _text(self.constant)),
            ("yaw", _text(self.yaw) + belt),
            *(
                (f"tilt {angle:g} degrees", f"{_text(found)} (floor {floor:.0e})")
                for angle, found, floor in zip(self.tilts, self.tilt, self.floor, strict=True)
            ),
            ("edges" if cube else "seam", _text(self.seam) + rim[0]),
            ("corners" if cube else "poles", _text(self.pole) + rim[1]),
            ("adjoint", "not linear" if self.adjoint is None else _text(self.adjoint)),
            ("gradient", _text(self.gradient)),
        ]
        if self.weights is not None:
            rows.append(("weights", _text(self.weights)))
        if self.repeat > rounding:
            told = "off when asked again: it draws or remembers, every line holds that"
            rows.append(("repeat", f"{_text(self.repeat)} {told}"))
        return rows

    def __str__(self) -> str:
        sizes = [" x ".join(map(str, s)) for s in (self.size, self.out)]
        faces = "6 x " if self.grid == "cube" else ""
        head = f"{self.name}, {faces}{sizes[0]}"
        head += "" if sizes[0] == sizes[1] else f" to {faces}{sizes[1]}, {self.pixels}"
        wide = max(len(name) for name, _ in self.table())
        lines = [f"  {name:<{wide}}  {value}" for name, value in self.table()]
        return "\n".join([f"{head}, {str(self.dtype).removeprefix('torch.')}", *lines])


def check_equivariance(
    layer: Layer,
    in_channels: int | None = None,
    H: int = 64,
    W: int = 128,
    tilts: ArrayLike = (30.0, 90.0),
    grid: Grid = "erp",
    seed: int = 0,
    axes: int = 4,
    degree: int = 8,
) -> Equivariance:
    """Measure how well a layer respects the sphere.

    Each answer is a ratio:

    - ``constant``: (max - min) of the answer to a constant, over the larger of the answer's own
      mean (less that of the answer to zero) and the rms answer to noise of the same size.
    - ``yaw``: largest difference between the answer to shifted noise and the shifted answer,
      over the rms answer. Shifts are whole pixels of the answer. A cube makes quarter turns,
      and its four side faces are compared: on U and D a kernel turns with its face, as one on
      a pole turns with its meridian. In a stack of glued layers that turn leaks over the upper
      and lower edges of the side faces, and is counted; faces that are not glued leak nothing.
      ``belt`` compares the two alike: it leaves out the rows of the side faces of which any
      texel changes when U and D do.
    - ``tilt``: rms over the sphere's area of ``layer(f o R^-1) - (layer f) o R^-1`` over that
      of ``layer f``, means aside, averaged over ``axes`` horizontal axes. ``f`` is a sum of
      spherical harmonics of degrees 1 to ``degree``; the answer is read by interpolation of
      order 6 (4 in the faces of a cube). ``floor`` is the same for the field's exact Laplacian:
      about 5e-6 at 64 x 128 and 1e-7 at 128 x 256 for an answer as fine as its input, 2e-4 at
      stride 2 on 64 x 128, 4e-4 on faces of 32 texels. A kink is read less well: ReLU, which is
      equivariant exactly, is found .01 off at 64 x 128. A kernel that is not isotropic fails by
      right: there is no up that all rotations keep.
    - ``seam``, ``pole``: the answer to ``f`` is extrapolated to the seam from both sides, to a
      pole along every meridian, to an edge or corner of the cube in each of its faces; the rms
      difference, over the rms step between neighbours. Well below 1 there is nothing to see;
      above it there is an edge. Kernels that are not isotropic jump at a pole by right. So does
      any kernel at an edge of a cube, where its taps bend with the lattice: a Laplacian without
      a fault by 2.5 on faces of 64. ``rim`` is this number, to hold the others against: the
      layer is asked on faces twice as wide, which go on in their own planes, and the middle of
      its answer is kept. It holds for layers that look no further than half a face, and not at
      how large their faces are. Kernels that are not isotropic may be below it by accident.
    - ``adjoint``, ``gradient`` and ``weights``: of the answer to noise. All parameters move at
      once, each by its own rms (one that is 0 by 1), and those that are frozen stay.
    - ``repeat``: between two answers to noise, over the rms answer.

    Args:
        layer: a module or function, ``(1, C, H, W)`` to ``(1, C', H', W')``, with H' and W' the
            same, or fewer or more by whole factors. For a cube ``(1, 6, C, S, S)`` or ``(6, C,
            S, S)`` to the same with C', S', faces F R B L U D; both are tried. Modules are
            copied, put in evaluation mode and in double precision; where they refuse that,
            they are asked in their own. Functions are asked as they are.
        in_channels: C; the layer's own ``in_channels`` (or that of its first part which has
            one), else 1, unless given.
        H, W: size of the panorama, at least 8 x 8. A cube has faces of ``S = W / 4``.
        tilts: a sequence of angles in degrees, 0 to 180. grid: ``"erp"`` or ``"cube"``.
        seed: of the field, the noise and the axes; the state of torch's generators is kept.
        axes: over how many horizontal axes a tilt is averaged.
        degree: of the finest harmonic: about ``2 pi / degree`` radians from crest to crest.
    Returns:
        An :class:`Equivariance`, which prints as a table.
    Raises:
        TypeError: no layer, or one that cannot be copied. ValueError: a layer that refuses the
            input, or whose answer has another rank, batch or size, NaN or infinite values, or is
            not of floating numbers; a layer on a device without numbers.
    """
    H, W = _size(layer, H, W, grid)
    channels = _channels(layer) if in_channels is None else positive_int(in_channels, "in_channels")
    axes, degree = positive_int(axes, "axes"), positive_int(degree, "degree")
    seed, angles = whole_number(seed, "seed"), _angles(tilts)
    with _undisturbed(layer):
        source = torch.Generator().manual_seed(seed)
        S = W // 4
        shape = (1, channels, H, W) if grid == "erp" else (6, channels, S, S)
        noise = torch.randn(shape, generator=source, dtype=torch.float64)
        ask = _Asked(layer, noise)
        answer = ask(noise)
        size, out = shape[-2:], (int(answer.shape[-2]), int(answer.shape[-1]))
        spread = rms(answer - answer.mean((0, 2, 3), keepdim=True))
        repeat = ratio((ask(noise) - answer).abs().max(), spread)

        level = torch.randn(channels, generator=source, dtype=torch.float64)
        level = (level / rms(level))[None, :, None, None].expand(shape)
        constant = _constant(ask(level), ask(torch.zeros(shape)), spread)
        yaw, belt = (_yaw if grid == "erp" else _quarters)(ask, noise, answer, spread)

        pixels_of = Panorama if grid == "erp" else Cube
        field = Field(channels, degree, source)
        where = pixels_of("same", size, size).directions
        turns = [_tilts(angle, axes, source) for angle in angles]
        still = ask(field(where))
        moved = [[ask(field(where @ R)) for R in group] for group in turns]
        tried = [
            _tilt(pixels_of(kind, size, out), field, still, moved, turns)
            for kind in kinds(size, out)
        ]
        pixels, tilt, floor = min(tried, key=lambda one: sum(one[1]))
        seam, pole = (ratio(jump, pixels.step(still)) for jump in pixels.jumps(still))
        rim = _beyond(ask, field, pixels) if isinstance(pixels, Cube) else None
        adjoint, gradient = _derivatives(ask, noise, source)
        weights = _along_the_weights(ask, noise, source)

    name = type(layer).__name__ if isinstance(layer, nn.Module) else _name(layer)
    return Equivariance(
        name, grid, size, out, ask.answers, pixels.kind, constant, yaw, angles, tilt, floor, seam,
        pole, adjoint, gradient, weights, repeat, belt, rim,
    )  # fmt: skip


def _size(layer: Layer, H: int, W: int, grid: Grid) -> tuple[int, int]:
    if not callable(layer):
        raise TypeError(f"layer: {type(layer).__name__}, wanted a module or a function")
    if grid not in ("erp", "cube"):
        raise ValueError(f"grid: {grid!r}, wanted 'erp' or 'cube'")
    H, W = positive_int(H, "H"), positive_int(W, "W")
    for name, found in (("H", H), ("W", W)):
        if found < 8:
            raise ValueError(f"{name}: {found}, wanted at least 8")
    if grid == "cube" and W % 4:
        raise ValueError(f"W: {W}, wanted a multiple of 4: a cube's faces are W / 4 wide")
    return H, W


def _angles(tilts: ArrayLike) -> tuple[float, ...]:
    degrees = as_float64(tilts, "tilts")
    if degrees.ndim != 1:
        raise ValueError(f"tilts: {tilts!r}, wanted a sequence of degrees, such as (30, 90)")
    angles = tuple(degrees.tolist())
    if not all(0 <= angle <= 180 for angle in angles):
        raise ValueError(f"tilts: {angles}, wanted degrees from 0 to 180")
    return angles


class _Asked:
    """The copy that answers: float64 in, float64 out, whatever happens between.

    Attributes:
        dtype: in which the layer takes the question. answers: in which it answers.
        faces: it wants ``(1, 6, C, S, S)``.
    """

    def __init__(self, layer: Layer, x: Tensor) -> None:
        own = next((t.dtype for t in _tensors(layer) if t.is_floating_point()), torch.float32)
        self.device = next((t.device for t in _tensors(layer)), torch.device("cpu"))
        if self.device.type == "meta":
            raise ValueError("layer: on meta, wanted a device with numbers")
        refusals: list[str] = []
        for self.dtype in dict.fromkeys((torch.float64, own)):
            self.layer = _copied(layer, self.dtype)
            for self.faces in (True, False) if len(x) == 6 else (False,):
                try:
                    with torch.no_grad():
                        answer = self.raw(self.given(x))
                except Exception as error:  # whatever a foreign layer may raise is its refusal
                    refusals.append(str(error).strip().split("\n")[0])
                    reason = error
                    continue
                _check_answer(answer, x, self.faces)
                self.answers = answer.dtype
                return
        said = "; ".join(dict.fromkeys(refusals))
        raise ValueError(f"layer: refuses an input of shape {tuple(x.shape)} ({said})") from reason

    def given(self, x: Tensor) -> Tensor:
        """A copy, which the layer may overwrite, where and as the layer wants it."""
        return x.to(self.device, self.dtype, copy=True)

    def raw(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C', H', W')`` in the layer's own dtype, with its graph."""
        if not self.faces:
            return self.layer(x)
        answer = self.layer(x[None])
        return answer[0] if isinstance(answer, Tensor) and answer.shape[:1] == (1,) else answer

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            answer = self.raw(self.given(x)).cpu().double()
        if not bool(answer.isfinite().all()):
            raise ValueError("layer: answers NaN or infinite values, wanted finite numbers")
        return answer


def _check_answer(answer: Any, x: Tensor, faces: bool) -> None:
    if not isinstance(answer, Tensor):
        raise ValueError(f"layer: answers with {type(answer).__name__}, wanted a tensor")
    if not answer.is_floating_point():
        raise ValueError(f"layer: answers with {answer.dtype}, wanted floating numbers")
    found, wanted = tuple(answer.shape), "(1, C', H', W')" if len(x) == 1 else "(6, C', S', S')"
    if answer.ndim != 4 or found[0] != len(x) or 0 in found:
        before = " of its first and only cube" if faces else ""
        raise ValueError(f"layer: answers with shape {found}{before}, wanted {wanted}")
    if min(found[-2:]) < 6:
        raise ValueError(
            f"layer: answers with {found[-2]} x {found[-1]} pixels, wanted at least 6 x 6: "
            "choose a larger H and W"
        )
    kinds((x.shape[-2], x.shape[-1]), (found[-2], found[-1]))


def _tilts(angle: float, axes: int, source: torch.Generator) -> list[Tensor]:
    """Rotations by one angle (degrees) about horizontal axes at random bearings."""
    bearings = torch.rand(axes, generator=source, dtype=torch.float64) * 2 * math.pi
    nod = rotation_matrix(0.0, math.radians(angle))
    return [rotation_matrix(b) @ nod @ rotation_matrix(-b) for b in bearings]


def _tilt(
    pixels: Panorama | Cube,
    field: Field,
    still: Tensor,
    moved: list[list[Tensor]],
    turns: list[list[Tensor]],
) -> tuple[Panorama | Cube, tuple[float, ...], tuple[float, ...]]:
    """Mean over the axes of |compute(turn) - turn(compute)| / |compute|, and its floor."""
    area = pixels.area / (pixels.area.sum() * len(still))

    def size(x: Tensor) -> Tensor:
        return (x.square() * area).sum().sqrt()

    exact = field(pixels.directions, laplacian=True)
    centred = still - (still * area).sum((0, 2, 3), keepdim=True)
    channels = (still.shape[1], exact.shape[1])
    rounding = 1e-12 * float(size(still))  # a constant is read back to rounding, and has no size
    tilt, floor = [], []
    for answers, group in zip(moved, turns, strict=True):
        off = 0.0
        off_exact = 0.0
        for answer, R in zip(answers, group, strict=True):
            read, read_exact = pixels.turned(torch.cat((still, exact), 1), R).split(channels, 1)
            off += ratio(size(answer - read), size(centred), rounding)
            there = field(pixels.directions @ R, laplacian=True)
            off_exact += ratio(size(there - read_exact), size(exact))
        tilt.append(off / len(group))
        floor.append(off_exact / len(group))
    return pixels, tuple(tilt), tuple(floor)


def _constant(answer: Tensor, zero: Tensor, spread: Tensor) -> float:
    mean = (answer.mean((0, 2, 3)) - zero.mean((0, 2, 3))).abs()
    range_ = answer.amax((0, 2, 3)) - answer.amin((0, 2, 3))
    sizes = torch.maximum(mean, spread)
    return max(ratio(r, s) for r, s in zip(range_, sizes, strict=True))


def _yaw(ask: _Asked, noise: Tensor, answer: Tensor, spread: Tensor) -> tuple[float, None]:
    """Errors of turns by whole pixels of the answer."""
    worst = torch.zeros((), dtype=torch.float64)
    W, w = noise.shape[-1], answer.shape[-1]
    steps = min(W, w)
    for shift in sorted({1, 2, 5, steps // 3, steps // 2}):
        off = ask(noise.roll(shift * W // steps, -1)) - answer.roll(shift * w // steps, -1)
        worst = torch.maximum(worst, off.abs().max())
    return ratio(worst, spread), None


def _quarters(
    ask: _Asked, noise: Tensor, answer: Tensor, spread: Tensor
) -> tuple[float, float | None]:
    """Errors of quarter turns: of all texels of the sides, and of the rows that see only sides."""
    S, off = noise.shape[-1], torch.zeros_like(answer[:4])
    texels = noise.transpose(0, 1).flatten(1)
    for quarter in (1, 2, 3):
        R = rotation_matrix(quarter * math.pi / 2)
        face, row, col = cube_pixel(cube_directions(S) @ R, S)
        index = (face * S + row.round().long()) * S + col.round().long()
        turned = texels[:, index].transpose(0, 1)
        off = torch.maximum(off, (ask(turned)[:4] - answer[:4].roll(quarter, 0)).abs())
    rounding = 1e4 * torch.finfo(ask.answers).eps * spread
    alone = torch.ones(answer.shape[-2], dtype=torch.bool)
    for gain in (10, -10):  # a maximum shows the one, or the other
        other = torch.cat((noise[:4], gain * noise[4:].abs()))
        alone &= ((ask(other) - answer)[:4].abs() <= rounding).all(0).all(0).all(-1)
    belt = ratio(off[:, :, alone].max(), spread) if bool(alone.any()) else None
    return ratio(off.max(), spread), belt


def _beyond(ask: _Asked, field: Field, pixels: Cube) -> tuple[float, float] | None:
    """The jumps that are left where faces go on beyond their edges, as far again as they are wide.

    They go on by whole texels of the answer, which then lie where they did.
    """
    S, out = pixels.S, pixels.out[0]
    step = max(1, S // out)
    more = -(-S // (2 * step)) * step
    place = (2 * (count(S + 2 * more) - more) + 1 - S) / S
    v, u = torch.meshgrid(place, place, indexing="ij")
    xyz = pixels.on_faces(u, v)
    try:
        answer = ask(field(xyz / torch.linalg.vector_norm(xyz, dim=-1, keepdim=True)))
    except Exception:  # whatever a foreign layer may raise: it wants faces of one size
        return None
    over = more * out // S
    if answer.shape[-2:] != (out + 2 * over, out + 2 * over):
        return None
    inner = answer[..., over : over + out, over : over + out]
    edges, corners = (ratio(jump, pixels.step(inner)) for jump in pixels.jumps(inner))
    return edges, corners


def _derivatives(ask: _Asked, noise: Tensor, source: torch.Generator) -> tuple[float | None, float]:
    """Errors of the adjoint (None if there is none) and of the gradient."""
    other = torch.randn(noise.shape, generator=source, dtype=torch.float64)
    epsilon = max(torch.finfo(dtype).eps for dtype in (ask.dtype, ask.answers))
    zero = ask(torch.zeros_like(noise))
    image = ask(noise) - zero

    def pulled_back(y: Tensor) -> Tensor:
        with torch.enable_grad():
            x = ask.given(noise).requires_grad_()
            answer = ask.raw(x.clone())
            if not answer.requires_grad:  # nothing arrives
                return torch.zeros_like(noise)
            (grad,) = torch.autograd.grad(answer, x, y.to(answer), allow_unused=True)
        return torch.zeros_like(noise) if grad is None else grad.cpu().double()

    adjoint = None
    apart = ask(other - 2 * noise) - zero - (ask(other) - zero - 2 * image)
    if rms(apart) <= 1e4 * epsilon * rms(image):
        square = image.square().sum()
        adjoint = ratio(((noise * pulled_back(image)).sum() - square).abs(), square)
    h = epsilon ** (1 / 3)
    slope = (ask(noise + h * other) - ask(noise - h * other)) / (2 * h)
    square = slope.square().sum()
    gradient = ratio(((other * pulled_back(slope)).sum() - square).abs(), square)
    return adjoint, gradient


def _along_the_weights(ask: _Asked, noise: Tensor, source: torch.Generator) -> float | None:
    """Error of the gradient along one direction of the copy's parameters."""
    layer = ask.layer
    learned = list(layer.parameters()) if isinstance(layer, nn.Module) else []
    learned = [p for p in learned if p.requires_grad and p.numel()]
    if not learned:
        return None
    start, along = [p.detach().clone() for p in learned], []
    for p in start:
        exact = torch.complex128 if p.is_complex() else torch.float64
        d = torch.randn(p.shape, generator=source, dtype=exact).to(p)
        along.append(d * (rms(p.abs()) or 1))
    dtypes = ask.dtype, ask.answers, *(p.dtype for p in learned)
    h = max(torch.finfo(dtype).eps for dtype in dtypes) ** (1 / 3)

    def at(step: float) -> Tensor:
        for p, begin, d in zip(learned, start, along, strict=True):
            p.copy_(begin + step * d)
        return ask(noise)

    slope = (at(h) - at(-h)) / (2 * h)
    at(0)
    square = slope.square().sum()
    with torch.enable_grad():
        answer = ask.raw(ask.given(noise))
        grads: Sequence[Tensor | None] = [None]
        if answer.requires_grad:
            grads = torch.autograd.grad(answer, learned, slope.to(answer), allow_unused=True)
    found = torch.zeros((), dtype=torch.float64)
    for grad, d in zip(grads, along, strict=False):
        if grad is not None:
            found += (grad * d.conj()).real.sum().cpu().double()
    return ratio((found - square).abs(), square)


def _tensors(layer: Layer) -> Iterator[Tensor]:
    if isinstance(layer, nn.Module):
        yield from layer.parameters()
        yield from layer.buffers()


def _copied(layer: Layer, dtype: torch.dtype) -> Layer:
    """A module's copy, in evaluation mode and, for float64, in double; a function as it is."""
    if not isinstance(layer, nn.Module):
        return layer
    try:
        twin = copy.deepcopy(layer).eval()
    except Exception as error:  # whatever its parts may raise
        said = why_not_copied(layer, error)
        raise TypeError(
            f"layer: cannot be copied ({said}), wanted a module that copy.deepcopy takes, or a "
            "function"
        ) from error
    return twin.double() if dtype == torch.float64 else twin


def _channels(layer: Layer) -> int:
    if not isinstance(layer, nn.Module):
        return 1
    found = (getattr(part, "in_channels", None) for part in layer.modules())
    return next((n for n in found if isinstance(n, int)), 1)


def _name(layer: Layer) -> str:
    return str(getattr(layer, "__name__", type(layer).__name__))


def _text(value: float) -> str:
    return "exact" if value == 0 else f"{value:.2g}" if value >= 1e-3 else f"{value:.0e}"


@contextmanager
def _undisturbed(layer: Layer) -> Iterator[None]:
    """Autograd works inside, and torch's generators stand afterwards as before."""
    devices = {t.device.index or 0 for t in _tensors(layer) if t.device.type == "cuda"}
    with torch.random.fork_rng(sorted(devices)), torch.inference_mode(False), torch.no_grad():
        yield
