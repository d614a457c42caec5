"""Reading panoramas and cubemaps: how exact and how fast, beside OpenCV and two libraries.

py360convert and pyequilib are optional (``pip install -e '.[compare]'``); without them their
columns are left out. Conventions do not count as errors: each library's faces are matched to
ours by trying six faces and eight symmetries, and each is given its best of both lattices in
use, for the faces and for the panorama (pixels named by their centres, as here, or spread so that
the first and the last lie on the edge).
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import interleaved
from sal360 import projections, sphere

Array = np.ndarray[Any, Any]
H, S = 512, 256
"""Accuracy: panorama of ``H x 2H``, faces of ``S x S``, float32."""


def analytic(d: Tensor) -> Tensor:
    """A smooth function on the sphere, ``(..., 3)`` to ``(...)``, between -1.6 and 1.9."""
    x, y, z = torch.nn.functional.normalize(d, dim=-1).unbind(-1)
    return 0.5 * x + 0.7 * y * z + torch.sin(2 * x + y) + 0.3 * z**3


def library_versions() -> dict[str, str]:
    """Which of the compared libraries are here."""
    found = {"opencv": cv2.__version__}
    for name in ("py360convert", "pyequilib"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def ends_directions(size: int) -> Tensor:
    """Texels of faces whose first and last texel lie **on** the edge: ``(6, size, size, 3)``."""
    frames = projections.cube_directions(1)[:, 0, 0]
    inner = projections.cube_directions(size)
    depth = (inner * frames[:, None, None]).sum(-1, keepdim=True) * frames[:, None, None]
    return depth + (inner - depth) * (size / (size - 1))


# --- the same three operations in every library: numpy float32 in and out ---


def _cv_maps(row: Tensor, col: Tensor) -> tuple[Array, Array]:
    width = row.shape[-1]
    return (
        np.ascontiguousarray(col.reshape(-1, width).float().numpy()),
        np.ascontiguousarray(row.reshape(-1, width).float().numpy()),
    )


def _remap(image: Array, maps: tuple[Array, Array]) -> Array:
    return np.asarray(cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _framed(image: Array) -> Array:
    """A panorama with one pixel more on each side: over the seam, and over the poles."""
    turned = np.roll(image, image.shape[1] // 2, 1)
    tall = np.concatenate((turned[:1], image, turned[-1:]))
    return np.ascontiguousarray(np.concatenate((tall[:, -1:], tall, tall[:, :1]), 1))


def _stacked_padded(faces: Tensor) -> Array:
    """``(6, C, S, S)`` to six faces with their neighbours' texels around them, one on another."""
    from sal360.cubemap import _padded_texels

    size = faces.shape[-1]
    pixels, weights = _padded_texels(size)
    flat = faces.movedim(1, -1).reshape(6 * size * size, -1).double()
    padded = (flat[pixels] * weights[..., None]).sum(3)
    return np.ascontiguousarray(padded.reshape(6 * (size + 2), size + 2, -1).float().numpy())


def _erp_to_cube_calls(image: Tensor, size: int) -> dict[str, Callable[[], Any]]:
    """``image (3 or 1, H, W)`` to six faces; each library in its own layout."""
    height, width = image.shape[-2:]
    row, col = sphere.erp_pixel(projections.cube_directions(size), height, width)
    maps = _cv_maps(row + 1, col + 1)
    hwc = np.ascontiguousarray(image.movedim(0, -1).numpy())
    framed = _framed(hwc)
    calls: dict[str, Callable[[], Any]] = {
        "OpenCV remap": lambda: _remap(framed, maps),
        "sal360": lambda: projections.erp_to_cube(image[None], size),
    }
    if "py360convert" in library_versions():
        import py360convert

        calls["py360convert"] = lambda: py360convert.e2c(hwc, size, "bilinear", "list")
    if "pyequilib" in library_versions():
        import equilib

        level = {"roll": 0.0, "pitch": 0.0, "yaw": 0.0}
        numbers = image.numpy()
        calls["pyequilib, torch"] = lambda: equilib.equi2cube(image, level, size, "list")
        calls["pyequilib, numpy"] = lambda: equilib.equi2cube(numbers, level, size, "list")
    return calls


def _faces(result: Any, size: int) -> Array:
    """Whatever came back as ``(6, size, size)``, first channel."""
    if isinstance(result, Tensor):
        return result[0, :, 0].numpy()
    if isinstance(result, list):
        arrays = [np.asarray(f) for f in result]
        first = [f[0] if f.shape[0] in (1, 3) and f.ndim == 3 else f.reshape(size, size, -1)[..., 0]
                 for f in arrays]  # fmt: skip
        return np.stack(first)
    return np.asarray(result).reshape(6, size, size, -1)[..., 0]


def _symmetries(face: Array) -> list[Array]:
    flat = [np.rot90(face, k) for k in range(4)]
    return flat + [f.T for f in flat]


