"""The benchmarks page's section on whole systems."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import small, table


def systems(results: dict[str, Any]) -> str:
    """Two tables: what each system is and whether it agrees and learns; what it costs."""
    rows = results["systems"]
    first = [[name, *_is(row)] for name, row in rows.items()]
    second = [[name, *_costs(row)] for name, row in rows.items()]
    return "\n".join(
        [
            "## The systems",
            "",
            "At their published widths and size of input, counted and not typed. *Agreement* is "
            "of the upstream convention with figures of the published code: the largest "
            "difference of the maps, or their correlation where a dark row of one machine is a "
            "bright one of the next. *Learns one clip* is each recipe in fast scale on a small "
            "network (`python -m sal360.training.overfit`): how many times the loss fell, and "
            "the CC with the truth before and after, closed loop for models of previous maps.",
            "",
            table(["", "parameters", "Gflop a frame", "agreement", "learns one clip"], first),
            *_notes(rows),
            f"Fresh weights, corrected convention, {results['threads']} threads, one frame at a "
            "time with a memory that is not empty, the network alone (no resizing, no flow). "
            "*Peak* is of the whole process, Python and torch included. *Turned* is the error "
            "between turning first and turning last, of a small one at "
            f"{results['turned at']}, by a quarter and by 3 columns, 0 is exact. *Export*: "
            "whether `torch.export` takes it.",
            "",
            table(
                ["", "input", "frames per second", "peak MB", "turned 1/4", "turned 3", "export"],
                second,
            ),
            *_reasons(rows),
        ]
    )


def _is(row: dict[str, Any]) -> list[str]:
    if "not run" in row:
        return [row["not run"], "", "", ""]
    parity, learning = row["parity"], row["learning"]
    if "not run" in parity:
        agreement = "see below"
    elif "correlation" in parity:
        agreement = f"correlation {parity['correlation']:.6f}"
    else:
        agreement = small(parity["largest difference"])
    if "not run" in learning:
        learns = "not run yet"
    else:
        learns = "; ".join(
            f"{'' if len(learning) == 1 else name + ': '}{_fall(one['fall'])}, CC "
            f"{one['cc before']:.2f} to {one['cc']:.2f}"
            for name, one in learning.items()
        )
    return [f"{row['parameters']:,}", f"{row['flops'] / 1e9:.1f}", agreement, learns]


def _fall(times: float) -> str:
    return f"x {times:.1f}" if times < 1000 else "to nothing"


def _costs(row: dict[str, Any]) -> list[str]:
    if "not run" in row:
        return [row["not run"], *[""] * 5]
    speed, yaw, export = row["speed"], row["yaw"], row["export"]
    waiting = "not run yet"
    times = (
        [waiting, "", ""]
        if "not run" in speed
        else [speed["input"], f"{speed['frames_per_s']:.2f}", f"{speed['peak_mb']:.0f}"]
    )
    turns = [waiting] * 2 if "not run" in yaw else [small(value) for value in yaw.values()]
    if "not run" in export:
        works = waiting
    else:
        works = "yes" if export["works"] else "no"
    return [*times, *turns, works]


def _notes(rows: dict[str, Any]) -> list[str]:
    """What was compared, and why something was not."""
    told = [f"- {name}: {row['parity'].get('what') or row['parity']['not run']}."
            for name, row in rows.items() if "parity" in row]  # fmt: skip
    return ["Agreement, of what:", "", *told, "", WEAK, ""]


def _reasons(rows: dict[str, Any]) -> list[str]:
    out = []
    for name, row in rows.items():
        for part in ("speed", "learning"):
            if "not run" in row.get(part, {}):
                out.append(f"- {name}, {part}: {row[part]['not run']}")
        if row.get("export", {}).get("why"):
            out.append(f"- {name}, export: {row['export']['why']}")
    return [*out, ""] if out else []


WEAK = (
    "CP-360 learns without a truth, so it stands here three times. `cp360` is our recipe: it "
    "starts at the class activation, and the loss that holds it there has little to fall. "
    "`cp360-unanchored` is the published sum of losses with a rate that lets it go where it "
    "leads: to an empty map. `cp360-supervised` gives the same kind of network the truth."
)
