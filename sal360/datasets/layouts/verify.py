"""Look at every file of a data set before a training starts, and say what is wrong, file by file.

    report = verify("360_Saliency_dataset_2018ECCV")
    print(report.summary())
    for finding in report.findings: ...

Every picture is decoded, every map and table is read, every video is decoded to its end. Nothing
is written. What keeps a frame from being used is *missing*, *broken* or *inconsistent*; files
that no reader looks at are *surplus*; what is only worth knowing is a *note*.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sal360.datasets.layouts import find_layout
from sal360.datasets.layouts.check_avtrack360 import check_avtrack360
from sal360.datasets.layouts.check_salient360 import check_salient360
from sal360.datasets.layouts.check_sphere360 import check_sphere360
from sal360.datasets.layouts.check_vr_eyetracking import check_vr_eyetracking
from sal360.datasets.layouts.check_wild360 import check_wild360
from sal360.datasets.layouts.report import Finding, Inspector, Report

__all__ = ["Finding", "Report", "verify"]

CHECKS: dict[str, Callable[[Inspector], None]] = {
    "sphere360": check_sphere360,
    "wild360": check_wild360,
    "vr-eyetracking": check_vr_eyetracking,
    "salient360": check_salient360,
    "avtrack360": check_avtrack360,
}


def verify(
    path: str | Path,
    layout: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Read a data set from end to end.

    Args:
        path: its folder, which is only read. layout: a name; None: the one it looks like.
        progress: called with each file as it is opened.
    Raises:
        FileNotFoundError, ValueError: no such folder, or no layout that it looks like.
    """
    root = Path(path)
    found, reason = find_layout(root, layout)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    report = Report(root, found.name, reason)
    CHECKS[found.name](Inspector(report, progress))
    return report
