"""The benchmarks page's sections on a step of training, on a CPU and on a GPU."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import bold, small, table

TITLE, GPU_TITLE = "## A step of training", "## A step of training, on a GPU"
NOT_RUN = (
    f"{TITLE}\n\nNot run yet: `python -m benchmarks training`.\n",
    f"{GPU_TITLE}\n\nGPU: not run yet. `python -m benchmarks.training --gpu` measures every system "
    "at scale gpu in float32 and bf16, as it is and compiled, and writes the record from which "
    "this section is made.\n",
)

CORES = 2
BUSY = (
    "**Measured on a busy machine**: other programs waited for its cores all the time. What is by "
    "the clock, two threads and waiting, is too slow by what they took and says little about a "
    "quiet machine.",
    "",
)


def training(results: dict[str, Any]) -> str:
    """What the CPU's record says."""
    load = ", ".join(f"{part:g}" for part in results["load"])
    parts = [
        TITLE,
        "",
        "Forward, loss, backward, clipping, optimiser: the loop of `sal360.training.fit`, on a "
        "batch that is in memory; networks that are fed with their own maps make them in the step. "
        "*Of the roofline* is the time that the slower of operations / rate and bytes / bandwidth "
        "would take, both measured beside it, over the time it took; operations are counted, "
        "bytes estimated (`benchmarks/roofline.py`). Times of one thread are the processor's own, "
        "which a busy machine does not stretch; those of two are by the clock. *Peak* is of the "
        f"whole process. The load of the machine, of 2 cores, was {load} over the last 1, 5 and "
        "15 minutes.",
        "",
        *(BUSY if max(results["load"]) > CORES else ()),
        *_body(results),
    ]
    waits = results["waiting"]
    rows = [
        [how, f"{1000 * row['median_s']:.0f}", f"{row['waiting']:.0%}", f"{row['clips_per_s']:.1f}"]
        for how, row in waits["workers"].items()
    ]
    parts += [
        f"**Waiting for clips.** {waits['system']}, {waits['shape']}, worlds rendered while one "
        "waits, or kept in memory from the first epoch on, every process on one thread:",
        "",
        table(["", "ms a step", "waiting", "clips per second"], rows),
    ]
    return "\n".join(parts)


def training_gpu(results: dict[str, Any]) -> str:
    """What the GPU's record says."""
    return "\n".join(
        [
            GPU_TITLE,
            "",
            "As above, at scale gpu; the batch is fetched from pinned memory, and peak memory is "
            "the GPU's. What a recipe calls fp32 is done by the tensor cores: plain convolutions "
            "in TF32 by cuDNN (tf32), our sampled ones by three products in TF32 for one (tf32x3: "
            "a third of that rate). The roofline of a network is that of the fastest units it "
            "uses, which the table names. So what bf16 is compared with is TF32.",
            "",
            *_body(results),
            *_elsewhere(results),
        ]
    )


def _elsewhere(results: dict[str, Any]) -> list[str]:
    """What another run on such a card measured."""
    rows: dict[str, list[str]] = {}
    for column, found in results["columns"].items():
        for name, row in found["systems"].items():
            if "measured" in row:
                rows.setdefault(row["measured"], []).append(f"{name} ({column})")
    for name, tried in results["tries"].items():
        for day in {row["measured"] for row in tried.values() if "measured" in row}:
            rows.setdefault(day, []).append(f"what was tried on {name}")
    return [
        f"Measured in another run on such a card ({day}): {', '.join(names)}.\n"
        for day, names in rows.items()
    ]


