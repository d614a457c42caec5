"""Weights that come with the package: chosen, checked, stored, shown, and found when installed."""

import hashlib
import json
import shutil
import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from sal360.cli import main
from sal360.experiments import leaderboard_table
from sal360.models import MODELS, NETWORKS, load_model, save_weights, shipped
from sal360.models.bundle import (
    COST,
    best_of,
    difference,
    find_runs,
    halved,
    install,
    validation_data,
)
from sal360.models.bundle import main as bundle_main
from sal360.models.weights import read_about, read_weights, write_weights
from sal360.results import sha256
from sal360.training import load_recipe
from sal360.training.data import open_data
from sal360.training.run import train

NAME = "sst-sal-noflow"
SIZE = (16, 32)


def small(seed, **other):
    """A recipe that is over in a second."""
    settings = {"steps": 3, "seed": seed, "size": SIZE, "clip_length": 2, "tbptt": 2, **other}
    return load_recipe(NAME, "fast", {"model": {"hidden": 3}, **settings})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds, trained with the loop that trains."""
    root = tmp_path_factory.mktemp("runs")
    data = open_data("worlds:train:1:1", size=SIZE)
    seen = open_data("worlds:val:2:1", size=SIZE)
    out = []
    for seed in (0, 1):
        out.append(root / f"s{seed}")
        train(small(seed), data, seen, out[-1], device="cpu")
    return out


@pytest.fixture(scope="module")
def bundled(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundled")
    told = []
    entries = install(runs, folder, videos=1, report=told.append)
    return folder, entries, told


@pytest.fixture
def here(bundled, monkeypatch):
    """As if they had come with the package."""
    monkeypatch.setattr(shipped, "BUNDLED", bundled[0])
    return bundled[0]


def record_of(run):
    return json.loads((run / "record.json").read_text())


def scored_as(run, metric, value, status="done"):
    """The record of that run, if it had been chosen by that metric, of that value."""
    record = record_of(run)
    recipe = {k: v for k, v in record["recipe"].items() if k != "digest"} | {"monitor": metric}
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
    record |= {
        "recipe": {**recipe, "digest": digest},
        "status": status,
        "best": {"step": record["steps"], "metric": metric, "value": value},
        "validations": [{"step": record["steps"], "means": {metric: value}}],
        "scores": {"val-0000": {metric: value}},
    }
    (run / "record.json").write_text(json.dumps(record))


# --- what comes with this version ---


def test_what_is_bundled_is_what_the_index_says():
    index = shipped.read_index()
    found = {path.stem: path for path in shipped.BUNDLED.glob("*.safetensors")}
    assert set(index) == set(found) == set(NETWORKS)  # README: small weights of every system
    for name, entry in index.items():
        path = found[name]
        assert entry["sha256"] == sha256(path) and entry["bytes"] == path.stat().st_size
        about = read_about(path)
        assert about["model"] == name and about["convention"] == "corrected"
        model = load_model(name, "bundled")
        assert entry["parameters"] == sum(p.numel() for p in model.parameters())
        assert model.input_size == tuple(entry["run"]["size"])
        assert entry["run"]["scale"] != "fast", "weights of a run that only shows the code"
        assert shipped.card_lines(entry)["limits"] == shipped.LIMITS


def test_all_of_it_is_small_enough_to_ship():
    assert sum(p.stat().st_size for p in shipped.BUNDLED.iterdir()) < shipped.LARGEST


def test_an_installation_has_them():
    """setuptools takes what the patterns name, into wheel and sdist."""
    inside = files("sal360.models") / "bundled"
    assert (inside / "index.json").is_file()
    pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
    tables = tomllib.loads(pyproject.read_text("utf-8"))["tool"]["setuptools"]
    patterns = tables["package-data"]["sal360.models"]
    for path in [*shipped.BUNDLED.iterdir(), shipped.BUNDLED / "cp360.safetensors"]:
        assert any(fnmatch(f"bundled/{path.name}", pattern) for pattern in patterns), path.name


def test_none_is_said_so(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "BUNDLED", tmp_path)
    for name in NETWORKS:
        with pytest.raises(ValueError, match=f"none of {name} come with this version"):
            load_model(name, "bundled")
    with pytest.raises(ValueError, match="equator is a baseline and has none"):
        load_model("equator", "bundled")
    assert shipped.read_index() == {} and shipped.entry_of("cp360") is None


# --- chosen and checked ---


def test_the_best_seed_is_taken_and_gives_its_score_again(runs, bundled):
    folder, entries, told = bundled
    best = max(runs, key=lambda run: record_of(run)["best"]["value"])
    entry, record = entries[NAME], record_of(best)
    assert entry["source"] == sha256(best / "best.safetensors")
    assert entry["run"]["seed"] == record["seed"] and entry["run"]["seeds"] == 2
    assert entry["validation"]["value"] == record["best"]["value"]
    assert entry["validation"]["checked"] == {"videos": 1, "difference": pytest.approx(0, abs=1e-5)}
    assert entry["run"]["digest"] == small(record["seed"]).digest
    assert entry["bytes"] == (folder / entry["file"]).stat().st_size
    assert shipped.read_index(folder) == json.loads(json.dumps(entries))
    assert any(line.startswith(f"{NAME}: {best.name}") for line in told)


def test_of_kld_the_lowest_is_best(runs, tmp_path):
    for k, run in enumerate(runs):
        scored_as(shutil.copytree(run, tmp_path / run.name), "kld", 1.0 + k)
    found, _ = find_runs([tmp_path / run.name for run in runs])
    assert best_of(found)[NAME][0].seed == 0 and best_of(found)[NAME][1] == 2


@pytest.mark.parametrize("status", ["interrupted", "running"])
def test_a_run_that_was_cut_off_is_not_chosen_before_one_that_was_not(status, runs, tmp_path):
    for k, run in enumerate(runs):
        copy = shutil.copytree(run, tmp_path / run.name)
        # The second is better, and was not finished.
        scored_as(copy, "cc", 0.1 + k, status if k else "done")
    found, _ = find_runs([tmp_path / run.name for run in runs])
    assert best_of(found)[NAME][0].seed == 0 and best_of(found)[NAME][1] == 1


@pytest.mark.parametrize("words", [["--only", "nobody"], ["--videos", "0"], ["--tolerance", "nan"]])
def test_a_check_that_would_check_nothing_is_refused(words, runs, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        bundle_main([str(runs[0]), "--to", str(tmp_path), *words])
    assert f"{words[0]}: " in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_weights_that_do_not_give_the_score_are_refused(runs, tmp_path):
    run = Path(shutil.copytree(runs[0], tmp_path / "run"))
    record = record_of(run)
    for scores in record["scores"].values():
        scores["cc"] += 0.1
    record["best"]["value"] += 0.1
    for validation in record["validations"]:
        validation["means"]["cc"] += 0.1
    (run / "record.json").write_text(json.dumps(record))
    told = []
    with pytest.raises(ValueError, match="nothing that can be bundled"):
        install([run], tmp_path / "out", videos=1, report=told.append)
    assert "differ by 0.1 from those of its record" in told[0]
    assert not list((tmp_path / "out").glob("*.safetensors"))
    entries = install([run], tmp_path / "out", videos=1, tolerance=0.2, report=told.append)
    assert entries[NAME]["validation"]["checked"]["difference"] == pytest.approx(0.1, abs=1e-4)
    other = read_weights(run / "best.safetensors")
    about = read_about(run / "best.safetensors")
    write_weights(run / "best.safetensors", {k: v + 0.1 for k, v in other.items()}, about)
    _, left_out = find_runs([run])
    assert left_out == ["run: best.safetensors is not the file that the record names"]


def test_runs_that_cannot_be_bundled_say_why(runs, tmp_path):
    with pytest.raises(ValueError, match=r"no record.json in it"):
        find_runs([tmp_path])
    run = Path(shutil.copytree(runs[0], tmp_path / "run"))
    (run / "best.safetensors").unlink()
    assert find_runs([run])[1] == ["run: no best.safetensors"]
    record = record_of(run)
    never = {"best": None, "validations": [], "scores": {}}
    (run / "record.json").write_text(json.dumps(record | never))
    assert find_runs([run])[1] == ["run: done after 3 steps, without a validation"]
    others = record["data"] | {"name": "somebody's films"}
    (run / "record.json").write_text(json.dumps(record | {"data": others}))
    assert "trained on somebody's films, wanted synthetic worlds" in find_runs([run])[1][0]


# --- stored ---


@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_changes_nothing_that_counts(name, tmp_path):
    """Of each network: maps of rounded weights against maps of exact ones."""
    torch.manual_seed(2)
    model = load_model(name, size="small")
    model.input_size = (32, 64)
    path = save_weights(model, tmp_path / "w.safetensors")
    small_ones = halved(read_weights(path))
    write_weights(tmp_path / "h.safetensors", small_ones, read_about(path))
    rounded = load_model(name, tmp_path / "h.safetensors")
    assert {p.dtype for p in rounded.parameters()} == {torch.float32}
    assert (tmp_path / "h.safetensors").stat().st_size < 0.65 * path.stat().st_size
    frame = torch.rand(1, {"sst-sal": 6, "cube-unet": 4}.get(name, 3), 32, 64)
    with torch.no_grad():
        one, other = model.step(frame, None)[0], rounded.step(frame, None)[0]
    assert (one - other).abs().max() < 2e-3 * max(1, float(one.abs().max()))


def test_what_rounding_would_cost_is_stored_whole(runs, tmp_path, monkeypatch):
    """Where half precision moves a score, float32 is kept."""
    monkeypatch.setattr("sal360.models.bundle.COST", -1.0)
    entries = install(runs[:1], tmp_path, videos=1, report=lambda _: None)
    assert entries[NAME]["storage"] == "float32"
    assert "half precision would move" in shipped.card_lines(entries[NAME])["file"]
    kept = read_weights(tmp_path / f"{NAME}.safetensors")
    for key, value in read_weights(runs[0] / "best.safetensors").items():
        assert torch.equal(kept[key], value)


def test_who_stops_between_two_systems_has_weights_and_index_that_agree(runs, tmp_path):
    def stop(line):
        if line.startswith(f"{NAME}: "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install(runs[:1], tmp_path, videos=1, report=stop)
    entry = shipped.read_index(tmp_path)[NAME]
    assert entry["sha256"] == sha256(tmp_path / entry["file"])


def test_a_run_that_is_not_there_makes_no_folder(tmp_path):
    with pytest.raises(ValueError, match="no: no record.json"):
        install([tmp_path / "no"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", ["bundle", "table"])
def test_a_board_that_is_none_is_told_in_one_line(tmp_path, capsys, program):
    path = tmp_path / "lb.json"
    main, ask = leaderboard_table.main, [str(path)]
    if program == "bundle":
        main, ask = bundle_main, ["--scores", str(path)]
    for text, line in (
        (None, "No such file"),
        ('{"schema": "sal360/leaderboard/1"}', "lb.json: scale: missing, wanted a str"),
        ("[" * 10**5, "lb.json: not JSON"),
        ('{"schema": "other"}', "lb.json: not a record of schema"),
    ):
        if text is not None:
            path.write_text(text)
        assert main(ask) == 2
        err = capsys.readouterr().err
        assert line in err and err.count("\n") == 1


def test_differences_are_relative_above_one():
    one = {"a": {"cc": 0.5, "kld": 2.0}, "b": {"cc": float("nan")}}
    other = {"a": {"cc": 0.4, "kld": 4.0}, "b": {"cc": 0.1}}
    assert difference(one, other) == pytest.approx(0.5)


# --- shown ---


def test_bundled_weights_are_a_network(bundled, here):
    model = load_model(NAME, "bundled")
    entry = bundled[1][NAME]
    assert entry["storage"] == "float16" and entry["rounding"]["difference"] <= COST
    assert model.settings["hidden"] == 3 and model.input_size == SIZE and model.rate == 8.0
    assert model.origin["weights"] == "bundled" and model.origin["sha256"] == entry["sha256"]
    about = read_about(here / f"{NAME}.safetensors")
    assert about["record"]["source"] == entry["source"] and about["record"]["digest"]


def test_info_shows_the_card(here, capsys):
    assert main(["info", NAME]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for key in ("trained on", "chosen by", "scores", "licence", "limits"):
        assert key in out
    assert "1 synthetic worlds, split train, 16 x 32, 8 frames a second" in out
    assert "not scored on test worlds yet" in out and "no real film" in out
    assert main(["info", NAME, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bundled"]["run"]["seeds"] == 2
    assert main(["info", "models"]) == 0
    table = capsys.readouterr().out
    assert "bundled" in next(line for line in table.splitlines() if line.startswith(NAME))
    assert main(["info"]) == 0 and "bundled" in capsys.readouterr().out
    assert main(["info", "equator", "--json"]) == 0
    assert "bundled" not in json.loads(capsys.readouterr().out)


def test_predict_takes_them(here, tmp_path, capsys):
    from sal360.images import write_image

    write_image(
        tmp_path / "p.png", np.random.default_rng(0).integers(0, 255, (16, 32, 3), np.uint8)
    )
    ask = ["predict", str(tmp_path / "p.png"), "--out", str(tmp_path / "out"), "--no-overlay"]
    assert main([*ask, "--model", NAME, "--weights", "bundled"]) == 0
    record = json.loads((tmp_path / "out" / "p" / "record.json").read_text())
    assert record["model"]["weights"] == "bundled"
    assert main([*ask, "--model", "cube-unet", "--force"]) == 2
    assert "cube-unet: has no weights yet, wanted --weights FILE" in capsys.readouterr().err


def test_without_official_weights_the_bundled_ones_are_taken(tmp_path, monkeypatch):
    from sal360.images import write_image

    write_image(tmp_path / "p.png", np.full((16, 32, 3), 99, np.uint8))
    monkeypatch.setattr(shipped, "BUNDLED", tmp_path)
    save_weights(
        load_model("cube-unet", base=2, input_size=SIZE), tmp_path / "cube-unet.safetensors"
    )
    ask = ["predict", str(tmp_path / "p.png"), "--out", str(tmp_path / "out"), "--no-overlay"]
    assert main([*ask, "--model", "cube-unet"]) == 0
    record = json.loads((tmp_path / "out" / "p" / "record.json").read_text())
    assert record["model"]["weights"] == "bundled" and record["model"]["settings"]["base"] == 2


def test_a_baseline_that_wins_is_named():
    test = {
        "videos": 4,
        "scores": {"cc": 0.5, "kld": 1.0},
        "baselines": {"equator": {"cc": 0.4, "kld": 0.9}, "motion": {"cc": 0.45, "kld": 1.2}},
    }
    line = shipped.scores_line(test, "films")
    assert "on 4 films, in" in line and "CC 0.500 (motion 0.450), KLD 1.000 (equator 0.900)" in line
    assert line.endswith("Better are equator by KLD.")
    test["scores"] = {"cc": 0.3, "kld": 1.0}
    assert shipped.scores_line(test, "films").endswith(
        "No metric is won: better are motion by CC and equator by KLD."
    )
    test["scores"] = {"cc": 0.6, "kld": 0.5}
    assert shipped.scores_line(test, "films").endswith("It beats every baseline.")


# --- the leaderboard's folder ---


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A folder as the leaderboard leaves it: a network, its planar twin, weights apart."""
    held = pytest.importorskip("sal360.datasets.held")
    from sal360.datasets.synthetic import SyntheticWorlds

    root = tmp_path_factory.mktemp("board")
    packs = [
        held.hold(SyntheticWorlds(split, count, 1.0, 8.0, SIZE), root / "packs" / split,
                  pictures=True)
        for split, count in (("train", 1), ("val", 2))
    ]  # fmt: skip
    (root / "weights").mkdir()
    for name in (NAME, f"planar-{NAME}"):
        run = root / "runs" / f"{name}-0"
        run.parent.mkdir(exist_ok=True)
        train(small(0), *packs, run, device="cpu")
        (run / "best.safetensors").rename(root / "weights" / f"{name}-0.safetensors")

    def arm(kind, cc):
        scores = {"cc": [cc, None, cc + 0.2], "sim": [0.5] * 3, "kld": [1.0] * 3, "nss": [1.0] * 3}
        run = {"seed": 0, "status": "done", "steps": 1, "sha256": "", "scores": {"upright": scores}}
        return {"kind": kind, "twin": None, "parameters": 1, "recipe": None, "runs": [run]}

    record = {
        "schema": "sal360/leaderboard/1",
        "scale": "cpu",
        "settings": {"val": [2, 1.0], "fps": 8.0},
        "unequal": ["cp360's backbone was told"],
        "device": "cpu",
        "code": "",
        "versions": {},
        "videos": ["a", "b", "c"],
        "conditions": ["upright"],
        "looked": {},
        "not_run": {},
        "arms": {
            NAME: arm("network", 0.4),
            f"planar-{NAME}": arm("planar twin", 0.9),
            "equator": arm("baseline", 0.5),
        },
    }
    (root / "leaderboard.json").write_text(json.dumps(record))
    return root


