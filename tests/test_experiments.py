"""The kernels' experiment: one task everywhere, equal networks, the same numbers, a record."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sal360.datasets import download
from sal360.experiments import kernels, summary
from sal360.experiments.networks import Finder
from sal360.experiments.recipe import KINDS, RECIPES
from sal360.projections import erp_to_cube
from sal360.sphere import erp_directions, fibonacci_sphere, pixel_area, rotation_matrix
from sal360.training.run_files import published

TINY = replace(
    RECIPES["fast"],
    H=16,
    steps=6,
    width=4,
    pool=16,
    trials=4,
    spot=20.0,
    kinds=("planar", "tangent"),
)


@pytest.fixture(scope="module")
def tiny():
    return kernels.run("fast", seeds=2, recipe=TINY)


def numbers(record):
    """Everything but times and what hangs on them."""
    return [
        {k: v for k, v in run.items() if k != "seconds"}
        for run in record["runs"]
        if run["budget"] != "time"
    ]


def test_a_spot_is_the_same_on_the_sphere_at_every_latitude_and_under_any_tilt():
    """Its area, its mean brightness and the truth's are those of the formulas, wherever it is."""
    recipe = replace(RECIPES["cpu"], clutter=0.0)
    rays = fibonacci_sphere(40_000)
    seen = []
    for band in kernels.BANDS:
        scenes = kernels.trial_scenes(3, 5, band, recipe)
        image, truth = kernels.render(scenes, rays, recipe)
        tilted = kernels.render(scenes, rays, recipe, kernels.tilts(3, None, 1))
        seen.append(torch.stack([p.mean(-1) for p in (image, truth, *tilted)]))
    assert torch.stack(seen).std(0).max() < 0.02 * torch.stack(seen).mean()
    shares = (1 - torch.cos(scenes.radius)) / 2 * scenes.brightness
    assert torch.allclose(image.mean(-1)[:, 0].double(), shares.sum(1), rtol=0.06)


def test_a_tilted_scene_is_the_scene_seen_from_turned_directions():
    recipe = RECIPES["fast"]
    scenes = kernels.training_scenes(2, 3, recipe)
    turn = kernels.tilts(2, 40.0, 7)
    rays = erp_directions(8, 16)
    image, truth = kernels.render(scenes, rays, recipe, turn)
    for k in range(2):
        plain = kernels.render(scenes[k : k + 1], rays @ turn[k], recipe)
        assert torch.allclose(image[k], plain[0][0], atol=1e-5)
        assert torch.allclose(truth[k], plain[1][0], atol=1e-5)


def test_tilts_are_rotations_by_the_angle_asked_for():
    up = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    for degrees in kernels.TILTS:
        R = kernels.tilts(5, degrees, 1)
        assert torch.allclose(R @ R.transpose(-1, -2), torch.eye(3, dtype=R.dtype).expand(5, 3, 3))
        moved = torch.rad2deg(torch.acos((R @ up) @ up))
        assert torch.allclose(moved, torch.full((5,), float(degrees), dtype=R.dtype))
        assert len({tuple(m.tolist()) for m in (R @ up).round(decimals=6)}) == 5


def test_training_scenes_stay_near_the_equator_and_apart():
    recipe = RECIPES["cpu"]
    scenes = kernels.training_scenes(200, 1, recipe)
    lat = torch.rad2deg(torch.asin(-scenes.centre[..., 1]))
    assert lat.abs().max() <= kernels.TRAINED_TO and lat.abs().max() > 29
    assert (scenes.target.sum(1) == 4).all() and scenes.centre.shape[1] == 8
    cosine = scenes.centre @ scenes.centre.transpose(1, 2) - 2 * torch.eye(8)
    assert math.degrees(math.acos(cosine.max())) > recipe.spot * 2
    upright = kernels.training_scenes(50, 1, recipe, upright=True)
    assert upright.angle.unique().tolist() == pytest.approx([0, math.pi / 2])


def test_trials_have_one_round_spot_and_another_in_their_band():
    for low, high in kernels.BANDS:
        scenes = kernels.trial_scenes(100, 4, (low, high), RECIPES["cpu"])
        lat = torch.rad2deg(torch.asin(-scenes.centre[..., 1]))
        assert low - 1e-6 <= lat.abs().min() and lat.abs().max() <= high + 1e-6
        assert (lat[:, 0] * lat[:, 1] < 0).all()
        assert scenes.target.tolist() == [[True, False]] * 100
        again = kernels.trial_scenes(100, 4, (0, 15), RECIPES["cpu"])
        assert torch.equal(again.brightness, scenes.brightness)
        assert torch.equal(again.waves, scenes.waves)


