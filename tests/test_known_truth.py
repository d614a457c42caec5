"""Videos without the truth that a loss needs: left out, and told; none with it: refused."""

import json
import shutil

import pytest

from sal360.cli import main
from sal360.datasets.layouts import open_dataset
from sal360.training import load_recipe, train

from .layout_sets import copied, made

SMALL = {"steps": 2, "batch": 2, "clip_length": 3, "tbptt": 3, "size": (16, 32),
         "model": {"hidden": 2}}  # fmt: skip


def test_videos_without_a_truth_are_left_out(tmp_path):
    data = open_dataset(made("wild360"))
    known = [video for video in data.videos if data.has_truth(video)]
    assert len(known) == 1 < len(data.videos)
    record = train(load_recipe("sst-sal-noflow", "fast", SMALL), data, data, device="cpu")
    assert record["status"] == "done"
    assert record["data"]["videos"] == 1 and record["data"]["first"] == known[0]
    assert record["data"]["left_out"] == "2 of 3 videos: no truth"
    assert record["validation"]["videos"] == 3 and "left_out" not in record["validation"]
    other = open_dataset(copied("vr-eyetracking", tmp_path))
    shutil.rmtree(other.root / "saliency_maps" / other.videos[0])
    record = train(load_recipe("sst-sal-noflow", "fast", SMALL), other, device="cpu")
    assert record["data"]["left_out"] == "1 of 3 videos: no truth"


def test_where_a_loss_needs_none_all_videos_count():
    small = {key: SMALL[key] for key in ("steps", "batch", "clip_length", "tbptt", "size")}
    record = train(load_recipe("cp360", "fast", small), open_dataset(made("wild360")), device="cpu")
    assert record["data"]["videos"] == 3 and "left_out" not in record["data"]


def test_the_command_says_it_and_refuses_where_nothing_is_left(tmp_path, capsys):
    words = ["train", "sst-sal-noflow", "--scale=fast", "--device=cpu"]
    words += [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()
              if not isinstance(value, dict)]  # fmt: skip
    folder = made("wild360")
    assert main([*words, f"--data={folder}", f"--validation={folder}",
                 f"--out={tmp_path / 'a'}"]) == 0  # fmt: skip
    said = f"left out of {folder}: 2 of 3 videos: no truth, wanted by the loss sphere_kld"
    assert said in capsys.readouterr().err
    out = tmp_path / "b"
    assert main([*words, f"--data={folder}:train", "--validation=none", f"--out={out}"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"sal360: {folder}:train: no truth of any video")
    assert "another split" in line and "cp360" in line and not out.exists()
    with pytest.raises(ValueError, match="wild360: no truth of any video, wanted by the loss"):
        train(load_recipe("sst-sal-noflow", "fast", SMALL), open_dataset(folder, split="train"))