def test_the_leaderboards_folder_is_taken_as_it_is(board, tmp_path, capsys):
    """Twins stay out, worlds are made again, test scores come along with the baselines'."""
    assert bundle_main([str(board), "--to", str(tmp_path), "--videos", "1"]) == 0
    out = capsys.readouterr().out
    assert f"left out: planar-{NAME}-0: a planar twin, not {NAME} itself" in out
    entry = shipped.read_index(tmp_path)[NAME]
    assert entry["test"]["scores"]["cc"] == pytest.approx(0.5)
    assert entry["validation"]["checked"]["difference"] < 1e-5
    assert entry["run"]["scale"] == "cpu" and entry["run"]["pretrained"] == ""
    line = shipped.card_lines(entry)["scores"]
    assert "CC 0.500 (equator 0.600)" in line and "equator by CC" in line
    assert bundle_main([str(tmp_path), "--to", str(tmp_path)]) == 2
    assert "wanted a run" in capsys.readouterr().err


def test_a_better_seed_of_the_leaderboard_is_told_and_others_are_counted(board, tmp_path, capsys):
    """By the memory that each keeps; a run that was cut off, or says nothing, is not counted."""
    record = json.loads((board / "leaderboard.json").read_text())
    folder = shutil.copytree(board, tmp_path / "board")
    mine = record["arms"][NAME]["runs"][0] | {"memory": {"carried": 0.1, "every 8": 0.2,
                                                         "kept": "every 8"}}  # fmt: skip
    others = [mine | {"seed": 1, "memory": {"carried": 0.9, "every 8": 0.15, "kept": "every 8"}},
              mine | {"seed": 2, "memory": {}, "validation": 0.3},
              mine | {"seed": 3, "memory": {}},
              mine | {"seed": 5, "memory": {}, "validation": 0.1, "status": "stopped early"},
              mine | {"seed": 4, "status": "interrupted"}]  # fmt: skip
    record["arms"][NAME]["runs"] = [mine, *others]
    (folder / "leaderboard.json").write_text(json.dumps(record))
    assert bundle_main([str(folder), "--to", str(tmp_path / "to"), "--videos", "1"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "is better" in line]
    assert told == [f"{NAME}: seed 2 is better, 0.300 to 0.200, and its weights were not given"]
    entry = shipped.read_index(tmp_path / "to")[NAME]
    assert (entry["run"]["seed"], entry["run"]["seeds"], entry["forgets"]) == (0, 3, 8)


def test_weights_that_the_leaderboard_did_not_score_are_left_out(board, tmp_path):
    record = json.loads((board / "leaderboard.json").read_text())
    folder = shutil.copytree(board, tmp_path / "board")
    for told, out in (("0" * 64, 1), (sha256(board / "weights" / f"{NAME}-0.safetensors"), 0)):
        record["arms"][NAME]["runs"][0]["sha256"] = told
        (folder / "leaderboard.json").write_text(json.dumps(record))
        _, left_out = find_runs([folder])
        assert sum("not the file that the leaderboard scored" in one for one in left_out) == out


def test_scores_are_brought_to_a_later_leaderboard(board, tmp_path, capsys):
    """Real films are scored after the weights were bundled; other weights are left alone."""
    install([board], tmp_path, videos=1, report=lambda _: None)
    record = json.loads((board / "leaderboard.json").read_text())
    record["real"] = {
        "data": "heads",
        "videos": ["x", "y"],
        "metrics": ["cc"],
        "arms": {
            NAME: [{"seed": 0, "cc": [0.1, 0.3]}],
            "equator": [{"seed": 0, "cc": [0.3, 0.5]}],
        },
    }
    later = tmp_path / "later.json"
    later.write_text(json.dumps(record))
    before = (tmp_path / "index.json").read_bytes()
    assert bundle_main(["--scores", str(later), "--to", str(tmp_path)]) == 0
    assert "scores of: none" in capsys.readouterr().out
    assert (tmp_path / "index.json").read_bytes() == before
    record["arms"][NAME]["runs"][0]["sha256"] = shipped.read_index(tmp_path)[NAME]["source"]
    later.write_text(json.dumps(record))
    assert bundle_main(["--scores", str(later), "--to", str(tmp_path)]) == 0
    line = shipped.card_lines(shipped.read_index(tmp_path)[NAME])["real films"]
    assert (
        "on 2 films of heads, of each one picture, in" in line
        and "CC 0.200 (equator 0.400)" in line
    )
    assert line.endswith("No metric is won: better are equator by CC.")
    mine = record["arms"][NAME]["runs"][0] | {"validation": 0.2}
    record["arms"][NAME]["runs"] = [
        mine | {"seed": seed, "validation": value, "sha256": "" if seed else mine["sha256"]}
        for seed, value in enumerate((0.2, 0.1, 0.3))
    ]
    later.write_text(json.dumps(record))
    assert bundle_main(["--scores", str(later), "--to", str(tmp_path)]) == 0
    assert shipped.read_index(tmp_path)[NAME]["run"]["seeds"] == 2


def test_cards_say_what_the_published_leaderboard_says():
    """Their scores are those of the record in data/runs, of the same file of weights; of each
    system's three trainings validation prefers the bundled one, if its weights were kept."""
    from sal360.models.bundle import beside, board_scores

    published = Path(__file__).resolve().parents[1] / "data" / "runs" / "leaderboard.json"
    board = json.loads(published.read_text("utf-8"))
    for name, entry in shipped.read_index().items():
        runs = {one["seed"]: one for one in board["arms"][name]["runs"]}
        assert runs[entry["run"]["seed"]]["sha256"] == entry["source"], name
        known = beside(name, board)
        lost = 1 if name == "spherical-unet" else None  # a little better: .266 to .264
        kept = {seed: value for seed, value in known.items() if seed != lost}
        assert len(known) == 3 and max(kept, key=lambda seed: kept[seed]) == entry["run"]["seed"]
        assert max(known.values()) - kept[entry["run"]["seed"]] <= (0 if lost is None else 0.002)
        assert entry["run"]["seeds"] == len(kept), name
        wanted = board_scores(name, entry["run"]["seed"], board)
        assert {key: entry[key] for key in wanted} == json.loads(json.dumps(wanted)), name
        if entry["forgets"]:  # the choice, and what it was made by, stand on the card
            tried = {k: v for k, v in wanted["memory"].items() if k != "kept"}
            assert wanted["memory"]["kept"] == max(tried, key=tried.get)
            assert all(f"{value:.3f}" in shipped.card_lines(entry)["memory"]
                       for value in tried.values())  # fmt: skip


def test_data_that_cannot_be_opened_again_is_asked_for(board, tmp_path):
    found, _ = find_runs([board / "runs" / f"{NAME}-0"])
    assert not found  # its weights lie elsewhere, and its own folder knows no leaderboard
    (one,), _ = find_runs([board])
    alone = type(one)(one.name, one.system, one.record, one.weights)
    with pytest.raises(ValueError, match="wanted --validation SPEC"):
        validation_data(alone, tmp_path, 1)
    assert len(validation_data(alone, tmp_path, 1, "worlds:val:2:1").videos) == 2


def test_every_network_has_a_recipe_to_be_bundled_by():
    assert all(MODELS[name].recipe for name in NETWORKS)