@pytest.mark.parametrize("scale", RECIPES)
def test_all_kinds_have_equal_parameters(scale):
    counts = [kernels.count(Finder(kind, RECIPES[scale])) for kind in KINDS]
    assert max(counts) / min(counts) < 1.01
    assert len({count for kind, count in zip(KINDS, counts, strict=True) if kind != "crown"}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_starts_with_a_spread_of_one_and_every_parameter_learns(kind):
    image, truth = kernels.render(
        kernels.training_scenes(4, 2, TINY), erp_directions(TINY.H, TINY.W), TINY
    )
    network = Finder(kind, TINY)
    network.start(image, 3)
    x = erp_to_cube(image, TINY.S).flatten(0, 1) if "cube" in kind else image
    with torch.no_grad():
        for layer in network.layers:
            assert float(layer(x).std()) == pytest.approx(1, abs=1e-3)
            x = torch.relu(layer(x))
    before = [p.detach().clone() for p in network.parameters()]
    kernels.learn(network, torch.optim.Adam(network.parameters()), image, truth)
    assert all((p != b).any() for p, b in zip(network.parameters(), before, strict=True))
    assert network(image).shape == image.shape


def test_the_loss_weighs_pixels_by_their_area():
    class Constant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.value = torch.nn.Parameter(torch.zeros(1, 1, 8, 16))

        def forward(self, image):
            return self.value.expand_as(image)

    network = Constant()
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    truth = torch.ones(1, 1, 8, 16)
    loss = kernels.learn(network, optimiser, torch.zeros_like(truth), truth)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    moved = network.value.detach()[0, 0, :, 0].double()
    area = pixel_area(8, 16)
    assert torch.allclose(moved / moved.sum(), area / area.sum(), atol=1e-6)


def test_the_same_seeds_give_the_same_numbers(tiny):
    again = kernels.run("fast", seeds=2, recipe=TINY)
    assert numbers(again) == numbers(tiny)
    other = kernels.run("fast", seeds=[7], recipe=TINY)
    assert numbers(other)[0]["losses"] != numbers(tiny)[0]["losses"]


def test_all_kinds_see_the_same_data_and_the_data_follow_the_seed():
    one, same, other = (kernels.make_data(seed, TINY) for seed in (3, 3, 4))
    for name in one.train:
        assert torch.equal(one.train[name][0], same.train[name][0])
        assert not torch.equal(one.train[name][0], other.train[name][0])
    for name in one.trials:
        assert torch.equal(one.trials[name][2], same.trials[name][2])
        for training in one.train.values():  # nothing that is tried was learnt from
            assert not any(
                (part == training[0]).all((1, 2, 3)).any() for part in one.trials[name][2]
            )


def test_a_record_is_written_after_every_run_and_continued(tmp_path, tiny):
    path = tmp_path / "runs" / "kernels.json"
    lines = []

    def stop(line):
        lines.append(line)
        if len(lines) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kernels.run("fast", seeds=2, recipe=TINY, out=path, report=stop)
    part = kernels.load(path)
    assert part["status"] == "running" and len(part["runs"]) == 2
    timing = part["timing"]
    whole = kernels.run("fast", seeds=2, recipe=TINY, out=path)
    assert whole == kernels.load(path) and whole["status"] == "complete"
    assert whole["timing"] == timing and whole["runs"][:2] == part["runs"]
    assert numbers(whole) == numbers(tiny)
    more = kernels.run("fast", seeds=3, recipe=TINY, out=path)
    assert more["seeds"] == [0, 1, 2] and more["runs"][: len(whole["runs"])] == whole["runs"]
    with pytest.raises(ValueError, match="another recipe"):
        kernels.run("fast", out=path)
    with pytest.raises(ValueError, match="^scale: 'big'"):
        kernels.run("big")
    path.write_text("{}")
    with pytest.raises(ValueError, match="not a record"):
        kernels.load(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        kernels.load(path)


def test_the_plan_gives_equal_steps_and_equal_time():
    recipe = RECIPES["cpu"]
    ratio = {kind: 1.0 + k for k, kind in enumerate(KINDS)}
    runs = kernels.plan(recipe, range(2), ratio)
    equal = [r for r in runs if r["budget"] == "steps"]
    assert {r["steps"] for r in equal} == {recipe.steps} and len(equal) == 2 * len(KINDS)
    spent = {r["kind"]: r["steps"] * ratio[r["kind"]] for r in runs if r["budget"] == "time"}
    assert set(spent) == set(KINDS) - {kernels.TIMED_BY}
    wanted = recipe.steps * ratio[kernels.TIMED_BY]
    assert all(abs(seconds / wanted - 1) < 0.01 for seconds in spent.values())
    tried = {}
    for r in runs:
        if r["budget"] == "tuning":
            tried.setdefault(r["kind"], []).append(r["rate"])
            assert r["seed"] == kernels.TUNING_SEED
    assert {tuple(rates) for rates in tried.values()} == {recipe.rates}


def test_one_rate_for_all_is_chosen_on_level_scenes():
    def tuned(kind, rate, level, polar):
        cc = {"level": level, "75-90": polar}
        return {"budget": "tuning", "kind": kind, "rate": rate, "cc": cc}

    record = {
        "recipe": {"rates": [0.1, 0.2], "kinds": ["planar", "tangent"]},
        "runs": [tuned("planar", 0.1, 0.5, 0.9), tuned("planar", 0.2, 0.6, 0.1),
                 tuned("tangent", 0.1, 0.9, 0.1), tuned("tangent", 0.2, 0.7, 0.9)],
    }  # fmt: skip
    assert kernels.chosen_rate(record) == 0.1
    record["runs"][2]["cc"]["level"] = 0.7
    assert kernels.chosen_rate(record) == 0.2


def test_scores_of_a_perfect_answer_of_noise_and_of_the_opposite():
    data = kernels.make_data(0, RECIPES["fast"])
    for scenes, turn, _, truth in data.trials.values():
        assert kernels.told_apart(truth, scenes, turn) > 0.99
        assert kernels.told_apart(-truth, scenes, turn) < 0.01
        assert kernels.told_apart(torch.zeros_like(truth), scenes, turn) == 0.5
    level, (_, turn, _, tilted) = data.trials["level"][3], data.trials["any tilt"]
    assert kernels.residual(level, tilted, turn) < 0.06  # interpolation
    assert kernels.residual(level, level, turn) > 0.5
    still = rotation_matrix(0.0).expand(len(level), 3, 3)
    assert kernels.residual(level, level, still) < 1e-6


def test_weights_are_kept_and_come_back(tmp_path):
    path = tmp_path / "kernels.json"
    record = kernels.run("fast", seeds=[5], recipe=TINY, out=path)
    data = kernels.make_data(5, TINY)
    for run in record["runs"][:2]:
        network = kernels.trained(run["kind"], TINY, path.with_suffix(".safetensors"))
        again = kernels.score(network, data)
        assert again["cc"] == run["cc"] and again["equivariance"] == run["equivariance"]


def test_every_kind_is_trained_again_to_the_same_scores(tmp_path, capsys):
    path = tmp_path / "kernels.json"
    every = replace(TINY, kinds=tuple(KINDS), steps=2, tuning_steps=2, rates=(0.06, 0.12))
    record = kernels.run("fast", seeds=[3], recipe=every, out=path)
    kernels.main(["--again", str(path)])
    found = kernels.load(path)
    assert capsys.readouterr().out.count("cc ") == len(KINDS) == len(found["again"]["cc"])
    for run in record["runs"]:
        if run["budget"] == "steps":
            assert found["again"]["cc"][run["kind"]] == run["cc"]
    assert found["again"]["seed"] == 3 and found["again"]["code"] == record["code"]
    assert {**found, "again": None} == {**record, "again": None}
    kernels.save({**record, "status": "running"}, path)
    with pytest.raises(ValueError, match="wanted a complete record"):
        kernels.again(path)


def test_the_command_line_runs_and_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(RECIPES, "fast", TINY)
    out = tmp_path / "r.json"
    kernels.main(["--scale", "fast", "--seeds", "1", "--out", str(out)])
    assert len(kernels.load(out)["runs"]) == 3
    assert capsys.readouterr().out.count("cc ") == 3
    assert {run["seed"] for run in kernels.load(out)["runs"]} == {0}  # one number: how many
    with pytest.raises(SystemExit):
        kernels.main(["--scale", "huge"])
    capsys.readouterr()
    for bad in (["--seeds", "0"], ["--seeds", "1", "-3"], ["--device", "abacus"]):
        assert kernels.main(bad) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_scores_are_collected_by_seed(tiny):
    found = summary.scores(tiny, "steps", "any tilt")
    assert set(found) == {"planar", "tangent"} and found["planar"].shape == (2,)
    first = next(r for r in tiny["runs"] if r["budget"] == "steps")
    assert float(found["planar"][0]) == first["cc"]["any tilt"]
    bands = sum(
        first["cc"][name] * area
        for name, area in zip(summary.BAND_NAMES, summary.BAND_AREAS, strict=True)
    )
    assert float(summary.scores(tiny, "steps", "bands")["planar"][0]) == pytest.approx(bands)
    timed = summary.scores(tiny, "time", "level")
    assert torch.equal(timed["tangent"], summary.scores(tiny, "steps", "level")["tangent"])
    assert float(summary.scores(tiny, "steps", quantity="equivariance")["planar"][0]) > 0
    with pytest.raises(ValueError, match="^record: holds no runs"):
        summary.scores(tiny, "everywhere")


def test_students_interval():
    table = {1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262, 30: 2.042}
    for freedom, wanted in table.items():
        assert summary.student(freedom) == pytest.approx(wanted, abs=6e-4)
    assert summary.student(1000) == pytest.approx(1.962, abs=2e-3)
    assert summary.student(4, 0.99) == pytest.approx(4.604, abs=1e-3)
    found = summary.interval([1.0, 2.0, 3.0])
    assert found.mean == 2 and found.half == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)
    assert found.low < 0 < found.high and "2.000" in str(found)
    assert summary.interval([1.0]).half == math.inf
    for wrong in ([], [[1.0]]):
        with pytest.raises(ValueError, match="^values: "):
            summary.interval(wrong)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    draw = torch.Generator().manual_seed(0)
    samples = torch.randn(2000, 5, generator=draw, dtype=torch.float64)
    held = sum(abs(i.mean) <= i.half for i in map(summary.interval, samples))
    assert 0.935 < held / 2000 < 0.965


def test_pairing_removes_what_a_seed_does_to_both():
    draw = torch.Generator().manual_seed(1)
    shared = torch.randn(6, generator=draw, dtype=torch.float64)
    a, b = shared + 0.01 * torch.arange(6), shared - 0.05
    apart, together = summary.unpaired(a, b), summary.paired(a, b)
    assert together.mean == pytest.approx(apart.mean) and together.half < apart.half / 5
    assert summary.unpaired([1.0, 1.0], [0.0, 0.0]) == (1.0, 0.0)
    with pytest.raises(ValueError, match="^b: "):
        summary.paired([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="^a, b: "):
        summary.unpaired([1.0], [1.0])


# --- the committed record ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def record():
    return kernels.load(published())


def test_the_record_is_whole_and_of_the_recipe_in_the_code(record):
    recipe = RECIPES["cpu"]
    assert record["status"] == "complete"
    assert record["recipe"] == json.loads(json.dumps(vars(recipe)))
    wanted = kernels.plan(recipe, record["seeds"], record["timing"]["ratio"])
    done = {kernels._key(run): run["steps"] for run in record["runs"]}
    assert done == {kernels._key(run): run["steps"] for run in wanted}
    assert len(record["seeds"]) >= 5
    assert max(record["parameters"].values()) / min(record["parameters"].values()) < 1.01
    rate = kernels.chosen_rate(record)
    for run in record["runs"]:
        assert run["budget"] == "tuning" or run["rate"] == rate
        assert all(-1 <= v <= 1 for v in run["cc"].values())


@pytest.mark.parametrize("kind", ["planar", "tangent", "cube"])
def test_the_kept_weights_score_what_the_record_says(record, kind):
    recipe = RECIPES["cpu"]
    network = kernels.trained(kind, recipe, published("kernels.safetensors"))
    run = next(
        r for r in record["runs"]
        if (r["budget"], r["kind"], r["seed"]) == ("steps", kind, record["seeds"][0])
    )  # fmt: skip
    data = kernels.make_data(record["seeds"][0], recipe)
    few = {k: data.trials[k] for k in ("0-15", "60-75", "level", "any tilt")}
    again = kernels.score(network, replace(data, trials=few))
    for name, value in again["cc"].items():
        assert value == pytest.approx(run["cc"][name], abs=0.002)


def test_a_copy_elsewhere_gets_the_same_files_by_their_hash():
    """An installed package has no data folder beside it and fetches them."""
    folder = Path(__file__).resolve().parents[1] / "data" / "runs"
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors"))
    names = [path.relative_to(folder).as_posix() for path in paths]
    assert "kernels.safetensors" in names and "train/sst-sal.json" in names
    for name in names:
        remote = download.registry()[f"runs/{name}"]
        assert remote.sha256 == hashlib.sha256(published(name).read_bytes()).hexdigest()
        assert remote.url.endswith(f"/data/runs/{name}")
