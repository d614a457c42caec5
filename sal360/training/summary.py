"""What is left of a run to look at: its curves in one picture, its scores in one table.

Both are made of the record and of nothing else. A trained network stands beside baselines that
were scored on the same frames, and where one of those is better the table says so. Chapter 16.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sal360._files import write_whole
from sal360.datasets.item import VideoDataset
from sal360.evaluation.report import markdown_cell, markdown_line
from sal360.evaluation.scores import METRICS
from sal360.training.recipe import Recipe
from sal360.training.validation import better, mean_scores, validate

BASELINES = ("uniform", "equator", "equator-front", "motion")
"""What needs no training, by its name in :data:`sal360.models.MODELS`."""
LOSSES = {
    "sphere_kld": "KL divergence (nats)",
    "sphere_mse": "squared error (of relative densities)",
    "cc": "1 - correlation",
    "weak": "losses between frames",
}
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"  # Okabe and Ito: all eyes tell them apart


def baseline_means(data: VideoDataset, recipe: Recipe) -> dict[str, dict[str, float]]:
    """Mean scores of :data:`BASELINES` on a data set, as :func:`validate` scores networks."""
    from sal360.models import load_model

    return {name: mean_scores(validate(load_model(name), data, recipe)) for name in BASELINES}


def table(record: Mapping[str, Any], each_video: bool = True) -> str:
    """The scores of a run in Markdown, with the baselines' of ``record["more"]["baselines"]``.

    Args:
        record: of :mod:`sal360.training.records`. each_video: a row for each, too.
    Returns:
        text that ends with a line break; of a run that was not validated, one that says so.
    """
    recipe = record["recipe"]
    head = f"# {markdown_line(recipe['name'])}, {recipe['scale']} scale, seed {record['seed']}\n\n"
    device, seconds = record["device"], record["seconds"]
    head += (
        f"{record['steps']} of {recipe['steps']} steps on {device['name']}"
        f"{'' if device['processes'] == 1 else ', ' + str(device['processes']) + ' processes'}, "
        f"{seconds:.0f} s, {record['status']}. "
        f"Trained on {_told(record['data'])}"
    )
    if not record["scores"]:
        return f"{head}; not validated.\n"
    best = record["best"]
    head += (
        f", scored on {_told(record['validation'])}: whole videos in closed loop, pixels by their "
        f"area, mean over {len(record['scores'])} videos.\n\n"
    )
    own = f"{recipe['name']}, step {best['step']}" if best else recipe["name"]
    rows = {own: mean_scores(_numbers(record["scores"]))}
    rows |= (record.get("more") or {}).get("baselines", {})
    metrics = [m for m in METRICS if m in rows[own]]
    leaders = {m: _leaders(rows, m) for m in metrics}
    lines = [
        "| | " + " | ".join(f"{m} ({METRICS[m].better} is better)" for m in metrics) + " |",
        "|---|" + "---:|" * len(metrics),
    ]
    for name, means in rows.items():
        cells = [_cell(means.get(m), name in leaders[m]) for m in metrics]
        lines.append(f"| {markdown_cell(name)} | " + " | ".join(cells) + " |")
    if each_video:
        for video, scores in record["scores"].items():
            cells = [_cell(scores.get(m)) for m in metrics]
            lines.append(f"| {markdown_cell(video)} | " + " | ".join(cells) + " |")
    text = head + "\n".join(lines) + "\n"
    ahead: dict[str, list[str]] = {}
    for m in metrics:
        for name in leaders[m] if own not in leaders[m] else ():
            ahead.setdefault(name, []).append(m)
    told = "; ".join(f"{name} in {', '.join(names)}" for name, names in ahead.items())
    return text + (f"\nBetter than the network: {told}.\n" if told else "")


def plot(record: Mapping[str, Any], path: str | Path) -> Path:
    """Loss, learning rate and every validated metric over steps, as one PNG.

    Raises:
        ValueError: Matplotlib is not installed. OSError: the file cannot be written.
    """
    import io

    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("matplotlib: not installed, wanted it to draw curves") from None
    recipe, curve, validations = record["recipe"], record["curve"], record["validations"]
    metrics = [m for m in METRICS if any(m in v["means"] for v in validations)]
    panels = 2 + len(metrics)
    columns = min(3, panels)
    figure = Figure(figsize=(4.2 * columns, 2.9 * math.ceil(panels / columns)), dpi=120,
                    layout="constrained")  # fmt: skip
    axes = [figure.add_subplot(math.ceil(panels / columns), columns, k + 1) for k in range(panels)]
    axes[0].plot(curve["step"], curve["loss"], color=BLUE, linewidth=0.8, alpha=0.4)
    axes[0].plot(curve["step"], _running(curve["loss"]), color=BLUE, linewidth=2)
    axes[0].set(
        title="training, and its running mean", ylabel=LOSSES.get(recipe["loss"], recipe["loss"])
    )
    axes[1].plot(curve["step"], curve["lr"], color=GREY, linewidth=1.5)
    axes[1].set(title="learning rate", ylabel="of a step")
    baselines = (record.get("more") or {}).get("baselines", {})
    best = record["best"]
    for axis, metric in zip(axes[2:], metrics, strict=True):
        steps = [v["step"] for v in validations]
        values = [v["means"].get(metric) for v in validations]
        values = [math.nan if v is None else v for v in values]
        axis.plot(steps, values, color=ORANGE, marker="o", markersize=4, linewidth=1.5)
        if best is not None:
            axis.axvline(best["step"], color=GREY, linewidth=1, linestyle=":")
        rivals = {n: m[metric] for n, m in baselines.items() if m.get(metric) is not None}
        if rivals:
            name = _first(rivals, metric)
            axis.axhline(rivals[name], color=GREY, linewidth=1, linestyle="--")
            axis.annotate(name, (0.02, rivals[name]), xycoords=("axes fraction", "data"),
                          color=GREY, fontsize=8, va="bottom")  # fmt: skip
        unit = {"kld": " (nats)", "emd": " (radians)", "information_gain": " (bits)"}
        better_ = METRICS[metric].better
        axis.set_xlim(left=0)
        axis.set(title="validation", ylabel=f"{metric}{unit.get(metric, '')}, {better_} is better")
    for axis in axes:
        axis.set_xlabel("step")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3, linewidth=0.5)
    figure.suptitle(f"{recipe['name']}, {recipe['scale']} scale, seed {record['seed']}")
    held = io.BytesIO()
    FigureCanvasAgg(figure).print_png(held)
    write_whole(path, held.getvalue())
    return Path(path)


def _running(values: Sequence[float]) -> list[float]:
    """Means of each point and those around it, a tenth of the curve together."""
    reach = max(1, len(values) // 20)
    parts = [values[max(0, k - reach) : k + reach + 1] for k in range(len(values))]
    return [sum(part) / len(part) for part in parts]


def _numbers(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """With NaN where a record has null."""
    return {
        video: {m: math.nan if v is None else v for m, v in each.items()}
        for video, each in scores.items()
    }


def _leaders(rows: Mapping[str, Mapping[str, Any]], metric: str) -> list[str]:
    """Who has the best value, to the digits that are shown."""
    values = {n: round(v, 4) for n, means in rows.items() if (v := means.get(metric)) is not None}
    values = {name: v for name, v in values.items() if not math.isnan(v)}
    if not values:
        return []
    top = values[_first(values, metric)]
    return [name for name, v in values.items() if v == top]


def _first(values: Mapping[str, float], metric: str) -> str:
    best: str | None = None
    for name, value in values.items():
        if best is None or better(metric, value, values[best]):
            best = name
    assert best is not None
    return best


def _cell(value: float | None, leads: bool = False) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"**{value:.4f}**" if leads else f"{value:.4f}"


def _told(data: Mapping[str, Any]) -> str:
    return markdown_line(str(data["spec"] or data["name"]))