def _matching(faces: Array, wanted: Array) -> list[tuple[int, int]]:
    """For each face of ours, which of theirs and under which symmetry lies closest."""
    choice = []
    for target in wanted:
        errors = [
            (float(np.abs(turned - target).mean()), k, s)
            for k, face in enumerate(faces)
            for s, turned in enumerate(_symmetries(face))
        ]
        choice.append(min(errors)[1:])
    return choice


def _cube_to_erp_calls(
    faces: Tensor, height: int, matching: dict[str, list[tuple[int, int]]]
) -> dict[str, Callable[[], Any]]:
    """``faces (6, C, S, S)`` in our layout; each library gets them in its own."""
    size = faces.shape[-1]
    face, row, col = projections.cube_pixel(sphere.erp_directions(height, 2 * height), size)
    maps = _cv_maps(row + 1 + face * (size + 2), col + 1)
    padded = _stacked_padded(faces)
    calls: dict[str, Callable[[], Any]] = {
        "OpenCV remap": lambda: _remap(padded, maps),
        "sal360": lambda: projections.cube_to_erp(faces[None], height),
    }
    width = 2 * height
    if "py360convert" in matching:
        import py360convert

        listed = [np.ascontiguousarray(f.transpose(1, 2, 0))
                  for f in _in_their_layout(faces, matching["py360convert"])]  # fmt: skip
        calls["py360convert"] = lambda: py360convert.c2e(listed, height, width, "bilinear", "list")
    for name in ("pyequilib, torch", "pyequilib, numpy"):
        if name in matching:
            calls[name] = _equilib_back(faces, matching[name], height, name.endswith("torch"))
    return calls


def _equilib_back(
    faces: Tensor, match: list[tuple[int, int]], height: int, with_torch: bool
) -> Callable[[], Any]:
    import equilib

    theirs: list[Any] = _in_their_layout(faces, match)
    if with_torch:
        theirs = [torch.from_numpy(face) for face in theirs]
    return lambda: equilib.cube2equi(theirs, "list", height, 2 * height)


def _in_their_layout(faces: Tensor, matching: list[tuple[int, int]]) -> list[Array]:
    """Undo the symmetry that turned theirs into ours."""
    theirs: list[Array] = [np.empty(0)] * 6
    for ours, (k, s) in enumerate(matching):
        face = faces[ours].numpy()
        if s >= 4:
            face = face.transpose(0, 2, 1)
        theirs[k] = np.ascontiguousarray(np.rot90(face, -(s % 4), (1, 2)))
    return theirs


def _viewport_calls(image: Tensor, size: tuple[int, int]) -> dict[str, Callable[[], Any]]:
    """A camera of 90 degrees; sal360 also with a camera that turns, so that nothing is kept."""
    height, width = image.shape[-2:]
    yaw, pitch, fov = 0.3, 0.2, math.pi / 2
    rays = projections.viewport_directions(yaw, pitch, fov, size)
    row, col = sphere.erp_pixel(rays, height, width)
    maps = _cv_maps(row + 1, col + 1)
    hwc = np.ascontiguousarray(image.movedim(0, -1).numpy())
    framed = _framed(hwc)
    turn = iter(range(10**9))
    calls: dict[str, Callable[[], Any]] = {
        "OpenCV remap": lambda: _remap(framed, maps),
        "sal360, same camera": lambda: projections.erp_to_viewport(
            image[None], yaw, pitch, fov, size
        ),
        "sal360, new camera each time": lambda: projections.erp_to_viewport(
            image[None], yaw + 1e-6 * (1 + next(turn)), pitch, fov, size
        ),
    }
    if "py360convert" in library_versions():
        import py360convert

        vertical = 2 * math.degrees(math.atan(math.tan(fov / 2) * size[0] / size[1]))
        calls["py360convert"] = lambda: py360convert.e2p(
            hwc, (math.degrees(fov), vertical), math.degrees(yaw), math.degrees(pitch), size
        )
    if "pyequilib" in library_versions():
        import equilib

        gaze = {"roll": 0.0, "pitch": pitch, "yaw": yaw}
        calls["pyequilib, torch"] = lambda: equilib.equi2pers(image, gaze, *size, math.degrees(fov))
    return calls


# --- accuracy ---


