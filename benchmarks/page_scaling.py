"""The section of the page about training on several processes."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import table

TITLE = "## Training on several processes"
NOT_RUN = f"""{TITLE}

Not run yet. `python -m benchmarks scaling` measures one process for each GPU, or for each core.
"""


def scaling(results: dict[str, Any]) -> str:
    """Clips per second and efficiency by number of processes; the price of agreeing."""
    gpus = results["backend"] == "nccl"
    unit = "GPU" if gpus else "process"
    counts = [k for k in next(iter(results["systems"].values()))["clips_per_s"] if k != "apart"]
    head = ["", "batch", "gradients, MB", "clips/s, 1"]
    for n in counts[1:]:
        head += [f"clips/s, {n}", f"efficiency, {n}"]
    beside = any(row["apart"] is not None for row in results["systems"].values())
    head += ["efficiency, 2 apart"] if beside else []
    rows = []
    for name, row in results["systems"].items():
        cells = [name, row["shape"], f"{row['gradients_mb']:.2f}", f"{row['clips_per_s']['1']:.2f}"]
        for n in counts[1:]:
            cells += [f"{row['clips_per_s'][n]:.2f}", f"{row['efficiency'][n]:.0%}"]
        if beside:
            cells.append("" if row["apart"] is None else f"{row['apart']:.0%}")
        rows.append(cells)
    worst = max(max(row["spread"].values()) for row in results["systems"].values())
    parts = [
        TITLE,
        "",
        f"The same step, the same batch, shared out: one {unit} against several, "
        f"{'NCCL' if gpus else 'gloo, one thread each'}. Efficiency is how much faster, over the "
        "number of processes, within one round; *apart* are two processes that do the same halves "
        "and share nothing but the machine, so what lies between the two columns is the price of "
        f"agreeing. Largest over smallest rate of one entry in {results['rounds']} rounds: "
        f"{worst:.2f}.",
        "",
        table(head, rows),
    ]
    if not gpus and results["load"] > 0.5:
        parts += [
            f"**Measured on a busy machine**: other programs kept {results['load']:.1f} processes "
            f"running or waiting on its {results['cores']} cores, so these numbers are noisy, and "
            "say little about a quiet one.",
            "",
        ]
    if results["sums"]:
        keys = list(next(iter(results["sums"].values())))
        ways = [[n, *(f"{found[key]:.1f}" for key in keys)] for n, found in results["sums"].items()]
        parts += [
            "Milliseconds to sum the gradients of the widest network here, the Spherical U-Net at "
            "its full width, alone, and of a whole forward and backward pass (one picture of "
            "32 x 64, so that the sum weighs most) when gradients are summed after it, as "
            "`sal360` does, or while it runs, as DistributedDataParallel does:",
            "",
            table([unit + ("s" if gpus else "es"), "MB", *keys[1:]], ways),
        ]
    if not gpus:
        parts.append("Several GPUs: not run yet.\n")
    return "\n".join(parts)


def streaming(results: dict[str, Any]) -> str:
    """What an epoch over films costs that the store cannot all hold."""
    base = results["seconds"]["no store"]
    rows = [
        [name, f"{seconds:.1f}", f"{seconds / base:.2f}"]
        for name, seconds in results["seconds"].items()
    ]
    return "\n".join(
        [
            "## More films than the store of frames holds",
            "",
            f"{results['films']}; every clip once, {results['frames']} frames, from an empty "
            "store. `mix` is how many films the order of clips draws from at a time.",
            "",
            table(["", "seconds of the processor", "ratio to no store"], rows),
        ]
    )
