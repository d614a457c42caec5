"""What the tests share: the real files if they are here, the golden figures, a browser."""

import os
import random
import shutil
import signal
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
# The same examples every time, and no test fails because a machine is busy.
hypothesis.settings.register_profile("sal360", deadline=None, derandomize=True)
hypothesis.settings.load_profile("sal360")
# Nothing in the tests may wait for a network that is not there.
os.environ.setdefault("SAL360_OFFLINE", "1")
# A shell's background jobs ignore Ctrl-C, and so would the processes that test it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeded():
    """Whatever a test draws, it draws again next time, alone or after any other."""
    random.seed(360)
    torch.manual_seed(360)


@pytest.fixture(scope="session")
def golden():
    """Load a golden file by name: ``golden("spherenet")``."""

    def load(name):
        with np.load(ROOT / "tests" / "golden" / f"{name}.npz") as stored:
            return {key: stored[key] for key in stored.files}

    return load


@pytest.fixture(scope="session")
def real():
    """Path of a real file, or a skip that says why: ``real("samples/petra.jpg")``."""

    def path(name):
        cache = os.environ.get("SAL360_CACHE")
        if not cache:
            pytest.skip("SAL360_CACHE is not set: the real files are not here")
        found = Path(cache) / name
        if not found.is_file():
            pytest.skip(f"{name} is not in SAL360_CACHE")
        return found

    return path


@pytest.fixture(scope="session")
def chromium():
    """Path of a Chromium or Chrome, or a skip that says why."""
    names = (os.environ.get("SAL360_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next((p for p in map(shutil.which, names) if p), None)
    if found is None:
        pytest.skip("no Chromium found (set SAL360_CHROMIUM, or install it)")
    return found
