"""Tables of scores: Markdown to read, CSV and JSON to go on with."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sal360._version import __version__
from sal360.evaluation.scores import METRICS
from sal360.evaluation.statistics import Comparison, Estimate

if TYPE_CHECKING:
    from sal360.evaluation.evaluation import Evaluation

SCHEMA = "sal360/evaluation/1"


def markdown(
    evaluations: Sequence[Evaluation], comparison: Mapping[str, Comparison] | None = None
) -> str:
    """Means with their intervals, the difference of two, every video, the notes."""
    first = evaluations[0]
    level = f"{100 * first.settings.get('level', 0.95):g}"
    lines = []
    for one in evaluations:
        lines += [
            f"### {markdown_line(one.predictor)}",
            "",
            f"{_count(len(one.videos), 'video')}, {_count(one.frames, 'frame')}; "
            + ("pixels weighed by solid angle" if one.settings.get("weighting") != "pixels"
               else "every pixel alike (not the sphere)"),
            "",
            f"| metric | better | mean over videos | {level} % interval | frames left out |",
            "|---|---|---|---|---|",
        ]  # fmt: skip
        for name in one.metrics:
            mean = one.mean(name)
            row = (name, METRICS[name].better, _number(mean.mean), _interval(mean))
            lines.append(f"| {' | '.join(row)} | {one.left_out(name)} |")
        lines.append("")
    if comparison:
        a, b = (markdown_line(one.predictor) for one in evaluations[:2])
        lines += [
            f"### {a} minus {b}",
            "",
            f"| metric | better | difference | {level} % interval | p | in favour of |",
            "|---|---|---|---|---|---|",
        ]
        for name, found in comparison.items():
            cells = (
                name, METRICS[name].better, _number(found.difference.mean, sign=True),
                _interval(found.difference, sign=True), _p(found), favours(name, found, a, b),
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    for one in evaluations:
        if len(one.videos) > 1:
            lines += [f"### {markdown_line(one.predictor)}, by video", ""]
            lines += [f"| video | {' | '.join(one.metrics)} |"]
            lines += ["|---" * (1 + len(one.metrics)) + "|"]
            for video in one.videos:
                means = " | ".join(_number(video.mean(name)) for name in one.metrics)
                lines.append(f"| {markdown_cell(video.video)} | {means} |")
            lines.append("")
    notes = dict.fromkeys(note for one in evaluations for note in one.notes)
    lines += [f"- {markdown_line(note)}" for note in notes]
    return "\n".join(lines).rstrip() + "\n"


def csv_table(
    evaluations: Sequence[Evaluation], comparison: Mapping[str, Comparison] | None = None
) -> str:
    """One row for each frame, video and mean; an empty cell is no score."""
    metrics = list(dict.fromkeys(name for one in evaluations for name in one.metrics))
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["predictor", "level", "video", "frame", *metrics])

    def row(who: str, level: str, video: str, frame: Any, values: Mapping[str, float]) -> None:
        cells = (_plain(values.get(name, math.nan)) for name in metrics)
        table.writerow([who, level, video, frame, *cells])

    for one in evaluations:
        for video in one.videos:
            for k, number in enumerate(video.numbers):
                scores = {name: float(video.scores[name][k]) for name in one.metrics}
                row(one.predictor, "frame", video.video, number, scores)
        for video in one.videos:
            row(one.predictor, "video", video.video, "", {n: video.mean(n) for n in one.metrics})
        means = {name: one.mean(name) for name in one.metrics}
        for level in ("mean", "low", "high"):
            row(one.predictor, level, "", "", {n: getattr(e, level) for n, e in means.items()})
    if comparison:
        both = f"{evaluations[0].predictor} - {evaluations[1].predictor}"
        for level, key in (("difference", "mean"), ("low", "low"), ("high", "high")):
            row(both, level, "", "",
                {n: getattr(c.difference, key) for n, c in comparison.items()})  # fmt: skip
        row(both, "p", "", "", {n: c.p for n, c in comparison.items()})
    return out.getvalue()


def json_text(
    evaluations: Sequence[Evaluation], comparison: Mapping[str, Comparison] | None = None
) -> str:
    """Everything; NaN is null, infinities are the texts "inf" and "-inf"."""
    content = {
        "schema": SCHEMA,
        "sal360": __version__,
        "settings": evaluations[0].settings,
        "evaluations": [
            {
                "predictor": one.predictor,
                "truth": one.truth,
                "notes": list(one.notes),
                "metrics": {
                    name: {
                        "better": METRICS[name].better,
                        **estimate(one.mean(name)),
                        "frames_left_out": one.left_out(name),
                    }
                    for name in one.metrics
                },
                "videos": {
                    video.video: {
                        "frames": list(video.numbers),
                        "size": video.size,
                        "mean": {name: plain(video.mean(name)) for name in one.metrics},
                        "scores": {
                            name: [plain(x) for x in video.scores[name].tolist()]
                            for name in one.metrics
                        },
                    }
                    for video in one.videos
                },
            }
            for one in evaluations
        ],
        "comparison": None if comparison is None else {
            name: {**estimate(found.difference), "p": plain(found.p), "exact": found.exact}
            for name, found in comparison.items()
        },
    }  # fmt: skip
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def favours(metric: str, found: Comparison, a: str, b: str) -> str:
    """Who is better, where the interval excludes 0."""
    low, high = found.difference.low, found.difference.high
    if not (low > 0 or high < 0):
        return "neither"
    return a if (low > 0) == (METRICS[metric].better == "higher") else b


def estimate(found: Estimate) -> dict[str, Any]:
    """An estimate for JSON."""
    return {
        "mean": plain(found.mean),
        "low": plain(found.low),
        "high": plain(found.high),
        "videos": found.videos,
        "interval": found.method,
    }


def plain(value: float) -> float | str | None:
    """A number that JSON can hold."""
    if math.isnan(value):
        return None
    return round(value, 9) + 0.0 if math.isfinite(value) else str(value)


def _plain(value: float) -> str:
    found = plain(value)
    return "" if found is None else f"{value:.9g}"


def _number(value: float, sign: bool = False) -> str:
    value = round(value, 3) + 0.0 if math.isfinite(value) else value  # no -0.000
    return "-" if math.isnan(value) else f"{value:+.3f}" if sign else f"{value:.3f}"


def _interval(found: Estimate, sign: bool = False) -> str:
    if found.method == "none":
        return "none: one video" if found.videos == 1 else "-"
    text = f"{_number(found.low, sign)} to {_number(found.high, sign)}"
    return f"{text} (Student)" if found.method == "student" else text


def _p(found: Comparison) -> str:
    if math.isnan(found.p):
        return "-"
    return f"{found.p:.4f}" if found.p >= 1e-4 else f"{found.p:.1e}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + "s" * (n != 1)


def markdown_line(text: str) -> str:
    """Of a name, which may hold line ends, what keeps to its line."""
    return "".join(c if c.isprintable() else "?" for c in text)


def markdown_cell(text: str) -> str:
    """The same, for a table's cell, which ends at a bar."""
    return markdown_line(text).replace("|", "\\|")
