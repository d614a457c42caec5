"""Weights are read, never executed: real checkpoints, hostile ones, damaged ones."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch

from sal360 import upstream
from sal360.models import SSTSal, load_model
from sal360.models.registry import read_weights
from sal360.safe_pickle import UnsafePickleError, read_torch_tensors


def archive(path, payload, extra=None):
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("archive/data.pkl", payload)
        for name, data in (extra or {}).items():
            z.writestr(f"archive/data/{name}", data)
    return path


class Runs:
    """Pickles to a call, as an attacker would write it."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile(tmp_path, *call):
    return archive(tmp_path / "hostile.pth", pickle.dumps({"a": Runs(*call)}, protocol=2))


@pytest.mark.parametrize(
    "call",
    [
        (os.system, "touch {}"),
        (eval, "open('{}', 'w')"),
        (exec, "open('{}', 'w')"),
        (subprocess.check_call, ["touch", "{}"]),
        (getattr, os, "system"),
        (__import__, "os"),
        (torch.load, "{}"),
    ],
)
def test_a_hostile_pickle_is_refused_and_nothing_runs(tmp_path, call):
    trace = tmp_path / "it-ran"
    filled = [
        [part.format(trace) for part in a] if isinstance(a, list)
        else a.format(trace) if isinstance(a, str) else a
        for a in call[1:]
    ]  # fmt: skip
    if call[0] is getattr:
        payload = pickle.dumps(Runs(os.system, f"touch {trace}"), protocol=2)
        payload = payload.replace(b"posix\nsystem", b"builtins\ngetattr")
        path = archive(tmp_path / "hostile.pth", payload)
    else:
        path = hostile(tmp_path, call[0], *filled)
    with pytest.raises(UnsafePickleError, match="refused"):
        read_torch_tensors(path)
    assert not trace.exists()


def test_the_command_line_refuses_it_with_one_line(tmp_path):
    from sal360.images import write_image

    trace = tmp_path / "it-ran"
    path = hostile(tmp_path, os.system, f"touch {trace}")
    write_image(tmp_path / "black.png", torch.zeros(16, 32, 3).byte().numpy())
    command = [sys.executable, "-m", "sal360", "predict", str(tmp_path / "black.png")]
    command += ["--model", "sst-sal", "--weights", str(path), "--out", str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert len(run.stderr.strip().splitlines()) == 1 and "posix.system" in run.stderr
    assert not trace.exists() and not (tmp_path / "out").exists()


def test_module_classes_are_inert_records(tmp_path):
    """A file may call an allowed class with anything: a record only keeps it."""
    source = io.BytesIO()
    source.write(b"\x80\x02cmodels\nSST_Sal\n)\x81}X\x01\x00\x00\x00aK\x01sb.")
    path = archive(tmp_path / "inert.pth", source.getvalue())
    with pytest.raises(ValueError, match="holds no tensors"):
        read_torch_tensors(path)


@pytest.mark.parametrize(
    "attack",
    [
        b"\x80\x02cmodels\nSST_Sal\nX\x01\x00\x00\x00xi__main__\nx\n.",  # INST of another class
        b"\x80\x02c__main__\nx\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",  # STACK_GLOBAL
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(tR.",
        b"\x80\x02]\x94h\x00a.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"garbage",
        b"",
    ],
)
def test_damaged_and_crafted_pickles_end_in_one_error(tmp_path, attack):
    with pytest.raises(ValueError, match=r"crafted\.pth: ") as caught:
        read_torch_tensors(archive(tmp_path / "crafted.pth", attack))
    assert "\n" not in str(caught.value)


def test_storages_are_bounded_by_the_file(tmp_path):
    good = tmp_path / "good.pth"
    torch.save({"w": torch.arange(6.0).reshape(2, 3)}, good)
    assert torch.equal(read_torch_tensors(good)["w"], torch.arange(6.0).reshape(2, 3))
    cut = tmp_path / "cut.pth"
    with zipfile.ZipFile(good) as z, zipfile.ZipFile(cut, "w") as out:
        for item in z.infolist():
            data = z.read(item)
            out.writestr(item.filename, data[:8] if item.filename.endswith("data/0") else data)
    with pytest.raises(ValueError, match="cut short"):
        read_torch_tensors(cut)


def test_views_strides_and_nested_dicts_are_read(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    state = OrderedDict(net=OrderedDict({"a.weight": base.t(), "b": base[1:3, ::2].half()}))
    torch.save(state, tmp_path / "s.pth")
    got = read_torch_tensors(tmp_path / "s.pth")
    assert torch.equal(got["net.a.weight"], base.t())
    assert torch.equal(got["net.b"], base[1:3, ::2].half())


@pytest.mark.real
@pytest.mark.parametrize("name", ["SST_Sal.pth", "SST_Sal_wo_OF.pth"])
def test_official_checkpoints_are_whole(real, name):
    state = upstream.load_sst_sal(real(f"weights/{name}"))
    assert set(state) == set(SSTSal(3, 9).state_dict())


def test_not_a_file_not_a_zip_not_these_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.pth"):
        upstream.load_sst_sal(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.pth: not a torch zip file"):
        upstream.load_sst_sal(tmp_path / "text.pth")
    torch.save({"w": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: holds \['w'\]"):
        upstream.load_sst_sal(tmp_path / "other.pth")


def test_safetensors_round_trip_and_misfit(tmp_path):
    from safetensors.torch import save_file

    model = SSTSal(3, 9)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    again = load_model("sst-sal-noflow", weights=tmp_path / "w.safetensors")
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in again.state_dict().items())
    with pytest.raises(ValueError, match="does not fit sst-sal"):
        load_model("sst-sal", weights=tmp_path / "w.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_weights(tmp_path / "bad.safetensors")


def test_load_model_says_what_it_wants():
    with pytest.raises(ValueError, match="^name: 'gpt', wanted one of spherical-unet, .*sst-sal"):
        load_model("gpt")
    with pytest.raises(ValueError, match="^weights: 'official', but equator"):
        load_model("equator", weights="official")