def _body(results: dict[str, Any]) -> list[str]:
    parts = []
    for column, found in results["columns"].items():
        systems = found["systems"].items()
        rows = [[name, *_costs(row)] for name, row in systems if "not run" not in row]
        missing = [(name, row["not run"]) for name, row in systems if "not run" in row]
        if not rows:
            parts += [f"{bold(column)}.", "", *_missing(missing)]
            continue
        head = ["", "clips x frames x size", "ms", "clips/s", "frames/s", "of the roofline",
                "peak MB"]  # fmt: skip
        parts += [f"{bold(column)} ({_rates(found['rates'])})", "", table(head, rows)]
        parts += _missing(missing)
    parts += _where(results)
    parts += _tries(results["tries"])
    return parts


def _rates(rates: dict[str, Any]) -> str:
    products = ", ".join(
        f"{rate / 1e9:.0f} Gflop/s in {name}" for name, rate in rates["operations_per_s"].items()
    )
    return f"{rates['bytes_per_s'] / 1e9:.0f} GB/s copied, products: {products}"


def _missing(rows: list[tuple[str, str]]) -> list[str]:
    """A line for each reason why something was not run; a table's cell would be too narrow."""
    names: dict[str, list[str]] = {}
    for name, why in rows:
        names.setdefault(why, []).append(name)
    return [f"Not run: {', '.join(those)} ({why}).\n" for why, those in names.items()]


def _costs(row: dict[str, Any]) -> list[str]:
    return [
        row["shape"],
        f"{1000 * row['median_s']:.1f}",
        f"{row['clips_per_s']:.3g}",
        f"{row['frames_per_s']:.3g}",
        _share(row),
        f"{row['peak_mb']:.0f}",
    ]


def _share(row: dict[str, Any]) -> str:
    if "of_roofline" not in row:
        return "not run"
    shown = f"{row['of_roofline']:.1%}" if row["of_roofline"] >= 0.001 else "under 0.1%"
    units = f", {row['units']}" if "units" in row else ""
    return f"{shown} ({row['bound_by']}{units})"


def _where(results: dict[str, Any]) -> list[str]:
    """Phases and operators of the first column that was taken apart."""
    for column, found in results["columns"].items():
        systems = found["systems"].items()
        taken = {n: r for n, r in systems if "top" in r.get("operators", {}) and _whole(r)}
        if not taken:
            continue
        rows = [
            [
                name,
                *(f"{share:.0%}" for share in row["phases"].values()),
                f"{row['operators']['launches']:,}",
                ", ".join(
                    f"{one['name'].removeprefix('aten::')} {one['share']:.0%}"
                    for one in row["operators"]["top"][:3]
                ),
            ]
            for name, row in taken.items()
        ]
        kinds = list(next(iter(taken.values()))["phases"])
        head = ["", *kinds, "started", "most time in"]
        return [
            f"**Where the time goes** ({column}). *Started* are operators, on a GPU kernels, of "
            "one step; the last column is the profiler's, shares of the time in them.",
            "",
            table(head, rows),
        ]
    return []


def _whole(row: dict[str, Any]) -> bool:
    return "not run" not in row["phases"]


def _tries(tries: dict[str, Any]) -> list[str]:
    kinds = list(dict.fromkeys(what for found in tries.values() for what in found))
    if not kinds:
        return []
    rows = [[what, *(_tried(found.get(what, {})) for found in tries.values())] for what in kinds]
    every = [(f"{what} of {name}", row) for name, f in tries.items() for what, row in f.items()]
    reasons = {
        what: row["because"] for f in tries.values() for what, row in f.items() if "because" in row
    }
    return [
        "**What was tried.** Time of a clip, over that of a clip before: predicted by a formula "
        "that was written down first (`benchmarks/tries.py`), then measured.",
        "",
        table(["", *tries], rows),
        *(f"- {what}: {why}" for what, why in reasons.items()),
        "",
        *_missing([(name, row["not run"]) for name, row in every if "not run" in row]),
    ]


def _tried(row: dict[str, Any]) -> str:
    """Predicted and measured, as far as there are."""
    guess = f"{small(row['predicted'])}, " if "predicted" in row else ""
    return guess + (small(row["ratio"]) if "ratio" in row else "not run") if row else ""
