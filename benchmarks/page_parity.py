"""The page's section on figures of the published code, and on gradients."""

from __future__ import annotations

from typing import Any

from benchmarks.markdown import table


def section(results: dict[str, Any]) -> str:
    """Published layers beside stored figures, and which layers pass ``gradcheck``."""
    rows = [
        [
            f"`upstream.{name}`" if " " not in name else name,
            one["files"],
            f"{one['numbers']:,}",
            one["dtype"],
            f"{one['largest']:.3g}",
            f"{one['difference']:.1e}" if one["difference"] else "0",
        ]
        for name, one in results["published"].items()
    ]
    head = ["", "figures", "numbers", "computed in", "largest number", "largest difference"]
    dark = "; ".join(
        f"row {', '.join(map(str, lines))} of case {case}"
        for case, lines in results["dark"].items()
    )
    checked = results["gradcheck"]
    passed = [name for name, told in checked.items() if told == "gradcheck passed"]
    failed = [f"{name}: {told}" for name, told in checked.items() if name not in passed]
    return "\n".join(
        [
            "## Published layers, figure for figure",
            "",
            "Our re-implementations of published layers against figures that the published code "
            f"wrote (tests/golden). Left out: {dark} of the crown, whose published answer hangs on "
            "the last digit of a bearing.",
            "",
            table(head, rows),
            f"Gradients in double precision, in the input and in every parameter (`gradcheck`): "
            f"{len(passed)} of {len(checked)} layers pass: {'; '.join(passed)}."
            + "".join(f" Failed: {line}." for line in failed),
            "",
        ]
    )
