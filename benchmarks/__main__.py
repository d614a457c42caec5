"""``python -m benchmarks [NAME ...]``: run benchmarks, write their records and the book's page."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from benchmarks import (
    allocator,
    cube_pad,
    equivariance,
    flow,
    gaze,
    layers,
    loader,
    metrics,
    page,
    parity,
    prediction,
    projections,
    scaling,
    sphere_conv,
    sst_sal,
    streaming,
    systems,
    training,
    worlds,
)
from benchmarks.measure import save

ALL: dict[str, Callable[[], dict[str, Any]]] = {
    "projections": projections.run,
    "layers": layers.run,
    "cube_pad": cube_pad.run,
    "gaze": gaze.run,
    "equivariance": equivariance.run,
    "parity": parity.run,
    "sphere_conv": sphere_conv.run,
    "sst_sal": sst_sal.run,
    "metrics": metrics.run,
    "flow": flow.run,
    "loader": loader.run,
    "worlds": worlds.run,
    "prediction": prediction.run,
    "systems": systems.run,
    "training": training.run,
    "scaling": scaling.run,
    "streaming": streaming.run,
    "allocator": allocator.run,
}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; ``page`` alone only writes the page again."""
    unknown = sorted({*names} - {*ALL, "page"})
    if unknown:
        print(f"unknown: {', '.join(unknown)}; wanted some of {', '.join(ALL)}, page")
        return 2
    for name in [n for n in ALL if n in names or not names]:
        print(f"{name} ...", flush=True)
        print(f"  {save(name, ALL[name]())}")
    print(page.write().read_text("utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
