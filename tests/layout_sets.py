"""One small synthetic data set per layout, made once, and copies of it to damage."""

import hashlib
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from sal360.datasets.layouts import LAYOUTS
from sal360.datasets.layouts import make as making

NAMES = tuple(LAYOUTS)
render = making._scene
making._scene = cache(render)  # the same scenes serve all layouts
VIDEOS, FRAMES, SIZE = 3, 8, (32, 64)


@cache
def _folder():
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="sal360-layouts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def made(layout):
    """A clean one; do not write into it."""
    return making.make(layout, _folder() / layout, videos=VIDEOS, seconds=1.0, size=SIZE)


def copied(layout, folder):
    """A copy to damage."""
    return Path(shutil.copytree(made(layout), Path(folder) / layout))


def fingerprint(root):
    """Every path below a folder, and what is there."""
    found = {}
    for top, folders, files in os.walk(root):
        for name in folders:
            found[os.path.join(top, name)] = "folder"
        for name in files:
            path = Path(top) / name
            if path.is_symlink() or not os.access(path, os.R_OK):
                found[str(path)] = "link" if path.is_symlink() else "closed"
                continue
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
