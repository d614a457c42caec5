"""Commands that end in a record: what they refuse before hours are spent, and in how many words."""

import json
import os
from importlib import import_module

import pytest

from sal360.training import run_files

MODULES = ("weak", "baselines", "unet", "observers", "floor", "kernels", "prior")


@pytest.mark.parametrize("name", MODULES)
def test_a_bad_place_for_the_record_is_told_before_anything_runs(
    name, tmp_path, monkeypatch, capsys
):
    module = import_module(f"sal360.experiments.{name}")
    monkeypatch.setattr(module, "run", lambda *a, **k: pytest.fail("it ran"))
    foreign, other = tmp_path / "notes.json", tmp_path / "other.json"
    foreign.write_text("dear diary")
    other.write_text(json.dumps({"schema": "sal360/another/1"}))
    (tmp_path / "file").write_text("")
    cases = {
        tmp_path: "a folder, wanted a file",
        foreign: "not JSON",
        other: f"not a record of schema {module.SCHEMA}; left alone",
        tmp_path / "file" / "record.json": "file",
    }
    for out, message in cases.items():
        assert module.main(["--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"python -m sal360.experiments.{name}: ")
        assert message in error and error.count("\n") == 1
    assert foreign.read_text() == "dear diary" and "another" in other.read_text()


@pytest.mark.parametrize("name", MODULES)
def test_what_goes_wrong_is_one_line(name, tmp_path, monkeypatch, capsys):
    module = import_module(f"sal360.experiments.{name}")

    def failing(error):
        def run(*given, **named):
            raise error

        return run

    out = str(tmp_path / "new" / "record.json")
    for error, status in ((ValueError("root: no\nfilms"), 2), (KeyboardInterrupt(), 130)):
        monkeypatch.setattr(module, "run", failing(error))
        assert module.main(["--out", out]) == status
        assert capsys.readouterr().err.count("\n") == 1
    monkeypatch.setenv("SAL360_DEBUG", "1")
    monkeypatch.setattr(module, "run", failing(ValueError("root")))
    with pytest.raises(ValueError, match="root"):
        module.main(["--out", out])


def test_what_is_no_file_and_what_is_of_another_scale_is_left_alone(tmp_path, monkeypatch, capsys):
    unet = import_module("sal360.experiments.unet")
    monkeypatch.setattr(unet, "run", lambda *a, **k: pytest.fail("it ran"))
    out = tmp_path / "unet.json"
    out.write_text(json.dumps({"schema": unet.SCHEMA, "scale": "cpu"}))
    assert unet.main(["--scale", "fast", "--out", str(out)]) == 2
    assert "a record of scale cpu, wanted fast; left alone" in capsys.readouterr().err
    os.mkfifo(tmp_path / "pipe")
    assert unet.main(["--out", str(tmp_path / "pipe")]) == 2
    assert "no ordinary file" in capsys.readouterr().err


def test_a_part_of_kernels_that_lacks_its_recipe_is_one_line(tmp_path, capsys):
    kernels = import_module("sal360.experiments.kernels")
    part = tmp_path / "part.json"
    part.write_text(json.dumps({"schema": kernels.SCHEMA}))
    for arguments in (["--out", str(part)], ["--again", str(part)]):
        assert kernels.main(arguments) == 2
        assert "recipe: missing" in capsys.readouterr().err
    assert kernels.main(["--again", str(part), "--out", str(part)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_record_of_its_own_may_be_written_over(tmp_path):
    out, done = tmp_path / "record.json", []
    out.write_text(json.dumps({"schema": "sal360/weak/1"}))
    assert run_files.command("weak", lambda: done.append(1), out, "sal360/weak/1") == 0
    assert done == [1]
