"""A prediction times a prior, and the record of what that is worth."""

import hashlib
import json
import math

import pytest
import torch

from sal360.baselines import equator_density, front_density, times_prior
from sal360.datasets import download
from sal360.experiments import leaderboard, prior
from sal360.models import shipped
from sal360.sphere import pixel_area
from sal360.training import run_files as records


def density(seed=0, shape=(3, 8, 16)):
    maps = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    return (maps / (maps * pixel_area(*shape[-2:])[:, None]).sum((-2, -1), keepdim=True)).float()


def mass(maps):
    return (maps * pixel_area(*maps.shape[-2:])[:, None]).sum((-2, -1))


def test_a_product_of_densities_is_a_density():
    maps, front = density(), front_density(8, 16)
    for power in (0.0, 0.5, 1.0, 3.0, 200.0):
        made = times_prior(maps, front, power)
        assert made.shape == maps.shape and made.dtype == maps.dtype
        assert made.min() >= 0 and torch.allclose(mass(made), torch.ones(3).double(), atol=1e-5)
    by_hand = (0.8 * maps + 0.2 / (4 * math.pi)) * front
    by_hand = by_hand / mass(by_hand)[:, None, None]
    assert torch.allclose(times_prior(maps, front), by_hand.float(), rtol=1e-5)


def test_who_says_nothing_leaves_the_other_as_it_is():
    maps, front = density(), front_density(8, 16)
    even = torch.full_like(maps, 1 / (4 * math.pi))
    for made in (
        times_prior(even, front),
        times_prior(maps, front, power=0),
        times_prior(maps, front, floor=1),
        times_prior(torch.zeros_like(maps), front),
    ):
        assert torch.allclose(made, front.expand_as(made), rtol=1e-5)
    assert torch.allclose(times_prior(maps, even[0], floor=0), maps, rtol=1e-5)
    # A map that is 0 where the prior is not, and no floor: nothing is known, so the prior stays.
    one = torch.zeros(1, 8, 16)
    one[0, 0, 0] = 1
    half = torch.zeros(8, 16)
    half[4:] = 1
    made = times_prior(one, (half / mass(half)).float(), floor=0)
    assert made.isfinite().all() and torch.allclose(mass(made), torch.ones(1).double())


def test_a_film_that_is_trusted_far_is_not_given_up():
    """The product may be tiny beside 1, where the prior is: at a pole, on a fine grid."""
    up = torch.full((1024, 2048), 1e-3)
    up[0, 0] = 1e6
    made = times_prior(up, equator_density(1024, 2048), power=4, floor=0)
    assert float(made[0, 0] * pixel_area(1024, 2048)[0]) > 0.99


def test_half_precision_is_lost_once():
    maps, front = torch.rand(240, 480).half(), front_density(240, 480)
    made = times_prior(maps, front, 0.5)
    assert made.dtype == torch.float16
    wanted = times_prior(maps.double(), front.double(), 0.5)
    near = wanted > 1e-3  # below, half precision has steps
    assert torch.allclose(made[near].double(), wanted[near], rtol=6e-4)


def test_nobody_is_told_of_gradients_in_passing(recwarn):
    maps = density().requires_grad_()
    times_prior(maps, front_density(8, 16), 0.5).sum().backward()
    assert maps.grad is not None and maps.grad.isfinite().all() and not recwarn.list


def test_the_scale_of_the_maps_is_of_no_matter():
    maps, band = density(), equator_density(8, 16)
    assert torch.allclose(times_prior(7 * maps, band), times_prior(maps, band), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"power": -1}, "power"),
        ({"power": math.nan}, "power"),
        ({"floor": 1.5}, "floor"),
        ({"prior": front_density(4, 8)}, "prior"),
        ({"maps": -density()}, "maps"),
        ({"maps": density() * math.nan}, "maps: values from nan"),
        ({"maps": density() * math.inf}, "maps: values from inf"),
        ({"maps": density().mul(255).byte()}, "maps: dtype torch.uint8"),
        ({"prior": front_density(8, 16) * math.nan}, "prior: values from nan"),
        ({"prior": -front_density(8, 16)}, "prior: values from -"),
        ({"prior": torch.zeros(8, 16)}, "prior: 0 everywhere"),
    ],
)
def test_bad_input_is_named(change, told):
    with pytest.raises((ValueError, TypeError), match=told):
        times_prior(**({"maps": density(), "prior": front_density(8, 16)} | change))


def test_the_control_has_not_looked():
    maps = torch.rand(4, 3, 2, 4, dtype=torch.float64)
    unseen = prior._unseen(maps)
    for video in range(4):
        others = torch.cat([maps[:video], maps[video + 1 :]])
        wanted = others.mean((0, 1)).expand(3, 2, 4)
        assert torch.allclose(unseen[video], wanted)
    assert not prior._unseen(maps[:1]).any()  # of others there are none