def accuracy() -> dict[str, Any]:
    """Largest error against :func:`analytic`, in its own units."""
    erp = {
        "centres": sphere.erp_directions(H, 2 * H),
        "ends": sphere.lonlat_to_xyz(
            torch.linspace(-math.pi, math.pi, 2 * H).double(),
            torch.linspace(math.pi / 2, -math.pi / 2, H).double()[:, None],
        ),
    }
    cube = {"centres": projections.cube_directions(S), "ends": ends_directions(S)}
    results: dict[str, dict[str, Any]] = {}
    for name in _erp_to_cube_calls(torch.zeros(1, H, 2 * H), S):
        row: dict[str, Any] = {"ERP to cube": math.inf}
        least = math.inf
        for (lattice, d), (face_lattice, texels) in itertools.product(erp.items(), cube.items()):
            image, faces = analytic(d)[None].float(), analytic(texels).float()
            got = _faces(_erp_to_cube_calls(image, S)[name](), S)
            match = _matching(got, faces.numpy())
            ours = np.stack([_symmetries(got[k])[s] for k, s in match])
            worst = float(np.abs(ours - faces.numpy()).max())
            if worst < row["ERP to cube"]:
                row |= {"ERP to cube": worst, "its lattices": f"{lattice}, {face_lattice}"}
            back = _cube_to_erp_calls(faces[:, None], H, {name: match})[name]()
            error = np.abs(np.asarray(back).reshape(-1)[: 2 * H * H] - image.numpy().ravel())
            if float(np.median(error)) < least:
                least = float(np.median(error))
                near = _near_an_edge(d, S)
                row["cube to ERP, inside the faces"] = float(error[~near].max())
                row["cube to ERP, edges and corners"] = float(error[near].max())
                row["its lattices, back"] = f"{lattice}, {face_lattice}"
        results[name] = row
    image = analytic(erp["centres"])[None].float()
    results["sal360"] |= _only_ours(image[None])
    return {"panorama": f"{H} x {2 * H}", "faces": f"{S} x {S}", "largest error": results}


def _near_an_edge(d: Tensor, size: int) -> Array:
    """Directions whose neighbourhood in the cube does not lie within one face."""
    _, row, col = projections.cube_pixel(d, size)
    off = torch.maximum((row - (size - 1) / 2).abs(), (col - (size - 1) / 2).abs())
    return (off > (size - 1) / 2).flatten().numpy()


def _only_ours(image: Tensor) -> dict[str, float]:
    """Reads that the other libraries do not offer, or not across poles and seam."""
    lon = torch.tensor([180.0, -180, 179.999, -179.999, 0, 37]).double()
    lat = torch.tensor([90.0, -90, 89.99, -89.99, 0, 45]).double()
    awkward = sphere.lonlat_to_xyz(torch.deg2rad(lon)[:, None], torch.deg2rad(lat)).reshape(-1, 3)
    d = torch.cat((awkward, sphere.fibonacci_sphere(200_000)))
    corners = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]).double()
    cloud = torch.randn(8, 4000, 3, generator=torch.Generator().manual_seed(0)).double()
    around = (corners[:, None] + 0.004 * cloud).reshape(-1, 3)
    faces = analytic(projections.cube_directions(S)).float()[None, :, None]
    R = sphere.rotation_matrix(0.7, 0.9, -0.4)
    back = projections.rotate_erp(projections.rotate_erp(image, R), R.T)
    errors = {
        "any direction, poles and seam": projections.sample_erp(image, d)[0, 0] - analytic(d),
        "any direction, bicubic": projections.sample_erp(image, d, "bicubic")[0, 0] - analytic(d),
        "cube, around its corners": projections.sample_cube(faces, around)[0, 0] - analytic(around),
        "rotated there and back": back - image,
    }
    return {name: float(error.abs().max()) for name, error in errors.items()}


# --- speed ---


def speed(repeats: int = 11) -> dict[str, Any]:
    """Median times and ratios to OpenCV, one thread, 3 x 1024 x 2048 float32."""
    torch.manual_seed(0)
    image, faces = torch.rand(3, 1024, 2048), torch.rand(6, 3, 512, 512)
    truth = analytic(sphere.erp_directions(64, 128))[None].float()
    wanted = analytic(projections.cube_directions(32)).numpy()
    small = _erp_to_cube_calls(truth, 32)
    slow = "pyequilib, numpy"  # the torch half is the faster one, and the one to compare
    small.pop(slow, None)
    matching = {name: _matching(_faces(call(), 32), wanted) for name, call in small.items()}
    framed = _framed(np.ascontiguousarray(image.movedim(0, -1).numpy()))[1:-1, 1:-1].copy()
    rounds = {
        "panorama to 6 x 512": _erp_to_cube_calls(image, 512),
        "6 x 512 to panorama": _cube_to_erp_calls(faces, 1024, matching),
        "viewport 480 x 640": _viewport_calls(image, (480, 640)),
        "shrink to 240 x 480": {
            "OpenCV resize, INTER_AREA": lambda: cv2.resize(
                framed, (480, 240), interpolation=cv2.INTER_AREA
            ),
            "sal360, area": lambda: projections.downsample_erp(image[None], 240),
            "sal360, lanczos": lambda: projections.downsample_erp(
                image[None], 240, None, "lanczos"
            ),
        },
    }
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        for calls in rounds.values():
            calls.pop(slow, None)
        times = {name: interleaved(calls, repeats) for name, calls in rounds.items()}
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
    return {"image": "3 x 1024 x 2048 float32", "threads": 1, "times": times}


def run() -> dict[str, Any]:
    """Both tables."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other libraries' deprecations are not ours to mend
        return {"libraries": library_versions(), "accuracy": accuracy(), "speed": speed()}
