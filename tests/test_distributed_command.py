"""``torchrun``, and a process that dies under a run."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sal360.models import load_model
from sal360.training.checkpoint import read_checkpoint
from sal360.training.distributed import ALONE, ProcessLost, setup
from sal360.training.run import train
from tests.ranks import run_ranks
from tests.test_distributed_training import Gazed, small_recipe


def dying(folder: str) -> Any:
    """Rank 1 is killed after its third step, before it can say a word."""
    world = setup("cpu")
    done = iter(range(1, 9))

    def stop() -> bool:
        if next(done) == 3 and world.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    try:
        train(small_recipe(), Gazed(), None, folder, checkpoint_every=2, world=world, stop=stop)
    except ProcessLost as error:
        return str(error)
    return "nothing was noticed"


def test_a_rank_is_killed_and_the_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    told, dead = run_ranks(dying, str(tmp_path / "run"))
    assert dead is None
    assert re.match(r"rank 0 of 2: another process ended or cannot be reached \(", told)
    assert "\n" not in told
    # What rank 0 had was whole after step 2 and after step 3; both are no half of anything.
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    found = read_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert found.numbers["step"] == record["steps"] == 3
    assert record["status"] == "interrupted"
    assert "another process ended" in record["notes"][0]
    with pytest.raises(ValueError, match="data has mix"):
        train(small_recipe(), Gazed(), None, tmp_path / "run", resume=True, mix=2)
    resumed = train(small_recipe(), Gazed(), None, tmp_path / "run", resume=True, world=ALONE)
    whole = train(small_recipe(), Gazed(), None, tmp_path / "alone", world=ALONE)
    assert resumed["status"] == whole["status"] == "done"
    ours, theirs = (
        load_model("sst-sal-noflow", tmp_path / name / "last.safetensors").state_dict()
        for name in ("run", "alone")
    )
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


def test_torchrun_on_two_machines(tmp_path: Path) -> None:
    # Both are this one, each with one process; --standalone --nproc-per-node 2 goes the same way.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "run"
    line = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}",
        "-m", "sal360", "train", "sst-sal-noflow", "--scale", "fast", "--steps", "2",
        "--data", "worlds:train:2:1", "--validation", "none", "--workers", "0",
        "--device", "cpu", "--set", "batch=2", "--set", "size=[16, 32]",
        "--set", "model.hidden=3", "--set", "clip_length=4", "--set", "tbptt=4", "--out", str(out),
    ]  # fmt: skip
    single = os.environ | {"OMP_NUM_THREADS": "1"}
    nodes = [
        subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                         env=single)
        for _ in range(2)
    ]  # fmt: skip
    try:
        told = [node.communicate(timeout=300)[1] for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert [node.returncode for node in nodes] == [0, 0], told
    record = json.loads((out / "record.json").read_text())
    assert record["status"] == "done" and record["steps"] == 2
    assert record["device"]["processes"] == 2
    assert (out / "last.safetensors").is_file()
    said = [line for text in told for line in text.splitlines() if "into" in line]
    assert len(said) == 1  # rank 0 speaks
