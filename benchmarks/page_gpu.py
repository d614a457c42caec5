"""The benchmarks page's section on a GPU's layers, from ``data/benchmarks/gpu_layers.json``."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import bold, table

TITLE = "## Convolutions on the sphere, on a GPU"
NOT_RUN = (
    f"{TITLE}\n\nGPU: not run yet. `python -m benchmarks.gpu_layers` measures the layer, every "
    "other way to compute it and the published scheme beside cuDNN in bf16 and float32, and beside "
    "the card's own bandwidth and rate, and writes the record from which this section is made.\n"
)


BEFORE = (
    "Of candidates without a number, memory was measured wrongly then (it counted what the others "
    "held) and has not been measured since; their share in float32 was taken of a rate without "
    "tensor cores, which cuDNN and the layer use, and is left out, too."
)


def section(results: dict[str, Any]) -> str:
    """All shapes, then the other layers and what failed."""
    rates = results["rates"]
    passed = [name for name, told in results["gradcheck"].items() if told == "gradcheck passed"]
    parts = [
        TITLE,
        "",
        "Forward and backward; the ratio is to cuDNN's 3 x 3 `conv2d` in bf16 with channels last, "
        "which knows no sphere. The roofline is an ideal kernel, which moves input, output and "
        f"weights once in each direction{_tf32(rates)}. Memory is what a pass holds beyond what "
        "was held before it. The error is the largest of value and gradients, relative "
        "to the CPU's in float64; what is wrong is not timed. Measured in the same run: "
        f"{rates['bytes_per_s'] / 1e9:.0f} GB/s copied, "
        f"{rates['bf16_operations_per_s'] / 1e12:.0f} Tflop/s in bf16 and "
        f"{rates['fp32_operations_per_s'] / 1e12:.0f} in float32 products. "
        f"Gradients in double precision: {len(passed)} of {len(results['gradcheck'])} layers pass.",
        "",
    ]
    if any("peak_mb" in t for row in results["shapes"].values() for t in row["times"].values()):
        parts += [BEFORE, ""]
    for title, row in results["shapes"].items():
        when = f" (measured on {row['measured']}, in another run)" if "measured" in row else ""
        parts += [bold(title) + when, "", _times(row), _failed(row)]
    others = results["others"]
    parts += [f"**Pooling and cubes**, {others['shape']}", "", _times(others), _failed(others)]
    return "\n".join(part for part in parts if part is not None)


def _times(row: dict[str, Any]) -> str:
    if not row["times"]:
        return "Nothing was timed.\n"
    errors, first = row.get("errors", {}), next(iter(row["times"]))
    lines = []
    for name, t in row["times"].items():
        told = "of_roofline" in t and ("units" in t or not name.endswith(", fp32"))
        share = f"{t['of_roofline']:.0%}" if told else ""
        peak = f"{t['pass_mb']:.0f}" if "pass_mb" in t else ""
        off = f"{errors[name]:.0e}" if name in errors else ""
        lines.append([name, f"{1000 * t['median_s']:.2f}", f"{t['ratio']:.2f}", share, peak, off])
    heads = ["", "ms", f"ratio to {first}", "of the roofline", "MB", "error"]
    empty = [i for i in range(3, 6) if not any(line[i] for line in lines)]
    kept = [i for i in range(6) if i not in empty]
    return table([heads[i] for i in kept], [[line[i] for i in kept] for line in lines])


def _tf32(rates: dict[str, Any]) -> str:
    if "tf32_operations_per_s" not in rates:
        return ""
    rate = rates["tf32_operations_per_s"] / 1e12
    return (
        f", in float32 at the rate of TF32 ({rate:.0f} Tflop/s), which cuDNN uses and the layer "
        "too, with three products for one"
    )


def _failed(row: dict[str, Any]) -> str | None:
    if not row["failed"]:
        return None
    return (
        "Not timed: " + "; ".join(f"{name} ({why})" for name, why in row["failed"].items()) + ".\n"
    )
