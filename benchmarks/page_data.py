"""The benchmarks page's sections on data and measures: gaze, worlds, loading, metrics, flow."""

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


def flow(results: dict[str, Any]) -> str:
    """Optical flow against exact flow."""
    kept = results["storage, 240 x 480"]
    parts = [
        "## Optical flow",
        "",
        "End-point error in degrees on the sphere, mean by area over pairs of frames of synthetic "
        "worlds 1/8 s apart, whose flow is exact: everywhere, by degrees of latitude, and within "
        "four columns of the seam. *Flat*: the panorama as a picture whose sides are joined. "
        "*Mercator*, *rotated*, *cube*: overlapping views of the sphere (`sal360.flow`).",
        "",
    ]
    for size, found in results["accuracy"].items():
        rows = [[n, *(f"{v:.3f}" for v in row.values())] for n, row in found["degrees"].items()]
        head = ["", *next(iter(found["degrees"].values()))]
        parts += [f"**{size}, {found['worlds']} worlds**", "", table(head, rows)]
    cameras = found["cameras"]
    rows = [[n, *(f"{v:.3f}" for v in row.values())] for n, row in found["by camera"].items()]
    head = [f"{kind} ({count})" for kind, count in cameras.items()]
    parts += [f"**{size}, by what the camera does (worlds)**", "", table(["", *head], rows)]
    times = [row["times"] for row in results["speed"].values()]
    rows = [
        [name, *(v for t in times for v in (f"{1000 * t[name]['median_s']:.0f}",
                                            f"{t[name]['ratio']:.2f}"))]
        for name in times[0]
    ]  # fmt: skip
    head = [h for size in results["speed"] for h in (f"ms, {size}", "ratio to DIS, flat")]
    parts += [
        "A pair of frames, one thread:",
        "",
        table(["", *head], rows),
        f"Kept as fixed point of 1/{1 / kept['step, pixels']:.0f} pixel, flow of 240 x 480 found "
        f"by DIS takes {kept['DIS, mercator']['bytes'] / 1000:.0f} kB a frame instead of "
        f"{kept['raw_bytes'] / 1000:.0f}, exact flow {kept['exact']['bytes'] / 1000:.0f} kB; it is "
        f"off by {kept['DIS, mercator']['largest error, degrees']:.3f} degrees at most and read in "
        f"{1000 * kept['DIS, mercator']['read_s']:.0f} ms.",
        "",
    ]
    return "\n".join(parts)


def sst_sal(results: dict[str, Any]) -> str:
    """The network at its published size beside its planar twin."""
    parts = [
        "## SST-Sal",
        "",
        "240 x 320, hidden 36 with flow and 9 without. The planar twin has the same gates and "
        "sizes, an ordinary convolution and ordinary pooling.",
        "",
    ]
    for name, by_threads in results.items():
        kinds = [(label, what) for label, rows in by_threads.items() for what in rows]
        head = [h for label, what in kinds for h in (f"{what}, {label}, ms", "ratio")]
        models = next(iter(next(iter(by_threads.values())).values()))
        rows = [
            [model, *(v for label, what in kinds for v in _time(by_threads[label][what][model]))]
            for model in models
        ]
        parts += [f"**{name}**", "", table(["", *head], rows)]
    return "\n".join(parts)


def _time(row: dict[str, float]) -> tuple[str, str]:
    return f"{1000 * row['median_s']:.0f}", f"{row['ratio']:.2f}"
