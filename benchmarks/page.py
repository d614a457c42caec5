"""The benchmarks page of the book, written from the records in data/ and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import (
    page_data,
    page_gpu,
    page_parity,
    page_scaling,
    page_systems,
    page_training,
)
from benchmarks.markdown import bold, small, table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "benchmarks.md"
RECORDS = ROOT / "data" / "benchmarks"

INTRO = """# Benchmarks

`make bench` measures everything on this page and writes it, with its records in `data/benchmarks`.
Candidates run in turn in one process; a time is the median of the rounds, a ratio the median of
the ratios within each round. Ratios travel between machines, times do not.
"""


def text() -> str:
    """The whole page as markdown."""
    parts = [INTRO]
    for name, write in SECTIONS.items():
        path = RECORDS / f"{name}.json"
        if path.is_file():
            record = json.loads(path.read_text("utf-8"))
            parts.append(write(record["results"]) + "\n" + _measured_on(record))
        else:
            parts.append(WAITING.get(name, f"## {name}\n\nNot run yet.\n"))
    parts.append(_chapters(json.loads((ROOT / "data/chapter_times.json").read_text("utf-8"))))
    return "\n".join(parts)


def write() -> Path:
    """Write ``book/benchmarks.md`` and the plot on it."""
    layers = RECORDS / "layers.json"
    if layers.is_file():
        scaling = json.loads(layers.read_text("utf-8"))["results"]["scaling"]
        (PAGE.parent / "_static" / "scaling.svg").write_bytes(draw_scaling(scaling))
    PAGE.write_text(text(), "utf-8")
    return PAGE


def _measured_on(record: dict[str, Any]) -> str:
    m = record["machine"]
    processor = m["processor"] if m["device"] == "cpu" else m["device"]
    return (
        f"Measured {record['date'][:10]} on {processor}, {m['cores']} cores, Python {m['python']}, "
        f"torch {m['torch'].split('+')[0]}"
        + (", memory kept between operations.\n" if m["tuned_allocator"] else ".\n")
    )


def _times(times: dict[str, Any], base: str) -> str:
    rows = [[name, f"{1000 * t['median_s']:.1f}", f"{t['ratio']:.2f}"] for name, t in times.items()]
    return table(["", "ms", f"ratio to {base}"], rows)


def _projections(results: dict[str, Any]) -> str:
    accuracy, speed = results["accuracy"], results["speed"]
    errors = accuracy["largest error"]
    versions = ", ".join(f"{name} {v}" for name, v in results["libraries"].items())
    columns = ["ERP to cube", "cube to ERP, inside the faces", "cube to ERP, edges and corners"]
    compared = [[name, *(f"{row[c]:.1e}" for c in columns)] for name, row in errors.items()]
    shared = (*columns, "its lattices", "its lattices, back")
    ours = [[k, f"{v:.1e}"] for k, v in errors["sal360"].items() if k not in shared]
    parts = [
        "## Projections: how exact",
        "",
        f"Largest error of a bilinear read against an analytic function on the sphere (values "
        f"between -1.6 and 1.9), panorama {accuracy['panorama']}, cube faces "
        f"{accuracy['faces']}, float32. Conventions do not count: each library is matched to its "
        "best order and orientation of faces and its best choice of where pixels lie. OpenCV "
        "reads from pictures that sal360 has padded with their true neighbours. "
        f"Libraries: {versions}.",
        "",
        table(["", *columns], compared),
        "What the other libraries do not offer, or not across seam and poles:",
        "",
        table(["sal360", "largest error"], ours),
        "## Projections: how fast",
        "",
        f"{speed['image']}, {speed['threads']} thread. OpenCV is given maps (and padded faces) "
        "that were made before; sal360 keeps what depends on sizes alone. Where pyequilib "
        "offers two halves, its torch half is timed, the faster one.",
        "",
    ]
    for name, times in speed["times"].items():
        parts += [bold(name), "", _times(times, "OpenCV")]
    return "\n".join(parts)


def _sphere_conv(results: dict[str, Any]) -> str:
    return "\n".join(
        [
            "## SST-Sal's published convolution",
            "",
            f"{results['shape']}, forward. The sampling pattern itself is built in "
            f"{1000 * results['pattern_build_s']:.1f} ms.",
            "",
            _times(results["forward"], "planar"),
        ]
    )


def _layers(results: dict[str, Any]) -> str:
    parts = [
        "## Convolutions on the sphere",
        "",
        "Forward and backward pass together. The ratio is to an ordinary 3 x 3 `conv2d` behind "
        "circular padding, of the same shape, in the same round; behind it the spread of a time, "
        "largest over smallest. Memory is the most that the tensors made during one pass hold at "
        "one time; tables are made once for a size and shared by layers. "
        '"Published" is the code of the papers as `sal360.upstream` rebuilds it, faults '
        "included; its crown convolution here builds all rows at once, which the original does "
        "not.",
        "",
    ]
    for name, threads in results["speed"].items():
        one, two = threads["1 thread"], threads["2 threads"]
        memory = results["memory"][name]
        rows = [
            [
                kind,
                f"{1000 * one[kind]['median_s']:.1f}",
                f"{one[kind]['ratio']:.2f}",
                f"{one[kind]['max_s'] / one[kind]['min_s']:.1f}",
                f"{two[kind]['ratio']:.2f}",
                f"{memory[kind]['peak_mb']:.0f}",
                f"{memory[kind]['tables_mb']:.0f}" if memory[kind]["tables_mb"] else "",
            ]
            for kind in one
        ]
        head = ["", "ms", "ratio", "spread", "ratio, 2 threads", "peak MB", "tables MB"]
        parts += [bold(name), "", table(head, rows)]
    unet = results["unet"]
    parts += [
        "**The seven crown convolutions of the Spherical U-Net, one image of 128 x 256.** The "
        "published code keeps the image patches of every row for the backward pass: "
        f"{unet['published_kept_mb'] / 1000:.1f} GB, counted from its grids. `CrownConv2d` keeps "
        f"inputs and outputs, {unet['kept_mb']:.0f} MB, and the largest layer needs "
        f"{unet['largest_layer_mb']:.0f} MB for its own passes; the tables of all seven sizes "
        f"take {unet['tables_mb']:.0f} MB, once.",
        "",
    ]
    parts += _scaling(results["scaling"])
    return "\n".join(parts)


def _scaling(results: dict[str, Any]) -> list[str]:
    names = {"pixels": "pixels", "channels": "channels (in and out)", "taps": "taps of the kernel"}
    rows = [
        [
            names[axis],
            f"{found['rows'][0]['at']} to {found['rows'][-1]['at']}",
            *(f"{found['exponents'][k]:.2f}" for k in EXPONENTS),
        ]
        for axis, found in results.items()
    ]
    return [
        "### How time and memory grow",
        "",
        "Exponents fitted to the logarithms: 1 means twice as much of it costs twice as much. "
        "`SphereConv2d` (sphere) and `CrownConv2d` (crown, radius pi/8) beside the ordinary "
        "convolution, each with as many taps, one thread.",
        "",
        table(["grows", "from, to", *EXPONENTS.values()], rows),
        "![Time and memory of an ordinary, a tangent and a crown convolution against pixels, "
        "channels and taps, on logarithmic axes, with the fitted powers](_static/scaling.svg)",
        "",
    ]


EXPONENTS = {
    "planar_ms": "time, planar",
    "sphere_ms": "time, sphere",
    "crown_ms": "time, crown",
    "planar_mb": "memory, planar",
    "sphere_mb": "memory, sphere",
    "crown_mb": "memory, crown",
}


def draw_scaling(results: dict[str, Any]) -> bytes:
    """The plot beside that table, an SVG that is the same every time."""
    import io

    from matplotlib import pyplot, rc_context
    from matplotlib.ticker import NullFormatter

    grey, colours = "#757b85", {"planar": "#0072b2", "sphere": "#d55e00", "crown": "#009e73"}
    quiet = {"svg.hashsalt": "sal360", "svg.fonttype": "none", "font.family": "sans-serif"}
    with rc_context(quiet | {"text.color": grey, "axes.edgecolor": grey, "axes.labelcolor": grey,
                             "xtick.color": grey, "ytick.color": grey}):  # fmt: skip
        figure, axes = pyplot.subplots(3, 2, figsize=(6, 8), layout="constrained")
        for line, (axis, found) in zip(axes, results.items(), strict=True):
            for panel, unit in zip(line, ("ms", "mb"), strict=True):
                for kind, marker in (("planar", "o"), ("sphere", "s"), ("crown", "^")):
                    x = [row["at"] for row in found["rows"]]
                    y = [row[f"{kind}_{unit}"] for row in found["rows"]]
                    power = found["exponents"][f"{kind}_{unit}"]
                    panel.loglog(x, y, marker=marker, color=colours[kind], ms=5,
                                 label=f"{kind} {power:.2f}")  # fmt: skip
                panel.legend(frameon=False, fontsize=11)
                panel.grid(alpha=0.25)
                panel.patch.set_alpha(0)
                panel.yaxis.set_minor_formatter(NullFormatter())
                panel.set_xlabel(axis, fontsize=12)
                panel.tick_params(labelsize=11)
            line[0].set_ylabel("time, ms", fontsize=12)
            line[1].set_ylabel("memory, MB", fontsize=12)
        figure.patch.set_alpha(0)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return buffer.getvalue()


LIMIT = 0.05
"""How far a layer on the sphere may be from commuting with a tilt."""


def _jump(found: dict[str, Any], k: int) -> str:
    rim = found.get("rim")
    return small(found[("seam", "pole")[k]]) + (f" ({small(rim[k])})" if rim else "")


def _equivariance(results: dict[str, Any]) -> str:
    rows = []
    for name, found in results["layers"].items():
        rows.append(
            [
                name,
                *(small(found[k]) for k in ("constant", "yaw")),
                *(small(t) for t in found["tilt"]),
                *(_jump(found, k) for k in (0, 1)),
                "" if found["adjoint"] is None else small(found["adjoint"]),
                small(found["gradient"]),
            ]
        )
    asked = ("SphereConv2d", "RingConv2d", "CrownConv2d")
    beyond = [
        f"{name} ({max(found['tilt']):.3f})"
        for name, found in results["layers"].items()
        if name.split(",")[0] in asked and max(found["tilt"]) > LIMIT
    ]
    first = next(iter(results["layers"].values()))
    tilts = [f"tilt {angle:g}°" for angle in first["tilts"]]
    head = ["", "constant", "yaw", *tilts, "seam", "poles", "adjoint", "gradient"]
    return "\n".join(
        [
            "## What layers keep of the sphere",
            "",
            f"`check_equivariance` on panoramas of {results['sizes']['erp']} and on cubes as "
            "fine as those; all 3 x 3 kernels carry one isotropic Laplacian, the crowns one "
            "centre minus surround. Numbers are relative, 0 is perfect; *tilt* is the rms "
            "difference between tilting first and last, *seam* and *poles* (of a cube: edges and "
            "corners) the jump there in units of the usual step between neighbours, *adjoint* "
            "and *gradient* are autograd's errors, and empty where a layer is not linear. "
            "In brackets, of a cube: the jump of a layer that knows the field beyond the edges, "
            "which the lattice makes by itself. Chapter 6 explains each.",
            "",
            table(head, rows),
            f"A layer on the sphere should be off by at most {LIMIT:g} under a tilt. Above that: "
            f"{', '.join(beyond) or 'none'}. RingConv2d is read bicubically unless told otherwise, "
            "the others bilinearly.\n",
        ]
    )


def _cube_pad(results: dict[str, Any]) -> str:
    parts = [
        "## Padding a cube",
        "",
        "Forward and backward of the padding alone; faces x channels x texels, width of the "
        "padding. The ratio is to padding with zeros. "
        + (
            "`CubePad2d` is a few lines of C here; *not compiled* is what it does, by torch's "
            "operators, where installing sal360 finds no compiler, and in other precisions than "
            "single and double."
            if results["compiled"]
            else "Installing sal360 found no compiler here: `CubePad2d` goes by torch's operators."
        ),
        "",
    ]
    convolution = results["with a 3 x 3 convolution, 1 thread"]
    one, two = results["1 thread"], results["2 threads"]
    for name, times in one.items():
        rows = [
            [
                kind,
                f"{1000 * row['median_s']:.2f}",
                f"{row['ratio']:.2f}",
                f"{row['max_s'] / row['min_s']:.1f}",
                f"{two[name][kind]['ratio']:.2f}",
            ]
            for kind, row in times.items()
        ]
        head = ["", "ms", "ratio", "spread", "ratio, 2 threads"]
        parts += [f"**{name}**", "", table(head, rows)]
    parts += [
        "The same before a 3 x 3 convolution of 64 channels on 56 x 56 texels, all of it timed, "
        "one thread:",
        "",
        _times(convolution, "zeros"),
    ]
    return "\n".join(parts)


WAITING = {
    "gpu_layers": page_gpu.NOT_RUN,
    "training": page_training.NOT_RUN[0],
    "training_gpu": page_training.NOT_RUN[1],
    "scaling": page_scaling.NOT_RUN,
}
"""What stands in for records that need a machine that has not been at hand."""


def _prediction(results: dict[str, Any]) -> str:
    rows = [[name, f"{row['frames_per_s']:.1f}"] for name, row in results["models"].items()]
    return "\n".join(
        [
            "## Prediction",
            "",
            f"{results['frames']} frames of {results['size']}, from RGB to densities.",
            "",
            table(["model", "frames per second"], rows),
        ]
    )


def _allocator(results: dict[str, Any]) -> str:
    return "\n".join(
        [
            "## Memory kept between operations",
            "",
            f"SST-Sal on {results['frames']} frames of {results['size']}, the network alone, with "
            "and without the settings of the Makefile.",
            "",
            _times(results["times"], "the first"),
        ]
    )


def _chapters(times: dict[str, Any]) -> str:
    devices = list(times)
    numbers = sorted({n for d in devices for n in times[d]["chapters"]})
    rows = [
        [str(int(n)), *(f"{times[d]['chapters'].get(n, float('nan')):.0f} s" for d in devices)]
        for n in numbers
    ]
    head = ["chapter", *(f"{d} ({times[d]['machine']['cores']} cores)" for d in devices)]
    note = "" if "T4" in times else "\nColab's T4: not run yet.\n"
    return "## Execution times of the chapters\n\n" + table(head, rows) + note


SECTIONS = {
    "projections": _projections,
    "layers": _layers,
    "cube_pad": _cube_pad,
    "equivariance": _equivariance,
    "parity": page_parity.section,
    "gpu_layers": page_gpu.section,
    "sphere_conv": _sphere_conv,
    "sst_sal": page_data.sst_sal,
    "gaze": page_data.gaze,
    "worlds": page_data.worlds,
    "loader": page_data.loader,
    "metrics": page_data.metrics,
    "flow": page_data.flow,
    "systems": page_systems.systems,
    "training": page_training.training,
    "training_gpu": page_training.training_gpu,
    "scaling": page_scaling.scaling,
    "streaming": page_scaling.streaming,
    "prediction": _prediction,
    "allocator": _allocator,
}