def test_the_experiment_at_its_smallest(tmp_path, capsys):
    found = prior.on_worlds(tmp_path, "fast", ["sst-sal-noflow", "motion"], report=print)
    assert found["conditions"] == ["upright", "tilt 30", "tilt 60", "tilt 90"]
    for row in found["arms"].values():
        tried = row["validation"]
        assert tried[prior.POWERS.index(row["power"])] == max(tried)
        for how in ("alone", "times", "unseen"):
            assert all(len(v) == 3 for c in found["conditions"] for v in row[how][c].values())
    assert "motion           CC" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--root", "nowhere"], "no such folder; is this AVTrack360?"),
        (["--out", "."], "a folder, wanted a file"),
        (["--out", "file/record.json"], "file"),
        (["--packs", "file"], "file"),
    ],
)
def test_what_cannot_be_is_told_before_the_work(words, told, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prior, "_asked", lambda *_: pytest.fail("it began"))
    assert prior.main(["--scale", "fast", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m sal360.experiments.prior: ") and told in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_record_asks_the_leaderboards_networks_on_its_worlds():
    record, board = prior.load(), leaderboard.load()
    worlds = record["worlds"]
    assert worlds["videos"] == board["videos"] and worlds["conditions"] == board["conditions"]
    assert list(worlds["arms"]) == prior.names()
    assert record["weights"] == {n: e["sha256"] for n, e in shipped.read_index().items()}
    for condition in worlds["conditions"]:
        rows = {"mean-map": worlds["prior"]} | {n: a["alone"] for n, a in worlds["arms"].items()}
        for name, row in rows.items():  # weights of half precision, on another device
            runs = {run["seed"]: run for run in board["arms"][name]["runs"]}
            known = shipped.read_index().get(name)
            run = runs[known["run"]["seed"] if known else 0]
            if known and run["sha256"] != known["source"]:
                assert name == "sst-sal"  # trained anew since, at another rate
                continue
            for here, there in zip(
                row[condition]["cc"], run["scores"][condition]["cc"], strict=True
            ):
                assert abs(here - there) < 0.02, (name, condition)
    real = record["real"]
    assert set(real["arms"]) | set(real["not_run"]) >= {*shipped.read_index(), "contrast"}
    for row in real["arms"].values():
        for one in (row[p] for p in real["priors"]):
            assert len(one["cc"]) == len(one["power"]) == len(one["unseen"]["cc"]) == 20
    file = records.published("prior.json")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    assert found == download.registry()["runs/prior.json"].sha256, "tell the registry"


def test_its_command_writes_the_record(tmp_path, monkeypatch):
    monkeypatch.setattr(prior, "run", lambda *given: {"schema": prior.SCHEMA, "given": given[1]})
    assert prior.main(["--scale", "fast", "--out", str(tmp_path / "p.json")]) == 0
    assert prior.load(tmp_path / "p.json")["given"] == "fast"
    (tmp_path / "q.json").write_text(json.dumps({"schema": "another"}))
    with pytest.raises(ValueError, match="not a record"):
        prior.load(tmp_path / "q.json")


def test_what_the_readme_says_of_it():
    text = (records.published("prior.json").parents[2] / "README.md").read_text("utf-8")
    real = prior.load()["real"]
    row = real["arms"]["sst-sal-noflow-official"]
    alone, both, band, unseen = (
        f"{sum(values) / len(values):.2f}".removeprefix("0")
        for values in (
            row["alone"],
            row["equator-front"]["cc"],
            real["priors"]["equator-front"],
            row["equator-front"]["unseen"]["cc"],
        )
    )
    told = f"from CC {alone} to {both}; the prior alone has {band}, and {unseen} when it is mended"
    assert told in text


def test_the_usual_power_is_what_its_docstring_and_the_help_say():
    """Best on real heads for the published networks, and within what is best for ours."""
    from click.testing import CliRunner

    from sal360.cli import cli
    from sal360.inference import PRIOR_POWER

    rows = prior.load()["real"]["arms"]
    best = {name: set(row["equator-front"]["power"]) for name, row in rows.items()}
    assert best["sst-sal-official"] == best["sst-sal-noflow-official"] == {PRIOR_POWER}
    ours = set().union(*(best[name] for name in shipped.read_index()))
    assert min(ours) == 0.25 and max(ours) == 1
    told = " ".join(CliRunner().invoke(cli, ["predict", "--help"]).output.split())
    assert f"not at all. [default: {PRIOR_POWER}]" in told
