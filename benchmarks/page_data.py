"""The benchmarks page's sections on data and measures: gaze, worlds, loading, metrics."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import small, table


def gaze(results: dict[str, Any]) -> str:
    """From fixations to a map."""
    accuracy = results["accuracy"]
    off = accuracy["largest error, share of the peak"]
    rows = [[name, *(small(row[kind]) for kind in row)] for name, row in off.items()]
    parts = [
        "## From fixations to a density",
        "",
        f"A von Mises-Fisher kernel of {results['sigma, degrees']:g} degrees on every fixation, "
        "against the sum of all kernels at all pixels, and against the usual Gaussian blur of the "
        f"panorama, which is not the same thing. Error on {accuracy['map']}, as a share of the "
        "map's peak:",
        "",
        table(["fixations", *next(iter(off.values()))], rows),
    ]
    two = results["times, 2 threads"]
    for name, times in results["times, 1 thread"].items():
        rows = [
            [
                kind,
                f"{1000 * row['median_s']:.1f}",
                f"{row['ratio']:.2f}",
                f"{row['max_s'] / row['min_s']:.1f}",
                f"{1000 * two[name][kind]['median_s']:.1f}",
            ]
            for kind, row in times.items()
        ]
        head = ["", "ms", "ratio to sal360", "spread", "ms, 2 threads"]
        parts += [f"**{name}**", "", table(head, rows)]
    peak = results["peak memory, bytes"]["1000 fixations, 1024 x 2048"]
    if peak:
        parts += [f"The large map needs {peak / 1e6:.0f} MB at most.", ""]
    return "\n".join(parts)


def worlds(results: dict[str, Any]) -> str:
    """Synthetic worlds."""
    rows = []
    for processes in ("1 process", "2 processes"):
        for what, found in results[f"frames per second, {processes}"].items():
            rates = [f"{found[k]:.0f}" for k in ("train", "val", "test")]
            rows.append([f"{processes}, {what}", *rates, f"{found['own milliseconds']:.0f}"])
    sizes = results["milliseconds a frame without truth, 1 process"]
    return "\n".join(
        [
            "## Synthetic worlds",
            "",
            f"Frames of {results['frames']}; each process on one thread. *Own ms* is the "
            "processor's time for a frame, which a busy machine does not stretch.",
            "",
            table(["frames per second", "train", "val", "test", "own ms"], rows),
            "One frame without truth: "
            + ", ".join(f"{ms:.0f} ms at {size}" for size, ms in sizes.items())
            + ".\n",
        ]
    )


def loader(results: dict[str, Any]) -> str:
    """Clips for training."""
    sources = {k: v for k, v in results.items() if isinstance(v, dict)}
    kinds = next(iter(sources.values()))["workers"]
    rows = [
        [name, *(f"{row['frames_per_s']:.0f}" for row in found["workers"].values())]
        for name, found in sources.items()
    ]
    return "\n".join(
        [
            "## Clips for training",
            "",
            f"Frames per second through the loader at {results['size']}, in clips of "
            f"{results['length']} and batches of {results['batch']}; an epoch with the start of "
            "its workers, every process on one thread. The film is 1920 x 1080, stereo, with key "
            "frames 8 seconds apart: a clip in its middle costs the decoding of what lies before.",
            "",
            table(["", *kinds], rows),
        ]
    )


def metrics(results: dict[str, Any]) -> str:
    """What scores cost."""
    auc, frames = results["auc"], results["frames"]
    kinds = ["auc_judd, sphere", "auc_judd, pixels"]
    rows = []
    for name, times in auc["times"].items():
        for kind in kinds:
            row = times[kind]
            rows.append(
                [
                    f"{name}, {kind.split(', ')[1]}",
                    f"{1000 * row['median_s']:.0f}",
                    f"{row['ratio']:.2f}",
                    f"{row['ratio_to_numpy_sort']:.1f}",
                ]
            )
    bands = [
        [
            name,
            *(f"{100 * row['off_finest']:+.1f} %" for row in found[:-1]),
            f"{found[1]['low_deg']:.2f} to {found[1]['high_deg']:.2f}",
        ]
        for name, found in results["transport"].items()
    ]
    first = next(iter(results["transport"].values()))
    cost = [
        [name, f"{1000 * row['median_s']:.0f}", f"{row['ratio']:.2f}"]
        for name, row in frames["times"].items()
    ]
    return "\n".join(
        [
            "## Metrics",
            "",
            f"AUC-Judd, exact with ties, of a map of {auc['map']} with {auc['fixations']} "
            "fixations, beside sorting the map alone: with `torch.sort`, which carries indices "
            "along, and with `numpy.sort`, which does not.",
            "",
            table(["map", "ms", "ratio to torch.sort", "ratio to numpy.sort"], rows),
            f"All metrics over {frames['maps']}, {frames['fixations']} fixations a frame:",
            "",
            table(["", "ms", "ratio to sorting the maps"], cost),
            "The earth mover's distance is computed between bands of cells. How far it is off "
            f"that of {first[-1]['bands']} bands, and its certified bounds at "
            f"{first[1]['bands']} (the default) in degrees:",
            "",
            table(["", *(f"{row['bands']} bands" for row in first[:-1]), "bounds"], bands),
        ]
    )
